"""The font of the pictures: Pillow's own, and for letters that it lacks the first font of the system that has them."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Face = ImageFont.ImageFont | ImageFont.FreeTypeFont
NOWHERE = "\U0010fffd"  # a place that no font fills: what is drawn for it stands for every letter that is missing
SYSTEM = (  # as Linux, Windows and macOS have them; those with the most letters first
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "msyh.ttc", "YuGothM.ttc", "meiryo.ttc", "malgun.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf", "arialuni.ttf",
    "NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf",
)  # fmt: skip


@lru_cache(maxsize=1024)
def _system(name: str, size: int) -> Face | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def missing(face: Face, text: str) -> int:
    """How many of the letters of `text` that face cannot draw."""
    nothing = bytes(face.getmask(NOWHERE))
    return sum(bytes(face.getmask(letter)) == nothing for letter in {*text} if letter.isprintable() and not letter.isspace())


def font(size: int, text: str = "") -> Face:
    """A face in which `text` can be read; where the system has none, the one that lacks least of it."""
    own = ImageFont.load_default(size=size)
    least = missing(own, text) if not text.isascii() else 0
    for name in SYSTEM if least else ():
        face = _system(name, size)
        if face and missing(face, text) < least:
            own, least = face, missing(face, text)
        if not least:
            break
    return own
