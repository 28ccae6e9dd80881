"""queue-worker: one process of a queue. It trains one job after another and keeps the model that they share.

In: jobs on stdin, a line of JSON each: {"words": [...], "log": "file"}. Out: what became of each on stdout, a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from ..config.checks import SliderError
from ..use.sweep_export import as_json
from .config_file import with_config
from .options import Commands, Parser, Shared
from .queue_list import DONE, FAILED, STOPPED
from .train import add_options
from .train import run as train


def add(commands: Commands, shared: Shared) -> None:
    commands.add_parser("queue-worker", parents=shared).set_defaults(run=run)


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


def run(_args: argparse.Namespace) -> dict[str, Any]:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints must not stand among the answers
    for line in sys.stdin:
        job = json.loads(line)
        with _log(Path(job["log"])) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            result = outcome(job["words"])
        answers.write(as_json(result) + "\n")
        answers.flush()
        if result["state"] == STOPPED:
            break
    return {}
