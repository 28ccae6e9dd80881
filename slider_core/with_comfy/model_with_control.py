"""A MODEL with a ControlNet in which the slider lies: trained through the frozen diffusion model.

The layers are those of the ControlNet's own network, chosen by the same presets. Its output enters the diffusion model, so the
gradient flows through that one back into it; both are borrowed (autograd_through.py) and neither is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ..backend import module_fingerprint
from ..config.checks import SliderError
from ..layers.checkpointing import checkpointed
from ..lora.formats.native import Place
from ..lora.slider_file import Slider
from ..lora.strength import remember
from .autograd_through import autograd_through
from .control_hints import Hints, modules_of, network
from .layer_names import on_control
from .model_backend import ComfyBackend


def _nothing_trained(_inside: str) -> Sequence[nn.Parameter]:
    """In the diffusion model, which only hands the gradient on."""
    return ()


class ControlBackend(ComfyBackend):
    """A MODEL with a ControlNet whose network is `module`: the slider lies there."""

    def __init__(
        self,
        model: Any,
        control_net: Any,
        vae: Any = None,
        clip: Any = None,
        hints: Hints | None = None,
        checkpointing: bool = False,
    ) -> None:
        """`hints`: for training. `checkpointing`: compute the diffusion model's blocks twice as well."""
        super().__init__(model, vae, clip, hints)
        self.module = network(control_net)
        self.checkpointing = checkpointing
        self.name = f"{self.name}+{type(self.module).__name__}"
        if hints is not None and not any(module is self.module for module in modules_of(hints.control)):
            raise SliderError(
                "control: carries another ControlNet than the targets; use the same loader for both.", "control.other_controlnet"
            )

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        with super().borrowed(), autograd_through(self.module, self.device), ExitStack() as stack:
            if self.checkpointing:
                stack.enter_context(checkpointed(self.diffusion, _nothing_trained, remember))
            yield

    def training_fingerprint(self) -> dict[str, str]:
        return super().training_fingerprint() | {"place": Place.CONTROLNET}

    def weights_fingerprint(self) -> str:
        return f"{super().weights_fingerprint()} {module_fingerprint(self.module)[:8]}"

    def place(self, slider: Slider) -> Slider:
        return self._noted(on_control(slider.cut(), self.module))


def backend_for(model: Any, vae: Any, clip: Any, control_net: Any, control: Any, checkpointing: bool) -> ComfyBackend:
    """The backend to train on. `control_net`: where the slider lies, or None for the diffusion model; `control`: a CONDITIONING
    whose ControlNet acts meanwhile, or None. A ControlNet that is trained acts at every noise level."""
    hints = None if control is None else Hints(control, whole=control_net is not None)
    if control_net is None:
        return ComfyBackend(model, vae, clip, hints)
    if hints is None:
        raise SliderError(
            "control: a slider in a ControlNet needs control images; connect the conditioning of Apply ControlNet.",
            "control.missing",
        )
    return ControlBackend(model, control_net, vae, clip, hints, checkpointing)
