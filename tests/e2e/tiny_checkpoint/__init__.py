"""For the browser tests: ComfyUI's own checkpoint loader reads the built-in model as the checkpoint tiny.safetensors."""

import sys

import nodes

FILE = "tiny.safetensors"
NODE_CLASS_MAPPINGS: dict[str, type] = {}
_load = nodes.CheckpointLoaderSimple.load_checkpoint


def load_checkpoint(self: nodes.CheckpointLoaderSimple, ckpt_name: str) -> tuple:
    """As the loader does, but for that file."""
    if ckpt_name != FILE:
        return _load(self, ckpt_name)
    own = {name: module for name, module in sys.modules.items() if "slider_core.with_tiny" in name}
    parts = {name.rpartition("slider_core.")[2]: module for name, module in own.items()}
    return parts["with_tiny.model_in_comfy"].load_demo(parts["with_tiny.model"].load_weights())


nodes.CheckpointLoaderSimple.load_checkpoint = load_checkpoint
