"""What a training step needs on released models, computed instead of run: memory and FLOPs by family and resolution.

    python benchmarks/simulate.py                      all models: benchmarks/simulate.json and the tables of the pages
    python benchmarks/simulate.py --only SDXL          these alone; --levels half: one image of the pair at a time
    python benchmarks/simulate.py --check              eight models against the file, as make bench-smoke does: some minutes

ComfyUI's own classes build each model in full size on the meta device (tests/zoo), and the pack's own Trainer makes a step there
with `displacement`, one pair (two images), rank 16, bf16. No GPU and no checkpoint is needed. How near it is to real runs:
docs/memory.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests"), str(ROOT / "tools")]
FOUND = ROOT / "benchmarks" / "simulate.json"
GUARDED = ("SD 1.5, 512", "SDXL, 1024", "Flux.1 dev, 1024", "Flux.2", "Z-Image", "Qwen", "Wan 2.1 1.3B, 832x480, 17", "LTXV")
SLACK = 0.02  # how far a peak may rise over the recorded one: another torch, another ComfyUI
NEAR = 0.1  # how far the pack's estimate may lie from the peak
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """`model`: the title of an entry of tests/zoo. `latent`: the shape of one sample. `tokens`, `width`, `pooled`, `masked`: of
    the prompt. `in_place`: whether the model adds in place to what autograd has saved."""

    name: str
    model: str
    latent: tuple[int, ...]
    tokens: int
    width: int
    pooled: int = 0
    masked: bool = False
    in_place: bool = False

    def prompt(self) -> list[Any]:
        import torch

        extra: dict[str, Any] = {"pooled_output": torch.zeros(1, self.pooled)} if self.pooled else {}
        if self.masked:
            extra["attention_mask"] = torch.ones(1, self.tokens, dtype=torch.long)
        return [[torch.zeros(1, self.tokens, self.width), extra]]


CASES = (
    Case("SD 1.5, 512", "SD15", (4, 64, 64), 77, 768, 768),
    Case("SDXL, 1024", "SDXL", (4, 128, 128), 77, 2048, 1280),
    Case("SD 3.5 medium, 1024", "SD3 3.5 medium", (16, 128, 128), 154, 4096, 2048),
    Case("Flux.1 dev, 512", "Flux dev", (16, 64, 64), 256, 4096, 768, in_place=True),
    Case("Flux.1 dev, 1024", "Flux dev", (16, 128, 128), 256, 4096, 768, in_place=True),
    Case("Flux.2 klein 4B, 1024", "Flux2 klein 4B", (128, 64, 64), 512, 7680, in_place=True),
    Case("Chroma, 1024", "Chroma", (16, 128, 128), 128, 4096, in_place=True),
    Case("Z-Image, 1024", "ZImage", (16, 128, 128), 128, 2560),
    Case("Lumina 2, 1024", "Lumina2", (16, 128, 128), 128, 2304, masked=True),
    Case("Qwen-Image, 1024", "QwenImage", (16, 1, 128, 128), 128, 3584),
    Case("Wan 2.1 1.3B, 832x480", "WAN21_T2V 1.3B", (16, 1, 60, 104), 512, 4096),
    Case("Wan 2.1 1.3B, 832x480, 17 frames", "WAN21_T2V 1.3B", (16, 5, 60, 104), 512, 4096),
    Case("Wan 2.1 14B, 832x480", "WAN21_T2V 14B", (16, 1, 60, 104), 512, 4096),
    Case("LTXV 2B, 768x512, 97 frames", "LTXV 2B", (128, 13, 16, 24), 128, 4096, masked=True, in_place=True),
    Case("HunyuanVideo, 960x544", "HunyuanVideo", (16, 1, 68, 120), 256, 4096, 768, in_place=True),
)


@dataclass
class Found:
    """Of a step. Bytes and FLOPs; `peak` above the weights by level: plain, checkpointed, the same by single samples, and with
    the inputs of blocks in the host's memory besides. `estimate`: what the pack says before the run, likewise."""

    name: str
    parameters: int = 0
    trained: int = 0
    flops: dict[str, dict[str, int]] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    phases: dict[str, dict[str, int]] = field(default_factory=dict)
    estimate: dict[str, int] = field(default_factory=dict)


# checkpointing, samples at once, inputs of blocks in the host's memory
LEVELS = {"plain": (False, 2, False), "checkpointed": (True, 2, False), "half": (True, 1, False), "host": (True, 1, True)}


def built(case: Case) -> Any:
    """The model as a ModelPatcher of ComfyUI on the meta device."""
    import comfy.model_patcher
    import torch
    from zoo.animals import FULL
    from zoo.model import model_config

    entry = next(e for e in FULL if e.title == case.model)
    description = model_config(entry.name, entry.config)
    description.set_inference_dtype(torch.bfloat16, None)
    meta = torch.device("meta")
    model = description.get_model({k: torch.zeros(v) for k, v in entry.state.items()}, prefix="", device=meta)
    return comfy.model_patcher.ModelPatcher(model, load_device=meta, offload_device=meta)


@contextmanager
def on_meta() -> Iterator[None]:
    """Within the block ComfyUI and the pack run on the meta device."""
    import comfy.model_management
    from meta_step import answering, kernels_of_a_gpu, memory_told_apart

    def free(_device: Any = None, torch_free_too: bool = False) -> Any:
        return (8 * GIB, 8 * GIB) if torch_free_too else 8 * GIB

    with memory_told_apart(), patch.object(comfy.model_management, "get_free_memory", free), kernels_of_a_gpu(), answering():
        yield


