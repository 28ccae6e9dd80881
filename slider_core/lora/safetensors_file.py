"""safetensors files as bytes: reading one, the hash of its tensors, another header before the same tensors.

A file is read into memory of our own and not mapped: a file that shrinks, or a network drive that goes away, is then an error
of one read and not the end of the process. No tensor is made before the header's claims are seen to be the file's own size.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save

from ..config.checks import SliderError, all_are, all_whole, need, parse_json, reason, shown
from ..config.regular_files import open_file

HEADER_MOST = 32 << 20  # bytes of a header that are read
DIMENSIONS_MOST = 8
MOST_TENSORS = 200_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}

NO_WEIGHTS = {  # how files begin that a failed download leaves under the name of a LoRA
    b"version ": "it is a pointer of Git LFS to a file that was not downloaded: run git lfs pull, or download the file itself",
    b"<!doctyp": "it is a web page: download the file itself",
    b"<html": "it is a web page: download the file itself",
}


def read_tensors(path: Path, most: int = MOST_TENSORS) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors, header) of a safetensors file. SliderError when it is damaged, or holds more than `most` tensors."""
    try:
        with open_file(path) as file:
            fields, metadata, begin = _read_header(file)
            many = f"it holds {len(fields)} tensors, {most} at most"
            need(len(fields) <= most, many, "file.too_many")
            end = _checked(fields)
            size = file.seek(0, 2)
            need(size == begin + end, f"it has {size} bytes, and its header says {begin + end}", "")
            file.seek(begin)
            return _read_all(file, fields), metadata
    except (OSError, ValueError) as fault:
        message = f"Slider file cannot be read: {path} ({reason(fault).rstrip('.')}). It is damaged or no safetensors file."
        code = fault.code if isinstance(fault, SliderError) else ""
        raise SliderError(message, code or "file.not_safetensors") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The header's texts alone. OSError or ValueError when it cannot be read."""
    with open_file(path) as file:
        return _read_header(file)[1]


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, str], int]:
    """(tensors' fields by name, texts, where the tensors begin)."""
    start = _exactly(file, 8)
    for text, what in NO_WEIGHTS.items():
        need(not start.lower().startswith(text), what, "file.no_weights")
    length = int.from_bytes(start, "little")
    need(length <= HEADER_MOST, f"a header of {length} bytes", "")
    fields = parse_json(_exactly(file, length), "its header", "")
    need(isinstance(fields, dict), "its header is no JSON object", "")
    metadata = fields.pop("__metadata__", None) or {}
    texts = isinstance(metadata, dict) and all_are(str, metadata.values())
    need(texts, "its header's texts are none", "")
    return fields, metadata, 8 + length


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    need(len(content) == size, "it ends too early", "")
    return content


def _checked(fields: Mapping[str, Any]) -> int:
    """How many bytes the tensors of a header take, one after another. SliderError where they overlap or do not fit."""
    spans = []
    for name, field in fields.items():
        need(isinstance(field, dict), f"{shown(name)} is no tensor", "")
        dtype: Any = field.get("dtype")
        shape: Any = field.get("shape")
        offsets: Any = field.get("data_offsets")
        need(isinstance(dtype, str) and dtype in DTYPES, f"{shown(name)} has the type {shown(dtype)}", "")
        small = isinstance(shape, list) and len(shape) <= DIMENSIONS_MOST and all_whole(shape)
        placed = isinstance(offsets, list) and len(offsets) == 2 and all_whole(offsets)
        need(small and placed, f"{shown(name)} has no size or place", "")
        size = math.prod(shape) * DTYPES[dtype].itemsize
        need(offsets[1] - offsets[0] == size, f"{shown(name)} claims {shown(shape)} numbers and holds others", "")
        spans.append(tuple(offsets))
    end = 0
    for start, stop in sorted(spans):
        need(start == end, "its tensors overlap, or leave gaps", "")
        end = stop
    return end


def _read_all(file: BinaryIO, fields: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors in the header's order, each in memory of its own."""
    tensors = {}
    for name, field in sorted(fields.items(), key=lambda entry: entry[1]["data_offsets"]):
        dtype = DTYPES[field["dtype"]]
        tensor = torch.empty(field["shape"], dtype=dtype, device="cpu")
        tensors[name] = tensor
        if not tensor.numel():
            continue
        content = tensor.view(-1).view(torch.uint8).numpy().data
        done = 0
        while done < len(content):
            count = file.readinto(content[done:])  # type: ignore[attr-defined]
            need(bool(count), "it ends too early", "")
            done += count
    return {name: tensors[name] for name in fields}


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def data_hash(content: bytes) -> str:
    """SHA-256 of a safetensors file without its header, as kohya's sshs_model_hash: the same slider, the same hash."""
    return hashlib.sha256(memoryview(content)[_header_end(content) :]).hexdigest()


def tensor_hash(state: Mapping[str, torch.Tensor]) -> str:
    """The hash that a file of these tensors has."""
    return data_hash(save({key: value.contiguous() for key, value in state.items()}))


def with_header(content: bytes, header: Mapping[str, str]) -> bytes:
    """A safetensors file with this header, its tensors as they are."""
    end = _header_end(content)
    fields = json.loads(content[8:end]) | {"__metadata__": dict(header)}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[end:]))
