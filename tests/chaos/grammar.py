"""Hostile inputs as hypothesis strategies: JSON texts, bytes of weight files, pickle programs, pictures, names."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
import zlib
from typing import Any

import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

NUMBERS = (
    *("0", "-0", "1", "-1", "0.5", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 39, "9" * 401, "9" * 5001),
    *("9223372036854775808", "18446744073709551615", "4294967296", "1e-320", "0x10", "01", "1.", "--1", "true", "false", "null"),
)
ODD_TEXTS = ("", " ", "a", "\0", "\ud83d", "\ude00\ud83d", "\udcff", "😀", "Å", "x" * 300, "x" * 5000, "ü" * 128, "\n", "\r\n")
PATHS = (
    "..",
    ".",
    "/",
    "/dev/zero",
    "/dev/stdin",
    "../../etc/passwd",
    "~",
    "a/b",
    "a\\b",
    "C:\\x",
    "CON",
    "nul.txt",
    "a:b",
    "$HOME",
)
TRICKS = ("%s", "{0}", "<script>", "' OR 1=1", "\x1b[31m", "\u202e", "\ufeff", "\u2028", "nan", "inf", "-1", "1e400", "__class__")
WORDS = (*ODD_TEXTS, *PATHS, *TRICKS)
ENDINGS = ("lora_A.weight", "lora_B.weight", "lora_up.weight", "lora_down.weight", "alpha", "hada_w1_a", "lokr_w1", "diff", "w")
STEMS = ("diffusion_model.plain", "lora_unet_plain", "transformer.x", "base_model.model.a", "unet.b", "lycoris_plain", "te")
PLAUSIBLE = (
    *("0.5", "-1", "1", "4", "0", "true", "false", "null", '"."', '"a face"', '"textfile"', '"filename"', '"lora"', '"lokr"'),
    *(
        '["attn1.to_q"]',
        '["Attention"]',
        '{"attn1": {"dim": 2, "alpha": 1}}',
        "{}",
        "[]",
        '["(a+)+$"]',
        "256",
        '"local"',
        '"image"',
    ),
)
DTYPES = ("F32", "F16", "BF16", "F64", "I64", "I8", "U8", "BOOL", "C64", "F8_E4M3", "F4", "XYZ", "")


def words() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(WORDS), st.text(st.characters(), max_size=12))  # half characters too


def _text(value: str, escaped: bool) -> str:
    """A text as JSON; where it is not escaped, with half characters replaced, which no UTF-8 file can hold."""
    return json.dumps(value) if escaped else json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False)


def texts() -> st.SearchStrategy[str]:
    return st.builds(_text, words(), st.booleans())


def json_texts(names: tuple[str, ...], deep: int = 3) -> st.SearchStrategy[str]:
    """A JSON text, or nearly one: names twice, numbers beyond all bounds, half characters, the given names and others."""
    keys = st.one_of(st.sampled_from([json.dumps(name) for name in names or WORDS]), texts())
    leaves = st.one_of(st.sampled_from(NUMBERS), texts(), st.floats().map(str), st.integers().map(str))

    def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        fields = st.lists(st.tuples(keys, inner).map(": ".join), max_size=5)
        return st.one_of(st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"), fields.map(_braces))

    deeply = st.sampled_from(("[" * 100_000, '{"a":' * 50_000, "[" * 900 + "]" * 900))
    return st.one_of(*[st.recursive(leaves, around, max_leaves=12)] * 12, *[around(leaves)] * 12, deeply)


def _braces(fields: list[str]) -> str:
    return f"{{{', '.join(fields)}}}"


def objects(names: tuple[str, ...], values: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """A JSON object of these names, each at most once, their values of any kind, mostly of one that may be meant."""
    values = values or st.one_of(*[st.sampled_from(PLAUSIBLE)] * 6, st.sampled_from(NUMBERS), json_texts(names))
    fields = st.lists(st.tuples(st.sampled_from(names), values), max_size=8, unique_by=lambda field: field[0])
    return fields.map(lambda pairs: _braces([f"{json.dumps(name)}: {value}" for name, value in pairs]))


def with_fields(fields: str, text: str) -> str:
    """An object with these fields before its own."""
    return f"{{{fields}{', ' if len(text) > 2 else ''}{text[1:]}"


def damaged(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Those bytes, whole, cut, longer, or some of them changed."""
    places = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4)
    return st.builds(_damaged, contents, places, st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1)), st.binary(max_size=9))


def _damaged(content: bytes, places: list[tuple[float, int]], kept: float, more: bytes) -> bytes:
    changed = bytearray(content[: int(kept * len(content))])
    for place, value in places:
        if changed:
            changed[int(place * (len(changed) - 1))] = value
    return bytes(changed) + more


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- weights


def good_lora(rank: int = 2) -> dict[str, torch.Tensor]:
    return {f"{STEMS[0]}.lora_A.weight": torch.ones(rank, 16), f"{STEMS[0]}.lora_B.weight": torch.ones(24, rank)}


def keys() -> st.SearchStrategy[str]:
    return st.one_of(st.builds("{}.{}".format, st.sampled_from(STEMS), st.sampled_from(ENDINGS)), words())


