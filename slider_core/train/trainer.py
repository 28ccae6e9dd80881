"""The loop: warm-up, schedule, accumulation, clipping, guards, progress. It knows no file and no screen: `on_step` reports.

A step is a pure function of (weights, optimizer state, seed, step number), so `state_dict` is enough to go on exactly where
a run stopped. A step finishes or leaves the weights as they were; steps that explode are undone (guard.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from ..backend import Backend
from ..config.checks import SliderError
from ..config.training import Optimizer, TrainSpec
from ..encode.encoder import Sample
from ..lora.slider_adapter import Adapter
from ..lora.strength import attached
from ..objective.batch import Batch, batch_parts
from ..objective.batch_plan import plan
from ..objective.noising import unaligned_note
from ..ranks import Ranks
from .guard import BURNT, KEEP_EVERY, MOST_BEGUN, Guard, NotFiniteError, lacks_reading, undone
from .interrupts import uninterrupted
from .learning_rate import UNKNOWN, learning_rate, need_plausible, settles, summed_gradients
from .memory_fallback import MemoryFallback
from .moved_pairs import is_familiar
from .optimizers import Average, make_optimizer, optimizer_sizes
from .placing import placed_on
from .progress import WHOLE_EVERY, Probe, Reading, read_levels
from .progress_ready import EVERY, LOWER, MOST_STEPS, fall_of, is_due, lowered
from .progress_verdict import Evidence, explain, judge
from .run_state import put_state, state_of
from .shared_rows import measured
from .step_backward import backward
from .step_report import StepReport

HALF_SCALE = 2.0**12  # of the loss on a float16 base model, whose small gradients would otherwise be rounded to zero
LOSS_FIELDS = ("objective", "timesteps", "window", "weighting", "snr_gamma", "neutral_weight")  # what a loss's size depends on
T = TypeVar("T")
CALM = 200  # steps without an overflow after which a scale that was halved is doubled again


class Trainer:
    """A slider under training: adapter, optimizer and place in the run. `run` may be called again and again.

    Between steps the adapter holds what is to be read: the average of the weights where there is one (optimizers.py).
    It holds no model: each `run` borrows one, so a waiting slider keeps no base model in memory.
    """

    def __init__(self, adapter: Adapter, samples: Sequence[Sample], spec: TrainSpec) -> None:
        self._plan = plan(samples, spec)  # refuses samples that cannot train before anything is made
        self.adapter = adapter
        self.samples = tuple(samples)
        self.spec = spec
        self._guard = Guard()
        self._changing = False  # whether a step is changing the weights
        self._use_optimizer(spec)
        self.step = 0
        self.losses: list[float] = []
        self.readings: list[Reading] = []
        self.fallback = MemoryFallback(adapter)
        self._scale = 1.0
        self._highest_scale = 1.0
        self._calm = 0  # steps since the scale was last changed
        self.probed: float | None = None  # the learning rate that the probe has found
        self.settled = False  # whether the probe has read it once more, with weights that act
        self.probe = Probe(self.samples, spec.seed, spec.objective, read_levels(spec))
        self.wanted = self.probe.wanted
        self.ranks = Ranks()  # the processes that train it together; a host puts others here

    def run(
        self, backend: Backend, until: int, on_step: Callable[[StepReport], bool | None] | None = None, read_every: int = EVERY
    ) -> None:
        """Train on `backend` up to finished step `until`, or until `on_step` returns True: enough. An exception out of it stops
        the run as well; what was learned stays. Progress is read every `read_every` steps and at the end; without a number of
        steps as `is_due` says, and the slider's being ready ends the run too.

        Raises SliderError when a step explodes; the last good state stays, and going on from there at a lower rate works.
        """
        until = until if self.spec.steps else min(until, self.end)
        if self.step >= until and not self._lacks_reading(until, read_every):
            with backend.borrowed():
                self.adapter.read_base(backend.module)  # for the file form: a state may just have been loaded
            return
        with self.ranks.together(), self._in_training(backend):
            if not self.spec.lr and self.probed is None:
                self._probe_rate(backend)
            if not (self.spec.lr or self.step):
                self._guard.begin = self.state_dict()
            if self._lacks_reading(until, read_every):  # an interrupt came before it
                self._read_progress(backend)
            self._keep()
            self._run_steps(backend, until, on_step, read_every)

    @contextmanager
    def _in_training(self, backend: Backend) -> Iterator[None]:
        """Within the block the model is borrowed, the slider attached and as much computed at once as memory has room for."""
        self._begin_scale(backend)
        spec = replace(self.spec, batch=self.ranks.local(self.spec.batch))
        with placed_on(self, backend.device), torch.enable_grad():
            self.fallback.look_ahead(backend, self.samples, spec, 0 if self.optimizer.state else optimizer_sizes(self.spec))
            with backend.borrowed(), attached(self.adapter, backend.module):
                backend.prepare(self.adapter.paths, self.samples[0].latent, self.samples[0].cond)
                with self.fallback.in_force(backend, spec):
                    self.probe.look(self.spec, lambda work: self._read_by_all(backend, work))
                    yield

    @property
    def end(self) -> int:
        """The last step: as it was set, or where the slider is ready."""
        return self.spec.steps or self.ready_at

    @property
    def ready_at(self) -> int:
        """The step at which the readings end the training of a slider that is ready; until it is, the most steps."""
        fall = fall_of(self.readings, self.wanted)
        return fall[1] if fall else MOST_STEPS

    @property
    def rate(self) -> float:
        """The highest learning rate: as it was set, or as was found. Prodigy finds its own, and 1 multiplies it."""
        if self.spec.lr or self.spec.optimizer is Optimizer.PRODIGY:
            return self.spec.lr or 1.0
        return (UNKNOWN if self.probed is None else self.probed) * lowered(self.readings, self.wanted)

    def check_rate(self, backend: Backend) -> None:
        """Before a training begins or goes on at a rate that was set: SliderError where it is far beyond what the probe finds, or
        has found."""
        spec = self.spec
        if not spec.lr or self.step >= self.end or spec.any_rate or spec.optimizer is Optimizer.PRODIGY:
            return
        if self.probed is None:
            with self.ranks.together(), self._in_training(backend):
                self._probe_rate(backend)
        need_plausible(spec, self.probed)

    def _probe_rate(self, backend: Backend) -> None:
        """Find the learning rate for the weights as they are, which stay so."""
        if self.spec.optimizer is Optimizer.PRODIGY:
            return
        parameters = self.adapter.parameters()
        try:
            gradients = summed_gradients(parameters, lambda n: self._gradients(backend, self._batch(self.step + n)))
        except NotFiniteError as fault:
            raise self._undone(fault.code, str(fault)) from None
        rate = self.probe.rate_along(self.adapter, gradients, lambda work: measured(backend, self.fallback, self.ranks, work))
        self.probed = self.ranks.share(lambda: rate)

    def _settle_rate(self, backend: Backend) -> None:
        """On a distilled model read the noise of a step once more after the first ones: the rate may become lower."""
        if self.settled or self.probed is None or not settles(self.spec, self.step):
            return
        attempt = partial(measured, backend, self.fallback, self.ranks)
        rate = self.probe.rate_by_noise(self.adapter, self.probed, attempt)
        self.probed, self.settled = self.ranks.share(lambda: rate), True

    def _run_steps(
        self, backend: Backend, until: int, on_step: Callable[[StepReport], bool | None] | None, read_every: int
    ) -> None:
        start, done = time.monotonic(), 0
        while self.step < until:
            self._settle_rate(backend)
            loss = self._one_step(backend)
            if loss is None:
                continue
            done += 1
            if self._lacks_reading(until, read_every):
                self._read_progress(backend)
                if not self.readings[-1].mean > BURNT and self._begun_anew():
                    continue
                until = until if self.spec.steps else min(until, max(self.step, self.end))
                if self._guard.exploded_reading([reading.mean for reading in self.readings]):
                    raise self._undone("training.exploded", f"The explained share is {self.readings[-1].mean:.0f}")
            if self.step % KEEP_EVERY == 0:
                self._keep()
            if on_step is None:
                continue
            pace = (time.monotonic() - start) / done
            sides: tuple[float | None, float | None] = self.readings[-1].explained if self.readings else (None, None)
            report = StepReport(self.step, until, loss, *sides, pace * (until - self.step), backend.memory.summary())
            if self.ranks.any(bool(on_step(report))):
                break

    def _begun_anew(self) -> bool:
        """Go back to the first step at a lower rate, if it was a rate that the probe has found which burnt the slider; a training
        that was read from a file goes back to its last good step."""
        begin = self._guard.begin or self._guard.state
        if self.spec.lr or self.probed is None or begin is None or not self.step or self._guard.begun == MOST_BEGUN:
            return False
        self._guard.begun += 1
        with uninterrupted():
            self._guard.forget()
            self._load(begin | {"probed": self.probed / LOWER})
        self._keep()
        return True

    def _lacks_reading(self, until: int, read_every: int) -> bool:
        due = self.step % read_every == 0 if self.spec.steps else is_due(self.step, self.readings, self.wanted)
        return lacks_reading(self.readings[-1].step if self.readings else 0, self.step, until, due)

    @property
    def sound(self) -> bool:
        """Whether the state is worth to take the place of another."""
        return not self._guard.suspect(self.losses) and self.adapter.finite()

    def _keep(self) -> None:
        """Keep this state as the last good one, unless it is not."""
        if self._guard.state is None or (self._guard.step != self.step and self.sound):
            self._guard.state = self.state_dict()

    def _undo(self) -> None:
        if self._guard.state is not None:
            with uninterrupted():
                self._load(self._guard.state)

    def _undone(self, code: str, what: str) -> SliderError:
        """Go back to the last good state; the error that says so."""
        step = self.step + 1
        self._undo()
        return undone(code, f"{what} at step {step}", self.rate, self.step)

    def _begin_scale(self, backend: Backend) -> None:
        """The loss scale of a float16 model; a run in parts goes on with the one it had."""
        half = backend.dtype == torch.float16 or any(p.dtype == torch.float16 for p in backend.module.parameters())
        self._highest_scale = HALF_SCALE if half else 1.0
        if not half or self._scale <= 1:
            self._scale = self._highest_scale

    def adopt(self, spec: TrainSpec) -> None:
        """Go on with other choices (steps, lr, batch, objective, seed, optimizer) from the next step."""
        self._plan = plan(self.samples, spec)
        if spec.optimizer is not self.spec.optimizer:
            self._guard.forget(self._guard.first)
            self._use_optimizer(spec)  # begins anew, from the weights that are read
        elif self.average.ema is not None and not spec.ema:
            self.average.end()
        if any(getattr(spec, name) != getattr(self.spec, name) for name in LOSS_FIELDS):
            self._guard.forget(len(self.losses))
        self.spec = spec
        for group in self.optimizer.param_groups:
            group["weight_decay"] = spec.weight_decay

    @torch.inference_mode(False)
    def _use_optimizer(self, spec: TrainSpec) -> None:
        self.optimizer = make_optimizer(spec, self.adapter.parameters())
        self.average = Average(self.adapter.parameters(), self.optimizer)

    def _one_step(self, backend: Backend) -> float | None:
        """The loss of a step that was made; None where the training begins anew instead."""
        batch = self._batch(self.step)
        fall = None if self.spec.steps else fall_of(self.readings, self.wanted)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.spec, self.step, self.rate, fall)
        try:
            with self.average.trained():
                value = self._gradients(backend, batch)
                with uninterrupted():
                    self._changing = True
                    self.optimizer.step()
                    self.average.follow(self.spec.ema, self.step + 1)
                    self.step += 1
                    self.losses.append(value)
                    self._changing = False
        except NotFiniteError as fault:
            if self._begun_anew():
                return None
            raise self._undone(fault.code, str(fault)) from None
        finally:
            if self._changing:  # an optimizer that broke off half way
                self._changing = False
                self._undo()
        return value

    def _gradients(self, backend: Backend, batch: Batch) -> float:
        """Leave the clipped gradients of the mean loss in the factors and return that loss; SliderError when they are not finite.

        The loss is scaled up on a float16 base model and the gradients down again; a scale that overflows is halved.
        """
        groups = self.ranks.groups(batch_parts(batch, self.spec.accumulate * self.ranks.parts))
        parameters = self.adapter.parameters()
        while True:
            of_group = partial(backward, backend, self.fallback, self.spec, self._scale)
            loss = self.ranks.gradients(parameters, groups, of_group)
            if self._guard.exploded(loss, self.losses):
                code = "training.exploded" if math.isfinite(loss) else "training.not_finite"
                raise NotFiniteError(f"The loss is {loss:.3g}", code)
            for p in parameters:
                if p.grad is not None:
                    p.grad.div_(self._scale)
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.spec.clip)
            if bool(norm.isfinite()):  # one value read from the device: not one per layer
                self._grow()
                return loss
            if self._scale <= 1:
                raise NotFiniteError("No finite gradient", "training.not_finite")
            self._scale = self._scale / 2
            self._calm = 0

    def _grow(self) -> None:
        """One overflow must not leave the rest of a long run with a small scale."""
        self._calm += 1
        if self._scale < self._highest_scale and self._calm >= CALM:
            self._scale = 2 * self._scale
            self._calm = 0

    def _batch(self, step: int) -> Batch:
        return replace(self._plan.batch(step), familiar=is_familiar(self.probe.moved_error))

    def _read_by_all(self, backend: Backend, read: Callable[[Backend], T]) -> T:
        """What rank 0 has read, all ranks having computed their rows of it."""
        value = measured(backend, self.fallback, self.ranks, read)
        return self.ranks.share(lambda: value)

    def _read_progress(self, backend: Backend) -> None:
        place = self.step, self.step >= self.end or self.step % WHOLE_EVERY == 0  # and whether it is a whole one
        self.readings.append(self._read_by_all(backend, lambda within: self.probe.read(within, self.adapter, *place)))

    def evidence(self) -> Evidence:
        """What the training knows to judge by."""
        return Evidence(self.readings, self.adapter.finite(), self.wanted)

    def verdict(self) -> str:
        """A message: does the slider work, and on both sides?"""
        return self.explained_verdict(self.evidence())

    def explained_verdict(self, evidence: Evidence) -> str:
        """The verdict on the evidence, as a message."""
        return explain(judge(evidence), evidence) + unaligned_note(self.samples, self.spec)

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to continue exactly; a copy."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()` of a run with the same targets, algorithm and rank."""
        self._guard = Guard()
        self._load(state)

    @torch.inference_mode(False)
    def _load(self, state: dict[str, Any]) -> None:
        put_state(self, state)
