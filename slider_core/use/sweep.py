"""A sweep: strengths x rows -> images, and figures of effect against strength.

All strengths of one row (a seed, a prompt, a strength of a second slider) start from the same noise, so neighbours differ by
the slider alone. They are one sampling call; where the memory is too small for that, a few.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ..config.sweep import SweepSpec
from ..lora.useful_range import Span
from .plot_curves import draw_curve, label
from .plot_video import FPS, Clips, as_bytes, middle
from .prompt_library import PromptEntry, PromptLibrary

# strengths, seed -> images (S, 3, H, W) in [0, 1], one per strength, from the same noise
Sampler = Callable[[Sequence[float], int], torch.Tensor]
LEAST_LENGTH = 1e-12  # what a length is divided by at least


@dataclass(frozen=True)
class Row:
    """One row of a sweep: a seed, the name of a prompt (empty: the only one), a second slider's strength (None: no other)."""

    seed: int
    prompt: str = ""
    other: float | None = None

    def name(self, seeds: int = 2, write: Callable[[float], str] = label) -> str:
        """A label: what tells this row from the others, the seed only where there are several. `write`: the other strength."""
        parts = []
        if self.prompt:
            parts.append(self.prompt)
        if self.other is not None:
            parts.append(f"B {write(self.other)}")
        if seeds > 1 or not parts:
            parts.append(f"seed {self.seed}")
        return ", ".join(parts)


def rows_of(seeds: Sequence[int], prompts: Sequence[str] = ("",), others: Sequence[float | None] = (None,)) -> tuple[Row, ...]:
    """Every prompt with every seed at every strength of the second slider, in that order."""
    return tuple(Row(seed, prompt, other) for prompt in prompts for seed in seeds for other in others)


@dataclass(frozen=True)
class SweepResult:
    """`images`: (rows, strengths, 3, H, W) float32 in [0, 1], of clips the middle frame; `latents`: (rows, strengths, ...)
    float32, where known. A row is a seed, or what `rows` says. `clips`: all frames, of a video model."""

    spec: SweepSpec
    images: torch.Tensor
    latents: torch.Tensor | None = None
    rows: tuple[Row, ...] = ()
    clips: Clips | None = None

    def names(self, write: Callable[[float], str] = label) -> list[str]:
        """A label for each row. `write`: how it writes a strength of a second slider."""
        rows = self.rows or rows_of(self.spec.seeds)
        seeds = {row.seed for row in rows}
        return [row.name(len(seeds), write) for row in rows]

    def others(self) -> list[float]:
        """The strengths of the second slider, rising; none without one."""
        return sorted({row.other for row in self.rows if row.other is not None})

    @property
    def zero(self) -> int:
        """The column nearest to strength 0: what the others are compared with."""
        distances = list(map(abs, self.spec.strengths))
        return distances.index(min(distances))

    def distance(self) -> list[float]:
        """Per strength: mean absolute pixel change from the picture nearest to strength 0, over all rows and all frames."""
        moments = [self.images] if self.clips is None else map(self.clips.at, range(self.clips.length))
        changes = [(images - images[:, self.zero, None]).abs().mean(dim=(0, 2, 3, 4)) for images in moments]
        return torch.stack(changes).mean(0).tolist()

    def changes(self) -> torch.Tensor | None:
        """(rows, strengths, N) latent changes from the strength nearest to 0; None where the latents are not known."""
        if self.latents is None:
            return None
        return (self.latents - self.latents[:, self.zero, None]).flatten(2)

    def latent_distance(self) -> list[float] | None:
        """Per strength: length of the latent's change as a share of the latent nearest to strength 0, mean over all rows."""
        changes = self.changes()
        if changes is None or self.latents is None:
            return None
        length = self.latents[:, self.zero].flatten(1).norm(dim=1, keepdim=True)
        return (changes.norm(dim=2) / length.clamp(min=LEAST_LENGTH)).mean(0).tolist()

    def along(self, direction: torch.Tensor) -> list[float] | None:
        """Per strength: the latent's change along `direction`, in lengths of it, mean over all rows.

        `direction`: (...) of one latent's shape; half the mean difference of the two images of a pair, so 1 is what +1 should be.
        """
        changes = self.changes()
        if changes is None:
            return None
        line = direction.float().flatten()
        return ((changes @ line) / line.square().sum().clamp(min=LEAST_LENGTH)).mean(0).tolist()

    def under_the_other(self) -> dict[float, float] | None:
        """Per strength of the second slider: how much of this slider's effect is left, its latent change from the lowest to
        the highest strength projected on the same with the second slider nearest to 0. 1: all of it. None without a second."""
        changes = self.changes()
        others = self.others()
        strengths = self.spec.strengths
        if changes is None or len(others) < 2 or len(strengths) < 2:
            return None
        low = strengths.index(min(strengths))
        high = strengths.index(max(strengths))
        effects: dict[float, torch.Tensor] = {}
        for other in others:
            rows = [place for place, row in enumerate(self.rows) if row.other == other]
            effects[other] = changes[rows, high] - changes[rows, low]
        alone = effects[min(others, key=abs)]
        square = alone.square().sum().clamp(min=LEAST_LENGTH)
        return {other: float((effect * alone).sum() / square) for other, effect in effects.items()}