def simulated(case: Case, levels: Sequence[str] = tuple(LEVELS)) -> Found:
    """A step of one pair on each level."""
    import torch

    from slider_core.backend import Conditioning
    from slider_core.config.lora import AdapterSpec
    from slider_core.encode.encoder import Sample
    from slider_core.layers import checkpointing
    from slider_core.layers.select import survey
    from slider_core.lora.slider_adapter import Adapter
    from slider_core.with_comfy.model_backend import ComfyBackend

    found = Found(case.name)
    with on_meta():
        backend = ComfyBackend(built(case))
        spec = AdapterSpec(rank=16)
        adapter = Adapter.create(backend.module, survey(backend.module, spec).targets, spec, device="meta")
        found.parameters = sum(p.numel() for p in backend.module.parameters())
        found.trained = adapter.bytes()
        cond = Conditioning("", case.prompt())
        samples = [Sample(torch.zeros(case.latent), cond, strength, 0) for strength in (1.0, -1.0)]
        resident = patch.object(ComfyBackend, "load", lambda _self: None)
        # every block of these models was found safe (docs/architectures.md): no trial runs in what is counted
        untried = patch.object(checkpointing._Block, "_is_safe", lambda *_call: True)
        with resident, untried:
            ahead = _look_ahead(backend, adapter, samples)
            for level in levels:
                found.estimate[level] = ahead.need(*LEVELS[level])
                _step(case, backend, adapter, samples, level, found)
    return found


def _look_ahead(backend: Any, adapter: Any, samples: Sequence[Any]) -> Any:
    """The pack's own estimate, an optimizer's moments left out."""
    import torch

    from slider_core.lora.strength import attached
    from slider_core.train.memory_estimate import estimate, measured_estimate

    with backend.borrowed(), torch.enable_grad(), attached(adapter, backend.module):
        return measured_estimate(estimate(backend, adapter, samples, 0), backend, adapter, samples)


def _step(case: Case, backend: Any, adapter: Any, samples: Sequence[Any], level: str, found: Found) -> None:
    import torch
    from meta_step import Counted

    from slider_core.config.training import TrainSpec
    from slider_core.lora.strength import attached
    from slider_core.train.memory_fallback import Level
    from slider_core.train.trainer import Trainer

    twice, rows, host = LEVELS[level]
    trainer = Trainer(adapter, samples, TrainSpec(steps=10, lr=1e-3, batch=2, checkpointing=twice))
    trainer.fallback._choose([Level(twice, rows, 2, host)])
    trainer.fallback.forgive = case.in_place
    predict = backend.predict
    counted = Counted()

    def watched(*call: Any) -> torch.Tensor:
        counted.phase = "forward" if torch.is_grad_enabled() else "frozen"
        out = predict(*call)
        counted.phase = "backward"
        return out

    with backend.borrowed(), torch.enable_grad(), attached(adapter, backend.module), ExitStack() as stack:
        if twice:
            trainer.fallback._stack = stack
            trainer.fallback._apply(backend)
        stack.enter_context(patch.object(backend, "predict", watched, create=True))
        gc.collect()
        with counted:
            trainer._one_step(backend)
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.fallback.forgive is not case.in_place:
        raise SystemExit(f"{case.name} adds in place: its Case is to say so.")
    found.flops[level] = dict(counted.flops)
    found.phases[level] = dict(counted.peaks)
    found.peak[level] = counted.peak


def recorded() -> dict[str, Found]:
    """What was found before, in the order of CASES."""
    if not FOUND.is_file():
        return {}
    before = json.loads(FOUND.read_text(encoding="utf-8"))
    return {case.name: Found(**before[case.name]) for case in CASES if case.name in before}


def keep(found: Found) -> None:
    """Put it beside what was found before, of this model too: other levels stay."""
    before = recorded()
    merged = vars(found)
    if found.name in before:
        for name in ("flops", "peak", "phases", "estimate"):
            merged = merged | {name: getattr(before[found.name], name) | getattr(found, name)}
    everything = {name: vars(one) for name, one in before.items()} | {found.name: merged}
    FOUND.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def compare(now: Found, before: Found) -> list[str]:
    """What is wrong with what was found, in words: a peak above the recorded one, an estimate far from its peak."""
    wrong = []
    for level, peak in now.peak.items():
        was = before.peak[level]
        if peak > was * (1 + SLACK):
            wrong.append(f"{now.name}, {level}: {peak / GIB:.2f} GiB at the peak, {was / GIB:.2f} recorded")
        if abs(now.estimate[level] / peak - 1) > NEAR:
            wrong.append(f"{now.name}, {level}: estimated {now.estimate[level] / GIB:.2f} GiB, {peak / GIB:.2f} at the peak")
    return wrong


def check() -> list[str]:
    """The guarded models against the recorded figures."""
    wrong = []
    before = recorded()
    for case in CASES:
        if case.name.startswith(GUARDED) and case.name in before:
            wrong += compare(simulated(case, ("checkpointed",)), before[case.name])
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of models, or how they begin")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=list(LEVELS))
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    from make_architectures import start
    from simulate_table import write_tables

    start()
    if args.check:
        wrong = check()
        sys.exit("\n".join(wrong) if wrong else 0)
    for case in CASES:
        if not args.only or case.name.startswith(tuple(args.only)):
            found = simulated(case, args.levels)
            print(json.dumps(vars(found)), flush=True)
            keep(found)
    write_tables(recorded().values())


if __name__ == "__main__":
    main()
