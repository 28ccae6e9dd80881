"""Videos, animations and folders of frames: evenly spaced frames that are right, or an error that names the file."""

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from core.faults import refused
from PIL import Image

from slider_core.config.checks import SliderError
from slider_core.data import bitmap
from slider_core.data.bitmap_clip import load_clip, look


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
def test_the_frames_of_a_video_are_evenly_spaced(tmp_path: Path, name: str, codec: str) -> None:
    path = film(tmp_path / name, 31, codec)
    for frames, expected in ((1, [0]), (2, [0, 30]), (7, [0, 5, 10, 15, 20, 25, 30]), (31, list(range(31)))):
        assert numbers(load_clip(path, frames)) == expected
    seen = look(path, 64 * 48)
    assert (seen.width, seen.height, seen.frames, numbers([seen.copy])) == (64, 48, 31, [0])


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
    with refused("image.empty", "f2.PNG"):
        look(folder)
    assert numbers(load_clip(folder, 3)) == [0, 2, 4]  # what is not needed is not opened
    (folder / "f2.PNG").unlink()
    (folder / "f2.PNG").symlink_to(tmp_path)
    with refused("image.no_file", "f2.PNG"):
        look(folder)


def test_clips_that_are_too_short_or_change_their_size_are_refused(tmp_path: Path) -> None:
    folder = stills(tmp_path / "clip", ["1.png", "2.png"])
    with refused("clip.too_short", folder, 2, 3):
        load_clip(folder, 3)
    Image.new("RGB", (32, 32)).save(folder / "3.png")
    for read in (look, lambda path: load_clip(path, 3)):
        with refused("clip.sizes", folder, "32 x 32", "64 x 48"):
            read(folder)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.gif")
    with refused("clip.too_short", "a.gif", 1, 2):
        load_clip(tmp_path / "a.gif", 2)
    with refused("clip.too_short", "a.mp4", 3, 4):
        load_clip(film(tmp_path / "a.mp4", 3), 4)
    with refused("clip.frames", 0):
        load_clip(folder, 0)
    (tmp_path / "none").mkdir()
    with refused("folder.no_images", tmp_path / "none"):
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
    with refused("clip.sizes"):
        load_clip(tmp_path / "a.gif", 2)
    monkeypatch.setattr(bitmap, "MOST_PIXELS", 64 * 64 - 1)
    with refused("clip.too_large", "64 x 64"):
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
    with pytest.raises(SliderError, match=r"a\.mp4"):  # FFmpeg says which way
        load_clip(path, 3)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
    ids=["90 degrees clockwise: the upper left corner comes to the right", "180", "270"],
)
def test_a_video_of_a_turned_telephone_stands_upright(tmp_path: Path, matrix: tuple[int, ...], corner: tuple[int, int]) -> None:
    path = film(tmp_path / "a.mp4", 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2: the matrix of the track's header
    a, b, c, d = (value * 65536 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    picture = np.asarray(load_clip(path, 1)[0])
    assert picture.shape[:2] == ((64, 48) if a == 0 else (48, 64))
    corners = {(y, x): int(picture[y, x].mean()) for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.get) == corner
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
    for end in (0, 3, 8, 30, *range(100, len(whole), len(whole) // 10), len(whole) - 1):
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
        with refused("video.cut_short", path, count):
            look(path)


def test_what_is_no_video_is_refused_and_a_play_list_is_not_followed(tmp_path: Path) -> None:
    other = film(tmp_path / "other.mp4", 3)
    texts = {
        "text.mp4": "no video at all",
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
        "concat.mov": f"ffconcat version 1.0\nfile '{other}'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with refused("video.format", name):
            load_clip(tmp_path / name, 1)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.webm", "PNG")
    with refused("video.format", "a.webm"):
        look(tmp_path / "a.webm")


def test_a_video_larger_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 2)
    monkeypatch.setattr(bitmap, "MOST_PIXELS", 64 * 48 - 1)
    with refused("video.too_large", path):
        look(path)


def test_without_pyav_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "av", None)
    with refused("video.no_pyav", "a.mp4", "pip install av"):
        load_clip(tmp_path / "a.mp4", 1)


@pytest.mark.parametrize("ending", [".gif", ".tif"])
def test_more_frames_than_can_be_counted_soon_are_refused(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{ending}"
    first, *more = [Image.new("L", (16, 16), 40 * number) for number in range(5)]
    first.save(path, save_all=True, append_images=more)
    assert look(path).frames == 5
    monkeypatch.setattr(bitmap, "MOST_FRAMES", 4)
    with refused("clip.too_long", path, 4):
        look(path)
