"""What the pack adds to ComfyUI's start, by ComfyUI's own import timing.

    python benchmarks/start.py                  (needs ComfyUI; --repeat starts, medians)

ComfyUI starts in a base directory of its own with this pack alone, prints "Import times for custom nodes" and ends. Beside it
stands the time of the whole start, and which heavy packages were imported before a node ran: there should be none.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

import harness  # noqa: E402
from rings import find_comfyui  # noqa: E402

HEAVY = ("peft", "lycoris", "torchvision", "transformers", "scipy", "matplotlib")
LINE = re.compile(r"([\d.]+) seconds:.*slider-lora")
PROBE = """
import atexit, sys
atexit.register(lambda: print("IMPORTED", *(m for m in {heavy!r} if m in sys.modules), file=sys.stderr))
"""


def started(comfy: Path, packs: dict[str, Path], probe: Path) -> tuple[str, float]:
    """(what ComfyUI printed, seconds) of a start that ends at once."""
    with tempfile.TemporaryDirectory() as temp:
        base = Path(temp)
        harness.lay_out(base, packs)
        command = [*harness.command(comfy, base, harness.free_port(), packs), "--quick-test-for-ci"]
        begun = time.perf_counter()
        env = os.environ | {"PYTHONPATH": str(probe)}
        done = subprocess.run(command, cwd=base, env=env, capture_output=True, text=True)
        return done.stdout + done.stderr, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    comfy = find_comfyui()
    if comfy is None:
        raise SystemExit("This needs a ComfyUI: set COMFYUI_PATH.")
    packed: list[float] = []
    whole: dict[bool, list[float]] = {True: [], False: []}
    imported: dict[bool, set[str]] = {True: set(), False: set()}
    with tempfile.TemporaryDirectory() as temp:
        probe = Path(temp)
        (probe / "sitecustomize.py").write_text(PROBE.format(heavy=HEAVY), encoding="utf-8")
        for _ in range(args.repeat + 1):  # the first fills the machine's caches
            for with_it in (True, False):
                told, seconds = started(comfy, {harness.PACK: ROOT} if with_it else {}, probe)
                whole[with_it].append(seconds)
                imported[with_it] |= set(told.partition("IMPORTED")[2].partition("\n")[0].split())
                if with_it:
                    found = LINE.search(told)
                    if found is None:
                        raise SystemExit(f"ComfyUI did not say how long the pack took:\n{told[-3000:]}")
                    packed.append(float(found[1]))
    with_us, without = (statistics.median(some[1:]) for some in (whole[True], whole[False]))
    more = sorted(imported[True] - imported[False])
    print("| the pack, s | start with it, s | start without, s | ratio | heavy packages that only the pack brings in |")
    print("|---|---|---|---|---|")
    brought = ", ".join(more) or "none"
    print(f"| {statistics.median(packed[1:]):.1f} | {with_us:.1f} | {without:.1f} | {with_us / without:.2f} | {brought} |")


if __name__ == "__main__":
    main()
