"""What a person has typed is refused when the graph is queued, in the words of the node's own error: not after a training."""

import asyncio
from typing import Any

import pytest

SWEEP = {"model": ["g", 0], "slider": ["g", 0], "vae": ["g", 0], "sampling": ["g", 0], "rows": 1}
SAVE_SWEEP = {"sweep": ["g", 0], "filename_prefix": "sliders/x", "webp": True, "page": True, "frame_ms": 150, "quality": 90}
FINDING = {"slider": ["g", 0], "lowest": -1.0, "highest": 1.0, "minus": "", "plus": ""}
LIBRARY = {"library": '{"a": "x"}', "file": "none", "strength": 1.0}
STACK = {"model": ["g", 0], "sliders.slider_1": ["g", 0], "strengths": "1"}
MAKER = {"concept": "smile", "name": "", "pairs": 1, "seed": 0}
APPLY = {"model": ["g", 0], "strength": 1.0}
WRONG = [
    ("SliderStrengthSweep", SWEEP, {"strengths": "-2 to 2"}, '"-2 to 2" is not a number'),
    ("SliderSweepOptions", {}, {"strengths_b": "0:1:0"}, "never arrives"),
    ("SliderStack", STACK, {"strengths": "1; 2"}, '"1; 2" is not a number'),
    ("SliderStack", STACK | {"sliders.slider_2": ["g", 0]}, {"strengths": "1, 2, 3"}, "3 strengths for 2 sliders"),
    ("SliderSchedule", {}, {"curve": "half"}, '"half" is no point'),
    ("SliderPromptLibrary", LIBRARY, {"library": '{"a": {"prompt": "x", "adapter_strenght": 1}}'}, "did you mean"),
    ("SliderPromptLibrary", LIBRARY, {"model": ["g", 0]}, "to draw it needs vae, slider, sampling too"),
    ("SliderPromptLibrary", LIBRARY, {"file": "gone.json"}, "is not in ComfyUI's input folder"),
    ("SaveSliderLoRA", {"slider": ["g", 0]}, {"name": "../outside"}, "leads out of models/loras"),
    ("SaveSliderLoRA", {"slider": ["g", 0]}, {"name": "a<b"}, "a character that no file name can have"),
    ("SaveSliderSweep", SAVE_SWEEP, {"filename_prefix": "../outside"}, "leads out of output"),
    ("SaveSliderSweep", SAVE_SWEEP, {"webp": False, "page": False}, "switch webp or page on"),
    ("SliderReportCard", {"sweep": ["g", 0]}, {"filename_prefix": "sliders/a:b"}, "a character that no file name can have"),
    ("SliderFinding", FINDING, {"lowest": 2.0}, "must be below highest"),
    ("SliderFinding", FINDING, {"highest": 1000.0}, "at most 100"),
    ("SliderLoRAApply", APPLY, {"file": "none"}, "needs one slider"),
    ("SliderLoRAApply", APPLY, {"slider": ["g", 0], "file": "other.safetensors"}, "and not both"),
    ("SliderLoRAApply", APPLY, {"file": "gone.safetensors"}, "not found in models/loras"),
    ("SliderPairMaker", MAKER, {"name": "a/b"}, "a character that no file name can have"),
]


def refused(run_graph: Any, kind: str, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """ComfyUI's errors of a node of that kind, before anything runs."""
    import execution

    graph = {"g": run_graph.give(None), "n": {"class_type": kind, "inputs": inputs}}
    graph["c"] = {"class_type": "TestCapture", "inputs": {"name": "c", "value": ["n", 0]}}
    errors = asyncio.run(execution.validate_prompt("checked", graph, None))[3]
    return errors.get("n", {}).get("errors", [])


@pytest.mark.parametrize(("kind", "fixed", "typed", "says"), WRONG)
def test_what_is_typed_is_refused_when_the_graph_is_queued(
    kind: str, fixed: dict[str, Any], typed: dict[str, Any], says: str, run_graph: Any, pack: Any
) -> None:
    assert pack.node_ids
    errors = refused(run_graph, kind, fixed | typed)
    assert {error["type"] for error in errors} == {"custom_validation_failed"}
    for error in errors:
        assert says in error["details"]
    assert {error["extra_info"]["input_name"] for error in errors} >= set(typed)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("SliderStrengthSweep", SWEEP | {"strengths": "-2:2:0.5"}),
        ("SliderSweepOptions", {}),
        ("SliderStack", STACK),
        ("SliderStack", STACK | {"sliders.slider_2": ["g", 0], "strengths": "1, 2"}),
        ("SliderSchedule", {"curve": ""}),
        ("SliderPromptLibrary", LIBRARY),
        ("SliderPromptLibrary", LIBRARY | {socket: ["g", 0] for socket in ("model", "vae", "slider", "sampling")}),
        ("SaveSliderLoRA", {"slider": ["g", 0], "name": ""}),
        ("SaveSliderSweep", SAVE_SWEEP | {"webp": False}),
        ("SliderReportCard", {"sweep": ["g", 0], "filename_prefix": ""}),
        ("SliderFinding", FINDING),
        ("SliderLoRAApply", APPLY | {"slider": ["g", 0], "file": "none"}),
        ("SliderPairMaker", MAKER),
    ],
)
def test_what_is_right_and_what_is_left_out_pass(kind: str, inputs: dict[str, Any], run_graph: Any, pack: Any) -> None:
    assert pack.node_ids
    assert refused(run_graph, kind, inputs) == []


def test_a_text_over_a_link_is_checked_when_the_node_runs(run_graph: Any, pack: Any) -> None:
    assert pack.node_ids
    graph = {"t": run_graph.give("-2 to 2"), "o": {"class_type": "SliderSweepOptions", "inputs": {"strengths_b": ["t", 0]}}}
    options = run_graph(graph, options=("o", 0))["options"]
    assert options.strengths_b == "-2 to 2"
    sweep = {"class_type": "SliderStrengthSweep", "inputs": SWEEP | {"strengths": ["t", 0]}}
    with pytest.raises(run_graph.Error, match='"-2 to 2" is not a number') as fault:
        run_graph({"g": run_graph.give(None), "t": graph["t"], "s": sweep}, strip=("s", 0))
    assert fault.value.event == "execution_error"
