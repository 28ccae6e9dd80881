"""Files that anyone may have put there, opened so that nothing in a folder can stop the program or fill its memory.

Only regular files are opened: a pipe or device would block, or never end. What is read is counted, because the size that a
file system reports may be 0. A path out of a choice is checked by the place that it really leads to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .checks import SliderError, clean_text, need, parse_json, reason

BLOCK = 1 << 20  # bytes that are read at once
MOST_TEXT = 1 << 20  # bytes of a caption, a prompt library, a configuration
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: Path) -> BinaryIO:
    """The file, opened for reading; OSError where it cannot be, and where it is no regular file. It never waits."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a device may already have an effect
        raise OSError(0, "it is no regular file", str(path))
    handle = os.open(path, FLAGS | getattr(os, "O_CLOEXEC", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise OSError(0, "it is no regular file", str(path))


def is_folder(path: Path) -> bool:
    """Whether it is one, as far as that can be seen: not on a drive that is gone, in a folder that may not be searched, or of a
    name that is too long or has a zero in it."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


@contextmanager
def naming(what: str, path: Path, code: str) -> Iterator[None]:
    """The system's errors in the block as one SliderError, which names the file in words."""
    try:
        yield
    except (OSError, ValueError) as fault:
        if isinstance(fault, SliderError):
            raise
        message = f"{what} {path} cannot be read ({reason(fault)}). Check the path and its permissions."
        raise SliderError(message, code) from None


def read_bytes(path: Path, most: int, what: str, code: str) -> bytes:
    """A file's content. SliderError with `code` where it cannot be read, "file.too_large" where it has more than `most` bytes."""
    parts: list[bytes] = []
    left = most + 1
    with naming(what, path, code), open_file(path) as file:
        while left > 0 and (part := file.read(min(BLOCK, left))):
            parts.append(part)
            left -= len(part)
    need(left > 0, f"{what} {path} is too large: more than {in_units(most)}. Give another file.", "file.too_large")
    return b"".join(parts)


def in_units(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB"


def read_text(path: Path, what: str, code: str, most: int = MOST_TEXT) -> str:
    """A file's text in UTF-8, with or without a mark at its beginning, cleaned. SliderError as for `read_bytes`."""
    content = read_bytes(path, most, what, code)
    try:
        return clean_text(content.decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        message = f"{what} {path} is not UTF-8 text (byte {fault.start}). Save it anew as UTF-8."
        raise SliderError(message, code) from None


def read_json(path: Path, what: str, code: str, most: int = MOST_TEXT, invalid: str = "") -> object:
    """A file's JSON value; `invalid`: the code for text that is none, else `code`."""
    return parse_json(read_bytes(path, most, what, code), f"{what} {path}", invalid or code)


def inside(path: Path, roots: Sequence[Path] | None) -> bool:
    """Whether the place that `path` really leads to, links followed, exists in one of `roots` (None: anywhere)."""
    if roots is None:
        return True
    try:
        real = path.resolve(strict=True)
        return any(real.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError, ValueError):  # gone, a loop of links, a name with a NUL
        return False
