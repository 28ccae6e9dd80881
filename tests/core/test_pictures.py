"""Image files into pixels, and files that are damaged or mean harm. Oracles: the arrays that went in, ImageOps, numpy."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageDraw, ImageFile, ImageOps

from slider_core.config.checks import SliderError
from slider_core.data import bitmap as pictures
from slider_core.data.bitmap import IMAGE_ENDINGS, load_clip, load_picture, look
from slider_core.data.bucket_spec import Crop
from slider_core.data.fitting import fit, to_tensor

WIDE, HIGH = 40, 24
LOSSY = 12  # levels that a compressed smooth picture may be off
steady = settings(deadline=None, derandomize=True, database=None)


def ramp() -> np.ndarray:
    """(HIGH, WIDE, 3): red grows to the right, green downwards, blue is constant."""
    y, x = np.mgrid[:HIGH, :WIDE]
    return np.stack([x * 6, y * 10, np.full_like(x, 77)], -1).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG by hand. `rows` is the compressed data with a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def packed(values: np.ndarray) -> bytes:
    """Rows of a PNG out of an array whose bytes are already in PNG's order."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))


# --- every ending, mode and rotation


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_every_ending_in_any_letter_case_gives_the_pixels_that_were_saved(tmp_path: Path, ending: str, upper: bool) -> None:
    path = tmp_path / f"a{ending.upper() if upper else ending}"
    Image.fromarray(ramp()).save(path, quality=95)
    picture, mask = load_picture(path)
    off = np.abs(np.asarray(picture, dtype=int) - ramp()).max()
    assert (picture.mode, picture.size, mask) == ("RGB", (WIDE, HIGH), None)
    assert off <= (0 if ending in (".png", ".bmp") else LOSSY)
    seen = look(path)
    assert (seen.width, seen.height, seen.frames, seen.alpha, seen.notes) == (WIDE, HIGH, 1, False, ())


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("RGB", "PNG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("L", "JPEG"),
    ],
)
def test_every_opaque_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    image = Image.fromarray(ramp()).convert(mode) if mode != "LAB" else Image.new("LAB", (WIDE, HIGH), (200, 128, 128))
    image.save(tmp_path / "a.png", kind)
    picture, mask = load_picture(tmp_path / "a.png")
    expected = np.asarray(image.convert("RGB"), dtype=int)
    assert mask is None
    assert np.abs(np.asarray(picture, dtype=int) - expected).max() <= (LOSSY if kind == "JPEG" or mode == "YCbCr" else 0)
    assert look(tmp_path / "a.png").notes == ((f"{mode} converted to RGB",) if kind == "TIFF" else ())


