"""Write the table of docs/sharing.md: what diffusers does with a saved slider, for each family, as measured here.

python tools/make_sharing.py            (needs ComfyUI and diffusers, as tests/host/test_peers.py does; some minutes)
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from rings import find_comfyui  # noqa: E402

PAGE = ROOT / "docs" / "sharing.md"
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


def main() -> int:
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
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
