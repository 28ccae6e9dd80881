"""Messages in the running node, for the browser that is open."""

import comfy.model_management
from comfy_execution.utils import get_executing_context
from server import PromptServer

EVENT = "slider_lora.message"
MESSAGE_EVERY = 5  # images or passes between two lines of text


def executing_node() -> str:
    """The id of the node that runs; empty outside a graph."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)


def say(text: str) -> None:
    """Show `text` in the node that runs (web/slider_report.js)."""
    node, server = executing_node(), getattr(PromptServer, "instance", None)
    if node and server is not None:
        server.send_sync(EVENT, {"node": node, "text": text})


def calibrating(done: int, expected: int) -> None:
    """After each forward pass of a calibration, of about so many: a message now and then; ComfyUI's interrupt when the user
    pressed stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    if done % MESSAGE_EVERY == 1:
        say(f"calibrating (what strength 1 is): {done} of about {expected} forward passes")
