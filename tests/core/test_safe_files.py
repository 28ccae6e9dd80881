"""A write that fails leaves everything as it was; what is there is replaced only when asked, and whole."""

import os
from pathlib import Path

import pytest
import torch

from slider_core.config.checks import SliderError
from slider_core.config.lora import FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.algorithms.full import FullWeight
from slider_core.lora.algorithms.lora import LoraWeight
from slider_core.lora.info import SliderInfo
from slider_core.lora.safe_files import move_in
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider, save_slider


def lora(path: str = "a") -> Slider:
    tensors = {"lora_down.weight": torch.ones(2, 8), "lora_up.weight": torch.ones(12, 2)}
    return Slider({Target(path): LoraWeight(tensors, 2.0, (12, 8))}, SliderInfo(name="smile"))


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file by its place, and every folder."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def refused(path: Path, code: str, slider: Slider | None = None, **options: object) -> None:
    with pytest.raises(SliderError, match=path.name) as fault:
        save_slider(path, slider or lora(), **options)
    assert fault.value.code == code


def test_an_existing_file_is_left_alone_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "taken.safetensors"
    path.write_bytes(b"precious")
    refused(path, "file.exists")
    assert path.read_bytes() == b"precious"
    save_slider(path, lora(), overwrite=True)
    assert load_slider(path).info.name == "smile"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"precious")

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if broken == "fsync" else Path, broken, fail)
    with pytest.raises(SliderError, match=r"old\.safetensors .*No space left on device") as fault:
        save_slider(path, lora(), overwrite=True)
    assert fault.value.code == "file.not_written"
    assert contents(tmp_path) == {"old.safetensors": b"precious"}


def test_a_place_that_cannot_hold_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SliderError, match=str(tmp_path / "file")) as fault:
        save_slider(tmp_path / "file" / "slider.safetensors", lora())
    assert fault.value.code == "file.folder"
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "file.not_written", overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_slider(tmp_path / "slider.safetensors", lora())
    finally:
        os.umask(before)
    assert (tmp_path / "slider.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "elsewhere.safetensors", tmp_path / "slider.safetensors"
    save_slider(real, lora())
    link.symlink_to(real)
    save_slider(link, lora("b"), overwrite=True)
    assert link.is_symlink()
    assert set(load_slider(real).weights) == {Target("b")}
    assert contents(tmp_path).keys() == {"elsewhere.safetensors", "slider.safetensors"}


# --- PEFT folders


def test_a_folder_holds_two_files_and_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "smile"
    save_slider(path, lora(), form=FileFormat.PEFT)
    before = contents(tmp_path)
    assert before.keys() == {"smile", f"smile/{PEFT_CONFIG}", f"smile/{PEFT_WEIGHTS}"}
    refused(path, "file.exists", lora("b"), form=FileFormat.PEFT)
    assert contents(tmp_path) == before
    save_slider(path, lora("b"), form=FileFormat.PEFT, overwrite=True)
    assert [target.path for target in load_slider(path).weights] == ["base_model.model.b"]
    assert contents(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("kind", ["file beside", "folder beside", "file", "other folder"])
def test_what_is_no_slider_is_never_replaced_by_a_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "smile"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "other folder":
        path.mkdir()
        (path / "precious.txt").write_bytes(b"precious")
    else:
        save_slider(path, lora(), form=FileFormat.PEFT)
        inside = path / "precious"
        inside.write_bytes(b"precious") if kind == "file beside" else inside.mkdir()
    before = contents(tmp_path)
    refused(path, "file.other_content", form=FileFormat.PEFT, overwrite=True)
    assert contents(tmp_path) == before


BREAKS = {"first file": (os, "fsync", 0), "second file": (os, "fsync", 1), "moving it in": (Path, "rename", 0)}


@pytest.mark.parametrize("moment", BREAKS)
def test_a_full_disk_while_a_folder_is_written_leaves_what_was_there(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, good = BREAKS[moment]
    original, calls = getattr(owner, name), []

    def fail(*args: object) -> object:
        calls.append(args)
        if len(calls) > good:
            raise OSError(28, "No space left on device")
        return original(*args)

    for existing in (False, True):
        if existing:
            save_slider(tmp_path / "smile", lora(), form=FileFormat.PEFT)
        before = contents(tmp_path)
        calls.clear()
        monkeypatch.setattr(owner, name, fail)
        with pytest.raises(SliderError, match="No space left on device"):
            save_slider(tmp_path / "smile", lora("b"), form=FileFormat.PEFT, overwrite=True)
        monkeypatch.undo()
        assert contents(tmp_path) == before


def test_a_rename_that_fails_halfway_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_slider(tmp_path / "smile", lora(), form=FileFormat.PEFT)
    before = contents(tmp_path)
    original = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise OSError(5, "Input/output error")
        return original(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    refused(tmp_path / "smile", "file.not_written", lora("b"), form=FileFormat.PEFT, overwrite=True)
    assert contents(tmp_path) == before


def test_a_slider_that_a_folder_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    full = Slider({Target("a"): FullWeight({"diff": torch.ones(4, 4)}, None, (4, 4))})
    with pytest.raises(SliderError, match='"a" is a full') as fault:
        save_slider(tmp_path / "smile", full, form=FileFormat.PEFT)
    assert fault.value.code == "format.only_lora"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", [FileFormat.NATIVE, FileFormat.PEFT])
def test_what_was_saved_on_trial_is_moved_in_whole(tmp_path: Path, form: FileFormat) -> None:
    trial, path = tmp_path / "trial", tmp_path / "loras" / "sliders" / "smile"
    save_slider(trial, lora(), form=form)
    move_in(trial, path)
    assert (path.read_bytes() if path.is_file() else contents(path)) == (
        trial.read_bytes() if trial.is_file() else contents(trial)
    )
    with pytest.raises(SliderError, match=str(path)) as fault:
        move_in(trial, path)
    assert fault.value.code == "file.exists"
    move_in(trial, path, overwrite=True)
    assert [inside.name for inside in path.parent.iterdir()] == ["smile"]
