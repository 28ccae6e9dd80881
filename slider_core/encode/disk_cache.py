"""What the VAE and the text encoder made, kept on disk: a second run reads it, and whatever is damaged is made anew.

    folder/3f/3f9a….safetensors    one entry (cache_entry.py)

An entry is written beside its place and renamed, so several processes may share a folder: the last writer wins and a reader
never sees half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..config.checks import reason
from .cache_entry import DAMAGED, FORMAT, from_bytes, to_bytes

KEY = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}\.tmp")
KEEP = 0.9  # share of the budget that is kept when it is passed
STALE = 3600  # seconds after which a temporary file has no writer any more


class DiskCache:
    """Values by key in `folder`, at most `budget` bytes of them; nothing is created before the first `put`.

    `hits`, `misses` (damaged entries among them) and `damaged` count what `get` found, `unkept` what `put` could not keep.
    A disk that is full or read-only raises nothing: `summary()` says so. A key that `key()` did not make is a ValueError.
    """

    def __init__(self, folder: Path, budget: int = 2 * 1024**3) -> None:
        self.folder, self.budget = Path(folder), int(budget)
        self.hits = self.misses = self.damaged = self.unkept = 0
        self.trouble = ""  # the last, in words
        self._held: int | None = None  # bytes in the folder at the last look,
        self._fresh = 0  # and what was written since
        self._lock = threading.Lock()  # of the counts; and only one thread clears away at a time

    def key(self, *parts: str) -> str:
        """64 hex digits: SHA-256 over the format's name and `parts`, each behind its length: ("ab", "c") is not ("a", "bc")."""
        digest = hashlib.sha256()
        for part in (FORMAT, *parts):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()

    def get(self, key: str) -> Any | None:
        """The value: tensors on the CPU, without gradient. None when it is absent, damaged (then it is removed) or unreadable."""
        path = self._path(key)
        try:
            content = self._content(path)
            value = None if content is None else from_bytes(key, content)
        except DAMAGED:
            self._missed(self._remove(path), damaged=1)
            return None
        except OSError as fault:
            self._missed(reason(fault))
            return None
        if content is None:
            self._missed()
            return None
        with contextlib.suppress(OSError):  # another user's file: it only looks older than it is
            self._touch(path)
        with self._lock:
            self.hits += 1
        return value

    def put(self, key: str, value: Any) -> bool:
        """Keep `value`. False, and nothing is written, when it holds anything but tensors, lists, tuples, dicts with text keys,
        text, numbers, booleans and None, when it is larger than the budget, and when the disk does not take it."""
        path = self._path(key)
        try:
            content = to_bytes(key, value, self.budget)
            self._write(path, content)
        except (OSError, SafetensorError, ValueError, RuntimeError) as fault:
            with self._lock:
                self.unkept += 1
                self.trouble = reason(fault)
            return False
        with self._lock:
            try:
                self._make_room(path, len(content))
            except OSError as fault:  # the entry is there all the same
                self.trouble = reason(fault)
        return True

    def summary(self) -> str:
        """One line for the user."""
        line = f"{self.hits + self.misses} images and captions are encoded"
        if self.hits:
            line += f", {'all' if not self.misses else self.hits} of them in earlier runs"
        if self.damaged:
            line += f" (damaged on disk: {self.damaged})"
        if self.unkept:
            line += f", {self.unkept} could not be kept"
        return f"{line}. Last trouble: {self.trouble}." if self.trouble else f"{line}."

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"A cache key is 64 hex digits, got {key[:80]!r}; make it with key().")
        return self.folder / key[:2] / f"{key}.safetensors"

    def _missed(self, trouble: str = "", damaged: int = 0) -> None:
        with self._lock:
            self.misses += 1
            self.damaged += damaged
            self.trouble = trouble or self.trouble

    def _content(self, path: Path) -> bytes | None:
        """The file's bytes; None where no file of ours is, because links and pipes are somebody else's."""
        try:
            if path.parent.is_symlink() or not stat.S_ISREG(path.lstat().st_mode):
                return None
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self.budget:  # put() would not have written it
                    raise ValueError(f"{size} bytes are more than the budget")
                return file.read(size)
        except FileNotFoundError:  # or another process has just cleared it away
            return None

    def _remove(self, path: Path) -> str:
        """Empty, or why it cannot be removed."""
        try:
            path.unlink(missing_ok=True)
        except OSError as fault:
            return reason(fault)
        return ""

    def _touch(self, path: Path) -> None:
        now = time.time_ns()  # the file system's own clock is coarser and would mix up the order
        os.utime(path, ns=(now, now))

    def _write(self, path: Path, content: bytes) -> None:
        """Whole or not at all. Without fsync: after a power cut the checksum tells, and the entry is made anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():
            raise OSError(f"{path.parent} is a link, which the cache does not follow")
        temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
            self._touch(temporary)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, kept: Path, written: int) -> None:
        """Past the budget, the entries used longest ago go, `kept` never. The folder is looked through only when that may be
        needed: at the first put, past the budget, and after every twentieth of it, because other processes write too."""
        self._fresh += written
        if self._held is not None and self._held + self._fresh <= self.budget and self._fresh <= self.budget / 20:
            return
        entries = sorted(self._entries())
        held = sum(size for _, _, size in entries)
        full = held > self.budget
        for _, path, size in entries:
            if full and held > KEEP * self.budget and path != kept:
                trouble = self._remove(path)
                if trouble:
                    self.trouble = trouble
                else:
                    held -= size
        self._held, self._fresh = held, 0

    def _entries(self) -> Iterator[tuple[int, Path, int]]:
        """(last use in ns, path, bytes) of every entry. Temporary files of killed processes are removed; others are not ours."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if path.parent.name != path.name[:2] or path.parent.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    continue
                if path.suffix == ".safetensors" and KEY.fullmatch(path.stem):
                    yield status.st_mtime_ns, path, status.st_size
                elif TEMPORARY.fullmatch(path.name) and status.st_mtime < time.time() - STALE:
                    self._remove(path)
