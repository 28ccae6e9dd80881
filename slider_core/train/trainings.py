"""Sliders under training, by name: the memory that outlives a graph run.

A node cache drops what it holds when another graph runs, so a half-trained slider lives here and sockets carry its name.
The least recently used sliders leave when the byte budget is passed; a run that is in use never does. A run kept on disk
(training_saves.py) is continued from there, after a restart too.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from ..config.checks import SliderError, clean_text
from ..config.hosts import advice
from ..config.lora import AdapterSpec
from ..data.dataset_parts import changed_parts, is_part
from .trainer import Trainer
from .training_file import load_run
from .training_run import Run

BUDGET = 2 * 1024**3
HASH = re.compile(r"^[0-9a-f]{8,}$|\b[0-9a-f]{16}\b")
NAMED = 4  # fields of a record that a sentence lists
WORDS = {"encoders": "VAE or text encoder"}  # of a mark, where a reader has others


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
        name = clean_text(name)  # as a file gives it back
        fingerprint = {key: clean_text(value) for key, value in fingerprint.items()}
        run = self.get(name)
        on_disk = load_run(saved) if run is None and saved is not None and saved.is_file() else None
        if on_disk is not None and on_disk.name != name:
            message = f'{saved} holds the run "{on_disk.name}", not "{name}": give a new name.'
            raise SliderError(message, "resume.name")
        before = run or on_disk
        if before is not None:
            _same_origin(name, before.step, before.fingerprint, fingerprint)
        if run is None:
            run = Run(name, fingerprint, make(), spec)
            if on_disk is not None:
                on_disk.restore(run.trainer)
                run.saved = on_disk.step
                run.mark = on_disk.mark
                run.lineage = on_disk.lineage
                run.on_to = on_disk.on_to
            self._runs[name] = run
        self._free_memory(name)
        return run

    def _free_memory(self, keep: str) -> None:
        while sum(run.bytes() for run in self._runs.values()) > self.budget and len(self._runs) > 1:
            self._runs.pop(next(name for name in self._runs if name != keep))


def _same_origin(name: str, step: int, was: Mapping[str, str], now: Mapping[str, str]) -> None:
    """SliderError that names the first difference between the two fingerprints."""
    changed = next((key for key in dict.fromkeys([*was, *now]) if not is_part(key) and was.get(key) != now.get(key)), None)
    if changed is None:
        return
    values = _values(was.get(changed, "none"), now.get(changed, "none"))
    if changed == "dataset" and (parts := changed_parts(was, now)):
        values = f": {parts}"
    word = WORDS.get(changed, changed)
    again = advice("old_name at restart", "--overwrite")
    raise SliderError(
        f'The name "{name}" belongs to a slider that was trained up to step {step} with another {word}{values}. Give a new '
        f"name; or begin again: {again} discards that training.",
        "training.differs",
    )


def _values(was: str, now: str) -> str:
    """What differs of a mark, for its sentence: of a record the fields that differ; empty where it says nothing to a reader."""
    before, after = _short(was), _short(now)
    try:
        fields, others = json.loads(was), json.loads(now)
    except ValueError:
        fields = others = None
    if isinstance(fields, dict) and isinstance(others, dict):
        differing = [name for name in {**fields, **others} if fields.get(name) != others.get(name)]
        shown = [f"{name} {_short(str(fields.get(name)))} then, {_short(str(others.get(name)))} now" for name in differing]
        rest = [f"and {len(shown) - NAMED} more"] if len(shown) > NAMED else []
        return f": {'; '.join(shown[:NAMED] + rest)}" if shown else ""
    return "" if HASH.search(before) or HASH.search(after) else f": {before} then, {after} now"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
