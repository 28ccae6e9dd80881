"""ControlNets while a slider trains: the control that a CONDITIONING carries, with a hint (a control image) for each sample.

A control is an object of comfy.controlnet (ControlNetApplyAdvanced puts it there), maybe with others before it. It remembers the
hint at the latent's size, so each sample has a copy of it, which shares its network.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import comfy.controlnet
import torch
from torch import nn

from ..backend import Conditioning, few_numbers, module_fingerprint
from ..config.checks import SliderError, need
from ..encode.encoder import Sample, pairs_of

HINT = "slider_hint"  # key of a conditioning: which of the hints belongs to its sample


def chain(control: Any) -> Iterator[Any]:
    """A control and those before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def control_in(conditioning: Any) -> Any:
    """The control that a CONDITIONING carries, or None."""
    for _, extra in conditioning or ():
        if extra.get("control") is not None:
            return extra["control"]
    return None


def modules_of(control: Any) -> list[nn.Module]:
    """The networks of a control and of those before it, as far as they have one that stays."""
    modules = []
    for link in chain(control):
        module = getattr(link, "control_model", None)
        if isinstance(module, nn.Module):
            modules.append(module)
    return modules


def models_of(controls: Iterable[Any]) -> list[Any]:
    """The patchers that the host has to load for these controls, each once."""
    patchers = {}
    for control in controls:
        for patcher in control.get_models():
            patchers[id(patcher)] = patcher
    return list(patchers.values())


def network(control_net: Any) -> nn.Module:
    """The network of a CONTROL_NET. SliderError when it has none of its own."""
    module = getattr(control_net, "control_model", None)
    if not isinstance(module, nn.Module):
        raise SliderError(
            f"control_net: a {type(control_net).__name__} has no network of its own that a slider could lie in; "
            "load a full ControlNet.",
            "controlnet.no_network",
        )
    return module


def _hint_of(hint: Any, row: int) -> Any:
    """One image of a batch of hints; a single one serves all samples."""
    return hint[row : row + 1] if isinstance(hint, torch.Tensor) and hint.shape[0] > 1 else hint


