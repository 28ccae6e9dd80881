"""The proof: strengths x rows -> images, a labelled strip, and the curve of effect against strength.

All strengths of one row (a seed, a prompt, a strength of a second slider) start from the same noise, so neighbours differ by
the slider alone. They are one sampling call; where the memory is too small for that, a few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ..config.sweep import SweepSpec
from .plot_curves import draw_curve, label
from .prompt_library import PromptEntry, PromptLibrary

# strengths, seed -> images (S, 3, H, W) in [0, 1], one per strength, from the same noise
Sampler = Callable[[Sequence[float], int], torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One row of a sweep: a seed, the name of a prompt (empty: the only one), a second slider's strength (None: no other)."""

    seed: int
    prompt: str = ""
    other: float | None = None

    def name(self, seeds: int = 2) -> str:
        """A label: what tells this row from the others, the seed only where there are several."""
        parts = [self.prompt] if self.prompt else []
        parts += [f"B {label(self.other)}"] if self.other is not None else []
        return ", ".join(parts + ([f"seed {self.seed}"] if seeds > 1 or not parts else []))


def rows_of(seeds: Sequence[int], prompts: Sequence[str] = ("",), others: Sequence[float | None] = (None,)) -> tuple[Row, ...]:
    """Every prompt with every seed at every strength of the second slider, in that order."""
    return tuple(Row(seed, prompt, other) for prompt in prompts for seed in seeds for other in others)


@dataclass(frozen=True)
class SweepResult:
    """`images`: (rows, strengths, 3, H, W) float32 in [0, 1]; `latents`: (rows, strengths, ...) float32, where known. A row is
    a seed, or what `rows` says."""

    spec: SweepSpec
    images: torch.Tensor
    latents: torch.Tensor | None = None
    rows: tuple[Row, ...] = ()

    def names(self) -> list[str]:
        """A label for each row."""
        rows = self.rows or rows_of(self.spec.seeds)
        return [row.name(len({r.seed for r in rows})) for row in rows]

    @property
    def zero(self) -> int:
        """The column nearest to strength 0: what the others are compared with."""
        return min(range(len(self.spec.strengths)), key=lambda i: abs(self.spec.strengths[i]))

    def distance(self) -> list[float]:
        """Per strength: mean absolute pixel change from the image nearest to strength 0, over all rows."""
        return (self.images - self.images[:, self.zero, None]).abs().mean(dim=(0, 2, 3, 4)).tolist()

    def moves(self) -> torch.Tensor | None:
        """(rows, strengths, N) latent changes from the strength nearest to 0; None where the latents are not known."""
        return None if self.latents is None else (self.latents - self.latents[:, self.zero, None]).flatten(2)

    def latent_distance(self) -> list[float] | None:
        """Per strength: length of the latent's change as a share of the latent nearest to strength 0, mean over all rows."""
        moves = self.moves()
        if moves is None or self.latents is None:
            return None
        whole = self.latents[:, self.zero].flatten(1).norm(dim=1, keepdim=True).clamp(min=1e-12)
        return (moves.norm(dim=2) / whole).mean(0).tolist()

    def along(self, direction: torch.Tensor) -> list[float] | None:
        """Per strength: the latent's change along `direction`, in lengths of it, mean over all rows.

        `direction`: (...) of one latent's shape; half the mean difference of the two images of a pair, so 1 is what +1 should be.
        """
        moves, line = self.moves(), direction.float().flatten()
        return None if moves is None else ((moves @ line) / line.square().sum().clamp(min=1e-12)).mean(0).tolist()

    def under_the_other(self) -> dict[float, float] | None:
        """Per strength of the second slider: how much of this slider's effect is left, its latent change from the lowest to
        the highest strength projected on the same with the second slider nearest to 0. 1: all of it. None without a second."""
        moves, others = self.moves(), sorted({row.other for row in self.rows if row.other is not None})
        if moves is None or len(others) < 2 or len(self.spec.strengths) < 2:
            return None
        low, high = (pick(range(len(self.spec.strengths)), key=self.spec.strengths.__getitem__) for pick in (min, max))
        effects = {other: [] for other in others}
        for row, move in zip(self.rows, moves, strict=True):
            effects[row.other].append(move[high] - move[low])
        grouped = {other: torch.stack(found) for other, found in effects.items()}
        alone = grouped[min(others, key=abs)]
        square = alone.square().sum().clamp(min=1e-12)
        return {other: float((effect * alone).sum() / square) for other, effect in grouped.items()}


