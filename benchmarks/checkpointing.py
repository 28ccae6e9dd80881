"""Peak memory and time of a training step with checkpointing, against the same step without, on full-size random models.

    python benchmarks/checkpointing.py                 (needs ComfyUI; SD1.5 at 32x32 and 64x64 latents, CPU or GPU)
    python benchmarks/checkpointing.py --model SDXL --latent 128

Each run is a process of its own; both sides run in turn, `--repeat` times, medians are given. Memory is what a step adds to the
loaded model: the peak of the process (CPU) or of the device's allocator (GPU), less what was there before the first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


class Peak:
    """The highest `resident()` while it is entered, sampled every few milliseconds; on a GPU the allocator's own peak."""

    def __init__(self, device: Any) -> None:
        self.device, self.highest, self.stop = device, 0, threading.Event()

    def _watch(self) -> None:
        while not self.stop.is_set():
            self.highest = max(self.highest, resident())
            time.sleep(0.004)

    def __enter__(self) -> Peak:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        import torch

        self.stop.set()
        self.thread.join()
        if self.device.type == "cuda":
            self.highest = torch.cuda.max_memory_allocated(self.device)


def loaded(name: str) -> tuple[Any, Any]:
    """(entry, ModelPatcher) of a full-size model with random weights, made under inference mode as a loader does."""
    import comfy.model_management
    import comfy.model_patcher
    import torch
    from zoo.animals import FULL
    from zoo.model import model_config

    entry = next(e for e in FULL if e.title == name)
    device = comfy.model_management.get_torch_device()
    with torch.inference_mode():
        description = model_config(entry.name, entry.config)
        description.set_inference_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32, None)
        model = description.get_model({}, prefix="", device=device)
        for p in model.diffusion_model.parameters():
            p.normal_(0, 0.02)
        return entry, comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def one(name: str, side: int, checkpointing: bool, steps: int) -> dict[str, float]:
    """Seconds per step and bytes above the loaded model, in this process."""
    from make_architectures import core, start

    start(cpu=False)
    import torch

    entry, patcher = loaded(name)
    backend = core("comfy_host").ComfyBackend(patcher, None, None)
    targets = core("targets").select(backend.module)
    adapter = core("adapter").Adapter.create(backend.module, targets, core("config").AdapterSpec(), device=backend.device)
    width = entry.config["context_dim"]
    text = core("backend").Conditioning("", [[torch.randn(1, 77, width), {"pooled_output": torch.randn(1, 1280)}]])
    latent = torch.randn(2, 4, side, side)
    samples = [core("cache").Sample(latent[i], text, sign, 0) for i, sign in enumerate((1.0, -1.0))]
    spec = core("config").TrainSpec(steps=steps + 1, batch=2, checkpointing=checkpointing)
    trainer = core("trainer").Trainer(adapter, samples, spec)
    backend.weights_mark()
    before = torch.cuda.memory_allocated() if backend.device.type == "cuda" else resident()
    times: list[float] = []
    with Peak(backend.device) as peak:
        last = time.perf_counter()

        def on_step(_report: Any) -> None:
            nonlocal last
            if backend.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            times.append(now - last)
            last = now

        trainer.run(backend, steps + 1, on_step, gain_every=10**6)
    return {"seconds": statistics.median(times[1:]), "bytes": peak.highest - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SD15", help="title of a full-size entry of tests/zoo that takes a plain prompt")
    parser.add_argument("--latent", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "ON"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.model, int(args.one[0]), args.one[1] == "1", args.steps)))
        return
    print("| model | latent | peak without | peak with | ratio | s/step without | s/step with | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for side in args.latent:
        found: dict[str, list[dict[str, float]]] = {"0": [], "1": []}
        for _ in range(args.repeat):
            for on in found:
                command = [sys.executable, __file__, "--model", args.model, "--steps", str(args.steps), "--one", str(side), on]
                found[on].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        median = {on: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for on, runs in found.items()}
        plain, twice = median["0"], median["1"]
        print(
            f"| {args.model} | {side}x{side} | {plain['bytes'] / 2**30:.2f} GiB | {twice['bytes'] / 2**30:.2f} GiB "
            f"| {twice['bytes'] / plain['bytes']:.2f} | {plain['seconds']:.2f} | {twice['seconds']:.2f} "
            f"| {twice['seconds'] / plain['seconds']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
