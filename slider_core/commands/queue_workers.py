"""The worker processes of a queue: one for each GPU, begun anew where one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .queue_list import DONE, FAILED, RUNNING, STOPPED, QueuedJob

PACKAGE = Path(__file__).resolve().parents[1]


class Worker:
    """One process, on one GPU; an empty `gpu` leaves the choice to it."""

    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        self._process: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
            if self.gpu:
                environment["CUDA_VISIBLE_DEVICES"] = self.gpu
            self._process = subprocess.Popen(
                [sys.executable, "-m", PACKAGE.name, "queue-worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
                start_new_session=True,  # Ctrl-C comes from the queue alone, once
            )
        return self._process

    def train(self, words: Sequence[str], log: Path) -> dict[str, Any]:
        """What became of a job; where the process dies, that."""
        process = self._started()
        into, out_of = process.stdin, process.stdout
        assert into is not None
        assert out_of is not None
        try:
            into.write(json.dumps({"words": list(words), "log": str(log)}) + "\n")
            into.flush()
            answer = out_of.readline()
        except OSError:  # it died before it read
            answer = ""
        if answer:
            result: dict[str, Any] = json.loads(answer)
            return result
        code = process.wait()
        state = STOPPED if -code in (signal.SIGINT, signal.SIGTERM) or code == 130 else FAILED
        return {"state": state, "error": f"The worker process ended with code {code}: see {log}."}

    def stop(self, hard: bool = False) -> None:
        """Ask it to finish its step and end; `hard`: end it at once."""
        if self._process is None or self._process.poll() is not None:
            return
        if hard:
            self._process.kill()
        elif os.name != "nt":  # there Ctrl-C comes to every process of the console
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it when it has nothing to do."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait()


class Workers:
    """Hands out jobs in their order. `changed` is called when one begins or ends, one call at a time."""

    def __init__(self, gpus: Sequence[str], folder: Path, changed: Callable[[QueuedJob], None]) -> None:
        self.stopping = False
        self._workers = [Worker(gpu) for gpu in gpus]
        self._folder = folder
        self._changed = changed
        self._lock = threading.Lock()
        self._waiting: list[QueuedJob] = []

    def run(self, jobs: Sequence[QueuedJob], words_of: Callable[[QueuedJob], list[str]]) -> None:
        """Train them all; those that are left when a stop comes stay as they were."""
        self._waiting = list(jobs)
        threads = [threading.Thread(target=self._serve, args=(worker, words_of), daemon=True) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # in slices: a signal's handler runs between them
                thread.join(0.2)

    def stop(self) -> None:
        """The first time: each job finishes its step and is saved. The second: at once."""
        hard = self.stopping
        self.stopping = True
        for worker in self._workers:
            worker.stop(hard)

    def _next(self) -> QueuedJob | None:
        with self._lock:
            return self._waiting.pop(0) if self._waiting and not self.stopping else None

    def _serve(self, worker: Worker, words_of: Callable[[QueuedJob], list[str]]) -> None:
        while (job := self._next()) is not None:
            job.state = RUNNING
            job.gpu = worker.gpu
            self._report(job)
            result = worker.train(words_of(job), self._folder / "logs" / f"{job.name}.log")
            for name, value in result.items():
                setattr(job, name, value)
            if job.state == DONE:
                job.error = ""
            self._report(job)
        worker.close()

    def _report(self, job: QueuedJob) -> None:
        with self._lock:
            self._changed(job)
