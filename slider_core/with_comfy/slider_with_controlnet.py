"""The slider in a ControlNet: trained through the frozen diffusion model, saved, put on a CONTROL_NET, swept.

The layers are those of the ControlNet's own network, chosen by the same presets. Its output enters the diffusion model, so the
gradient flows through that one back into it; both are borrowed (comfy_training.py) and neither is changed. ComfyUI's LoRA loaders
patch no ControlNet, but its patcher does: Slider LoRA Apply puts the same patches there as a loader puts on a MODEL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import torch
from torch import nn

from ..backend import module_fingerprint
from ..config.checks import SliderError
from ..config.lora import FileDtype, FileFormat
from ..layers.checkpointing import checkpointed
from ..lora.algorithm import Kind, LayerWeight, by_layer
from ..lora.formats import CONTROL_PREFIX, to_native
from ..lora.keys import placed
from ..lora.safe_files import refuse_existing
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import DTYPES, Slider, save_slider
from ..lora.strength import remember
from .autograd_through import autograd_through
from .control_hints import Hints, chain, control_in, models_of, modules_of
from .model_backend import ComfyBackend
from .slider_on_model import adapter_on, on_model
from .slider_proof import LAYER, ROUNDINGS, on_trial, rounded


def _nothing_trained(_inside: str) -> Sequence[nn.Parameter]:
    """In the diffusion model, which only hands the gradient on."""
    return ()


def network(control_net: Any) -> nn.Module:
    """The network of a CONTROL_NET. SliderError when it has none of its own."""
    module = getattr(control_net, "control_model", None)
    if not isinstance(module, nn.Module):
        raise SliderError(
            f"control_net: a {type(control_net).__name__} has no network of its own that a slider could lie in; "
            "load a full ControlNet."
        )
    return module


class ControlBackend(ComfyBackend):
    """A MODEL with a ControlNet whose network is `module`: the slider lies there."""

    def __init__(
        self, model: Any, vae: Any, clip: Any, control_net: Any, hints: Hints | None = None, checkpointing: bool = False
    ) -> None:
        """`hints`: for training. `checkpointing`: compute the diffusion model's blocks twice as well."""
        super().__init__(model, vae, clip, hints)
        self.module, self.checkpointing = network(control_net), checkpointing
        self.name = f"{self.name}+{type(self.module).__name__}"
        if hints is not None and not any(module is self.module for module in modules_of(hints.control)):
            raise SliderError("control: carries another ControlNet than the targets; use the same loader for both.")

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        twice = checkpointed(self.diffusion, _nothing_trained, remember) if self.checkpointing else nullcontext()
        with super().borrowed(), autograd_through(self.module, self.device), twice:
            yield

    def weights_fingerprint(self) -> str:
        return f"{super().weights_fingerprint()} {module_fingerprint(self.module)[:8]}"


def backend_for(model: Any, vae: Any, clip: Any, control_net: Any, control: Any, checkpointing: bool) -> ComfyBackend:
    """The backend to train on. `control_net`: where the slider lies, or None for the diffusion model; `control`: a CONDITIONING
    whose ControlNet acts meanwhile, or None. A ControlNet that is trained acts at every noise level."""
    hints = None if control is None else Hints(control, whole=control_net is not None)
    if control_net is None:
        return ComfyBackend(model, vae, clip, hints)
    if hints is None:
        raise SliderError("control: a slider in a ControlNet needs control images; connect the conditioning of Apply ControlNet.")
    return ControlBackend(model, vae, clip, control_net, hints, checkpointing)


# --- at rest


def on_control(slider: Slider, module: nn.Module) -> Slider:
    """The slider with its layers found in a ControlNet's network. SliderError when it is for another one, or for none."""
    if not slider.info.in_controlnet:
        raise SliderError("This slider is for the diffusion model, not for a ControlNet.")
    return replace(slider, weights=placed(slider.weights, module), placed=True)


def on_part(slider: Slider, backend: ComfyBackend) -> Slider:
    """The slider with its layers found where the backend trains."""
    return on_control(slider, backend.module) if isinstance(backend, ControlBackend) else on_model(slider, backend.patcher)


