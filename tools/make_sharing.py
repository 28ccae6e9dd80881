"""Write the tables of docs/sharing.md and docs/adapters.md: what diffusers does with a saved slider, and what the slider guide's
list of layers means, for each model, as measured here.

python tools/make_sharing.py            (needs ComfyUI and diffusers, as tests/host/test_peers.py does; some minutes)
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from rings import find_comfyui  # noqa: E402

DOCS = ROOT / "docs"
START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEAD = "| model | pipeline | layers loaded | +1 | -1 | 2.5 | Load LoRA reads it |\n|---|---|---|---|---|---|---|"


def core(name: str) -> ModuleType:
    """A module of slider_core."""
    return importlib.import_module(f"slider_core.{name}")


def row(title: str, folder: Path) -> str:
    """One line of the table: the preset auto, saved as diffusers, loaded there."""
    from zoo.peers import STRENGTHS, InDiffusers, merged, save, slider_on

    peer = InDiffusers(title)
    slider = slider_on(core, peer.ours, "auto")
    file = save(core, folder / "slider.safetensors", slider, "diffusers", peer.ours)
    found = peer.deviations(file, {strength: merged(core, peer.ours, slider, strength) for strength in STRENGTHS})
    form = core("config.lora").FileFormat.DIFFUSERS
    stock = core("with_comfy.proof").stock_reads(file, form, peer.ours)
    file.unlink()
    loaded, expected, _ = found[0]
    gaps = " | ".join(f"{gap:.0e}" for _, _, gap in found)
    return f"| {title} | {peer.peer.pipeline} | {loaded} of {expected} | {gaps} | {'yes' if stock else 'no'} |"


def reader_lines(folder: Path) -> list[str]:
    """What PEFT and LyCORIS answer with their files."""
    from zoo import readers

    versions = ", ".join(f"{name} {version(name)}" for name in ("peft", "lycoris-lora"))
    lines = [f"\nMeasured with {versions}.\n", "| program | model | layers loaded | +1 | -1 | 2.5 |", "|---|---|---|---|---|---|"]
    for program in readers.READERS:
        for title in readers.TITLES:
            place = folder / program / title
            place.mkdir(parents=True)
            found = readers.deviations(core, program, title, place)
            gaps = " | ".join(f"{gap:.0e}" for _, _, gap in found)
            lines.append(f"| {program} | {title} | {found[0][0]} of {found[0][1]} | {gaps} |")
    return lines


def guide_lines() -> list[str]:
    """How many layers the guide's list means on each model at full size, and on which it means none."""
    from zoo import guide
    from zoo.animals import FULL
    from zoo.model import build_full

    lines = ["| model | layers that the list means |", "|---|---|"]
    none = []
    for entry in FULL:
        try:
            paths = guide.layers_of(core, SimpleNamespace(model=build_full(entry)))
        except core("config.checks").SliderError:
            none.append(entry.name)
        else:
            lines.append(f"| {entry.title} | {len(paths)}, the first is `{paths[0]}` |")
    return [*lines, f"\nNo layer, and the error names the preset `auto`: {', '.join(dict.fromkeys(none))}."]


def fill(page: Path, lines: list[str]) -> None:
    """Put lines between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    page.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.WARNING)
    root = find_comfyui()
    if root is None:
        sys.stderr.write("make_sharing.py: no ComfyUI found; set COMFYUI_PATH\n")
        return 2
    sys.path.insert(0, str(root))
    from comfy.cli_args import args

    args.cpu = True
    import diffusers
    from zoo.peers import PEERS

    lines = [f"Measured with diffusers {diffusers.__version__}.\n", HEAD]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        lines += [row(title, Path(folder)) for title in PEERS]
        lines += reader_lines(Path(folder))
    fill(DOCS / "sharing.md", lines)
    fill(DOCS / "adapters.md", guide_lines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
