"""Slider files and ComfyUI: its names for layers, its stock loading path, and the proof that a file does there what it should.

A file that was written is read back by ComfyUI's own loader and compared with the slider it came from: layer by layer in
float32, and on a real forward of the model where the slider brings a sample along. A deviation is an error.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.sd
import comfy.utils
import torch

from .adapter import Adapter
from .backend import Conditioning
from .comfy_host import ComfyBackend
from .comfy_training import forget_prompts, without_memory
from .config import FileDtype, FileFormat, SliderError
from .formats import PREFIX, bypass_notes, to_native
from .names import placed
from .store import DTYPES, Slider, load_slider, lost_to, move_in, refuse_existing, save_slider
from .targets import Target
from .weights import by_layer

BY_STOCK = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.DIFFUSERS)  # what ComfyUI's loader reads on any architecture
LAYER, FORWARD = 1e-4, 1e-3  # largest deviation, as a share of the slider's own effect
ROUNDINGS = 4  # how many factors of a change a number format may round
TINY = 1e-6  # of the base weight: the last digits of float32, in which a DoRA's change may drown
NOISE = 64  # roundings of the model's own number format in a forward, as a share of its output


@dataclass(frozen=True)
class Proof:
    """What a slider brings along to be tried: the model it was trained on, while that lives, and one sample."""

    model: weakref.ReferenceType[Any]
    latent_CHW: torch.Tensor
    cond: Conditioning


def layer_aliases(model: Any) -> dict[str, Target]:
    """ComfyUI's table of names that LoRA files use, for this MODEL: name -> layer, with the rows of a fused one."""
    module = model.model.diffusion_model
    heights = {name: part.weight.shape[0] for name, part in module.named_modules() if isinstance(_weight(part), torch.Tensor)}
    found: dict[str, Target] = {}
    for name, entry in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, part = (entry, None) if isinstance(entry, str) else (entry[0], entry[1])
        path = key.removeprefix(PREFIX).removesuffix(".weight")
        if isinstance(entry, tuple) and (len(entry) > 2 or part is None or part[0] != 0):
            continue  # rearranged by a function: no slice
        rows = None if part is None else (part[1], part[1] + part[2])
        # the table takes q, k and v for equal thirds, which grouped queries are not
        if path in heights and (rows is None or rows[1] <= heights[path]) and name != f"{PREFIX}{path}":
            found[name] = Target(path, rows)
    return found


def _weight(module: torch.nn.Module) -> Any:
    return module._parameters.get("weight")


def on_model(slider: Slider, model: Any) -> Slider:
    """The slider with its layers found in this MODEL. SliderError when it is for another one."""
    module = model.model.diffusion_model
    return replace(slider, weights=placed(slider.weights, module, layer_aliases(model)), placed=True)


def with_slider(model: Any, slider: Slider, strength: float) -> Any:
    """A MODEL with the slider at `strength`, by the same path as the stock LoRA loader. At 0 the model itself."""
    if strength == 0:
        return model
    state = to_native(on_model(slider, model).weights)
    return without_memory(comfy.sd.load_lora_for_models(model, None, state, strength, 0)[0])


# --- the proof


def _stock(model: Any, state: Mapping[str, torch.Tensor], strength: float) -> Any:
    return without_memory(comfy.sd.load_lora_for_models(model, None, dict(state), strength, 0)[0])


def _worst_layer(model: Any, state: Mapping[str, torch.Tensor], slider: Slider, dtype: FileDtype) -> float:
    """The largest deviation of a layer's change, as a share of it. SliderError that names a layer which deviates too much."""
    eps = 0.0 if dtype is FileDtype.FP32 else torch.finfo(DTYPES[dtype]).eps
    patched, worst = _stock(model, state, -1.0), 0.0  # at the minus side, where a loader that knows no signs would fail
    for path, weight in by_layer(slider.weights).items():
        key = f"{PREFIX}{path}.weight"
        base = model.model.diffusion_model.get_submodule(path).weight.detach()
        if not base.is_floating_point() or type(base) not in (torch.Tensor, torch.nn.Parameter):
            continue  # quantised: ComfyUI patches it in a way of its own
        base = base.to(device=model.load_device, dtype=torch.float32)
        own = patched.patches.get(key, [])[len(model.patches.get(key, [])) :]
        if not own:
            raise SliderError(f'ComfyUI\'s loader leaves the layer "{path}" of the file out, so it was not saved.')
        stock = comfy.lora.calculate_weight(own, base.clone(), key).flatten(1) - base.flatten(1)
        live = -weight.to(base.device).delta(base)
        gap, size = float((stock - live).norm()), float(live.norm())
        if gap > (LAYER + ROUNDINGS * eps) * size + TINY * float(base.norm()):
            raise SliderError(
                f'ComfyUI\'s loader changes the layer "{path}" otherwise than the slider does (by {gap / (size or 1.0):.1%}), '
                "so it was not saved. Save as fp32, or in another format."
            )
        worst = max(worst, gap / size) if size else worst
    return worst


