"""A sweep to show and to keep: an animated WebP, and one HTML page with a scrubber that needs nothing else. Of a video model the
WebP is the strip, its clips playing together, and a still sheet of it is kept beside it.

The page carries its pictures, its style and the scrubber's own scripts (web/*.mjs, handed in as text), so that it works from a
disk, offline, and asks nothing of any server.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw

from ..canvas import PAPER, font
from ..config.checks import need
from ..data.fitting import to_pil
from ..lora.calibration import Units
from ..lora.slider_file import Slider
from ..lora.useful_range import Span, beyond_note, beyond_words, useful_range
from .plot_curves import label, marked
from .plot_grids import BAND, Legend, draw_strength, draw_strip
from .plot_video import MOST_WEBP, Film, Strip, animated, evenly, strip_of
from .sweep import SweepResult

MOST_FRAMES = 64  # of one row, where a scrubber shows them
MOST_SHOWN = 256  # of all rows
MODULE = re.compile(r"^import\b.*?$\n?", re.MULTILINE)
EXPORT = re.compile(r"^export (?=const|function|class|let)", re.MULTILINE)


@dataclass(frozen=True)
class ShownSweep:
    """A finished sweep with its title, the prompts at both ends, a report, and what was swept in strengths of which units;
    `slider_b` in rows."""

    result: SweepResult
    title: str = ""
    minus: str = ""
    plus: str = ""
    report: str = ""
    slider: Slider | None = None
    units: str = Units.CALIBRATED.value
    slider_b: Slider | None = None

    @property
    def useful(self) -> Span | None:
        """The useful range of the slider in the sweep's units, None where none was found."""
        return None if self.slider is None else useful_range(self.slider.info, self.units)

    @property
    def useful_b(self) -> Span | None:
        """That of the second slider."""
        return None if self.slider_b is None else useful_range(self.slider_b.info, self.units)

    def caption(self) -> str:
        """What a mark on the strip means."""
        parts = [beyond_words(self.result.spec.strengths, self.useful)]
        if of_b := beyond_words(self.result.others(), self.useful_b):
            parts.append(f"B {of_b}")
        return "; ".join(filter(None, parts))

    def note(self) -> str:
        """Sentences that name the strengths beyond the useful ranges."""
        of_a = beyond_note(self.result.spec.strengths, self.useful)
        of_b = beyond_note(self.result.others(), self.useful_b, "B")
        return "\n".join(filter(None, [of_a, of_b]))

    def columns(self) -> list[int]:
        """Places of the strengths that a scrubber shows, rising; of very many some, spread evenly, both ends among them."""
        strengths = self.result.spec.strengths
        rising = list(map(strengths.index, sorted(set(strengths))))
        return [rising[place] for place in evenly(len(rising), MOST_FRAMES)]

    def frames(self) -> torch.Tensor:
        """(rows, strengths, 3, H, W): the pictures that a scrubber shows."""
        return self.result.images[: self.shown_rows(), self.columns()]

    def shown_rows(self) -> int:
        """How many rows a scrubber shows."""
        return min(len(self.result.images), max(1, MOST_SHOWN // len(self.columns())))

    @property
    def film(self) -> Film | None:
        """How the films of clips are laid out; None of images."""
        return None if self.result.clips is None else Film.of(self.result.clips)

    def films(self, quality: int) -> list[list[bytes]]:
        """Of clips what a scrubber shows, a WebP for each row and strength; nothing of images."""
        film, clips = self.film, self.result.clips
        if film is None or clips is None:
            return []
        rows = clips.frames[: self.shown_rows(), self.columns()]
        return [[webp(film.picture(clip), quality) for clip in row] for row in rows]

    def strip(self) -> Strip | None:
        """Of clips the strip, moving and as a still sheet; None of images."""
        clips = self.result.clips
        if clips is None:
            return None
        return strip_of(clips, self._legend())

    def sheet(self, cell: int) -> Image.Image:
        """The strip of images that are `cell` wide on it."""
        return draw_strip(self.result.images, self._legend(), cell)

    def _legend(self) -> Legend:
        result = self.result
        return Legend(result.spec.strengths, result.names(self._marked_b), self.title, self.useful, self.caption())

    def _marked_b(self, strength: float) -> str:
        return marked(strength, self.useful_b)

    def _spelled_b(self, strength: float) -> str:
        """With what a mark would mean."""
        words = beyond_words([strength], self.useful_b)
        return f"{label(strength)} ({words})" if words else label(strength)

    def description(self, frames: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """What web/scrubber.mjs reads; `frames` says for each row and strength where its picture is."""
        names = self.result.names(self._spelled_b)
        strengths = [self.result.spec.strengths[column] for column in self.columns()]
        rows = [{"name": name, "frames": list(row)} for name, row in zip(names, frames, strict=False)]
        description: dict[str, Any] = {
            "title": self.title,
            "minus": self.minus,
            "plus": self.plus,
            "strengths": strengths,
            "rows": rows,
        }
        if words := beyond_words(self.result.spec.strengths, self.useful):
            description["useful"] = {"range": list(self.useful or ()), "beyond": words}
        return description if self.film is None else description | {"film": asdict(self.film)}


def _frame(images_RCHW: torch.Tensor, strength: float, useful: Span | None) -> Image.Image:
    """The rows of one strength beside each other, about as high as wide, and the strength below them."""
    count, _, height, width = images_RCHW.shape
    across = max(1, min(count, math.ceil(math.sqrt(count * height / width)), MOST_WEBP // width))
    down = math.ceil(count / across)
    size = (across * width, down * height + BAND)
    message = f"A frame of {count} rows is {size} pixels; WebP holds {MOST_WEBP}. Sweep fewer rows."
    need(max(size) <= MOST_WEBP, message, "sweep.frame_too_large")
    canvas = Image.new("RGB", size, PAPER)
    for number, image in enumerate(images_RCHW):
        canvas.paste(to_pil(image), (number % across * width, number // across * height))
    draw_strength(ImageDraw.Draw(canvas), (size[0] / 2, size[1] - BAND / 2), strength, font(15), useful)
    return canvas


def animation(shown: ShownSweep, ms: int = 150, quality: int = 85) -> bytes:
    """An endless animated WebP from the lowest strength to the highest and back, `ms` a frame, every row in each frame; of clips
    the strip, as fast as they are."""
    strip = shown.strip()
    if strip is not None:
        return strip.webp(quality)
    result = shown.result
    rising = [_frame(result.images[:, column], result.spec.strengths[column], shown.useful) for column in shown.columns()]
    following = [*rising[1:], *rising[-2:0:-1]]
    return animated([rising[0], *following], 1000 / ms, quality)


def webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _data_url(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def merged(modules: Sequence[str]) -> str:
    """ES modules, each after those that it imports from, as one script."""
    return "\n".join(EXPORT.sub("", MODULE.sub("", module)) for module in modules)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 12px; max-width: 1100px; font: 15px/1.4 sans-serif; background: #202024; color: #eee; }}
h1 {{ font-size: 1.3em; margin: 0 0 8px; }}
main {{ height: min(78vh, 1100px); }}
pre {{ white-space: pre-wrap; font-size: 13px; opacity: 0.85; }}
</style>
</head>
<body>
<h1>{title}</h1>
<main id="scrubber"></main>
<p id="said" role="status"></p>
<pre>{report}</pre>
<noscript>This page needs JavaScript to slide its pictures.</noscript>
<script type="application/json" id="sweep">{sweep}</script>
<script type="module">
{script}
const style = document.createElement("style")
style.textContent = STYLE
document.head.append(style)
const said = document.getElementById("said")
async function copy(strength) {{
  try {{
    await navigator.clipboard.writeText(String(strength))
    said.textContent = `Copied ${{label(strength)}}.`
  }} catch {{
    said.textContent = `The strength is ${{label(strength)}}.`
  }}
}}
const scrubber = makeScrubber(document, {{ use: "copy strength", onUse: copy }})
document.getElementById("scrubber").append(scrubber.element)
scrubber.show(readSweep(JSON.parse(document.getElementById("sweep").textContent)), (frame) => frame)
</script>
</body>
</html>
"""


def page(shown: ShownSweep, modules: Sequence[str], quality: int = 90) -> bytes:
    """One HTML page with the pictures in it. `modules`: scrubber.mjs and scrubber_view.mjs as text, in that order."""
    stills = [[webp(to_pil(image), quality) for image in row] for row in shown.frames()] if shown.film is None else []
    frames = [list(map(_data_url, row)) for row in stills or shown.films(quality)]
    sweep = json.dumps(shown.description(frames)).replace("<", "\\u003c")  # no text of a prompt may end the script
    title = html.escape(shown.title or "Slider sweep")
    return PAGE.format(title=title, report=html.escape(shown.report), sweep=sweep, script=merged(modules)).encode()


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON as the standard has it: what could not be measured (NaN) is null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_plain, value))
    return value


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # optimize: 3 % smaller in four times the time
    return buffer.getvalue()
