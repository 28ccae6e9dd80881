"""ControlNets while a slider trains: the control of a batch, computed as ComfyUI's sampler computes it, row by row where it must.

A control is an object of comfy.controlnet that a CONDITIONING carries (ControlNetApplyAdvanced puts it there), maybe with others
before it. It remembers the hint at the latent's size and looks only at the first row's noise level for its start and end, so
rows with other hints, or on the other side of start or end, are computed apart and put together again: zeros where there is none.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import comfy.controlnet
import comfy.samplers
import torch

from ..backend import few_numbers, module_fingerprint
from ..config.checks import SliderError
from ..encode.encoder import Sample, pairs_of
from ..layers.sample_rows import picking

HINT = "slider_hint"  # key of a conditioning: which of the hints belongs to its sample
Control = dict[str, list[torch.Tensor | None]]  # what a ControlNet gives the diffusion model


def joined(conds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The model's conditions of several samples as those of one batch, usable by autograd."""
    return {k: _to_normal(v) for k, v in comfy.samplers.cond_cat(conds).items()}


def joinable(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two samples' conditions fit into one batch."""
    return first.keys() == other.keys() and all(first[k].can_concat(other[k]) for k in first)


def _to_normal(value: Any) -> Any:
    """Small inputs out of inference mode, by a copy."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.is_inference() else value
    return [_to_normal(v) for v in value] if isinstance(value, list) else value


def chain(control: Any) -> Iterator[Any]:
    """A control and those before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def control_in(conditioning: Any) -> Any:
    """The control that a CONDITIONING carries, or None."""
    return next((extra["control"] for _, extra in conditioning or () if extra.get("control") is not None), None)


def modules_of(control: Any) -> list[torch.nn.Module]:
    """The networks of a control and of those before it, as far as they have one that stays."""
    found = (getattr(link, "control_model", None) for link in chain(control))
    return [module for module in found if isinstance(module, torch.nn.Module)]


def active(control: Any, sigma: float) -> tuple[bool, ...]:
    """Which links of a control act at that noise level, as `get_control` decides it."""
    ranges = (link.timestep_range for link in chain(control))
    return tuple(r is None or not (sigma > r[0] or sigma < r[1]) for r in ranges)


def rows_of(hint: Any, row: int) -> Any:
    """One picture of a batch of hints; a single one is everyone's."""
    return hint[row : row + 1] if isinstance(hint, torch.Tensor) and hint.shape[0] > 1 else hint


class _Silent(torch.nn.Module):
    """In a ControlNet's place when only its hint is wanted."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, **_inputs: Any) -> dict[str, list[torch.Tensor]]:
        return {}


def _same(picture: Any) -> Any:
    return picture


@torch.no_grad()
def _encoded(link: Any, latent_BCHW: torch.Tensor, sampling: Any) -> None:
    """Where a ControlNet wants its hint through a VAE: do that now, for latents of this size, so that no VAE pushes the model
    out of memory while it trains."""
    if link.vae is None or not isinstance(getattr(link, "control_model", None), torch.nn.Module):
        return
    trial = link.copy()
    trial.control_model, trial.model_sampling_current = _Silent(link.control_model.dtype), sampling
    sigma = latent_BCHW.new_ones(1)
    comfy.controlnet.ControlNet.get_control(trial, latent_BCHW, sigma, {"c_crossattn": latent_BCHW}, 1, {})
    link.cond_hint_original, link.vae, link.latent_format = trial.cond_hint.cpu(), None, None
    link.preprocess_image, link.extra_concat_orig = _same, []


class Hints:
    """The control of a CONDITIONING with its hints apart: one for all samples, or one per sample or pair. The caller's control
    is left as it is: these are copies, which share its network."""

    def __init__(self, conditioning: Any, whole: bool = False) -> None:
        """`whole`: at every noise level, whatever start and end say. SliderError when the conditioning carries no control."""
        self.control = control_in(conditioning)
        if self.control is None:
            raise SliderError("control: no ControlNet in this conditioning; connect that of Apply ControlNet.")
        self.whole = whole
        self.count = max(self._size(link) for link in chain(self.control))
        self._copies: dict[tuple[int, tuple[int, ...]], Any] = {}

    @staticmethod
    def _size(link: Any) -> int:
        hint = link.cond_hint_original
        return hint.shape[0] if isinstance(hint, torch.Tensor) else 1

    def fingerprint(self) -> str:
        """A short hash of the networks, the hints, their strengths, starts and ends."""
        digest = hashlib.sha256()
        for link in chain(self.control):
            digest.update(f"{type(link).__name__} {link.strength} {link.timestep_percent_range} {self._size(link)}".encode())
            if isinstance(link.cond_hint_original, torch.Tensor):
                digest.update(b"".join(few_numbers(row) for row in link.cond_hint_original))
        digest.update("".join(module_fingerprint(module) for module in modules_of(self.control)).encode())
        return f"{type(self.control).__name__} {self.count} hints {digest.hexdigest()[:8]}"

    def given_out(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with the number of their hint in their conditioning. SliderError when there are not as many as needed."""
        pairs = sorted({s.pair for s in samples if s.pair is not None})
        if self.count == 1:
            numbers = [0] * len(samples)
        elif self.count == len(samples):
            numbers = list(range(len(samples)))
        elif self.count == len(pairs) and all(s.pair is not None for s in samples):
            numbers = [pairs.index(s.pair) for s in samples]
        else:
            per_pair = f", {len(pairs)} (one per pair)" if pairs and len(pairs_of(samples)) * 2 == len(samples) else ""
            raise SliderError(
                f"control: {self.count} control images for {len(samples)} training images; "
                f"give 1 (for all){per_pair} or {len(samples)} (one each, in the order of the dataset)."
            )
        told: dict[tuple[int, int], Any] = {}

        def hinted(cond: Any, number: int) -> Any:
            return told.setdefault((id(cond), number), replace(cond, value=_with(cond.value, HINT, number)))

        def one(sample: Sample, number: int) -> Sample:
            prompt_pair = sample.prompt_pair and replace(
                sample.prompt_pair,
                positive=hinted(sample.prompt_pair.positive, number),
                negative=hinted(sample.prompt_pair.negative, number),
            )
            return replace(sample, cond=hinted(sample.cond, number), prompt_pair=prompt_pair)

        return [one(s, n) for s, n in zip(samples, numbers, strict=True)]

    def encode(self, samples: Sequence[Sample], sampling: Any, device: torch.device) -> None:
        """Bring the hints that go through a VAE to the sizes of the samples' latents. Before the model is borrowed."""
        for sample in samples:
            for link in chain(self.of(sample.cond.value, sample.latent.shape)):
                _encoded(link, torch.zeros(1, *sample.latent.shape, device=device), sampling)

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
            own = link.copy()
            own.cond_hint_original = rows_of(own.cond_hint_original, number)
            own.extra_concat_orig = [rows_of(extra, number) for extra in own.extra_concat_orig]
            if self.whole:
                own.timestep_percent_range = (0.0, 1.0)
            links.append(own)
        for own, before in itertools.pairwise(links):
            own.set_previous_controlnet(before)
        return links[0]


def _with(conditioning: Any, key: str, value: Any) -> list[list[Any]]:
    return [[text, extra | {key: value}] for text, extra in conditioning]


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
        for control in self._begun.values():
            control.cleanup()
        self._begun.clear()


def control_of_rows(
    controls: Sequence[Any],
    x_BCHW: torch.Tensor,
    sigma_B: torch.Tensor,
    joined_rows: Callable[[list[int]], dict[str, Any]],
    options: dict[str, Any],
    samples: Sequence[int] | None = None,
) -> Control | None:
    """What the ControlNets give for a batch: `controls` has one (or None) per row; None when no row has any.

    `joined_rows(rows)` are the model's conditions of those rows, `samples` which samples of the whole batch the rows are. Call it
    with gradients on only when the ControlNet itself is trained.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, control in enumerate(controls):
        on = control is not None and active(control, float(sigma_B[row]))
        groups.setdefault((id(control), on) if on and any(on) else (), []).append(row)
    parts: list[tuple[list[int], Control | None]] = []
    for key, rows in groups.items():
        found = None
        if key:
            whole = len(rows) == len(controls)
            mine = samples if whole else [samples[r] if samples else r for r in rows]
            with picking(mine):
                x, sigma = (x_BCHW, sigma_B) if whole else (x_BCHW[rows], sigma_B[rows])
                found = controls[rows[0]].get_control(x, sigma, joined_rows(rows), 1, options)
        parts.append((rows, found))
    return together(parts)


def together(parts: Sequence[tuple[list[int], Control | None]]) -> Control | None:
    """The control of several groups of rows as that of one batch, in the order of the rows. SliderError where they differ in
    kind, as two ControlNets of different sizes do."""
    given = [control for _, control in parts if control is not None]
    if len(parts) == 1 or not given:
        return given[0] if given else None
    counts = [{name: len(entries) for name, entries in control.items()} for control in given]
    if any(count != counts[0] for count in counts):
        raise SliderError("The ControlNets of one batch are of different kinds: train them one at a time.")
    order = [row for rows, _ in parts for row in rows]
    back = torch.tensor([order.index(row) for row in range(len(order))])
    known: dict[tuple[int, ...], torch.Tensor | None] = {}  # Flux uses one tensor for many blocks

    def entry(name: str, place: int) -> torch.Tensor | None:
        mine = [None if control is None else control[name][place] for _, control in parts]
        key = tuple(map(id, mine))
        if key not in known:
            known[key] = _cat(mine, [len(rows) for rows, _ in parts], back)
        return known[key]

    return {name: [entry(name, place) for place in range(count)] for name, count in counts[0].items()}


def _cat(tensors: Sequence[torch.Tensor | None], sizes: Sequence[int], back: torch.Tensor) -> torch.Tensor | None:
    like = next((t for t in tensors if t is not None), None)
    if like is None:
        return None
    whole = [like.new_zeros(n, *like.shape[1:]) if t is None else t for t, n in zip(tensors, sizes, strict=True)]
    return torch.cat([t.expand(n, *t.shape[1:]) for t, n in zip(whole, sizes, strict=True)])[back.to(like.device)]


def models_of(controls: Iterable[Any]) -> list[Any]:
    """The patchers that the host has to load for these controls, each once."""
    return list({id(m): m for control in controls for m in control.get_models()}.values())
