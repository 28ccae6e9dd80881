"""Letters that Pillow's own font lacks are drawn with one of the system's. The faces here are made up."""

import math

import pytest
from PIL import ImageFont

from slider_core import canvas


class Face:
    def __init__(self, glyphs: str, name: str = "own") -> None:
        self.glyphs, self.name = glyphs, name

    def getmask(self, letter: str) -> bytes:
        return letter.encode() if letter in self.glyphs else b"box"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, Face]:
    """File name -> face, beside an own font of small Latin letters."""
    found: dict[str, Face] = {}

    def truetype(name: str, _size: int) -> Face:
        if name not in found:
            raise OSError("cannot open resource")
        return found[name]

    monkeypatch.setattr(ImageFont, "load_default", lambda **_size: Face("abcdefghijklmnopqrstuvwxyz+1"))
    monkeypatch.setattr(ImageFont, "truetype", truetype)
    canvas._system.cache_clear()
    yield found
    canvas._system.cache_clear()


def test_the_own_font_is_taken_where_it_lacks_nothing_or_the_system_has_no_better(system: dict[str, Face]) -> None:
    assert canvas.font(15, "笑顔").name == "own"
    system[canvas.SYSTEM[0]] = Face("abc", "other")
    assert canvas.font(15, "a b").name == "own"
    assert canvas.font(15).name == "own"


def test_the_first_font_that_has_every_glyph_is_taken(system: dict[str, Face]) -> None:
    system[canvas.SYSTEM[1]] = Face("顔", "half")
    assert canvas.font(15, "笑顔").name == "half", "where none has them all, the one that lacks least"
    system[canvas.SYSTEM[3]] = Face("笑顔 +1", "whole")
    system[canvas.SYSTEM[4]] = Face("笑顔 +1", "later")
    canvas._system.cache_clear()
    assert canvas.font(15, "笑顔 +1").name == "whole"
    assert canvas.font(15, "顔\n").name == "half", "a line break is no glyph"


def test_pillows_own_font_lacks_chinese_and_what_cannot_be_printed_does_not_count() -> None:
    assert canvas.missing(ImageFont.load_default(size=15), "a\U0010fff0") == 0
    assert canvas.missing(ImageFont.load_default(size=15), "ab顔顔") == 1


def test_what_is_no_number_leaves_the_rest_of_a_line_in_its_place() -> None:
    panel = canvas.Panel("", "", "", {}, (0.0, 3.0))
    drawn = []
    for odd in ([], [(1.0, math.nan)], [(1.0, math.inf)]):
        line = canvas.Line("a", [(0.0, 1.0), *odd, (2.0, 2.0)], canvas.INK)
        drawn.append(canvas.draw_lines(panel, [line], (300, 200)).tobytes())
    assert drawn[0] == drawn[1] == drawn[2]
