"""One slider under training: its trainer, its calibration, its verdict, and the slider as it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..backend import Backend
from ..config.checks import SliderError
from ..config.lora import AdapterSpec
from ..config.training import TrainSpec
from ..data.dataset_parts import is_part
from ..lora.formats.native import Place
from ..lora.header_fields import training_fields
from ..lora.info import SliderInfo
from ..lora.slider_file import Slider
from ..lora.strength import attached
from .calibration import Calibration, calibrated
from .calibration_errors import OnPass
from .displacement import DisplacementMeter, Wanted
from .drawn import Drawn
from .learning_rate import rate_note
from .lineage import Lineage
from .measurement import measure
from .moved_pairs import moved_note, spec_in_force
from .optimizers import optimizer_sizes
from .placing import REST, place
from .progress import Reading, read_levels
from .progress_ready import MOST_STEPS
from .progress_verdict import RANGED, Evidence, Verdict, is_ranged, judge
from .shared_rows import SharedRows
from .trainer import Trainer

LOSSES = 50  # the last ones, whose mean a file records
DRAWS = 4  # noises for each image, where only images say what is wanted


@dataclass
class Run:
    """One slider under training. `fingerprint`: what it was begun with, by the fields of SliderInfo; to change that needs a new
    name or a reset."""

    name: str
    fingerprint: dict[str, str]
    trainer: Trainer
    spec: AdapterSpec | None = None  # None where the slider came out of a file
    measured: tuple[int, Calibration] | None = None  # (step, what strengths meant then)
    uncalibrated: str = "Not calibrated."  # why, as a message
    drawn: Drawn | None = None  # what was drawn at the calibrated ends
    contradiction: str | None = None  # which of its pairs contradict each other, "": none; None: not examined
    alike: str = ""  # in which of its pairs nothing differs, where they were examined
    on_to: int = 0  # the step beyond its end that a person let it train on to; 0: to its end
    saved: int = 0  # the step that its file holds
    saved_as: str = ""  # the name that it is saved under: its own, unless another process has taken that
    lineage: Lineage = field(default_factory=Lineage)
    mark: str | None = None  # of its file, as it was read or written last; None where it was neither

    def __post_init__(self) -> None:
        self.saved_as = self.saved_as or self.name

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.trainer.step

    @property
    def calibrated_now(self) -> bool:
        """Whether the slider as it stands was calibrated."""
        return self.measured is not None and self.measured[0] == self.step

    def calibrate(self, backend: Backend, on_pass: OnPass | None = None) -> str:
        """Measure what strengths mean for the slider as it stands, once per step. A message: `strength_note`."""
        trainer = self.trainer
        if self.calibrated_now:
            return self.strength_note()
        try:
            with trainer.ranks.together():
                found = self._measured(self._shared(backend), on_pass)
                calibration, self.drawn, trainer.readings = trainer.ranks.share(lambda: found)
        except Exception as fault:
            if not (isinstance(fault, SliderError) or backend.memory.is_short(fault)):
                raise
            reason = str(fault).strip().partition("\n")[0] or "out of memory"
            self.measured = None
            self.uncalibrated = f"Not calibrated: {reason}"
        else:
            self.measured = trainer.step, calibration
        finally:
            place(trainer, REST)
        return self.strength_note()

    def read_now(self, backend: Backend) -> None:
        """A reading of the slider as it stands, where it has none: of a training that was finished by hand. Memory may be short
        of it."""
        try:
            with self.trainer.ranks.together():
                self._complete_reading(self._shared(backend))
        except Exception as fault:
            if not backend.memory.is_short(fault):
                raise
        finally:
            place(self.trainer, REST)

    def strength_note(self) -> str:
        """What the strengths of the slider as it stands mean, as a message; nothing beside a verdict that would belie it."""
        if self.measured is None:
            return self.uncalibrated
        if not self.calibrated_now:
            return f"Not calibrated since step {self.measured[0]}."
        verdict = judge(self.evidence())
        return self.measured[1].summary(proven=verdict is Verdict.WORKS) if verdict in RANGED else ""

    def _shared(self, backend: Backend) -> Backend:
        """As much at once as memory had room for, by all ranks together."""
        trainer = self.trainer
        within = trainer.fallback.within(backend)
        if trainer.ranks.parts == 1:
            return within
        return SharedRows(within, trainer.adapter, trainer.ranks, lambda predict: predict(within))

    def _measured(self, within: Backend, on_pass: OnPass | None) -> tuple[Calibration, Drawn, list[Reading]]:
        """What was measured, and the readings with a whole one at the end."""
        trainer = self.trainer
        self._complete_reading(within)
        symmetric = trainer.readings[-1].symmetric or 0.0
        few_steps = trainer.spec.sampler_steps or within.few_steps
        found = measure(within, trainer.adapter, trainer.samples, self._meter(), on_pass, symmetric, few_steps)
        return *found, trainer.readings

    def _complete_reading(self, backend: Backend) -> None:
        """A whole reading of the slider as it stands: one that was stopped on its way has none."""
        trainer = self.trainer
        last = trainer.readings[-1] if trainer.readings else None
        if last is not None and last.step == trainer.step and last.symmetric is not None:
            return
        with backend.borrowed(), attached(trainer.adapter, backend.module):
            reading = trainer.probe.read(backend, trainer.adapter, trainer.step)
        if last is not None and last.step == trainer.step:
            trainer.readings.pop()
        trainer.readings.append(reading)

    def _meter(self) -> DisplacementMeter:
        """The trainer's own, which has its targets already; of images that do not line up one with more noises."""
        trainer = self.trainer
        if trainer.wanted is not Wanted.IMAGES:
            return trainer.probe.meter
        spec = trainer.spec
        return DisplacementMeter(trainer.samples, spec.objective, spec.seed, read_levels(spec), DRAWS)

    def evidence(self) -> Evidence:
        """What there is to judge the slider by; a calibration of the slider as it stands is a part of it."""
        return self._evidence_of(self.step)

    def _evidence_of(self, step: int) -> Evidence:
        evidence = replace(self.trainer.evidence(), contradiction=self.contradiction or "", alike=self.alike)
        if self.measured is None or self.measured[0] != step:
            return evidence
        calibration = self.measured[1]
        minus = calibration.minus is not None or calibration.one_way
        return replace(evidence, explained=(calibration.plus is not None, minus), drawn=self.drawn)

    def verdict(self) -> str:
        """A message: does the slider work?"""
        return self.trainer.explained_verdict(self.evidence())

    @property
    def read_at(self) -> int:
        """The step of the last reading; the slider's own where there is none."""
        return self.trainer.readings[-1].step if self.trainer.readings else self.step

    @property
    def measured_before(self) -> bool:
        """Whether the last reading is older than the slider, and of a step at which strengths and pictures were measured."""
        return self.read_at < self.step and self.measured is not None and self.measured[0] == self.read_at

    def verdict_read(self) -> str:
        """The verdict at the last reading, with what was measured at that step."""
        return self.trainer.explained_verdict(self._evidence_of(self.read_at))

    def slider(self) -> Slider:
        """A snapshot of the slider as it stands, with what its file says of it; calibrated, if that was done at this step."""
        self.trainer.average.settle()
        weights = self.trainer.adapter.weights()
        info = self._info()
        if self.measured is not None and self.calibrated_now:
            weights, info = calibrated(weights, info, self.measured[1], is_ranged(info.judged))
        return Slider(weights, info)

    def _info(self) -> SliderInfo:
        trainer = self.trainer
        strengths = [s.strength for s in trainer.samples]
        shown = [s.side for s in trainer.samples if s.prompt_pair is None]
        images = {"positive": shown.count(1), "negative": shown.count(-1), "neutral": shown.count(0)}
        explained = {}
        if trainer.readings:
            explained = {"positive": trainer.readings[-1].positive, "negative": trainer.readings[-1].negative}
        losses = trainer.losses[-LOSSES:]
        fingerprint: dict[str, Any] = {key: value for key, value in self.fingerprint.items() if not is_part(key)}
        if "place" in fingerprint:
            fingerprint["place"] = Place(fingerprint["place"])
        loss = sum(losses) / len(losses) if losses else 0.0
        info = SliderInfo(
            name=self.name,
            training=self.spec_in_force().to_json(),
            step=trainer.step,
            explained=explained,
            verdict=self.verdict(),
            judged=judge(self.evidence()).value,
            images=images,
            trained_strengths=tuple(sorted(set(strengths))),
            range=(min([0.0, *strengths]), max([0.0, *strengths])),
            other=training_fields(trainer.spec, len(shown), trainer.step, loss, trainer.rate),
            training_id=self.lineage.id,
            replaces=" ".join(self.lineage.replaces),
            **fingerprint,
        )
        if info.start:
            return replace(info, adapter="")  # the file that it came out of has a shape of its own
        if self.spec is not None:
            return replace(info, algorithm=self.spec.algorithm.value)
        return info

    def spec_in_force(self) -> TrainSpec:
        """The choices, with the jitter that was found."""
        return spec_in_force(self.trainer.spec, self.trainer.probe.moved_error)

    @property
    def open_ended(self) -> bool:
        """Whether it ends when it is ready, and the readings have not said yet when: its end is then the most steps."""
        return not self.trainer.spec.steps and self.trainer.end == MOST_STEPS

    def found_note(self) -> str:
        """What was found before the first step, in sentences; empty where a person has set all of it."""
        trainer = self.trainer
        return rate_note(trainer.spec, trainer.probed, trainer.rate) + moved_note(trainer.spec, trainer.probe.moved_error)

    def bytes(self) -> int:
        """Factors, gradients, the state of the optimizer and the average, and the encoded samples."""
        latents = sum(s.latent.numel() * s.latent.element_size() for s in self.trainer.samples)
        return (2 + optimizer_sizes(self.trainer.spec)) * self.trainer.adapter.bytes() + latents
