"""Slider files and ComfyUI: its names for layers, its stock loading path, and the proof that a file does there what it should.

A file that was written is read back by ComfyUI's own loader and compared with the slider it came from: layer by layer in
float32, and on a real forward of the model where the slider brings a sample along. A deviation is an error.

A DoRA and a GLoRA depend on the weights under them, and ComfyUI leaves the patches of whichever MODEL ran last in place: what
reads base weights does so after `load`.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ..backend import Conditioning
from ..config.checks import SliderError
from ..config.lora import FileDtype, FileFormat
from ..lora.algorithm import by_layer
from ..lora.formats import PREFIX, loader_notes, to_native
from ..lora.keys import with_ratio
from ..lora.safe_files import move_in, refuse_existing
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import DTYPES, Slider, load_slider, lost_to, save_slider
from ..lora.strength import at_strength
from .autograd_through import forget_prompts
from .model_backend import ComfyBackend
from .slider_on_model import _stock, architecture, layer_aliases, load, on_model

BY_STOCK = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.DIFFUSERS)  # what ComfyUI's loader reads on any architecture
LAYER, FORWARD = 1e-4, 1e-3  # largest deviation, as a share of the slider's own effect
ROUNDINGS = 4  # how many factors of a change a number format may round
TINY = 1e-6  # of the base weight: the last digits of float32, in which a DoRA's change may drown
IN_WHOLE_NUMBERS = 2.0**-7  # what a weight in int8 is rounded by
NOISE = 64  # roundings of a number format in a forward, as a share of the model's output


@dataclass(frozen=True)
class Proof:
    """What a slider brings along to be tried: the model it was trained on, while that lives, and one sample."""

    model: weakref.ReferenceType[Any]
    latent_CHW: torch.Tensor
    cond: Conditioning


@dataclass(frozen=True)
class _Trial:
    """A saved file's tensors, the slider they should be, and how exactly: `eps` is the rounding of the file's number format."""

    model: Any
    state: Mapping[str, torch.Tensor]
    slider: Slider
    eps: float

    def patch(self, patched: Any, key: str, base: torch.Tensor) -> torch.Tensor | None:
        """What ComfyUI's loader changes `base` by at that key, flat; None when it leaves the key out."""
        own = patched.patches.get(key, [])[len(self.model.patches.get(key, [])) :]
        return comfy.lora.calculate_weight(own, base.clone(), key).flatten() - base.flatten() if own else None

    def share(self, what: str, stock: torch.Tensor | None, live: torch.Tensor, base: torch.Tensor) -> float:
        """The deviation as a share of the change. SliderError that names the layer when it is too large."""
        if stock is None:
            raise SliderError(f"ComfyUI's loader leaves the {what} of the file out, so it was not saved.")
        gap, size = float((stock - live.flatten()).norm()), float(live.norm())
        if not gap <= (LAYER + ROUNDINGS * self.eps) * size + TINY * float(base.norm()):
            raise SliderError(
                f"ComfyUI's loader changes the {what} otherwise than the slider does (by {gap / (size or 1.0):.1%}), "
                "so it was not saved. Save as fp32, or in another format."
            )
        return gap / size if size else 0.0

    def layers(self) -> tuple[int, float]:
        """(layers compared, the largest deviation of a weight's or bias' change). Quantised layers are left out: ComfyUI patches
        them in a way of its own."""
        patched, worst, count = _stock(self.model, self.state, -1.0), 0.0, 0  # where a loader without signs would fail
        for path, weight in by_layer(self.slider.weights).items():
            layer, key = self.model.model.diffusion_model.get_submodule(path), f"{PREFIX}{path}"
            base = layer.weight.detach()
            if not base.is_floating_point() or type(base) not in (torch.Tensor, torch.nn.Parameter):
                continue
            base, count = base.to(device=self.model.load_device, dtype=torch.float32), count + 1
            live = -weight.to(base.device).delta(base)
            worst = max(worst, self.share(f'layer "{path}"', self.patch(patched, f"{key}.weight", base), live, base))
            if "diff_b" in weight.tensors:
                bias = layer.bias.detach().to(base)
                change = self.patch(patched, f"{key}.bias", bias)
                worst = max(worst, self.share(f'bias of "{path}"', change, -weight.tensors["diff_b"].to(bias), bias))
        return count, worst

    def _answer(self, model: Any, proof: Proof, adapter: Adapter | None = None, strength: float = 0.0) -> torch.Tensor:
        with _running(model) as backend:
            noise = torch.randn(1, *proof.latent_CHW.shape, generator=torch.Generator().manual_seed(0)).to(backend.device)
            sigma = backend.sigmas(torch.tensor([0.5]))
            x = backend.add_noise(proof.latent_CHW[None].to(backend.device), noise, sigma)
            with torch.no_grad(), at_strength(adapter, backend.module, [strength]) if adapter else nullcontext():
                return backend.predict(x, sigma, [proof.cond]).float().clone()

    def forward(self, proof: Proof) -> float:
        """The largest deviation of the model's output at +1 and -1, as a share of the slider's effect there.

        In float32 on the CPU the live slider is the measure. Elsewhere merging a slider rounds the weights themselves, so there
        it is the slider's own tensors in the same loader.
        """
        load(self.model)
        adapter = Adapter.from_weights(self.model.model.diffusion_model, self.slider.weights, self.model.load_device)
        exact, own, worst = self._exact(), to_native(self.slider.weights), 0.0
        base = self._answer(self.model, proof)
        for strength in (1.0, -1.0):
            stock = self._answer(_stock(self.model, self.state, strength), proof)
            if exact:
                live = self._answer(self.model, proof, adapter, strength)
            else:
                live = self._answer(_stock(self.model, own, strength), proof)
            gap, size = float((stock - live).norm()), float((live - base).norm())
            rounding = NOISE * (torch.finfo(torch.float32).eps if exact else self._eps() * bool(self.eps)) * float(base.norm())
            if not gap <= (FORWARD + ROUNDINGS * self.eps) * size + rounding:
                raise SliderError(
                    f"At {strength:+g} the model answers otherwise with the file in ComfyUI's loader than with the slider "
                    f"(by {gap / (size or 1.0):.1%} of its effect), so it was not saved. Save as fp32, or in another format."
                )
            worst = max(worst, gap / size) if size else worst
        load(self.model)  # without the slider again
        return worst

    def _eps(self) -> float:
        """The coarsest rounding among the layers that the slider changes and the model's arithmetic."""
        module = self.model.model.diffusion_model
        stored = [getattr(w := module.get_submodule(t.path).weight, "_qdata", w) for t in self.slider.weights]  # quantised anew
        kinds = {s.dtype for s in stored} | {self.model.model.get_dtype_inference()}
        return max(torch.finfo(kind).eps if kind.is_floating_point else IN_WHOLE_NUMBERS for kind in kinds)

    def _exact(self) -> bool:
        return self._eps() <= torch.finfo(torch.float32).eps and torch.device(self.model.load_device).type == "cpu"


