"""Pairs that a model has drawn: sorted out, and written as a folder that a dataset is read from.

In: the positive and the negative image of each pair. Out: why some of them are no use, and a folder with positive/, negative/,
a caption for every image, and pairs.json that says how each was drawn.
"""

from __future__ import annotations

import io
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from ..config.checks import SliderError, reason
from ..config.names import check_file_name
from ..data.pair_check import PairImages
from ..data.pair_diagnosis import Kind, PairsReport
from ..data.pair_doctor import examine
from ..lora.safe_files import atomic_write, sync_folder, tidy

USELESS = (Kind.IDENTICAL, Kind.FLAT, Kind.UNRELATED, Kind.SHIFTED)
OTHERWISE = 2.0  # times the median share of the picture that differs,
AND_MORE = 0.1  # and so much more than it: the pair differs in more than the concept
SIDES = ("positive", "negative")


@dataclass(frozen=True)
class DrawnPair:
    """Two images (3, H, W) float32 in [0, 1]. `caption` is of both; `prompts` drew them, in their order, from one noise."""

    positive: torch.Tensor
    negative: torch.Tensor
    caption: str
    prompts: tuple[str, str] = ("", "")
    seed: int = 0

    def images(self, name: str) -> PairImages:
        """As the pair doctor takes them."""
        height, width = self.positive.shape[-2:]
        size = width, height
        return PairImages(name, self.positive, self.negative, self.caption, self.caption, size, size)


def sorted_out(pairs: Sequence[DrawnPair]) -> dict[int, str]:
    """Which of the pairs are no use to a slider, by their places, and why.

    What the pair doctor says of one; and those that differ in far more of the picture than the others do."""
    names = [str(place) for place in range(len(pairs))]
    found = examine([pair.images(name) for pair, name in zip(pairs, names, strict=True)])
    reasons = {}
    for place, name in enumerate(names):
        kinds = [finding.short or finding.kind.value for finding in found.of(name) if finding.kind in USELESS]
        if kinds:
            reasons[place] = kinds[0]
    return reasons | _otherwise(found, reasons)


def _otherwise(found: PairsReport, already: dict[int, str]) -> dict[int, str]:
    rest = {place: figures.share for place, figures in enumerate(found.pairs) if place not in already}
    if len(rest) < 3:
        return {}
    usual = median(rest.values())
    reasons = {}
    for place, share in rest.items():
        if share > OTHERWISE * usual and share > usual + AND_MORE:
            reasons[place] = f"{share:.0%} of the picture differs, of most pairs {usual:.0%}: more than the concept changes"
    return reasons


def write_pairs(root: Path, name: str, pairs: Sequence[DrawnPair], drawn_by: dict[str, Any]) -> Path:
    """The folder `root`/`name`, or name_2, name_3 ... where that is there already; whole or not at all.

    SliderError when the name cannot be a folder's or the disk cannot take it.
    """
    check_file_name(name, "The folder's name")
    tidy(root)
    temporary = root / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        for number, pair in enumerate(pairs, 1):
            for side, pixels in zip(SIDES, (pair.positive, pair.negative), strict=True):
                atomic_write(temporary / side / f"{number:03}.png", _png(pixels))
                atomic_write(temporary / side / f"{number:03}.txt", pair.caption.encode())
        atomic_write(temporary / "pairs.json", _described(pairs, drawn_by))
        place = _free(root, name)
        temporary.rename(place)
        sync_folder(root)
    except OSError as fault:
        message = f"Cannot write the pairs to {root} ({reason(fault)}). Free space or choose another name."
        raise SliderError(message, "pairs.not_written") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _free(root: Path, name: str) -> Path:
    place = root / name
    number = 1
    while place.exists() or place.is_symlink():
        number += 1
        place = root / f"{name}_{number}"
    return place


def _png(pixels: torch.Tensor) -> bytes:
    values = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1)
    sink = io.BytesIO()
    Image.fromarray(values.numpy()).save(sink, "PNG")
    return sink.getvalue()


def _described(pairs: Sequence[DrawnPair], drawn_by: dict[str, Any]) -> bytes:
    rows = []
    for number, pair in enumerate(pairs, 1):
        positive, negative = pair.prompts
        rows.append({"file": f"{number:03}.png", "positive": positive, "negative": negative, "seed": pair.seed})
    return json.dumps({"drawn_by": drawn_by, "pairs": rows}, indent=1).encode()
