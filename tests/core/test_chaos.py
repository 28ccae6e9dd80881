"""The short form of `make test-chaos`, in a process that has run no backward pass: a few trials of every kind, from a seed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAST_KINDS = 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to live often and quickly")
def test_nothing_breaks_whatever_comes() -> None:
    command = [sys.executable, "-m", "chaos", "--lives", "0.005", "--inputs", "0.05"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tried = re.findall(r"^\| (.+) \| (\d+) \| 0 \|", ran.stdout, re.MULTILINE)
    assert len(tried) >= LEAST_KINDS
    assert all(int(count) for _, count in tried)
