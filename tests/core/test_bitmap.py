"""Image files into pixels, and files that are damaged or mean harm. Oracles: the arrays that went in, ImageOps, numpy."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from core.faults import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile

from slider_core.config.checks import SliderError
from slider_core.data import bitmap
from slider_core.data.bitmap import IMAGE_ENDINGS, load_image, over
from slider_core.data.bitmap_clip import look

WIDE, HIGH = 40, 24
LOSSY = 12  # levels that a compressed smooth picture may be off
bombs = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


def ramp() -> np.ndarray:
    """(HIGH, WIDE, 3): red grows to the right, green downwards, blue is constant."""
    y, x = np.mgrid[:HIGH, :WIDE]
    return np.stack([x * 6, y * 10, np.full_like(x, 77)], -1).astype(np.uint8)


def off(picture: Image.Image, expected: np.ndarray) -> float:
    """By how many levels a picture misses an array."""
    assert np.asarray(picture).shape == expected.shape
    return np.abs(np.asarray(picture, dtype=float) - expected).max()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG by hand. `rows` is the compressed data with a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def packed(values: np.ndarray) -> bytes:
    """Rows of a PNG out of an array whose bytes are already in PNG's order."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(ramp()).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_every_ending_gives_the_pixels_that_were_saved(tmp_path: Path) -> None:
    for ending in [*IMAGE_ENDINGS, ".JPG"]:
        path = tmp_path / f"a{ending}"
        Image.fromarray(ramp()).save(path, quality=95)
        assert off(load_image(path), ramp()) <= (0 if ending in (".png", ".bmp") else LOSSY), ending
        seen = look(path)
        assert (seen.width, seen.height, seen.frames, seen.notes, seen.copy) == (WIDE, HIGH, 1, (), None)


