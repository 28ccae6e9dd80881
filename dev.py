"""The project's commands, the same on Linux, macOS and Windows, with nothing but a Python of 3.10 or newer.

    python dev.py demo     train a slider on the built-in model and draw its strip
    python dev.py test     every ring of tests that can run here
    python dev.py          all commands

Each sets itself up first, in a virtual environment of its own, and again only when pyproject.toml (or ComfyUI's requirements.txt)
has changed. The Makefile calls this file. Choices are environment variables, or NAME=value behind the command:

    VENV=.venv  OUT=demo-out  RINGS="core lint"  SEED=0  COMFYUI_PATH=...  CHROMIUM_PATH=...
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePath
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 10)
OTHERS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python")
BENCHMARKS = ("start", "encoding", "sweep", "step", "scaling")
SHORT = {  # the same questions at sizes that two cores answer in about ten minutes
    "start": "--repeat 1",
    "encoding": "--pairs 2 --side 128 --repeat 1",
    "sweep": "--model demo --repeat 5",
    "step": "--latent 16 --steps 2 --repeat 1 --only floor ours default core",
}
MADE = ("build", ".pytest_cache", ".ruff_cache", ".mypy_cache", "slider_lora.egg-info")
DEFAULTS = {"VENV": ".venv", "OUT": "demo-out", "RINGS": "", "SEED": "0"}
COMMANDS = {
    "demo": "train a slider on the built-in model and draw its strip, into OUT (sets itself up; needs no ComfyUI)",
    "test": 'every test ring that can run here, then a summary (RINGS="core lint" picks some)',
    "test-all": "the same with every combination that test tries in turn: an hour or two",
    "test-chaos": "kills, interrupts, failing disks, hostile inputs, from a seed: ten minutes or so (SEED=1 tries others)",
    "lint": "ruff check, ruff format --check, mypy",
    "coverage": "which lines of slider_core the core ring reaches: a table, and pages in build/coverage",
    "bench": "a step, a sweep, encoding and ComfyUI's start against their peers, as ratios: ten minutes or so; needs ComfyUI",
    "bench-long": "the same at full size and several times, with a step's scaling: an hour or two",
    "bench-quality": "which objective makes the best slider: some hours on two cores, goes on where it was stopped",
    "bench-smoke": "what a step and a run cost in counts, against the recorded ones",
    "setup": "the virtual environment VENV with everything that test needs",
    "clean": "remove what the commands made (VENV too)",
}


def venv_python(venv: PurePath, windows: bool) -> PurePath:
    """The interpreter of a virtual environment: Windows has another layout."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def stop(message: str) -> NoReturn:
    sys.stderr.write(f"dev.py: {message}\n")
    raise SystemExit(1)


class Setup:
    """A virtual environment, filled in stages; a stage's stamp is a file named by the checksum of what it was made from."""

    def __init__(self, venv: Path, windows: bool = os.name == "nt") -> None:
        self.venv = venv
        self.python = Path(venv_python(venv, windows))

    def run(self, *arguments: str, **environment: str) -> None:
        """One process of the environment's Python in the checkout; a failure ends everything with its exit status."""
        # one thread: a tiny model gains nothing from a second one, and threads that wait for each other cost minutes
        env = {"OMP_NUM_THREADS": "1"} | os.environ | environment
        done = subprocess.run([str(self.python), *arguments], cwd=ROOT, env=env, check=False)
        if done.returncode:
            raise SystemExit(done.returncode)

    def pip(self, *arguments: str) -> None:
        self.run("-m", "pip", "--disable-pip-version-check", "install", "-qq", *arguments)

    def is_done(self, stage: str, *sources: Path) -> bool:
        return self.stamp(stage, *sources).is_file()

    def done(self, stage: str, *sources: Path) -> None:
        for old in self.venv.glob(f".stamp-{stage}-*"):
            old.unlink()
        self.stamp(stage, *sources).touch()

    def stamp(self, stage: str, *sources: Path) -> Path:
        content = b"\0".join(source.read_bytes() for source in sources)
        return self.venv / f".stamp-{stage}-{hashlib.sha256(content).hexdigest()[:16]}"

    def create(self) -> None:
        if self.is_done("venv"):
            return
        say(f"virtual environment {self.venv} with Python {sys.version.split()[0]}")
        done = subprocess.run([sys.executable, "-m", "venv", str(self.venv)], check=False)
        if done.returncode:
            stop(
                f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv; "
                "elsewhere run this file with another Python"
            )
        self.done("venv")

    def install(self, stage: str, words: str) -> None:
        """The package itself with the extra that is named like the stage."""
        self.create()
        source = ROOT / "pyproject.toml"
        if self.is_done(stage, source):
            return
        say(words)
        self.pip("--editable", "." if stage == "package" else f".[{stage}]")
        self.done(stage, source)

    def package(self) -> None:
        # the test extra holds all that the package needs
        if not self.is_done("test", ROOT / "pyproject.toml"):
            self.install("package", "torch, peft and the package itself (once, about a minute)")

    def tools(self) -> None:
        self.install("test", "test tools")

    def everything(self) -> None:
        """ComfyUI's packages first: its three torch packages must be chosen together."""
        self.create()
        comfyui = self.comfyui()
        if comfyui:
            self.comfyui_packages(comfyui / "requirements.txt")
        else:
            say("no ComfyUI found: tests that need it will be skipped (set COMFYUI_PATH to enable them)")
        self.tools()
        if comfyui:
            self.install("peers", "programs that read our files (diffusers)")

    def comfyui(self) -> Path | None:
        """Where the tests find ComfyUI; tests/rings.py decides."""
        command = [str(self.python), str(ROOT / "tests" / "rings.py"), "--comfyui"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout.strip()
        return Path(found) if found else None

    def comfyui_packages(self, requirements: Path) -> None:
        if self.is_done("comfyui", requirements):
            return
        say(f"packages of ComfyUI at {requirements.parent} (once, some minutes)")
        self.run("tools/install_torch.py")
        self.pip("-r", str(requirements))
        self.run("tools/install_torch.py")
        self.done("comfyui", requirements)


def say(words: str) -> None:
    sys.stdout.write(f"setup: {words}\n")
    sys.stdout.flush()


def rings(setup: Setup, choices: dict[str, str], **environment: str) -> None:
    setup.everything()
    setup.run("tests/rings.py", *shlex.split(choices["RINGS"]), **environment)


def lint(setup: Setup) -> None:
    setup.tools()
    for tool in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "slider_core"]):
        setup.run("-m", *tool)


