"""How well do pairs line up that the built-in model draws? docs/making-pairs.md quotes what this prints (needs ComfyUI).

    python benchmarks/drawn_pairs.py           # about two minutes

Slider Pair Maker's own code, PAIRS pairs of each concept at cfg 1 and 3. Differ: how far the attribute lies apart in the two
images of a pair that is kept, on its scale from -1 to 1; the largest of the others, beside it, is what should not differ.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402

from slider_core.with_comfy.start import find_comfyui, start  # noqa: E402

PAIRS, SEED = 6, 0
FACES = (("light", "blue"), ("brown", "green"), ("tan", "gray"))
SUBJECTS = "\n".join(f"a face with {skin} skin on a {background} background" for skin, background in FACES)
PROMPTS = {
    "eyes": ("{subject}, open eyes", "{subject}, closed eyes"),
    "size": ("{subject}, large", "{subject}, small"),
    "mouth": ("{subject}, smiling", "{subject}, sad"),
}
CFGS = (1.0, 3.0)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    start(find_comfyui())
    from slider_core.data.pair_prompts import pair_prompts
    from slider_core.use.sampling import SamplerSettings, SamplingRequest
    from slider_core.with_comfy.two_prompts import PairDrawer, draw_pairs
    from slider_core.with_tiny.faces import CONTINUOUS, measure
    from slider_core.with_tiny.model import load_weights
    from slider_core.with_tiny.model_in_comfy import load_demo

    model, clip, vae = load_demo(load_weights())
    print("| concept | cfg | differ, least to largest | the other that differs most | drawn | left out |")
    print("|---|---|---|---|---|---|")
    for concept, (positive, negative) in PROMPTS.items():
        for cfg in CFGS:
            drawer = PairDrawer(SamplingRequest(SamplerSettings(cfg=cfg)), model, vae, clip)
            made = draw_pairs(drawer, pair_prompts(positive, negative, SUBJECTS), PAIRS, SEED, lambda *_: None)
            apart: dict[str, list[float]] = {name: [] for name in CONTINUOUS}
            for pair in made.kept:
                plus, minus = measure(torch.stack([pair.positive, pair.negative]))
                for name, found in apart.items():
                    found.append(getattr(plus, name) - getattr(minus, name))
            known = {name: [one for one in found if math.isfinite(one)] for name, found in apart.items()}
            own = known.pop(concept)
            worst = max(known, key=lambda name: statistics.mean(map(abs, known[name])))
            cells = f"{statistics.mean(own):.2f}, {min(own):.2f} to {max(own):.2f}"
            other = f"{worst} {statistics.mean(map(abs, known[worst])):.2f}"
            drawn = len(made.kept) + len(made.left_out)
            print(f"| {concept} | {cfg:g} | {cells} | {other} | {drawn} | {len(made.left_out)} |", flush=True)
            for line in made.left_out:
                sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