def test_every_opaque_mode_becomes_rgb(tmp_path: Path) -> None:
    cases = [("1", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("YCbCr", "TIFF"), ("CMYK", "TIFF"), ("CMYK", "JPEG")]
    for mode, kind in cases:
        image = Image.fromarray(ramp()).convert(mode)
        image.save(tmp_path / "a.png", kind, quality=95)
        assert off(load_image(tmp_path / "a.png"), np.asarray(image.convert("RGB"), dtype=int)) <= (LOSSY if kind != "PNG" else 0)
        assert look(tmp_path / "a.png").notes == ((f"{mode} converted to RGB",) if mode in ("CMYK", "YCbCr") else ()), mode


TURNED = {  # EXIF: where row 0 and column 0 of the stored picture lie -> what undoes it
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_an_image_and_its_alpha_stand_upright_as_exif_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    pixels = np.dstack([ramp(), ramp()[..., 0]]) if ending == ".png" else ramp()
    for orientation, upright in TURNED.items():
        Image.fromarray(pixels).save(path, exif=turned(orientation), quality=95)
        expected = upright(pixels)
        assert off(load_image(path), expected) <= (0 if ending == ".png" else LOSSY)
        assert (look(path).width, look(path).height) == (expected.shape[1], expected.shape[0])


# --- 16 and 32 bit


def save_grey(path: Path, values: np.ndarray, mode: str) -> None:
    """`values` as a TIFF of Pillow's `mode` under any name, or as a PNG by hand (mode "png")."""
    if mode == "png":
        path.write_bytes(png(values.shape[1], values.shape[0], 16, 0, packed(values.astype(">u2"))))
        return
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
    Image.frombytes(mode, values.shape[::-1], values.astype(kinds[mode]).tobytes()).save(path, "TIFF")


@pytest.mark.parametrize("mode", ["png", "I;16", "I;16B", "I"])
def test_16_bit_grey_goes_to_the_nearest_of_8_bit(tmp_path: Path, mode: str) -> None:
    values = np.arange(65536).reshape(256, 256)
    save_grey(tmp_path / "a.png", values, mode)
    assert off(load_image(tmp_path / "a.png"), np.repeat(np.rint(values / 257)[..., None], 3, 2)) == 0
    assert look(tmp_path / "a.png").notes == (f"{32 if mode == 'I' else 16} bit converted to 8 bit",)


def test_a_float_image_goes_from_its_own_range_to_8_bit_and_is_refused_outside_any(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for top in (1.0, 255.0, 65535.0):
        values = np.linspace(0, top, WIDE * HIGH, dtype=np.float32).reshape(HIGH, WIDE)
        save_grey(path, values, "F")
        assert off(load_image(path).getchannel("R"), values.astype(float) / top * 255) <= 0.5 + 1e-4
    for value in (-1.0, 65536.0, np.nan):
        values[3, 4] = value
        save_grey(path, values, "F")
        with refused("image.unreadable", path, "its values go from"):
            look(path)


def test_16_bit_colour_is_exact_and_noted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(WIDE, HIGH, 16, 2, packed((ramp().astype(np.uint16) * 257).astype(">u2"))))
    assert off(load_image(tmp_path / "a.png"), ramp()) == 0
    assert look(tmp_path / "a.png").notes == ("16 bit converted to 8 bit",)


# --- transparency


def composed(colour: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + np.array(background) * (1 - share)


@pytest.mark.parametrize("ending", [".png", ".webp", ".avif"])
def test_alpha_is_kept_and_lies_over_the_background(tmp_path: Path, ending: str) -> None:
    path, alpha = tmp_path / f"a{ending}", ramp()[..., 1]
    Image.fromarray(np.dstack([ramp(), alpha])).save(path, quality=100, lossless=True, exact=True)
    picture, most = load_image(path), LOSSY if ending == ".avif" else 1
    assert off(picture.getchannel("A"), alpha) <= (most if ending == ".avif" else 0)
    for background in ((255, 255, 255), (10, 200, 90)):
        assert off(over(picture, background), composed(ramp(), alpha, background)) <= most


@pytest.mark.parametrize("kind", ["LA", "P", "P with alphas", "L", "RGB", "16", "opaque"])
def test_every_way_of_writing_transparency_is_read(tmp_path: Path, kind: str) -> None:
    path, x = tmp_path / "a.png", np.tile(np.arange(WIDE, dtype=np.uint8), (HIGH, 1))
    alpha = np.where(x == 5, 0, 255)
    grey = np.repeat(x[..., None], 3, 2)
    if kind == "opaque":
        Image.fromarray(grey).convert("RGBA").save(path)
        assert load_image(path).mode == "RGB"
        return
    if kind == "LA":
        Image.fromarray(np.dstack([x, alpha.astype(np.uint8)])).save(path)
    elif kind == "L":
        Image.fromarray(x).save(path, transparency=5)
    elif kind == "RGB":
        Image.fromarray(grey).save(path, transparency=(5, 5, 5))
    elif kind == "16":
        path.write_bytes(png(WIDE, HIGH, 16, 0, packed((x.astype(np.uint16) * 257).astype(">u2")), chunk(b"tRNS", b"\5\5")))
    else:
        image = Image.fromarray(x)
        image.putpalette([level for level in range(256) for _ in range(3)])  # x is its own colour
        alphas = bytes(0 if i == 5 else 255 for i in range(WIDE))
        image.save(path, transparency=5 if kind == "P" else alphas)
    picture = load_image(path)
    assert off(picture.getchannel("A"), alpha) == 0
    assert off(over(picture, (200, 100, 0)), composed(grey, alpha, (200, 100, 0))) == 0


@pytest.mark.parametrize("ending", [".webp", ".png", ".gif"])
def test_of_an_animation_the_first_frame_is_used_and_noted(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (WIDE, HIGH), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    path = tmp_path / f"a{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert load_image(path).getpixel((3, 3)) == (255, 0, 0)
    assert look(path).frames == 3
    assert "3 frames" in look(path).notes[0]


def test_a_small_copy_has_at_most_so_many_pixels_and_is_upright(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([ramp(), ramp()[..., 0]])).save(tmp_path / "a.png", exif=turned(6))
    whole = look(tmp_path / "a.png", WIDE * HIGH)
    assert off(whole.copy, np.asarray(load_image(tmp_path / "a.png"), dtype=int)) == 0
    small = look(tmp_path / "a.png", WIDE * HIGH // 4)
    assert (small.width, small.height, small.copy.size, small.copy.mode) == (HIGH, WIDE, (HIGH // 2, WIDE // 2), "RGBA")


# --- files that are damaged or mean harm


def refused_both(path: Path, code: str, *values: object) -> None:
    for read in (look, load_image):
        with refused(code, path, *values):
            read(path)


def test_what_is_no_image_is_refused_with_its_path(tmp_path: Path) -> None:
    refused_both(tmp_path / "missing.png", "image.missing")
    (tmp_path / "empty.png").touch()
    refused_both(tmp_path / "empty.png", "image.empty")
    (tmp_path / "text.png").write_text("a text, and a long one " * 99)
    refused_both(tmp_path / "text.png", "image.format")
    for side in (1, 7):
        Image.new("RGB", (side, 100)).save(tmp_path / "small.png")
        refused_both(tmp_path / "small.png", "image.too_small", f"{side} x 100")
    Image.new("RGB", (8, 8)).save(tmp_path / "least.png")
    assert look(tmp_path / "least.png").width == 8


def test_what_is_no_file_is_refused_and_nothing_waits(tmp_path: Path) -> None:
    with refused("image.no_file", tmp_path):
        load_image(tmp_path)
    with refused("image.unreadable", "null byte"):
        look(Path("nul\0.png"))
    (tmp_path / "loop.png").symlink_to(tmp_path / "pool.png")
    (tmp_path / "pool.png").symlink_to(tmp_path / "loop.png")
    refused_both(tmp_path / "loop.png", "image.unreadable")
    refused_both(tmp_path / f"{'n' * 300}.png", "image.unreadable")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        refused_both(tmp_path / "pipe.png", "image.no_file")


CUTS = {
    "png": saved("PNG"),
    "palette": saved("PNG", "P"),
    "jpeg": saved("JPEG"),
    "progressive": saved("JPEG", progressive=True),
    "webp": saved("WEBP"),
    "bmp": saved("BMP"),
    "avif": saved("AVIF"),
    "gif": saved("GIF"),
    "exif": saved("JPEG", exif=turned(6)),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_truncated_image_is_refused_or_has_lost_no_pixel(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after a node that has told Pillow to let such images pass."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path, whole = tmp_path / "a.png", CUTS[kind]
    path.write_bytes(whole)
    pixels, lost = np.asarray(load_image(path)), [0]
    for end in {1, 7, *range(30, len(whole), max(1, len(whole) // 12)), *range(len(whole) - 28, len(whole), 3)}:
        path.write_bytes(whole[:end])
        try:
            assert np.array_equal(np.asarray(load_image(path)), pixels)
            lost.append(len(whole) - end)
        except SliderError as fault:
            assert str(path) in str(fault)  # noqa: PT017 - a refusal is one of two right outcomes
    assert max(lost) <= 24  # the checksum and the end mark
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@bombs
@pytest.mark.parametrize("host_limit", [None, Image.MAX_IMAGE_PIXELS])
def test_a_bomb_is_refused_before_anything_is_allocated(
    tmp_path: Path, host_limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", host_limit)
    side = 20_000
    rows = zlib.compress(bytes(1 + side // 8) * side, 1)  # one bit a pixel; decoded, it would be 400 million bytes
    (tmp_path / "bomb.png").write_bytes(png(side, side, 1, 0, rows))
    blocks = Image.core.get_stats()["allocated_blocks"]
    tracemalloc.start()
    refused_both(tmp_path / "bomb.png", "image.too_large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert Image.core.get_stats()["allocated_blocks"] == blocks
    assert host_limit == Image.MAX_IMAGE_PIXELS


def lying(kind: str) -> bytes:
    """An image whose header claims a size of hundreds of millions of pixels."""
    data = bytearray(saved(kind, lossless=True) if kind == "WEBP" else saved(kind))
    if kind == "WEBP":  # 14 bits each, after the signature of VP8L
        at = data.index(b"\x2f", data.index(b"VP8L"))
        data[at + 1 : at + 5] = (16383 | 16383 << 14).to_bytes(4, "little")
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", 20_000, 20_000)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", 20_000, 20_000)
    else:
        at = data.index(b"ispe")
        data[at + 8 : at + 16] = struct.pack(">II", 16_000, 16_000)
    return bytes(data)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from Linux")
def test_a_header_that_lies_about_its_size_costs_no_memory(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}.png" for kind in ("WEBP", "BMP", "GIF", "AVIF")]
    for path in paths:
        path.write_bytes(lying(path.stem))
    code = (
        "import sys, resource; from slider_core.data.bitmap_clip import look\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: look(path)\n"
        "    except ValueError as fault: print(fault.code, file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    root = Path(bitmap.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=root, check=True)
    assert len([line for line in done.stderr.splitlines() if line.startswith("image.")]) == 4
    assert int(done.stdout) < 40_000  # KiB


@bombs
def test_the_limit_is_a_number_of_pixels_not_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmap, "MOST_PIXELS", 1000)
    Image.new("RGB", (100, 10)).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png").width == 100
    Image.new("RGB", (91, 11)).save(tmp_path / "b.png")
    refused_both(tmp_path / "b.png", "image.too_large", "91 x 11")


def test_postscript_under_the_name_of_an_image_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: ran.append(args))
    (tmp_path / "a.png").write_bytes(saved("EPS"))
    with pytest.raises(Exception), Image.open(tmp_path / "a.png") as image:  # noqa: B017, PT011 - the fake returns no image
        image.load()
    assert ran  # Pillow alone would
    ran.clear()
    refused_both(tmp_path / "a.png", "image.format")
    assert not ran


@given(st.sampled_from(sorted(CUTS)), st.data())
@settings(deadline=None, derandomize=True, database=None, max_examples=100)
def test_a_file_with_wrong_bytes_gives_pixels_or_a_slider_error(tmp_path_factory, kind: str, data: st.DataObject) -> None:
    path, content = tmp_path_factory.getbasetemp() / f"wrong-{kind}.png", bytearray(CUTS[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert load_image(path).mode in ("RGB", "RGBA")
    except SliderError as fault:
        assert str(path) in str(fault)  # noqa: PT017 - a refusal is one of two right outcomes
