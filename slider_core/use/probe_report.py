"""What a probe has found of a direction (train/direction.py), in sentences and as a picture."""

from __future__ import annotations

from PIL import Image

from ..canvas import Line, Panel, draw_lines
from ..train.direction import LEVELS, SOME, Asked, Direction
from .plot_curves import COLOURS, CURVE

FIRST = 3  # layers that are named
LITTLE = 0.5  # of what the pairs ask, in the layers of the preset auto
FOUND = {
    Direction.CLEAR: "There is a direction",
    Direction.WEAK: "The direction is weak",
    Direction.NONE: "No common direction is seen",
}


def report(asked: Asked, in_auto: float) -> str:
    """Sentences for the user. `in_auto`: the share of what is asked that lies in the layers of the preset auto."""
    low, high = asked.window
    largest = max(asked.agreements)
    at = asked.levels[asked.agreements.index(largest)]
    named = ", ".join(f"{path} {share:.0%}" for path, share in asked.layers[:FIRST])
    lines = [
        f"{FOUND[asked.direction]}: what {asked.pairs} pairs ask of the model has a mean cosine of {asked.agreement:.2f} "
        f"({SOME:g} and more is clear; most, {largest:.2f}, at noise level {at:g}).",
        f"A step moves most between noise levels {low:.2g} and {high:.2g}; two noises of one pair agree by {asked.by_noise:.2f}.",
        f"Layers that answer most: {named}. The preset auto reaches {in_auto:.0%} of it.".replace("%", " %"),
    ]
    if asked.direction is not Direction.CLEAR:
        causes = "the wrong way round, wrong partners, more than one thing that differs"
        lines.append(f"It may be learned all the same. Look at the pairs first: {causes}.")
    if (low, high) != (0.0, 1.0):
        lines.append(f"To try: noise_from {low:.2g} and noise_to {high:.2g} in Slider Train Options.")
    if in_auto < LITTLE:
        lines.append('To try: the preset "all" in Slider Target Injector.')
    return "\n".join(lines)


def draw_asked(asked: Asked, name: str) -> Image.Image:
    """Agreement and size of a step over the noise levels, 900 x 520."""
    ticks = {level: f"{level:g}" for level in asked.levels}
    panel = Panel(f"{name}: what its pairs ask", "noise level", "", ticks, (min(LEVELS), max(*LEVELS, *asked.levels)))
    lines = []
    for number, (label, values) in enumerate((("agreement", asked.agreements), ("size of a step", asked.sizes))):
        lines.append(Line(label, list(zip(asked.levels, values, strict=True)), COLOURS[number]))
    return draw_lines(panel, lines, CURVE)
