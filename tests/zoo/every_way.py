"""The same slider in every way, on a model in every number format: training, sweep, live and merged must answer alike.

nvfp4 and mxfp8 are held packed and computed with as plain numbers, as ComfyUI does on a CPU and on cards before Blackwell; as
"nvfp4 product" and "mxfp8 product" the layer's input is packed too, as on Blackwell, and summed by comfy-kitchen's fallback.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock, patch

import torch

from .measure import Core, shaken
from .model import Tiny, conditioning
from .quantised import build, weight_of

# name -> (kind of weights, what the model computes in)
FORMATS: dict[str, tuple[str, torch.dtype]] = {
    "fp32": ("plain", torch.float32),
    "fp16": ("plain", torch.float16),
    "bf16": ("plain", torch.bfloat16),
    "fp8": ("fp8", torch.float32),
    "scaled fp8": ("float8_e4m3fn", torch.float32),
    "int8": ("int8_tensorwise", torch.float32),
    "nvfp4": ("nvfp4", torch.float32),
    "mxfp8": ("mxfp8", torch.float32),
    "nvfp4 product": ("nvfp4", torch.float32),
    "mxfp8 product": ("mxfp8", torch.float32),
    "GGUF": ("gguf", torch.float32),
}
# Largest deviations, as a share of the slider's effect: of live and sweep from training, and of merged, which quantises the
# changed weights anew. A layer that is left out is of the order of 1 / sqrt(layers), 0.1 and more.
# fp8 keeps three bits of a changed weight, nvfp4 less: there the picture says nothing of a merge, and `held` does.
EXACT, ANY = 1e-4, float("inf")
LIMITS = {"fp32": (EXACT, EXACT), "fp16": (EXACT, 0.2), "bf16": (EXACT, 1.0), "int8": (EXACT, 1.0), "GGUF": (EXACT, EXACT)}
LIMITS |= {name: (EXACT, ANY) for name in FORMATS if name not in LIMITS}
UNMERGED = ("GGUF",)  # the loader's own patcher merges, which is not imitated
HELD = 0.4  # of a layer's change the merged weight has at least: 1 but for rounding, 0 where it was left out


@dataclass(frozen=True)
class EveryWay:
    """Deviations from training at +1, as a share of the slider's effect, and the rounding between training and sampling without
    a slider; `past` names layers that the hooks alone do not reach; `held`: of the layers the smallest share of the change that
    the merged weight has."""

    sweep: float
    live: float
    merged: float
    rounding: float
    past: str
    held: float


def share_held(adapter: Any, module: torch.nn.Module, before: dict[str, torch.Tensor]) -> float:
    """The smallest share of a target's own change, up @ down, in what its weight has become."""
    shares = []
    for target, lora in adapter.weights().items():
        down, up = lora.tensors["lora_down.weight"], lora.tensors["lora_up.weight"]
        wanted = (lora.alpha / len(down)) * up.float().flatten(1) @ down.float().flatten(1)
        start, stop = target.rows or (0, None)
        became = weight_of(module.get_submodule(target.path)) - before[target.path]
        shares.append(float((became.flatten(1)[start:stop] * wanted).sum() / wanted.square().sum()))
    return min(shares)


@contextmanager
def products_by_fallback() -> Iterator[None]:
    """Products of packed tensors, for which no kernel of a CPU is, are those of the numbers that they stand for."""
    import comfy_kitchen

    missing = Mock(side_effect=RuntimeError("no kernel here"))
    quiet = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the fallback, at every product
    try:
        with patch.multiple(comfy_kitchen, scaled_mm_nvfp4=missing, scaled_mm_mxfp8=missing):
            yield
    finally:
        logging.disable(quiet)


def measure_every_way(core: Core, entry: Tiny, form: str, preset: str = "auto", patcher: Any = None) -> EveryWay:
    """On a tiny model in that format, or on `patcher`, another loader's."""
    product = form.endswith("product")
    with products_by_fallback() if product else nullcontext():
        return _measure(core, entry, form, preset, patcher or build(entry, *FORMATS[form], product), patcher is not None)


@torch.inference_mode()
def refused_by_host(core: Core, entry: Tiny, form: str) -> str:
    """Why the model in that format does not answer, without a slider and sampled as ever; empty where it does."""
    product = form.endswith("product")
    cond = [core("backend").Conditioning("a prompt", conditioning(entry, 0))]
    x = torch.randn(1, *entry.latent, generator=torch.Generator().manual_seed(4))
    with products_by_fallback() if product else nullcontext():
        backend = core("with_comfy.model_backend").ComfyBackend(build(entry, *FORMATS[form], product))
        try:
            with backend.running():
                answer = backend.predict(x, backend.sigmas(torch.tensor([0.5])), cond)
        except RuntimeError as fault:
            return str(fault).splitlines()[0]
    return "" if bool(answer.isfinite().all()) else "answers NaN"


def _measure(core: Core, entry: Tiny, form: str, preset: str, patcher: Any, loaded: bool) -> EveryWay:
    merges = loaded or form not in UNMERGED
    backends, strength = core("with_comfy.model_backend"), core("lora.strength")
    backend = backends.ComfyBackend(patcher)
    module = backend.module
    adapter = shaken(core, module, core("layers.select").select(module, preset), torch.float32)
    slider = core("lora.slider_file").Slider(adapter.weights())
    cond = [core("backend").Conditioning("a prompt", conditioning(entry, 0))] * 2
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, *entry.latent, generator=generator).repeat(2, *[1] * len(entry.latent))

    def answer(some: Any, strengths: list[float] | None = None) -> torch.Tensor:
        sigma = some.sigmas(torch.tensor([0.5, 0.5]))
        if strengths is None:
            return some.predict(x, sigma, cond)[0].detach().float().clone()
        with strength.at_strength(adapter, module, strengths):
            return some.predict(x, sigma, cond)[0].detach().float().clone()

    with torch.inference_mode():
        with backend.borrowed(), torch.enable_grad(), core("layers.autograd_inplace").forgiving(True):
            backend.prepare(adapter.paths, x[0], cond[0])
            base, trained = answer(backend), answer(backend, [1.0, -1.0])
        before = {path: weight_of(module.get_submodule(path)) for path in adapter.paths if form not in UNMERGED}
        with backend.running():
            plain, swept = answer(backend), answer(backend, [1.0, -1.0])
        answers = {"merge": trained}
        for mode in ("live", "merge")[: 1 + merges]:
            model = core("with_comfy.slider_apply").apply(slider, 1.0, patcher, mode=mode)[0]
            other = backends.ComfyBackend(model)
            other.one_by_one = backend.one_by_one
            core("with_comfy.layer_names").load(model)
            with other.running():
                answers[mode] = answer(other)
        held = share_held(adapter, module, before) if form not in UNMERGED else 1.0
        core("with_comfy.layer_names").load(patcher)
    effect = float((trained - base).norm())
    shares = [float((one - trained).norm()) / effect for one in (swept, answers["live"], answers["merge"])]
    return EveryWay(*shares, float((plain - base).norm()) / effect, core("layers.reach").note(module), held)
