"""One process of a queue. It trains one job after another and keeps the model that they share.

In, over a connection: (command line, log file) of each job. Out: what became of it, a dict.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from ..config.checks import SliderError
from .config_file import with_config
from .options import Parser
from .queue_list import DONE, FAILED, STOPPED
from .train import add_options
from .train import run as train


class OptionError(Exception):
    """What argparse objects to."""


class _Options(Parser):
    def error(self, message: str) -> Any:
        raise OptionError(message)


def outcome(words: list[str]) -> dict[str, Any]:
    """Train one job. What became of it: whatever goes wrong is an outcome, and the next job begins."""
    begun = time.monotonic()
    try:
        options = _Options(prog="train")
        add_options(options)
        report = train(options.parse_args(with_config(words)[1:]))
        result: dict[str, Any] = {"state": DONE, "report": report}
    except KeyboardInterrupt as stop:
        result = {"state": STOPPED, "error": str(stop) or "Stopped."}
    except (SliderError, OptionError, OSError) as fault:
        result = {"state": FAILED, "error": str(fault)}
    except Exception as fault:  # of torch or ComfyUI
        traceback.print_exc()
        result = {"state": FAILED, "error": f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"}
    return result | {"seconds": round(time.monotonic() - begun, 2)}


def _log(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


def serve(jobs: Connection, gpu: str) -> None:
    """Train what comes until the other end closes. `gpu`: the number of the only one that this process sees; empty, all."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C comes from the queue alone, once
    os.dup2(2, 1)  # the queue's own output holds nothing of a worker's
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    while True:
        try:
            words, log_file = jobs.recv()
        except (EOFError, KeyboardInterrupt):
            return
        with _log(log_file) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            result = outcome(words)
        jobs.send(result)
        if result["state"] == STOPPED:
            return
