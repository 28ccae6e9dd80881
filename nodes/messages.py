"""Messages in the running node, for the browser that is open."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_management
from comfy_execution.utils import get_executing_context
from server import PromptServer

EVENT = "slider_lora.message"
FILES = "slider_lora.files"
MESSAGE_EVERY = 5  # images or passes between two lines of text
PREPARING: dict[str, dict[str, str]] = {}  # by node that prepares a training: the message that it has shown last; empty: none yet


def executing_node() -> str:
    """The id of the node that runs; empty outside a graph."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)


def executing_graph() -> str:
    """The id of the workflow whose node runs, as the browser sent it along; empty where there is none."""
    context, queue = get_executing_context(), getattr(getattr(PromptServer, "instance", None), "prompt_queue", None)
    if context is None or queue is None:
        return ""
    for _, prompt, _, extra, *_ in queue.get_current_queue_volatile()[0]:
        if prompt == context.prompt_id:
            return _graph_id(extra.get("extra_pnginfo"))
    return ""


def _graph_id(extra: Any) -> str:
    workflow = extra.get("workflow") if isinstance(extra, Mapping) else None
    return str(workflow.get("id") or "") if isinstance(workflow, Mapping) else ""


def say(text: str) -> None:
    """Show `text` in the node that runs, in its own workflow alone (web/slider_report.js)."""
    node, server = executing_node(), getattr(PromptServer, "instance", None)
    if node and server is not None:
        message = {"node": node, "graph": executing_graph(), "text": text}
        if node in PREPARING:
            PREPARING[node] = message
        server.send_sync(EVENT, message)


def files_changed() -> None:
    """Every open page, whatever it shows, lists the files anew (web/slider_lists.js)."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(FILES, {})


@contextmanager
def preparing() -> Iterator[None]:
    """Within the block, until `prepared`, the last message of the node that runs is kept for a page that comes later."""
    node = executing_node()
    PREPARING[node] = {}
    try:
        yield
    finally:
        prepared(node)


def prepared(node: str) -> None:
    """The node has more to show than a message."""
    PREPARING.pop(node, None)


def preparations() -> list[dict[str, str]]:
    """The last message of every node that prepares a training, as `say` has sent it."""
    return [message for message in list(PREPARING.values()) if message]


def calibrating(done: int, expected: int) -> None:
    """After each forward pass of a calibration, of about so many: a message now and then; ComfyUI's interrupt when the user
    pressed stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    if done % MESSAGE_EVERY == 1:
        say(f"calibrating (what strength 1 is): {done} of about {expected} forward passes")
