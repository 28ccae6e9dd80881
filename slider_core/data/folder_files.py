"""The images in a dataset's folder as rows of pairs, and moving them: swap, order anew, take away. Nothing is ever deleted or
written over: what is taken away lies in removed/, and all moves of a call happen or none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ..config.checks import SliderError, need, reason
from ..config.names import check_file_name
from .bitmap_clip import by_number
from .bucket_files import CAPTION_ENDINGS, bucket_files
from .bucket_spec import Pairing
from .buckets import ImageSample
from .buckets_paired import lower_names, match_pairs
from .dataset import sides_named

SIDES = ("positive", "negative", "neutral")
REMOVED = "removed"
MOVING = re.compile(r"\.moving \d+ (.+)", re.DOTALL)
MOST_MOVES = 2000
Move = tuple[str, str]  # "positive/01.png" -> "negative/01.png"
Row = tuple[str | None, str | None]  # file names of a pair, positive and negative; None where there is none yet


@dataclass(frozen=True)
class FolderRows:
    """`rows` as a training would pair them, then what has no partner; `by_name`: because their names are the same."""

    rows: tuple[Row, ...]
    by_name: bool
    neutral: tuple[str, ...]


def side_folder(folder: Path, side: str) -> Path:
    """The folder of a side under the name that it has, in whatever letters; as it would be made where there is none."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return next((path for path in inside if path.is_dir() and path.name.lower() == side), folder / side)


def _samples(folder: Path, side: str) -> list[ImageSample]:
    """The images of a side by path alone: nothing is opened."""
    return [ImageSample(path, "", 0.0, 1, 1, "") for path in _images(side_folder(folder, side))]


def _images(place: Path) -> list[Path]:
    """The images in a side's own folder, in the order of their names."""
    files = bucket_files(place).images if place.is_dir() else []
    return [path for path in files if path.parent == place]


def need_flat(folder: Path) -> None:
    """SliderError for a dataset's folder with masks, or images in subfolders: what belongs together there is moved by hand."""
    for side in SIDES:
        place = side_folder(folder, side)
        if place.is_dir():
            found = bucket_files(place)
            flat = not found.masks and all(path.parent == place for path in found.images)
            need(flat, f"{place.name}/ has masks or subfolders: arrange its images by hand.", "move.nested")


def folder_rows(folder: Path) -> FolderRows:
    """The pairs of a folder as they are now, also of one that is being filled and lacks some."""
    positive, negative = _samples(folder, "positive"), _samples(folder, "negative")
    neutral = _file_names(_samples(folder, "neutral"))
    pairs = match_pairs(positive, negative, Pairing.AUTO)[0] if positive and negative else []
    unique = all(len(lower_names(side)) == len(side) for side in (positive, negative))
    if unique and all(plus.name.lower() == minus.name.lower() for plus, minus in pairs):
        return FolderRows(_rows_by_name(positive, negative), True, neutral)
    by_order = zip_longest(_file_names(positive), _file_names(negative))
    return FolderRows(tuple(by_order), False, neutral)


def file_stamps(folder: Path, rows: FolderRows) -> dict[str, str]:
    """For each image, as "positive/01.png", a text that stays with it when it is renamed, and that no other file has: two may be
    of one time and size."""
    places = [("neutral", name) for name in rows.neutral]
    for positive, negative in rows.rows:
        places += [("positive", positive or ""), ("negative", negative or "")]
    stamps = {}
    for side, name in places:
        if name:
            status = (side_folder(folder, side) / name).stat()
            stamps[f"{side}/{name}"] = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return stamps


def _file_names(samples: Sequence[ImageSample]) -> tuple[str, ...]:
    return tuple(sample.path.name for sample in samples)


def _rows_by_name(positive: Sequence[ImageSample], negative: Sequence[ImageSample]) -> tuple[Row, ...]:
    plus = {sample.name.lower(): sample.path.name for sample in positive}
    minus = {sample.name.lower(): sample.path.name for sample in negative}
    names = sorted(plus.keys() | minus.keys(), key=by_number)
    return tuple((plus.get(name), minus.get(name)) for name in names)


def _parts(place: str, sides: Sequence[str]) -> tuple[str, str]:
    """(side, file name) of "positive/01.png"."""
    side, _, name = place.partition("/")
    need(side in sides, f'"{place}" is no place for an image. Give {", ".join(sides)} and the name of a file.', "move.place")
    return side, name


def _inside(folder: Path, side: str) -> Path:
    """The folder of a side; SliderError where a link leads out of the dataset's folder."""
    place = side_folder(folder, side)
    inside = place.resolve().is_relative_to(folder.resolve()) and not place.is_symlink()
    need(inside, f"Folder {place} is a link. Arrange its images by hand.", "move.outside")
    return place


def _source(folder: Path, place: str, images: dict[Path, set[Path]]) -> Path:
    """The file of a place. `images`: those of the sides that were looked through already."""
    side, name = _parts(place, (*SIDES, REMOVED))
    place_in = _inside(folder, side)
    if place_in not in images:
        images[place_in] = set(_images(place_in))
    file = place_in / name
    need(file in images[place_in], f"{file} is not there any more. Look at the pairs again.", "move.missing")
    return file


