"""A dataset with text sliders -> samples: latents that the model makes itself, or those of images, with their prompts.

The latents are made once, by an Euler loop (DDIM without noise, Song et al. 2020) over few steps at the target prompt. It is
written in the clean latent and the noise that a prediction means, hence the same for eps, v and flow. What is trained on them
stands in objective/prompt_targets.py. Cost: `count` x `steps` samples before the first training step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..backend import Backend, Conditioning, seeded
from ..config.checks import need
from ..data.bucket_spec import Latents, TextSliderSpec
from ..data.dataset import Dataset, OnImage
from .called_levels import EDGE
from .disk_cache import DiskCache
from .encoder import Encoder, PromptPair, Sample, encode
from .noised import Noised, at_levels, predict

TOGETHER = 4  # latents that are made in one pass


def _clean_and_noise(batch: Noised, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean latent and the noise that a prediction at the batch's x means."""
    clean = batch.latent + (prediction - batch.right) / batch.scale
    return clean, batch.noise + batch.ratio * (batch.latent - clean)


@torch.no_grad()
def make_latents(
    backend: Backend, noise: torch.Tensor, cond: Conditioning, steps: int, cfg: float = 1.0, empty: Conditioning | None = None
) -> torch.Tensor:
    """Clean latents like `noise` (B, C, ..., H, W) that the model draws at a prompt in so many steps, a distilled one in no more
    than its own, without a slider.

    `cfg` above 1 guides away from the prompt `empty` (Ho and Salimans 2022). Call inside `backend.borrowed()`.
    """
    steps = min(steps, backend.few_steps or steps)
    levels = torch.linspace(1 - EDGE, EDGE, steps + 1, device=backend.device)[:-1]
    clean = torch.zeros_like(noise)
    noise = noise.to(backend.device)
    for sigma in backend.sigmas(levels):
        batch = at_levels(backend, clean.to(noise), noise, sigma.expand(len(noise)), [cond] * len(noise))
        prediction = predict(backend, batch)
        if cfg != 1 and empty is not None:
            without = predict(backend, replace(batch, cond=(empty,) * len(noise)))
            prediction = without + cfg * (prediction - without)
        clean, noise = _clean_and_noise(batch, prediction)
    return clean.float().cpu()


@torch.no_grad()
def drawn_from(
    backend: Backend,
    latent: torch.Tensor,
    noise: torch.Tensor,
    conds: Sequence[Conditioning],
    levels: Sequence[float],
    on_pass: Callable[[], None],
) -> torch.Tensor:
    """Clean latents (B, C, ..., H, W) on the CPU that the model draws from `latent` under `noise`, called at these positions
    of the noise schedule, the highest first, with whatever slider is attached. `on_pass` is called after each forward pass."""
    latent = latent.to(backend.device)
    noise = noise.to(latent)
    for sigma in backend.sigmas(torch.tensor(levels, device=backend.device)):
        batch = at_levels(backend, latent, noise, sigma.expand(len(noise)), conds)
        latent, noise = _clean_and_noise(batch, predict(backend, batch))
        on_pass()
    return latent.float().cpu()


