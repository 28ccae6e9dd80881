"""Words in the running node, for the browser that is looking."""

from comfy_execution.utils import get_executing_context
from server import PromptServer


def say(text: str) -> None:
    """Show `text` in the node that runs; it stays there until the next run."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id)
