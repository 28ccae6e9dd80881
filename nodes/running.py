"""The trainings of this ComfyUI: sliders by name, their folders, the request to finish, the observer of a node that trains."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import folder_paths

from ..slider_core.encode.disk_cache import DiskCache
from ..slider_core.lora.safe_files import tidy_below
from ..slider_core.train.step_report import StepReport
from ..slider_core.train.training_run import Run
from ..slider_core.train.trainings import Session
from ..slider_core.train.trainings_driver import Observer
from .live import Live
from .messages import calibrating, executing_node

SESSION = Session()
TRAINING: dict[str, bool] = {}  # id of a node that trains now -> whether it is to finish with its step and go on in the graph
AGAIN: dict[str, int] = {}  # by node: grows when it is to run again though nothing of its inputs has changed
LAST: dict[str, int] = {}  # by node: AGAIN as it was when it ran last
AS_IT_IS: set[str] = set()  # nodes that in the next run of their graph hand on what they have, though it is unfinished
MORE: dict[tuple[str, str], int] = {}  # (node, slider to train on when it runs next) -> steps beyond its end


def encoded_before() -> DiskCache:
    """What was encoded in earlier runs, in ComfyUI's user folder."""
    return DiskCache(Path(folder_paths.get_user_directory()) / "slider_lora" / "encoded")


def runs_folder() -> Path:
    """Where sliders under training are kept: in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / "sliders"


def begin_tidying() -> None:
    """Beside the server's start: what a killed ComfyUI has left half way in the folders of sliders is put back or removed."""
    roots = [runs_folder(), *map(Path, folder_paths.get_folder_paths("loras"))]
    threading.Thread(target=lambda: [tidy_below(root) for root in roots], name="slider tidying", daemon=True).start()


@contextmanager
def training_here() -> Iterator[None]:
    """Within the block the node that runs can be asked to finish."""
    place = executing_node()
    TRAINING[place] = False
    try:
        yield
    finally:
        TRAINING.pop(place, None)


def finish(node: str) -> bool:
    """Ask the training in that node, of whatever subgraph, to finish with its step. False when none runs there."""
    there = [place for place in list(TRAINING) if place == node or place.endswith(f":{node}")]
    for place in there:
        if place in TRAINING:  # the graph's thread may just have ended it
            TRAINING[place] = True
    return bool(there)


def run_again(node: str) -> None:
    """Have ComfyUI run that node anew in the next run of its graph."""
    AGAIN[node] = AGAIN.get(node, 0) + 1


def hand_on(node: str, wanted: bool = True) -> None:
    """In its next run that node, of whatever subgraph, hands on what it has and trains no further; or does after all."""
    there = [place for place in list(LAST) if place == node or place.endswith(f":{node}")]
    (AS_IT_IS.update if wanted else AS_IT_IS.difference_update)(there)


def turn_of(node: str) -> int:
    """A number that is the same as long as the node need not run anew. Asked once in a run of its graph."""
    if node in AS_IT_IS:
        AS_IT_IS.discard(node)
        return LAST[node]
    return AGAIN.get(node, 0)


def begin_turn(node: str) -> None:
    """That node runs."""
    LAST[node] = AGAIN.get(node, 0)


def train_on(node: str, name: str, steps: int) -> None:
    """The next run of that node trains the slider of that name on: by `steps` beyond its end; 0: to its end."""
    MORE[node, name] = steps
    run_again(node)


def withdraw(node: str, name: str) -> bool:
    """That node is not to train that slider on after all, where it has not begun. False when nobody had asked for it."""
    return MORE.pop((node, name), None) is not None


def steps_wanted(run: Run, node: str, steps: int) -> int:
    """The steps that the training is to have: those that are set, more where a person let it train on; 0: until it is ready."""
    more = MORE.pop((node, run.name), None)
    if more is not None:
        run.on_to = run.step + more if more else max(run.on_to, run.trainer.spec.steps)
    return max(steps, run.on_to)


class NodeObserver(Observer):
    """Progress bar, live state and strips of the node that trains, which can be asked to finish.

    ComfyUI's bar raises the interrupt when the user pressed stop.
    """

    def __init__(self, until: int, live: Live) -> None:
        self.until = until
        self.live = live
        self.place = executing_node()
        self.bar = comfy.utils.ProgressBar(live.bar()[1])

    def after_step(self, _report: StepReport) -> None:
        self.live.after_step()
        self.bar.update_absolute(*self.live.bar())

    def stop_requested(self) -> bool:
        return TRAINING.get(self.place, False)

    def pause_due(self, report: StepReport) -> bool:
        return self.live.strips.due(report.step, self.until)

    def pause(self) -> None:
        self.live.draw()

    def calibration_begins(self) -> None:
        self.live.calibrating()

    def calibration_pass(self, done: int, expected: int) -> None:
        calibrating(done, expected)
