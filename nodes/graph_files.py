"""What a node reads out of its graph: the names of the files that its MODEL comes from."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from .messages import executing_node

ENDINGS = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
NOT_THE_MODEL = ("vae", "clip", "text_encoder")


def model_files(prompt: Mapping[str, Any] | None) -> list[str]:
    """File names in front of the `model` input of the node that runs, the checkpoint first. `prompt`: the graph in API format."""
    graph = prompt or {}
    source = graph.get(executing_node(), {}).get("inputs", {}).get("model")
    return list(dict.fromkeys(_names(graph, source, set())))


def _names(graph: Mapping[str, Any], link: Any, seen: set[str]) -> Iterator[str]:
    node = str(link[0]) if isinstance(link, list) and link else ""
    if node not in graph or node in seen:
        return
    seen.add(node)
    inputs = graph[node].get("inputs", {})
    links = {name: value for name, value in inputs.items() if isinstance(value, list)}
    of_model = {name: value for name, value in links.items() if "model" in name}
    for value in (of_model or links).values():
        yield from _names(graph, value, seen)
    for name, value in inputs.items():
        is_file = isinstance(value, str) and value.lower().endswith(ENDINGS)
        if is_file and not any(part in name.lower() for part in NOT_THE_MODEL):
            yield PurePosixPath(value.replace("\\", "/")).name
