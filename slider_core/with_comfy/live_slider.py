"""A slider beside the weights of a MODEL, with a strength that follows the sampler.

It is a wrapper around BaseModel.apply_model (every architecture has it) that hooks the slider's layers for the length of one
model call and takes the strength from the call's own sigma. Nothing is patched and nothing stays. Several live sliders are
several wrappers, each under a key of its own. Each row of a call has its own sigma, so it may have its own strength: training
on a MODEL with a live slider draws a noise level for each sample.

Cost: no repatching and no second copy of a weight; the slider's own products at every call, in float32.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import nn

from ..backend import few_numbers
from ..layers.caches import forget, watched_as
from ..layers.layer import Target
from ..lora.algorithm import LayerWeight
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..lora.strength import at_strength
from ..use.schedule import Window
from .assumptions import Feature, need_feature
from .autograd_through import without_memory
from .layer_names import needs_base, on_model

KEY = "slider_lora_live"
HALVINGS = 40  # of the interval 0..1, in which the percent of a sigma is looked for
ADAPTERS_KEPT = 4  # per model
# By model and hash of the weights, newest last, for as long as the model lives: a graph makes its live sliders anew for every
# change of a strength, and sliders of the same weights share one copy of them.
_RECENT_ADAPTERS: WeakKeyDictionary[nn.Module, dict[str, Adapter]] = WeakKeyDictionary()


def percent_of(sampling: Any, sigma: float) -> float:
    """The percent that `sampling`, a model's noise schedule, turns into this sigma: the inverse of its percent_to_sigma."""
    low = 0.0
    high = 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float(sampling.percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return (low + high) / 2


class LiveSlider:
    """One slider at a strength, as a wrapper of apply_model."""

    def __init__(self, adapter: Adapter, strength: float, window: Window) -> None:
        self.adapter = adapter
        self.strength = strength
        self.window = window
        self._last: list[float] | None = None
        self._calls = 0  # of the sampling that runs, in which the slider acted

    @property
    def fingerprint(self) -> str:
        """A short hash that tells two live sliders apart by what they do."""
        digest = hashlib.sha256(repr((self.strength, self.window)).encode())
        for target, parameter in self.adapter.named_parameters():
            digest.update(f"{target}".encode() + few_numbers(parameter))
        return digest.hexdigest()[:8]

    def strengths(self, sampling: Any, sigma_R: torch.Tensor) -> list[float]:
        """The strength of each row of a call, or one for all of them.

        Inside the window as ComfyUI counts it: start >= sigma >= end, in sigma's own number format.
        """
        if not self.window.changes:
            return [self.strength]
        start = float(sampling.percent_to_sigma(self.window.start))
        end = float(sampling.percent_to_sigma(self.window.end))
        outside = (sigma_R > start) | (sigma_R < end)
        shares: dict[float, float] = {}
        strengths = []
        for sigma, is_outside in zip(sigma_R.tolist(), outside.tolist(), strict=True):
            if is_outside:
                strengths.append(0.0)
                continue
            if sigma not in shares:
                shares[sigma] = self._share(sampling, sigma)
            strengths.append(self.strength * shares[sigma])
        return strengths if len(set(strengths)) > 1 else strengths[:1]

    def _share(self, sampling: Any, sigma: float) -> float:
        return self.window.share(percent_of(sampling, sigma)) if self.window.points else 1.0

    def __call__(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        base = executor.class_obj
        module: nn.Module = getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)
        strengths = self.strengths(base.model_sampling, t.reshape(len(t), -1)[:, 0])
        if strengths != self._last:
            forget(module)  # keys and values of another strength
            self._last = strengths
        if not any(strengths):
            return executor(x, t, *args, **kwargs)
        self.adapter.to(x.device)
        self._calls += 1
        with watched_as(self._calls), at_strength(self.adapter, module, strengths, by_row=True):
            return executor(x, t, *args, **kwargs)

    def rest(self, *_patcher: Any) -> None:
        """After a sampling: off the device."""
        self._last = None
        self._calls = 0
        self.adapter.to(torch.device("cpu"))


def live_sliders(model: Any) -> list[LiveSlider]:
    """The live sliders that a MODEL carries, in the order in which they were put on."""
    sliders = []
    for key, wrappers in model.wrappers.get(WrappersMP.APPLY_MODEL, {}).items():
        if str(key).startswith(KEY):
            sliders += wrappers
    return sliders


def _hash(weights: Mapping[Target, LayerWeight]) -> str:
    digest = hashlib.sha256()
    for target, weight in weights.items():
        digest.update(f"{target} {weight.kind} {weight.alpha}".encode())
        for tensor in weight.tensors.values():
            digest.update(few_numbers(tensor))
    return digest.hexdigest()


def _adapter(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> Adapter:
    """An adapter with these weights, that of the last time where they are the same."""
    recent = _RECENT_ADAPTERS.setdefault(module, {})
    key = _hash(weights)
    adapter = recent.pop(key, None)
    if adapter is None or needs_base(weights):  # whose base may be another one now
        adapter = Adapter.from_weights(module, weights)
        for parameter in adapter.parameters():
            parameter.requires_grad_(False)  # whoever trains on this MODEL trains another one
    recent[key] = adapter
    while len(recent) > ADAPTERS_KEPT:
        del recent[next(iter(recent))]
    return adapter.twin()


def beside_model(model: Any, slider: Slider, strength: float, window: Window) -> Any:
    """A clone of a MODEL that runs with the slider at `strength` (a LoRA weight) beside its weights."""
    need_feature(Feature.LIVE)
    adapter = _adapter(model.model.diffusion_model, on_model(slider.cut(), model).weights)
    live = LiveSlider(adapter, strength, window)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}/{uuid.uuid4()}", live)
    patched.add_callback(CallbacksMP.ON_CLEANUP, live.rest)
    return without_memory(patched)
