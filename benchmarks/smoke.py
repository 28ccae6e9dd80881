"""What a training step and a run cost in counts, which no machine changes, against the counts that were recorded.

    make bench-smoke                          compare with benchmarks/smoke.json; the core ring does the same
    python benchmarks/smoke.py --record       write the file, after a change that is meant

Every step is set against the floor: one forward of the frozen model on as many samples and one backward to its input, without
an adapter, counted beside it. So another version of torch moves both sides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from slider_core.backend import Backend, Conditioning  # noqa: E402
from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.sweep import SweepSpec  # noqa: E402
from slider_core.config.training import Objective, TrainSpec  # noqa: E402
from slider_core.data.dataset import bucket_folders, read_dataset  # noqa: E402
from slider_core.encode.disk_cache import DiskCache  # noqa: E402
from slider_core.encode.encoder import Sample, encode  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.calibration_search import calibrate  # noqa: E402
from slider_core.train.step_report import StepReport  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.use.sweep import sweep  # noqa: E402
from slider_core.with_tiny.faces_pairs import SHIPPED_PAIRS  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

RECORDED = Path(__file__).with_suffix(".json")
FLOOR = "operations of the floor"
SLACK = 0.05  # how far a ratio may rise: another torch splits an operation here and there
VIEWS = ("view", "expand", "permute", "transpose", "t.", "unsqueeze", "squeeze", "slice", "select", "split", "detach", "alias")


class Operations(TorchDispatchMode):
    """Counts the operations that compute; views and the like launch no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = str(func).removeprefix("aten.").lstrip("_")
        self.count += not name.startswith(VIEWS)
        return func(*args, **(kwargs or {}))


class Saved:
    """The most bytes that autograd keeps for a backward at a time, each piece of memory once, weights of the model left out."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._weights = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
        self._holders: dict[int, int] = {}  # of a piece of memory, by its address
        self.bytes = self.most = 0

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor | _Kept:
        memory = tensor.untyped_storage()
        if memory.data_ptr() in self._weights:
            return tensor
        self._count(memory.data_ptr(), memory.nbytes(), 1)
        kept = _Kept(tensor)
        weakref.finalize(kept, self._count, memory.data_ptr(), memory.nbytes(), -1)
        return kept

    def _count(self, place: int, size: int, more: int) -> None:
        before = self._holders.get(place, 0)
        self._holders[place] = before + more
        self.bytes += size * ((before + more > 0) - (before > 0))
        self.most = max(self.most, self.bytes)

    @contextmanager
    def counting(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: getattr(kept, "tensor", kept)):
            yield

    def forget(self) -> None:
        self.most = self.bytes


@dataclass(eq=False)
class _Kept:
    """Lives as long as autograd wants the tensor."""

    tensor: torch.Tensor


@contextmanager
def forwards(module: torch.nn.Module) -> Iterator[list[int]]:
    """The rows of every call of `module` within the block."""
    calls: list[int] = []
    handle = module.register_forward_pre_hook(lambda _module, args: calls.append(len(args[0])))
    try:
        yield calls
    finally:
        handle.remove()


def adapter(backend: Backend) -> Adapter:
    spec = AdapterSpec()
    return Adapter.create(backend.module, survey(backend.module, spec).targets, spec)


def floor(backend: Backend, samples: Sequence[Sample], rows: int) -> tuple[int, int]:
    """(operations, bytes kept) of a forward on `rows` samples and a backward to the input, nothing attached."""
    some = (list(samples) * rows)[:rows]
    x = torch.stack([s.latent for s in some]).requires_grad_()
    sigma, saved = backend.sigmas(torch.full((rows,), 0.5)), Saved(backend.module)
    with backend.borrowed(), torch.enable_grad(), Operations() as operations, saved.counting():
        backend.predict(x, sigma, [s.cond for s in some]).square().mean().backward()
    return operations.count, saved.most


class EnoughError(Exception):
    """Ends a training of which enough was seen."""


def step(backend: Backend, samples: Sequence[Sample], **choices: Any) -> dict[str, float]:
    """The second training step: the first makes AdamW's states, the last would be followed by a reading of the gain."""
    spec = TrainSpec(steps=9, **choices)
    trainer, saved = Trainer(adapter(backend), samples, spec), Saved(backend.module)
    marks: list[tuple[int, int, int]] = []
    with Operations() as operations, forwards(backend.module) as calls, saved.counting():

        def mark(_report: StepReport) -> None:
            marks.append((operations.count, len(calls), sum(calls)))
            if len(marks) == 1:
                saved.forget()
            kept.append(saved.most)
            if len(marks) == 2:
                raise EnoughError

        kept: list[int] = []
        with suppress(EnoughError):
            trainer.run(backend, 3, mark, read_every=10**6)
    operations_of, forwards_of, rows_of = (after - before for before, after in zip(marks[0], marks[1], strict=True))
    bare, least = floor(backend, samples, spec.batch)
    return {
        "forwards": forwards_of,
        "rows": rows_of,
        "operations": operations_of,
        FLOOR: bare,
        "operations, times the floor": round(operations_of / bare, 3),
        "kept, times the floor": round(kept[1] / least, 3),
    }


