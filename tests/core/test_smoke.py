"""A training step and a run cost no more than benchmarks/smoke.json says: in forwards, operations, kept bytes, encodings."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "smoke.py"


@pytest.fixture(scope="module")
def smoke():
    spec = importlib.util.spec_from_file_location("smoke", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded(smoke) -> dict:
    return json.loads(smoke.RECORDED.read_text(encoding="utf-8"))


def test_nothing_costs_more_than_recorded(smoke, recorded: dict) -> None:
    assert smoke.compare(smoke.measured(), recorded) == []


def test_a_step_costs_the_same_with_twice_the_images(recorded: dict) -> None:
    assert recorded["step"]["displacement, twice the images"] == recorded["step"]["displacement"]


def test_a_second_run_encodes_nothing(recorded: dict) -> None:
    assert recorded["run"]["encodings in the second run"] == 0


@pytest.mark.parametrize(("name", "more"), [("forwards", 1), ("operations, times the floor", 0.3)])
def test_what_got_worse_is_named(name: str, more: float, smoke, recorded: dict) -> None:
    found = copy.deepcopy(recorded)
    found["step"]["displacement"][name] += more
    assert [line.split(":")[0] for line in smoke.compare(found, recorded)] == [f"displacement, {name}"]
