"""The pair doctor's visit to a dataset: its pairs as they will be trained on, in a small size, and what is said about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from PIL import Image

from .cache import Fitted, fittings, load, sizes_report
from .checkup import Patient
from .contact_sheet import contact_sheet
from .dataset import Dataset, Shot
from .dataset_spec import DatasetSpec, Pairing
from .doctor import examine

SIDE = 256  # pixels: enough to see what differs; or the dataset's own middle size where that is smaller
STEP = 8
MOST = 100  # pairs that are looked at; a larger dataset is judged by its first


def _side(dataset: Dataset) -> int:
    return max(STEP, min(SIDE, round(median((s.width * s.height) ** 0.5 for s in dataset.shots))))


def patients(fitted: Sequence[Fitted], spec: DatasetSpec) -> list[Patient]:
    """The first pairs of a dataset, as they were fitted."""
    fitted = [f for f in fitted if f.pair is not None and not f.flip][: 2 * MOST]
    found, seen = [], set()
    names = Counter(f.shot.path.name for f in fitted[::2])
    for plus, minus in zip(fitted[::2], fitted[1::2], strict=True):
        if {id(plus.shot), id(minus.shot)} & seen:  # shown again to make up the numbers
            continue
        seen |= {id(plus.shot), id(minus.shot)}
        images = [load(f, spec)[0] for f in (plus, minus)]
        stills = [image if image.ndim == 3 else image[0] for image in images]
        told = [_name(f.shot, names[plus.shot.path.name] > 1) for f in (plus, minus)]
        sizes = (plus.shot.width, plus.shot.height), (minus.shot.width, minus.shot.height)
        name = told[0] if told[0] == told[1] else " / ".join(told)
        found.append(Patient(name, stills[0], stills[1], plus.shot.caption, minus.shot.caption, *sizes))
    return found


def _name(shot: Shot, twice: bool) -> str:
    """The file's name, with its folder where there are several of that name."""
    return f"{shot.path.parent.name}/{shot.path.name}" if twice and shot.pixels is None else shot.path.name


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
