"""The figures of one pair: what differs, a shift, and what each of its two images looks like.

A difference is max(|Y|, max |RGB| / 2) after a small blur: JPEG spoils colour more than brightness, and single pixels most.
The width of edges is sqrt(sum |gradient|^2 / (2 sum laplacian^2)), the sigma of a step blurred by a Gaussian: unlike the
variance of the Laplacian it depends neither on contrast nor on how much there is to see.
It cannot tell: a pair zoomed or turned, noise (it looks sharp), a thing that moved before an even background from an image
that moved. Cost: about 25 ms for a pair of 512 x 512 on one core, and 64 kB kept beside its mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ..config.checks import need

DIFFERS = 0.06  # a pixel's difference
GRAIN = 0.1  # and in a grainy image
NOTHING = 5e-4  # share of differing pixels,
COARSE = 0.012  # and difference of a block of so many pixels: what compression leaves of it,
BLOCK = 8
SOFTER = 1.3  # and ratio of the widths of edges: up to here nothing differs
MOST = 0.6  # share from which on too much differs
RELATED = 0.3  # gradient correlation at 32 x 32: of one scene,
ALIGNED = 0.5  # and where a shift was found
CELLS = 32  # width and height of the small images
LIT = (0.08, 0.95)  # brightness of cells that are neither black nor white
FEWEST_LIT = 0.05  # share of such cells that tells anything of the light
TINTED = 0.4  # how far apart the colours may change, as a share of their mean change: beyond, it is another colour, no light
TENTH = 0.15  # share of the cells that may be lit otherwise
FLAT_BLOCK = 1e-5  # mean squared gradient of a block that shows no edge
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PairImages:
    """One pair as it will be trained on: (3, H, W) float32 in [0, 1], both fitted to one size. Sizes are (width, height)."""

    name: str
    positive: torch.Tensor
    negative: torch.Tensor
    positive_caption: str
    negative_caption: str
    positive_size: tuple[int, int]  # the file's own, before fitting
    negative_size: tuple[int, int]


@dataclass(frozen=True)
class ImageFigures:
    """What one image looks like. `view`: (4, 32, 32), the image small: colours, and root mean square of gradients; `enlarged`:
    how many times fitting enlarged it."""

    size: tuple[int, int]  # the file's (width, height)
    enlarged: float
    brightness: float  # mean of Y, 0 to 1
    contrast: float  # standard deviation of the colour that varies most: one brightness is not yet one colour
    sharpness: float  # variance of the Laplacian of Y
    edges: float  # width of the edges in pixels; 0 where there are none
    view: torch.Tensor

    @property
    def cells(self) -> torch.Tensor:
        """(3, 32, 32): the colours."""
        return self.view[:3]

    @property
    def side(self) -> float:
        return math.sqrt(self.size[0] * self.size[1])

    @property
    def aspect(self) -> float:
        return self.size[0] / max(1, self.size[1])


@dataclass(frozen=True)
class PairFigures:
    """The figures of one pair. `mask`: (H, W) bool, True where the two differ, and `share` of it; `structure`: correlation of
    their gradients; `softer`: times by which the positive's edges are wider, where both have edges; `shift`: pixels (right, down)
    by which the negative lies off the positive, None unless clear, and `aligned`: how well outlines fit there, a correlation.
    `views`: (2, 4, 32, 32), of positive and negative what both show after that shift, as `ImageFigures.view`."""

    name: str
    captions: tuple[str, str]
    positive: ImageFigures
    negative: ImageFigures
    mask: torch.Tensor
    share: float
    structure: float
    softer: float
    shift: tuple[int, int] | None
    aligned: float
    views: torch.Tensor

    def in_place(self) -> PairFigures:
        """The pair as if its shift had not been found."""
        return replace(self, shift=None, views=torch.stack([self.positive.view, self.negative.view]))

    @property
    def unrelated(self) -> bool:
        """Whether the two share nothing, as far as a pair alone tells."""
        return self.share > MOST and self.structure < RELATED

    @property
    def identical(self) -> bool:
        """Whether nothing differs but what compression, grain or a new size leave."""
        edges = self.ratio("edges")
        blocks = max(1, min(CELLS, min(self.mask.shape) // BLOCK))
        change = F.adaptive_avg_pool2d(self.views[0, :3] - self.views[1, :3], blocks)
        same = float(distance(change).max()) <= COARSE
        return self.share <= NOTHING and same and max(edges, 1 / edges) <= SOFTER

    def ratio(self, figure: str) -> float:
        """One of the figures, positive by negative; 1 where one of the two has none."""
        positive, negative = getattr(self.positive, figure), getattr(self.negative, figure)
        return positive / negative if min(positive, negative) > 1e-9 else 1.0

    @property
    def light(self) -> float:
        """Times by which the positive is brighter, as far as nearly all of its cells are: a white hat does not count, nor does
        another background or another colour. Cells that are black or white on a side tell nothing."""
        plus, minus = luma(self.positive.cells), luma(self.negative.cells)
        lit = (torch.minimum(plus, minus) > LIT[0]) & (torch.maximum(plus, minus) < LIT[1])
        if lit.float().mean() < FEWEST_LIT:
            return 1.0
        low, high = (plus[lit] / minus[lit]).quantile(plus.new_tensor([TENTH, 1 - TENTH])).tolist()
        colours = ((self.positive.cells[:, lit] + LIT[0]) / (self.negative.cells[:, lit] + LIT[0])).log().median(1).values
        if colours.max() - colours.min() > TINTED * colours.mean().abs():
            return 1.0
        return low if low > 1 else min(high, 1.0)


def plain(name: str) -> str:
    """A name as one line that any screen and font takes."""
    return " ".join(name.encode("utf-8", "replace").decode().split())


def luma(image_CHW: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) -> (..., H, W): Y of Rec. 601."""
    return torch.tensordot(image_CHW.new_tensor(LUMA), image_CHW, dims=([0], [image_CHW.ndim - 3]))


