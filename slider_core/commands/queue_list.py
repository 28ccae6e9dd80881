"""A list of trainings, CSV or JSON: each row's columns are options of `train` without their dashes.

    name,dataset,prompt,steps                    [{"name": "smile", "dataset": "pairs/smile", "prompt": "a face"},
    smile,pairs/smile,a face,300                  {"name": "age", "dataset": "pairs/age", "rank": 8, "flip": true}]

In: the file, and options that all of them share. Out: jobs, each with the words of its command line.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, all_are, nearest, need, reason, shown
from ..config.names import check_file_name
from ..config.regular_files import read_json, read_text
from ..train.training_saves import ENDING
from .options import Parser
from .train import add_options

MOST_JOBS = 10_000
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"


@dataclass
class QueuedJob:
    """One training: `words` of its command line, and what became of it. `report`: what `train --json` prints."""

    name: str
    words: list[str]
    state: str = WAITING
    seconds: float = 0.0
    gpu: str = ""
    error: str = ""
    report: dict[str, Any] = field(default_factory=dict)


def known_options(common: Sequence[str]) -> list[str]:
    """The options of `train`, without their dashes. SliderError where `common` has another."""
    options = Parser(prog="queue", add_help=False)
    add_options(options)
    _, unknown = options.parse_known_args([*common, "--out=queue"])
    need(not unknown, f"{' '.join(map(shown, unknown))} is no option of queue, nor of train.", "queue.option")
    return [name.removeprefix("--") for action in options._actions for name in action.option_strings]


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() == ".json":
        rows: Any = read_json(path, "Queue", "queue.unreadable")
        listed = isinstance(rows, list) and all_are(dict, rows)
        need(listed, f"Queue {path}: a list of objects is needed, each with the options of a training.", "queue.form")
        return list(rows)
    need(path.suffix.lower() == ".csv", f"Queue {path}: a .csv or .json file is needed.", "queue.form")
    text = read_text(path, "Queue", "queue.unreadable")
    reader = csv.DictReader(io.StringIO(text, newline=None), skipinitialspace=True)
    rows = []
    try:
        for row in reader:
            extra = f"Queue {path}, line {reader.line_num}: more values than columns; put a text with commas into quotes."
            need(None not in row, extra, "queue.columns")
            rows.append(row)
    except csv.Error as fault:
        message = f"Queue {path}, line {reader.line_num}: no CSV ({reason(fault)}). Save it anew."
        raise SliderError(message, "queue.unreadable") from None
    return rows


def _words(row: dict[str, Any], options: Sequence[str], where: str) -> list[str]:
    """The row as options; what is empty or false is left out."""
    words = []
    for key, value in row.items():
        name = str(key).strip().lstrip("-").replace("_", "-")
        need(name in options, f'{where}: "{shown(name)}" is no option of train; {nearest(name, options)}', "queue.option")
        for one in value if isinstance(value, list) else [value]:
            text = "" if one is None else str(one).strip()
            if text.lower() == "true":
                words.append(f"--{name}")
            elif text and text.lower() != "false":
                words.append(f"--{name}={text}")
    return words


def read_queue(path: Path, common: Sequence[str], folder: Path) -> list[QueuedJob]:
    """The jobs of a list; a slider goes into `folder` where its row names no other place. SliderError that names the row."""
    rows = _rows(path)
    need(0 < len(rows) <= MOST_JOBS, f"Queue {path}: {len(rows)} jobs; 1 to {MOST_JOBS} are needed.", "queue.count")
    options = known_options(common)
    jobs = []
    for number, row in enumerate(rows, 1):
        where = f"Queue {path}, job {number}"
        words = _words(row, options, where)
        out = str(row.get("out") or "")
        name = str(row.get("name") or Path(out or str(row.get("dataset") or f"slider{number}")).stem)
        check_file_name(name, f"{where}: name")
        place = [] if out else [f"--out={folder / name}{ENDING}"]
        jobs.append(QueuedJob(name, ["train", "--strip", "--strip-every=0", *common, *place, f"--name={name}", *words]))
    for name, count in Counter(job.name for job in jobs).items():
        need(count == 1, f'Queue {path}: {count} jobs are named "{name}": give each a name of its own.', "queue.name_twice")
    return jobs
