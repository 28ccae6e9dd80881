"""The proof that a slider file does in ComfyUI what it should: read back by ComfyUI's own loader and compared with the slider.

In: a file's tensors, the slider that was saved, the MODEL. Out: the largest deviations, layer by layer in float32, and of a real
forward of the model at +1 and -1 where the slider brings a sample along. Too large a deviation is an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import torch

from ..backend import Conditioning
from ..config.checks import SliderError, need
from ..config.lora import FileFormat
from ..layers.past_reads import numbers_of
from ..lora.algorithm import BIAS
from ..lora.combine import by_layer
from ..lora.formats.native import PREFIX, to_native
from ..lora.safetensors_file import read_tensors
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider, load_slider
from ..lora.strength import at_strength
from .layer_names import load, on_model
from .merged_slider import control_patches, stock_lora
from .model_backend import ComfyBackend

BY_STOCK = (FileFormat.NATIVE, FileFormat.KOHYA)  # what ComfyUI's loader reads on any architecture
LAYER = 1e-4  # largest deviation of a layer, as a share of the slider's change
FORWARD = 1e-3  # largest deviation of the model's output, as a share of the slider's effect
ROUNDINGS = 4  # how many factors of a change a number format may round
TINY = 1e-6  # of the base weight: the last digits of float32, in which a DoRA's change may drown
INT8_ROUNDING = 2.0**-7  # what a weight in int8 is rounded by
NOISE = 64  # roundings of a number format in a forward, as a share of the model's output


@dataclass(frozen=True)
class Proof:
    """What a slider brings along for its proof: the model it was trained on, while that lives, and one sample."""

    model: weakref.ReferenceType[Any]
    latent_CHW: torch.Tensor
    cond: Conditioning


def deviation(what: str, actual: torch.Tensor, expected: torch.Tensor, size: float, allowed: float) -> float:
    """|actual - expected| as a share of `size`, that of the slider's effect. SliderError when it is more than `allowed`."""
    gap = float((actual - expected).norm())
    need(
        gap <= allowed,
        f"{what} otherwise than the slider does (by {gap / (size or 1.0):.1%} of its effect), so it was not saved. "
        "Save as fp32, or in another format.",
        "proof.deviation",
    )
    return gap / size if size else 0.0


def layer_deviation(name: str, change: torch.Tensor | None, expected: torch.Tensor, eps: float, base: float = 0.0) -> float:
    """The deviation of one layer's change; `eps` is the rounding of the file's number format, `base` the norm of the weight."""
    if change is None:
        raise SliderError(f"ComfyUI's loader leaves the {name} of the file out, so it was not saved.", "proof.left_out")
    size = float(expected.norm())
    allowed = (LAYER + ROUNDINGS * eps) * size + TINY * base
    return deviation(f"ComfyUI's loader changes the {name}", change, expected, size, allowed)


@dataclass(frozen=True)
class Trial:
    """A saved file's tensors, the slider they should be, and how exactly: `eps` is the rounding of the file's number format."""

    model: Any
    state: Mapping[str, torch.Tensor]
    slider: Slider
    eps: float

    def _change(self, patched: Any, key: str, base: torch.Tensor) -> torch.Tensor | None:
        """What ComfyUI's loader changes `base` by at that key, flat; None when it leaves the key out."""
        patches = patched.patches.get(key, [])[len(self.model.patches.get(key, [])) :]
        if not patches:
            return None
        return comfy.lora.calculate_weight(patches, base.clone(), key).flatten() - base.flatten()

    def layers(self) -> tuple[int, float]:
        """(layers compared, the largest deviation of a weight's or bias' change). Of ComfyUI's quantised layers the change of the
        plain numbers; those of other loaders, which patch in a way of their own, are left out."""
        patched = stock_lora(self.model, self.state, -1.0)  # where a loader without signs would fail
        worst = 0.0
        count = 0
        for path, weight in by_layer(self.slider.weights).items():
            layer = self.model.model.diffusion_model.get_submodule(path)
            if layer.weight is None:  # not loaded, and so not called
                continue
            base = numbers_of(layer.weight.detach())
            if not base.is_floating_point() or type(base) not in (torch.Tensor, torch.nn.Parameter):
                continue
            count += 1
            base = base.to(device=self.model.load_device, dtype=torch.float32)
            if weight.changes_weight:
                change = self._change(patched, f"{PREFIX}{path}.weight", base)
                expected = -weight.to(base.device).delta(base).flatten()
                worst = max(worst, layer_deviation(f'layer "{path}"', change, expected, self.eps, float(base.norm())))
            if BIAS in weight.tensors:
                bias = layer.bias.detach().to(base)
                change = self._change(patched, f"{PREFIX}{path}.bias", bias)
                expected = -weight.tensors[BIAS].to(bias).flatten()
                worst = max(worst, layer_deviation(f'bias of "{path}"', change, expected, self.eps, float(bias.norm())))
        return count, worst

    def _output(self, model: Any, proof: Proof, adapter: Adapter | None = None, strength: float = 0.0) -> torch.Tensor:
        load(model)
        backend = ComfyBackend(model)
        backend.one_by_one = True
        noise = torch.randn(1, *proof.latent_CHW.shape, generator=torch.Generator().manual_seed(0)).to(backend.device)
        with backend.running(), torch.no_grad():
            sigma = backend.sigmas(torch.tensor([0.5]))
            x = backend.add_noise(proof.latent_CHW[None].to(backend.device), noise, sigma)
            in_force = at_strength(adapter, backend.module, [strength]) if adapter else nullcontext()
            with in_force:
                return backend.predict(x, sigma, [proof.cond]).float().clone()

    def forward(self, proof: Proof) -> float:
        """The largest deviation of the model's output at +1 and -1, as a share of the slider's effect there.

        In float32 on the CPU the live slider is the measure. Elsewhere merging a slider rounds the weights themselves, so there
        it is the slider's own tensors in the same loader.
        """
        load(self.model)
        adapter = Adapter.from_weights(self.model.model.diffusion_model, self.slider.weights, self.model.load_device)
        eps = self._eps()
        exact = eps <= torch.finfo(torch.float32).eps and torch.device(self.model.load_device).type == "cpu"
        rounding = NOISE * torch.finfo(torch.float32).eps
        if not exact:
            rounding = NOISE * eps * bool(self.eps)
        native = to_native(self.slider.weights)
        base = self._output(self.model, proof)
        worst = 0.0
        for strength in (1.0, -1.0):
            output = self._output(stock_lora(self.model, self.state, strength), proof)
            if exact:
                expected = self._output(self.model, proof, adapter, strength)
            else:
                expected = self._output(stock_lora(self.model, native, strength), proof)
            size = float((expected - base).norm())
            allowed = (FORWARD + ROUNDINGS * self.eps) * size + rounding * float(base.norm())
            what = f"At {strength:+g} the model with the file in ComfyUI's loader answers"
            worst = max(worst, deviation(what, output, expected, size, allowed))
        load(self.model)  # without the slider again
        return worst

    def _eps(self) -> float:
        """The coarsest rounding among the layers that the slider changes and the model's arithmetic."""
        dtypes = {self.model.model.get_dtype_inference()}
        for target in self.slider.weights:
            weight = self.model.model.diffusion_model.get_submodule(target.path).weight
            if weight is not None:
                dtypes.add(getattr(weight, "_qdata", weight).dtype)  # quantised anew
        return max(map(_rounding, dtypes))


