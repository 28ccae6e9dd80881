"""One slider under training: its state, calibration, verdict, and the slider as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..backend import Backend
from ..config.checks import SliderError
from ..config.lora import AdapterSpec
from ..lora.header_fields import training_fields
from ..lora.info import SliderInfo
from ..lora.slider_file import Slider
from .calibrate import Calibration, calibrate, calibrated
from .optimizers import remembered
from .trainer import Trainer

LOSSES = 50  # the last ones, whose mean a file tells
SIDES: dict[str, Callable[[float], bool]] = {
    "positive": lambda strength: strength > 0,
    "negative": lambda strength: strength < 0,
    "neutral": lambda strength: strength == 0,
}


@dataclass
class Run:
    """One slider under training. `fingerprint` says what it was begun with, by
    the fields of SliderInfo; to change that needs a new name or a reset."""

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
                within = trainer.fallback.within(backend)
                self.measured = trainer.step, calibrate(within, trainer.adapter, trainer.samples, trainer.spec.seed, on_pass)
                self.calibrated = self.measured[1].summary()
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
        explained = dict(zip(("positive", "negative"), trainer.readings[-1].explained, strict=True)) if trainer.readings else {}
        strengths = [s.strength for s in trainer.samples]
        shown = [s.strength for s in trainer.samples if s.prompt_pair is None]
        images = {sign: sum(test(s) for s in shown) for sign, test in SIDES.items()}
        last = trainer.losses[-LOSSES:]
        mean = sum(last) / len(last) if last else 0.0
        info = SliderInfo(
            name=self.name,
            training=spec.to_json(),
            step=trainer.step,
            explained=explained,
            verdict=self.verdict(),
            images=images,
            trained_strengths=tuple(sorted(set(strengths))),
            range=(min([0.0, *strengths]), max([0.0, *strengths])),
            kohya=training_fields(spec, len(shown), trainer.step, mean),
            **self.fingerprint,
        )
        if info.start:
            info = replace(info, adapter="")  # the file that it came out of has a shape of its own
        elif self.spec is not None:
            info = replace(info, algorithm=self.spec.algorithm.value)
        weights = trainer.adapter.weights()
        if self.measured is not None and self.calibrated_now:
            weights, info = calibrated(weights, info, self.measured[1])
        return Slider(weights, info)

    def bytes(self) -> int:
        """Factors, gradients, what the optimizer and the average remember, and the encoded samples."""
        latents = sum(s.latent.numel() * s.latent.element_size() for s in self.trainer.samples)
        return (2 + remembered(self.trainer.spec)) * self.trainer.adapter.bytes() + latents
