"""The worker processes of a queue: one for each GPU, begun anew where one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from .queue_list import DONE, FAILED, RUNNING, STOPPED, QueuedJob
from .queue_worker import serve

SPAWN = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork


class Worker:
    """One process, on one GPU; an empty `gpu` leaves the choice to it."""

    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        self._process: SpawnProcess | None = None
        self._jobs: Connection | None = None
        self._stopping = False

    def _started(self) -> tuple[SpawnProcess, Connection]:
        if self._process is None or self._jobs is None or not self._process.is_alive():
            self._jobs, theirs = SPAWN.Pipe()
            self._process = SPAWN.Process(target=serve, args=(theirs, self.gpu), daemon=True)
            self._process.start()
            theirs.close()  # so that its end is noticed
        return self._process, self._jobs

    def train(self, words: Sequence[str], log: Path) -> dict[str, Any]:
        """What became of a job; where the process dies, that."""
        process, jobs = self._started()
        try:
            jobs.send((list(words), log))
            result: dict[str, Any] = jobs.recv()
        except (OSError, EOFError):
            process.join()
            state = STOPPED if self._stopping else FAILED
            return {"state": state, "error": f"The worker process ended with code {process.exitcode}: see {log}."}
        return result

    def stop(self, hard: bool = False) -> None:
        """Ask it to finish its step and end; `hard`: end it at once."""
        self._stopping = True
        if self._process is None or self._process.pid is None or not self._process.is_alive():
            return
        if hard:
            self._process.kill()
        elif os.name != "nt":  # there Ctrl-C comes to every process of the console
            os.kill(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        """End it when it has nothing to do."""
        if self._process is not None and self._jobs is not None:
            self._jobs.close()
            self._process.join()


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
            if self._waiting and not self.stopping:
                return self._waiting.pop(0)
            return None

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
