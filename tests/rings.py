"""Run the test rings, each in a pytest process of its own, and say loudly what ran and what did not.

    python tests/rings.py              every ring
    python tests/rings.py core lint    some of them
    python tests/rings.py --comfyui    only print where ComfyUI was found

core needs nothing; host needs ComfyUI and its packages; e2e needs a browser too; gpu needs ComfyUI and CUDA; lint is ruff and mypy.
A ring that cannot run here is skipped with its reason. A ring that ran no test has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LINT = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "slider_core"])
TIMEOUT_S = 1500  # of one ring
GPU_RING_DEVICE = "SLIDER_GPU_RING_DEVICE"  # "cpu": the gpu ring's tests on the CPU, as far as they go there


@dataclass(frozen=True)
class Outcome:
    """What one ring came to. `state` is passed, FAILED, SKIPPED or "no tests yet"."""

    ring: str
    state: str
    note: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


def find_comfyui() -> Path | None:
    """COMFYUI_PATH, else ~/comfy/ComfyUI, else the ComfyUI whose custom_nodes folder holds this checkout."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named).expanduser()] if named else [Path.home() / "comfy" / "ComfyUI", ROOT.parent.parent]
    return next((p.resolve() for p in places if (p / "nodes.py").is_file() and (p / "comfy").is_dir()), None)


def find_chromium() -> str | None:
    """CHROMIUM_PATH, else the first Chromium or Chrome on PATH."""
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def missing_packages(requirements: Path) -> list[str]:
    """Distributions that ComfyUI's requirements.txt names above its non-essential part and that are not installed."""
    needed = requirements.read_text(encoding="utf-8").split("#non essential")[0]
    names = re.findall(r"^[A-Za-z][\w.-]*", needed, flags=re.MULTILINE)
    return [name for name in names if not is_installed(name)]


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def obstacle_host() -> str:
    root = find_comfyui()
    if root is None:
        return "ComfyUI not found: set COMFYUI_PATH to a checkout and run make test"
    missing = missing_packages(root / "requirements.txt")
    if not missing:
        return ""
    return f"ComfyUI's packages are missing ({', '.join(missing[:5])}): run make test, or this file with ComfyUI's own python"


def obstacle_e2e() -> str:
    if reason := obstacle_host():
        return reason
    if util.find_spec("playwright") is None:
        return "the playwright package is missing: run make setup"
    return "" if find_chromium() else "no Chromium found: install chromium, or set CHROMIUM_PATH"


def obstacle_gpu() -> str:
    if util.find_spec("torch") is None:
        return "torch is missing: run make setup"
    if reason := obstacle_host():
        return reason
    if os.environ.get(GPU_RING_DEVICE) == "cpu":
        return ""
    trial = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    code = subprocess.run(trial, check=False, capture_output=True).returncode
    return (
        ""
        if code == 0
        else f"no CUDA device: run on a machine with one ({GPU_RING_DEVICE}=cpu tries most of its tests on the CPU)"
    )


def obstacle_none() -> str:
    return ""


# ring -> why it cannot run here ("" when it can), in the order of running
RINGS: dict[str, Callable[[], str]] = {
    "lint": obstacle_none,
    "core": obstacle_none,
    "host": obstacle_host,
    "e2e": obstacle_e2e,
    "gpu": obstacle_gpu,
}


def run(command: list[str]) -> tuple[int | None, float]:
    """Exit status (None past the limit of time) and seconds; the output goes straight through."""
    start = time.monotonic()
    env = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}
    if root := find_comfyui():
        env["COMFYUI_PATH"] = str(root)
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL)
    try:
        code: int | None = process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        stop(process)
        code = None
    return code, time.monotonic() - start


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C first, so that fixtures can stop what they started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_lint() -> Outcome:
    missing = [tool for tool, *_ in LINT if util.find_spec(tool) is None]
    if missing:
        return Outcome("lint", "SKIPPED", f"{missing[0]} is missing: run make setup", skipped=1)
    seconds = 0.0
    for command in LINT:
        code, took = run([sys.executable, "-m", *command])
        seconds += took
        if code:
            return Outcome("lint", "FAILED", " ".join(command), 0, 1, 0, seconds)
    return Outcome("lint", "passed", "", len(LINT), 0, 0, seconds)


def workers(ring: str) -> list[str]:
    """A process for each core, which takes tests over from another when it is done: tiny models gain nothing from a second
    thread. The browser ring has one server, and the gpu ring one device."""
    if ring not in ("core", "host") or util.find_spec("xdist") is None:
        return []
    return ["-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal"]


def run_pytest(ring: str) -> Outcome:
    report = BUILD / f"junit-{ring}.xml"
    report.unlink(missing_ok=True)
    options = ["-q", "-rfEs", "--color=yes" if sys.stdout.isatty() else "--color=no", *workers(ring)]
    code, seconds = run([sys.executable, "-m", "pytest", f"tests/{ring}", *options, f"--junitxml={report}"])
    passed, failed, skipped = read_counts(report)
    notes = {0: "", None: f"stopped after {TIMEOUT_S} s", 1: "", 5: "pytest found no test"}
    state = "passed" if code == 0 else "FAILED"
    note = notes.get(code, f"pytest exit {code}")
    if ring == "gpu" and os.environ.get(GPU_RING_DEVICE) == "cpu":
        note = " ".join(filter(None, [note, "on the CPU, as asked: this says nothing about a GPU"]))
    return Outcome(ring, state, note, passed, max(failed, int(code != 0)), skipped, seconds)


def read_counts(report: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a junit file; zeros when pytest died before writing it."""
    if not report.is_file():
        return 0, 0, 0
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (sum(int(s.get(k, 0)) for s in suites) for k in ("tests", "failures", "errors", "skipped"))
    return tests - failures - errors - skipped, failures + errors, skipped


def run_ring(ring: str) -> Outcome:
    if ring != "lint" and not any((ROOT / "tests" / ring).glob("**/test_*.py")):
        return Outcome(ring, "no tests yet", f"tests/{ring} holds no test file")
    if reason := RINGS[ring]():
        return Outcome(ring, "SKIPPED", reason, skipped=1)
    sys.stdout.write(f"\n===== ring {ring} =====\n")
    sys.stdout.flush()
    return run_lint() if ring == "lint" else run_pytest(ring)


def summary(outcomes: list[Outcome]) -> str:
    lines = ["", "=" * 78, f"{'ring':<8}{'':<14}{'passed':>7}{'failed':>8}{'skipped':>9}{'seconds':>9}", "-" * 78]
    for o in outcomes:
        lines.append(f"{o.ring:<8}{o.state:<14}{o.passed:>7}{o.failed:>8}{o.skipped:>9}{o.seconds:>9.1f}")
        lines += [f"        -> {o.note}"] if o.note else []
    sums = (sum(o.passed for o in outcomes), sum(o.failed for o in outcomes), sum(o.skipped for o in outcomes))
    return "\n".join([*lines, "=" * 78, "", "{} passed, {} failed, {} skipped".format(*sums), ""])


def main(arguments: list[str]) -> int:
    if arguments == ["--comfyui"]:
        sys.stdout.write(f"{find_comfyui() or ''}\n")
        return 0
    if unknown := [a for a in arguments if a not in RINGS]:
        sys.stderr.write(f"rings.py: no ring named {', '.join(unknown)}; there are {', '.join(RINGS)}\n")
        return 2
    BUILD.mkdir(exist_ok=True)
    outcomes = [run_ring(ring) for ring in arguments or RINGS]
    sys.stdout.write(summary(outcomes))
    return int(any(o.state == "FAILED" for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
