"""What a node that trains shows in the browser: its state, sent now and then, and kept for a page that comes later.

A state is plain JSON, made anew each time and never changed, so the server's thread may read it while a training goes on:

    node      id of the node, with those of its subgraphs: "6" or "12:6"
    graph     id of the workflow that it is in, or ""
    run       number of the training, another one after a restart of ComfyUI too
    name      of the slider
    phase     training, drawing, calibrating; done, stopped, failed
    step      finished steps, of `until` in this run; `at_most`: it ends when the slider is ready
    seconds   that the training will take yet, strips included; at least, where it ends when the slider is ready; null: not known
    explained [[step, plus, minus], ...] at most POINTS readings, the last one included; a number that is not finite is null
    latest    its shares of plus and minus as the verdict says them, ["84 %", "86 %"]; of plus alone where it is one-way
    verdict   a summary of them
    more      steps that "train on" adds to an ended training: 0 where its end is not reached, null where none would help
    strip     {"filename", "subfolder", "type", "step"} as ComfyUI's /view wants it, or null; "old": of the run before
    trouble   why there is no strip, and until the training is done what is said of its images, or ""
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from comfy.model_management import InterruptProcessingException
from server import PromptServer

from ..slider_core.train.progress import Reading, percent
from ..slider_core.train.progress_ready import EVERY, LEAST_STEPS, earliest_end, next_reading, steps_more
from ..slider_core.train.progress_verdict import Verdict, judge, no_step_helps
from ..slider_core.train.trainer import Trainer
from ..slider_core.train.training_run import Run
from ..slider_core.train.trainings_driver import until_ready
from .live_preview import Strips
from .messages import prepared

EVENT = "slider_lora.progress"
PAUSE_S = 0.5  # between two events of a node
POINTS = 200
STATES_KEPT = 16
SURE_EARLY = {Verdict.NOT_FINITE, Verdict.BURNT}  # what a reading of the first steps can be trusted to say; no step mends it
MORE = 0.5  # of the steps so far, where the readings do not say how many
# What a page that is loaded later asks for: the last state by node and slider (two graphs may share an id), the newest last.
STATES: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
_NUMBERS = count(int(time.time()))  # of the trainings: a page that stays open over a restart meets none twice


def states() -> list[dict[str, Any]]:
    """The states that are kept."""
    return list(STATES.values())


def thinned(readings: Sequence[Reading], most: int = POINTS) -> list[list[float | None]]:
    """Step and learned shares of at most `most` readings, evenly chosen, the first and the last among them."""
    count = min(most, len(readings))
    points = []
    for n in range(count):
        reading = readings[round(n * (len(readings) - 1) / max(1, count - 1))]
        points.append([reading.step, *(round(share, 5) if math.isfinite(share) else None for share in reading.explained)])
    return points


def latest(readings: Sequence[Reading]) -> list[str]:
    """The learned shares of the last reading, as its summary has them; of one side where the slider is one-way."""
    if not readings:
        return []
    sides = readings[-1].explained[: 1 if readings[-1].one_way else 2]
    return [percent(share) if math.isfinite(share) else "?" for share in sides]


def seconds_left(step: int, begun: int, until: int, spent: float, strips: Strips) -> float | None:
    """What is left of a training that has spent so many seconds on its steps since step `begun`: steps at their pace, strips at
    theirs; None before there is a pace."""
    if step <= begun:
        return None
    return spent / (step - begun) * (until - step) + strips.pace() * strips.left(step, until)


def no_reading(begun: int, until: int) -> str:
    """What is said before the first reading of a training that goes from step `begun` to `until`."""
    first = min(until, (begun // EVERY + 1) * EVERY)
    return f"No reading yet: the first one comes with step {first}, and the curve begins there."


def going_on(begun: int, first: int) -> str:
    """What is said of a training that goes on from step `begun`, before the first reading of its new steps."""
    return f"It goes on from step {begun}; the next reading comes with step {first}."


def verdict_so_far(trainer: Trainer) -> str:
    """The verdict on a training that goes on; before LEAST_STEPS a reading says little of what comes of it."""
    evidence = trainer.evidence()
    last = evidence.last
    if last is None or last.step >= LEAST_STEPS or judge(evidence) in SURE_EARLY:
        return trainer.explained_verdict(evidence)
    if trainer.step < LEAST_STEPS:
        return f"Still settling: readings rise and fall up to about step {LEAST_STEPS}. {last.summary(evidence.wanted)}"
    return f"The last reading, of step {last.step}, was still settling: the next one says more. {last.summary(evidence.wanted)}"


def stopped(run: Run) -> str:
    """What is said of a training that a person has stopped."""
    if not run.step:
        return "Stopped before the first step: run again to begin."
    if run.read_at == run.step:
        return f"Stopped. What was learned is kept: run again to go on. {run.verdict()}"
    how = "was measured at" if run.measured_before else "is by the reading alone, without pictures, of"
    begin = f"Stopped at step {run.step}. What was learned is kept: run again to go on."
    return f"{begin} What follows {how} step {run.read_at}. {run.verdict_read()}"


def more_steps(run: Run) -> int | None:
    """By how many steps a training that has ended can be trained on: 0 to its end; None where that is of no use."""
    evidence = run.evidence()
    verdict = judge(evidence)
    if not run.step or verdict in SURE_EARLY or verdict is Verdict.OVERFITTING or no_step_helps(verdict, evidence):
        return None
    if run.step < run.trainer.end:
        return 0
    more = steps_more(run.trainer.readings)
    if verdict is Verdict.LIMITED and not more:
        return None
    return more or math.ceil(MORE * run.step / EVERY) * EVERY


@dataclass(frozen=True)
class Place:
    """The node that trains, and the workflow that it is in."""

    node: str
    graph: str = ""


class Live:
    """The state of one training. Use `showing`."""

    def __init__(self, run: Run, until: int, strips: Strips, place: Place, notice: str = "") -> None:
        self.run = run
        self.notice = notice
        self.begun = run.step
        self.until = until
        self._foresee()
        self.strips = strips
        self.node = place.node
        self.graph = place.graph
        self.number = next(_NUMBERS)
        self.phase = "training"
        self.more: int | None = None
        self.seconds: float | None = None
        self._read()
        self.verdict = self._at_first()
        self._first: tuple[int, float] | None = None  # step and time, without strips: it has waited for rate and model
        self._sent = -math.inf
        strip = STATES.get((self.node, run.name), {}).get("strip")
        if strip is not None and strip["step"] > run.step:
            strip = None
        self.strips.shown = None if strip is None else strip | {"old": True}  # until there is a newer one

    def _at_first(self) -> str:
        """The verdict before any new step: an old one is said where no step is to come, and nowhere beside new numbers."""
        if not self.run.trainer.readings:
            return no_reading(self.begun, self.until)
        if self.begun == self.ends:
            return self.run.verdict()
        trainer = self.run.trainer
        wanted = None if trainer.spec.steps else trainer.wanted
        return going_on(self.begun, next_reading(self.begun, self.ends, trainer.readings, wanted))

    def _foresee(self) -> None:
        """Where it ends as far as is known: where no number of steps is set, the readings bring that nearer."""
        self.ends = until_ready(self.run, self.until)
        self.at_most = self.run.open_ended and self.ends == self.run.trainer.end

    def bar(self) -> tuple[int, int]:
        """(done, total) steps of this run for ComfyUI's bar: to the end, or, while nobody knows that, to the earliest one."""
        return self.run.step - self.begun, max(1, self._earliest() - self.begun)

    def _earliest(self) -> int:
        return min(self.ends, earliest_end(self.run.step)) if self.at_most else self.ends

    def _read(self) -> None:
        """The readings as they are now, for the curve: the last of them is what the verdict is made of."""
        readings = self.run.trainer.readings
        self.explained, self.latest, self._seen = thinned(readings), latest(readings), len(readings)

    def state(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "graph": self.graph,
            "run": self.number,
            "name": self.run.name,
            "phase": self.phase,
            "step": self.run.step,
            "until": self.ends,
            "at_most": self.at_most,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "explained": self.explained,
            "latest": self.latest,
            "verdict": self.verdict,
            "more": self.more,
            "strip": self.strips.shown,
            "trouble": " ".join(filter(None, ["" if self.phase == "done" else self.notice, self.strips.trouble])),
        }

    def after_step(self) -> None:
        settled = bool(self._seen) and self.run.step == LEAST_STEPS  # an early reading is no longer said to be settling
        if len(self.run.trainer.readings) != self._seen or settled:  # a verdict looks at every weight
            self._read()
            self._foresee()
            self.verdict = verdict_so_far(self.run.trainer)
        step, now = self.run.step, time.monotonic() - self.strips.seconds
        first, since = self._first = self._first or (step, now)
        self.seconds = seconds_left(step, first, self._earliest(), now - since, self.strips)
        self.send()

    def draw(self) -> None:
        """A strip of the slider as it stands. What goes wrong is reported, and costs no training."""
        phase = self.phase
        self.phase = "drawing"
        self.send(at_once=True)
        self.strips.draw(self.run.slider(), self.run.step)
        self.phase = phase
        self.send()

    def calibrating(self) -> None:
        self.end("calibrating", self.verdict)

    def conclude(self, summary: str, until: int | None = None) -> None:
        """The training of this run of the graph is over: what is said of it, and the step that it was to reach."""
        self.until = self.until if until is None else until
        self._foresee()
        self.end("done", summary)

    def end(self, phase: str, verdict: str) -> None:
        """No step of this training is left."""
        self.phase = phase
        if phase != "calibrating":  # whose verdict is that of before: the calibration may read anew
            self._read()
        self.more = more_steps(self.run) if phase in ("done", "stopped") else None
        self.seconds = 0.0
        self.verdict = verdict
        self.send(at_once=True)

    def send(self, at_once: bool = False) -> None:
        """Keep the state, and send it to every page unless the last event is too young. `at_once`: even then."""
        key = self.node, self.run.name
        state = self.state()
        prepared(self.node)
        STATES[key] = state
        STATES.move_to_end(key)
        while len(STATES) > STATES_KEPT:
            STATES.popitem(last=False)
        server = getattr(PromptServer, "instance", None)
        now = time.monotonic()
        if server is not None and (at_once or now - self._sent >= PAUSE_S):
            self._sent = now
            server.send_sync(EVENT, state)


@contextmanager
def showing(run: Run, until: int, strips: Strips, place: Place, notice: str = "") -> Iterator[Live]:
    """Within the block the node shows how its training goes, and the notice about its images; afterwards, how it ended."""
    live = Live(run, until, strips, place, notice)
    try:
        yield live
    except InterruptProcessingException:
        live.end("stopped", stopped(run))
        raise
    except BaseException as fault:
        live.end("failed", str(fault))
        raise
    else:
        if live.phase != "done":
            live.conclude(run.verdict())
