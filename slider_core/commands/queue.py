"""queue: many sliders, one worker process for each GPU with the model loaded once; a failed job is reported, and the next begins.

    <results>/queue.json     every job: its command line, state, time, error, and what `train --json` reports
    <results>/strips.png     the strips of all that were trained, with their verdicts
    <results>/logs/<name>.log

The same command goes on with what is left: finished jobs stay, stopped ones go on where they were, failed ones are tried again.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config.checks import all_are, counted, need, shown
from ..config.regular_files import read_json
from ..lora.safe_files import atomic_write, check_writable
from ..train.interrupts import handled
from ..use.sweep_export import as_json, png
from .options import Commands, Shared, say
from .queue_list import DONE, FAILED, RUNNING, STOPPED, QueuedJob, read_queue
from .queue_sheet import contact_sheet
from .queue_workers import Workers

SUMMARY, SHEET = "queue.json", "strips.png"


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser(
        "queue", parents=shared, help="train many sliders, one after another on each GPU", allow_abbrev=False
    )
    command.add_argument("list", type=Path, help="a .csv or .json file: a row for each slider, options of train as columns")
    command.add_argument("--gpus", default="", help="numbers of GPUs, such as 0,1,2: a worker on each; one worker without it")
    command.add_argument("--results", type=Path, help="folder of the sliders and the summary; the list's name unless given")
    command.add_argument("--anew", action="store_true", help="train finished jobs again too")
    command.set_defaults(run=run)


class QueueStopped(KeyboardInterrupt):
    """Ctrl-C; what was learned is kept."""


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """What became of jobs in an earlier call, by name; nothing where there was none."""
    if not path.is_file():
        return {}
    summary: Any = read_json(path, "Queue summary", "queue.summary", 1 << 26)
    jobs: Any = summary.get("jobs") if isinstance(summary, dict) else None
    listed = isinstance(jobs, list) and all_are(dict, jobs)
    need(listed, f"{path} is no summary of a queue: move it away.", "queue.summary")
    for job in jobs:
        whole = job.get("state") != DONE or _has_result(job)
        need(
            whole,
            f'{path}: job "{shown(job.get("name"))}" is done, but lacks its result: move the summary away.',
            "queue.summary",
        )
    return {str(job.get("name")): job for job in jobs}


def _has_result(job: dict[str, Any]) -> bool:
    """Whether a finished job has all that _restore takes from it."""
    report = job.get("report")
    times = isinstance(job.get("seconds"), (int, float)) and isinstance(job.get("gpu"), str)
    return times and isinstance(report, dict) and isinstance(report.get("out"), str)


def _restore(jobs: list[QueuedJob], before: dict[str, dict[str, Any]], anew: bool) -> list[QueuedJob]:
    """The jobs that are left. A job whose options have changed is one of its own."""
    left = []
    for job in jobs:
        was = before.get(job.name, {})
        if anew or was.get("words") != job.words:
            left.append(job)
        elif was.get("state") != DONE or not Path(was["report"]["out"]).exists():
            job.state = str(was.get("state") or job.state)
            left.append(job)
        else:
            job.state, job.seconds, job.gpu, job.report = DONE, was["seconds"], was["gpu"], was["report"]
    return left


def words_of(job: QueuedJob, states: dict[str, str], anew: bool) -> list[str]:
    """Its command line; a job that was begun before goes on where it was."""
    if anew:
        return [*job.words, "--overwrite"]
    if states.get(job.name) in (RUNNING, STOPPED, FAILED):
        return [*job.words, "--resume-if-begun"]
    return job.words


def run(args: argparse.Namespace) -> dict[str, Any]:
    results = args.results or args.list.with_suffix("")
    need(results != args.list, f"--results {results} is the list itself: name a folder.", "queue.results")
    jobs = read_queue(args.list, args.common, results)
    check_writable(results, SUMMARY, SHEET)
    before = {} if args.anew else earlier(results / SUMMARY)
    left = _restore(jobs, before, args.anew)
    states = {job.name: job.state for job in left}
    gpus = [gpu.strip() for gpu in args.gpus.split(",") if gpu.strip()]
    need(all(map(str.isdigit, gpus)), f'--gpus "{args.gpus}": numbers with commas between are needed.', "queue.gpus")
    gpus = gpus or [""]
    say(f"{len(jobs)} jobs, {len(jobs) - len(left)} of them finished before; {counted(len(gpus), 'worker')}.")

    def changed(job: QueuedJob) -> None:
        _write(results, jobs)
        line = f"{job.name}: {job.state}"
        if job.gpu:
            line += f" on GPU {job.gpu}"
        if job.state != RUNNING:
            line += f" after {job.seconds:.0f} s"
        say(f"{line}. {job.error or job.report.get('verdict', '')}".rstrip())

    workers = Workers(gpus[: max(1, len(left))], results, changed)
    with handled(lambda *_: workers.stop()):
        workers.run(left, lambda job: words_of(job, states, args.anew))
    return _end(results, jobs, workers.stopping)


def _write(results: Path, jobs: list[QueuedJob]) -> dict[str, Any]:
    counts = Counter(job.state for job in jobs)
    summary = {"counts": dict(counts), "jobs": [asdict(job) for job in jobs]}
    atomic_write(results / SUMMARY, as_json(summary, indent=1).encode(), overwrite=True)
    return summary


def _end(results: Path, jobs: list[QueuedJob], stopped: bool) -> dict[str, Any]:
    summary = _write(results, jobs)
    sheet = contact_sheet(jobs)
    if sheet is not None:
        atomic_write(results / SHEET, png(sheet), overwrite=True)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(summary["counts"].items()))
    if stopped:
        raise QueueStopped(f"Stopped: {counts}. The same command goes on.")
    say(f"{counts}. Summary: {results / SUMMARY}.{f' Strips: {results / SHEET}.' if sheet else ''}")
    return summary | {"exit_code": int(any(job.state != DONE for job in jobs))}