def _target(folder: Path, place: str, source: Path) -> Path:
    """Where a file goes; into removed/ under a name that is free."""
    if place == REMOVED:
        return _free(_inside(folder, REMOVED) / f"{source.parent.name} {source.name}")
    side, name = _parts(place, SIDES)
    check_file_name(name, "The new name")
    plain = name.isprintable() and not name.startswith(".")  # what is hidden is no image
    need(plain, f'"{name}" cannot be the name of an image. Use letters, digits, - and _.', "move.name")
    same = Path(name).suffix.lower() == source.suffix.lower()
    need(same, f"{source.name} cannot become {name}: its ending says what it is. Keep it.", "move.ending")
    return _inside(folder, side) / name


def _free(file: Path) -> Path:
    """The file's own name, or one with a number: no other file begins so, thus its caption finds a place too."""
    taken = set()
    if file.parent.is_dir():
        taken = {path.stem.lower() for path in file.parent.iterdir()}
    stem = file.stem
    number = 1
    while stem.lower() in taken:
        number += 1
        stem = f"{file.stem} ({number})"
    return file.with_name(stem + file.suffix)


def _captions(image: Path) -> list[Path]:
    """The captions beside an image, unless another image has them too."""
    beside = [path for path in image.parent.iterdir() if path.stem == image.stem and path != image]
    captions = [path for path in beside if path.suffix.lower() in CAPTION_ENDINGS and path.is_file()]
    return captions if len(captions) == len(beside) else []


def _steps(folder: Path, moves: Sequence[Move]) -> dict[Path, Path]:
    """Every file that moves with its new place; SliderError where two would meet."""
    steps: dict[Path, Path] = {}
    images: dict[Path, set[Path]] = {}
    for source, target in moves:
        file = _source(folder, source, images)
        need(file not in steps, f"{source} is moved twice. Name it once.", "move.twice")
        steps[file] = _target(folder, target, file)
    for image, place in list(steps.items()):
        for caption in _captions(image):
            steps[caption] = place.with_suffix(caption.suffix)
    taken: set[str] = set()
    for file, place in steps.items():
        name = str(place).lower()
        free = name not in taken and (place in steps or not os.path.lexists(place) or place == file)
        need(free, f"{place} is there already. Move it first.", "move.taken")
        taken.add(name)
    return steps


@contextmanager
def _all_or_none() -> Iterator[list[tuple[Path, Path]]]:
    """What is renamed within the block is put back when it fails."""
    done: list[tuple[Path, Path]] = []
    try:
        yield done
    except OSError as fault:
        for before, after in reversed(done):
            after.rename(before)
        what = f"{fault.filename} cannot be moved ({reason(fault)}). Nothing was changed; check its rights."
        raise SliderError(what, "move.refused") from fault


def move_files(folder: Path, moves: Sequence[Move]) -> list[Move]:
    """Move images between the sides of a dataset's folder, each with its caption. Gives the moves as they were done.

    The target "removed" stands for a free name in removed/. SliderError for a file that is gone, a name that is taken, a link
    that leads out of the folder; then nothing is changed.
    """
    need(len(moves) <= MOST_MOVES, f"{len(moves)} moves at once, {MOST_MOVES} at most. Make fewer.", "move.many")
    steps = _steps(folder, moves)
    with _all_or_none() as done:
        for place in steps.values():
            place.parent.mkdir(exist_ok=True)
        waiting = []
        for number, (file, place) in enumerate(steps.items()):
            between = file.with_name(f".moving {number} {file.name}")  # as MOVING reads it
            file.rename(between)
            done.append((file, between))
            waiting.append((between, place))
        for between, place in waiting:
            between.rename(place)
            done.append((between, place))
    files = list(steps.items())[: len(moves)]
    return [(place_of(folder, file), place_of(folder, place)) for file, place in files]


def rename_folder(folder: Path, name: str) -> Path:
    """Give a dataset's folder another name, in the place where it lies. SliderError for a name that is taken, or is a side's."""
    check_file_name(name, "The new name")
    plain = name.isprintable() and not name.startswith(".") and name.lower() not in (*SIDES, REMOVED) and not sides_named([name])
    need(plain, f'"{name}" cannot be the name of a set of images. Use another.', "rename.name")
    place = folder.with_name(name)
    free = not os.path.lexists(place) or place.samefile(folder)  # the same in other letters
    need(free, f"{name} is there already. Choose another name.", "rename.taken")
    with _all_or_none() as done:
        folder.rename(place)
        done.append((folder, place))
    return place


def put_back(folder: Path) -> None:
    """Give the images that a kill has left half way in a move their names again, or others where those are taken."""
    for side in (*SIDES, REMOVED):
        place = side_folder(folder, side)
        if not place.is_dir():
            continue
        for path in list(place.iterdir()):
            match = MOVING.fullmatch(path.name)
            if match:
                before = path.with_name(match[1])
                if os.path.lexists(before):
                    before = _free(before)
                path.rename(before)


def place_of(folder: Path, file: Path) -> str:
    """positive/01.png of a file, its side in small letters."""
    side, name = file.relative_to(folder).parts
    return f"{side.lower()}/{name}"
