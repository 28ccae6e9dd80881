"""What a bucket's folder holds: images, the mask and the caption of each, and a line for everything that is used as nothing.

Subfolders are walked, as SimpleTuner does; where clips are asked for, a folder of images is a clip. A mask is an image whose name
is that of another one with `-masklabel`, `_mask` or the like behind it, or one of the same name in a folder `masks` inside the
bucket or `<bucket>_mask` beside it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config.checks import need, shown
from ..config.regular_files import is_folder, naming
from .bitmap import CLIP_ENDINGS, PLUGINS, image_endings
from .bitmap_clip import in_order

CAPTION_ENDINGS = (".txt", ".caption", ".json")  # the first that lies beside an image counts
TABLES = ("metadata.csv", "metadata.jsonl")  # rows about images
IGNORED = {".ds_store", "thumbs.db", "desktop.ini"}  # what file managers leave behind
MASK = re.compile(r"(.+?)[-_. ](?:masklabel|mask|condlabel)$", re.IGNORECASE)
MASK_FOLDERS = ("mask", "masks", "masklabel")
DEEPEST = 8  # folders below the bucket's own
MOST_FILES = 100_000  # that are walked
NAMED = 5  # files that a line names
ODD = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "device"), (stat.S_ISCHR, "device"))


@dataclass
class BucketFiles:
    """`images`: images, clips and folders of frames in the order of their names; `masks` and `captions` by image.

    `notes`: a .json beside another caption, which may hold a strength. `tables`: files of rows about images. `unused`: a line for
    each kind of thing that is not used, or used as something else than an image."""

    folder: Path
    images: list[Path] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)
    captions: dict[Path, Path] = field(default_factory=dict)
    notes: dict[Path, Path] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    seen: int = 0  # files and folders

    def inside(self, image: Path) -> str:
        """The folder of an image below the bucket's own, with forward slashes; empty for the bucket's."""
        return image.parent.relative_to(self.folder).as_posix().removeprefix(".")

    def line(self, paths: Sequence[Path], what: str) -> None:
        """A line about several files; none for none."""
        if not paths:
            return
        home = self.folder.parent
        names = []
        for path in paths[:NAMED]:
            if path.is_relative_to(home):  # a table may name any
                path = path.relative_to(home)
            names.append(shown(path.as_posix()))
        if len(paths) > NAMED:
            names.append(f"and {len(paths) - NAMED} more")
        self.unused.append(f"{', '.join(names)}: {what}")


def endings() -> tuple[str, ...]:
    """What an image or a clip may end in, on this machine."""
    return (*image_endings(), *CLIP_ENDINGS)


def is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in IGNORED


def walked(folder: Path, clips: bool, found: BucketFiles, deep: int = 0, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file below `folder`, and where `clips` are asked for every folder of images; what is hidden is left out."""
    real = os.path.realpath(folder)
    if deep > DEEPEST or real in above:
        found.line([folder], "not read: a folder too deep, or a link that goes round")
        return
    with naming("Folder", folder, "folder.unreadable"):
        content = in_order(folder.iterdir())
    found.seen += len(content)
    many = f"{found.folder} holds more than {MOST_FILES} files and folders. Give the folder of the images themselves."
    need(found.seen <= MOST_FILES, many, "folder.too_many")
    hidden = []
    folders = []
    for path in content:
        if is_hidden(path):
            hidden.append(path)
        elif is_folder(path):
            folders.append(path)
        else:
            yield path
    found.line([path for path in hidden if path.name.lower() not in IGNORED], "hidden, left out")
    for inner in folders:
        with naming("Folder", inner, "folder.unreadable"):
            inside = [path for path in inner.iterdir() if not is_hidden(path)]
        is_clip = clips and any(path.suffix.lower() in endings() for path in inside)
        if is_clip and inner.name.lower() not in MASK_FOLDERS:
            yield inner
        elif inside:
            yield from walked(inner, clips, found, deep + 1, (*above, real))
        else:
            found.line([inner], "an empty folder")


