"""Sliders under training, by name: the memory that outlives a graph run.

A node cache drops what it holds when another graph runs, so a half-trained slider lives here and sockets carry its name.
The least recently used sliders leave when the byte budget is passed; a run that is in use never does. Who was kept on disk
(autosave.py) is taken up from there, after a restart too.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .backend import Backend
from .calibrate import Calibration, calibrate, calibrated
from .config import AdapterSpec, SliderError
from .metadata import training_fields
from .optimizers import remembered
from .resume import load_run
from .store import Slider
from .trainer import Trainer

BUDGET = 2 * 1024**3
LOSSES = 50  # the last ones, whose mean a file tells
SIDES: dict[str, Callable[[float], bool]] = {
    "positive": lambda strength: strength > 0,
    "negative": lambda strength: strength < 0,
    "neutral": lambda strength: strength == 0,
}


@dataclass
class Run:
    """One slider under training. `fingerprint` says what it was begun with; to change that needs a new name or a reset."""

    name: str
    fingerprint: dict[str, str]
    trainer: Trainer
    spec: AdapterSpec | None = None  # what was asked for; None where the slider came out of a file
    measured: tuple[int, Calibration] | None = None  # (step, what strengths meant then)
    calibrated: str = "Not calibrated."  # in words
    ended_at: int = 0  # the step at which the user last asked to finish early
    saved: int = 0  # the step that its file holds

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.trainer.step

    @property
    def calibrated_now(self) -> bool:
        """Whether the slider as it stands was calibrated."""
        return self.measured is not None and self.measured[0] == self.step

    def calibrate(self, backend: Backend, on_pass: Callable[[int], None] | None = None) -> str:
        """Measure what strengths mean for the slider as it stands, once per step. Words, whether that went well or not."""
        trainer = self.trainer
        if not self.calibrated_now:
            try:
                within = trainer.ladder.within(backend)
                self.measured = trainer.step, calibrate(within, trainer.adapter, trainer.samples, trainer.spec.seed, on_pass)
                self.calibrated = self.measured[1].words()
            except Exception as fault:
                if not (isinstance(fault, SliderError) or backend.memory.is_short(fault)):
                    raise
                why = str(fault).strip().partition("\n")[0] or "out of memory"
                self.measured, self.calibrated = None, f"Not calibrated: {why}"
        return self.calibrated

    def verdict(self) -> str:
        """In words: does the slider work? A calibration of the slider as it stands has its say."""
        if self.measured is None or not self.calibrated_now:
            return self.trainer.verdict()
        found = self.measured[1]
        return self.trainer.verdict((found.plus is not None, found.minus is not None))

    def slider(self) -> Slider:
        """A snapshot of the slider as it stands, with what it says of itself in a file; calibrated, if that was done here."""
        trainer, spec = self.trainer, self.trainer.spec
        gain = dict(zip(("positive", "negative"), trainer.readings[-1].gain, strict=True)) if trainer.readings else {}
        strengths = [s.strength for s in trainer.samples]
        shown = [s.strength for s in trainer.samples if s.asks is None]
        images = {sign: sum(test(s) for s in shown) for sign, test in SIDES.items()}
        last = trainer.losses[-LOSSES:]
        own = {
            "name": self.name,
            "training": spec.to_json(),
            "step": str(trainer.step),
            "gain": json.dumps(gain),
            "verdict": self.verdict(),
            "images": json.dumps(images),
            "trained_strengths": json.dumps(sorted(set(strengths))),
            "range": json.dumps([min([0.0, *strengths]), max([0.0, *strengths])]),
        }
        mean = sum(last) / len(last) if last else 0.0
        fields = {f"slider_{k}": v for k, v in (own | self.fingerprint).items()}
        if "start" in self.fingerprint:
            fields.pop("slider_adapter", None)  # the file that it came out of has a shape of its own
        elif self.spec is not None:
            fields["slider_algorithm"] = self.spec.algorithm.value
        fields |= training_fields(spec, len(shown), trainer.step, mean)
        weights = trainer.adapter.weights()
        if self.measured is not None and self.calibrated_now:
            weights, fields = calibrated(weights, fields, self.measured[1])
        return Slider(weights, fields)

    def bytes(self) -> int:
        """Factors, gradients, what the optimizer and the average remember, and the encoded samples."""
        latents = sum(s.latent.numel() * s.latent.element_size() for s in self.trainer.samples)
        return (2 + remembered(self.trainer.spec)) * self.trainer.adapter.bytes() + latents


class Session:
    """Runs by name, least recently used first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._runs: OrderedDict[str, Run] = OrderedDict()

    def get(self, name: str) -> Run | None:
        """The run of that name, now the most recently used; None when there is none."""
        if name in self._runs:
            self._runs.move_to_end(name)
        return self._runs.get(name)

    def step(self, name: str) -> int:
        """Finished steps of that run, 0 when there is none."""
        return self._runs[name].step if name in self._runs else 0

    def ended_at(self, name: str) -> int:
        """The step at which that run was last finished early, 0 when it never was."""
        return self._runs[name].ended_at if name in self._runs else 0

    def drop(self, name: str) -> None:
        self._runs.pop(name, None)

    def begin(
        self,
        name: str,
        fingerprint: Mapping[str, str],
        make: Callable[[], Trainer],
        spec: AdapterSpec | None = None,
        saved: Path | None = None,
    ) -> Run:
        """The run of that name, to go on with: from memory, else from the file `saved`; made anew when there is neither.

        Raises SliderError that names what differs when the run was begun with something else, and when the file is damaged.
        """
        run = self.get(name)
        found = load_run(saved) if run is None and saved is not None and saved.is_file() else None
        if found is not None and found.name != name:
            raise SliderError(f'{saved} holds the run "{found.name}", not "{name}": give a new name.')
        known = run or found
        if known is not None:
            _same_origin(name, known.step, known.fingerprint, fingerprint)
        if run is None:
            run = Run(name, dict(fingerprint), make(), spec)
            if found is not None:
                found.restore(run.trainer)
                run.saved = found.step
            self._runs[name] = run
        self._make_room(name)
        return run

    def _make_room(self, keep: str) -> None:
        while sum(run.bytes() for run in self._runs.values()) > self.budget and len(self._runs) > 1:
            self._runs.pop(next(name for name in self._runs if name != keep))


def _same_origin(name: str, step: int, was: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = next((key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)), None)
    if changed is not None:
        values = [_short(side.get(changed, "none")) for side in (was, now)]
        told = "" if any(re.fullmatch("[0-9a-f]{8,}", value) for value in values) else f": {values[0]} then, {values[1]} now"
        raise SliderError(
            f'The name "{name}" belongs to a slider that was trained up to step {step} with another {changed}{told}. Give a new '
            "name; or begin again with reset (an advanced input; --overwrite on the command line), which discards that training."
        )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
