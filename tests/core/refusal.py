"""How tests look at an error: its code, and the values that it names."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slider_core.config.checks import SliderError


@contextmanager
def refused(code: str, *values: object) -> Iterator[None]:
    """Inside, a SliderError with this code is raised, which names each of the values."""
    with pytest.raises(SliderError) as fault:
        yield
    assert fault.value.code == code, str(fault.value)
    assert "\n" not in str(fault.value)
    for value in values:
        assert str(value) in str(fault.value)
