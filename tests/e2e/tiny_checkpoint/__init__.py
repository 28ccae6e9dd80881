"""For the browser tests: ComfyUI's own checkpoint loader reads the built-in model as the checkpoint tiny.safetensors, and a node
makes a model slow, so that a training goes on and on and leaves the processor to the page."""

import sys
import time
from typing import Any

import nodes

FILE, PAUSE_S = "tiny.safetensors", 0.05
_load = nodes.CheckpointLoaderSimple.load_checkpoint


def load_checkpoint(self: nodes.CheckpointLoaderSimple, ckpt_name: str) -> tuple:
    """As the loader does, but for that file."""
    if ckpt_name != FILE:
        return _load(self, ckpt_name)
    own = {name: module for name, module in sys.modules.items() if "slider_core.with_tiny" in name}
    parts = {name.rpartition("slider_core.")[2]: module for name, module in own.items()}
    return parts["with_tiny.model_in_comfy"].load_demo(parts["with_tiny.model"].load_weights())


nodes.CheckpointLoaderSimple.load_checkpoint = load_checkpoint


class Slow:
    """A model that sleeps before each call."""

    FUNCTION, CATEGORY, RETURN_TYPES = "slow", "tests", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[str]]]:  # noqa: N802, the host's name
        return {"required": {"model": ("MODEL",)}}

    def slow(self, model: Any) -> tuple[Any]:
        def call(apply_model: Any, given: dict[str, Any]) -> Any:
            time.sleep(PAUSE_S)
            return apply_model(given["input"], given["timestep"], **given["c"])

        slowed = model.clone()
        slowed.set_model_unet_function_wrapper(call)
        return (slowed,)


NODE_CLASS_MAPPINGS: dict[str, type] = {"TestSlowModel": Slow}
