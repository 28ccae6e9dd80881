"""Run the test rings, each in a pytest process of its own, and say loudly what ran and what did not.

    python tests/rings.py              every ring
    python tests/rings.py core lint    some of them
    python tests/rings.py --comfyui    only print where ComfyUI was found

core needs nothing; host ComfyUI and its packages, device a C++ compiler too, e2e a browser, gpu CUDA; lint is ruff and mypy.
A ring that cannot run here is skipped with its reason. A ring that ran no test has failed. No ring has a limit of time: one that
prints nothing for ten minutes hangs, is stopped, and the test in which it hung is named.
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
from threading import Thread
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# where Windows and macOS keep what they do not put on PATH
INSTALLED_BROWSERS = (
    "%ProgramFiles%/Google/Chrome/Application/chrome.exe",
    "%LocalAppData%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles(x86)%/Microsoft/Edge/Application/msedge.exe",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
LINT = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "slider_core"])
STALL_S = 600.0  # without a line or a dot of output: what runs then hangs, and is stopped
TRACE_S = 300  # in one test: pytest prints where it stands, and goes on
SUMMARY = re.compile(r"\d+ passed\b.* in [\d.]+s")
TRACED = re.compile(r'File "(?:[^"]*/)?(tests/[^"]+|test_[^"/]+)", line \d+ in (test_\w+)')
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
    """CHROMIUM_PATH, else the first Chromium or Chrome on PATH, else one where its installer puts it."""
    named = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    places = map(os.path.expandvars, INSTALLED_BROWSERS)
    return named or next((place for place in places if Path(place).is_file()), None)


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


def obstacle_device() -> str:
    if util.find_spec("torch") is None:
        return "torch is missing: run make setup"
    if reason := obstacle_host():
        return reason
    from device.building import obstacle

    return obstacle()


def obstacle_none() -> str:
    return ""


# ring -> why it cannot run here ("" when it can), in the order of running
RINGS: dict[str, Callable[[], str]] = {
    "lint": obstacle_none,
    "core": obstacle_none,
    "host": obstacle_host,
    "device": obstacle_device,
    "e2e": obstacle_e2e,
    "gpu": obstacle_gpu,
}


@dataclass(frozen=True)
class Execution:
    """How a command ended: `code` None when it was stopped, and then `output` is what it had printed before."""

    code: int | None
    seconds: float
    output: str


class Relay(Thread):
    """Passes a command's output on as it comes, and remembers its end and when the last of it came."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.tail = b""
        self.last = time.monotonic()

    def run(self) -> None:
        while chunk := os.read(self.stream.fileno(), 1 << 16):
            self.last = time.monotonic()
            self.tail = (self.tail + chunk)[-(1 << 18) :]
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()


def run(command: list[str], stall_s: float = STALL_S) -> Execution:
    """Run to the end, however long it takes; stopped only after `stall_s` seconds without output."""
    start = time.monotonic()
    env = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}
    if root := find_comfyui():
        env["COMFYUI_PATH"] = str(root)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=ROOT, env=env, **streams)
    relay = Relay(process.stdout)
    relay.start()
    output = None
    while process.poll() is None:
        if time.monotonic() - relay.last > stall_s:
            output = relay.tail
            stop(process)
            break
        time.sleep(min(0.2, stall_s / 4))
    relay.join(5)  # a server that outlives its test may hold the pipe open
    seconds = time.monotonic() - start
    if output is not None:
        return Execution(None, seconds, output.decode(errors="replace"))
    return Execution(process.returncode, seconds, relay.tail.decode(errors="replace"))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C first, so that fixtures can stop what they started; Windows has none for another process."""
    process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
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
        execution = run([sys.executable, "-m", *command])
        seconds += execution.seconds
        if execution.code != 0:
            return Outcome("lint", "FAILED", " ".join(command), 0, 1, 0, seconds)
    return Outcome("lint", "passed", "", len(LINT), 0, 0, seconds)


def workers(ring: str) -> list[str]:
    """A process for each core, which takes tests over from another when it is done: tiny models gain nothing from a second
    thread. In the browser ring each has a server and a browser of its own; the gpu ring has one device."""
    if ring not in ("core", "host", "device", "e2e") or util.find_spec("xdist") is None:
        return []
    return ["-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal"]


def run_pytest(ring: str) -> Outcome:
    report = BUILD / f"junit-{ring}.xml"
    report.unlink(missing_ok=True)
    color = "yes" if sys.stdout.isatty() else "no"
    options = ["-q", "-rfEs", f"--color={color}", "-o", f"faulthandler_timeout={TRACE_S}", *workers(ring)]
    execution = run([sys.executable, "-m", "pytest", f"tests/{ring}", *options, f"--junitxml={report}"])
    return judge(ring, execution, read_counts(report))


def judge(ring: str, execution: Execution, counts: tuple[int, int, int]) -> Outcome:
    """A ring that printed its summary has run, even if its process did not end by itself afterwards."""
    passed, failed, skipped = counts
    hung = execution.code is None
    finished = hung and bool(SUMMARY.search(execution.output))
    ok = execution.code == 0 or (finished and passed > 0 and failed == 0)
    notes = []
    if finished:
        notes.append("its process did not end after the summary and was stopped")
    elif hung:
        notes.append(f"stopped: no output for {STALL_S:g} s {where_hung(execution.output)}")
    elif execution.code == 5:
        notes.append("pytest found no test")
    elif execution.code not in (0, 1):
        notes.append(f"pytest exit {execution.code}")
    if ring == "gpu" and os.environ.get(GPU_RING_DEVICE) == "cpu":
        notes.append("on the CPU, as asked: this says nothing about a GPU")
    state = "passed" if ok else "FAILED"
    return Outcome(ring, state, "; ".join(notes), passed, max(failed, int(not ok)), skipped, execution.seconds)


def where_hung(output: str) -> str:
    """The test in the last trace that pytest printed, else the last line of the output."""
    traced = TRACED.findall(output)
    if traced:
        return f"in {traced[-1][0]}::{traced[-1][1]}"
    lines = output.strip().splitlines()
    return f"after: {lines[-1][:100]}" if lines else "at its start"


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
