"""The ring runner stops what hangs, names it, and never turns passed tests into a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import rings

# what pytest's faulthandler_timeout does
HANGING = """
import faulthandler
import time

def test_waits_for_ever():
    time.sleep(600)

print(".")
faulthandler.dump_traceback_later(0.2)
test_waits_for_ever()
"""


def run(script: str, stall_s: float) -> rings.Execution:
    return rings.run([sys.executable, "-c", script], stall_s)


def test_a_slow_command_that_prints_is_left_alone() -> None:
    execution = run("import time\nfor i in range(8):\n    print(i)\n    time.sleep(0.3)", 1.5)
    assert execution.code == 0
    assert execution.seconds > 1.5
    assert execution.output.split() == [str(i) for i in range(8)]


def test_a_test_that_hangs_is_stopped_and_named(tmp_path: Path) -> None:
    script = tmp_path / "test_hanging.py"
    script.write_text(HANGING)
    execution = rings.run([sys.executable, str(script)], 2.0)
    outcome = rings.judge("core", execution, (1, 0, 0))
    assert execution.code is None
    assert (outcome.state, outcome.failed) == ("FAILED", 1)
    assert "test_hanging.py::test_waits_for_ever" in outcome.note


def test_a_process_that_hangs_after_its_summary_has_passed() -> None:
    execution = run("import time\nprint('12 passed, 1 skipped in 3.21s')\ntime.sleep(600)", 1.0)
    assert execution.code is None
    assert rings.judge("core", execution, (12, 0, 1)).state == "passed"
    assert rings.judge("core", execution, (11, 1, 1)).state == "FAILED"


@pytest.mark.parametrize(("code", "state"), [(0, "passed"), (1, "FAILED"), (5, "FAILED"), (-9, "FAILED")])
def test_the_exit_status_decides_where_nothing_hung(code: int, state: str) -> None:
    assert rings.judge("core", rings.Execution(code, 1.0, "3 passed in 1.00s"), (3, 0, 0)).state == state
