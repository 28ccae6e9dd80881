"""One training step against the bare model and against ComfyUI's own trainer, on full-size models with random weights.

    python benchmarks/step.py                              (needs ComfyUI; SD 1.5 at 32x32 and 64x64, CPU or GPU)
    python benchmarks/step.py --model SDXL --latent 128 --repeat 5
    python benchmarks/step.py --latent 32 --only floor ours

A step takes one positive and one negative, rank 4. The floor is one forward and one backward to the input through the frozen
model, with nothing attached. `ours` trains by paired denoising: one forward and one backward, as core's node has it; `default` by
the displacement, which asks the frozen model beforehand. `core` is TrainLoraNode in bypass mode. Every run is a process of its
own; all sides take turns, `--repeat` times, and medians are given. The first step of a run is not counted.
Memory is the peak of the process (CPU) or of the device's allocator (GPU), less what the loaded model takes. On a CPU
the C library keeps some of what was freed, so a process looks larger than what it uses; `--memory` has it give everything back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from full_size import GIB, GIVING_BACK, Peak, in_a_process_of_its_own, in_use, loaded, prompt, settle

SIDES = ("floor", "ours", "default", "core", "ours checkpointed", "default checkpointed", "core checkpointed")
RANK = 4


class Clock:
    """Seconds between the calls of `tick`."""

    def __init__(self, device: Any) -> None:
        self.device, self.times, self.last = device, [], time.perf_counter()

    def tick(self, *_told: Any) -> None:
        settle(self.device)
        now = time.perf_counter()
        self.times.append(now - self.last)
        self.last = now

    def figures(self, peak: Peak, before: int) -> dict[str, float]:
        return {"seconds": statistics.median(self.times[1:]), "bytes": peak.highest - before}


def floor(patcher: Any, text: Any, latent: Any, steps: int) -> dict[str, float]:
    """Forward and backward to the input."""
    import torch
    from make_architectures import core

    backend = core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    cond = [core("backend").Conditioning("", text)] * len(latent)
    x = latent.to(backend.device).requires_grad_()
    sigma = backend.sigmas(torch.full((len(latent),), 0.5))
    before = in_use(backend.device)
    with Peak(backend.device) as peak, backend.borrowed(), torch.enable_grad():
        clock = Clock(backend.device)
        for _ in range(steps):
            x.grad = None
            backend.predict(x, sigma, cond).square().mean().backward()
            clock.tick()
    return clock.figures(peak, before)


def ours(
    patcher: Any,
    text: Any,
    latent: Any,
    steps: int,
    *,
    rank: int = RANK,
    preset: str = "auto",
    **choices: Any,
) -> dict[str, float]:
    """Steps of our trainer; the latents are positives and negatives in turn."""
    from make_architectures import core

    backend = core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    spec = core("config.lora").AdapterSpec(rank=rank, preset=preset)
    targets = core("layers.select").survey(backend.module, spec).targets
    adapter = core("lora.slider_adapter").Adapter.create(backend.module, targets, spec, device=backend.device)
    cond = core("backend").Conditioning("", text)
    samples = [core("encode.encoder").Sample(one, cond, (1.0, -1.0)[i % 2], i // 2) for i, one in enumerate(latent)]
    trainer = core("train.trainer").Trainer(
        adapter, samples, core("config.training").TrainSpec(steps=steps + 1, **{"batch": 2, **choices})
    )
    backend.weights_fingerprint()
    before = in_use(backend.device)
    with Peak(backend.device) as peak:
        clock = Clock(backend.device)
        # the last step of a run is followed by a reading of the gain, so the run is longer and is told to stop
        trainer.run(backend, steps + 1, lambda _report: clock.tick() or len(clock.times) == steps, read_every=10**6)
    return clock.figures(peak, before) | {"targets": len(targets)}


def core_node(patcher: Any, text: Any, latent: Any, steps: int, checkpointing: bool) -> dict[str, float]:
    """Steps of TrainLoraNode, timed by a hook that torch calls after each step of an optimizer."""
    import torch
    from comfy_extras.nodes_train import TrainLoraNode
    from torch.optim.optimizer import register_optimizer_step_post_hook

    device = patcher.load_device
    kind = "bf16" if device.type == "cuda" else "fp32"
    choices = {
        "batch_size": len(latent),
        "steps": steps,
        "grad_accumulation_steps": 1,
        "learning_rate": 5e-4,
        "rank": RANK,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": kind,
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": checkpointing,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": True,
    }
    before = in_use(device)
    with Peak(device) as peak, torch.inference_mode():  # as ComfyUI's executor runs a node
        clock = Clock(device)
        hook = register_optimizer_step_post_hook(clock.tick)
        try:
            TrainLoraNode.execute([patcher], [{"samples": latent}], [text], **{name: [value] for name, value in choices.items()})
        finally:
            hook.remove()
    return clock.figures(peak, before)


def one(side: str, name: str, width: int, steps: int) -> dict[str, float]:
    """Seconds per step and bytes above the loaded model, in this process."""
    from make_architectures import core, start

    start(cpu=False)
    import torch

    entry, patcher = loaded(name)
    latent, text = torch.randn(2, patcher.model.latent_format.latent_channels, width, width), prompt(entry)
    kind, on = side.partition(" ")[0], side.endswith("checkpointed")
    if kind == "floor":
        return floor(patcher, text, latent, steps)
    if kind == "core":
        return core_node(patcher, text, latent, steps, on)
    objective = (
        core("config.training").Objective.DENOISE_PAIRED if kind == "ours" else core("config.training").Objective.DISPLACEMENT
    )
    return ours(patcher, text, latent, steps, objective=objective, checkpointing=on)


def medians(measure: Callable[[str], dict[str, float]], sides: list[str], repeat: int) -> dict[str, dict[str, float]]:
    """The median of every figure of every side, the sides taking turns."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(repeat):
        for side in sides:
            runs[side].append(measure(side))
    return {side: {k: statistics.median(run[k] for run in some) for k in some[0]} for side, some in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SD15", help="title of a full-size entry of tests/zoo that takes a plain prompt")
    parser.add_argument("--latent", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--steps", type=int, default=4, help="of a run, the first of which is not counted")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--memory", action="store_true", help="memory is what counts: nothing that was freed is kept, which takes time"
    )
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "LATENT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], args.model, int(args.one[1]), args.steps)))
        return
    sides = ["floor", *(side for side in args.only if side != "floor")]
    print("| model | latent | side | s/step | times the floor | peak above the model | times the floor |")
    print("|---|---|---|---|---|---|---|")
    for width in args.latent:

        def measure(side: str, width: int = width) -> dict[str, float]:
            arguments = ["--model", args.model, "--steps", str(args.steps), "--one", side, str(width)]
            return in_a_process_of_its_own(__file__, arguments, GIVING_BACK if args.memory else {})

        found = medians(measure, sides, args.repeat)
        least = found["floor"]
        for side, figures in found.items():
            cells = [args.model, f"{width}x{width}", side]
            cells += [f"{figures['seconds']:.2f}", f"{figures['seconds'] / least['seconds']:.2f}"]
            cells += [f"{figures['bytes'] / GIB:.2f} GiB", f"{figures['bytes'] / least['bytes']:.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
