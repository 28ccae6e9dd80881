"""What the VAE and the text encoder made, kept on disk: a second run reads it, and whatever is damaged is made anew.

    folder/3f/3f9a….safetensors    one entry: tensors by number, and in the metadata
        format     ours, with its version
        structure  JSON: {"value": lists, {"tuple": …}, {"dict": …}, {"tensor": 0}, …, "tensors": [[dtype, shape], …]}
        checksum   SHA-256 over format, key, structure and the tensors' bytes

An entry is written beside its place and renamed, so several processes may share a folder: the last writer wins and a reader
never sees half of one. Nothing is unpickled. Cost: one copy of the value in memory and a SHA-256 over it, each way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..config.checks import SliderError

FORMAT = "slider_cache.v1"
KEY = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}\.tmp")
HEADER_MOST = 2 * 1024**2  # bytes of JSON before the tensors, written and read
DEPTH_MOST, NODES_MOST = 32, 10_000  # of a structure
KEEP = 0.9  # share of the budget that is kept when it is passed
STALE = 3600  # seconds after which a temporary file has no writer any more
# fmt: off
NAMED = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8", "uint8",
         "bool")  # what every release of safetensors can name; the others go into the file as bytes
AS_BYTES = ("complex128", "complex64", "complex32", "uint64", "uint32", "uint16", "float8_e4m3fnuz", "float8_e5m2fnuz",
            "float8_e8m0fnu", "float4_e2m1fn_x2")
DAMAGED = (SafetensorError, struct.error, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
           ValueError)  # what reading a file with anything in it may raise
# fmt: on
DTYPES = {name: getattr(torch, name) for name in (*NAMED, *AS_BYTES) if hasattr(torch, name)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@contextlib.contextmanager
def _plain_torch() -> Iterator[None]:
    """Tensors made here are normal ones on the CPU, whatever mode or default device the caller is in."""
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        yield


# --- a value as structure and tensors


class _Packer:
    """Takes a value apart. A tensor that occurs in two places is kept once."""

    def __init__(self, most: int) -> None:
        self.tensors: list[torch.Tensor] = []  # contiguous, on the CPU, own memory
        self._room, self._nodes, self._numbers = most, 0, dict[int, int]()

    def pack(self, value: Any, depth: int = 0) -> Any:
        """The JSON form of `value`; SliderError says what cannot be written."""
        self._nodes += 1
        if depth > DEPTH_MOST or self._nodes > NODES_MOST:
            raise SliderError(f"An entry has at most {DEPTH_MOST} levels and {NODES_MOST} parts")
        kind = type(value)  # exact: a subclass would come back as something else
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
        if kind in (list, tuple):
            parts = [self.pack(part, depth + 1) for part in value]
            return parts if kind is list else {"tuple": parts}
        if kind is dict and all(type(name) is str for name in value):
            return {"dict": {name: self.pack(part, depth + 1) for name, part in value.items()}}
        if kind in (torch.Tensor, torch.nn.Parameter):
            return {"tensor": self._number(value)}
        raise SliderError(f"A {kind.__name__} {'whose keys are not all text ' if kind is dict else ''}cannot be cached")

    def _number(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self._numbers:
            if tensor.dtype not in NAMES or tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
                raise SliderError(f"A tensor of {tensor.dtype}, {tensor.layout} on {tensor.device} cannot be cached")
            self._room -= tensor.numel() * tensor.element_size()
            if self._room < 0:  # before the copy: an expanded tensor may claim more than there is memory
                raise SliderError("The tensors are larger than the cache's budget")
            self._numbers[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format))
        return self._numbers[id(tensor)]


def _unpack(node: Any, tensors: list[torch.Tensor], depth: int = 0) -> Any:
    """The value of a structure; one of DAMAGED when it is none."""
    match node if depth <= DEPTH_MOST else {}:
        case None | bool() | int() | float() | str():
            return node
        case list():
            return [_unpack(part, tensors, depth + 1) for part in node]
        case {"tuple": list(parts)}:
            return tuple(_unpack(part, tensors, depth + 1) for part in parts)
        case {"dict": dict(parts)}:
            return {name: _unpack(part, tensors, depth + 1) for name, part in parts.items()}
        case {"float": str(digits)}:
            return struct.unpack(">d", bytes.fromhex(digits))[0]
        case {"tensor": int(number)}:
            return tensors[number]
    raise ValueError(f"not a part of a structure: {type(node).__name__}, level {depth}")


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """(bytes,) uint8, the same memory."""
    return tensor.reshape(-1).view(torch.uint8)


def _checksum(key: str, structure: str, tensors: list[torch.Tensor]) -> str:
    """64 hex digits. The key is in it, so that an entry under another's name is noticed too."""
    digest = hashlib.sha256(f"{FORMAT}\n{key}\n{structure}\n".encode())
    for tensor in tensors:
        digest.update(_bytes(tensor).numpy())
    return digest.hexdigest()


