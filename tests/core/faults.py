"""How tests speak of errors: by their code and the values they name, never by a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slider_core.config.checks import SliderError


@contextmanager
def refused(code: str, *values: object) -> Iterator[pytest.ExceptionInfo[SliderError]]:
    """The block raises a SliderError of that code, whose message names each value."""
    with pytest.raises(SliderError) as fault:
        yield fault
    assert fault.value.code == code, fault.value
    for value in values:
        assert str(value) in str(fault.value)
