"""The diagnosis as a picture: one row per pair with negative, positive, what differs, and what is to be said of them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from statistics import median

import torch
from PIL import Image, ImageDraw

from ..canvas import font
from .bucket_spec import DatasetSpec, Pairing
from .dataset import Dataset, ImageSample
from .fitting import Fitted, fittings, load, sizes_report
from .pair_check import Checkup, Patient, luma, plain
from .pair_doctor import Diagnosis, Finding, examine

INK, PAPER, GREY, RED, GAP = (28, 28, 32), (255, 255, 255), (110, 110, 116), (196, 40, 36), 10


def _written(parts: Sequence[tuple[str, int, tuple[int, int, int]]], width: int) -> Image.Image:
    """(text, size, colour) below each other, wrapped to `width` pixels."""
    lines = []
    for text, size, colour in parts:
        words = plain(text) or "-"
        face = font(size, words)
        glyphs = max(8, int(0.92 * width * len(words) / face.getlength(words)))
        lines += [(line, face, size, colour) for line in textwrap.wrap(words, glyphs)]
    paper = Image.new("RGB", (width, sum(round(size * 1.4) for _, _, size, _ in lines)), PAPER)
    top = 0
    for line, face, size, colour in lines:
        ImageDraw.Draw(paper).text((0, top), line, colour, face)
        top += round(size * 1.4)
    return paper


def _row(patient: Patient, pair: Checkup, found: list[Finding], cell: int) -> Image.Image:
    """Negative, positive, what differs, and what is to be said of them."""
    negative, positive = (image.detach().float().cpu().clamp(0, 1) for image in (patient.negative, patient.positive))
    faded = 0.84 + 0.16 * luma(positive)
    parts = [(pair.name, 16, INK), (f"{pair.share:.1%} differs", 13, GREY), *((f.short, 13, RED) for f in found[:5])]
    cells = [_written(parts, 2 * cell)]
    for image in (torch.where(pair.mask, positive, faded), positive, negative):
        pixels = Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        scale = cell / max(pixels.size)
        cells.insert(0, pixels.resize((max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))), Image.LANCZOS))
    row = Image.new("RGB", (5 * cell + 3 * GAP, max(picture.height for picture in cells)), PAPER)
    for i, picture in enumerate(cells):
        row.paste(picture, (i * (cell + GAP), 0))
    return row


def contact_sheet(patients: Sequence[Patient], diagnosis: Diagnosis, cell: int = 160, most: int = 24) -> Image.Image:
    """A picture of the diagnosis, RGB on white: one row per pair with negative, positive, and what differs, the rest faded.

    `patients` as they were examined, `cell` in pixels. Of more than `most` pairs those with findings come first.
    """
    width, count = 5 * cell + 3 * GAP, len(diagnosis.findings)
    chosen = sorted(range(len(patients)), key=lambda i: not diagnosis.of(diagnosis.checkups[i].name))[:most]
    verdict = f"{count} finding{'s' * (count != 1)}." if count else diagnosis.lines()[0] if patients else "Nothing to examine."
    left_out = f" {len(chosen)} of them are shown." if len(chosen) < len(patients) else ""
    head = [("Pair doctor", 22, INK), (f"{diagnosis.summary}{left_out} {verdict}", 14, GREY)]
    columns = Image.new("RGB", (width, 18), PAPER)
    for i, word in enumerate(("negative", "positive", "what differs")):
        ImageDraw.Draw(columns).text((i * (cell + GAP), 0), word, GREY, font(13))
    blocks = [_written([*head, *((f.text, 14, RED) for f in diagnosis.of(None))], width), columns]
    for i in sorted(chosen):
        pair = diagnosis.checkups[i]
        blocks.append(_row(patients[i], pair, diagnosis.of(pair.name), cell))
    sheet = Image.new("RGB", (width + 4 * GAP, sum(block.height + GAP for block in blocks) + 3 * GAP), PAPER)
    top = 2 * GAP
    for block in blocks:
        sheet.paste(block, (2 * GAP, top))
        top += block.height + GAP
    return sheet


SIDE = 256  # pixels: enough to see what differs; or the dataset's own middle size where that is smaller
STEP = 8
MOST = 100  # pairs that are looked at; a larger dataset is judged by its first


def _side(dataset: Dataset) -> int:
    return max(STEP, min(SIDE, round(median((s.width * s.height) ** 0.5 for s in dataset.image_samples))))


def patients(fitted: Sequence[Fitted], spec: DatasetSpec) -> list[Patient]:
    """The first pairs of a dataset, as they were fitted."""
    fitted = [f for f in fitted if f.pair is not None and not f.flip][: 2 * MOST]
    found, seen = [], set()
    names = Counter(f.image_sample.path.name for f in fitted[::2])
    for plus, minus in zip(fitted[::2], fitted[1::2], strict=True):
        if {id(plus.image_sample), id(minus.image_sample)} & seen:  # shown again to make up the numbers
            continue
        seen |= {id(plus.image_sample), id(minus.image_sample)}
        images = [load(f, spec)[0] for f in (plus, minus)]
        stills = [image if image.ndim == 3 else image[0] for image in images]
        told = [_name(f.image_sample, names[plus.image_sample.path.name] > 1) for f in (plus, minus)]
        sizes = (plus.image_sample.width, plus.image_sample.height), (minus.image_sample.width, minus.image_sample.height)
        name = told[0] if told[0] == told[1] else " / ".join(told)
        found.append(Patient(name, stills[0], stills[1], plus.image_sample.caption, minus.image_sample.caption, *sizes))
    return found


def _name(image_sample: ImageSample, twice: bool) -> str:
    """The file's name, with its folder where there are several of that name."""
    return (
        f"{image_sample.path.parent.name}/{image_sample.path.name}"
        if twice and image_sample.pixels is None
        else image_sample.path.name
    )


def examined(dataset: Dataset) -> tuple[Image.Image, list[str]]:
    """(the contact sheet, what there is to say in lines)."""
    fitted = fittings(dataset, _side(dataset), STEP)
    looked = patients(fitted, dataset.spec)
    diagnosis = examine(looked)
    more = len(dataset.pairs) - len(looked)
    again = more > 0 and len(dataset.pairs) <= MOST
    drawn = dataset.spec.pairing is Pairing.RANDOM
    nothing = "Pairs are drawn at random: there are none to examine." if drawn else "No pairs to examine."
    lines = [*sizes_report(fitted)[1:], *diagnosis.lines()] if looked else [nothing]
    if again:
        lines.append(
            f"Not examined, because they show an image again with another partner: {more} of {len(dataset.pairs)} pairs."
        )
    elif more > 0:
        lines.append(f"The first {len(looked)} pairs were examined, {more} were not.")
    return contact_sheet(looked, diagnosis), lines
