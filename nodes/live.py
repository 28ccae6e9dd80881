"""What a node that trains shows in the browser: its state, sent now and then, and kept for a page that comes later.

A state is plain JSON, made anew each time and never changed, so the server's thread may read it while a training goes on:

    node      id of the node, with those of its subgraphs: "6" or "12:6"
    run       number of the training in this session
    name      of the slider
    phase     training, drawing, calibrating; done, stopped, failed
    step      finished steps, of `until` in this run
    seconds   that the training will take yet, strips included
    gain      [[step, plus, minus], ...] at most POINTS readings, the last one included; a number that is not finite is null
    verdict   in words
    strip     {"filename", "subfolder", "type", "step"} as ComfyUI's /view wants it, or null
    trouble   why there is no strip, in words, or ""
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from comfy.model_management import InterruptProcessingException
from server import PromptServer

from ..slider_core.train.progress import Reading
from ..slider_core.train.training_run import Run
from .live_preview import Strips
from .words import executing_node

EVENT = "slider_lora.progress"
PAUSE_S = 0.5  # between two events of a node
POINTS, STATES_KEPT = 200, 16
STATES: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()  # by node and slider, what trained last at the end
_NUMBERS = count(1)


def states() -> list[dict[str, Any]]:
    """The state of every node that trains, or trained in this session, for each of its sliders: two graphs may share an id."""
    return list(STATES.values())


def thinned(readings: Sequence[Reading], most: int = POINTS) -> list[list[float | None]]:
    """Step and gain of at most `most` readings, evenly chosen, the first and the last among them."""
    steps = min(most, len(readings))
    chosen = [readings[round(n * (len(readings) - 1) / max(1, steps - 1))] for n in range(steps)]
    return [[r.step, *(round(explained, 5) if math.isfinite(explained) else None for explained in r.explained)] for r in chosen]


def seconds_left(step: int, begun: int, until: int, spent: float, strips: Strips) -> float:
    """What is left of a training that began at step `begun`, `spent` seconds ago: steps at their pace, strips at theirs."""
    pace = (spent - strips.seconds) / max(1, step - begun)
    return max(0.0, pace) * (until - step) + strips.pace() * strips.left(step, until)


class Live:
    """The state of one training. Use `showing`."""

    def __init__(self, run: Run, until: int, strips: Strips) -> None:
        self.run, self.begun, self.until, self.strips = run, run.step, until, strips
        self.node, self.number = executing_node(), next(_NUMBERS)
        self.phase, self.seconds = "training", 0.0
        self.explained, self.verdict = thinned(run.trainer.readings), run.verdict()
        self._start, self._sent, self._seen = time.monotonic(), -math.inf, len(run.trainer.readings)
        before = STATES.get((self.node, run.name), {})
        same = (before.get("strip") or {}).get("step", math.inf) <= run.step
        self.strips.shown = before["strip"] if same else None  # until there is a newer one

    def state(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "run": self.number,
            "name": self.run.name,
            "phase": self.phase,
            "step": self.run.step,
            "until": self.until,
            "seconds": round(self.seconds, 1),
            "explained": self.explained,
            "verdict": self.verdict,
            "strip": self.strips.shown,
            "trouble": self.strips.trouble,
        }

    def after_step(self) -> None:
        readings = self.run.trainer.readings
        if len(readings) != self._seen:  # a verdict looks at every weight
            self.explained, self.verdict, self._seen = thinned(readings), self.run.trainer.verdict(), len(readings)
        self.seconds = seconds_left(self.run.step, self.begun, self.until, time.monotonic() - self._start, self.strips)
        self.tell()

    def draw(self) -> None:
        """A strip of the slider as it stands. What goes wrong is said, and costs no training."""
        before, self.phase = self.phase, "drawing"
        self.tell(at_once=True)
        self.strips.draw(self.run.slider(), self.run.step)
        self.phase = before
        self.tell()

    def calibrating(self) -> None:
        self.phase, self.seconds = "calibrating", 0.0
        self.tell(at_once=True)

    def end(self, phase: str, words: str) -> None:
        self.phase, self.seconds, self.verdict = phase, 0.0, words
        self.tell(at_once=True)

    def tell(self, at_once: bool = False) -> None:
        """Keep the state, and send it to every page unless the last event is too young. `at_once`: even then."""
        place = self.node, self.run.name
        STATES[place] = state = self.state()
        STATES.move_to_end(place)
        while len(STATES) > STATES_KEPT:
            STATES.popitem(last=False)
        server, now = getattr(PromptServer, "instance", None), time.monotonic()
        if server is not None and (at_once or now - self._sent >= PAUSE_S):
            self._sent = now
            server.send_sync(EVENT, state)


@contextmanager
def showing(run: Run, until: int, strips: Strips) -> Iterator[Live]:
    """Within the block the node shows how its training goes; afterwards, how it ended."""
    live = Live(run, until, strips)
    try:
        yield live
    except InterruptProcessingException:
        live.end("stopped", f"Stopped. What was learned is kept: run again to go on. {run.verdict()}")
        raise
    except BaseException as fault:
        live.end("failed", str(fault))
        raise
    else:
        live.end("done", run.verdict())
