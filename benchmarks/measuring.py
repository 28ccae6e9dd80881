"""What finding out costs: the samples that a default training passes through the model for its readings, its calibration and the
probe of its rate, against those of its steps.

    python benchmarks/measuring.py

A backward pass through a frozen model is counted as one more forward: it makes no gradients of the weights.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
import verdicts

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run

TASKS = (("faces", "eyes"), ("faces", "mouth"), ("heads", "size"), ("heads", "eye"))
PHASES = ((Trainer, "_read_progress", "readings"), (Run, "calibrate", "calibration"), (Trainer, "_probe_rate", "probe"))


class Counter:
    """Counts samples by phase; what no phase holds is a step's."""

    def __init__(self) -> None:
        self.phase = "steps"
        self.samples: collections.Counter[str] = collections.Counter()

    def counted(self, predict: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrapped(x: torch.Tensor, sigma: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
            result = predict(x, sigma, cond)
            self.samples[self.phase] += len(x) * (2 if result.requires_grad else 1)
            return result

        return wrapped

    def within(self, owner: type, name: str, phase: str) -> AbstractContextManager[Any]:
        method = getattr(owner, name)

        def wrapped(*args: Any, **choices: Any) -> Any:
            before = self.phase
            self.phase = phase
            try:
                return method(*args, **choices)
            finally:
                self.phase = before

        return patch.object(owner, name, wrapped)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| training | steps | samples of the steps | readings | calibration | both, of all | the probe |")
    print("|---" * 7 + "|")
    for name, attribute in TASKS:
        model = verdicts.world(name)
        task = {"world": name, "attribute": attribute, "case": "good", "seed": 0}
        run = verdicts.begun(task, model, AdapterSpec(), {}, 0)
        counter = Counter()
        model.predict = counter.counted(model.predict)
        with counter.within(*PHASES[0]), counter.within(*PHASES[1]), counter.within(*PHASES[2]):
            run.trainer.run(model, run.trainer.end)
            run.calibrate(model)
        count = counter.samples
        both = count["readings"] + count["calibration"]
        share = both / (both + count["steps"])
        cells = (run.step, count["steps"], count["readings"], count["calibration"], f"{share:.1%}", count["probe"])
        print(f"| {name}, {attribute} | " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