@dataclass(frozen=True)
class _LatentMaker:
    """Makes the latents of a text slider, or takes them from the disk."""

    encoder: Encoder
    text_slider: TextSliderSpec
    resolution: int
    on_latents: Callable[[int], None]

    def shape(self) -> torch.Size:
        """The shape of one latent, as the backend's own encoder has it."""
        backend = self.encoder.backend
        step = backend.image_step
        height = max(step, round((self.text_slider.height or self.resolution) / step) * step)
        width = max(step, round((self.text_slider.width or self.resolution) / step) * step)
        with torch.no_grad():
            return backend.encode_images(torch.full((1, 3, height, width), 0.5))[0].shape

    def all(self) -> list[tuple[int, torch.Tensor]]:
        """(number of the prompts, latent), each prompt as often as the others or once more. Call inside `backend.borrowed()`."""
        shape = self.shape()
        prompts = self.text_slider.prompts
        latents: list[tuple[int, torch.Tensor]] = []
        for place, (target, _, _) in enumerate(prompts):
            numbers = len(range(place, self.text_slider.count, len(prompts)))
            first = len(latents)
            latents += [(place, latent) for latent in self.at_prompt(target, range(first, first + numbers), shape)]
        return latents

    def at_prompt(self, prompt: str, numbers: range, shape: torch.Size) -> torch.Tensor:
        """(len(numbers), ...) at a target prompt, from the noise of those numbers."""
        spec = self.text_slider
        backend = self.encoder.backend
        steps = min(spec.steps, backend.few_steps or spec.steps)
        how = f"{numbers.start} {len(numbers)} {tuple(shape)} {steps} {spec.cfg} {spec.seed}"
        made_of = ("words", backend.name, backend.drawn_by(), self.encoder.text_mark, prompt, how)

        def sound(value: Any) -> bool:
            return isinstance(value, torch.Tensor) and value.shape == (len(numbers), *shape)

        latents: torch.Tensor = self.encoder.kept(made_of, lambda: self._made(prompt, numbers, shape), sound)
        return latents

    def _made(self, prompt: str, numbers: range, shape: torch.Size) -> torch.Tensor:
        cond = self.encoder.conditioning(prompt)
        empty = self.encoder.conditioning("")
        spec = self.text_slider
        batches = []
        for first in range(0, len(numbers), TOGETHER):
            batch = numbers[first : first + TOGETHER]
            noise = torch.stack([torch.randn(shape, generator=seeded(spec.seed, f"words {n}")) for n in batch])
            batches.append(make_latents(self.encoder.backend, noise, cond, spec.steps, spec.cfg, empty))
            self.on_latents(len(noise))
        latents = torch.cat(batches)
        infinite = f'The model makes no finite latents at "{prompt}": raise the steps, or lower cfg.'
        need(bool(latents.isfinite().all()), infinite, "text_slider.not_finite")
        return latents


def _text_samples(
    text_slider: TextSliderSpec, latents: Sequence[tuple[int, torch.Tensor]], encoder: Encoder, first: int
) -> list[Sample]:
    """Both signs of each latent as a pair, numbered from `first`."""
    samples = []
    for number, (place, latent) in enumerate(latents, first):
        target, positive, negative = map(encoder.conditioning, text_slider.prompts[place])
        prompt_pair = PromptPair(positive, negative, text_slider.guidance, text_slider.weight)
        for sign in (1.0, -1.0):
            samples.append(Sample(latent, target, sign, number, f"words {text_slider}", prompt_pair=prompt_pair))
    return samples


def encode_all(
    dataset: Dataset,
    backend: Backend,
    resolution: int | None = None,
    disk: DiskCache | None = None,
    on_image: OnImage | None = None,
    on_latent: OnImage | None = None,
) -> list[Sample]:
    """The samples of a dataset's images, then those of its text sliders.

    `on_latent` hears of the latents that the model makes as `on_image` does of the images.
    """
    if not dataset.text_sliders:
        return encode(dataset, backend, resolution, disk, on_image)
    images = encode(dataset, backend, resolution, disk, on_image) if dataset.buckets else []
    done = 0
    total = sum(spec.count for spec in dataset.text_sliders if spec.latents is Latents.OWN)

    def more(count: int) -> None:
        nonlocal done
        done += count
        if on_latent:
            on_latent(done, total)

    encoder = Encoder(backend, disk)
    for spec in dataset.text_sliders:
        for prompt in itertools.chain.from_iterable(spec.prompts):
            encoder.conditioning(prompt)  # before the model is borrowed
    samples: list[Sample] = []
    for spec in dataset.text_sliders:
        if spec.latents is Latents.OWN:
            with backend.borrowed():
                latents = _LatentMaker(encoder, spec, resolution or backend.resolution, more).all()
        else:
            places = itertools.cycle(range(len(spec.prompts)))
            latents = list(zip(places, (image.latent for image in images), strict=False))
        samples += _text_samples(spec, latents, encoder, len(images) + len(samples))
    only_text = any(spec.latents is Latents.IMAGES for spec in dataset.text_sliders)
    return samples if only_text else images + samples
