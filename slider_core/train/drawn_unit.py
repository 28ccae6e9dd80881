"""The strength at which drawn pictures show what the images show, and how far beyond it they go on changing.

Both ends are drawn (drawn.py) at one strength after another until they lie as far apart, where the two images of a pair differ,
as the images do. No further than pictures answer to more strength, than the change is mostly the pair's own, and than the rest
of the picture allows: neither much harder than the images nor so soft that something fades away (small balls did, of the world of
clips: docs/video-and-edit.md). On sliders of the worlds for tuning this came nearer to the images' effect than the strength that
explains the images best, which leaves small parts at a tenth of it (docs/benchmarks-worlds.md).

Cost: mostly one or two strengths of `Drawing`, and two of half of its pairs.
"""

from __future__ import annotations

import math

from .drawn import OWN, Drawing, Drawn

NEAR = 0.1  # of the images
TRIES, STRETCH = 4, 4.0  # strengths that are tried, and how many times the last one at most
FARTHEST = 2.0  # distances of the images that the whole pictures may lie apart
SOFTEST, HARDEST = 0.8, 1.4  # times the contrast of the images; softer pictures must gain contrast
GROWS = 0.3  # of the growth in proportion, that more strength must bring
BEYOND = (1.5, 2.0, 3.0)  # times strength 1; the middle one is tried first
PAIRS = 2  # by which the end of the useful range is found
EVEN = 0.5  # of the growth in proportion, that a useful strength brings


def turned_to_images(drawing: Drawing, drawn: Drawn, most: float) -> Drawn:
    """What is drawn at the strength that becomes 1, from what was drawn at the one that explains the images best. `most`: no
    LoRA weight above it."""
    for _ in range(TRIES):
        if drawn.length is None or drawn.share is None or drawn.distance is None:
            break
        shown = max(drawn.length, drawn.distance / FARTHEST)
        if not 0 < shown < math.inf or abs(shown - 1) <= NEAR:
            break
        factor = min(1 / shown, STRETCH)
        if factor > 1:
            factor = min(factor, most / drawn.strength)
            if factor <= 1 or drawn.share < OWN * drawn.length:
                break
        tried = drawing.at(drawn.strength * factor)
        if factor > 1 and not _is_worth_it(drawn, tried, factor):
            break
        drawn = tried
    return drawn


def _is_worth_it(before: Drawn, after: Drawn, factor: float) -> bool:
    """Whether `factor` times the strength shows more of the images, and little else."""
    if before.length is None or after.length is None or after.distance is None or after.share is None:
        return False
    grown = after.length - before.length >= GROWS * (factor - 1) * before.length
    own = after.share >= OWN * after.length and after.distance <= (1 + NEAR) * FARTHEST
    soft = after.contrast < SOFTEST and after.contrast - before.contrast < GROWS * (factor - 1) * before.contrast
    return grown and own and not soft and after.contrast <= HARDEST


def useful_end(drawing: Drawing, at_1: Drawn) -> float:
    """The LoRA weight up to which pictures go on showing more, nearly in proportion: from 1 to 3 times that of strength 1."""
    few = drawing.of_first(PAIRS)
    begin = few.at(at_1.strength)
    share = begin.share or 0.0
    if share <= 0:
        return at_1.strength
    hardest = HARDEST * begin.contrast / max(at_1.contrast, 1e-12)  # whose pictures are not as hard as those of all pairs

    def goes_on(factor: float) -> bool:
        drawn = few.at(factor * at_1.strength)
        return (drawn.share or 0.0) - share >= EVEN * (factor - 1) * share and drawn.contrast <= hardest

    least, middle, most = BEYOND
    if goes_on(middle):
        factor = most if goes_on(most) else middle
    else:
        factor = least if goes_on(least) else 1.0
    return factor * at_1.strength