def sweep(spec: SweepSpec, sample: Sampler) -> SweepResult:
    """Run `sample` once per seed with all strengths."""
    return sweep_rows(spec, rows_of(spec.seeds), lambda strengths, row: (sample(strengths, row.seed), None))


def sweep_rows(
    spec: SweepSpec,
    rows: Sequence[Row],
    sample: Callable[[Sequence[float], Row], tuple[torch.Tensor, torch.Tensor | None]],
) -> SweepResult:
    """Run `sample` once per row with all strengths; it gives the images, and their latents where it knows them."""
    images, latents = [], []
    for row in rows:
        drawn, latent = sample(spec.strengths, row)
        images.append(drawn.detach().float().cpu().clamp(0, 1))
        latents += [] if latent is None else [latent.detach().float().cpu()]
    return SweepResult(spec, torch.stack(images), torch.stack(latents) if latents else None, tuple(rows))


def sweep_library(
    library: PromptLibrary,
    strengths: Sequence[float],
    sample: Callable[[PromptEntry, Sequence[float]], torch.Tensor],
) -> list[torch.Tensor]:
    """Per entry its pictures (n, 3, H, W): one at its own strength, or those at all of `strengths`.

    `sample` is run once per distinct prompt, with its first entry and everything that is drawn of it; from the same noise.
    """
    found: dict[int, torch.Tensor] = {}
    for _, places in library.groups():
        at = [library.entries[place].among(strengths) for place in places]
        images = sample(library.entries[places[0]], [strength for some in at for strength in some])
        parts = images.detach().float().cpu().clamp(0, 1).split([len(some) for some in at])
        found |= dict(zip(places, parts, strict=True))
    return [found[place] for place in range(len(library.entries))]


# --- what it shows


def figures(result: SweepResult, direction: torch.Tensor | None = None) -> dict[str, list[float]]:
    """Per strength, in percent: how far pictures and latents went from strength 0, and how far along `direction` of the pairs."""
    found = {"pixels": result.distance(), "latent": result.latent_distance()}
    found["along the pairs"] = None if direction is None else result.along(direction)
    return {name: [100 * value for value in line] for name, line in found.items() if line is not None}


def effect_curve(result: SweepResult, lines: dict[str, list[float]], title: str) -> Image.Image:
    """The figures over rising strength."""
    strengths = result.spec.strengths
    order = sorted(range(len(strengths)), key=strengths.__getitem__)
    return draw_curve([strengths[i] for i in order], {n: [line[i] for i in order] for n, line in lines.items()}, title, "%")


def table(result: SweepResult, lines: dict[str, list[float]]) -> list[str]:
    """The figures as text, one line for each strength, and what is left of the effect under a second slider."""
    strengths = result.spec.strengths
    words = [f"{'strength':>8}" + "".join(f"{name:>17}" for name in lines)]
    for place in sorted(range(len(strengths)), key=strengths.__getitem__):
        words.append(f"{label(strengths[place]):>8}" + "".join(f"{line[place]:>16.1f}%" for line in lines.values()))
    for other, left in (result.under_the_other() or {}).items():
        words.append(f"With B at {label(other)}, {left:.0%} of the effect is left.")
    return words


def how_it_ran(calls: Sequence[Sequence[int]], why: str) -> str:
    """One line: `calls` are the sizes of each row's sampling calls, `why` they are not one."""
    sizes = Counter(tuple(row) for row in calls)
    rows = "row" if len(calls) == 1 else "rows"
    if all(len(row) == 1 for row in sizes):
        return f"{len(calls)} {rows}, each one sampling call for all strengths."
    shapes = "; ".join(f"{count} in {len(row)} calls ({' + '.join(map(str, row))} strengths)" for row, count in sizes.items())
    return f"{len(calls)} {rows}: {shapes}: {why}."
