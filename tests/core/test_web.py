"""The pure half of the pages' scripts, tested by Node's own test runner where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed; the browser ring tests the pages too")
@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "web").glob("*.test.mjs")), ids=lambda p: p.name)
def test_scripts_without_a_page(file: Path) -> None:
    done = subprocess.run([NODE, "--test", str(file)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
