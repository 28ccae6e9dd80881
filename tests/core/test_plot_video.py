"""Clips on a strip: every frame where its strength and moment say, at the speed of the model, in one file."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from core.faults import refused
from PIL import Image

from slider_core.config.sweep import SweepSpec
from slider_core.use.plot_grids import WIDEST, Legend, draw_entries, draw_strip
from slider_core.use.plot_video import (
    FILM,
    FILM_SIDE,
    MOST_WEBP,
    SHEET,
    Clips,
    Film,
    animated,
    as_bytes,
    clip_cell,
    evenly,
    frames_of,
    moving_strip,
    over_time,
    sheet,
    strip_of,
)
from slider_core.use.sweep import Row, sweep_rows
from slider_core.use.sweep_export import ShownSweep, animation, page

STRENGTHS = (-1.0, 0.0, 2.0)
FRAMES, SIDE = 5, 32
NEAR = 2  # levels by which lossy files may differ


def level(strength: int, moment: int, row: int = 0) -> int:
    """A grey that says which row, strength and moment a frame is of."""
    return 20 + 100 * row + 30 * strength + 5 * moment


def clips(length: int = FRAMES, rows: int = 1, fps: float = 16.0, side: int = SIDE) -> Clips:
    frames = torch.zeros(rows, len(STRENGTHS), length, 3, side, side, dtype=torch.uint8)
    for row in range(rows):
        for strength in range(len(STRENGTHS)):
            for moment in range(length):
                frames[row, strength, moment] = level(strength, moment % FRAMES, row)
    return Clips(frames, fps)


def levels(picture: Image.Image, like: Image.Image, count: int) -> list[int]:
    """The greys in the middle of each picture of a row of `like`, a strip of which the columns are known by their colour."""
    array = np.asarray(picture.convert("RGB")).astype(int)
    marks = np.asarray(like)
    found = []
    for column in range(count):
        y, x = np.nonzero((marks == (255, column, 0)).all(axis=-1))
        found.append(int(array[(y.min() + y.max()) // 2, (x.min() + x.max()) // 2, 0]))
    return found


def marked(rows: Sequence[str], cell: int, title: str = "") -> Image.Image:
    """The strip with a colour for each column, in its first row."""
    images = torch.zeros(max(1, len(rows)), len(STRENGTHS), 3, SIDE, SIDE)
    for column in range(len(STRENGTHS)):
        images[0, column, 0] = 1
        images[0, column, 1] = column / 255
        images[1:, column] = 0.3
    return draw_strip(images, Legend(STRENGTHS, rows, title), cell)


def seconds(content: bytes) -> list[int]:
    """Milliseconds of each frame of an animated file that never ends."""
    durations = []
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.info["loop"] == 0
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            durations.append(picture.info["duration"])
    return durations


def test_every_moment_of_the_strip_shows_each_strength_at_that_moment() -> None:
    like = marked([], 256)
    strip = strip_of(clips(), Legend(STRENGTHS))
    assert len(strip.moving) == FRAMES
    assert {picture.size for picture in strip.moving} == {(like.width + like.width % 2, like.height + like.height % 2)}
    for moment, picture in enumerate(strip.moving):
        assert levels(picture, like, 3) == [level(strength, moment) for strength in range(3)]


def test_the_animated_file_has_every_frame_at_the_speed_of_the_model() -> None:
    strip = strip_of(clips(fps=16.0), Legend(STRENGTHS, ["seed 0"]))
    content = strip.webp(90)
    assert sum(seconds(content)) == round(1000 * FRAMES / 16)
    like = marked(["seed 0"], 256)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "WEBP"
        assert picture.size == strip.moving[0].size
        for moment in range(FRAMES):
            picture.seek(moment)
            for found, wanted in zip(levels(picture, like, 3), [level(s, moment) for s in range(3)], strict=True):
                assert abs(found - wanted) <= NEAR


@pytest.mark.parametrize("fps", [8.0, 12.0, 16.0, 24.0, 30.0])
def test_durations_add_up_to_the_length_of_the_clip(fps: float) -> None:
    frames = [Image.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(12)]
    durations = seconds(animated(frames, fps))
    assert len(durations) == 12
    assert sum(durations) == round(12_000 / fps)
    assert max(durations) - min(durations) <= 1


def test_labels_stand_on_every_frame() -> None:
    named, bare = (moving_strip(clips(), Legend(STRENGTHS, names, title)) for names, title in ((["seed 7"], "age"), ([""], "")))
    assert len({picture.size for picture in named}) == 1
    assert named[0].size[0] > bare[0].size[0]
    other = moving_strip(clips(), Legend((-1.0, 0.0, 1.0), [""]))
    for one, two in zip(bare, other, strict=True):
        changed = np.nonzero((np.asarray(one) != np.asarray(two)).any(axis=(0, 2)))[0]
        assert changed.min() > 2 * one.width // 3 - 40, "the last column's label alone is another"


def test_the_sheet_has_a_row_for_each_of_a_few_moments_from_the_first_to_the_last() -> None:
    picture = sheet(clips(81, rows=1), Legend(STRENGTHS, [""]))
    array = np.asarray(picture)[:, picture.width // 2 + 20, 0].astype(int)
    moments = evenly(81, SHEET)
    assert (moments[0], moments[-1], len(moments)) == (0, 80, SHEET)
    wanted = [level(1, moment % FRAMES) for moment in moments]
    runs = [value for value, before in zip(array[1:], array[:-1], strict=True) if value == before and value in wanted]
    assert list(dict.fromkeys(runs)) == list(dict.fromkeys(wanted))
    two_rows = sheet(clips(81, rows=2), Legend(STRENGTHS, ["a", "b"]))
    assert two_rows.height > 1.8 * picture.height


def test_a_strip_that_moves_is_neither_too_wide_nor_too_high() -> None:
    assert clip_cell(832, 480, 1, 5) * 5 <= WIDEST
    assert clip_cell(480, 832, 4, 1) * 832 / 480 * 4 <= WIDEST
    strip = strip_of(clips(side=400), Legend(STRENGTHS))
    assert strip.moving[0].width < WIDEST


@pytest.mark.parametrize("name", ["", "a", "ab", "abc", "abcd"])
def test_the_sides_of_a_strip_that_moves_are_even_as_h264_asks(name: str) -> None:
    strip = moving_strip(clips(2), Legend(STRENGTHS, [name]))
    assert {side % 2 for picture in strip for side in picture.size} == {0}


def test_what_is_too_large_for_webp_is_an_error() -> None:
    with refused("sweep.frame_too_large", MOST_WEBP):
        animated([Image.new("RGB", (MOST_WEBP + 1, 8))] * 2, 16.0)
    with refused("video.fps", 0):
        clips(fps=0)


def test_a_library_of_clips_moves_and_one_of_images_does_not() -> None:
    images = torch.rand(2, FRAMES, 3, SIDE, SIDE)
    names = [("a", 1.0), ("b", -1.0)]
    strip = over_time(lambda at: draw_entries(at(images), names), FRAMES, 24.0)
    assert (len(strip.moving), strip.fps) == (FRAMES, 24.0)
    for moment, picture in enumerate(strip.moving):
        assert np.array_equal(np.asarray(picture), np.asarray(draw_entries(images[:, moment], names)))
    assert np.array_equal(np.asarray(strip.still), np.asarray(draw_entries(images[:, FRAMES // 2], names)))
    assert over_time(lambda at: draw_entries(at(images[:, 0]), names), 1, 24.0).moving == ()


@pytest.mark.parametrize("length", [1, 5, 8, 49, 121])
def test_a_film_holds_frames_of_the_whole_clip_and_keeps_its_length_in_seconds(length: int) -> None:
    some = clips(length)
    film = Film.of(some)
    assert film.frames == min(length, FILM)
    assert film.frames / film.fps == pytest.approx(length / some.fps)
    picture = film.picture(some.frames[0, 1])
    assert picture.size == (film.columns * SIDE, -(-film.frames // film.columns) * SIDE)
    for number, moment in enumerate(evenly(length, film.frames)):
        x, y = number % film.columns * SIDE + SIDE // 2, number // film.columns * SIDE + SIDE // 2
        assert picture.getpixel((x, y))[0] == level(1, moment % FRAMES)


def test_frames_of_a_film_are_small() -> None:
    picture = Film(4, 2, 16.0).picture(torch.zeros(4, 3, 480, 832, dtype=torch.uint8))
    assert picture.width == 2 * FILM_SIDE
    assert max(picture.size) < MOST_WEBP


def drawn_sweep() -> ShownSweep:
    """A sweep whose sampler drew clips."""
    some = clips(rows=2)

    def sample(strengths: Sequence[float], row: Row) -> tuple[torch.Tensor, None]:
        assert tuple(strengths) == STRENGTHS
        return some.frames[row.seed].float() / 255, None

    return ShownSweep(sweep_rows(SweepSpec(STRENGTHS, (0, 1)), [Row(0), Row(1)], sample, 16.0), "speed")


def test_a_sweep_of_clips_keeps_all_frames_and_measures_them() -> None:
    result = drawn_sweep().result
    assert torch.equal(result.clips.frames, clips(rows=2).frames)
    assert torch.equal(as_bytes(result.clips.at(3)[:, :, None].flatten(0, 1))[:, 0], result.clips.frames[:, :, 3].flatten(0, 1))
    assert (result.images[0, 2] * 255).round().unique().tolist() == [level(2, FRAMES // 2)]
    assert result.distance() == pytest.approx([30 / 255, 0, 30 / 255], abs=1e-6)
    faster = result.clips.frames.clone()
    faster[:, 2, :2] = 0  # nothing of it is in the middle frame
    changed = ShownSweep(type(result)(result.spec, result.images, clips=Clips(faster, 16.0))).result
    assert changed.distance()[2] != pytest.approx(result.distance()[2])


def test_one_strength_is_a_clip_of_its_own() -> None:
    frames = frames_of(drawn_sweep().result.clips.frames[1, 2])
    assert [picture.getpixel((3, 3))[0] for picture in frames] == [level(2, moment, row=1) for moment in range(FRAMES)]


def test_a_saved_sweep_of_clips_plays_beside_each_other_and_in_the_page() -> None:
    sweep = drawn_sweep()
    content = animation(sweep, ms=150)
    assert sum(seconds(content)) == round(1000 * FRAMES / 16), "as fast as the model's clips, not as frame_ms says"
    text = page(sweep, ["// scrubber"]).decode()
    assert f'"film": {{"frames": {FRAMES}, "columns": 3, "fps": 16.0}}' in text
    assert text.count("data:image/webp;base64,") == 2 * len(STRENGTHS)
    assert len(sweep.films(80)) == 2
    assert [len(row) for row in sweep.films(80)] == [3, 3]