def _edged(image_CHW: torch.Tensor, width: int) -> torch.Tensor:
    return F.pad(image_CHW[None], (width,) * 4, mode="replicate")[0]


def gradient(grey: torch.Tensor) -> torch.Tensor:
    """(..., H, W) -> (..., 2, H, W): central differences, right and down."""
    height, width = grey.shape[-2:]
    p = F.pad(grey.reshape(-1, height, width), (1,) * 4, mode="replicate")
    right = p[:, 1:-1, 2:] - p[:, 1:-1, :-2]
    down = p[:, 2:, 1:-1] - p[:, :-2, 1:-1]
    return (torch.stack([right, down], 1) / 2).reshape(*grey.shape[:-2], 2, height, width)


def _blur(image_CHW: torch.Tensor) -> torch.Tensor:
    """Twice the mean of 3 x 3."""
    p = _edged(image_CHW, 2)
    for _ in range(2):
        p = p[:, :, :-2] + p[:, :, 1:-1] + p[:, :, 2:]
        p = p[:, :-2] + p[:, 1:-1] + p[:, 2:]
    return p / 81


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))


def distance(change_CHW: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W), a signed change -> (..., H, W), how much it is."""
    return torch.maximum(luma(change_CHW).abs(), change_CHW.abs().amax(-3) / 2)


def difference_mask(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: where two images (3, H, W) differ. Grain that lies over all of the image raises the threshold."""
    change = positive - negative
    soft = _blur(change)
    grain = 1.4826 * float((change - soft).abs().flatten()[::7].median())
    return distance(soft) > max(DIFFERS, min(GRAIN, grain))


def _bends(grey_HW: torch.Tensor) -> torch.Tensor:
    """(H, W): Laplacian."""
    p = _edged(grey_HW[None], 1)[0]
    return p[1:-1, 2:] + p[1:-1, :-2] + p[2:, 1:-1] + p[:-2, 1:-1] - 4 * grey_HW


