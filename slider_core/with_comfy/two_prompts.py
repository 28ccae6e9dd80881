"""Before/after images by the loaded model itself: two prompts from the same noise, as KSampler would draw each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import torch

from ..config.checks import need
from ..data.pair_prompts import PairPrompts
from ..use.pair_folder import DrawnPair, sorted_out
from ..use.sampling import SamplingRequest
from .sampling import first_latent, sampled
from .sampling_request import ModelSampling, sampling_on_model

MOST_DRAWN = 3  # times the pairs that are wanted: then it ends with fewer


@dataclass(frozen=True)
class PairDrawer:
    """A model that draws pairs of a concept. `files`: names of checkpoint and LoRAs, by which distilled models are known."""

    request: SamplingRequest
    model: Any
    vae: Any
    clip: Any
    files: tuple[str, ...] = ()

    def draw(self, prompts: PairPrompts, subject: str, seed: int) -> DrawnPair:
        """One pair from the noise of `seed`."""
        both = prompts.prompts(subject)
        return DrawnPair(self._image(both[0], seed), self._image(both[1], seed), subject, both, seed)

    def _image(self, prompt: str, seed: int) -> torch.Tensor:
        """(3, H, W) in [0, 1]; of a clip its middle frame."""
        request = replace(self.request, prompt=prompt, seed=seed, positive=None, library=None)
        image = self.vae.decode(_latents(sampling_on_model(request, self.model, self.files, self.clip)))
        if image.ndim == 5:
            image = image[:, image.shape[1] // 2]
        return image[0, ..., :3].movedim(-1, 0).detach().float().cpu().clamp(0, 1)


def _latents(drawing: ModelSampling) -> torch.Tensor:
    first = first_latent(drawing.model, drawing.sampling)
    noise = comfy.sample.prepare_noise(first, drawing.sampling.seed)
    return sampled(drawing.model, drawing.sampling, noise, first)


@dataclass(frozen=True)
class DrawnPairs:
    """`kept` pairs, and a line for each that was drawn and left out."""

    kept: list[DrawnPair]
    left_out: list[str]


def given_pairs(positive_BHWC: torch.Tensor, negative_BHWC: torch.Tensor, prompts: PairPrompts) -> DrawnPairs:
    """Pairs out of a graph: image 1 of each side, and so on, without those that the pair doctor calls useless."""
    shapes = f"{tuple(positive_BHWC.shape)} and {tuple(negative_BHWC.shape)}"
    message = f"positive_images and negative_images differ in number or size: {shapes}. Give as many, of one size."
    need(positive_BHWC.shape == negative_BHWC.shape, message, "pairs.sizes")
    subject = prompts.subjects[0] if len(prompts.subjects) == 1 else ""
    pairs = []
    for both in zip(positive_BHWC, negative_BHWC, strict=True):
        positive, negative = (image[..., :3].movedim(-1, 0).float().cpu() for image in both)
        pairs.append(DrawnPair(positive, negative, subject))
    useless = sorted_out(pairs)
    kept = [pair for place, pair in enumerate(pairs) if place not in useless]
    return DrawnPairs(kept, [f"Left out, pair {place + 1}: {why}." for place, why in useless.items()])


def draw_pairs(
    drawer: PairDrawer, prompts: PairPrompts, count: int, seed: int, on_pair: Callable[[int, int], object]
) -> DrawnPairs:
    """`count` pairs that are of use, the subjects in turn, each from the next seed. Those that the pair doctor calls useless are
    drawn again from other seeds, up to three times as many in all. `on_pair`: called with pairs drawn and wanted."""
    drawn: list[DrawnPair] = []
    useless: dict[int, str] = {}
    while len(drawn) - len(useless) < count and len(drawn) < MOST_DRAWN * count:
        for _ in range(min(count - (len(drawn) - len(useless)), MOST_DRAWN * count - len(drawn))):
            place = len(drawn)
            subject = prompts.subjects[place % len(prompts.subjects)]
            drawn.append(drawer.draw(prompts, subject, seed + place))
            on_pair(min(len(drawn), count), count)
        useless = sorted_out(drawn)
    kept = [pair for place, pair in enumerate(drawn) if place not in useless]
    left_out = []
    for place, why in useless.items():
        about = f" of {drawn[place].caption}" if drawn[place].caption else ""
        left_out.append(f"Left out, seed {drawn[place].seed}{about}: {why}.")
    return DrawnPairs(kept[:count], left_out)
