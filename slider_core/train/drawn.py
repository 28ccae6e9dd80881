"""What a slider changes in pictures that are drawn, against what the two images of a pair differ in.

The picture halfway between the two images of a pair is noised until the model must decide anew what sets them apart, and drawn to
the end at minus and at plus, a distilled model at the noise levels of its sampler. What both pictures show stands where it stands
in the pair, so the way between them can be measured along the pair's own difference D:

    share      <plus - minus, D> / |D|^2     1: all that the images differ in, 0: nothing of it, whatever else may change
    distance   |plus - minus| / |D|          several times 1: far beyond the images; much more than the share: other things change
    length     the same where the images differ: by more than PLAIN of the most that they do

A learned share (displacement.py) is an average over noise that leaves open what becomes of a place; this is what a user sees.
Sliders that were never trained lie within a tenth of 0 (docs/progress.md). Where clips differ in motion the picture halfway
shows what moves at both places, and a slider that chooses one of them need move nothing in a clip that is drawn anew
(docs/video-and-edit.md): what is read there proves nothing, and `in_place` says so. Of prompts the two pictures that the model
draws at either prompt take the place of the images, and all begins from noise. Of a slider that is trained on its plus side
alone, plus is measured against what the model draws at 0, from the noised negative image.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, Conditioning, per_sample, seeded
from ..encode.alignment import differ_in_motion
from ..encode.called_levels import EDGE, called_levels, nearest_levels
from ..encode.encoder import Sample, widest_pairs
from ..encode.text_latents import drawn_from
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.one_way import is_one_way
from ..objective.prompt_targets import measured_on
from ..objective.step_loss import masked_mean

PAIRS, STEPS = 4, 4
MOST_STEPS = 8  # of a distilled model's own, of which it else makes every second or third
BEGIN = 0.75  # position in the noise schedule from which pairs are drawn
NOISE = 0.999  # and all else
OWN = 0.25  # share over length: of a change that leads nowhere it is near 0
PLAIN = 0.2  # of the largest difference of a pair: a place that differs by more is one where they differ


@dataclass(frozen=True)
class Drawn:
    """What was drawn at the LoRA weights +-`strength`: mean share and distance over the pairs; None where there are no pairs that
    line up. `contrast`: the standard deviation of what was drawn over that of the images, or of what the model draws without.
    `length`: known of pairs of images whose both sides are trained. `in_place`: the pairs do not differ in motion."""

    share: float | None
    distance: float | None
    contrast: float
    strength: float = 1.0
    length: float | None = None
    in_place: bool = True

    @property
    def shows(self) -> float | None:
        """How much of the images is seen: the length, of a change that is mostly the pair's own, else the share."""
        if self.length is None or self.share is None or self.share < OWN * self.length:
            return self.share
        return self.length


@dataclass(frozen=True)
class _Scene:
    """What both ends are drawn from, one row for each picture, and the way that they are measured along."""

    latent: torch.Tensor
    noise: torch.Tensor
    conds: tuple[Conditioning, ...]
    masks: tuple[torch.Tensor | None, ...]
    begin: float = NOISE  # position in the noise schedule
    apart: torch.Tensor | None = None
    contrast: float = 1.0
    where: torch.Tensor | None = None  # (rows, 1, ...) 1 where the images of a pair differ, else 0
    in_place: bool = True

    def first(self, rows: int) -> _Scene:
        apart, where = (None if x is None else x[:rows] for x in (self.apart, self.where))
        latent, noise = self.latent[:rows], self.noise[:rows]
        conds, masks = self.conds[:rows], self.masks[:rows]
        return replace(self, latent=latent, noise=noise, conds=conds, masks=masks, apart=apart, where=where)


