"""What trains at the moment and what is kept of it: sliders by name, their folder, the words in the node, the "finish now"."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import folder_paths

from ..slider_core.autosave import Autosave
from ..slider_core.disk_cache import DiskCache
from ..slider_core.session import Session
from ..slider_core.trainer import StepReport
from .words import WORDS_EVERY, executing_node, say

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
    there = [place for place in TRAINING if place == node or place.endswith(f":{node}")]
    TRAINING.update(dict.fromkeys(there, True))
    return bool(there)


def reporter(first: int, until: int, autosave: Autosave) -> Callable[[StepReport], bool]:
    """Autosave, progress bar and words in the node. ComfyUI's bar raises the interrupt when the user pressed stop.

    True, enough, when the user asked this node to finish with the step.
    """
    bar, place = comfy.utils.ProgressBar(max(1, until - first)), executing_node()

    def on_step(report: StepReport) -> bool:
        autosave.after_step()
        if report.step % WORDS_EVERY == 0 or report.step == until:
            say(report.words())
        bar.update_absolute(report.step - first)
        return TRAINING.get(place, False)

    return on_step
