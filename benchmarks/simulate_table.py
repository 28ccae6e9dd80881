"""The table of docs/memory.md out of what simulate.py has found: what lies on a card, which card is large enough, seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "memory.md"
BEGIN, END = "<!-- simulated: benchmarks/simulate.py -->", "<!-- end -->"
GIB = 2**30
CONTEXT = 0.6  # GiB of a GPU's context and workspaces
GAPS = 1.1  # times the activations: what an allocator leaves unused
STREAMED = 0.75  # GiB of the weights on the card when ComfyUI streams them
CARDS = {6: 5.5, 8: 7.4, 12: 11.2, 16: 15.1, 24: 23.0}  # GB of a card: GiB that can be used
SPEEDS = {"RTX 4090": 165e12 * 0.4, "RTX 3060": 50e12 * 0.4}  # dense bf16 FLOP a second, at 40 %


def card(weights: float, found: Any) -> str:
    """The smallest card for so many GiB of weights, one image at a time."""
    moments = 3 * found.trained / GIB  # and the factors themselves
    need = weights + moments + GAPS * found.peak["half"] / GIB + CONTEXT
    return next((str(size) for size, usable in CARDS.items() if need <= usable), "> 24")


def row(found: Any) -> str:
    weights = 2 * found.parameters / GIB
    flops = sum(found.flops["checkpointed"].values())
    peaks = (f"{found.peak[level] / GIB:.2f}" for level in ("plain", "checkpointed", "half"))
    cards = (card(lying, found) for lying in (weights, weights / 2, STREAMED))
    seconds = (f"{flops / speed:.1f}" for speed in SPEEDS.values())
    sizes = (f"{weights:.1f}", f"{weights / 2:.1f}")
    return f"| {' | '.join([found.name, *sizes, *peaks, *cards, f'{flops / 1e12:.0f}', *seconds])} |"


def write_table(all_found: Iterable[Any]) -> None:
    """Put it between the marks of the page. Models of which not every level was simulated are left out."""
    whole = [found for found in all_found if len(found.peak) == 3]
    head = (
        "| model | weights bf16 | fp8 | peak, plain | checkpointed | one at a time | card for bf16 | fp8 | streamed | TFLOP | "
        + " | ".join(f"s, {name}" for name in SPEEDS)
    )
    lines = [head + " |", "|---" * (10 + len(SPEEDS)) + "|", *map(row, whole)]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")