class _Silent(nn.Module):
    """In a ControlNet's place when only its hint is wanted."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, **_inputs: Any) -> dict[str, list[torch.Tensor]]:
        return {}


def _unchanged(image: Any) -> Any:
    return image


@torch.no_grad()
def _encode_hint(link: Any, latent_BCHW: torch.Tensor, sampling: Any) -> None:
    """Where a ControlNet wants its hint through a VAE: do that now, for latents of this size, so that no VAE pushes the model
    out of memory while it trains."""
    if link.vae is None or not isinstance(getattr(link, "control_model", None), nn.Module):
        return
    trial = link.copy()
    trial.control_model = _Silent(link.control_model.dtype)
    trial.model_sampling_current = sampling
    sigma = latent_BCHW.new_ones(1)
    comfy.controlnet.ControlNet.get_control(trial, latent_BCHW, sigma, {"c_crossattn": latent_BCHW}, 1, {})
    link.cond_hint_original = trial.cond_hint.cpu()
    link.vae = None
    link.latent_format = None
    link.preprocess_image = _unchanged
    link.extra_concat_orig = []


def _count(link: Any) -> int:
    hint = link.cond_hint_original
    return hint.shape[0] if isinstance(hint, torch.Tensor) else 1


def with_hint(conditioning: Any, number: int) -> list[list[Any]]:
    """A CONDITIONING that says which of the hints belongs to it."""
    return [[text, extra | {HINT: number}] for text, extra in conditioning]


class Hints:
    """The control of a CONDITIONING with its hints apart: one for all samples, or one per sample or pair. The caller's control
    is left as it is: these are copies, which share its network."""

    def __init__(self, conditioning: Any, whole: bool = False) -> None:
        """`whole`: at every noise level, whatever start and end say. SliderError when the conditioning carries no control."""
        self.control = control_in(conditioning)
        message = "control: no ControlNet in this conditioning; connect that of Apply ControlNet."
        need(self.control is not None, message, "control.no_controlnet")
        self.whole = whole
        self.count = max(_count(link) for link in chain(self.control))
        self._copies: dict[tuple[int, tuple[int, ...]], Any] = {}

    def fingerprint(self) -> str:
        """A short hash of the networks, the hints, their strengths, starts and ends."""
        digest = hashlib.sha256()
        for link in chain(self.control):
            digest.update(f"{type(link).__name__} {link.strength} {link.timestep_percent_range} {_count(link)}".encode())
            if isinstance(link.cond_hint_original, torch.Tensor):
                digest.update(b"".join(few_numbers(row) for row in link.cond_hint_original))
        for module in modules_of(self.control):
            digest.update(module_fingerprint(module).encode())
        return f"{type(self.control).__name__} {self.count} hints {digest.hexdigest()[:8]}"

    def _numbers(self, samples: Sequence[Sample]) -> list[int]:
        """Which hint belongs to each sample. SliderError when there are not as many as needed."""
        if self.count == 1:
            return [0] * len(samples)
        if self.count == len(samples):
            return list(range(len(samples)))
        numbers = [sample.pair for sample in samples if sample.pair is not None]
        pairs = sorted(set(numbers))
        if self.count == len(pairs) and len(numbers) == len(samples):
            return [pairs.index(number) for number in numbers]
        per_pair = ""
        if pairs and len(pairs_of(samples)) * 2 == len(samples):
            per_pair = f", {len(pairs)} (one per pair)"
        raise SliderError(
            f"control: {self.count} control images for {len(samples)} training images; "
            f"give 1 (for all){per_pair} or {len(samples)} (one each, in the order of the dataset).",
            "control.count",
        )

    def given_out(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with the number of their hint in their conditioning. SliderError when there are not as many as needed."""
        hinted: dict[tuple[int, int], Conditioning] = {}  # samples that share a prompt and a hint share one object

        def hint(cond: Conditioning, number: int) -> Conditioning:
            key = id(cond), number
            if key not in hinted:
                hinted[key] = replace(cond, value=with_hint(cond.value, number))
            return hinted[key]

        numbered = []
        for sample, number in zip(samples, self._numbers(samples), strict=True):
            pair = sample.prompt_pair
            if pair is not None:
                pair = replace(pair, positive=hint(pair.positive, number), negative=hint(pair.negative, number))
            others = tuple(hint(cond, number) for cond in sample.other_conds)
            swapped = tuple(hint(cond, number) for cond in sample.swapped_conds)
            one = replace(sample, cond=hint(sample.cond, number), prompt_pair=pair, other_conds=others)
            numbered.append(replace(one, swapped_conds=swapped))
        return numbered

    def encode(self, samples: Sequence[Sample], sampling: Any, device: torch.device) -> None:
        """Bring the hints that go through a VAE to the sizes of the samples' latents. Before the model is borrowed."""
        for sample in samples:
            for link in chain(self.of(sample.cond.value, sample.latent.shape)):
                _encode_hint(link, torch.zeros(1, *sample.latent.shape, device=device), sampling)

    def of(self, conditioning: Any, latent_shape: Sequence[int]) -> Any:
        """The control of a sample's conditioning, with its own hint, for latents (C, ..., H, W) of that shape."""
        number = next((extra[HINT] for _, extra in conditioning if HINT in extra), 0)
        key = number, tuple(latent_shape)
        if key not in self._copies:
            self._copies[key] = self._copied(self.control, number)
        return self._copies[key]

    def _copied(self, control: Any, number: int) -> Any:
        links = []
        for link in chain(control):
            copy = link.copy()
            copy.cond_hint_original = _hint_of(copy.cond_hint_original, number)
            copy.extra_concat_orig = [_hint_of(extra, number) for extra in copy.extra_concat_orig]
            if self.whole:
                copy.timestep_percent_range = (0.0, 1.0)
            links.append(copy)
        for link, before in itertools.pairwise(links):
            link.set_previous_controlnet(before)
        return links[0]


class Running:
    """The controls of a run: begun when they are first seen, as the sampler begins them, and cleaned up at the end."""

    def __init__(self) -> None:
        self._begun: dict[int, Any] = {}

    @torch.inference_mode()  # some copy weights of the diffusion model into themselves, which may be inference tensors
    def begin(self, control: Any, model: Any) -> None:
        """`pre_run`, once. `model` is ComfyUI's BaseModel."""
        if id(control) not in self._begun:
            self._begun[id(control)] = control  # held: an id is reused
            control.pre_run(model, model.model_sampling.percent_to_sigma)

    def end(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._begun.clear)
            for control in self._begun.values():
                stack.callback(control.cleanup)
