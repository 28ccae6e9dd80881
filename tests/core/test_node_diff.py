"""The comparison that guards saved workflows: additions at the end pass, whatever moves a saved value is named."""

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
BASE = {
    "Train": {
        "inputs": [["model", "MODEL", []], ["steps", "INT", []], ["rule", "COMBO", ["a", "b"]], ["rate", "FLOAT", []]],
        "outputs": ["SLIDER", "STRING"],
    }
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("node_diff", TOOLS / "node_diff.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(TOOLS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def changed(**parts: Any) -> dict[str, Any]:
    return {"Train": copy.deepcopy(BASE["Train"]) | parts}


INPUTS = BASE["Train"]["inputs"]


def test_what_is_added_at_the_end_breaks_nothing(tool: ModuleType) -> None:
    inputs = [INPUTS[0], INPUTS[1], ["rule", "COMBO", ["a", "b", "c"]], INPUTS[3], ["mask", "MASK", []], ["new", "INT", []]]
    new = changed(inputs=inputs, outputs=["SLIDER", "STRING", "IMAGE"]) | {"Other": BASE["Train"]}
    assert tool.breaks(BASE, BASE) == tool.breaks(BASE, new) == []


def test_a_new_socket_may_stand_anywhere(tool: ModuleType) -> None:
    assert tool.breaks(BASE, changed(inputs=[["mask", "MASK", []], *INPUTS])) == []


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({}, "the node is gone"),
        (changed(inputs=INPUTS[:3]), "the input rate is gone"),
        (changed(inputs=[*INPUTS[:3], ["rate", "INT", []]]), "was FLOAT and is INT"),
        (changed(inputs=[*INPUTS[:2], ["rule", "COMBO", ["a"]], INPUTS[3]]), "no choice b any more"),
        (changed(inputs=[*INPUTS[:1], ["new", "INT", []], *INPUTS[1:]]), "in another order"),
        (changed(inputs=[INPUTS[0], INPUTS[2], INPUTS[1], INPUTS[3]]), "in another order"),
        (changed(outputs=["STRING", "SLIDER"]), "the outputs were SLIDER, STRING"),
        (changed(outputs=["SLIDER"]), "the outputs were"),
    ],
)
def test_what_would_move_a_saved_value_is_named(tool: ModuleType, new: dict[str, Any], told: str) -> None:
    lines = tool.breaks(BASE, new)
    assert len(lines) == 1
    assert told in lines[0]