@st.composite
def safetensors_files(draw: st.DrawFn, metadata: st.SearchStrategy[dict[str, str]]) -> bytes:
    """A header of odd claims before some bytes; or a good file with an odd text in its header."""
    if draw(st.booleans()):
        texts = {encoded(k).decode("utf-8", "replace"): v for k, v in draw(metadata).items()}
        return draw(damaged(st.just(save(good_lora(), {k: encoded(v).decode("utf-8", "replace") for k, v in texts.items()}))))
    sides = st.lists(st.one_of(st.integers(0, 8), st.sampled_from((-1, 2**31, 2**63, 10**30))), max_size=draw(st.integers(0, 9)))
    fields: dict[str, Any] = {}
    place = 0
    for key in draw(st.lists(keys(), max_size=6, unique=True)):
        shape = draw(sides)
        size = 4 * math.prod(max(side, 0) for side in shape)
        begin = draw(st.sampled_from((place, place, place, 0, -8, 2**62)))
        fields[key] = {"dtype": draw(st.sampled_from(DTYPES)), "shape": shape, "data_offsets": [begin, begin + size]}
        place = begin + min(size, 4096)
    if draw(st.booleans()):
        fields["__metadata__"] = draw(metadata)
    text = draw(st.one_of(st.just(json.dumps(fields)), json_texts(("__metadata__", "dtype", "shape", "data_offsets"))))
    length = draw(st.sampled_from((None, None, None, 0, 2**63, len(text) + 1)))
    body = bytes(max(0, min(place, 4096)))
    content = encoded(text)
    return struct.pack("<Q", len(content) if length is None else length) + content + body


LENGTH = b"\xff\xff\xff\x7f"
BARE = b"]})(012tldaesubRQNo.\x85\x86\x87\x88\x8f\x90\x91\x93\x94\x81\x92\x97\x98"  # what takes no argument
SIZED = (b"r", b"j", b"J", b"\x8b", b"B", b"X", b"T", b"G" + LENGTH)  # what does, each too large
MARKS = (
    *(bytes([mark]) for mark in BARE),
    *(mark + LENGTH for mark in SIZED),
    *(mark + b"\xff" * 8 for mark in (b"\x8a\x08", b"\x8e", b"\x95", b"\x96", b"\x8d")),
    *(b"q\x00", b"h\x00", b"K\x05", b"\x82\x01", b"X\x03\x00\x00\x00abc", b"V\\ud800\n", b"I" + b"9" * 5000 + b"\n", b"F1e400\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"cposix\nsystem\n"),
    *(b"Pabc\n", b"i__main__\nX\n", b"p" + b"9" * 30 + b"\n"),
)


@st.composite
def pickle_files(draw: st.DrawFn) -> bytes:
    """A program for the unpickler, alone or in torch's archive; or what torch itself would write, damaged, its claims odd."""
    program = b"\x80\x02" + b"".join(draw(st.lists(st.sampled_from(MARKS), max_size=24))) + b"."
    kind = draw(st.sampled_from(("alone", "archive", "claims", "torch", "row")))
    if kind == "alone":
        return program
    buffer = io.BytesIO()
    if kind == "claims":
        program = _claims(draw)
    if kind in ("archive", "claims"):
        packing = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            archive.writestr("x/data.pkl", program)
            archive.writestr("x/data/0", bytes(draw(st.sampled_from((0, 4, 128, 4096)))))
        return draw(damaged(st.just(buffer.getvalue())))
    torch.save(good_lora(), buffer, _use_new_zipfile_serialization=kind == "torch")
    return draw(damaged(st.just(buffer.getvalue())))


class _Storage:
    """Pickled as torch pickles a storage: by a mark of its own."""

    def __init__(self, mark: tuple[Any, ...]) -> None:
        self.mark = mark


class _Named:
    def __init__(self, storage: _Storage, *claims: Any) -> None:
        self.values = storage, *claims

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.values


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.mark if isinstance(value, _Storage) else None


def _claims(draw: st.DrawFn) -> bytes:
    """Tensors that claim any place, size and stride in storages that claim any size: many of one storage too."""
    number = st.sampled_from((0, 1, 2, 4, 32, -1, 2**20, 2**31, 2**62, 10**30))
    state = {}
    for key in draw(st.lists(keys(), min_size=1, max_size=6, unique=True)):
        storage = _Storage(("storage", torch.FloatStorage, "0", "cpu", draw(number)))
        shape = tuple(draw(st.lists(number, max_size=3)))
        stride = tuple(draw(st.lists(number, min_size=len(shape), max_size=len(shape))))
        state[key.encode("utf-8", "replace").decode()] = _Named(storage, draw(number), shape, stride, False, {})
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(state)
    return buffer.getvalue()


# --- pictures


def _picture(form: str, mode: str, size: tuple[int, int], frames: int, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture = Image.effect_noise(size, 60).convert(mode)
    more = [picture.rotate(90 * n) for n in range(1, frames)] if form in ("GIF", "WEBP", "TIFF", "PNG") else []
    try:
        picture.save(buffer, form, **({"save_all": True, "append_images": more} if more else {}), **options)
    except (OSError, ValueError, KeyError):
        picture.convert("RGB").save(buffer, form)
    return buffer.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    """A small PNG whose header claims that size."""
    content = bytearray(_picture("PNG", "RGB", (16, 16), 1, {}))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def pictures() -> st.SearchStrategy[bytes]:
    sizes = st.tuples(*[st.sampled_from((1, 7, 8, 16, 33, 64))] * 2)
    modes = st.sampled_from(("RGB", "RGBA", "L", "P", "1", "I;16", "F", "CMYK", "LA", "I"))
    forms = st.sampled_from(("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO"))
    made = st.builds(_picture, forms, modes, sizes, st.integers(1, 4), st.just({}))
    claims = st.sampled_from((0, 1, 8, 9999, 20_000, 65_535, 2**31 - 1, 2**32 - 1))
    return st.one_of(damaged(made), made, st.builds(_png_of_size, claims, claims), st.binary(max_size=64))
