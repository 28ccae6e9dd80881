"""Keeps a run on disk while it trains: the slider as a file that any loader reads, the run to go on with, checkpoints.

    <folder>/<name>.safetensors                 the slider, at the last autosave
    <folder>/<name>.run.safetensors             what it takes to go on exactly (training_file.py)
    <folder>/<name>_step000100.safetensors      a checkpoint, a slider too

Every file is written beside its place and renamed, so a program that is killed leaves the old one or the new one. A full disk
does not stop the training: what cannot be saved is reported, and tried again at the next autosave. Another process may train
under the same name: what it has saved meanwhile is never replaced, and this run goes on under a name of its own.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..config.checks import SliderError, reason
from ..config.names import file_stem
from ..config.training import SaveSpec
from ..lora.safe_files import locked, tidy
from ..lora.slider_file import save_slider
from .interrupts import uninterrupted
from .progress import Reading
from .training_file import name_and_mark, save_run
from .training_run import Run

ENDING, RUN_ENDING = ".safetensors", ".run.safetensors"


def run_file(root: Path, name: str) -> Path:
    """Where the run of that name is kept under `root`: in a folder of its own."""
    stem = file_stem(name)
    return root / stem / f"{stem}{RUN_ENDING}"


class Autosave:
    """A context around a run's training. Leaving it saves what was learned, whatever ended the training."""

    def __init__(self, run: Run, root: Path, spec: SaveSpec) -> None:
        self.run = run
        self.spec = spec
        self.root = root
        self.trouble = ""  # why the last attempt failed
        self.note = ""  # that it is saved under another name, and why
        self._saved_at = time.monotonic()
        if run.mark is None:  # what lies there may be replaced: who began the run was asked
            name, mark = name_and_mark(run_file(root, run.saved_as))
            run.mark = mark if name == run.name else ""  # where a folder's names have no case, the other may be "Smile"
        tidy(self.folder)

    @property
    def stem(self) -> str:
        return file_stem(self.run.saved_as)

    @property
    def file(self) -> Path:
        return run_file(self.root, self.run.saved_as)

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def slider_file(self) -> Path:
        return self.folder / f"{self.stem}{ENDING}"

    def __enter__(self) -> Autosave:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self.run.step != self.run.saved:
            self.save()

    def after_step(self) -> None:
        """Save when it is time. Call it when a step is finished."""
        step = self.run.step
        if not self.run.trainer.sound:  # it may be about to explode: what is on disk is better
            return
        if self.spec.every and step % self.spec.every == 0:
            self._checkpoint(step)
        if time.monotonic() - self._saved_at >= self.spec.seconds:
            self.save()

    def save(self) -> None:
        """Save the run and the slider as they stand. What goes wrong is in `trouble`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with uninterrupted(), locked(self.root):
                self._make_way()
                run = self.run
                run.mark = save_run(self.file, run.saved_as, run.fingerprint, run.trainer, run.lineage, run.on_to)
                self.run.saved = self.run.step  # within: a signal that waits is raised where the block ends
        except SliderError as fault:
            self.trouble = str(fault)
        except OSError as fault:
            self.trouble = f"Cannot write to {self.folder} ({reason(fault)}). Choose a folder that can be written."
        else:
            self.trouble = ""
            self.save_slider()
        self._saved_at = time.monotonic()

    def _make_way(self) -> None:
        """Take another name when what lies under this one is no longer what this run has read or written there."""
        if name_and_mark(self.file)[1] in ("", self.run.mark):
            return
        taken = self.run.saved_as
        number = 2
        while os.path.lexists(run_file(self.root, f"{self.run.name}-{number}")):
            number += 1
        self.run.saved_as = f"{self.run.name}-{number}"
        self.run.mark = ""
        self.note = f' Another run is saved as "{taken}": this one goes on as "{self.run.saved_as}".'

    def save_slider(self) -> None:
        """Save the slider alone: when it has changed but for its training, as by a calibration."""
        if self.spec.slider:
            self._write(self.slider_file)

    def _write(self, path: Path) -> bool:
        """Whether the slider could be written there."""
        try:
            with uninterrupted():
                save_slider(path, self.run.slider(), overwrite=True)
        except SliderError as fault:
            self.trouble = str(fault)
            return False
        return True

    def summary(self) -> str:
        """One sentence for the user."""
        if self.trouble:
            return f"Not saved: {self.trouble}{self.note}"
        if not self.spec.slider:
            return f"Kept up to step {self.run.saved}: the name goes on from there.{self.note}"
        return f"Saved up to step {self.run.saved} in {Path(*self.folder.parts[-3:]).as_posix().lstrip('/')}/.{self.note}"

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints on disk, by step."""
        by_step = {}
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            match = re.fullmatch(re.escape(self.stem) + r"_step(\d{6,})", path.stem)
            if match:
                by_step[int(match[1])] = path
        return by_step

    def _checkpoint(self, step: int) -> None:
        """Write one, and remove what is neither among the last `keep` nor the best by explained share."""
        if not self._write(self.folder / f"{self.stem}_step{step:06}{ENDING}"):
            return
        by_step = self.checkpoints()
        steps = sorted(s for s in by_step if s <= step)  # what lies beyond is of a run before this one
        best = max(steps, key=lambda s: _explained_at(self.run.trainer.readings, s))
        for old in set(by_step) - {*steps[-self.spec.keep :], best}:
            with suppress(OSError):
                by_step[old].unlink()


def _explained_at(readings: Sequence[Reading], step: int) -> float:
    """The mean explained share that was read last at that step."""
    return next((reading.mean for reading in reversed(readings) if reading.step <= step), float("-inf"))