def _rounding(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if dtype.is_floating_point else INT8_ROUNDING


def stock_reads(path: Path, form: FileFormat, model: Any) -> bool:
    """Whether ComfyUI's own loaders know every layer of a file."""
    if form is not FileFormat.DIFFUSERS:
        return form in BY_STOCK
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    return all(key.split(".lora_")[0].removesuffix(".alpha") in known for key in read_tensors(path)[0])


def _read_back(path: Path, by_stock: bool, model: Any) -> dict[str, torch.Tensor]:
    """The file as native tensors that ComfyUI's loader takes: as it is, or by our own reader where ComfyUI has none."""
    if by_stock:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    return to_native(on_model(load_slider(path), model).weights)


def proven_on_model(path: Path, slider: Slider, model: Any, form: FileFormat, eps: float) -> str:
    """Read a file back through ComfyUI's loader and compare it with `slider`. A summary; SliderError if they differ."""
    slider = replace(on_model(slider, model), proof=slider.proof)
    by_stock = stock_reads(path, form, model)
    reader = "ComfyUI's own LoRA loader" if by_stock else "This pack's reader with ComfyUI's LoRA loader"
    with torch.inference_mode():
        load(model)
        trial = Trial(model, _read_back(path, by_stock, model), slider, eps)
        count, worst = trial.layers()
        summary = f"{reader} gives the same: {count} layers, which differ by at most {worst:.1e} of their change"
        if not count:
            summary = (
                f"{reader} reads the file; no layer was compared, since the model's loader patches all of them in its own way"
            )
        if form is FileFormat.DIFFUSERS and not by_stock:
            summary = f"Load LoRA does not know diffusers' names of this model. {summary}"
        quantised = len(by_layer(slider.weights)) - count
        if count and quantised:
            summary += f" ({quantised} quantised layers were not compared)"
        if not isinstance(slider.proof, Proof):
            return f"{summary}."
        try:
            forward = trial.forward(slider.proof)
        except comfy.model_management.OOM_EXCEPTION as fault:  # no reason to lose the slider
            load(model)
            return f"{summary}. There was no memory for a forward of the model ({str(fault).strip()[:120]})."
    return f"{summary}, and the model's answer by {forward:.1e} of the slider's effect."


def proven_in_control(path: Path, slider: Slider, eps: float) -> str:
    """Compare a file, as ComfyUI's patcher understands it, with the slider. A summary; SliderError when they differ. `eps`: the
    rounding of the file's number format. Changes that depend on the weights under them (DoRA, GLoRA) are left out."""
    layers = {}
    for name, weight in by_layer(slider.weights).items():
        if not weight.needs_base:
            layers[name] = weight
    patches = control_patches(layers, comfy.utils.load_torch_file(str(path), safe_load=True))
    worst = 0.0
    for name, weight in layers.items():
        expected = -weight.delta()
        if not weight.changes_weight:
            continue
        change = patches.get(f"{name}.weight")
        if change is not None:
            change = comfy.lora.calculate_weight([(-1.0, change, 1.0, None, None)], torch.zeros_like(expected), name)
        worst = max(worst, layer_deviation(f'layer "{name}"', change, expected, eps))
    differ = f"{len(layers)} layers, which differ by at most {worst:.1e} of their change"
    return f"Read back as ComfyUI's patches it is the same: {differ}."
