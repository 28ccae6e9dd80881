"""The bundled workflows fit the nodes as they are: every node is known, every input and value is one that it takes.

Model files are absent here; empty ones of the names that a workflow asks for stand in, and nothing is run.
"""

import asyncio
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))
FILES = {
    "unet_name": "diffusion_models",
    "lora_name": "loras",
    "clip_name": "text_encoders",
    "vae_name": "vae",
    "ckpt_name": "checkpoints",
    "control_net_name": "controlnet",
    "file": "loras",
}
NO_FILE = "none"
TO_CHOOSE, CHOSEN = "choose yours", "a_file_that_was_chosen.safetensors"
SEEDS = ("seed", "noise_seed")
NOTE = "MarkdownNote"
COMBO, GROWING = "COMBO", "COMFY_AUTOGROW_V3"
TITLE = 30  # pixels of the bar above a node
BADGE = 22  # and of the badge with the pack's name above that, on the canvas
DEMO = "SliderDemoModel"
WINDOW = (1600 - 70 - 16, 1000 - 96 - 16)  # what ComfyUI's bars leave free, as in web/slider_view.js
EXTRAS = (
    "nodes_latent",
    "nodes_post_processing",
    "nodes_sd3",
    "nodes_canny",
    "nodes_images",
    "nodes_flux",
    "nodes_model_advanced",
    "nodes_preview_any",
    "nodes_edit_model",
    "nodes_hunyuan",
    "nodes_video",
)