def test_a_cmyk_jpeg_keeps_its_colours_and_is_noted(tmp_path: Path) -> None:
    Image.fromarray(ramp()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    picture, _ = load_picture(tmp_path / "a.jpg")
    assert np.abs(np.asarray(picture, dtype=int) - ramp()).max() <= LOSSY
    assert look(tmp_path / "a.jpg").notes == ("CMYK converted to RGB",)


TURNED = {  # EXIF: where row 0 and column 0 of the stored picture lie -> what undoes it
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", TURNED)
def test_an_image_stands_upright_as_exif_says(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{ending}"
    Image.fromarray(ramp()).save(path, exif=exif, quality=95)
    picture, _ = load_picture(path)
    expected = TURNED[orientation](ramp())
    assert np.abs(np.asarray(picture, dtype=int) - expected).max() <= (0 if ending == ".png" else LOSSY)
    assert (look(path).width, look(path).height) == picture.size == (expected.shape[1], expected.shape[0])


def test_the_mask_is_turned_with_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = ramp()[..., 0]
    Image.fromarray(np.dstack([ramp(), alpha])).save(tmp_path / "a.png", exif=exif)
    _, mask = load_picture(tmp_path / "a.png")
    assert np.array_equal(np.asarray(mask), np.rot90(alpha, -1))


# --- 16 and 32 bit


def save_grey(path: Path, values: np.ndarray, mode: str) -> None:
    """`values` as a TIFF of Pillow's `mode` under any name, or as a PNG by hand (mode "png")."""
    if mode == "png":
        path.write_bytes(png(values.shape[1], values.shape[0], 16, 0, packed(values.astype(">u2"))))
        return
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
    data = values.astype(kinds[mode]).tobytes()
    Image.frombytes(mode, values.shape[::-1], data).save(path, "TIFF")
    with Image.open(path) as image:
        assert image.mode == mode


@pytest.mark.parametrize("mode", ["png", "I;16", "I;16B", "I"])
def test_16_bit_grey_goes_to_the_nearest_of_8_bit(tmp_path: Path, mode: str) -> None:
    values = np.arange(65536).reshape(256, 256)
    save_grey(tmp_path / "a.png", values, mode)
    picture, mask = load_picture(tmp_path / "a.png")
    grey = np.asarray(picture)
    assert mask is None
    assert np.array_equal(grey, np.repeat(np.rint(values / 257)[..., None], 3, 2))
    assert all((grey[values == 257 * k] == k).all() for k in range(256))
    assert look(tmp_path / "a.png").notes == (f"{32 if mode == 'I' else 16} bit converted to 8 bit",)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_a_float_image_goes_from_its_own_range_to_8_bit(tmp_path: Path, top: float) -> None:
    values = np.linspace(0, top, WIDE * HIGH, dtype=np.float32).reshape(HIGH, WIDE)
    save_grey(tmp_path / "a.png", values, "F")
    off = np.asarray(load_picture(tmp_path / "a.png")[0])[..., 0] - values.astype(float) / top * 255
    assert np.abs(off).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("value", [-1.0, 65536.0, np.nan, np.inf])
def test_a_float_image_with_values_outside_any_range_is_refused_when_looked_at(tmp_path: Path, value: float) -> None:
    values = np.ones((HIGH, WIDE))
    values[3, 4] = value
    save_grey(tmp_path / "a.png", values, "F")
    with pytest.raises(SliderError, match=r"a\.png \(its values go from"):
        look(tmp_path / "a.png")


def test_16_bit_colour_is_exact_and_noted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(WIDE, HIGH, 16, 2, packed((ramp().astype(np.uint16) * 257).astype(">u2"))))
    assert np.array_equal(np.asarray(load_picture(tmp_path / "a.png")[0]), ramp())
    assert look(tmp_path / "a.png").notes == ("16 bit converted to 8 bit",)


# --- transparency


def over(colour: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + np.array(background) * (1 - share)


@pytest.mark.parametrize("ending", [".png", ".webp", ".avif"])
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
def test_alpha_lies_over_the_background_and_is_the_mask(tmp_path: Path, ending: str, background: tuple[int, int, int]) -> None:
    path, alpha = tmp_path / f"a{ending}", ramp()[..., 1]
    Image.fromarray(np.dstack([ramp(), alpha])).save(path, quality=100, lossless=True, exact=True)
    picture, mask = load_picture(path, background)
    most = LOSSY if ending == ".avif" else 1
    assert np.abs(np.asarray(picture) - over(ramp(), alpha, background)).max() <= most
    assert np.abs(np.asarray(mask, dtype=int) - alpha).max() <= (most if ending == ".avif" else 0)
    assert look(path).alpha
    assert (mask.mode, mask.size) == ("L", picture.size)


def test_an_alpha_that_is_opaque_everywhere_is_no_mask(tmp_path: Path) -> None:
    Image.fromarray(ramp()).convert("RGBA").save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png")[1] is None
    assert not look(tmp_path / "a.png").alpha


@pytest.mark.parametrize("kind", ["LA", "P", "P with alphas", "L", "RGB", "16"])
def test_every_way_of_writing_transparency_is_read(tmp_path: Path, kind: str) -> None:
    path, x = tmp_path / "a.png", np.tile(np.arange(WIDE, dtype=np.uint8), (HIGH, 1))
    alpha = np.where(x == 5, 0, 255)
    grey = np.repeat(x[..., None], 3, 2)
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
    picture, mask = load_picture(path, (200, 100, 0))
    assert np.array_equal(np.asarray(mask), alpha)
    assert np.array_equal(np.asarray(picture), over(grey, alpha, (200, 100, 0)))


@pytest.mark.parametrize("ending", [".webp", ".png", ".gif"])
def test_of_an_animation_the_first_frame_is_used_and_noted(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (WIDE, HIGH), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    path = tmp_path / f"a{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert load_picture(path)[0].getpixel((3, 3)) == (255, 0, 0)
    assert look(path).frames == 3
    assert "3 frames" in look(path).notes[0]


# --- files that are damaged or mean harm


def refused(path: Path, words: str) -> None:
    for read in (look, load_picture):
        with pytest.raises(SliderError, match=words) as fault:
            read(path)
        assert str(path) in str(fault.value)
        assert len(str(fault.value).splitlines()) == 1


def test_what_is_no_image_is_refused_with_its_path(tmp_path: Path) -> None:
    refused(tmp_path / "missing.png", "not found")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "no bytes")
    (tmp_path / "text.png").write_text("a text, and a long one " * 99)
    refused(tmp_path / "text.png", "No image")
    for side in (1, 7):
        Image.new("RGB", (side, 100)).save(tmp_path / "small.png")
        refused(tmp_path / "small.png", f"too small: .* {side} x 100")
    Image.new("RGB", (8, 8)).save(tmp_path / "least.png")
    assert look(tmp_path / "least.png").width == 8


def test_what_is_no_file_is_refused_and_nothing_waits(tmp_path: Path) -> None:
    with pytest.raises(SliderError, match="is not a file"):
        load_picture(tmp_path)
    refused(Path("nul\0.png"), "cannot be read")
    (tmp_path / "loop.png").symlink_to(tmp_path / "pool.png")
    (tmp_path / "pool.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path / "loop.png", "symbolic links")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "is not a file")
    refused(tmp_path / f"{'n' * 300}.png", "too long")


@pytest.mark.parametrize("name", ["Größe 漢字 🙂.png", "n" * 251 + ".png", " lead and trail .PNG", "a\tb'\"%s{}.png", "-rf.png"])
def test_strange_names_are_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(ramp()).save(tmp_path / name)
    assert np.array_equal(np.asarray(load_picture(tmp_path / name)[0]), ramp())


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(ramp()).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


TURNED_EXIF = Image.Exif()
TURNED_EXIF[0x0112] = 6
CUTS = {
    "png": saved("PNG"),
    "palette": saved("PNG", "P"),
    "jpeg": saved("JPEG"),
    "progressive": saved("JPEG", progressive=True),
    "webp": saved("WEBP"),
    "bmp": saved("BMP"),
    "avif": saved("AVIF"),
    "gif": saved("GIF"),
    "exif": saved("JPEG", exif=TURNED_EXIF),
}


@pytest.mark.parametrize("host", [False, True], ids=["as Pillow is", "after a node that lets cut images pass"])
@pytest.mark.parametrize("kind", CUTS)
def test_a_truncated_image_is_refused_or_has_lost_no_pixel(
    tmp_path: Path, kind: str, host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", host)
    path, whole = tmp_path / "a.png", CUTS[kind]
    path.write_bytes(whole)
    pixels, most = np.asarray(load_picture(path)[0]), []
    for end in {1, 7, 20, *range(30, len(whole), max(1, len(whole) // 25)), *range(len(whole) - 30, len(whole))}:
        path.write_bytes(whole[:end])
        try:
            assert np.array_equal(np.asarray(load_picture(path)[0]), pixels)
            most.append(len(whole) - end)
        except SliderError as fault:
            assert str(path) in str(fault)  # noqa: PT017 - a refusal is one of two right outcomes
    assert max(most, default=0) <= 24  # the checksum and the end mark
    assert host is ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("host_limit", [None, Image.MAX_IMAGE_PIXELS])
def test_a_bomb_is_refused_before_anything_is_allocated(
    tmp_path: Path, host_limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", host_limit)
    side, squeeze = 20_000, zlib.compressobj(9)
    row = bytes(1 + side // 8)  # one bit a pixel; decoded, it would be 400 million bytes
    (tmp_path / "bomb.png").write_bytes(
        png(side, side, 1, 0, b"".join([*(squeeze.compress(row) for _ in range(side)), squeeze.flush()]))
    )
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    blocks = Image.core.get_stats()["allocated_blocks"]
    tracemalloc.start()
    refused(tmp_path / "bomb.png", "too large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert Image.core.get_stats()["allocated_blocks"] == blocks
    assert host_limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from Linux")
@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF", "AVIF"])
def test_a_header_that_lies_about_its_size_costs_no_memory(tmp_path: Path, kind: str) -> None:
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
    (tmp_path / "a.png").write_bytes(data)
    code = (
        "import sys, resource; from slider_core.data.bitmap import look\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: look(sys.argv[1])\n"
        "except ValueError as fault: print(type(fault).__name__, fault, file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    root = Path(pictures.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, cwd=root, check=True)
    assert "SliderError" in done.stderr
    assert int(done.stdout) < 40_000  # KiB


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_a_number_of_pixels_not_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    Image.new("RGB", (100, 10)).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png").width == 100
    Image.new("RGB", (91, 11)).save(tmp_path / "b.png")
    refused(tmp_path / "b.png", "too large: .* 91 x 11")


def test_postscript_under_the_name_of_an_image_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: ran.append(args))
    (tmp_path / "a.png").write_bytes(saved("EPS"))
    with pytest.raises(Exception), Image.open(tmp_path / "a.png") as image:  # noqa: B017, PT011 - the fake returns no image
        image.load()
    assert ran  # Pillow alone would
    ran.clear()
    refused(tmp_path / "a.png", "No image")
    assert not ran


@given(st.sampled_from(sorted(CUTS)), st.data())
@settings(steady, max_examples=300)
def test_a_file_with_wrong_bytes_gives_pixels_or_a_slider_error(tmp_path_factory, kind: str, data: st.DataObject) -> None:
    path, content = tmp_path_factory.getbasetemp() / f"wrong-{kind}.png", bytearray(CUTS[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        picture, _ = load_picture(path)
        assert picture.mode == "RGB"
    except SliderError as fault:
        assert str(path) in str(fault)  # noqa: PT017 - a refusal is one of two right outcomes


# --- clips


def level(number: int) -> int:
    return 10 + 4 * number


def film(path: Path, count: int, codec: str = "libx264", rate: int = 25, every: int = 10, **options: str) -> Path:
    """A video of 64 x 48 whose frame n is grey of `level(n)`, its left upper corner white; a key frame `every` so many."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as clip:
        stream = clip.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", every
        stream.bit_rate = 2_000_000
        for number in range(count):
            picture = np.full((48, 64, 3), level(number), dtype=np.uint8)
            picture[:16, :16] = 255
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        clip.mux(stream.encode())
    return path


def numbers(clip: list[Image.Image]) -> list[int]:
    """Which frames these are, by the level in their middle."""
    return [round((np.asarray(picture)[20:28, 28:36].mean() - 10) / 4) for picture in clip]


def stills(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (64, 48), (level(number),) * 3).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.MOV", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.mkv", "libvpx")]
)
@pytest.mark.parametrize(
    ("frames", "expected"), [(1, [0]), (2, [0, 30]), (4, [0, 10, 20, 30]), (7, [0, 5, 10, 15, 20, 25, 30]), (31, list(range(31)))]
)
def test_the_frames_of_a_video_are_evenly_spaced(tmp_path: Path, name: str, codec: str, frames: int, expected: list[int]) -> None:
    path = film(tmp_path / name, 31, codec)
    assert numbers(load_clip(path, frames)) == expected
    seen = look(path)
    assert (seen.width, seen.height, seen.frames) == (64, 48, 31)


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_the_frames_of_an_animation_are_evenly_spaced_and_lie_over_the_background(tmp_path: Path, ending: str) -> None:
    images = [Image.new("RGBA", (64, 48), (level(n),) * 3 + (255,)) for n in range(9)]
    for image in images:
        image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    path = tmp_path / f"a{ending}"
    images[0].save(path, save_all=True, append_images=images[1:], lossless=True, disposal=1 if ending == ".png" else 2)
    clip = load_clip(path, 3, (0, 90, 200))
    assert numbers(clip) == [0, 4, 8]
    assert {picture.getpixel((2, 2)) for picture in clip} == {(0, 90, 200)}
    assert look(path).frames == 9


def test_a_folder_of_frames_goes_by_number_and_only_whole_folders_pass(tmp_path: Path) -> None:
    folder = stills(tmp_path / "clip", ["f1.png", "f2.PNG", "f9.webp", "f10.jpg", "f11.png"])
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_text("no frame")
    assert numbers(load_clip(folder, 5)) == [0, 1, 2, 3, 4]
    assert numbers(load_clip(folder, 3)) == [0, 2, 4]
    assert (look(folder).frames, look(folder).width) == (5, 64)
    (folder / "f2.PNG").write_bytes(b"")
    with pytest.raises(SliderError, match=r"f2\.PNG"):
        look(folder)
    assert numbers(load_clip(folder, 3)) == [0, 2, 4]  # what is not needed is not opened
    (folder / "f2.PNG").unlink()
    (folder / "f2.PNG").symlink_to(tmp_path)
    with pytest.raises(SliderError, match="is not a file"):
        look(folder)


def test_clips_that_are_too_short_or_change_their_size_are_refused(tmp_path: Path) -> None:
    folder = stills(tmp_path / "clip", ["1.png", "2.png"])
    with pytest.raises(SliderError, match=r"clip has 2 frames, 3 are needed"):
        load_clip(folder, 3)
    Image.new("RGB", (32, 32)).save(folder / "3.png")
    for read in (look, lambda path: load_clip(path, 3)):
        with pytest.raises(SliderError, match=r"differ in size: .*clip has 32 x 32 and 64 x 48"):
            read(folder)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.gif")
    with pytest.raises(SliderError, match=r"a\.gif has 1 frames, 2 are needed"):
        load_clip(tmp_path / "a.gif", 2)
    with pytest.raises(SliderError, match=r"a\.mp4 has 3 frames, 4 are needed"):
        load_clip(film(tmp_path / "a.mp4", 3), 4)
    with pytest.raises(SliderError, match="at least 1 frame, got 0"):
        load_clip(folder, 0)
    (tmp_path / "none").mkdir()
    with pytest.raises(SliderError, match="none"):
        look(tmp_path / "none")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_frame_of_a_gif_that_is_larger_than_its_header_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gif(side: int) -> bytes:
        stream = io.BytesIO()
        Image.new("L", (side, side), 9).save(stream, "GIF")
        return stream.getvalue()

    small, large = gif(16), gif(64)
    table = 13 + 3 * 2 ** ((large[10] & 7) + 1)
    (tmp_path / "a.gif").write_bytes(small[:-1] + large[table:])
    with pytest.raises(SliderError, match="differ in size"):
        load_clip(tmp_path / "a.gif", 2)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 64 * 64 - 1)
    with pytest.raises(SliderError, match=r"too large: .* 64 x 64"):
        load_clip(tmp_path / "a.gif", 2)


def test_only_the_frames_that_are_needed_are_decoded(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = film(tmp_path / "a.mp4", 60, every=10, bf="0")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as clip:
        places = [(p.pos, p.size) for p in clip.demux(video=0) if p.size]
    for at, size in places[10:50]:  # of six groups, the four in the middle
        content[at : at + size] = b"\xff" * size
    path.write_bytes(content)
    assert numbers(load_clip(path, 2)) == [0, 59]
    with pytest.raises(SliderError, match=r"a\.mp4"):
        load_clip(path, 3)


@pytest.mark.parametrize(
    ("degrees", "matrix", "corner"),
    [
        (90, (0, 1, -1, 0), (-1, 0)),  # a player turns it by 90 degrees clockwise: the upper left corner comes to the right
        (180, (-1, 0, 0, -1), (-1, -1)),
        (270, (0, -1, 1, 0), (0, -1)),
    ],
)
def test_a_video_of_a_turned_telephone_stands_upright(
    tmp_path: Path, degrees: int, matrix: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    path = film(tmp_path / "a.mp4", 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2: the matrix of the track's header
    a, b, c, d = (value * 65536 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    picture = np.asarray(load_clip(path, 1)[0])
    assert picture.shape[:2] == ((64, 48) if degrees != 180 else (48, 64))
    corners = {(y, x): int(picture[y, x].mean()) for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.get) == (corner[1], corner[0])
    assert (look(path).width, look(path).height) == (picture.shape[1], picture.shape[0])


def test_a_video_with_oblong_pixels_is_made_as_wide_as_a_player_shows_it(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as clip:
        stream = clip.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 60, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(2):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 60, 3), 90, dtype=np.uint8), format="rgb24")))
        clip.mux(stream.encode())
    assert load_clip(tmp_path / "a.mkv", 2)[1].size == (80, 48)


@pytest.mark.parametrize(("name", "lasts"), [("a.mp4", {30}), ("a.mkv", set(range(31)))])
def test_a_truncated_video_is_refused_or_its_frames_are_right(tmp_path: Path, name: str, lasts: set[int]) -> None:
    """An MP4 says how many frames it has; a Matroska file that is cut is a shorter film."""
    path = film(tmp_path / name, 31)
    whole = path.read_bytes()
    for end in (0, 3, 8, 30, *range(100, len(whole), len(whole) // 20), len(whole) - 1):
        path.write_bytes(whole[:end])
        try:
            first, last = numbers(load_clip(path, 2))
            assert first == 0
            assert last in lasts
        except SliderError as fault:
            assert str(path) in str(fault)  # noqa: PT017 - a refusal is one of two right outcomes


def test_an_mp4_that_lacks_its_end_is_refused_when_looked_at(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = film(tmp_path / "a.mp4", 31, bf="0")
    whole = path.read_bytes()
    with av.open(str(path)) as clip:
        ends = [p.pos + p.size for p in clip.demux(video=0) if p.size]
    for end, count in ((ends[9], 10), (ends[9] - 1, 9), (ends[-1] - 1, 30)):
        path.write_bytes(whole[:end])
        with pytest.raises(SliderError, match=rf"cut short: .*a\.mp4 has {count} whole frames"):
            look(path)


def test_a_video_whose_frame_is_damaged_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = film(tmp_path / "a.mp4", 11, bf="0")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as clip:
        at, size = [(p.pos, p.size) for p in clip.demux(video=0) if p.size][10]
    content[at + size // 2 : at + size] = bytes(size - size // 2)
    path.write_bytes(content)
    assert numbers(load_clip(path, 1)) == [0]
    with pytest.raises(SliderError, match=r"a\.mp4"):
        load_clip(path, 2)


def test_what_is_no_video_is_refused_and_a_play_list_is_not_followed(tmp_path: Path) -> None:
    other = film(tmp_path / "other.mp4", 3)
    texts = {
        "text.mp4": "no video at all",
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
        "concat.mov": f"ffconcat version 1.0\nfile '{other}'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(SliderError, match=f"No video: .*{name}"):
            load_clip(tmp_path / name, 1)
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.webm")
    with pytest.raises(SliderError, match=r"No video: .*a\.webm"):
        look(tmp_path / "a.webm")


def test_a_video_larger_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 2)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(SliderError, match=r"too large|cannot be read: .*a\.mp4"):
        look(path)


def test_without_pyav_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SliderError, match=r"a\.mp4\. PyAV is missing; install it with: pip install av"):
        load_clip(tmp_path / "a.mp4", 1)


# --- to the model's size

SIDES = st.integers(8, 300)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**31))
@example(119, 14, 69, 8, 0)  # where rounding puts the edge of the crop outside the image
@steady
def test_the_centre_crop_is_that_of_image_ops(wide: int, high: int, width: int, height: int, seed: int) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8))
    ours = np.asarray(fit(image, width, height, Crop.CENTER, (0.9, 0.1)), dtype=int)
    theirs = np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS), dtype=int)
    assert np.abs(ours - theirs).max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0, 1), st.floats(0, 1))
@steady
def test_a_fitted_image_is_scaled_alike_both_ways_and_lies_where_it_should(
    wide: int, high: int, width: int, height: int, x: float, y: float
) -> None:
    """The picture says of each pixel where it was: across in one, down in the other. Float images are resized linearly."""
    scale = min(wide / width, high / height)  # pixels of the image to one of the result
    for axis, size, sides, place in ((1, wide, (width, height), x), (0, high, (height, width), y)):
        at = np.broadcast_to(np.expand_dims(np.arange(size, dtype=np.float32) + 0.5, 1 - axis), (high, wide))
        fitted = np.asarray(fit(Image.fromarray(at.copy()), width, height, Crop.RANDOM, (x, y)))
        expected = place * (size - sides[0] * scale) + (np.arange(sides[0]) + 0.5) * scale
        inside = slice(*np.searchsorted(expected, [4 * max(1, scale), size - 4 * max(1, scale)]))  # the edge has no neighbours
        line = fitted.mean(axis=1 - axis)
        assert np.abs(line - expected)[inside].max(initial=0) < max(0.05, 0.02 * scale)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 48), (40, 120)])
@pytest.mark.parametrize(("wide", "high"), [(300, 200), (200, 400), (256, 256)])
def test_a_circle_stays_a_circle(wide: int, high: int, width: int, height: int) -> None:
    image, radius = Image.new("L", (wide, high)), 40
    ImageDraw.Draw(image).ellipse([wide / 2 - radius, high / 2 - radius, wide / 2 + radius, high / 2 + radius], fill=255)
    seen = np.asarray(fit(image.convert("RGB"), width, height, Crop.CENTER)).astype(float)[..., 0]
    across, down = (seen > 127).any(0).sum(), (seen > 127).any(1).sum()
    scale = max(width / wide, height / high)
    expected = [min(2 * radius * scale, side) for side in (width, height)]
    assert abs(across - expected[0]) <= 1.5
    assert abs(down - expected[1]) <= 1.5


@pytest.mark.parametrize("crop", [Crop.CENTER, Crop.NONE])
def test_only_a_random_crop_looks_at_the_place(crop: Crop) -> None:
    image = Image.fromarray(ramp())
    centre = np.asarray(fit(image, 16, 24, crop, (0.0, 1.0)))
    assert np.array_equal(centre, np.asarray(fit(image, 16, 24, Crop.RANDOM, (0.5, 0.5))))
    left, right = (np.asarray(fit(image, 16, 24, Crop.RANDOM, (x, 0.3))) for x in (0.0, 1.0))
    assert np.array_equal(left, ramp()[:, :16])
    assert np.array_equal(right, ramp()[:, -16:])


def test_a_mask_is_scaled_bilinearly_and_stays_in_place() -> None:
    mask = Image.fromarray(np.where(ramp()[..., 0] > 120, 255, 0).astype(np.uint8))
    fitted = fit(mask, WIDE // 2, HIGH // 2, Crop.CENTER)
    assert fitted.mode == "L"
    assert np.array_equal(np.asarray(fitted), np.asarray(mask.resize((WIDE // 2, HIGH // 2), Image.Resampling.BILINEAR)))


def test_a_very_long_image_costs_no_more_than_another() -> None:
    image = Image.new("RGB", (100_000, 8))
    assert fit(image, 512, 512, Crop.CENTER).size == (512, 512)  # scaled as a whole, it would have 3,277 million pixels


@pytest.mark.parametrize("place", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_place_outside_the_image_is_an_error(place: tuple[float, float]) -> None:
    with pytest.raises(SliderError, match="from 0 to 1"):
        fit(Image.fromarray(ramp()), 16, 16, Crop.RANDOM, place)


def test_tensors_hold_the_levels_from_0_to_1() -> None:
    tensor = to_tensor(Image.fromarray(ramp()))
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, HIGH, WIDE), torch.float32, True)
    assert torch.equal(tensor, torch.from_numpy(ramp()).permute(2, 0, 1).float() / 255)
    mask = to_tensor(Image.fromarray(ramp()[..., 0]))
    assert torch.equal(mask, torch.from_numpy(ramp()[..., 0])[None].float() / 255)
