"""Write the table by family into docs/settings.md, out of slider_core/families: python tools/make_settings.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.families.family import Drawing, Family, Variant  # noqa: E402
from slider_core.families.table import FAMILIES  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
BEGIN = "<!-- by tools/make_settings.py -->\n"
END = "<!-- end -->\n"
COLUMNS = (
    "model",
    "training resolution",
    "picture",
    "steps",
    "cfg",
    "sampler, scheduler",
    "guidance",
    "shift",
    "frames a second",
    "`few_step`",
    "source",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


def row(family: Family, variant: Variant | None = None) -> str:
    """A line of the table: a family, or a variant of it."""
    drawing = family.drawing if variant is None else variant.drawing
    few_step = family.few_step if variant is None else variant.few_step
    title = family.title if variant is None else f"&nbsp;&nbsp;{variant.name}"
    resolution = (variant and variant.resolution) or family.training.resolution
    size = (variant and variant.size) or family.size
    sources = f"{drawing.source}. Resolution: {family.training.source}"
    cells = [
        title,
        resolution,
        size,
        drawing.steps,
        f"{drawing.cfg:g}",
        *_sampler(drawing),
        family.fps or "",
        drawing.steps if few_step else "",
        sources,
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def _sampler(drawing: Drawing) -> Iterator[str]:
    yield f"{drawing.sampler}, {drawing.scheduler}"
    yield f"{drawing.guidance:g}" if drawing.guidance else ""
    yield f"{drawing.shift:g}" if drawing.shift else ""


def table() -> str:
    """The whole table, image families first."""
    lines = [HEAD]
    for family in sorted(FAMILIES, key=lambda family: family.title.lower()):
        lines.append(row(family))
        lines += [row(family, variant) for variant in family.variants]
    return "".join(lines)


def page(text: str) -> str:
    """`text` with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
