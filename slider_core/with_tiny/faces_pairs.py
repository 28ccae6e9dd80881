"""Before/after pairs of the built-in world, for any attribute."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..config.checks import SliderError, nearest, need
from ..data.fitting import to_pil
from .faces import ATTRIBUTES, CLASSES, Face, render, sample_faces

SHIPPED_PAIRS = Path(__file__).resolve().parents[2] / "demo_pairs" / "smile"
EXTREME = 0.95  # how far a pair's two images lie from the middle of a continuous attribute


def at_extreme(face: Face, attribute: str, sign: int) -> Face:
    """`face` with one attribute at its positive or negative extreme (first and last class for a class attribute)."""
    change: dict[str, Any] = {attribute: sign * EXTREME}
    if attribute in CLASSES:
        change = {attribute: CLASSES[attribute][0 if sign > 0 else -1]}
    return dataclasses.replace(face, **change)


def make_pairs(attribute: str, count: int, seed: int, unpaired: bool = False) -> list[tuple[Face, Face]]:
    """(positive, negative) faces. Aligned pairs differ in `attribute` alone; unpaired ones share nothing.

    Raises SliderError for an unknown attribute or a count below 1.
    """
    message = f'Attribute "{attribute}" is not of this world; {nearest(attribute, ATTRIBUTES)}'
    need(attribute in ATTRIBUTES, message, "faces.attribute")
    need(count >= 1, f"At least one pair is needed, got {count}.", "faces.count")
    faces = sample_faces(2 * count, torch.Generator().manual_seed(seed))
    others = faces[count:] if unpaired else faces[:count]
    return [(at_extreme(p, attribute, 1), at_extreme(n, attribute, -1)) for p, n in zip(faces[:count], others, strict=True)]


def write_pairs(out: Path, pairs: Sequence[tuple[Face, Face]]) -> None:
    """`out`/positive and `out`/negative with numbered PNGs and captions, written whole or not at all.

    Raises SliderError when `out` exists and is not empty, or cannot be written.
    """
    need(not out.is_dir() or not any(out.iterdir()), f"Folder is not empty: {out}. Choose a new one.", "file.folder_not_empty")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".demo-data-") as scratch:
            for side, name in enumerate(("positive", "negative")):
                folder = Path(scratch) / "data" / name
                folder.mkdir(parents=True)
                faces = [pair[side] for pair in pairs]
                for number, (face, image) in enumerate(zip(faces, render(faces), strict=True), 1):
                    to_pil(image).save(folder / f"{number:02}.png", optimize=True)
                    (folder / f"{number:02}.txt").write_text(face.caption + "\n", encoding="utf-8")
            if out.is_dir():
                out.rmdir()
            shutil.move(str(Path(scratch) / "data"), out)
    except OSError as fault:
        message = f"Cannot write to {out} ({fault.strerror or fault}). Choose a folder that can be written."
        raise SliderError(message, "file.unwritable") from None
