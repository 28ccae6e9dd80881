"""The host ring: these tests run inside a real ComfyUI, without its server.

Fixtures, from the ground up: `comfy` (ComfyUI importable, its folders in a temporary place), `server` (what nodes send to the
browser), `load_pack` and `pack` (this repository as a custom node), `run_graph` (a prompt through ComfyUI's own executor).

Test modules import comfy inside the tests, never at the top, and the core only through `pack.core("config.lora")`: the pack's
slider_core and a top-level `import slider_core` are two different modules. Imports cost about 10 seconds, once.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from graphs import spelled_out
from rings import ROOT, find_comfyui, obstacle_host

CLIENT = "test-client"
OBSTACLE = obstacle_host()
NOT_RUN = f"HOST TESTS SKIPPED. {OBSTACLE}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if OBSTACLE:
        terminalreporter.write_line(NOT_RUN, red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI imported, on the CPU if there is no GPU. Gives the temporary folder that holds its models, input, output, user."""
    if OBSTACLE:
        pytest.skip(NOT_RUN)
    root = find_comfyui()
    sys.path.insert(0, str(root))  # first: the repository has a nodes/ too
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("models/loras", "models/checkpoints", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    from comfy.cli_args import args

    args.cpu = args.cpu or not (
        torch.cuda.is_available() or "torch_npu" in sys.modules
    )  # read when comfy.model_management is imported
    args.base_directory = str(base)  # read when folder_paths is imported
    import folder_paths

    import nodes

    if Path(nodes.__file__).parent != root or folder_paths.base_path != str(base):
        pytest.fail(f"{nodes.__file__} or folder_paths was imported too early: run `pytest tests/host` in a process of its own.")
    return base


class StubServer:
    """Stands where ComfyUI's PromptServer stands, and writes down what would have gone to the browser."""

    def __init__(self) -> None:
        from aiohttp import web

        self.routes = web.RouteTableDef()
        self.client_id: str | None = CLIENT
        self.last_node_id = self.last_prompt_id = None
        self.sockets_metadata: dict[str, Any] = {}
        self.sent: list[tuple[Any, Any]] = []

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:  # noqa: ARG002
        self.sent.append((event, data))

    def send_progress_text(self, text: str | bytes, node_id: str, sid: str | None = None) -> None:  # noqa: ARG002
        self.sent.append(("progress_text", (node_id, text.decode() if isinstance(text, bytes) else text)))

    def queue_updated(self) -> None:
        """Nobody looks at the queue."""


@pytest.fixture(scope="session")
def server(comfy: Path) -> Iterator[StubServer]:
    """The stub as `PromptServer.instance`, with main.py's progress bar hook (which is also where a cancel surfaces)."""
    import server as comfy_server
    from comfy import model_management, utils
    from comfy_execution.progress import get_progress_state
    from comfy_execution.utils import get_executing_context

    stub, before = StubServer(), utils.PROGRESS_BAR_HOOK

    def hook(value: float, total: float, preview: Any, prompt_id: str | None = None, node_id: str | None = None) -> None:
        model_management.throw_exception_if_processing_interrupted()
        context = get_executing_context()
        node_id = node_id or (context.node_id if context else stub.last_node_id)
        get_progress_state().update_progress(node_id, value, total, preview)
        stub.send_sync("progress", {"value": value, "max": total, "prompt_id": prompt_id, "node": node_id})

    utils.set_progress_bar_global_hook(hook)
    comfy_server.PromptServer.instance = stub
    yield stub
    del comfy_server.PromptServer.instance
    utils.set_progress_bar_global_hook(before)


@dataclass(frozen=True)
class Pack:
    """A custom node pack that ComfyUI has loaded."""

    root: Path
    module: ModuleType
    node_ids: frozenset[str]

    def part(self, path: str) -> ModuleType:
        """The pack's own module at a dotted path below its root, e.g. `nodes.train`."""
        return importlib.import_module(f"{self.module.__name__}.{path}")

    def core(self, name: str) -> ModuleType:
        return self.part(f"slider_core.{name}")


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="session")
def load_pack(server: StubServer) -> Callable[[Path], Pack]:
    """`load_pack(folder)` loads a pack with ComfyUI's own loader, which only logs what goes wrong; here that fails the test."""
    import nodes

    def load(folder: Path) -> Pack:
        listener, before = _Listener(), set(nodes.NODE_CLASS_MAPPINGS)
        logging.getLogger().addHandler(listener)
        try:
            loaded = asyncio.run(nodes.load_custom_node(str(folder)))
        finally:
            logging.getLogger().removeHandler(listener)
        if not loaded:
            pytest.fail(f"ComfyUI did not load {folder}:\n" + "\n".join(listener.lines), pytrace=False)
        module = sys.modules[str(folder).replace(".", "_x_")]
        return Pack(folder, module, frozenset(set(nodes.NODE_CLASS_MAPPINGS) - before))

    return load


@pytest.fixture(scope="session")
def pack(load_pack: Callable[[Path], Pack]) -> Pack:
    """This repository, loaded as ComfyUI loads it."""
    loaded = load_pack(ROOT)
    assert loaded.node_ids, "ComfyUI loaded the pack, but it registered no nodes"
    return loaded


@pytest.fixture(scope="session")
def extra_nodes(server: StubServer) -> Callable[[str], None]:
    """`extra_nodes("nodes_train")` registers one file of ComfyUI's comfy_extras/."""
    import nodes

    def load(name: str) -> None:
        file = find_comfyui() / "comfy_extras" / f"{name}.py"
        assert asyncio.run(nodes.load_custom_node(str(file), module_parent="comfy_extras")), f"cannot load {file}"

    return load