@_plain_torch()
def _pack(key: str, value: Any, most: int) -> bytes:
    """The file's content. SliderError when something has no place in it or it is longer than `most` bytes; ValueError for an
    integer of thousands of digits, RuntimeError when there is no memory for a copy."""
    packer = _Packer(most)
    tree = packer.pack(value)
    kinds = [[NAMES[t.dtype], list(t.shape)] for t in packer.tensors]
    structure = json.dumps({"value": tree, "tensors": kinds}, separators=(",", ":"), allow_nan=False)
    told = {"format": FORMAT, "structure": structure, "checksum": _checksum(key, structure, packer.tensors)}
    content = save({str(n): t if NAMES[t.dtype] in NAMED else _bytes(t) for n, t in enumerate(packer.tensors)}, told)
    if len(content) > most or int.from_bytes(content[:8], "little") > HEADER_MOST:
        raise SliderError(f"{len(content)} bytes are more than the budget of {most}, or hold too much text")
    return content


def _restored(stored: torch.Tensor, name: str, shape: list[int]) -> torch.Tensor:
    tensor = stored if name in NAMED else stored.view(DTYPES[name]).reshape(shape)
    if tensor.dtype is not DTYPES[name] or list(tensor.shape) != shape:
        raise ValueError(f"not the {name} tensor of {shape} that was written")
    return tensor


@_plain_torch()
def _unpacked(key: str, content: bytes) -> Any:
    """The value of a file's content, which may be anybody's: one of DAMAGED for whatever is wrong with it."""
    length = int.from_bytes(content[:8], "little")
    if length > min(HEADER_MOST, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    told = json.loads(content[8 : 8 + length])["__metadata__"]
    stored = load(content)
    tensors = [stored[str(number)] for number in range(len(stored))]
    if told["format"] != FORMAT or told["checksum"] != _checksum(key, told["structure"], tensors):
        raise ValueError("another format or checksum")
    tree = json.loads(told["structure"])
    return _unpack(tree["value"], [_restored(t, *kind) for t, kind in zip(tensors, tree["tensors"], strict=True)])


# --- the folder


class DiskCache:
    """Values by key in `folder`, at most `budget` bytes of them; nothing is created before the first `put`.

    `hits`, `misses` (damaged entries among them) and `damaged` count what `get` found, `unkept` what `put` could not keep.
    A disk that is full or read-only raises nothing: `words()` says so. A key that `key()` did not make is a ValueError.
    """

    def __init__(self, folder: Path, budget: int = 2 * 1024**3) -> None:
        self.folder, self.budget = Path(folder), int(budget)
        self.hits = self.misses = self.damaged = self.unkept = 0
        self.trouble = ""  # the last, in the system's words
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
            value = None if content is None else _unpacked(key, content)
        except DAMAGED:
            return self._missed(self._remove(path), damaged=1)
        except OSError as fault:
            return self._missed(str(fault))
        if content is None:
            return self._missed()
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
            content = _pack(key, value, self.budget)
            self._write(path, content)
        except (OSError, SafetensorError, ValueError, RuntimeError) as fault:
            with self._lock:
                self.unkept += 1
                self.trouble = str(fault).split("\n")[0]
            return False
        with self._lock:
            try:
                self._make_room(path, len(content))
            except OSError as fault:  # the entry is there all the same
                self.trouble = str(fault)
        return True

    def summary(self) -> str:
        """One line for the user."""
        line = f"Encoded before: {self.hits} of {self.hits + self.misses} encodings"
        line += f" (damaged on disk: {self.damaged})" if self.damaged else ""
        line += f", {self.unkept} could not be kept" if self.unkept else ""
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
            return str(fault)
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
                self.trouble = trouble or self.trouble
                held -= 0 if trouble else size
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