def _drawn(backend: TinyBackend, slider: Adapter, cond: Conditioning, strengths: Sequence[float], seed: int) -> torch.Tensor:
    return backend.sample(cond, seed, strengths, slider, steps=4)


def run_counts(backend: TinyBackend) -> dict[str, int]:
    """What the stages around the steps cost: images encoded, forwards of a reading and of a calibration, calls of a sweep."""
    found, images, slider = {}, read_dataset(bucket_folders(SHIPPED_PAIRS)), adapter(backend)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("encodings in the first run", "encodings in the second run"):
            disk = DiskCache(Path(folder))
            samples = encode(images, backend, None, disk)
            found[name] = disk.misses
    with forwards(backend.module) as calls:
        Trainer(slider, samples, TrainSpec(steps=1)).run(backend, 1)
        found["forwards of one step and one reading of the gain"] = len(calls)
    with forwards(backend.module) as calls:
        calibrate(backend, slider, samples, 0)
        found["forwards of a calibration of a slider without effect"] = len(calls)
    with forwards(backend.module) as calls:
        sweep(
            SweepSpec((-1.0, 0.0, 1.0), (0,), steps=4),
            partial(_drawn, backend, slider, samples[0].cond),
        )
        found["forwards of a sweep of 3 strengths in 4 steps"] = len(calls)
    return found


def measured() -> dict[str, Any]:
    """Every figure, by name."""
    backend = TinyBackend()
    samples = encode(read_dataset(bucket_folders(SHIPPED_PAIRS)), backend)
    shown = (Objective.DISPLACEMENT, Objective.DENOISE_ROTATING, Objective.TEACHER_DIFFERENCE)
    steps = {o.value: step(backend, samples, objective=o) for o in shown}
    steps["displacement, checkpointing"] = step(backend, samples, checkpointing=True)
    mirrored = [replace(s, pair=s.pair + len(samples), latent=s.latent.flip(-1)) for s in samples]
    steps["displacement, twice the images"] = step(backend, [*samples, *mirrored])
    return {"step": steps, "run": run_counts(backend)}


def compare(found: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """What got worse than it was recorded, in words: a ratio by more than SLACK, any other count at all."""
    worse = []
    for case, name, was in _figures(recorded):
        now = next((value for c, n, value in _figures(found) if (c, n) == (case, name)), None)
        slack = SLACK if name.endswith("floor") else 0.0
        if now is None or (name != FLOOR and now > was * (1 + slack)):
            worse.append(f"{case}, {name}: {was} recorded, {now} now")
    return worse


def _figures(counts: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(case, name, value) of every figure."""
    for case, figures in (*counts["step"].items(), ("run", counts["run"])):
        for name, value in figures.items():
            yield case, name, value


def peaks() -> list[str]:
    """What is wrong with the memory of eight full-size models, simulated; nothing where there is no ComfyUI."""
    sys.path.append(str(ROOT / "tests"))
    from rings import find_comfyui

    if find_comfyui() is None:
        return []
    command = [sys.executable, str(ROOT / "benchmarks" / "simulate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip().splitlines() if done.returncode else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the counts down")
    args = parser.parse_args()
    found = measured()
    print(json.dumps(found, indent=1))
    if args.record:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    worse = compare(found, json.loads(RECORDED.read_text(encoding="utf-8"))) + peaks()
    print("\n".join(worse) if worse else f"Nothing costs more than {RECORDED.name} says.")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
