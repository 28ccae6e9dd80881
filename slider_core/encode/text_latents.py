"""Sliders from words: the frozen model is the teacher, and no image is needed.

x is a noised latent, t p n the target, positive and negative prompt, v0(x, c) the frozen model's prediction and v(x, c, s) the
one with the slider at strength s, all in the model's own prediction space (eps, v or flow). A step asks, of both signs at once,

    v(x, t, +1) = v0(x, t) + g (v0(x, p) - v0(x, n))
    v(x, t, -1) = v0(x, t) - g (v0(x, p) - v0(x, n))

held back: no clean picture that is asked for has more contrast than the clearest of the three that the frozen model predicts.
Else a large g asks for pictures beyond both ends, which is what burns. Rescaling to the contrast at the target (Lin et al. 2023,
"Common Diffusion Noise Schedules and Sample Steps are Flawed", for guidance) would forbid a slider to change the contrast at all.

    LECO (p1atdev 2023), which asks for one sign; Gandikota et al. 2023, "Concept Sliders", text sliders (their eq. 7, g is eta)

With attributes to hold, each is said beside t, p and n in turn ("person, man", "person, smiling, man", ...), so that what the
model happens to connect with one end cancels: the same authors' preservation set.

The three frozen predictions are one forward pass, and both signs share it. The latents are noised by hand, so the noise level
is any, and they are made once, by the model itself: an Euler loop (DDIM without noise, Song et al. 2020) over few steps at the
target prompt. It is written in the clean latent and the noise that a prediction means, hence the same for eps, v and flow.
Cost: `count` x `steps` samples before the first step; then 3 frozen samples and 2 with gradients for each latent of a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, Conditioning, seeded
from ..config.checks import SliderError
from ..data.bucket_spec import Latents, TextSliderSpec
from ..data.dataset import Dataset, OnImage
from .disk_cache import DiskCache
from .encoder import Encoder, PromptPair, Sample, encode
from .noised import Noised, at_levels, predict

TOGETHER = 4  # latents that are made in one pass
EDGE = 1e-3  # the noise schedule's ends, where eps models have no number


# --- latents that the model makes


def _clean_and_noise(batch: Noised, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean latent and the noise that a prediction at the batch's x means."""
    clean = batch.latent + (prediction - batch.right) / batch.scale
    return clean, batch.noise + batch.ratio * (batch.latent - clean)


@torch.no_grad()
def make_latents(
    backend: Backend, noise: torch.Tensor, cond: Conditioning, steps: int, cfg: float = 1.0, empty: Conditioning | None = None
) -> torch.Tensor:
    """Clean latents like `noise` (B, C, ..., H, W) that the model draws at a prompt in so many steps, without a slider.

    `cfg` above 1 guides away from the prompt `empty` (Ho and Salimans 2022). Call inside `backend.borrowed()`.
    """
    sigmas = backend.sigmas(torch.linspace(1 - EDGE, EDGE, steps + 1, device=backend.device))
    clean, noise = torch.zeros_like(noise), noise.to(backend.device)
    for sigma in sigmas[:-1]:
        batch = at_levels(backend, clean.to(noise), noise, sigma.expand(len(noise)), [cond] * len(noise))
        prediction = predict(backend, batch)
        if cfg != 1 and empty is not None:
            without = predict(backend, replace(batch, cond=(empty,) * len(noise)))
            prediction = without + cfg * (prediction - without)
        clean, noise = _clean_and_noise(batch, prediction)
    return clean.float().cpu()


