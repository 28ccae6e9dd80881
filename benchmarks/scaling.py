"""How the cost of a training step grows: with targets, rank, batch, resolution and images, on a full-size random SD 1.5.

    python benchmarks/scaling.py                (needs ComfyUI; CPU or GPU)

Every line is the plain step (rank 4, the layers of `auto`, one pair, 32x32, paired denoising) with one thing changed, and its
ratio to that step. Runs and memory are those of step.py.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from full_size import GIB, GIVING_BACK, in_a_process_of_its_own, loaded, prompt
from step import medians, ours

PLAIN = "plain"
CASES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "all layers": {"preset": "all"},
    "rank 16": {"rank": 16},
    "rank 64": {"rank": 64},
    "batch 4": {"batch": 4, "images": 4},
    "batch 8": {"batch": 8, "images": 8},
    "16x16": {"width": 16},
    "64x64": {"width": 64},
    "200 images": {"images": 200},
}


def one(case: str, name: str, steps: int) -> dict[str, float]:
    """Seconds per step and bytes above the loaded model, in this process."""
    from make_architectures import core, start

    start(cpu=False)
    import torch

    choices = dict(CASES[case])
    width, images = choices.pop("width", 32), choices.pop("images", 2)
    entry, patcher = loaded(name)
    latent = torch.randn(images, patcher.model.latent_format.latent_channels, width, width)
    return ours(patcher, prompt(entry), latent, steps, objective=core("config.training").Objective.DENOISE_PAIRED, **choices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SD15", help="title of a full-size entry of tests/zoo that takes a plain prompt")
    parser.add_argument("--steps", type=int, default=3, help="of a run, the first of which is not counted")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="memory is what counts, as step.py has it")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.model, args.steps)))
        return

    def measure(case: str) -> dict[str, float]:
        arguments = ["--model", args.model, "--steps", str(args.steps), "--one", case]
        return in_a_process_of_its_own(__file__, arguments, GIVING_BACK if args.memory else {})

    found = medians(measure, [PLAIN, *(case for case in args.only if case != PLAIN)], args.repeat)
    print("| changed | targets | s/step | times the plain step | peak above the model | times the plain step |")
    print("|---|---|---|---|---|---|")
    plain = found[PLAIN]
    for case, figures in found.items():
        print(
            f"| {case} | {figures['targets']:.0f} | {figures['seconds']:.2f} | {figures['seconds'] / plain['seconds']:.2f} "
            f"| {figures['bytes'] / GIB:.2f} GiB | {figures['bytes'] / plain['bytes']:.2f} |"
        )


if __name__ == "__main__":
    main()
