"""What is written about an image beside it: its captions, and a strength of its own.

    01.txt, 01.caption          a caption, or one a line
    01.json                     {"caption": "a face", "strength": -0.5}, or a caption alone
    metadata.csv, .jsonl        a row for each image: file_name, and strength or text or both

A file beside an image counts before a table's row. Strengths make graded images: one folder may hold all of a slider.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, all_are, clean_text, is_number, need, parse_json, reason, shown
from ..config.regular_files import inside, open_file, read_text
from .bucket_files import TABLES, BucketFiles, endings
from .bucket_spec import BucketSpec, CaptionFrom

CAPTION_KEYS = ("caption", "prompt", "text", "description", "tags")
STRENGTH_KEYS = ("strength", "slider_strength")
NAME_KEYS = ("file_name", "filename", "file", "image")
MOST_CAPTION = 64 << 10  # bytes
MOST_TABLE = 4 << 20
MOST_HEAD = 4 << 10  # bytes of a file that are looked at to tell whether it holds strengths
Row = Mapping[str, Any]


@dataclass
class BucketText:
    """What is written about the images of a bucket. `rows`: those of its tables, by the file that each names.

    `roots`: where files may lie really; None for anywhere."""

    spec: BucketSpec
    files: BucketFiles
    roots: Sequence[Path] | None = None
    rows: dict[Path, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table in self.files.tables:
            rows = _table(table, self.roots)
            by_path = {table.parent / name: row for name, row in rows.items()}
            images = set(self.files.images)
            gone = [path for path in by_path if path not in images]
            self.files.line(gone, f"named in {table.name}, but no image of this bucket")
            self.rows |= by_path
        self._leave_out_notes()

    def _leave_out_notes(self) -> None:
        """A line about each .json that says no strength and lies beside another caption."""
        for image, file in list(self.files.notes.items()):
            strength = None
            with suppress(SliderError):
                strength = _strength_of(_json(file, self._read(file)), f"Caption {file}")
            if strength is None:
                self.files.line([file], "not used, beside another caption and without a strength")
                del self.files.notes[image]

    def captions(self, image: Path) -> tuple[str, ...]:
        """The captions of an image, of which a step draws one; one empty caption where there is none."""
        spec = self.spec
        captions = [""]
        if spec.caption is not None or spec.captions is CaptionFrom.INSTANCEPROMPT:
            captions = [spec.caption or ""]
        elif spec.captions is CaptionFrom.FILENAME:
            captions = [re.sub(r"[_\-]+", " ", image.stem)]
        elif spec.captions in (CaptionFrom.TEXTFILE, CaptionFrom.TEXTLINES):
            captions = self._written_captions(image)
        lines = [clean_text(f"{spec.trigger} {' '.join(caption.split())}".strip()) for caption in captions]
        return tuple(dict.fromkeys(lines))

    def _written_captions(self, image: Path) -> list[str]:
        file = self.files.captions.get(image)
        if file is None:
            return [_caption_of(self.rows.get(image, {}), f"The row of {image.name}")]
        content = self._read(file)
        if file.suffix.lower() == ".json":
            return [_caption_of(_json(file, content), f"Caption {file}")]
        if self.spec.captions is CaptionFrom.TEXTFILE:
            return [content]
        return [line for line in content.splitlines() if line.strip()] or [""]

    def strength(self, image: Path) -> float | None:
        """The strength that is written beside an image or in its row; None where there is none. SliderError for no number."""
        for file in (self.files.captions.get(image), self.files.notes.get(image)):
            if file is not None and file.suffix.lower() == ".json":
                strength = _strength_of(_json(file, self._read(file)), f"Caption {file}")
                if strength is not None:
                    return strength
        return _strength_of(self.rows.get(image, {}), f"The row of {image.name}")

    def _read(self, file: Path) -> str:
        if not inside(file, self.roots):
            raise SliderError(f"Caption {file} leads outside the folders for datasets. Copy it there.", "caption.outside")
        return read_text(file, "Caption", "caption.unreadable", MOST_CAPTION)


def _json(path: Path, content: str) -> Any:
    return parse_json(content, f"Caption {path}", "caption.json", "Mend or remove it.")


def _caption_of(value: Any, what: str) -> str:
    """The text of a .json or of a row: what stands under one of CAPTION_KEYS; a list of tags is joined."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in CAPTION_KEYS if value.get(key) is not None), "")
    if isinstance(value, list) and all_are(str, value):
        value = ", ".join(value)
    form = f"{what} must hold a text, or one under {', '.join(CAPTION_KEYS)}."
    need(isinstance(value, str), form, "caption.json")
    return str(value)


def _strength_of(value: Any, what: str) -> float | None:
    written = None
    if isinstance(value, Mapping):
        written = next((value[key] for key in STRENGTH_KEYS if value.get(key) not in (None, "")), None)
    if isinstance(written, str):
        with suppress(ValueError):
            written = float(written)
    if written is None:
        return None
    message = f"{what}: strength must be a finite number, got {shown(repr(written))}."
    need(is_number(written), message, "caption.strength")
    return float(written)


def _table(path: Path, roots: Sequence[Path] | None) -> dict[str, Row]:
    """The rows of a .csv or .jsonl by the file that each names; SliderError where one names none."""
    need(inside(path, roots), f"Table {path} leads outside the folders for datasets. Copy it there.", "table.outside")
    lines = io.StringIO(read_text(path, "Table", "table.unreadable", MOST_TABLE), newline=None)  # ends of lines of every system
    rows: list[Row] = []
    if path.suffix.lower() == ".csv":
        try:
            rows += csv.DictReader(lines)
        except csv.Error as fault:
            raise SliderError(f"Table {path} is no CSV ({reason(fault)}). Save it anew, or remove it.", "table.csv") from None
    else:
        rows += [parse_json(line, f"Table {path}", "table.json", "Mend or remove it.") for line in lines if line.strip()]
    named = {}
    for number, row in enumerate(rows, 1):
        keys = [key for key in NAME_KEYS if isinstance(row, Mapping) and isinstance(row.get(key), str)]
        need(bool(keys), f"Table {path}, row {number}: {', '.join(NAME_KEYS)}: one must name the image.", "table.name")
        named[str(row[keys[0]])] = row
    return named


def has_strengths(folder: Path) -> bool:
    """Whether images right in a folder have strengths of their own, as far as the first bytes of what lies there show."""
    if not folder.is_dir():
        return False
    images = set()
    notes = []
    tables = []
    for path in filter(Path.is_file, folder.iterdir()):
        ending = path.suffix.lower()
        if ending in endings():
            images.add(path.stem)
        elif path.name.lower() in TABLES:
            tables.append(path)
        elif ending == ".json":
            notes.append(path)
    beside = [path for path in notes if path.stem in images]
    return bool(images) and any(map(_speaks_of_strength, [*tables, *beside]))


def _speaks_of_strength(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return STRENGTH_KEYS[0].encode() in file.read(MOST_HEAD)
    except (OSError, ValueError):
        return False