@dataclass(frozen=True)
class _LatentMaker:
    """Makes the latents of a words spec, or takes them from the disk."""

    backend: Backend
    encoder: Encoder
    disk: DiskCache | None
    on_latents: Callable[[int], None]

    def shape(self, words: TextSliderSpec, resolution: int) -> torch.Size:
        """The shape of one latent, as the backend's own encoder has it."""
        step = self.backend.image_step
        sides = [max(step, round((side or resolution) / step) * step) for side in (words.height, words.width)]
        with torch.no_grad():
            return self.backend.encode_images(torch.full((1, 3, *sides), 0.5))[0].shape

    def latents(self, words: TextSliderSpec, prompt: str, number: int, count: int, shape: torch.Size) -> torch.Tensor:
        """(count, ...) at a target prompt, of whom `number` were made before. Call inside `backend.borrowed()`."""
        how = f"{number} {count} {tuple(shape)} {words.steps} {words.cfg} {words.seed}"
        key = ""
        if self.disk:
            mark = self.backend.drawn_by()
            key = self.disk.key("words", self.backend.name, mark, self.encoder.text_mark, prompt, how)
            found = self.disk.get(key)
            if isinstance(found, torch.Tensor) and found.shape == (count, *shape):
                return found
        cond, empty = self.encoder.conditioning(prompt), self.encoder.conditioning("")
        parts = []
        for first in range(0, count, TOGETHER):
            seeds = range(number + first, number + min(count, first + TOGETHER))
            noise = torch.stack([torch.randn(shape, generator=seeded(words.seed, f"words {n}")) for n in seeds])
            parts.append(make_latents(self.backend, noise, cond, words.steps, words.cfg, empty))
            self.on_latents(len(noise))
        made = torch.cat(parts)
        if not bool(made.isfinite().all()):
            raise SliderError(f'The model makes no finite latents at "{prompt}": raise the steps, or lower cfg.')
        if self.disk:
            self.disk.put(key, made)
        return made


def _own_latents(maker: _LatentMaker, words: TextSliderSpec, resolution: int) -> list[tuple[int, torch.Tensor]]:
    """(place among the prompts, latent), each prompt as often as the others or once more."""
    shape, prompts, found = maker.shape(words, resolution), words.prompts, []
    for place, (target, _, _) in enumerate(prompts):
        count = len(range(place, words.count, len(prompts)))
        found += [(place, latent) for latent in maker.latents(words, target, len(found), count, shape)]
    return found


def _word_samples(
    words: TextSliderSpec, latents: Sequence[tuple[int, torch.Tensor]], encoder: Encoder, first: int
) -> list[Sample]:
    """Both signs of each latent as a pair, numbered from `first`."""
    told = [tuple(encoder.conditioning(text) for text in prompts) for prompts in words.prompts]
    found = []
    for number, (place, latent) in enumerate(latents, first):
        target, positive, negative = told[place]
        prompt_pair = PromptPair(positive, negative, words.guidance, words.weight)
        found += [Sample(latent, target, sign, number, f"words {words}", prompt_pair=prompt_pair) for sign in (1.0, -1.0)]
    return found


def encode_all(
    dataset: Dataset,
    backend: Backend,
    resolution: int | None = None,
    disk: DiskCache | None = None,
    on_image: OnImage | None = None,
    on_latent: OnImage | None = None,
) -> list[Sample]:
    """The samples of a dataset's images (cache.encode), then those of its words. SliderError where words miss their images.

    `on_latent` hears of the latents that the model makes as `on_image` does of the images.
    """
    samples = encode(dataset, backend, resolution, disk, on_image) if dataset.buckets or not dataset.text_sliders else []
    if not dataset.text_sliders:
        return samples
    done, total = 0, sum(w.count for w in dataset.text_sliders if w.latents is Latents.OWN)

    def one_more(count: int) -> None:
        nonlocal done
        done += count
        if on_latent:
            on_latent(done, total)

    encoder = Encoder(backend, disk)
    maker, first = _LatentMaker(backend, encoder, disk, one_more), len(samples)
    prepared = [(w, [encoder.conditioning(text) for texts in w.prompts for text in texts]) for w in dataset.text_sliders]
    found = []
    for words, _ in prepared:
        if words.latents is Latents.OWN:
            with backend.borrowed():
                latents = _own_latents(maker, words, resolution or backend.resolution)
        else:
            places = itertools.cycle(range(len(words.prompts)))
            latents = [(place, s.latent) for place, s in zip(places, samples, strict=False)]
            if not latents:
                raise SliderError("The words want the dataset's images for latents, and there are none: connect a dataset.")
        found += _word_samples(words, latents, encoder, first + len(found))
    alone = any(w.latents is Latents.IMAGES for w in dataset.text_sliders)
    return found if alone else samples + found
