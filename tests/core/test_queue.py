"""queue: jobs in their order, a broken one in the middle, stop and going on, on workers that are processes of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core.faults import refused
from PIL import Image

from slider_core.__main__ import main
from slider_core.commands import queue_sheet, queue_workers
from slider_core.commands.queue import SHEET, SUMMARY, earlier
from slider_core.commands.queue_list import DONE, QueuedJob, read_queue
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs

COMMON = ["--steps", "2", "--rank", "1", "--no-calibration", "--lr", "0.002", "--any-rate", "--sample-steps", "1"]


@pytest.fixture
def queue(tmp_path: Path) -> Callable[..., int]:
    """(options) -> exit code of a queue of three jobs, the second of which has no dataset."""
    write_pairs(tmp_path / "pairs", make_pairs("mouth", 2, 0))
    rows = [f"first,{tmp_path / 'pairs'}", f"broken,{tmp_path / 'gone'}", f"third,{tmp_path / 'pairs'}"]
    (tmp_path / "list.csv").write_text("\n".join(["name,dataset", *rows]), encoding="utf-8")
    return lambda *words: main(["queue", str(tmp_path / "list.csv"), *COMMON, *words])


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Workers that train nothing, and the command lines that they were given."""
    given: list[list[str]] = []

    def train(_self: object, words: list[str], _log: Path) -> dict[str, Any]:
        given.append(list(words))
        options = dict(word.split("=", 1) for word in words if "=" in word)
        if not Path(options["--dataset"]).is_dir():
            return {"state": "failed", "error": options["--dataset"], "seconds": 1.0}
        Path(options["--out"]).touch()
        return {"state": "done", "seconds": 1.0, "report": {"out": options["--out"]}}

    monkeypatch.setattr(queue_workers.Worker, "train", train)
    return given


def states(tmp_path: Path) -> dict[str, str]:
    return {job["name"]: job["state"] for job in json.loads((tmp_path / "list" / SUMMARY).read_text())["jobs"]}


def test_a_failed_job_is_reported_and_the_others_are_trained_on_workers_of_their_own(queue, tmp_path: Path, capsys) -> None:
    assert queue("--gpus", "0,1") == 1
    assert states(tmp_path) == {"first": "done", "broken": "failed", "third": "done"}
    jobs = {job["name"]: job for job in json.loads((tmp_path / "list" / SUMMARY).read_text())["jobs"]}
    assert str(tmp_path / "gone") in jobs["broken"]["error"]
    assert {job["gpu"] for job in jobs.values()} == {"0", "1"}
    assert jobs["third"]["report"]["steps"] == 2
    assert (tmp_path / "list" / "third.safetensors").is_file()
    assert "Step 2" in (tmp_path / "list" / "logs" / "first.log").read_text()
    with Image.open(tmp_path / "list" / SHEET) as sheet, Image.open(jobs["first"]["report"]["strip"]) as strip:
        assert sheet.height > 2 * strip.height * (sheet.width - 16) / strip.width


def test_the_same_command_goes_on_with_what_is_left(queue, in_process, tmp_path: Path, monkeypatch) -> None:
    assert queue() == 1
    write_pairs(tmp_path / "gone", make_pairs("eyes", 2, 0))
    assert queue() == 0
    assert in_process[3:] == [[*in_process[1], "--resume-if-begun"]]
    assert set(states(tmp_path).values()) == {"done"}
    assert queue() == 0
    assert len(in_process) == 4, "nothing was left"
    assert queue("--anew") == 0
    assert len(in_process) == 7


def test_a_stopped_queue_keeps_what_was_learned_and_goes_on(queue, in_process, tmp_path: Path, monkeypatch, capsys) -> None:
    from slider_core.commands import queue as command

    with monkeypatch.context() as patch:
        real = command.Workers._report

        def report(self: Any, job: Any) -> None:
            real(self, job)
            if job.name == "first" and job.state == "done":
                self.stop()

        patch.setattr(command.Workers, "_report", report)
        assert queue() == 130
    assert states(tmp_path) == {"first": "done", "broken": "waiting", "third": "waiting"}
    assert queue() == 1
    assert states(tmp_path) == {"first": "done", "broken": "failed", "third": "done"}


@pytest.mark.parametrize(
    "job",
    [
        "first",
        {"name": "first", "state": "done"},
        {"name": "first", "state": "done", "seconds": 1.0, "gpu": "", "report": {}},
        {"name": "first", "state": "done", "seconds": "1", "gpu": "", "report": {"out": "first.safetensors"}},
    ],
)
def test_a_summary_that_was_edited_into_nothing_clear_is_refused_and_kept(tmp_path: Path, job: Any) -> None:
    path = tmp_path / SUMMARY
    path.write_text(json.dumps({"jobs": [job]}), encoding="utf-8")
    with refused("queue.summary", path):
        earlier(path)
    assert path.is_file()


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.csv", "name,datsaet\na,b", "queue.option"),
        ("a.csv", "name,dataset\na,b,c", "queue.columns"),
        ("a.csv", f"name,dataset\na,{'b' * 200_000}", "queue.unreadable"),
        ("a.csv", "name,dataset\na,b\na,c", "queue.name_twice"),
        ("a.csv", "name,dataset", "queue.count"),
        ("a.json", '{"name": "a"}', "queue.form"),
        ("a.json", "[1]", "queue.form"),
        ("a.txt", "", "queue.form"),
    ],
)
def test_a_list_that_says_nothing_clear_is_refused(tmp_path: Path, name: str, text: str, code: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with refused(code, name):
        read_queue(tmp_path / name, [], tmp_path)


def test_a_row_of_json_gives_flags_lists_and_its_own_place(tmp_path: Path) -> None:
    row = {"dataset": "d", "out": "x/y.safetensors", "flip": True, "no_calibration": False, "exclude": ["a", "b"], "rank": 8}
    (tmp_path / "l.json").write_text(json.dumps([row]), encoding="utf-8")
    (job,) = read_queue(tmp_path / "l.json", ["--steps", "3"], tmp_path)
    assert job.name == "y"
    assert {"--flip", "--exclude=a", "--exclude=b", "--rank=8", "--out=x/y.safetensors", "--steps"} <= set(job.words)
    assert "--no-calibration" not in " ".join(job.words)
    with refused("queue.option", "--stps"):
        read_queue(tmp_path / "l.json", ["--stps", "3"], tmp_path)


def test_a_contact_sheet_that_would_be_too_tall_says_how_many_it_leaves_out(tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (900, 100)).save(tmp_path / "strip.png")
    jobs = [QueuedJob(str(number), [], DONE, report={"strip": str(tmp_path / "strip.png")}) for number in range(3)]
    whole = queue_sheet.contact_sheet(jobs)
    assert whole.height == 8 + 3 * (24 + 100 + 8)
    monkeypatch.setattr(queue_sheet, "TALLEST", whole.height - 1)
    cut = queue_sheet.contact_sheet(jobs)
    assert cut.height == 8 + 2 * (24 + 100 + 8) + 24
    assert len(cut.crop((0, cut.height - 24, cut.width, cut.height)).getcolors()) > 1, "a line of text"
