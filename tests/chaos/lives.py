"""Trainings on the embedded model that are killed, interrupted, starved of disk, or run beside another of the same name.

What a life leaves is read whole, and compared bit for bit with a run that nobody disturbed: every slider with the checkpoint of
its step, and the end of the run that goes on from there.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chaos.forks import Lines, all_of, ended, forked, signalled

import slider_core.__main__ as program
from slider_core.commands import train as train_command
from slider_core.config.lora import AdapterSpec, Algorithm, FileFormat
from slider_core.config.training import Optimizer, TrainSpec
from slider_core.layers.select import survey
from slider_core.lora.formats.native import to_native
from slider_core.lora.safe_files import LEFTOVER, tidy
from slider_core.lora.safetensors_file import tensor_hash
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, load_slider, save_slider
from slider_core.train.optimizers import PACKAGES, moments_of
from slider_core.train.training_file import load_run
from slider_core.train.training_saves import Autosave
from slider_core.with_tiny.model import TinyBackend

STEPS = 4
ODD_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EACCES, errno.EROFS, errno.ENODEV)
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir"}
STOPPED = re.compile(r"Stopped after step (\d+)\. Saved up to step (\d+)")
SENT = "[a signal]\n"


@dataclass(frozen=True)
class Choice:
    """An optimizer, an algorithm, and options that go with them."""

    optimizer: str
    algorithm: str
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.optimizer}-{self.algorithm}"

    @property
    def rate(self) -> float:
        return 1.0 if self.optimizer == Optimizer.PRODIGY.value else 1e-3


def choices() -> list[Choice]:
    """Every optimizer whose package is installed with every algorithm; options of training in turn."""
    there = [kind for kind in Optimizer if kind not in PACKAGES or find_spec(PACKAGES[kind])]
    options = (("--ema", "0.9"), ("--accumulate", "2"), (), ("--schedule", "constant", "--warmup", "2"), ("--dropout", "0.2"))
    chosen = []
    for number, (kind, algorithm) in enumerate(itertools.product(there, Algorithm)):
        own = options[1:] if kind is Optimizer.SCHEDULE_FREE else options  # it averages by itself
        chosen.append(Choice(kind.value, algorithm.value, own[number % len(own)]))
    return chosen


def prepare(root: Path) -> None:
    """The dataset, and what a training imports late: without a backward pass."""
    code = program.main(["demo-data", "--attribute", "mouth", "--pairs", "1", "--out", str(root / "dataset")])
    if code:
        raise RuntimeError("demo-data failed")
    module = TinyBackend().module
    for choice in choices():
        spec = AdapterSpec(rank=2, algorithm=choice.algorithm)
        adapter = Adapter.create(module, survey(module, spec).targets[:1], spec)
        moments_of(TrainSpec(optimizer=choice.optimizer, lr=choice.rate), adapter.parameters()[0])


def trained(root: Path, folder: Path, choice: Choice, *more: str, save_s: float = 0.0, every: int = 2) -> int:
    """One life of the command line's training, saving every `save_s` seconds; its exit status."""
    train_command.Autosave = lambda run, root, spec: Autosave(run, root, replace(spec, seconds=save_s))
    size = ["--rank", "2", "--batch", "2", "--steps", str(STEPS), "--lr", str(choice.rate), "--any-rate", "--no-calibration"]
    kind = ["--optimizer", choice.optimizer, "--algorithm", choice.algorithm, *choice.options]
    keep = ["--checkpoint-every", str(every), "--checkpoints-kept", "1000"]
    data = ["--dataset", str(root / "dataset"), "--out", str(folder / "s.safetensors")]
    return program.main(["train", *data, *size, *kind, *keep, *more])


def hit(number: int) -> None:
    os.write(1, SENT.encode())
    os.kill(os.getpid(), number)


def going_on(root: Path, folder: Path, choice: Choice, *more: str) -> int:
    """The life after another: from its saved run where there is one, else from the beginning."""
    saved = folder / "runs" / "s" / "s.run.safetensors"
    return trained(root, folder, choice, *(["--resume"] if saved.is_file() else ["--overwrite"]), *more)


def weights(path: Path) -> str:
    return hashed(load_slider(path))


def hashed(slider: Slider) -> str:
    return tensor_hash(to_native(slider.cut().weights))


