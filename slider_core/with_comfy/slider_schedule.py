"""A slider on a MODEL: merged into the weights, or live, beside them, with a strength that follows the sampler.

Live is a wrapper around BaseModel.apply_model (every architecture has it) that hooks the slider's layers for the length of one
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
from ..config.checks import SliderError, choice
from ..layers.layer import Target
from ..lora.algorithm import LayerWeight
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..lora.strength import at_strength
from ..use.schedule import Mode, Window
from .autograd_through import forget_prompts, without_memory
from .slider_on_model import needs_base, on_model, with_slider

KEY = "slider_lora_live"
KEPT = 4  # adapters per model that are at hand for another strength
_MADE: WeakKeyDictionary[nn.Module, dict[str, Adapter]] = WeakKeyDictionary()
HALVINGS = 40  # of the interval 0..1, in which the percent of a sigma is looked for


def percent_of(sampling: Any, sigma: float) -> float:
    """The percent that `sampling`, a model's noise schedule, turns into this sigma: the inverse of its percent_to_sigma."""
    low, high = 0.0, 1.0
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
        self.adapter, self.strength, self.window = adapter, strength, window
        self._last: list[float] | None = None

    @property
    def fingerprint(self) -> str:
        """A short hash that tells two live sliders apart by what they do."""
        told = repr((self.strength, self.window)).encode()
        named = (f"{target}".encode() + few_numbers(p) for target, p in self.adapter.named_parameters())
        return hashlib.sha256(told + b"".join(named)).hexdigest()[:8]

    def strengths(self, sampling: Any, sigma_R: torch.Tensor) -> list[float]:
        """The strength of each row of a call, or one for all of them.

        Inside the window as ComfyUI counts it: start >= sigma >= end, in sigma's own number format.
        """
        if not self.window.changes:
            return [self.strength]
        start, end = (float(sampling.percent_to_sigma(percent)) for percent in (self.window.start, self.window.end))
        acts = ~((sigma_R > start) | (sigma_R < end))
        at = {sigma: self.strength * self._share(sampling, sigma) for sigma in set(sigma_R[acts].tolist())}
        found = [at[sigma] if inside else 0.0 for sigma, inside in zip(sigma_R.tolist(), acts.tolist(), strict=True)]
        return found if len(set(found)) > 1 else found[:1]

    def _share(self, sampling: Any, sigma: float) -> float:
        return self.window.share(percent_of(sampling, sigma)) if self.window.points else 1.0

    def __call__(self, executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        base = executor.class_obj
        module: nn.Module = getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)
        strengths = self.strengths(base.model_sampling, t.reshape(len(t), -1)[:, 0])
        if strengths != self._last:
            forget_prompts(module)  # keys and values of another strength
            self._last = strengths
        if not any(strengths):
            return executor(x, t, *args, **kwargs)
        self.adapter.to(x.device)
        with at_strength(self.adapter, module, strengths, by_row=True):
            return executor(x, t, *args, **kwargs)

    def rest(self, *_patcher: Any) -> None:
        """After a sampling: off the device."""
        self._last = None
        self.adapter.to(torch.device("cpu"))


def live_sliders(model: Any) -> list[LiveSlider]:
    """The live sliders that a MODEL carries, in the order in which they were put on."""
    wrappers = model.wrappers.get(WrappersMP.APPLY_MODEL, {})
    return [w for key, some in wrappers.items() if str(key).startswith(KEY) for w in some]


def _adapter(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> Adapter:
    """An adapter with these weights, that of the last time where they are the same: another strength is then no work."""
    content = [f"{t} {w.kind} {w.alpha}".encode() + b"".join(map(few_numbers, w.tensors.values())) for t, w in weights.items()]
    key, made = hashlib.sha256(b"".join(content)).hexdigest(), _MADE.setdefault(module, {})
    adapter = made.pop(key, None)
    if adapter is None or needs_base(weights):  # whose base may be another one now
        adapter = Adapter.from_weights(module, weights)
        for p in adapter.parameters():
            p.requires_grad_(False)  # whoever trains on this MODEL trains another one
    made[key] = adapter
    while len(made) > KEPT:
        del made[next(iter(made))]
    return adapter.twin()


def with_live(model: Any, slider: Slider, strength: float, window: Window) -> Any:
    """A clone of a MODEL that runs with the slider beside its weights."""
    adapter = _adapter(model.model.diffusion_model, on_model(slider, model).weights)
    live, patched = LiveSlider(adapter, strength, window), model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}/{uuid.uuid4()}", live)
    patched.add_callback(CallbacksMP.ON_CLEANUP, live.rest)
    return without_memory(patched)


def applied(model: Any, slider: Slider, strength: float, window: Window | None = None, mode: Mode | str = Mode.AUTO) -> Any:
    """A MODEL with the slider at `strength`. At 0 the model itself.

    `auto` merges, and goes live where the strength changes over the sampling. SliderError when a change is to be merged.
    """
    window, mode = window or Window(), choice(Mode, mode, "Mode")
    if mode is Mode.MERGE and window.changes:
        raise SliderError("A merged slider cannot change during the sampling: set mode to auto, or drop window and curve.")
    if strength == 0:
        return model
    if mode is Mode.LIVE or window.changes:
        return with_live(model, slider, strength, window)
    return with_slider(model, slider, strength)