@contextmanager
def _running(model: Any) -> Iterator[ComfyBackend]:
    """The MODEL loaded with its patches, as a sampler loads it."""
    load(model)
    backend = ComfyBackend(model, None, None)
    backend.one_by_one = True
    model.pre_run()
    try:
        yield backend
    finally:
        forget_prompts(backend.module)
        model.cleanup()


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
    reader = "ComfyUI's own LoRA loader" if form in BY_STOCK else "This pack's reader with ComfyUI's LoRA loader"
    with torch.inference_mode():
        load(model)
        eps = 0.0 if dtype is FileDtype.FP32 else torch.finfo(DTYPES[dtype]).eps
        trial = _Trial(model, _read_back(path, form, model), slider, eps)
        count, worst = trial.layers()
        words = f"{reader} gives the same: {count} layers, apart by {worst:.1e} of their change at most"
        left = len(by_layer(slider.weights)) - count
        words += f" ({left} quantised layers were not compared)" if left else ""
        if not isinstance(slider.proof, Proof):
            return f"{words}."
        try:
            forward = trial.forward(slider.proof)
        except comfy.model_management.OOM_EXCEPTION as fault:  # no reason to lose the slider
            load(model)
            return f"{words}. There was no memory for a forward of the model ({str(fault).strip()[:120]})."
    return f"{words}, and the model's answer by {forward:.1e} of the slider's effect."


@contextmanager
def on_trial(path: Path, overwrite: bool) -> Iterator[Path]:
    """A place to write a file and try it; it goes to `path` when the block ends well, and nowhere when it does not."""
    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=temporary, ignore_cleanup_errors=True) as folder:
        trial = Path(folder) / path.name
        yield trial
        move_in(trial, path, overwrite)


def rounded(slider: Slider, dtype: FileDtype) -> list[str]:
    """A line about what a number format takes from a slider; none where that is nothing."""
    lost = lost_to(slider, dtype)
    return [f"As {dtype.value} its effect is rounded by {lost:.2%}."] if lost else []


def save_tried(
    path: Path, slider: Slider, form: FileFormat, dtype: FileDtype, overwrite: bool = False, model: Any = None
) -> list[str]:
    """Save a slider once a trial of the file has gone well; lines of words about it. SliderError, and no file, when it fails.

    `model` is the MODEL it is for; without one that which it was trained on, while that is in memory.
    """
    refuse_existing(path, overwrite)
    model = _model_of(slider, model)
    aliases = None
    if model is not None:
        found, aliases = on_model(slider, model), layer_aliases(model)
        info = replace(slider.info, architecture=slider.info.architecture or architecture(model))
        weights = with_ratio(found.weights, model.model.diffusion_model)
        slider = replace(found, weights=weights, info=info, proof=slider.proof)
    with on_trial(path, overwrite) as trial:
        save_slider(trial, slider, dtype, form=form, aliases=aliases)
        words = tried(trial, slider, model, form, dtype)
    return [*rounded(slider, dtype), words, *loader_notes(slider.weights, form, aliases)]
