"""dev.py sets up and runs the same commands with and without make; Windows is simulated, no machine here runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import pytest

import dev

HOME = "my pictures & more"  # what a shell would take apart


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every process that dev.py would start; none is."""
    made: list[list[str]] = []

    def start(command: list[str], **options: object) -> SimpleNamespace:
        assert isinstance(command, list), "a string would be quoted differently by each system"
        assert not options.get("shell")
        made.append(command)
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(subprocess, "run", start)
    return made


def test_the_layout_of_an_environment() -> None:
    windows = dev.venv_python(PureWindowsPath(rf"C:\{HOME}\.venv"), windows=True)
    assert str(windows) == rf"C:\{HOME}\.venv\Scripts\python.exe"
    assert str(dev.venv_python(PurePosixPath(f"/{HOME}/.venv"), windows=False)) == f"/{HOME}/.venv/bin/python"


@pytest.mark.parametrize(("windows", "python"), [(True, "python.exe"), (False, "python")])
def test_a_demo_sets_itself_up_once(windows: bool, python: str, tmp_path: Path, calls: list[list[str]]) -> None:
    setup = dev.Setup(tmp_path / HOME, windows)
    (tmp_path / HOME).mkdir()
    setup.package()
    assert [command[1:3] for command in calls] == [["-m", "venv"], ["-m", "pip"]]
    assert calls[1][0] == str(setup.python)
    assert (setup.python.name, HOME in calls[1][0]) == (python, True)
    setup.package()
    assert len(calls) == 2


def test_a_changed_file_sets_up_again(tmp_path: Path, calls: list[list[str]]) -> None:
    setup, requirements = dev.Setup(tmp_path), tmp_path / "requirements.txt"
    for text, started in (("torch", 3), ("torch", 3), ("torch\ntorchvision", 6)):
        requirements.write_text(text, encoding="utf-8")
        setup.comfyui_packages(requirements)
        assert len(calls) == started
    assert len(list(tmp_path.glob(".stamp-*"))) == 1


def test_every_command_runs_files_that_are_there(calls: list[list[str]], tmp_path: Path) -> None:
    for command in dev.COMMANDS.keys() - {"clean"}:
        calls.clear()
        dev.execute(command, dev.DEFAULTS | {"VENV": str(tmp_path), "OUT": str(tmp_path / "out"), "RINGS": "core lint"})
        files = [argument for call in calls for argument in call[1:] if argument.endswith(".py")]
        assert all((dev.ROOT / name).is_file() for name in files)
        assert calls, command
        if command == "test-chaos":
            assert calls[-1][1:3] == ["-m", "chaos"]
        if command in ("test", "test-all"):
            assert calls[-1][-2:] == ["core", "lint"]


def test_clean_removes_what_was_made_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    kept, *made = [tmp_path / name for name in ("nodes", "build", "out", "nodes/__pycache__", ".venv")]
    for folder in (kept, *made):
        folder.mkdir()
    dev.execute("clean", {"VENV": ".venv", "OUT": "out", "RINGS": ""})
    assert [folder.exists() for folder in (kept, *made)] == [True, False, False, False, False]


def test_a_failure_is_the_exit_status(tmp_path: Path) -> None:
    setup = dev.Setup(tmp_path)
    setup.python = Path(sys.executable)
    with pytest.raises(SystemExit) as ended:
        setup.run("-c", "raise SystemExit(7)")
    assert ended.value.code == 7


def test_choices_come_from_the_command_the_environment_and_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGS", "lint")
    monkeypatch.setenv("COMFYUI_PATH", "before")
    monkeypatch.delenv("VENV", raising=False)
    choices = dev.read_choices(["OUT=a b", f"COMFYUI_PATH=C:\\{HOME}"])
    assert choices["VENV"] == ".venv"
    assert choices == dev.DEFAULTS | {"OUT": "a b", "RINGS": "lint"}
    assert os.environ["COMFYUI_PATH"] == f"C:\\{HOME}"
    with pytest.raises(SystemExit):
        dev.read_choices(["RING=core"])


def test_the_makefile_and_dev_have_the_same_commands() -> None:
    text = (dev.ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.search(r"^COMMANDS := (.*)$", text, flags=re.MULTILINE)[1].split()) == set(dev.COMMANDS)


def test_an_old_python_looks_for_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.sys, "version_info", (3, 8, 10))
    found = dev.newer_python()
    assert found is not None
    probe = [found, "-c", "import sys; print(sys.version_info >= (3, 10))"]
    assert subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip() == "True"
