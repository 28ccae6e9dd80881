"""Work in forked processes: torch is imported once, by the parent, which must never run a backward pass (torch forbids it after a
fork from one that has). A trial is a process; the lives that it kills are processes of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROKE = 70  # exit status of work that ended in a traceback
PACKAGES = ("slider_core", "torch/optim", "prodigyopt", "schedulefree", "safetensors")


def forked(work: Callable[[], int | None], log: Path) -> int:
    """The id of a process that does `work`; its exit status is what that returns, and what it prints goes into `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = BROKE
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else BROKE
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def ended(child: int) -> int:
    """The exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def all_of(trials: Iterable[Callable[[], dict[str, Any]]], at_once: int) -> list[dict[str, Any]]:
    """What each of the trials returns, as JSON takes it; {"fault": text} for one that broke."""
    waiting = list(enumerate(trials))[::-1]
    results: dict[int, dict[str, Any]] = {}
    running: dict[int, tuple[int, Path]] = {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, trial = waiting.pop()
                place = Path(folder) / str(number)

                def work(trial: Callable[[], dict[str, Any]] = trial, place: Path = place) -> None:
                    place.write_text(json.dumps(trial()))

                running[forked(work, place.with_suffix(".log"))] = number, place
            child, _ = os.waitpid(-1, 0)
            number, place = running.pop(child)
            log = place.with_suffix(".log")
            broke = {"fault": log.read_text(errors="replace")[-6000:] if log.exists() else "nothing was returned"}
            results[number] = json.loads(place.read_text()) if place.exists() else broke
    return [results[number] for number in sorted(results)]


class Lines:
    """Counts the lines that are run of the packages above, and does something at chosen ones: with the same seed, the same."""

    def __init__(self, acts: dict[int, Callable[[], None]]) -> None:
        self.acts = acts
        self.count = 0

    def trace(self, frame: Any, event: str, _value: Any) -> Any:
        if event == "call":
            return self.trace if any(name in frame.f_code.co_filename for name in PACKAGES) else None
        if event == "line":
            self.count += 1
            act = self.acts.pop(self.count, None)
            if act is not None:
                act()
        return self.trace

    @contextmanager
    def counted(self) -> Any:
        sys.settrace(self.trace)
        try:
            yield self
        finally:
            sys.settrace(None)


def signalled(child: int, numbers: Iterable[int], gaps: Iterable[float]) -> int:
    """Send these signals to the process, each after its gap in seconds; none to one that has ended. How many were sent."""
    sent = 0
    for number, gap in zip(numbers, gaps, strict=True):
        end = time.monotonic() + gap
        while time.monotonic() < end:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return sent
            time.sleep(0.002)
        os.kill(child, number)
        sent += 1
    return sent


def limit_memory(more: int) -> None:
    """This process may take that many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
