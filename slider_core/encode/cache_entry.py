"""A value of the cache <-> the bytes of its file. Nothing is unpickled; whatever is wrong with the bytes is noticed.

A value is made of tensors, lists, tuples, dicts with text keys, text, numbers, booleans and None. Its file is a safetensors file
with the tensors by number, and in the metadata

    format     ours, with its version
    structure  JSON: {"value": lists, {"tuple": ...}, {"dict": ...}, {"tensor": 0}, ..., "tensors": [[dtype, shape], ...]}
    checksum   SHA-256 over format, key, structure and the tensors' bytes

Cost: one copy of the value in memory and a SHA-256 over it, each way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..config.checks import SliderError, need

FORMAT = "slider_cache.v1"
HEADER_MOST = 2 * 1024**2  # bytes of JSON before the tensors, written and read
DEPTH_MOST = 32  # levels of a structure,
NODES_MOST = 10_000  # and its parts
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


class _Packer:
    """Takes a value apart. A tensor that occurs in two places is kept once."""

    def __init__(self, most: int) -> None:
        self.tensors: list[torch.Tensor] = []  # contiguous, on the CPU, own memory
        self._bytes_left = most
        self._nodes = 0
        self._numbers: dict[int, int] = {}

    def pack(self, value: Any, depth: int = 0) -> Any:
        """The JSON form of `value`; SliderError says what cannot be written."""
        self._nodes += 1
        small = depth <= DEPTH_MOST and self._nodes <= NODES_MOST
        need(small, f"An entry has at most {DEPTH_MOST} levels and {NODES_MOST} parts", "cache.structure")
        kind = type(value)  # exact: a subclass would come back as something else
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
        if kind in (list, tuple):
            parts = [self.pack(part, depth + 1) for part in value]
            return parts if kind is list else {"tuple": parts}
        if kind is dict and {*map(type, value)} <= {str}:
            return {"dict": {name: self.pack(part, depth + 1) for name, part in value.items()}}
        if kind in (torch.Tensor, torch.nn.Parameter):
            return {"tensor": self._number(value)}
        keys = "whose keys are not all text " if kind is dict else ""
        raise SliderError(f"A {kind.__name__} {keys}cannot be cached", "cache.value")

    def _number(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self._numbers:
            dense = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_meta
            odd = f"A tensor of {tensor.dtype}, {tensor.layout} on {tensor.device} cannot be cached"
            need(dense and tensor.dtype in NAMES, odd, "cache.value")
            self._bytes_left -= tensor.numel() * tensor.element_size()
            # before the copy: an expanded tensor may claim more than there is memory
            need(self._bytes_left >= 0, "The tensors are larger than the cache's budget", "cache.budget")
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
            return tuple(_unpack(parts, tensors, depth))
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
        digest.update(_bytes(tensor).numpy().data)
    return digest.hexdigest()


@_plain_torch()
def to_bytes(key: str, value: Any, most: int) -> bytes:
    """The file's content. SliderError when something has no place in it or it is longer than `most` bytes; ValueError for an
    integer of thousands of digits, RuntimeError when there is no memory for a copy."""
    packer = _Packer(most)
    tree = packer.pack(value)
    stored = {}
    kinds = []
    for number, tensor in enumerate(packer.tensors):
        name = NAMES[tensor.dtype]
        kinds.append([name, list(tensor.shape)])
        stored[str(number)] = tensor if name in NAMED else _bytes(tensor)
    structure = json.dumps({"value": tree, "tensors": kinds}, separators=(",", ":"), allow_nan=False)
    checksum = _checksum(key, structure, packer.tensors)
    content = save(stored, {"format": FORMAT, "structure": structure, "checksum": checksum})
    fits = len(content) <= most and int.from_bytes(content[:8], "little") <= HEADER_MOST
    need(fits, f"{len(content)} bytes are more than the budget of {most}, or hold too much text", "cache.budget")
    return content


def _restored(stored: torch.Tensor, name: str, shape: list[int]) -> torch.Tensor:
    tensor = stored if name in NAMED else stored.view(DTYPES[name]).reshape(shape)
    if tensor.dtype is not DTYPES[name] or list(tensor.shape) != shape:
        raise ValueError(f"not the {name} tensor of {shape} that was written")
    return tensor


@_plain_torch()
def from_bytes(key: str, content: bytes) -> Any:
    """The value of a file's content, which may be anybody's: one of DAMAGED for whatever is wrong with it."""
    length = int.from_bytes(content[:8], "little")
    if length > min(HEADER_MOST, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    stored = load(content)
    tensors = [stored[str(number)] for number in range(len(stored))]
    if metadata["format"] != FORMAT or metadata["checksum"] != _checksum(key, metadata["structure"], tensors):
        raise ValueError("another format or checksum")
    tree = json.loads(metadata["structure"])
    restored = [_restored(tensor, *kind) for tensor, kind in zip(tensors, tree["tensors"], strict=True)]
    return _unpack(tree["value"], restored)