class GraphError(RuntimeError):
    """A prompt was refused, failed or was cancelled. `event` is "invalid" or the executor's own event."""

    def __init__(self, event: str, node: str, text: str) -> None:
        super().__init__(f"{event} at {node}: {text}")
        self.event, self.node, self.text = event, node, text


@dataclass
class Run:
    """What came of one prompt: `run["name"]` is a captured object, `ui` what nodes show, `sent` what the browser was sent."""

    captured: dict[str, Any] = field(default_factory=dict)
    ui: dict[str, dict[str, list]] = field(default_factory=dict)
    sent: list[tuple[Any, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.captured[name]

    def events(self, event: str) -> list[Any]:
        return [data for kind, data in self.sent if kind == event]

    @property
    def texts(self) -> list[str]:
        """What nodes have said, in order."""
        return [text for _, text in self.events("progress_text")] + [e["text"] for e in self.events("slider_lora.message")]

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that ran, in order; a cached node is not among them."""
        return [data["node"] for data in self.events("executing") if data["node"] and not data["node"].startswith("capture ")]


class GraphRunner:
    """Runs API-format prompts in one executor, so that a second run sees the node cache of the first.

    `runner(prompt, image=("7", 0))` returns a Run with `run["image"]`, whatever flows there. `runner.give(value)` is a node
    dict whose output 0 is that very object, for any socket.
    """

    Error = GraphError

    def __init__(self, server: StubServer) -> None:
        import execution

        self.server, self.given, self.catch = server, {}, {}
        no_limits = {"lru": 0, "ram": 0, "ram_inactive": 0}
        self.executor = execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args=no_limits)

    def give(self, value: Any) -> dict[str, Any]:
        name = f"given {len(self.given)}"
        self.given[name] = value
        return {"class_type": "TestGive", "inputs": {"name": name}}

    def __call__(self, prompt: dict[str, dict], **capture: tuple[str, int]) -> Run:
        import execution

        self.server.sent, self.catch = [], {}
        catchers = {
            f"capture {name}": {"class_type": "TestCapture", "inputs": {"name": name, "value": list(link)}}
            for name, link in capture.items()
        }
        prompt, key = (
            copy.deepcopy(spelled_out(_unwatched(prompt)) | catchers),
            "test-prompt",
        )  # the executor writes its cache marks into the prompt
        valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(key, prompt, None))
        if not valid or node_errors:
            raise GraphError("invalid", ", ".join(node_errors) or "prompt", f"{error} {node_errors}")
        self.executor.execute(prompt, key, {"client_id": CLIENT}, outputs)
        self._raise_failure()
        return Run(self.catch, self.executor.history_result["outputs"], self.server.sent)

    def _raise_failure(self) -> None:
        for event, data in self.executor.status_messages:
            if event in ("execution_error", "execution_interrupted"):
                text = f"{data.get('exception_message', '')}\n{''.join(data.get('traceback', []))}"
                raise GraphError(event, f"{data['node_type']} {data['node_id']}", text)


def _unwatched(prompt: dict[str, dict]) -> dict[str, dict]:
    """Without links to a live preview that this part of a graph leaves out."""

    def kept(inputs: dict) -> dict:
        return {k: v for k, v in inputs.items() if k not in ("preview", "sampling") or v[0] in prompt}

    return {name: node | {"inputs": kept(node["inputs"])} for name, node in prompt.items()}


def _test_nodes(runner: GraphRunner) -> dict[str, type]:
    class TestGive:
        """Gives out what a test put in."""

        RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "run", "test"

        @classmethod
        def INPUT_TYPES(cls) -> dict:  # noqa: N802
            return {"required": {"name": ("STRING", {})}}

        def run(self, name: str) -> tuple:
            return (runner.given[name],)

    class TestCapture:
        """Keeps what flows into it; never cached."""

        RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

        @classmethod
        def INPUT_TYPES(cls) -> dict:  # noqa: N802
            return {"required": {"name": ("STRING", {}), "value": ("*", {})}}

        @classmethod
        def IS_CHANGED(cls, **_inputs: Any) -> float:  # noqa: N802
            return float("nan")

        def run(self, name: str, value: Any) -> dict:
            runner.catch[name] = value
            return {}

    return {"TestGive": TestGive, "TestCapture": TestCapture}


@pytest.fixture(scope="session")
def two_pairs(pack: Pack, comfy: Path) -> str:
    """Two of the shipped six pairs, as a choice of Load Slider Dataset: a third of the time that a calibration takes."""
    for side in ("positive", "negative"):
        folder = comfy / "input" / "two pairs" / side
        folder.mkdir(parents=True)
        for file in sorted((pack.root / "demo_pairs" / "smile" / side).glob("*.png"))[:2]:
            shutil.copy(file, folder)
    return "two pairs"


@pytest.fixture
def forget(pack: Pack, comfy: Path) -> Callable[[], None]:
    """Lets go of every slider under training, in memory and on disk."""

    def forget() -> None:
        session = pack.part("nodes.running").SESSION
        for name in list(session._runs):
            session.drop(name)
        shutil.rmtree(comfy / "output" / "sliders", ignore_errors=True)

    return forget


@pytest.fixture(autouse=True)
def nothing_learned(request: pytest.FixtureRequest) -> None:
    """A test that runs graphs begins without a slider of an earlier one."""
    if "run_graph" in request.fixturenames:
        request.getfixturevalue("forget")()


@pytest.fixture
def run_graph(server: StubServer) -> Iterator[GraphRunner]:
    """A GraphRunner with an empty node cache."""
    import nodes

    runner = GraphRunner(server)
    own = _test_nodes(runner)
    nodes.NODE_CLASS_MAPPINGS.update(own)
    yield runner
    for name in own:
        del nodes.NODE_CLASS_MAPPINGS[name]