def prompt_of(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The API form of a saved graph: what its links and widget values say, muted nodes too."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] == NOTE:
            continue
        inputs = {i["name"]: sources[i["link"]] for i in node.get("inputs", ()) if i.get("link") is not None}
        names = in_order([i["widget"]["name"] for i in node.get("inputs", ()) if "widget" in i])
        names = [n for name in names for n in ([name, "control_after_generate"] if name in SEEDS else [name])]
        values = node.get("widgets_values") or []
        assert len(values) >= len(names), f"{node['type']}: {names} have the values {values}"
        widgets = dict(zip(names, values, strict=False))
        widgets.pop("control_after_generate", None)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": widgets | inputs}
    return prompt


def in_order(names: list[str]) -> list[str]:
    """The widgets as their values are saved: what belongs to a choice comes after it, although its slot can come before."""
    parents = [name for name in names if "." not in name or name.split(".")[0] not in names]
    return [widget for parent in parents for widget in (parent, *(name for name in names if name.startswith(f"{parent}.")))]


def graph_of(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def stock(pack, extra_nodes) -> None:
    for name in EXTRAS:
        extra_nodes(name)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_bundled_workflow_fits_the_nodes_and_can_be_read(name: str, stock: None, comfy: Path, server: Any) -> None:
    graph = graph_of(name)
    it_is_what_its_source_says(name, graph)
    if ".app" not in name:
        a_model_to_download_is_named_in_a_note(graph)
    it_is_small(name, graph)
    no_two_nodes_lie_over_each_other(graph)
    it_is_read_from_left_to_right(graph)
    it_fits_the_nodes(graph, comfy)
    its_slots_are_those_of_the_nodes(graph)


def it_fits_the_nodes(graph: dict[str, Any], comfy: Path) -> None:
    import execution

    import nodes

    prompt = prompt_of(graph)
    for node in prompt.values():
        assert node["class_type"] in nodes.NODE_CLASS_MAPPINGS
        for key in node["inputs"].keys() & FILES.keys():
            if node["inputs"][key] == NO_FILE:
                continue
            if node["inputs"][key] == TO_CHOOSE:
                node["inputs"][key] = CHOSEN
            place = comfy / "models" / FILES[key] / node["inputs"][key]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    valid, error, outputs, faults = asyncio.run(execution.validate_prompt("workflow", prompt, None))
    assert valid, error
    assert not faults
    assert outputs


def its_slots_are_those_of_the_nodes(graph: dict[str, Any]) -> None:
    """A file of before an input or output was added opens without it, or is patched by the frontend in silence."""
    prompt = prompt_of(graph)
    for node in graph["nodes"]:
        if node["type"] == NOTE:
            continue
        again = f"{node['type']} {node['id']}: make the workflow anew"
        inputs, outputs = slots_of(node["type"], prompt[str(node["id"])]["inputs"], {i["name"] for i in node["inputs"]})
        assert {i["name"]: i["type"] for i in node["inputs"]} == inputs, again
        assert [(o["name"], o["type"]) for o in node["outputs"]] == outputs, again


def slots_of(kind: str, values: dict[str, Any], shown: set[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Name and type of the inputs and outputs that ComfyUI gives a node with those values. Inputs that grow one by one are those
    `shown`."""
    from comfy_api.latest._io import get_finalized_class_inputs

    import nodes

    node = nodes.NODE_CLASS_MAPPINGS[kind]
    declared = {group: typed(specs) for group, specs in node.INPUT_TYPES().items() if group != "hidden"}
    growing = [name for specs in declared.values() for name, spec in specs.items() if spec[0] == GROWING]
    finalized, _, _ = get_finalized_class_inputs(declared, values | dict.fromkeys(shown - values.keys()))
    inputs = finalized["required"] | finalized["optional"]
    hidden = [name for name in inputs if name.split(".")[0] in growing and name not in shown]
    types = {name: spec[0] for name, spec in inputs.items() if name not in hidden}
    names = getattr(node, "RETURN_NAMES", None) or node.RETURN_TYPES
    return types, list(zip(names, node.RETURN_TYPES, strict=True))


def typed(specs: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Old nodes give a choice's options in place of its type."""
    return {name: (COMBO, *spec[1:]) if isinstance(spec[0], list) else spec for name, spec in specs.items()}


def it_is_what_its_source_says(name: str, graph: dict[str, Any]) -> None:
    prompt = prompt_of(graph)
    source = json.loads((ROOT / "tools" / "workflows" / f"{name}.api.json").read_text(encoding="utf-8"))
    assert prompt.keys() == source.keys()
    for key, node in source.items():
        assert prompt[key]["class_type"] == node["class_type"]
        assert {n: prompt[key]["inputs"].get(n) for n in node["inputs"]} == node["inputs"]
    assert (ROOT / "workflows" / f"{name}.jpg").is_file(), "a template has a picture"


def a_model_to_download_is_named_in_a_note(graph: dict[str, Any]) -> None:
    notes = "\n".join(node["widgets_values"][0] for node in graph["nodes"] if node["type"] == NOTE)
    assert "`" not in notes, "code is not readable in a note"
    for node in graph["nodes"]:
        if node["type"] == "LoadSliderDataset" and DEMO not in kinds(graph):
            assert node["widgets_values"][0] == NO_FILE, "a real model is not shown the demo faces"
        if "Loader" not in node["type"]:
            continue
        if node["type"] == "CheckpointLoaderSimple":
            assert node["widgets_values"][0] == TO_CHOOSE, "any checkpoint of the family will do: none that is absent is named"
        for model in node["properties"].get("models", ()):
            assert model["name"] in node["widgets_values"]
            assert model["name"] in notes
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith(f"/{model['name']}")
            assert f"models/{model['directory']}" in notes


def kinds(graph: dict[str, Any]) -> list[str]:
    return [node["type"] for node in graph["nodes"]]


def no_two_nodes_lie_over_each_other(graph: dict[str, Any]) -> None:
    """With the title bar above each, and the badge above that."""
    boxes = {}
    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        above = TITLE + BADGE * ("Slider" in node["type"])
        boxes[f"{node['type']} {node['id']}"] = (x, y - above, x + width, y + height)
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} lies over {other}"


def it_is_read_from_left_to_right(graph: dict[str, Any]) -> None:
    left = {node["id"]: node["pos"][0] for node in graph["nodes"]}
    back = [link for link in graph["links"] if left[link[1]] > left[link[3]]]
    assert not back, f"links that run back, from node {[(link[1], link[3]) for link in back]}"


def it_is_small(name: str, graph: dict[str, Any]) -> None:
    """The quickstart is seen whole at full size in a window of 1600 x 1000; what needs no download stays small."""
    count, widgets = len(graph["nodes"]), sum(len(node.get("widgets_values") or ()) for node in graph["nodes"])
    _, _, width, height = graph["extra"]["slider_lora_size"]
    if name == "quickstart":
        assert (count <= 8, widgets <= 30) == (True, True), (count, widgets)
        assert (width <= WINDOW[0], height <= WINDOW[1]) == (True, True), (width, height)
    elif DEMO in kinds(graph):
        assert (count <= 12, widgets <= 50) == (True, True), (count, widgets)
    automatic = [node["widgets_values"][2] for node in graph["nodes"] if node["type"] == "SliderTrainStep"]
    assert set(automatic) == {0.0} or name == "slider_use.app", "the rate is found"
