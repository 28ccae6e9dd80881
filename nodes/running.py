"""What trains at the moment and what is kept of it: sliders by name, their folder, the "finish now"."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import folder_paths

from ..slider_core.backend import Backend
from ..slider_core.encode.disk_cache import DiskCache
from ..slider_core.train.trainer import StepReport
from ..slider_core.train.training_run import Run
from ..slider_core.train.training_saves import Autosave
from ..slider_core.train.trainings import Session
from .live import Live
from .words import executing_node

SESSION = Session()
TRAINING: dict[str, bool] = {}  # id of a node that trains now -> whether it is to finish with its step and go on in the graph


def encoded_before() -> DiskCache:
    """What was encoded in earlier runs, in ComfyUI's user folder."""
    return DiskCache(Path(folder_paths.get_user_directory()) / "slider_lora" / "encoded")


def runs_folder() -> Path:
    """Where sliders under training are kept: in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / "sliders"


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


def train(run: Run, backend: Backend, until: int, autosave: Autosave, live: Live) -> None:
    """Train up to step `until`, or until the user has had enough.

    For every live strip the trainer is left, so that the borrowed model is back in its place when it is drawn on; a step
    depends on the seed and its number only, so the pauses change nothing.
    """
    with training_here():
        place, on_step = executing_node(), reporter(run.step, until, autosave, live)
        while True:
            run.trainer.run(backend, until, on_step)
            if run.step >= until or TRAINING[place]:
                return
            live.draw()
            if TRAINING[place]:
                return


def reporter(first: int, until: int, autosave: Autosave, live: Live) -> Callable[[StepReport], bool]:
    """Autosave, progress bar and live state in the node. ComfyUI's bar raises the interrupt when the user pressed stop.

    True, enough for now, when a strip is due, or when the user asked this node to finish with the step.
    """
    bar, place = comfy.utils.ProgressBar(max(1, until - first)), executing_node()

    def on_step(report: StepReport) -> bool:
        autosave.after_step()
        live.after_step()
        bar.update_absolute(report.step - first)
        return TRAINING.get(place, False) or live.strips.due(report.step, until)

    return on_step