def sweep(spec: SweepSpec, sample: Sampler) -> SweepResult:
    """Run `sample` once per seed with all strengths."""
    return sweep_rows(spec, rows_of(spec.seeds), lambda strengths, row: (sample(strengths, row.seed), None))


def sweep_rows(
    spec: SweepSpec,
    rows: Sequence[Row],
    sample: Callable[[Sequence[float], Row], tuple[torch.Tensor, torch.Tensor | None]],
    fps: float = FPS,
) -> SweepResult:
    """Run `sample` once per row with all strengths; it gives the images (S, 3, H, W) or clips (S, T, 3, H, W), which have `fps`
    frames a second, and their latents where it knows them."""
    images = []
    clips = []
    latents = []
    for row in rows:
        drawn, latent = sample(spec.strengths, row)
        images.append(middle(drawn).detach().float().cpu().clamp(0, 1))
        if drawn.ndim == 5:
            clips.append(as_bytes(drawn))
        if latent is not None:
            latents.append(latent.detach().float().cpu())
    seen = Clips(torch.stack(clips), fps) if clips else None
    return SweepResult(spec, torch.stack(images), torch.stack(latents) if latents else None, tuple(rows), seen)


def sweep_library(
    library: PromptLibrary, strengths: Sequence[float], sample: Callable[[PromptEntry, Sequence[float]], torch.Tensor]
) -> list[torch.Tensor]:
    """Per entry its pictures (n, 3, H, W): one at its own strength, or those at all of `strengths`.

    `sample` is run once per distinct prompt, with its first entry and everything that is drawn of it; from the same noise.
    """
    images_of: dict[int, torch.Tensor] = {}
    for _, places in library.groups():
        drawn_at = [library.entries[place].among(strengths) for place in places]
        images = sample(library.entries[places[0]], list(itertools.chain(*drawn_at)))
        parts = images.detach().float().cpu().clamp(0, 1).split(list(map(len, drawn_at)))
        images_of.update(zip(places, parts, strict=True))
    return [images_of[place] for place in sorted(images_of)]


def figures(result: SweepResult, direction: torch.Tensor | None = None) -> dict[str, list[float]]:
    """Per strength, in percent: how far pictures and latents went from strength 0, and how far along `direction` of the pairs."""
    shares = {"pixels": result.distance(), "latent": result.latent_distance()}
    if direction is not None:
        shares["along the pairs"] = result.along(direction)
    return {name: [100 * share for share in line] for name, line in shares.items() if line is not None}


def _rising(strengths: Sequence[float]) -> list[int]:
    """The places of the strengths in rising order."""
    return sorted(range(len(strengths)), key=strengths.__getitem__)


def effect_curve(
    result: SweepResult, lines: Mapping[str, Sequence[float]], title: str, useful: Span | None = None
) -> Image.Image:
    """The figures over rising strength, those beyond the `useful` range marked."""
    places = _rising(result.spec.strengths)
    rising = {name: [line[place] for place in places] for name, line in lines.items()}
    return draw_curve(sorted(result.spec.strengths), rising, title, "%", useful)


def table(result: SweepResult, lines: Mapping[str, Sequence[float]]) -> list[str]:
    """The figures as text, one line for each strength, and what is left of the effect under a second slider."""
    strengths = result.spec.strengths
    text = [f"{'strength':>8}" + "".join(f"{name:>17}" for name in lines)]
    for place in _rising(strengths):
        text.append(f"{label(strengths[place]):>8}" + "".join(f"{line[place]:>16.1f}%" for line in lines.values()))
    for other, left in (result.under_the_other() or {}).items():
        text.append(f"With B at {label(other)}, {left:.0%} of the effect is left.")
    return text


def how_it_ran(calls: Sequence[Sequence[int]], why: str) -> str:
    """One line: `calls` are the sizes of each row's sampling calls, `why` they are not one."""
    rows = "1 row" if len(calls) == 1 else f"{len(calls)} rows"
    if all(len(sizes) == 1 for sizes in calls):
        return f"{rows}, each one sampling call for all strengths."
    parts = []
    for sizes, count in Counter(map(tuple, calls)).items():
        parts.append(f"{count} in {len(sizes)} calls ({' + '.join(map(str, sizes))} strengths)")
    return f"{rows}: {'; '.join(parts)}: {why}."
