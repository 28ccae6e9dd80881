"""Where the nodes' paths lead, and what is opened for a list: linked or typed, nothing outside the folders of its kind."""

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import torch


@pytest.fixture
def error(pack) -> type:
    return pack.core("config.checks").SliderError


@pytest.fixture
def saved(pack, tmp_path: Path) -> Path:
    """A slider's file outside ComfyUI's folders."""
    lora, store = pack.core("lora.algorithms.lora"), pack.core("lora.slider_file")
    tensors = {"lora_down.weight": torch.zeros(2, 8), "lora_up.weight": torch.zeros(8, 2)}
    slider = store.Slider({pack.core("layers.layer").Target("a"): lora.LoraWeight(tensors, 2.0, (8, 8))})
    store.save_slider(tmp_path / "out.safetensors", slider)
    store.save_slider(tmp_path / "folder", slider, form=pack.core("config.lora").FileFormat.PEFT)
    return tmp_path


def test_a_lora_lies_in_its_folders_or_is_refused_linked_or_typed(pack, comfy: Path, saved: Path, error: type) -> None:
    files, loras = pack.part("nodes.files"), comfy / "models" / "loras" / "places"
    loras.mkdir()
    shutil.copy(saved / "out.safetensors", loras / "own.safetensors")
    (loras / "beside.safetensors").symlink_to(loras / "own.safetensors")
    assert files.load_by_name("places/own.safetensors").weights
    assert files.load_by_name("places/beside.safetensors").weights
    (loras / "led.safetensors").symlink_to(saved / "out.safetensors")
    (loras / "led").symlink_to(saved)
    shutil.copytree(saved / "folder", loras / "peft")
    (loras / "peft" / "adapter_config.json").unlink()
    (loras / "peft" / "adapter_config.json").symlink_to(saved / "folder" / "adapter_config.json")
    outside = f"../{saved.relative_to('/').as_posix()}/out.safetensors"
    names = ("led.safetensors", "led/out.safetensors", "peft/adapter_model.safetensors", outside, "\0", "x" * 5000, "\ud83d", "")
    for name in (*(f"places/{name}" for name in names), str(saved / "out.safetensors"), f"../../{outside}"):
        for load in (pack.part("nodes.files").LoadSliderLoRA.execute, lambda file: pack.part("nodes.apply").chosen(None, file)):
            with pytest.raises(error) as fault:
                load(file=name)
            assert fault.value.code == "lora.not_found", name
        assert files.file_fingerprint(name) == name


def test_a_file_named_as_its_training_lies_in_the_folders_of_the_name_unless_it_lies_flat_already(pack, comfy: Path) -> None:
    files, spec = pack.part("nodes.files"), pack.core("config.lora")
    named = lambda name: pack.core("lora.slider_file").Slider({}, pack.core("lora.info").SliderInfo(name=name))  # noqa: E731
    assert files.own_place(named("")) == "sliders/my_slider"
    assert files.own_place(named("placed/first")) == "sliders/placed/first"
    info = named("placed/first").info
    path = files.place("sliders/placed/first", spec.FileFormat.NATIVE, spec.FileDtype.FP32, info, False).path
    assert files.listed_as(path) == "sliders/placed/first.safetensors"
    assert path.parent.is_dir()
    assert not files.own_place(named("../../up")).partition("/")[2].count("/")
    flat = pack.core("config.names").file_stem("placed/first")
    before = comfy / "models" / "loras" / "sliders" / f"{flat}.safetensors"
    before.touch()
    assert files.own_place(named("placed/first")) == f"sliders/{flat}", "the file of a training keeps its name"
    before.unlink()


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        *((prefix, "file.outside") for prefix in ("places_led/new/x", "../x", "a/../../x", "/x/y")),
        *((prefix, "file.reserved") for prefix in ("con/x", "nul.txt/x", "a/LPT1")),
        *((prefix, "file.name") for prefix in ("a\0b", "\ud83d/x", "a /x")),
        *((prefix, "file.name_too_long") for prefix in ("x" * 300, f"{'ü' * 150}/x")),
        ("a/..", "file.no_name"),
    ],
)
def test_a_prefix_that_leads_out_is_refused_before_a_folder_is_made(
    prefix: str, code: str, pack, comfy: Path, error: type, tmp_path: Path
) -> None:
    link = comfy / "output" / "places_led"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    before = sorted(comfy.rglob("*"))
    with pytest.raises(error) as fault:
        pack.part("nodes.files").next_free(prefix, pack.part("nodes.finding").output())
    assert fault.value.code == code
    assert not list(tmp_path.iterdir())
    assert sorted(comfy.rglob("*")) == before


def test_nothing_is_opened_while_a_list_is_drawn(pack, comfy: Path) -> None:
    home = comfy / "input" / "drawn"
    (home / "positive").mkdir(parents=True)
    for name in ("a.json", "b.png", "positive/c.png", "positive/c.json"):
        (home / name).touch()
    opened: list[str] = []
    watched = [True]
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" and watched else None)
    schemas = {schema.node_id: schema for schema in (node.define_schema() for node in pack.part("nodes").NODES)}
    watched.clear()
    assert not [path for path in opened if str(comfy) in path]
    for node, name in (("LoadSliderDataset", "folder"), ("SliderPromptLibrary", "file")):
        options = next(entry for entry in schemas[node].inputs if entry.id == name).options
        assert "drawn/a.json" in options
        assert "drawn/positive/c.json" not in options, "a caption"


def test_a_dataset_file_that_names_the_whole_disk_is_not_walked(pack, comfy: Path, error: type) -> None:
    backend = {"id": "a", "instance_data_dir": "/", "slider_strength": 1}
    (comfy / "input" / "whole.json").write_text(json.dumps([backend]), encoding="utf-8")
    node, start = pack.part("nodes.dataset").LoadSliderDataset, time.monotonic()
    assert "whole.json" in node.fingerprint_inputs("whole.json")
    pack.part("nodes.dataset").SliderBucket.fingerprint_inputs("../../../../..")
    with pytest.raises(error) as fault:
        node.execute("whole.json", "")
    assert fault.value.code == "folder.outside"
    assert time.monotonic() - start < 5


def test_a_drive_that_is_gone_is_told_in_words_by_every_node(pack, error: type, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pack.part("nodes.files")

    def gone(*_file: object) -> None:
        raise OSError(116, "Stale file handle", "/mnt/loras/x.safetensors")

    monkeypatch.setattr(files, "load_slider", gone)
    monkeypatch.setattr(files, "lora_path", Path)
    with pytest.raises(error, match=r"/mnt/loras/x\.safetensors .*stale file handle") as fault:
        files.LoadSliderLoRA.execute(file="x.safetensors")
    assert fault.value.code == "file.system"
    assert "Errno" not in str(fault.value)
    names = {node.execute.__func__.__wrapped__.__name__ for node in pack.part("nodes").NODES}
    assert names == {"execute"}, "every node is wrapped"


def test_what_a_killed_server_left_is_put_back_beside_the_next_start(pack, comfy: Path, saved: Path) -> None:
    folder = comfy / "models" / "loras" / "left"
    shutil.copytree(saved / "folder", folder / f".smile.{0:032x}.old")
    pack.part("nodes.running").begin_tidying()
    for thread in threading.enumerate():
        if thread.name == "slider tidying":
            thread.join()
    assert pack.part("nodes.files").load_by_name("left/smile/adapter_model.safetensors").weights
