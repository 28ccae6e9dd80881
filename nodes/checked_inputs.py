"""What a person types into a node that runs after a training is checked when the graph is queued, and not hours later.

ComfyUI calls `validate_inputs` of a node with the values that are written in it, and with None for what comes over a link, which
is checked when the node runs. It shows the answer at every input that the method names, and leaves out its own checks of those.
"""

from collections.abc import Callable
from typing import Any

from ..slider_core.config.checks import SliderError

NOT_CONNECTED = object()  # the default of an input that holds no value until the node runs: over a link it is None


def refusal(check: Callable[..., object], *values: Any) -> bool | str:
    """True when `check(*values)` raises no SliderError, else its sentence; True too where a value is None, not known yet."""
    if any(value is None for value in values):
        return True
    try:
        check(*values)
    except SliderError as fault:
        return str(fault)
    return True