class Drawing:
    """Draws both ends from fixed noise, at one strength after another. Call inside `backend.borrowed()` with the slider attached.

    `few_steps`: the sampler's steps of a distilled model; 0: of an ordinary one; None: as the backend says. Cost: 2 PAIRS x STEPS
    samples for each strength; before the first, for prompts as many again, without pairs half as many.
    """

    def __init__(
        self,
        backend: Backend,
        adapter: Adapter,
        samples: Sequence[Sample],
        on_pass: Callable[[], None],
        few_steps: int | None = None,
    ) -> None:
        self._few_steps = backend.few_steps if few_steps is None else few_steps
        self._backend = backend
        self._adapter = adapter
        self._on_pass = on_pass
        measured = measured_on(samples)
        self._other_end = 0.0 if is_one_way(measured) else -1.0
        self._scene = self._made(measured)
        self._ends: dict[float, torch.Tensor] = {}  # by strength: all pictures at plus, then at minus

    def of_first(self, pairs: int) -> Drawing:
        """The same of so many pairs alone. What was drawn already is not drawn anew."""
        few = copy.copy(self)
        few._scene = self._scene.first(pairs)
        few._ends = {strength: _first_of_both(ends, pairs) for strength, ends in self._ends.items()}
        return few

    def _made(self, samples: Sequence[Sample]) -> _Scene:
        shape = samples[0].latent.shape
        same = [sample for sample in samples if sample.latent.shape == shape]
        pairs = widest_pairs(same)[:PAIRS]
        if same[0].prompt_pair is not None:
            return self._of_prompts([pair[0] for pair in pairs])
        if pairs and all(sample.aligned for pair in pairs for sample in pair):
            return _of_pairs(pairs, one_way=not self._other_end)
        scene = _of_noise([sample for sample in same if sample.strength > 0][:PAIRS])
        return replace(scene, contrast=float(self._drawn(scene, scene.conds, 0.0).std()))

    def _of_prompts(self, samples: Sequence[Sample]) -> _Scene:
        scene = _of_noise(samples)
        prompts = [sample.prompt_pair for sample in samples if sample.prompt_pair]
        positive = self._drawn(scene, [prompt.positive for prompt in prompts], 0.0)
        negative = self._drawn(scene, [prompt.negative for prompt in prompts], 0.0)
        return replace(scene, apart=positive - negative, contrast=float(torch.cat([positive, negative]).std()))

    def _drawn(self, scene: _Scene, conds: Sequence[Conditioning], *strengths: float) -> torch.Tensor:
        """(len(strengths) * rows, ...) on the CPU: all pictures at the first strength, then at the next."""
        times = len(strengths)
        whole = [times] + [1] * (scene.latent.ndim - 1)
        rows = list(itertools.chain.from_iterable([strength] * len(scene.latent) for strength in strengths))
        with at_strength(self._adapter, self._backend.module, rows):
            latent, noise = scene.latent.repeat(whole), scene.noise.repeat(whole)
            levels = drawn_levels(scene.begin, self._few_steps)
            return drawn_from(self._backend, latent, noise, list(conds) * times, levels, self._on_pass)

    @torch.no_grad()
    def at(self, strength: float) -> Drawn:
        """What +-`strength` draws, a LoRA weight; of a one-way slider +`strength` and 0."""
        scene = self._scene
        if strength not in self._ends:
            self._ends[strength] = self._drawn(scene, scene.conds, strength, self._other_end * strength)
        ends = self._ends[strength]
        if not bool(ends.isfinite().all()):
            return Drawn(0.0, math.inf, math.inf, strength)
        contrast = float(ends.std()) / max(scene.contrast, 1e-12)
        if scene.apart is None:
            return Drawn(None, None, contrast, strength)
        plus, minus = ends.chunk(2)
        products = ((plus - minus) * scene.apart, (plus - minus).square(), scene.apart.square())
        along, moved, apart = (masked_mean(product, scene.masks) for product in products)
        if not bool((apart > 0).all()):
            return Drawn(0.0, None, contrast, strength)
        length = None
        if scene.where is not None:
            moved_there, apart_there = (masked_mean(product * scene.where, scene.masks) for product in products[1:])
            length = float((moved_there / apart_there).sqrt().mean())
        share, distance = float((along / apart).mean()), float((moved / apart).sqrt().mean())
        return Drawn(share, distance, contrast, strength, length, scene.in_place)


def _first_of_both(ends: torch.Tensor, rows: int) -> torch.Tensor:
    plus, minus = ends.chunk(2)
    return torch.cat([plus[:rows], minus[:rows]])


def drawn_levels(begin: float, few_steps: int) -> list[float]:
    """Where a model is called to draw from position `begin` of the noise schedule on, the highest first: at STEPS levels evenly
    apart, or those of a distilled model's sampler, of `few_steps` steps, from the one nearest to `begin` on."""
    if not few_steps:
        levels: list[float] = torch.linspace(begin, EDGE, STEPS + 1)[:-1].tolist()
        return levels
    called = called_levels(few_steps)
    (first,) = nearest_levels((begin,), called)
    left = called[called.index(first) :]
    return list(left[:: math.ceil(len(left) / MOST_STEPS)])


def _of_pairs(pairs: Sequence[Sequence[Sample]], one_way: bool) -> _Scene:
    """Each picture with the caption of one of its images: captions may say what sets the two apart."""
    positive, negative = (torch.stack([pair[side].latent.float() for pair in pairs]) for side in (0, 1))
    captioned = [pair[number % 2] for number, pair in enumerate(pairs)]
    middle = negative if one_way else (positive + negative) / 2
    conds = tuple(sample.cond for sample in captioned)
    masks = tuple(sample.mask for sample in captioned)
    contrast = float(torch.cat([positive, negative]).std())
    apart = positive - negative
    scene = _Scene(middle, _noises(middle), conds, masks, BEGIN, apart, contrast, None if one_way else _where(apart))
    return replace(scene, in_place=not differ_in_motion(positive.unbind(), negative.unbind()))


def _where(apart: torch.Tensor) -> torch.Tensor:
    size = apart.square().sum(dim=1, keepdim=True)
    return (size > PLAIN**2 * per_sample(size.flatten(1).amax(dim=1), size)).float()


def _of_noise(samples: Sequence[Sample]) -> _Scene:
    latent = torch.zeros_like(torch.stack([sample.latent.float() for sample in samples]))
    return _Scene(latent, _noises(latent), tuple(sample.cond for sample in samples), (None,) * len(samples))


def _noises(latent: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.randn(latent.shape[1:], generator=seeded(0, f"drawn {n}")) for n in range(len(latent))])
