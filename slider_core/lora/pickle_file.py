"""Tensors out of a `.pt` file, by an unpickler of our own that knows tensors and nothing else. Nothing in a file is run.

torch.load makes what a file claims: a storage of any size, a tensor that repeats one number a thousand million times. Here
a file is taken apart first; its storages are views of the bytes that were read, and a tensor is made of one only when it lies
inside it. Both of torch's formats are read, the zip archive and the older one of pickles in a row.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from ..config.checks import SliderError, all_are, all_whole, is_whole, need, reason, shown
from ..config.regular_files import naming, open_file, read_bytes

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
FILE_MOST = 8 << 30  # bytes
PROTO = b"\x80"  # how a pickle begins
PICKLE_MOST = 4 << 20  # bytes of a pickle: more than 20,000 tensors
DIRECTORY_MOST = 8 << 20  # bytes of a zip archive's directory
MAGIC = 0x1950A86A20F9469CFC6C  # torch's, of its older format
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
ODD = {"_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor", "_rebuild_qtensor"}


class _Storage(NamedTuple):
    """What a pickle says of a storage, whose bytes lie elsewhere. A tuple: no pickle can change one that was checked."""

    key: str
    dtype: torch.dtype
    numbers: int


Find = Callable[[_Storage], torch.Tensor]  # a storage's numbers


@dataclass
class _Claim:
    """What a pickle says of a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    state: Any = field(default=None)

    def __setstate__(self, state: Any) -> None:
        self.state = state  # attributes of a Python subclass: of no use here


def _claim(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> _Claim:
    whole = all_whole((offset, *shape, *stride))
    if not (isinstance(storage, _Storage) and whole and len(shape) == len(stride) <= 8):
        raise ValueError("a tensor without a size or place")
    return _Claim(storage, offset, tuple(shape), tuple(stride))


def _parameter(claim: Any, *_rest: Any) -> Any:
    return claim


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _claim,
    ("torch._utils", "_rebuild_tensor"): _claim,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle._Unpickler):  # in Python: the one in C makes a table of any size it is told
    """Knows the names of `_KNOWN`, by stand-ins of this file, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ODD:
            raise SliderError("a tensor that is not plain: convert it to safetensors", "file.odd_tensor")
        if (module, name) not in _KNOWN:
            raise ValueError(f"it holds {shown(f'{module}.{name}')}")
        return _KNOWN[module, name]

    def persistent_load(self, mark: Any) -> _Storage:
        if not (isinstance(mark, tuple) and len(mark) >= 5 and mark[0] == "storage" and isinstance(mark[1], torch.dtype)):
            raise ValueError("a storage of another kind")
        if str(mark[3]) == "meta":
            raise SliderError("a tensor without numbers: convert it to safetensors", "file.odd_tensor")
        if not is_whole(mark[4], 0):
            raise ValueError("a storage without a size")
        if len(mark) > 5 and mark[5] is not None:
            raise ValueError("a view of a storage")
        return _Storage(str(mark[2]), mark[1], mark[4])


def _unpickled(content: io.BytesIO) -> Any:
    return _Unpickler(content, encoding="utf-8").load()


def read_pickle(path: Path, most: int) -> dict[str, torch.Tensor]:
    """Named tensors, at most that many. SliderError when the file is damaged or holds more."""
    with naming("Slider file", path, "file.pickle"), open_file(path) as file:
        archived = _is_archive(file)
        file.seek(0)
        pickled = file.read(1) == PROTO
    message = f"Slider file cannot be read: {path} (neither an archive nor a pickle). It is damaged, or something else."
    need(archived or pickled, message, "file.pickle")  # before it is read whole
    content = read_bytes(path, FILE_MOST, "Slider file", "file.pickle")
    try:
        state, storage = _from_zip(content) if archived else _from_row(content)
    except Exception as fault:  # a damaged pickle can fail in nearly any way
        code = fault.code if isinstance(fault, SliderError) and fault.code else "file.pickle"
        message = f"Slider file cannot be read: {path} ({reason(fault)}). It is damaged, or holds more than tensors."
        raise SliderError(message, code) from None
    named = isinstance(state, dict) and all_are(str, state)
    tensors = named and all_are(_Claim, state.values())
    need(tensors, f"{path} holds more than named tensors: no LoRA file. Convert it to safetensors.", "file.not_tensors")
    many = f"{path} holds {len(state)} tensors, {most} at most. It is no LoRA file, or damaged."
    need(len(state) <= most, many, "file.too_many")
    return _tensors(state, storage, len(content), path)


def _is_archive(file: BinaryIO) -> bool:
    """Whether its end is that of a zip archive, a damaged one too."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return True


