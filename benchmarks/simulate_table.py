"""Tables out of what simulate.py has found: what lies on a card, which card is large enough, seconds; the pack's estimate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
END = "<!-- end -->"
GIB = 2**30
LEVELS = {
    "plain": "peak, plain",
    "checkpointed": "checkpointed",
    "half": "one image at a time",
    "host": "and inputs in main memory",
}
CONTEXT = 0.6  # GiB of a GPU's context and workspaces
GAPS = 1.1  # times the activations: what an allocator leaves unused
STREAMED = 0.75  # GiB of the weights on the card when ComfyUI streams them
CARDS = {6: 5.5, 8: 7.4, 12: 11.2, 16: 15.1, 24: 23.0}  # GB of a card: GiB that can be used
SPEEDS = {"RTX 4090": 165e12 * 0.4, "RTX 3060": 50e12 * 0.4}  # dense bf16 FLOP a second, at 40 %


def card(weights: float, found: Any) -> str:
    """The smallest card for so many GiB of weights, on the lowest level."""
    moments = 3 * found.trained / GIB  # and the factors themselves
    need = weights + moments + GAPS * found.peak["host"] / GIB + CONTEXT
    return next((str(size) for size, usable in CARDS.items() if need <= usable), "> 24")


def row(found: Any) -> str:
    weights = 2 * found.parameters / GIB
    flops = sum(found.flops["checkpointed"].values())
    peaks = (f"{found.peak[level] / GIB:.2f}" for level in LEVELS)
    cards = (card(lying, found) for lying in (weights, weights / 2, STREAMED))
    seconds = (f"{flops / speed:.1f}" for speed in SPEEDS.values())
    sizes = (f"{weights:.1f}", f"{weights / 2:.1f}")
    return f"| {' | '.join([found.name, *sizes, *peaks, *cards, f'{flops / 1e12:.0f}', *seconds])} |"


def estimated(found: Any) -> str:
    """What the pack says before the run, over the peak; nothing for a level that was simulated before estimates were kept."""
    ratios = (f"{found.estimate[level] / found.peak[level]:.2f}" if level in found.estimate else "" for level in LEVELS)
    return f"| {found.name} | {' | '.join(ratios)} |"


def put(page: Path, mark: str, head: list[str], rows: Iterable[str]) -> None:
    """Write the table between the marks of the page."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    text = page.read_text(encoding="utf-8")
    begin = f"<!-- {mark}: benchmarks/simulate.py -->"
    before, _, rest = text.partition(begin)
    page.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def write_tables(all_found: Iterable[Any]) -> None:
    """Models of which not every level was simulated are left out."""
    whole = [found for found in all_found if len(found.peak) == len(LEVELS)]
    levels = list(LEVELS.values())
    cards = ["card for bf16", "fp8", "streamed", "TFLOP", *(f"s, {name}" for name in SPEEDS)]
    put(DOCS / "memory.md", "simulated", ["model", "weights bf16", "fp8", *levels, *cards], map(row, whole))
    put(DOCS / "benchmarks-speed.md", "estimated", ["model", *levels], map(estimated, whole))