def for_sweep(model: Any, slider: Slider, positive: Any) -> tuple[Adapter, ComfyBackend | None]:
    """The slider as an adapter, and the backend where it lies in a ControlNet: the first of the prompt's that it fits."""
    if not slider.info.in_controlnet:
        return adapter_on(model, slider), None
    faults = []
    control = control_in(positive)
    for link in chain(control):
        try:
            module = network(link)
            comfy.model_management.load_models_gpu(models_of([control]))
            weights = on_control(slider, module).weights
            return Adapter.from_weights(module, weights, link.load_device), ControlBackend(model, None, None, link)
        except SliderError as fault:
            faults.append(str(fault))
    raise SliderError(
        faults[0]
        if faults
        else "This slider is for a ControlNet, and positive carries none: use Apply ControlNet before the sweep."
    )


def _patches(weights: Sequence[str], state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """ComfyUI's patches of a ControlNet's layers, by the names of its weights."""
    return comfy.lora.load_lora(state, {f"{CONTROL_PREFIX}{path}": f"{path}.weight" for path in weights})


def with_slider_on_control(control_net: Any, slider: Slider, strength: float) -> Any:
    """A CONTROL_NET with the slider at `strength`, patched as a LoRA loader patches a MODEL. At 0 the CONTROL_NET itself."""
    if control_net is None:
        raise SliderError("This slider is for a ControlNet: connect control_net.")
    module = network(control_net)
    weights = on_control(slider, module).weights
    layers = by_layer(weights)
    if strength == 0:
        return control_net
    fresh, patcher = control_net.copy(), control_net.control_model_wrapped.clone()
    done = set(patcher.add_patches(_patches(list(layers), to_native(weights, CONTROL_PREFIX)), strength))
    lost = [path for path in layers if f"{path}.weight" not in done]
    if lost:
        raise SliderError(f'ComfyUI takes no change of the ControlNet\'s layer "{lost[0]}".')
    fresh.control_model_wrapped = patcher
    return fresh


def _alone(weight: LayerWeight) -> bool:
    """Whether the change can be told without the weights under it."""
    return not weight.is_dora and weight.kind is not Kind.GLORA


def _tried(path: Path, slider: Slider, dtype: FileDtype) -> str:
    """Compare a file, as ComfyUI's patcher understands it, with the slider. Words; SliderError when they differ."""
    eps = 0.0 if dtype is FileDtype.FP32 else torch.finfo(DTYPES[dtype]).eps
    layers, worst = {p: w for p, w in by_layer(slider.weights).items() if _alone(w)}, 0.0
    patches = _patches(list(layers), comfy.utils.load_torch_file(str(path), safe_load=True))
    for name, weight in layers.items():
        live, patch = -weight.delta(), patches.get(f"{name}.weight")
        if patch is None:
            raise SliderError(f'ComfyUI leaves the layer "{name}" of the file out, so it was not saved.')
        stock = comfy.lora.calculate_weight([(-1.0, patch, 1.0, None, None)], torch.zeros_like(live), name)
        gap, size = float((stock - live).norm()), float(live.norm())
        if not gap <= (LAYER + ROUNDINGS * eps) * size:
            raise SliderError(f'ComfyUI changes the layer "{name}" otherwise than the slider does, so it was not saved.')
        worst = max(worst, gap / size if size else 0.0)
    return f"Read back as ComfyUI's patches it is the same: {len(layers)} layers, apart by {worst:.1e} of their change at most."


def save_control(path: Path, slider: Slider, form: FileFormat, dtype: FileDtype, overwrite: bool = False) -> list[str]:
    """Save a slider for a ControlNet once a trial of the file has gone well; lines of words. SliderError, and no file, else."""
    refuse_existing(path, overwrite)
    with on_trial(path, overwrite) as trial, torch.inference_mode():
        save_slider(trial, slider, dtype, form=form)
        words = _tried(trial, slider, dtype)
    return [*rounded(slider, dtype), words, "It is for a ControlNet: Slider LoRA Apply puts it on one; Load LoRA leaves it out."]