def _tensors(claims: Mapping[str, _Claim], storage: Find, size: int, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of those claims; SliderError where one claims more than its storage, or all of them more than the file."""
    total = sum(math.prod(claim.shape) * claim.storage.dtype.itemsize for claim in claims.values())
    message = f"{path} claims tensors of {total} bytes and has {size}; it is damaged, or made to fill the memory."
    for key, claim in claims.items():
        own = math.prod(claim.shape) * claim.storage.dtype.itemsize
        where = f"{path}: {shown(key)} claims {shown(claim.shape)} numbers and holds fewer; the file is damaged."
        need(own <= claim.storage.numbers * claim.storage.dtype.itemsize, where, "file.odd_tensor")
        last = claim.offset + sum((side - 1) * step for side, step in zip(claim.shape, claim.stride, strict=True))
        need(not own or last < claim.storage.numbers, where, "file.odd_tensor")
    need(total <= size, message, "file.odd_tensor")
    tensors = {}
    storages: dict[str, torch.Tensor] = {}
    try:
        for key, claim in claims.items():
            if claim.storage.key not in storages:
                storages[claim.storage.key] = storage(claim.storage)
            view = storages[claim.storage.key].view(claim.storage.dtype).as_strided(claim.shape, claim.stride, claim.offset)
            tensors[key] = view.clone(memory_format=torch.contiguous_format)
    except (ValueError, KeyError, OSError, RuntimeError, zipfile.BadZipFile) as fault:
        message = f"Slider file cannot be read: {path} ({shown(key)}: {reason(fault)}). It is damaged."
        raise SliderError(message, "file.pickle") from None
    return tensors


def _numbers(content: bytes | memoryview, storage: _Storage) -> torch.Tensor:
    """A storage's numbers, in the memory of the bytes that were read."""
    size = storage.numbers * storage.dtype.itemsize
    if len(content) < size:
        raise ValueError(f"{len(content)} bytes where {size} are claimed")
    if not size:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(content[:size]), dtype=storage.dtype)


def _from_zip(content: bytes) -> tuple[Any, Find]:
    """(what the archive's pickle says, a storage's numbers). ValueError where a record is compressed: it could be of any size."""
    end = zipfile._EndRecData(io.BytesIO(content))  # type: ignore[attr-defined]
    if end is None or end[5] > DIRECTORY_MOST:
        raise ValueError("its directory is too long")
    archive = zipfile.ZipFile(io.BytesIO(content))
    records = archive.infolist()
    by_name: dict[str, zipfile.ZipInfo] = {}
    size = 0
    stored = True
    for record in records:
        by_name[record.filename] = record
        size += record.file_size
        stored = stored and record.compress_type == zipfile.ZIP_STORED and record.file_size == record.compress_size
    if not stored or size > len(content):
        raise ValueError("its records are compressed, or more than the file")
    main = next((record for record in records if record.filename.rpartition("/")[2] == "data.pkl"), None)
    if main is None or main.file_size > PICKLE_MOST:
        raise ValueError("it has no pickle, or one that is too long")
    root = main.filename.removesuffix("data.pkl")
    order = by_name.get(f"{root}byteorder")
    if order is not None and archive.read(order) != b"little":
        raise ValueError("its numbers are in another order of bytes")
    state = _unpickled(io.BytesIO(archive.read(main)))
    return state, lambda storage: _numbers(archive.read(by_name[f"{root}data/{storage.key}"]), storage)


def _from_row(content: bytes) -> tuple[Any, Find]:
    """The same of torch's older format: a mark, a version, the system, the state, the storages' names, then their bytes."""
    stream = io.BytesIO(content[:PICKLE_MOST])
    if _unpickled(stream) != MAGIC:
        raise ValueError("it is no file of torch")
    _version, _system = _unpickled(stream), _unpickled(stream)
    state, keys = _unpickled(stream), _unpickled(stream)
    known: dict[str, _Storage] = {}
    for claim in state.values() if isinstance(state, dict) else ():
        if isinstance(claim, _Claim):
            known[claim.storage.key] = claim.storage
    return state, _row_of_storages(memoryview(content)[stream.tell() :], keys, known)


def _row_of_storages(rest: memoryview, keys: Any, known: Mapping[str, _Storage]) -> Find:
    """Each storage in the order of its names: a count of 8 bytes, then the numbers."""
    if not isinstance(keys, Sequence):
        raise ValueError("its storages have no names")
    places: dict[str, memoryview] = {}
    at = 0
    for key in map(str, keys):
        if key not in known:
            raise ValueError("a storage that no tensor has")
        count = int.from_bytes(rest[at : at + 8], "little")
        size = count * known[key].dtype.itemsize
        if count != known[key].numbers or at + 8 + size > len(rest):
            raise ValueError("a storage of another size")
        places[key] = rest[at + 8 : at + 8 + size]
        at += 8 + size
    return lambda storage: _numbers(places[storage.key], storage)
