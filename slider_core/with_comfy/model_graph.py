"""A model out of the loader part of an exported graph, run by ComfyUI's own executor without a server or browser.

For loaders that exist only as nodes, of other packs too (GGUF, Nunchaku), and for models that are patched by nodes. What a
Slider Train Step in the graph is given counts; else what any node takes as model, clip and vae.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import folder_paths

from ..config.checks import SliderError, need, shown
from ..config.regular_files import read_json
from ..lora.safe_files import temporary_folder
from .model_files import Loaded

# by their names: a checker of types would take `nodes` for the pack's own folder
execution, nodes, server = map(import_module, ("execution", "nodes", "server"))
Graph = Mapping[str, dict[str, Any]]
Link = tuple[str, int]
PARTS = ("model", "clip", "vae")
TRAINING = "SliderTrainStep"
CATCH = "SliderGraphOutput"
ENDINGS = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
NO_LIMITS = {"lru": 0, "ram": 0, "ram_inactive": 0}


def read_graph(path: Path) -> dict[str, dict[str, Any]]:
    """A graph in API format. SliderError for another file, a workflow for the browser included."""
    graph: Any = read_json(path, "Graph", "graph.unreadable", 1 << 24, "graph.json")
    in_browser = isinstance(graph, dict) and isinstance(graph.get("nodes"), list)
    message = f"{path} is a workflow for the browser: export it with Workflow > Export (API)."
    need(not in_browser, message, "graph.workflow")
    is_graph = isinstance(graph, dict) and bool(graph)
    of_nodes = is_graph and all(map(_is_node, graph.values()))
    need(of_nodes, f"{path} is no graph in API format: export it with Workflow > Export (API).", "graph.form")
    nodes_by_name = {}
    for name, node in graph.items():
        nodes_by_name[name] = {"class_type": node["class_type"], "inputs": dict(node.get("inputs") or {})}
    return nodes_by_name


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _links(node: Mapping[str, Any]) -> Iterator[tuple[str, Link]]:
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
            yield name, (str(value[0]), value[1])


def _before(graph: Graph, start: str) -> set[str]:
    """A node and those that it needs."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in graph and name not in seen:
            seen.add(name)
            waiting += [source for _, (source, _) in _links(graph[name])]
    return seen


def part_links(graph: Graph) -> dict[str, Link]:
    """Where model, clip and vae come from. SliderError where none does, or several do."""
    training = [node for node in graph.values() if node["class_type"] == TRAINING]
    takers = training[:1] or list(graph.values())
    links = {}
    for part in PARTS:
        ends = _ends(graph, takers, part)
        need(
            bool(ends), f"No node of the graph takes a {part}: export one with a sampler, a prompt and a VAE node.", "graph.part"
        )
        names = ", ".join(sorted(name for name, _ in ends))
        several = f"The graph has {len(ends)} ends for {part} (nodes {names}): leave one."
        need(len(ends) == 1, several, "graph.several")
        links[part] = ends[0]
    for node in training[:1]:
        for name, link in _links(node):
            if name == "control":
                links[name] = link
    return links


def _ends(graph: Graph, takers: Sequence[Mapping[str, Any]], part: str) -> list[Link]:
    """What the takers are given as that part; of a chain of loaders and patches the end counts."""
    links: set[Link] = set()
    for node in takers:
        for name, link in _links(node):
            if name == part and link[0] in graph:
                links.add(link)
    ends = []
    for link in links:
        if not any(link[0] in _before(graph, other[0]) for other in links - {link}):
            ends.append(link)
    return ends


def _names(graph: Graph, link: Link) -> list[str]:
    """Names of files in front of a link, the checkpoint's first."""
    names = []
    for name in sorted(_before(graph, link[0])):
        for value in graph[name]["inputs"].values():
            if isinstance(value, str) and value.lower().endswith(ENDINGS):
                names.append(PurePosixPath(value.replace("\\", "/")).name)
    return names


def _register(caught: dict[str, Any]) -> None:
    class SliderGraphOutput:
        """Keeps what flows into it."""

        RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "Slider", True

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
            return {"required": {"name": ("STRING", {}), "value": ("*", {})}}

        def run(self, name: str, value: Any) -> dict[str, Any]:
            caught[name] = value
            return {}

    nodes.NODE_CLASS_MAPPINGS[CATCH] = SliderGraphOutput


def start_nodes() -> Any:
    """The nodes of ComfyUI and of the packs beside it, and what stands for the server, which never listens."""
    from comfy.cli_args import args

    args.front_end_root = args.front_end_root or temporary_folder()  # no browser comes
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    here = server.PromptServer(loop)
    loop.run_until_complete(nodes.init_extra_nodes(init_custom_nodes=not args.disable_all_custom_nodes, init_api_nodes=False))
    return here


def run_graph(graph: Graph, links: Mapping[str, Link], here: Any) -> dict[str, Any]:
    """What flows through those links. SliderError that names the node which failed."""
    needed = set().union(*(_before(graph, link[0]) for link in links.values()))
    unknown = sorted({graph[name]["class_type"] for name in needed} - set(nodes.NODE_CLASS_MAPPINGS))
    packs = folder_paths.get_folder_paths("custom_nodes")[0]
    message = f"The graph needs nodes that are not there: {', '.join(map(shown, unknown))}. Install their pack into {packs}."
    need(not unknown, message, "graph.nodes_missing")
    caught: dict[str, Any] = {}
    _register(caught)
    prompt: dict[str, Any] = {name: copy.deepcopy(graph[name]) for name in needed}
    for name, link in links.items():
        prompt[f"slider {name}"] = {"class_type": CATCH, "inputs": {"name": name, "value": list(link)}}
    valid, error, outputs, faults = asyncio.run(execution.validate_prompt("slider", prompt, None))
    if not valid or faults:
        raise SliderError(f"ComfyUI refuses the graph: {_first_fault(error, faults)}", "graph.refused")
    executor = execution.PromptExecutor(here, cache_type=execution.CacheType.CLASSIC, cache_args=NO_LIMITS)
    executor.execute(prompt, "slider", {"client_id": None}, outputs)
    for event, data in executor.status_messages:
        if event == "execution_error":
            where = f"{data['node_type']} ({data['node_id']})"
            raise SliderError(f"The graph fails at {where}: {data['exception_message'].strip()}", "graph.failed")
    lacking = ", ".join(name for name in links if name not in caught)
    need(not lacking, f"No {lacking} comes out of the graph when it runs: a node before it holds it back.", "graph.nothing")
    return caught


def _first_fault(error: Any, faults: Mapping[str, Any]) -> str:
    for name, fault in faults.items():
        first = fault["errors"][0]
        return f"{fault['class_type']} ({name}): {first['message']} {first.get('details', '')}".strip() + "."
    return f"{error.get('message', '')} {error.get('details', '')}".strip() + "."


def from_graph(path: Path) -> Loaded:
    """MODEL, CLIP and VAE, and the control of a Slider Train Step, out of a graph in API format."""
    graph = read_graph(path)
    links = part_links(graph)
    caught = run_graph(graph, links, start_nodes())
    files = tuple(_names(graph, links["model"])) or (path.name,)
    return Loaded(caught["model"], caught["clip"], caught["vae"], files, caught.get("control"))