def bench(setup: Setup, parts: dict[str, str]) -> None:
    setup.everything()
    for part, choices in parts.items():
        say(part)
        setup.run(f"benchmarks/{part}.py", *choices.split())


def clean(setup: Setup, out: Path) -> None:
    for place in (setup.venv, out, *(ROOT / name for name in MADE)):
        shutil.rmtree(place, ignore_errors=True)
    for folder in ("slider_core", "nodes", "tests", "tools", "benchmarks"):
        for cache in sorted((ROOT / folder).rglob("__pycache__")):
            shutil.rmtree(cache, ignore_errors=True)


def execute(command: str, choices: dict[str, str]) -> None:
    setup = Setup(ROOT / choices["VENV"])
    if command == "demo":
        setup.package()
        setup.run("-m", "slider_core", "demo", "--out", choices["OUT"])
    elif command in ("test", "test-all"):
        rings(setup, choices, **({"SLIDER_FULL_PRODUCTS": "1"} if command == "test-all" else {}))
    elif command == "test-chaos":
        setup.tools()
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        setup.run("-m", "chaos", "--seed", choices["SEED"], PYTHONPATH=paths)
    elif command == "lint":
        lint(setup)
    elif command == "coverage":
        setup.tools()
        setup.run("-m", "pytest", "-q", "--cov", "--cov-report=term", "--cov-report=html:build/coverage")
    elif command in ("bench", "bench-long"):
        bench(setup, SHORT if command == "bench" else dict.fromkeys(BENCHMARKS, ""))
    elif command in ("bench-quality", "bench-smoke"):
        setup.package()
        setup.run(f"benchmarks/{command.removeprefix('bench-')}.py")
    elif command == "setup":
        setup.everything()
    else:
        clean(setup, ROOT / choices["OUT"])


def read_choices(arguments: list[str]) -> dict[str, str]:
    """NAME=value behind the command, else the environment, else the default."""
    choices = {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not (name in choices or name in ("COMFYUI_PATH", "CHROMIUM_PATH")):
            stop(f"{argument!r} is no choice: write NAME=value, with one of {', '.join(choices)}, COMFYUI_PATH, CHROMIUM_PATH")
        if name in choices:
            choices[name] = value
        else:
            os.environ[name] = value
    return choices


def newer_python() -> str | None:
    """Another Python on PATH that is new enough, for a machine whose `python` is an old one."""
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    for name in OTHERS:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", probe], check=False, capture_output=True).returncode == 0:
            return path
    return None


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        width = max(map(len, COMMANDS))
        known = "\n".join(f"    {name:<{width}}  {words}" for name, words in COMMANDS.items())
        sys.stdout.write(f"{__doc__}\ncommands:\n{known}\n")
        return 0 if not arguments or arguments[0] in ("help", "-h", "--help") else 2
    if sys.version_info < OLDEST:
        other = newer_python()
        if other is None:
            stop(f"Python 3.10 or newer is needed, and this is {sys.version.split()[0]}: install one from python.org")
        return subprocess.run([other, __file__, *arguments], check=False).returncode
    execute(arguments[0], read_choices(arguments[1:]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
