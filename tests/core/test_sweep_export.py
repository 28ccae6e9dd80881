"""A saved sweep shows what was swept: every frame at its strength, and a page that needs nothing but itself."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.faults import refused
from PIL import Image

from slider_core.config.sweep import SweepSpec
from slider_core.lora.calibration import CalibrationInfo
from slider_core.lora.info import SliderInfo
from slider_core.lora.slider_file import Slider
from slider_core.use.plot_video import MOST_WEBP
from slider_core.use.sweep import SweepResult, rows_of
from slider_core.use.sweep_export import MOST_FRAMES, MOST_SHOWN, ShownSweep, animation, page

WEB = Path(__file__).resolve().parents[2] / "web"
MODULES = [(WEB / name).read_text(encoding="utf-8") for name in ("scrubber.mjs", "scrubber_view.mjs")]
STRENGTHS = (1.0, -2.0, 0.0)  # not in order: a scrubber sorts them
SIDE, MS = 32, 120


def shown(strengths: tuple[float, ...] = STRENGTHS, rows: int = 2, **words: Any) -> ShownSweep:
    """Grey pictures: the strength makes them lighter, the row a little more."""
    grey = 0.5 + torch.tensor(strengths) / 10 + torch.arange(rows)[:, None] / 50
    images = grey[:, :, None, None, None].expand(rows, len(strengths), 3, SIDE, SIDE)
    return ShownSweep(SweepResult(SweepSpec(strengths, tuple(range(rows))), images, None, rows_of(range(rows))), **words)


def embedded(content: bytes) -> dict:
    return json.loads(re.search(r'id="sweep">(.*?)</script>', content.decode(), re.DOTALL)[1])


def level(picture: Image.Image) -> float:
    return float(np.asarray(picture.convert("RGB"))[2 : SIDE - 2, 2 : SIDE - 2].mean() / 255)


def test_the_animation_goes_up_and_down_through_every_strength() -> None:
    picture = Image.open(io.BytesIO(animation(shown(), MS)))
    assert (picture.n_frames, picture.info["loop"]) == (4, 0)
    levels = []
    for frame in range(4):
        picture.seek(frame)
        picture.load()
        assert picture.info["duration"] == MS
        levels.append(level(picture))
    assert levels == pytest.approx([0.3, 0.5, 0.6, 0.5], abs=0.02)


def test_an_animation_of_one_strength_is_a_picture_and_one_too_large_for_webp_an_error() -> None:
    assert Image.open(io.BytesIO(animation(shown((1.0,), 1)))).size[0] == SIDE
    wide = torch.zeros(1, 1, 3, 1, MOST_WEBP + 1)
    with refused("sweep.frame_too_large", MOST_WEBP):
        animation(ShownSweep(SweepResult(SweepSpec((0.0,), (0,)), wide)))


def test_the_page_holds_every_picture_in_the_order_of_strength() -> None:
    sweep = embedded(page(shown(minus="sad", plus="glad"), MODULES))
    assert sweep["strengths"] == [-2.0, 0.0, 1.0]
    assert (sweep["minus"], sweep["plus"]) == ("sad", "glad")
    assert [row["name"] for row in sweep["rows"]] == ["seed 0", "seed 1"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(f.split(",")[1]))) for f in sweep["rows"][1]["frames"]]
    assert [level(p) for p in pictures] == pytest.approx([0.32, 0.52, 0.62], abs=0.02)


def test_what_is_shown_says_which_strengths_lie_beyond_the_useful_range() -> None:
    def swept(low: float) -> ShownSweep:
        return shown(slider=Slider({}, SliderInfo(range=(low, 1.0), calibration=CalibrationInfo(calibrated=True, unit=1.0))))

    assert embedded(page(swept(-1.0), MODULES))["useful"] == {
        "range": [-1.0, 1.0],
        "beyond": "beyond the useful range -1.0 to +1.0",
    }
    assert "useful" not in embedded(page(swept(-2.0), MODULES))
    assert "useful" not in embedded(page(shown(), MODULES))
    lowest = [np.asarray(Image.open(io.BytesIO(animation(swept(low), MS))).convert("RGB"))[SIDE:] for low in (-1.0, -2.0)]
    assert lowest[0].min() > lowest[1].min() + 50, "grey, not black"


def test_a_second_slider_has_a_useful_range_of_its_own() -> None:
    def slider(high: float) -> Slider:
        return Slider({}, SliderInfo(range=(-1.0, high), calibration=CalibrationInfo(calibrated=True, unit=1.0)))

    def swept(high: float, high_b: float) -> ShownSweep:
        result = replace(shown().result, rows=rows_of((0,), others=(0.0, 1.5)))
        return ShownSweep(result, slider=slider(high), slider_b=slider(high_b))

    both, b, none = swept(0.5, 1.0), swept(2.0, 1.0), swept(2.0, 2.0)
    of_a, of_b = b.note().splitlines()
    assert of_a == "Strength -2: beyond the useful range -1.0 to +2.0."
    assert of_b == "Strength +1.5 of B: beyond the useful range -1.0 to +1.0."
    assert both.caption() == "beyond the useful range -1.0 to +0.5; B beyond the useful range -1.0 to +1.0"
    names = [row["name"] for row in embedded(page(both, MODULES))["rows"]]
    assert names == ["B 0", "B +1.5 (beyond the useful range -1.0 to +1.0)"]
    assert [row["name"] for row in embedded(page(none, MODULES))["rows"]] == ["B 0", "B +1.5"]
    assert b.sheet(64).width > none.sheet(64).width, "the second row's name has a mark"
    assert none.caption() == "beyond the useful range -1.0 to +2.0"


def test_the_page_asks_nothing_of_anyone() -> None:
    text = page(shown(), MODULES).decode()
    assert not re.findall(r"https?://|@import|<link|<iframe", text)
    assert set(re.findall(r'src\s*=\s*"([^"]*)"', text)) == set()
    assert not re.findall(r"^(import|export)\b", text, re.MULTILINE)


def test_no_word_of_a_prompt_becomes_part_of_the_page() -> None:
    evil = "</script><script>alert(1)</script>"
    text = page(shown(title=evil, minus=evil, report=evil), MODULES).decode()
    assert evil not in text
    assert embedded(text.encode())["title"] == evil


def test_very_many_frames_are_thinned_out_and_both_ends_stay() -> None:
    many = shown(tuple(i / 100 for i in range(-100, 101)), rows=6)
    columns = many.columns()
    assert len(columns) == MOST_FRAMES
    assert (columns[0], columns[-1]) == (0, 200)
    assert columns == sorted(set(columns))
    assert many.frames().shape[:2] == (MOST_SHOWN // MOST_FRAMES, MOST_FRAMES)


def test_a_strength_given_twice_is_shown_once() -> None:
    twice = shown((0.0, 1.0, 0.0), rows=1)
    assert twice.columns() == [0, 1]
    assert twice.description([["a", "b"]])["strengths"] == [0.0, 1.0]
