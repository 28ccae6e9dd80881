"""Keeps a run on disk while it trains: the slider as a file that any loader reads, the run to go on with, checkpoints.

    <folder>/<name>.safetensors                 the slider, at the last autosave
    <folder>/<name>.run.safetensors             what it takes to go on exactly (resume.py)
    <folder>/<name>_step000100.safetensors      a checkpoint, a slider too

Every file is written beside its place and renamed, so a program that is killed leaves the old one or the new one. A disk that is
full does not stop the training: what cannot be saved is told, and tried again at the next autosave.
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..config.checks import SliderError
from ..config.training import SaveSpec
from ..lora.slider_file import save_slider
from .progress import Reading
from .training_file import save_run
from .training_run import Run

LONGEST = 80  # characters of a name in a file name
ENDING, RUN_ENDING = ".safetensors", ".run.safetensors"


def file_stem(name: str) -> str:
    """A slider's name as a file name of its own, on every system."""
    plain = re.sub(r"[^\w .-]", "_", name)[:LONGEST].strip(" .")
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)?(\..*)?", plain) is not None
    return plain if plain == name and not reserved else f"{plain or 'slider'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def run_file(root: Path, name: str) -> Path:
    """Where the run of that name is kept under `root`: in a folder of its own."""
    stem = file_stem(name)
    return root / stem / f"{stem}{RUN_ENDING}"


class Autosave:
    """A context around a run's training. Leaving it saves what was learned, whatever ended the training."""

    def __init__(self, run: Run, root: Path, spec: SaveSpec) -> None:
        self.run, self.spec = run, spec
        self.file = run_file(root, run.name)
        self.folder, self.stem = self.file.parent, file_stem(run.name)
        self.trouble = ""  # why the last attempt failed
        self._when = time.monotonic()

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
        if self.spec.every and step % self.spec.every == 0:
            self._checkpoint(step)
        if time.monotonic() - self._when >= self.spec.seconds:
            self.save()

    def save(self) -> None:
        """Save the run and the slider as they stand. What goes wrong is in `trouble`."""
        try:
            save_run(self.file, self.run.name, self.run.fingerprint, self.run.trainer)
            self.run.saved, self.trouble = self.run.step, ""
        except SliderError as fault:
            self.trouble = str(fault)
        else:
            self.save_slider()
        self._when = time.monotonic()

    def save_slider(self) -> None:
        """Save the slider alone: when it has changed but for its training, as by a calibration."""
        self._write(self.slider_file)

    def _write(self, path: Path) -> bool:
        """Whether the slider could be written there."""
        try:
            save_slider(path, self.run.slider(), overwrite=True)
        except SliderError as fault:
            self.trouble = str(fault)
            return False
        return True

    def summary(self) -> str:
        """One sentence for the user."""
        if self.trouble:
            return f"Not saved: {self.trouble}"
        return f"Saved up to step {self.run.saved} in {Path(*self.folder.parts[-3:]).as_posix().lstrip('/')}/."

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints there are, by step."""
        found = {p: re.fullmatch(re.escape(self.stem) + r"_step(\d{6,})", p.stem) for p in self.folder.glob(f"*{ENDING}")}
        return {int(match[1]): path for path, match in sorted(found.items()) if match}

    def _checkpoint(self, step: int) -> None:
        """Write one, and let go of what is neither among the last `keep` nor the best by gain."""
        if not self._write(self.folder / f"{self.stem}_step{step:06}{ENDING}"):
            return
        there = self.checkpoints()
        mine = sorted(s for s in there if s <= step)  # what lies beyond is of a run before this one
        best = max(mine, key=lambda s: _gain_at(self.run.trainer.readings, s))
        for gone in set(there) - {*mine[-self.spec.keep :], best}:
            with suppress(OSError):
                there[gone].unlink()


def _gain_at(readings: list[Reading], step: int) -> float:
    """The mean gain that was read last at that step."""
    return next((reading.mean for reading in reversed(readings) if reading.step <= step), float("-inf"))
