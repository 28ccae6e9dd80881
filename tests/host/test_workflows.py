"""The bundled workflows fit the nodes as they are: every node is known, every input and value is one that it takes.

Model files are absent here; empty ones of the names that a workflow asks for stand in, and nothing is run.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))
FILES = {"unet_name": "diffusion_models", "lora_name": "loras", "clip_name": "text_encoders", "vae_name": "vae"}
SEEDS = ("seed", "noise_seed")


def prompt_of(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The API form of a saved graph: what its links and widget values say."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        inputs = {i["name"]: sources[i["link"]] for i in node.get("inputs", ()) if i.get("link") is not None}
        names = [i["widget"]["name"] for i in node.get("inputs", ()) if "widget" in i]
        names = [n for name in names for n in ([name, "control_after_generate"] if name in SEEDS else [name])]
        values = node.get("widgets_values") or []
        assert len(values) >= len(names), f"{node['type']}: {names} have the values {values}"
        widgets = dict(zip(names, values, strict=False))
        widgets.pop("control_after_generate", None)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": widgets | inputs}
    return prompt


@pytest.fixture
def stock(pack, extra_nodes) -> None:
    extra_nodes("nodes_sd3")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_bundled_workflow_fits_the_nodes(name: str, stock: None, comfy: Path, server: Any) -> None:
    import execution

    import nodes

    prompt = prompt_of(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")))
    for node in prompt.values():
        assert node["class_type"] in nodes.NODE_CLASS_MAPPINGS
        for key in node["inputs"].keys() & FILES.keys():
            place = comfy / "models" / FILES[key] / node["inputs"][key]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    valid, error, outputs, faults = asyncio.run(execution.validate_prompt("workflow", prompt, None))
    assert valid, error
    assert not faults
    assert outputs


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_bundled_workflow_is_what_its_source_says(name: str) -> None:
    prompt = prompt_of(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")))
    source = json.loads((ROOT / "tools" / "workflows" / f"{name}.api.json").read_text(encoding="utf-8"))
    assert prompt.keys() == source.keys()
    for key, node in source.items():
        assert prompt[key]["class_type"] == node["class_type"]
        assert {n: prompt[key]["inputs"].get(n) for n in node["inputs"]} == node["inputs"]
    assert (ROOT / "workflows" / f"{name}.jpg").is_file(), "a template has a picture"