@contextmanager
def _running(model: Any) -> Iterator[ComfyBackend]:
    """The MODEL loaded with its patches, as a sampler loads it."""
    comfy.model_management.load_models_gpu([model])
    backend = ComfyBackend(model, None, None)
    backend.one_by_one = True
    model.pre_run()
    try:
        yield backend
    finally:
        forget_prompts(backend.module)
        model.cleanup()


def _worst_forward(model: Any, state: Mapping[str, torch.Tensor], slider: Slider, proof: Proof, dtype: FileDtype) -> float:
    """The largest deviation of the model's output at +1 and -1, as a share of the slider's effect there."""
    module = model.model.diffusion_model
    adapter = Adapter.from_weights(module, slider.weights, model.load_device)
    worst = 0.0

    def run(backend: ComfyBackend) -> torch.Tensor:
        noise = torch.randn(1, *proof.latent_CHW.shape, generator=torch.Generator().manual_seed(0)).to(backend.device)
        sigma = backend.sigmas(torch.tensor([0.5]))
        x = backend.add_noise(proof.latent_CHW[None].to(backend.device), noise, sigma)
        with torch.no_grad():
            return backend.predict(x, sigma, [proof.cond]).float()

    try:
        for strength in (1.0, -1.0):
            with _running(model) as backend:
                base = run(backend)
                with adapter.at(module, [strength]):
                    live = run(backend)
            with _running(_stock(model, state, strength)) as backend:
                stock = run(backend)
            eps = torch.finfo(next(p.dtype for p in module.parameters() if p.is_floating_point())).eps
            share = FORWARD + ROUNDINGS * (0.0 if dtype is FileDtype.FP32 else torch.finfo(DTYPES[dtype]).eps)
            gap, size = float((stock - live).norm()), float((live - base).norm())
            if not gap <= share * size + NOISE * eps * float(base.norm()):
                raise SliderError(
                    f"At {strength:+g} the model answers otherwise with the saved file in ComfyUI's loader than with the slider "
                    f"(by {gap / (size or 1.0):.1%} of its effect), so it was not saved. Save as fp32, or in another format."
                )
            worst = max(worst, gap / size) if size else worst
    finally:
        comfy.model_management.load_models_gpu([model])  # without the slider again
    return worst


def _read_back(path: Path, form: FileFormat, model: Any) -> dict[str, torch.Tensor]:
    """The file as native tensors that ComfyUI's loader takes: as it is, or by our own reader where ComfyUI has none."""
    if form in BY_STOCK:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    return to_native(on_model(load_slider(path), model).weights)


def _model_of(slider: Slider, model: Any) -> Any:
    """The MODEL to try a slider on: the one that is given, or that which it was trained on while it is in memory, or None."""
    if model is not None:
        return model
    return slider.proof.model() if isinstance(slider.proof, Proof) else None


def tried(path: Path, slider: Slider, model: Any, form: FileFormat, dtype: FileDtype) -> str:
    """Read a file back through ComfyUI's loader and compare it with `slider`. Words about it; SliderError if they differ."""
    model = _model_of(slider, model)
    if model is None:
        return "Not tried: connect the model to have the file compared with the slider."
    slider = replace(on_model(slider, model), proof=slider.proof)
    reader = "ComfyUI's loader" if form in BY_STOCK else "our reader and ComfyUI's loader"
    with torch.inference_mode():
        state = _read_back(path, form, model)
        layers = _worst_layer(model, state, slider, dtype)
        count = len(by_layer(slider.weights))
        words = f"Read back through {reader}: {count} layers, which deviate by at most {layers:.1e} of their change"
        if not isinstance(slider.proof, Proof):
            return f"{words}."
        try:
            forward = _worst_forward(model, state, slider, slider.proof, dtype)
        except RuntimeError as fault:  # out of memory, say: no reason to lose the slider
            return f"{words}. A forward of the model was not to be had ({str(fault).splitlines()[0][:120]})."
    return f"{words}, and by {forward:.1e} of the slider's effect on a forward of the model."


def save_tried(
    path: Path, slider: Slider, form: FileFormat, dtype: FileDtype, overwrite: bool = False, model: Any = None
) -> list[str]:
    """Save a slider once a trial of the file has gone well; lines of words about it. SliderError, and no file, when it fails.

    `model` is the MODEL it is for; without one that which it was trained on, while that is in memory.
    """
    model = _model_of(slider, model)
    slider = slider if model is None else replace(on_model(slider, model), proof=slider.proof)
    aliases = None if model is None else layer_aliases(model)
    refuse_existing(path, overwrite)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        save_slider(trial, slider, dtype, form=form, aliases=aliases)
        words = tried(trial, slider, model, form, dtype)
        move_in(trial, path, overwrite)
    lost = lost_to(slider, dtype)
    rounding = [f"As {dtype.value} its effect is rounded by {lost:.2%}."] if lost else []
    return [*rounding, words, *bypass_notes(slider.weights, form, aliases)]
