"""The ring itself, tried on a throwaway pack: what the other host tests lean on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PACK = """
import torch
from comfy_api.latest import ComfyExtension, io
from comfy.utils import ProgressBar
from .slider_core.words import GREETING


class Hello(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema("RingHello", inputs=[io.Int.Input("count", min=0)], outputs=[io.AnyType.Output()], is_output_node=True)

    @classmethod
    def execute(cls, count):
        from server import PromptServer
        if count == 13:
            raise ValueError("thirteen brings bad luck; choose another count")
        if count == 14:
            import nodes
            nodes.interrupt_processing()
        ProgressBar(count).update_absolute(count)
        PromptServer.instance.send_progress_text(f"{GREETING} {count}", "1")
        return io.NodeOutput({"count": count, "inference": torch.is_inference_mode_enabled()}, ui={"shown": [count]})


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [Hello]


async def comfy_entrypoint():
    return Extension()
"""


@pytest.fixture(scope="module")
def throwaway(load_pack: Callable, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("packs") / "throw.away"
    (root / "slider_core").mkdir(parents=True)
    (root / "slider_core" / "words.py").write_text('GREETING = "hello"\n')
    (root / "__init__.py").write_text(PACK)
    return load_pack(root)


def hello(count: int) -> dict:
    return {"1": {"class_type": "RingHello", "inputs": {"count": count}}}


def test_pack_is_registered_and_its_modules_are_reachable(throwaway: Any) -> None:
    assert throwaway.node_ids == {"RingHello"}
    assert throwaway.core("words").GREETING == "hello"


def test_broken_pack_fails_with_the_reason(load_pack: Callable, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("import no_such_module_anywhere")
    with pytest.raises(pytest.fail.Exception, match="no_such_module_anywhere"):
        load_pack(tmp_path)


@pytest.mark.usefixtures("throwaway")
def test_run_captures_objects_ui_and_messages_in_inference_mode(run_graph: Any) -> None:
    run = run_graph(hello(3), value=("1", 0))
    assert run["value"] == {"count": 3, "inference": True}
    assert run.ui["1"]["shown"] == [3]
    assert run.texts == ["hello 3"]
    assert [data["value"] for data in run.events("progress")] == [3]
    assert run.executed == ["1"]


@pytest.mark.usefixtures("throwaway")
def test_second_run_sees_the_node_cache(run_graph: Any) -> None:
    first = run_graph(hello(3), value=("1", 0))
    second = run_graph(hello(3), value=("1", 0))
    assert second["value"] is first["value"]
    assert second.executed == []


@pytest.mark.usefixtures("throwaway")
def test_failures_are_raised_with_the_nodes_own_words(run_graph: Any) -> None:
    with pytest.raises(run_graph.Error, match="RingHello 1: thirteen brings bad luck"):
        run_graph(hello(13))
    with pytest.raises(run_graph.Error, match=r"invalid at 1: .*smaller than min"):
        run_graph(hello(-1))
    with pytest.raises(run_graph.Error) as cancelled:
        run_graph(hello(14))
    assert cancelled.value.event == "execution_interrupted"


def test_given_object_reaches_a_socket_as_it_is(run_graph: Any) -> None:
    thing = object()
    assert run_graph({"a": run_graph.give(thing)}, same=("a", 0))["same"] is thing


def test_comfyui_keeps_its_files_in_the_temporary_folder(comfy: Path) -> None:
    import folder_paths

    places = [folder_paths.get_output_directory(), folder_paths.get_temp_directory(), folder_paths.get_input_directory()]
    places += [folder_paths.get_user_directory(), *folder_paths.get_folder_paths("loras")]
    assert all(Path(place).is_relative_to(comfy) for place in places)
