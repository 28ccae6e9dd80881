"""The same slider in every way, on a model in every number format: training, sweep, live and merged must answer alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .measure import Core, shaken
from .model import Tiny, conditioning
from .quantised import build

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
    "GGUF": ("gguf", torch.float32),
}
# Largest deviations, as a share of the slider's effect: of live and sweep from training, and of merged, which quantises the
# changed weights anew. A layer that is left out is of the order of 1 / sqrt(layers), 0.1 and more.
# fp8 keeps three bits of a changed weight.
EXACT, ROUNDED, REQUANTISED = 1e-4, 0.05, 0.8
LIMITS = {name: (EXACT, EXACT) if name == "fp32" else (ROUNDED, REQUANTISED) for name in FORMATS}
LIMITS["GGUF"] = (EXACT, float("inf"))  # the loader's own patcher merges, which is not imitated


@dataclass(frozen=True)
class EveryWay:
    """Deviations from training at +1, as a share of the slider's effect, and the rounding between training and sampling without
    a slider; `past` names layers that the hooks alone do not reach."""

    sweep: float
    live: float
    merged: float
    rounding: float
    past: str


def measure_every_way(core: Core, entry: Tiny, form: str, preset: str = "auto", patcher: Any = None) -> EveryWay:
    """On a tiny model in that format, or on `patcher`, another loader's."""
    patcher = patcher or build(entry, *FORMATS[form])
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
        with backend.running():
            plain, swept = answer(backend), answer(backend, [1.0, -1.0])
        answers = {}
        for mode in ("live", "merge"):
            model = core("with_comfy.slider_apply").apply(slider, 1.0, patcher, mode=mode)[0]
            other = backends.ComfyBackend(model)
            other.one_by_one = backend.one_by_one
            core("with_comfy.layer_names").load(model)
            with other.running():
                answers[mode] = answer(other)
        core("with_comfy.layer_names").load(patcher)
    effect = float((trained - base).norm())
    shares = [float((one - trained).norm()) / effect for one in (swept, answers["live"], answers["merge"])]
    return EveryWay(*shares, float((plain - base).norm()) / effect, core("layers.reach").note(module))