def stopped_at(root: Path, folder: Path, choice: Choice, step: int) -> None:
    """A life that is killed when the checkpoint of that step is there."""
    child = forked(partial(going_on, root, folder, choice), folder / "before.log")
    checkpoint = folder / "runs" / "s" / f"s_step{step:06}.safetensors"
    while not checkpoint.exists() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    ended(child)


def straight(root: Path, choice: Choice) -> dict[str, Any]:
    """A run that nobody disturbs: the hash of the weights at each step, lines of code, seconds."""
    folder = root / "straight" / choice.name
    folder.mkdir(parents=True)

    def life() -> int:
        start = time.monotonic()
        with Lines({}).counted() as lines:
            code = trained(root, folder, choice, every=1)
        (folder / "lines").write_text(f"{lines.count} {time.monotonic() - start}")
        return code

    log = folder / "log"
    code = ended(forked(life, log))
    if code:
        return {"fault": f"{choice}: exit {code}\n{log.read_text()}"}
    count, seconds = (folder / "lines").read_text().split()
    steps = {str(load_slider(path).info.step): weights(path) for path in (folder / "runs" / "s").glob("s_step*.safetensors")}
    return {"steps": steps, "end": weights(folder / "s.safetensors"), "lines": int(count), "seconds": float(seconds)}


def faults_in(folder: Path, known: dict[str, Any], leftovers: bool) -> list[str]:
    """What is wrong with the files that a life has left."""
    faults = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix in (".log", ".txt"):
            continue
        try:
            if LEFTOVER.fullmatch(path.name):
                if not leftovers:
                    faults.append(f"{path.name} was left behind")
            elif path.name.endswith(".run.safetensors"):
                load_run(path)
            else:
                slider = load_slider(path)
                if hashed(slider) != known["steps"].get(str(slider.info.step)):
                    faults.append(f"{path.name} is not the slider of step {slider.info.step}")
        except Exception as fault:
            faults.append(f"{path.name} cannot be read: {fault}")
    return faults


