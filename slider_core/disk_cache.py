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
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

FORMAT = "slider_cache.v1"
KEY = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}\.tmp")
HEADER_MOST = 2 * 1024**2  # bytes of JSON before the tensors, read and written
DEPTH_MOST, NODES_MOST = 32, 10_000  # of a structure
KEEP = 0.9  # share of the budget that is kept when it is passed
STALE = 3600  # seconds after which a temporary file has no writer any more
# what every release of safetensors can name; other formats go into the file as bytes and are named in the structure
NAMED = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8", "uint8", "bool")  # fmt: skip
AS_BYTES = ("complex128", "complex64", "complex32", "uint64", "uint32", "uint16", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2")  # fmt: skip
DTYPES = {name: getattr(torch, name) for name in (*NAMED, *AS_BYTES) if hasattr(torch, name)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class UnwritableError(Exception):
    """The value holds something that has no place in a file."""


class DamagedError(Exception):
    """The file is not what was once written."""


class _Entry(NamedTuple):
    used_ns: int
    path: Path
    size: int


@contextlib.contextmanager
def _plain_torch() -> Iterator[None]:
    """Tensors made here are normal ones on the CPU, whatever mode or default device the caller is in."""
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        yield


# --- a value as structure and tensors


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as (bytes,) uint8."""
    return tensor.reshape(-1).view(torch.uint8)


class _Packer:
    """Takes a value apart. A tensor that occurs in two places is kept once."""

    def __init__(self, most: int) -> None:
        self.tensors: list[torch.Tensor] = []  # contiguous, on the CPU, own memory
        self._most, self._nodes, self._numbers = most, 0, dict[int, int]()

    def pack(self, value: Any, depth: int = 0) -> Any:
        """The JSON form of `value`; UnwritableError says what cannot be written."""
        self._nodes += 1
        if depth > DEPTH_MOST or self._nodes > NODES_MOST:
            raise UnwritableError(f"a structure of more than {DEPTH_MOST} levels or {NODES_MOST} parts")
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
        raise UnwritableError("a dict whose keys are not all text" if kind is dict else f"an object of the class {kind.__name__}")

    def _number(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self._numbers:
            if tensor.dtype not in NAMES or tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
                raise UnwritableError(f"a tensor of the kind {tensor.dtype}, {tensor.layout}, {tensor.device}")
            self._most -= tensor.numel() * tensor.element_size()
            if self._most < 0:  # before it is copied: an expanded tensor may claim more than there is memory
                raise UnwritableError("more than the cache's whole budget")
            plain = tensor.detach().to("cpu").resolve_conj().resolve_neg()
            self.tensors.append(plain.clone(memory_format=torch.contiguous_format))
            self._numbers[id(tensor)] = len(self.tensors) - 1
        return self._numbers[id(tensor)]


def _unpack(node: Any, tensors: list[torch.Tensor], depth: int = 0) -> Any:
    """The value of a structure; DamagedError when it is none."""
    if depth > DEPTH_MOST:
        raise DamagedError
    match node:
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
    raise DamagedError


def _checksum(key: str, structure: str, tensors: list[torch.Tensor]) -> str:
    """64 hex digits. The key is in it, so that an entry under another's name is noticed too."""
    digest = hashlib.sha256(f"{FORMAT}\n{key}\n{structure}\n".encode())
    for tensor in tensors:
        digest.update(_bytes(tensor).numpy())
    return digest.hexdigest()


def _pack(key: str, value: Any, most: int) -> bytes:
    """The file's content; UnwritableError when something has no place in it or it is longer than `most` bytes."""
    with _plain_torch():
        packer = _Packer(most)
        try:
            tree = packer.pack(value)
            kinds = [[NAMES[t.dtype], list(t.shape)] for t in packer.tensors]
            structure = json.dumps({"value": tree, "tensors": kinds}, separators=(",", ":"), allow_nan=False)
        except (ValueError, RuntimeError) as fault:  # a number of thousands of digits; no memory for a copy
            raise UnwritableError(str(fault).splitlines()[0]) from None
        if len(structure) > HEADER_MOST:
            raise UnwritableError(f"more than {HEADER_MOST} bytes of text")
        told = {"format": FORMAT, "structure": structure, "checksum": _checksum(key, structure, packer.tensors)}
        tensors = {str(n): t if NAMES[t.dtype] in NAMED else _bytes(t) for n, t in enumerate(packer.tensors)}
        content = save(tensors, told)
    if len(content) > most or int.from_bytes(content[:8], "little") > HEADER_MOST:
        raise UnwritableError(f"{len(content)} bytes, which is more than an entry may have")
    return content


def _restored(stored: torch.Tensor, name: str, shape: list[int]) -> torch.Tensor:
    tensor = stored if name in NAMED else stored.view(DTYPES[name]).reshape(shape)
    if tensor.dtype is not DTYPES[name] or list(tensor.shape) != shape:
        raise DamagedError
    return tensor


def _opened(key: str, content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")
    if length > min(HEADER_MOST, len(content) - 8):
        raise DamagedError
    told = json.loads(content[8 : 8 + length])["__metadata__"]
    stored = load(content)
    tensors = [stored[str(number)] for number in range(len(stored))]
    if told["format"] != FORMAT or told["checksum"] != _checksum(key, told["structure"], tensors):
        raise DamagedError
    tree = json.loads(told["structure"])
    return _unpack(tree["value"], [_restored(t, *kind) for t, kind in zip(tensors, tree["tensors"], strict=True)])


def _unpacked(key: str, content: bytes) -> Any:
    """The value of a file's content. DamagedError for whatever is wrong with it: the content is anybody's."""
    try:
        with _plain_torch():
            return _opened(key, content)
    except (SafetensorError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        raise DamagedError from None
    except struct.error:
        raise DamagedError from None


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
        self._held: int | None = None  # bytes in the folder at the last look, and what was written since
        self._fresh = 0
        self._lock = threading.Lock()  # of the counts, and one thread clears away at a time

    def key(self, *parts: str) -> str:
        """64 hex digits: SHA-256 over this format's name and `parts`, each behind its length, so that ("ab", "c") is not ("a", "bc")."""
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
        except OSError as fault:
            return self._missed(str(fault))
        except DamagedError:
            return self._missed(self._remove(path), damaged=1)
        if content is None:
            return self._missed()
        with contextlib.suppress(OSError):  # another user's file: it looks older than it is, no more
            self._touch(path)
        with self._lock:
            self.hits += 1
        return value

    def put(self, key: str, value: Any) -> bool:
        """Keep `value`. False, and nothing is written, when it holds something else than tensors, lists, tuples, dicts with text
        keys, text, numbers, booleans and None, is larger than the budget, or the disk does not take it."""
        path = self._path(key)
        try:
            content = _pack(key, value, self.budget)
            self._write(path, content)
        except (OSError, UnwritableError) as fault:
            with self._lock:
                self.unkept += 1
                self.trouble = str(fault)
            return False
        with self._lock:
            self._make_room(path, len(content))
        return True

    def words(self) -> str:
        """One line for the user."""
        line = f"Cache: {self.hits} encodings read from disk, {self.misses} not there"
        line += f" ({self.damaged} of them damaged and removed)" if self.damaged else ""
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
        """The file's bytes, None where no file of ours is: links and pipes are somebody else's."""
        try:
            if path.parent.is_symlink() or not stat.S_ISREG(path.lstat().st_mode):
                return None
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self.budget:
                    raise DamagedError  # put() would not have written it
                return file.read(size)
        except FileNotFoundError:  # perhaps just cleared away by another process
            return None

    def _remove(self, path: Path) -> str:
        """Empty, or why it cannot be removed."""
        try:
            path.unlink(missing_ok=True)
        except OSError as fault:
            return str(fault)
        return ""

    def _touch(self, path: Path) -> None:
        now = time.time_ns()  # the file system's own clock is coarser, and would mix up the order
        os.utime(path, ns=(now, now))

    def _write(self, path: Path, content: bytes) -> None:
        """Whole or not at all. No fsync: after a power cut the checksum tells, and the entry is made anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():
            raise OSError(f"{path.parent} is a link; remove it")
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
        """Past the budget, the entries used longest ago go, `kept` never. The folder is looked through only when it may be
        needed: at the first put, past the budget, and every twentieth of it, because other processes write too."""
        self._fresh += written
        if self._held is not None and self._held + self._fresh <= self.budget and self._fresh <= self.budget / 20:
            return
        entries = sorted(self._entries())
        held = sum(entry.size for entry in entries)
        if held > self.budget:
            for entry in entries:
                if held <= KEEP * self.budget:
                    break
                if entry.path != kept:
                    trouble = self._remove(entry.path)
                    self.trouble = trouble or self.trouble
                    held -= 0 if trouble else entry.size
        self._held, self._fresh = held, 0

    def _entries(self) -> Iterator[_Entry]:
        """Every entry. Temporary files that a killed process left behind are removed; other files are not ours."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            name = path.name
            if path.parent.name != name[:2] or path.parent.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    continue
                if path.suffix == ".safetensors" and KEY.fullmatch(path.stem):
                    yield _Entry(status.st_mtime_ns, path, status.st_size)
                elif TEMPORARY.fullmatch(name) and status.st_mtime < time.time() - STALE:
                    self._remove(path)
