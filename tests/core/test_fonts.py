"""Letters that Pillow's own font lacks are drawn with one of the system's. The faces here are made up."""

import pytest
from PIL import ImageFont

from slider_core import canvas as fonts


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
    fonts._system.cache_clear()
    yield found
    fonts._system.cache_clear()


def test_what_the_own_font_has_is_drawn_with_it(system: dict[str, Face]) -> None:
    system[fonts.SYSTEM[0]] = Face("abc", "other")
    assert fonts.font(15, "a b").name == "own"
    assert fonts.font(15).name == "own"


def test_the_first_font_that_has_every_letter_is_taken(system: dict[str, Face]) -> None:
    system[fonts.SYSTEM[1]] = Face("顔", "half")
    system[fonts.SYSTEM[3]] = Face("笑顔 +1", "whole")
    system[fonts.SYSTEM[4]] = Face("笑顔 +1", "later")
    assert fonts.font(15, "笑顔 +1").name == "whole"
    assert fonts.font(15, "顔\n").name == "half", "a line break is no letter"


def test_without_such_a_font_it_is_the_one_that_lacks_least(system: dict[str, Face]) -> None:
    system[fonts.SYSTEM[2]] = Face("顔", "half")
    assert fonts.font(15, "笑顔").name == "half"


def test_without_any_font_of_the_system_the_own_one_is_left(system: dict[str, Face]) -> None:
    assert fonts.font(15, "笑顔").name == "own"


def test_pillows_own_font_lacks_chinese_and_what_cannot_be_printed_does_not_count() -> None:
    assert fonts.missing(ImageFont.load_default(size=15), "a\U0010fff0") == 0
    assert fonts.missing(ImageFont.load_default(size=15), "ab顔顔") == 1
