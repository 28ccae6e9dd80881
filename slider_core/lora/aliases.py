"""Names that other programs give to layers and that ComfyUI's own table lacks, or gets wrong.

A line of a table: their name, ComfyUI's name, and where the rows of theirs lie when they are not all of ours. `*` is a number.

    q k v      of a fused layer: q has as many rows as the layer has inputs, k and v share what is left (grouped queries too) or
               have as many as q where a feed-forward layer follows
    qkv, mlp   all three; the rows behind them
    1/3 ...    equal parts
    swap       the two halves in each other's place
    last       the same in a model's last block alone, whose modulation has two parts

The tables were read off diffusers' classes and single-file conversions (0.42), sd-scripts, musubi-tuner and DiffSynth-Studio;
tests/host/test_names.py holds them against diffusers' own conversions where that is installed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..layers.layer import Target, is_layer, weight_shape
from .alias_image import IMAGE
from .alias_sound import SOUND
from .alias_video import VIDEO


@dataclass(frozen=True)
class Named:
    """Where a name of a file means: a layer, and whether its halves of rows lie the other way round there."""

    target: Target
    swapped: bool = False


@dataclass(frozen=True)
class _Line:
    theirs: str
    ours: re.Pattern[str]
    part: str


def _shape_of_name(name: str) -> str:
    """A name with its numbers and stars alike."""
    return re.sub(r"\d+|\*", "#", name)


@functools.cache
def _lines(table: str) -> Mapping[str, list[_Line]]:
    """The lines of a table, by our names with their numbers alike."""
    lines: dict[str, list[_Line]] = {}
    for line in table.splitlines():
        if line.strip():
            theirs, ours, *part = line.split()
            pattern = re.escape(ours).replace(r"\*", r"(\d+)")
            lines.setdefault(_shape_of_name(ours), []).append(_Line(theirs, re.compile(pattern), "".join(part)))
    return lines


def others_names(module: nn.Module) -> dict[str, Named]:
    """Other programs' names of the layers of a model."""
    shapes = {}
    for path, layer in module.named_modules():
        if is_layer(layer) or isinstance(getattr(layer, "weight", None), torch.Tensor):
            shapes[path] = weight_shape(layer)
    names: dict[str, Named] = {}
    for tables in (IMAGE, VIDEO, SOUND):
        for known_by, table in tables.items():
            if known_by not in shapes:
                continue
            for path, shape in shapes.items():
                for name, part in _names_of(path, table):
                    place = _place(path, part, shape)
                    if place is not None:
                        names.setdefault(name, place)
    return names


def _names_of(path: str, table: str) -> Iterator[tuple[str, str]]:
    """(name, part) of each line for the layer at `path`."""
    for line in _lines(table).get(_shape_of_name(path), ()):
        match = line.ours.fullmatch(path)
        if match:
            parts = line.theirs.split("*")
            numbers = (*match.groups(), "")[: len(parts) - 1]
            yield "".join(part + number for part, number in zip(parts, (*numbers, ""), strict=True)), line.part


def _place(path: str, part: str, shape: tuple[int, ...]) -> Named | None:
    """The place of a part of a layer of that shape; None where it has no such part."""
    rows = shape[0]
    width = shape[1] if len(shape) > 1 else 1
    if part in ("", "swap"):
        return Named(Target(path), part == "swap")
    if part == "last":
        return Named(Target(path), True) if rows == 2 * width else None
    if "/" in part:
        number, count = map(int, part.split("/"))
        return Named(Target(path, (rows * (number - 1) // count, rows * number // count)))
    if part == "mlp":
        return Named(Target(path, (3 * width, rows))) if rows > 3 * width else None
    if part == "qkv":
        return Named(Target(path, (0, 3 * width))) if rows >= 3 * width else None
    keys = width if rows >= 3 * width else (rows - width) // 2
    start = {"q": 0, "k": width, "v": width + keys}[part]
    stop = {"q": width, "k": width + keys, "v": width + 2 * keys}[part]
    return Named(Target(path, (start, stop))) if 0 <= start < stop <= rows else None