def _softer(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Times by which the edges of one image (3, H, W) are wider than those of another: the median of blocks in which both have
    edges, each by its contrast. A thing that is painted into a soft picture does not sharpen it."""
    side = max(1, min(CELLS // 2, min(positive.shape[1:]) // BLOCK))
    energies = []
    for grey in (luma(positive), luma(negative)):
        both = torch.stack([gradient(grey).square().sum(0), _bends(grey).square()])
        energies.append(F.adaptive_avg_pool2d(both[None], side)[0].flatten(1))
    (plus, plus_bends), (minus, minus_bends) = energies
    weight = torch.minimum(plus, minus)
    ratio = (plus * minus_bends / (minus * plus_bends).clamp_min(1e-12)).sqrt()
    order = ratio.argsort()
    order = order[weight[order] > FLAT_BLOCK]
    if not len(order):
        return 1.0
    below = weight[order].sqrt().cumsum(0)
    return float(ratio[order[int((below < below[-1] / 2).sum())]])


def image_figures(image: torch.Tensor, size: tuple[int, int], name: str) -> ImageFigures:
    """Figures of an image (3, H, W) in [0, 1]. SliderError for another shape, or values that are not finite."""
    sound = image.ndim == 3 and image.shape[0] == 3 and image.numel() > 0 and bool(image.isfinite().all())
    unlike = f"not a picture of finite numbers (3, H, W), but of shape {tuple(image.shape)}"
    need(sound, f"{plain(name)}: {unlike}. Load it again.", "pair.image")
    grey = luma(image)
    laplacian = _bends(grey)
    bends = float(laplacian.square().mean())
    edges = 0.0
    if bends > 1e-9:
        edges = math.sqrt(float(gradient(grey).square().sum(0).mean()) / (2 * bends))
    enlarged = max(grey.shape[1] / max(size[0], 1), grey.shape[0] / max(size[1], 1))
    brightness, contrast = float(grey.mean()), float(image.flatten(1).std(1, correction=0).max())
    return ImageFigures(size, enlarged, brightness, contrast, float(laplacian.var(correction=0)), edges, _view(image))


def find_shift(positive: torch.Tensor, negative: torch.Tensor) -> tuple[tuple[int, int] | None, float]:
    """(right, down), by how many pixels the negative (3, H, W) lies off the positive, None unless that is clear; and the
    correlation of their gradients there, or as they lie.

    Cross and phase correlation name places; there the gradients of what overlaps must fit far better than without a shift.
    """
    a = gradient(_blur(luma(positive)[None])[0])
    b = gradient(_blur(luma(negative)[None])[0])
    before = _overlap(a, b, (0, 0))
    after, place = max((_overlap(a, b, place), place) for place in _likely_shifts(a, b))
    if place != (0, 0):
        beside = [(place[0] + x, place[1] + y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
        after, place = max((_overlap(a, b, place), place) for place in beside)
    aligned = after > ALIGNED and 1 - after < (1 - before) / 2
    return (place, after) if aligned and place != (0, 0) else (None, before)


def _likely_shifts(a: torch.Tensor, b: torch.Tensor) -> list[tuple[int, int]]:
    """None, and the peaks (right, down) of the cross and the phase correlation of two gradients (2, H, W), each once."""
    height, width = a.shape[1:]
    down, right = height // 4, width // 4
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    cross = (torch.fft.rfft2(b * window) * torch.fft.rfft2(a * window).conj()).sum(0)
    places = {(0, 0): None}
    for power in (cross, cross / (cross.abs() + 1e-3 * cross.abs().max() + 1e-12)):
        near = torch.fft.irfft2(power, s=(height, width)).roll((down, right), (0, 1))[: 2 * down + 1, : 2 * right + 1]
        best = int(near.argmax())
        places[(best % near.shape[1] - right, best // near.shape[1] - down)] = None
    return list(places)


def _overlap(a: torch.Tensor, b: torch.Tensor, shift: tuple[int, int]) -> float:
    """Correlation of two gradients (2, H, W) where they overlap, the second moved back by `shift` (right, down)."""
    return _cosine(*_both_show(a, b, shift))


def _view(image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) -> `ImageFigures.view`."""
    detail = gradient(luma(image)).square().sum(0, keepdim=True)
    small = F.adaptive_avg_pool2d(torch.cat([image, detail])[None], CELLS)[0]
    small[3:] = small[3:].sqrt()
    return small


def _both_show(positive: torch.Tensor, negative: torch.Tensor, shift: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The parts of two images (C, H, W) that show the same, the second moved back by `shift` (right, down)."""
    x, y = shift
    height, width = positive.shape[1:]
    still = positive[:, max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    return still, negative[:, max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]


def check(pair: PairImages) -> PairFigures:
    """The figures of one pair. SliderError when its images are not of one size, or `image_figures` refuses one."""
    positive, negative = pair.positive.detach().float().cpu(), pair.negative.detach().float().cpu()
    shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
    unequal = f"{plain(pair.name)}: its pictures have the shapes {shapes}. Fit both to one size first."
    need(positive.shape == negative.shape, unequal, "pair.shapes")
    plus = image_figures(positive, pair.positive_size, pair.name)
    minus = image_figures(negative, pair.negative_size, pair.name)
    mask = difference_mask(positive, negative)
    share = float(mask.float().mean())
    structure = _cosine(gradient(luma(plus.cells)), gradient(luma(minus.cells)))
    shift, aligned = find_shift(positive, negative) if share > NOTHING else (None, 1.0)
    captions = (pair.positive_caption, pair.negative_caption)
    views = torch.stack(
        [plus.view, minus.view] if shift is None else [_view(image) for image in _both_show(positive, negative, shift)]
    )
    softer = _softer(positive, negative)
    return PairFigures(pair.name, captions, plus, minus, mask, share, structure, softer, shift, aligned, views)