def words_in(log: Path) -> list[str]:
    """What no user should read."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [f"{word} in the output:\n{text[-3000:]}" for word in ("Traceback", "[Errno") if word in text]


def goes_on(root: Path, folder: Path, choice: Choice, known: dict[str, Any]) -> list[str]:
    """Another life, which must end as the run that nobody disturbed."""
    log = folder / "after.log"
    code = ended(forked(lambda: going_on(root, folder, choice), log))
    if code:
        return [f"going on: exit {code}\n{log.read_text(errors='replace')[-3000:]}"]
    if weights(folder / "s.safetensors") != known["end"]:
        return ["the resumed run ends with other weights"]
    return faults_in(folder, known, leftovers=True) + words_in(log)


def killed(root: Path, choice: Choice, known: dict[str, Any], seed: int) -> dict[str, Any]:
    """kill -9, at a line of the code or at a time of the clock; the second time while it goes on."""
    draw = random.Random(seed)
    folder = root / f"kill {seed}"
    folder.mkdir()
    faults = []
    kills = 0
    for number in range(draw.choice((1, 1, 2))):
        log = folder / f"{number}.log"
        if draw.random() < 0.5:
            at = {draw.randrange(1, int(0.8 * known["lines"])): partial(hit, signal.SIGKILL)}
            kills += ended(forked(partial(_traced, at, root, folder, choice), log)) == -signal.SIGKILL
        else:
            child = forked(partial(going_on, root, folder, choice), log)
            signalled(child, [signal.SIGKILL], [draw.uniform(0, 0.6 * known["seconds"])])
            kills += ended(child) == -signal.SIGKILL
        faults += faults_in(folder, known, leftovers=True)
    return {"trial": f"kill {seed} {choice}", "tried": kills, "faults": faults + goes_on(root, folder, choice, known)}


def _traced(acts: dict[int, Callable[[], None]], root: Path, folder: Path, choice: Choice) -> int:
    with Lines(acts).counted():
        return going_on(root, folder, choice)


def interrupted(root: Path, choice: Choice, known: dict[str, Any], seed: int) -> dict[str, Any]:
    """Ctrl-C or SIGTERM twice, sometimes three times: at lines of the code, or at times of the clock."""
    draw = random.Random(seed)
    folder = root / f"interrupt {seed}"
    folder.mkdir()
    log = folder / "0.log"
    numbers = [draw.choice((signal.SIGINT, signal.SIGTERM)) for _ in range(2)]
    if draw.random() < 0.7:
        first = draw.randrange(known["lines"] // 10, int(0.6 * known["lines"]))
        second = first + draw.choice((1, 2, draw.randrange(1, 100), draw.randrange(1, known["lines"] // 5)))
        lines = zip((first, second), numbers, strict=True)
        acts = {line: partial(hit, number) for line, number in lines}
        code = ended(forked(partial(_traced, acts, root, folder, choice), log))
        sent = log.read_text(errors="replace").count(SENT)
    else:
        numbers += [draw.choice(numbers)] * draw.choice((0, 0, 1))
        child = forked(partial(going_on, root, folder, choice), log)
        gaps = [draw.uniform(0, 0.4 * known["seconds"]), *(draw.expovariate(20) for _ in numbers[1:])]
        sent = signalled(child, numbers, gaps)
        code = ended(child)
    allowed = (0, 130, -signal.SIGTERM, -signal.SIGINT)
    faults = [] if code in allowed else [f"exit {code}:\n{log.read_text(errors='replace')[-3000:]}"]
    faults += faults_in(folder, known, leftovers=code == -signal.SIGTERM or sent > 2) + words_in(log)
    told = STOPPED.search(log.read_text(errors="replace"))
    run = folder / "runs" / "s" / "s.run.safetensors"
    if told and load_run(run).step != int(told[2]):
        faults.append(f"said that step {told[2]} is saved, and step {load_run(run).step} is")
    if told and sent == 2 and told[1] != told[2]:  # a third one may interrupt the save
        faults.append(f"step {told[1]} was finished, and {told[2]} is saved")
    faults += goes_on(root, folder, choice, known)
    return {"trial": f"interrupt {seed} {choice}", "tried": int(sent > 1), "faults": faults}


class FailingDisk:
    """From its n-th use on, a folder answers with an error of the system: once, or for good as a network drive that is gone."""

    def __init__(self, folder: Path, first: int, number: int, for_good: bool) -> None:
        self.folder = str(folder)
        self.first, self.number, self.for_good = first, number, for_good
        self.uses = 0

    def due(self) -> OSError | None:
        self.uses += 1
        due = self.uses == self.first or (self.for_good and self.uses > self.first)
        return OSError(self.number, os.strerror(self.number), self.folder) if due else None

    def audit(self, event: str, values: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and values and isinstance(values[0], (str, bytes, os.PathLike)):
            fault = self.due() if os.fsdecode(values[0]).startswith(self.folder) else None
            if fault:
                raise fault

    def install(self) -> None:
        sys.addaudithook(self.audit)
        plain = os.stat, os.fsync

        def stat(path: Any, *more: Any, **how: Any) -> os.stat_result:
            inside = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder)
            fault = self.due() if inside else None
            if fault:
                raise fault
            return plain[0](path, *more)

        def fsync(handle: int) -> None:
            fault = self.due()
            if fault:
                raise fault
            plain[1](handle)

        os.stat, os.fsync = stat, fsync


def starved(root: Path, choice: Choice, known: dict[str, Any], seed: int) -> dict[str, Any]:
    """A disk that is full, or fails: from a size on, at one use of it, or for good. A life before may have left files there."""
    draw = random.Random(seed)
    folder = root / f"disk {seed}"
    folder.mkdir()
    if draw.random() < 0.5:
        stopped_at(root, folder, choice, 2)
    log = root / f"{seed}.disk.log"

    def life() -> int:
        if draw.random() < 0.3:
            most = draw.randrange(20_000, 200_000)  # less would not take the log
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        else:
            gone = draw.choice((folder, folder, root / "dataset"))
            disk = FailingDisk(gone, draw.randrange(1, 300), draw.choice(ODD_ERRORS), draw.random() < 0.5)
            disk.install()
        return going_on(root, folder, choice)

    code = ended(forked(life, log))
    faults = [] if code in (0, 2) else [f"exit {code}:\n{log.read_text(errors='replace')[-3000:]}"]
    faults += faults_in(folder, known, leftovers=True) + words_in(log)
    return {"trial": f"disk {seed} {choice}", "faults": faults + goes_on(root, folder, choice, known)}


def beside(root: Path, choice: Choice, known: dict[str, Any], seed: int) -> dict[str, Any]:
    """Two processes on one name, from one saved run: both end well, and what each has learned lies on the disk."""
    draw = random.Random(seed)
    folder = root / f"two {seed}"
    folder.mkdir()
    stopped_at(root, folder, choice, 2)
    faults = []
    saves = draw.choice((0.0, 100.0))

    def life(wait: float) -> int:
        time.sleep(wait)
        return trained(root, folder, choice, "--resume", save_s=saves)

    logs = [folder / "1.log", folder / "2.log"]
    both = [forked(partial(life, draw.uniform(0, 0.3) * known["seconds"]), log) for log in logs]
    for child, log in zip(both, logs, strict=True):
        code = ended(child)
        faults += [] if code == 0 else [f"exit {code}:\n{log.read_text()[-3000:]}"]
        faults += words_in(log)
    runs = [load_run(path) for path in (folder / "runs").glob("*/*.run.safetensors")]
    kept = sorted((run.name, run.step) for run in runs)
    if [step for _, step in kept] not in ([STEPS], [STEPS, STEPS]):  # one: the second began when the first had ended
        faults.append(f"kept: {kept}")
    for path in folder.glob("s*.safetensors"):
        if weights(path) != known["end"]:
            faults.append(f"{path.name} has other weights")
    return {"trial": f"two {seed} {choice}", "faults": faults}


def folder_killed(root: Path, choice: Choice, _known: dict[str, Any], seed: int) -> dict[str, Any]:
    """kill -9 while a PEFT folder takes the place of another: one of the two is read afterwards, and nothing stays for ever."""
    draw = random.Random(seed)
    folder = root / f"folder {seed}"
    folder.mkdir()
    module = TinyBackend().module
    spec = AdapterSpec(rank=2)
    targets = survey(module, spec).targets[:2]
    sliders = [Slider(Adapter.create(module, targets, spec, seed=number).weights()) for number in range(2)]
    place = folder / "smile"

    def life(acts: dict[int, Callable[[], None]]) -> None:
        with Lines(acts).counted() as lines:
            for slider in (sliders[0], sliders[1], sliders[0]):
                save_slider(place, slider, form=FileFormat.PEFT, overwrite=True)
        (folder / "lines.txt").write_text(str(lines.count))

    ended(forked(partial(life, {}), folder / "0.log"))
    count = int((folder / "lines.txt").read_text())
    at = {draw.randrange(count // 3, count): partial(hit, signal.SIGKILL)}
    ended(forked(partial(life, at), folder / "1.log"))
    faults = words_in(folder / "0.log")
    old = time.time() - 2 * 24 * 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    if draw.random() < 0.5:
        tidy(folder)
    try:
        weights(place)
    except Exception as fault:
        faults.append(f"the folder cannot be read: {fault}")
    tidy(folder)
    left = [path.name for path in folder.iterdir() if LEFTOVER.fullmatch(path.name)]
    return {"trial": f"folder {seed}", "faults": faults + [f"{name} stays" for name in left]}


KINDS: dict[str, Callable[[Path, Choice, dict[str, Any], int], dict[str, Any]]] = {
    "kill -9 of a training": killed,
    "two or three interrupts of a training": interrupted,
    "full or failing disk under a training": starved,
    "two processes on one name": beside,
    "kill -9 while a PEFT folder is replaced": folder_killed,
}


def lives(root: Path, counts: dict[str, int], seed: int, at_once: int) -> dict[str, list[dict[str, Any]]]:
    """The results of so many trials of each kind."""
    prepare(root)
    draw = random.Random(seed)
    every = choices()
    draw.shuffle(every)
    every = every[: max(counts.values())]
    known = dict(zip(every, all_of([partial(straight, root, choice) for choice in every], at_once), strict=True))
    broken = [result for result in known.values() if "fault" in result]
    if broken:
        return {"runs that nobody disturbs": broken}
    results = {}
    for kind, count in counts.items():
        trials = []
        for number in range(count):
            choice = every[number % len(every)]
            trials.append(partial(KINDS[kind], root, choice, known[choice], draw.randrange(10**6) * 1000 + number))
        results[kind] = all_of(trials, at_once)
    return results
