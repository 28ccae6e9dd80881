"""What goes into the cache comes out of it bit for bit, or not at all; nothing on the disk can stop a run or lead it astray."""

import collections
import errno
import hashlib
import json
import math
import os
import pickle
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from slider_core.encode.cache_entry import DTYPES
from slider_core.encode.disk_cache import DiskCache

ROOT = Path(__file__).resolve().parents[2]
KIB = 1024
VALUE = [
    [torch.randn(1, 7, 12, generator=torch.Generator().manual_seed(0)), {"pooled_output": torch.ones(1, 4), "guidance": 3.5}],
    ("tuple", True, None, -(2**70), math.inf, 'caption\n"quoted" ü \ud800'),
]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(a: object, b: object) -> bool:
    """Equal to the last bit, types and order of keys too."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return struct.pack("<d", a) == struct.pack("<d", b) if isinstance(a, float) else a == b


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*.safetensors"))


def aged(cache: DiskCache, key: str, value: object, seconds: float) -> Path:
    """An entry last used so long ago."""
    assert cache.put(key, value)
    path = cache.folder / key[:2] / f"{key}.safetensors"
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "new" / "cache")


@pytest.fixture
def key(cache: DiskCache) -> str:
    return cache.key("vae", "picture")


# --- round trips


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bits in any format and shape, whole or as a view of something larger."""
    dtype = DTYPES[draw(st.sampled_from(sorted(set(DTYPES) - {"complex32"})))]  # which torch itself warns of
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    count = math.prod(shape) * dtype.itemsize
    raw = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
    tensor = raw.bool().reshape(shape) if dtype is torch.bool else raw.view(dtype).reshape(shape)
    return tensor.movedim(0, -1) if shape and draw(st.booleans()) else tensor


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\udfff") | tensors()
VALUES = st.recursive(
    LEAVES,
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(value=VALUES)
def test_every_value_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    cache = DiskCache(tmp_path_factory.mktemp("cache"))
    assert cache.put(key := cache.key("any"), value)
    assert same(DiskCache(cache.folder).get(key), value)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2"])
def test_every_pattern_of_bits_survives_and_stock_safetensors_reads_it(cache: DiskCache, key: str, name: str) -> None:
    dtype = DTYPES[name]
    raw = torch.arange(2**8 if dtype.itemsize == 1 else 2**16, dtype=torch.int32)
    tensor = raw.to(torch.uint8).view(dtype) if dtype.itemsize == 1 else raw.to(torch.uint16).view(dtype)  # nans of all kinds
    value = [tensor, torch.tensor(2.0, dtype=dtype), torch.zeros(2, 0, dtype=dtype)]
    assert cache.put(key, value)
    assert same(cache.get(key), value)
    with safe_open(entries(cache.folder)[0], framework="pt") as file:
        assert [same(file.get_tensor(str(n)), part) for n, part in enumerate(value)] == [True] * 3


def test_views_parameters_conjugates_and_repeated_tensors_are_written_as_they_look(cache: DiskCache, key: str) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    turned = torch.complex(base, base).conj()
    odd = [base[:, ::2].mT, base[0], base.expand(2, 2, 3, 4), torch.nn.Parameter(base), turned, turned.imag, base, base]
    assert cache.put(key, odd)
    back = cache.get(key)
    assert all(torch.equal(a, b) and type(a) is torch.Tensor and not a.requires_grad for a, b in zip(back, odd, strict=True))
    assert back[-1] is back[-2]  # kept once, as it was given
    back[1].add_(1)  # its own memory
    assert torch.equal(back[0], odd[0])


def test_tensors_are_normal_ones_on_the_cpu_in_any_mode(cache: DiskCache, key: str) -> None:
    with torch.inference_mode():
        assert cache.put(key, [torch.ones(3), torch.empty(0)])
        back = cache.get(key)
        assert not torch.is_inference_mode_enabled() or not back[0].is_inference()
    with torch.device("meta"):
        back += cache.get(key)
    assert [(t.is_inference(), t.device.type, t.requires_grad) for t in back] == [(False, "cpu", False)] * 4
    (back[0].requires_grad_() * 2).sum().backward()  # an inference tensor would refuse


def test_a_key_is_the_hash_of_its_parts_behind_their_lengths(cache: DiskCache) -> None:
    parts = ("slider_cache.v1", "ü", "")
    joined = b"".join(len(p.encode()).to_bytes(8, "little") + p.encode() for p in parts)
    assert cache.key("ü", "") == hashlib.sha256(joined).hexdigest()
    assert len({cache.key(*p) for p in ([], [""], ["", ""], ["ab", "c"], ["a", "bc"], ["abc"], ["\ud800"])}) == 7


def test_a_key_that_is_none_reaches_no_file(cache: DiskCache) -> None:
    for bad in ("", "../../x", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        for use in (cache.get, lambda bad: cache.put(bad, 1)):
            with pytest.raises(ValueError, match="64 hex digits"):
                use(bad)
    assert not cache.folder.exists()


# --- what has no place in it


class Word(str, Enum):
    WORD = "word"


def deep(levels: int) -> list:
    return [deep(levels - 1)] if levels else []


LOOP: list = []
LOOP.append(LOOP)
UNWRITABLE = [print, object(), np.ones(3), np.float64(1), {1, 2}, b"bytes", Word.WORD, collections.OrderedDict(), 1j, {1: 2}]
UNWRITABLE += [collections.namedtuple("P", "x")(1), torch.Size([1]), deep(40), [0] * 20_000, 10**5000, "x" * 3_000_000]
UNWRITABLE += [LOOP, torch.ones(2, 2).to_sparse(), torch.ones(2, device="meta"), torch.ones(1).expand(10**12)]


def test_a_value_that_cannot_be_written_is_refused_and_leaves_nothing(cache: DiskCache, key: str) -> None:
    for value in UNWRITABLE:
        assert cache.put(key, [torch.ones(2), {"here": value}]) is False, type(value)
        assert not cache.folder.exists()
        assert cache.get(key) is None
    assert cache.unkept == len(UNWRITABLE)
    assert cache.trouble in cache.summary()
    assert "\n" not in cache.summary()


# --- damage


def test_a_flipped_bit_anywhere_is_noticed_and_the_entry_is_made_anew(cache: DiskCache, key: str) -> None:
    assert cache.put(key, VALUE)
    [path] = entries(cache.folder)
    whole = path.read_bytes()
    places = range(0, len(whole), 23)
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place // 23 % 8]) + whole[place + 1 :])
        assert cache.get(key) is None, f"byte {place}"
        assert not path.exists()
        assert cache.put(key, VALUE)
    assert same(cache.get(key), VALUE)
    assert (cache.damaged, cache.misses, cache.hits) == (len(places), len(places), 1)


def test_a_file_cut_off_anywhere_or_with_more_behind_it_is_noticed(cache: DiskCache, key: str) -> None:
    assert cache.put(key, VALUE)
    [path] = entries(cache.folder)
    whole = path.read_bytes()
    for content in (*(whole[:length] for length in range(0, len(whole), 23)), whole + b"\0"):
        path.write_bytes(content)
        assert cache.get(key) is None


def forged(key: str, structure: str, kept: dict[str, torch.Tensor] | None = None, **told: str) -> bytes:
    """An entry whose checksum is right, whatever its structure says."""
    digest = hashlib.sha256(f"slider_cache.v1\n{key}\n{structure}\n".encode())
    for tensor in (kept or {}).values():
        digest.update(bits(tensor))
    return save(kept or {}, {"format": "slider_cache.v1", "structure": structure, "checksum": digest.hexdigest()} | told)


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


ONE = {"0": torch.ones(2)}
HOSTILE = {
    "garbage": lambda _: bytes(range(256)) * 9,
    "empty": lambda _: b"",
    "a pickle": lambda _: pickle.dumps(ONE),
    "a header of 2^63 bytes": lambda _: (2**63).to_bytes(8, "little") + b"{}",
    "a tensor of 2^60 bytes": lambda _: header(b'{"0":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (2**60, 2**60)),
    "a bomb in the header": lambda _: header(b"[" * 1_000_000),
    "no metadata": lambda _: save(ONE),
    "a header without end": lambda k: forged(k, json.dumps({"value": "x" * 3_000_000, "tensors": []})),
    "a bomb in the structure": lambda k: forged(k, "[" * 1_000_000),
    "a deep structure": lambda k: forged(k, json.dumps({"value": deep(40), "tensors": []})),
    "another version": lambda k: forged(k, '{"value":1,"tensors":[]}', format="slider_cache.v2"),
    "another's key": lambda _: forged("0" * 64, '{"value":1,"tensors":[]}'),
    "no value": lambda k: forged(k, '{"tensors":[]}'),
    "no structure": lambda k: forged(k, "no JSON"),
    "an unknown part": lambda k: forged(k, '{"value":{"call":"print"},"tensors":[]}'),
    "half a float": lambda k: forged(k, '{"value":{"float":"7f"},"tensors":[]}'),
    "a tensor that is not there": lambda k: forged(k, '{"value":{"tensor":1},"tensors":[["float32",[2]]]}', ONE),
    "another shape": lambda k: forged(k, '{"value":{"tensor":0},"tensors":[["float32",[3]]]}', ONE),
    "a shape without end": lambda k: forged(k, '{"value":{"tensor":0},"tensors":[["complex64",[1e18]]]}', ONE),
    "an unknown dtype": lambda k: forged(k, '{"value":{"tensor":0},"tensors":[["load",[2]]]}', ONE),
    "a tensor too many": lambda k: forged(k, '{"value":1,"tensors":[]}', ONE),
    "another name": lambda k: forged(k, '{"value":1,"tensors":[["float32",[2]]]}', {"1": torch.ones(2)}),
}


def test_a_forged_entry_is_right_where_nothing_is_wrong_with_it(cache: DiskCache, key: str) -> None:
    path = aged(cache, key, 1, 0)
    path.write_bytes(forged(key, '{"value":{"tensor":0},"tensors":[["float32",[2]]]}', ONE))
    assert same(cache.get(key), ONE["0"])


def test_a_hostile_entry_is_damaged_and_removed(cache: DiskCache, key: str) -> None:
    for number, (name, content) in enumerate(HOSTILE.items(), 1):
        path = aged(cache, key, 1, 0)
        path.write_bytes(content(key))
        assert cache.get(key) is None, name
        assert (cache.damaged, cache.misses, cache.trouble) == (number, number, ""), name
        assert not path.exists()
    assert cache.summary().startswith(f"{number} images and captions are encoded (")


def test_a_file_larger_than_the_budget_is_not_read(cache: DiskCache, key: str) -> None:
    path = aged(cache, key, 1, 0)
    os.truncate(path, 2**40)  # sparse
    assert cache.get(key) is None
    assert cache.damaged == 1


# --- budget


def test_the_entries_used_longest_ago_go_down_to_nine_tenths(tmp_path: Path) -> None:
    cache, latent = DiskCache(tmp_path, 20 * 10 * KIB), torch.zeros(10 * KIB - 512, dtype=torch.uint8)  # 20 with their headers
    keys = [cache.key(str(n)) for n in range(21)]
    paths = [aged(cache, key, latent, 1000 - n) for n, key in enumerate(keys[:20])]
    assert len(entries(tmp_path)) == 20
    assert cache.get(keys[0]) is not None  # now the one used last
    assert cache.put(keys[20], latent)
    gone = [n for n, path in enumerate(paths) if not path.exists()]
    assert gone == [1, 2, 3]
    assert sum(p.stat().st_size for p in entries(tmp_path)) <= 0.9 * cache.budget < (18 + 1) * paths[0].stat().st_size


def test_an_entry_larger_than_the_budget_is_not_kept_and_displaces_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10 * KIB)
    path = aged(cache, cache.key("small"), 1, 9)
    for large in (torch.zeros(10 * KIB, dtype=torch.uint8), "x" * 10 * KIB, torch.zeros(1).expand(10**9)):
        assert cache.put(cache.key("large"), large) is False
        assert "budget" in cache.summary()  # of the last, before 4 GB of zeros are written out
    assert entries(tmp_path) == [path]


# --- the disk and its other inhabitants


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", [(os, "replace"), (Path, "open")])
def test_a_full_disk_is_said_and_leaves_no_half_file(
    cache: DiskCache, key: str, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str]
) -> None:
    aged(cache, cache.key("other"), VALUE, 9)
    with monkeypatch.context() as patch:
        patch.setattr(*where, full)
        assert cache.put(key, VALUE) is False
        assert cache.get(cache.key("other")) is None or where[1] != "open"
    assert "no space left on device" in cache.summary()
    assert [p.name[:64] for p in cache.folder.rglob("*") if p.is_file()] == [cache.key("other")]


def test_what_cannot_be_removed_or_listed_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path, 10 * KIB)
    path = aged(cache, cache.key("old"), torch.zeros(6 * KIB, dtype=torch.uint8), 9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", full)
        assert cache.put(cache.key("new"), torch.zeros(6 * KIB, dtype=torch.uint8))
        path.write_bytes(b"garbage")
        assert cache.get(cache.key("old")) is None
        patch.setattr(Path, "glob", full)
        assert DiskCache(tmp_path, 10 * KIB).put(cache.key("third"), 3)
    assert "damaged on disk: 1" in cache.summary()
    assert "no space left" in cache.summary()
    assert "[Errno" not in cache.summary()


def test_links_inside_are_neither_followed_nor_cleared_away(tmp_path: Path) -> None:
    cache, outside = DiskCache(tmp_path / "cache", 2 * KIB), tmp_path / "outside"
    key = cache.key("a")
    mine = aged(DiskCache(outside), key, "mine", 9)
    (cache.folder / key[:2]).parent.mkdir()
    (cache.folder / key[:2]).symlink_to(mine.parent, target_is_directory=True)
    assert cache.get(key) is None
    assert cache.put(key, "theirs") is False
    assert "is a link" in cache.summary()
    for n in range(9):
        assert cache.put(cache.key(str(n)), "x" * 800)  # passes the budget
    (cache.folder / key[:2]).unlink()
    (cache.folder / key[:2]).mkdir()
    link = cache.folder / key[:2] / mine.name
    link.symlink_to(mine)
    assert cache.get(key) is None
    assert link.is_symlink()
    assert cache.put(key, "theirs")  # takes the link's place, not its target's
    assert (cache.get(key), DiskCache(outside).get(key)) == ("theirs", "mine")
    assert cache.damaged == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_at_an_entrys_place_does_not_hang(cache: DiskCache, key: str) -> None:
    path = aged(cache, key, 1, 0)
    path.unlink()
    os.mkfifo(path)
    assert cache.get(key) is None
    assert path.exists()


def test_files_that_are_not_ours_are_never_touched(tmp_path: Path) -> None:
    cache, fresh = DiskCache(tmp_path, 2 * KIB), f"{'ab' * 32}.{'0' * 32}.tmp"
    foreign = [
        "me.txt",
        "ab/me.txt",
        "ab/short.safetensors",
        f"cd/{'ab' * 32}.safetensors",
        f"{'ab' * 32}.safetensors",
        "ab/ab.tmp",
    ]
    foreign += [f"AB/{'AB' * 32}.safetensors", f"deep/ab/{'ab' * 32}.safetensors", f"ab/{fresh}", f"cd/{fresh}"]
    stale = tmp_path / "ab" / f"{'ab' * 32}.{'1' * 32}.tmp"  # a killed process of ours left it
    for path in (*(tmp_path / name for name in foreign), stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 4 * KIB)
        os.utime(path, (time.time() - (9 if path.name == fresh and path.parent.name == "ab" else 9999),) * 2)
    before = {name: (tmp_path / name).stat() for name in foreign}
    for n in range(9):
        assert cache.put(cache.key(str(n)), "x" * 800)
    assert len(entries(tmp_path)) < 9
    assert {name: (tmp_path / name).stat() for name in foreign} == before
    assert not stale.exists()


# --- several at once


def test_threads_that_write_and_read_the_same_keys_never_see_half_an_entry(cache: DiskCache) -> None:
    keys = [cache.key(str(n)) for n in range(4)]

    def work(n: int) -> bool:
        assert cache.put(keys[n % 4], [torch.full((3000,), float(n % 4)), n % 4])
        back = cache.get(keys[n % 4])
        return back[1] == n % 4 and bool((back[0] == n % 4).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))
    assert (cache.hits, cache.misses, cache.damaged, cache.unkept) == (80, 0, 0, 0)
    assert len([p for p in cache.folder.rglob("*") if p.is_file()]) == 4


def test_nothing_is_created_before_the_first_write_and_the_summary_counts(cache: DiskCache, key: str) -> None:
    assert cache.get(key) is None
    assert not cache.folder.exists()
    assert cache.put(key, None)
    assert cache.get(key) is None
    assert cache.summary() == "2 images and captions are encoded, 1 of them in earlier runs."