def bucket_files(folder: Path, clips: bool = False) -> BucketFiles:
    """Everything in a bucket's folder. `clips`: a folder of images is one clip, else its images are images of the bucket."""
    found = BucketFiles(folder)
    files = list(walked(folder, clips, found))
    images = [path for path in files if is_folder(path) or (path.suffix.lower() in endings() and _may_be_read(path))]
    _sort_out_masks(found, images)
    _find_captions(found, files)
    found.tables = [path for path in files if path.name.lower() in TABLES and path.is_file()]
    used = {*images, *found.captions.values(), *found.notes.values(), *found.tables}
    _name_unused(found, [path for path in files if path not in used])
    return found


def _may_be_read(path: Path) -> bool:
    """A file; or a link that leads nowhere, or what cannot be looked at, which the reader names as a fault."""
    try:
        return path.is_file() or (path.is_symlink() and not path.exists())
    except OSError:
        return True


def _sort_out_masks(found: BucketFiles, images: Sequence[Path]) -> None:
    """Which of the images are masks of others; a line for those, and for what only looks like one."""
    by_name = {_key(path): path for path in images}
    masks: dict[Path, Path] = {}
    alone = []
    for path in images:
        match = MASK.match(path.stem)
        stem = match[1] if match else path.stem
        in_folder = path.parent.name.lower() in MASK_FOLDERS and path.parent != found.folder
        owner = None
        if in_folder:
            owner = by_name.get(_key(path.parent.parent / f"{stem}.png"))
        elif match:
            owner = by_name.get(_key(path.with_name(f"{stem}.png")))
        if owner is not None and owner != path:
            masks[owner] = path
        elif match or in_folder:
            alone.append(path)
    found.images = [path for path in images if path not in masks.values()]
    found.masks = _twin_masks(found.folder, found.images) | masks
    found.line(list(found.masks.values()), "used as masks: where they are dark an image is not trained on")
    found.line(alone, "used as images, although named like masks: no image of that name lies beside them")


def _key(path: Path) -> tuple[Path, str]:
    return path.parent, path.stem.lower()


def _twin_masks(folder: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Masks in a folder beside the bucket, such as positive_mask/ or masks/positive/, by image."""
    twins: dict[Path, Path] = {}
    sides = [folder.with_name(f"{folder.name}{mark}{name}") for mark in "-_" for name in MASK_FOLDERS]
    sides += [folder.parent / name / folder.name for name in MASK_FOLDERS]
    for side in sides:
        if not side.is_dir():
            continue
        masks = {path.stem.lower(): path for path in side.iterdir() if path.suffix.lower() in image_endings()}
        for image in images:
            if image.parent == folder and image.stem.lower() in masks:
                twins[image] = masks[image.stem.lower()]
    return twins


def _find_captions(found: BucketFiles, files: Sequence[Path]) -> None:
    texts: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        ending = path.suffix.lower()
        if ending in CAPTION_ENDINGS and path.is_file():
            texts.setdefault((path.parent, path.stem), {}).setdefault(ending, path)
    for image in found.images:
        beside = texts.get((image.parent, image.stem), {})
        first = next(filter(None, map(beside.get, CAPTION_ENDINGS)), None)
        if first is not None:
            found.captions[image] = first
        if ".json" in beside and beside[".json"] != first:
            found.notes[image] = beside[".json"]


def _name_unused(found: BucketFiles, paths: Sequence[Path]) -> None:
    """A line for each kind of file that nothing is made of."""
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(_kind(path), []).append(path)
    for kind, of_kind in kinds.items():
        found.line(of_kind, f"not used, {kind}")


def _kind(path: Path) -> str:
    """Why a file is not used."""
    ending = path.suffix.lower()
    mode = path.stat().st_mode if path.exists() else 0
    odd = [name for is_one, name in ODD if is_one(mode)]
    if odd:
        return f"a {odd[0]} and no file"
    if ending in PLUGINS:
        return f"its format needs a package: pip install {PLUGINS[ending][1]}"
    if ending in CAPTION_ENDINGS:
        return "a caption without an image of its name, or beside another caption"
    return f"{ending or 'no ending'} is neither an image nor a caption here"
