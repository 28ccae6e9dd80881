"""Models of ComfyUI on the command line, as far as can be seen without ComfyUI: finding it, refusing, the options."""

import argparse
import runpy
import sys
from pathlib import Path

import pytest
from core.faults import refused

from slider_core.__main__ import parser
from slider_core.commands import hosts
from slider_core.commands.datasets import training_data
from slider_core.data.bucket_spec import TextSliderSpec
from slider_core.ranks import choose_device
from slider_core.with_comfy import start

ROOT = Path(__file__).resolve().parents[2]


def fake_comfyui(folder: Path, version: str) -> Path:
    for part in start.PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"')
    return folder


def test_comfyui_is_found_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("comfyui.missing", tmp_path / "gone"):
        start.find_comfyui(tmp_path / "gone")
    with refused("comfyui.too_old", "0.32"):
        start.find_comfyui(fake_comfyui(tmp_path / "old", "0.32.9"))
    new = fake_comfyui(tmp_path / "new", "0.33.0")
    monkeypatch.setenv("COMFYUI_PATH", str(new))
    assert start.find_comfyui() == new.resolve()
    monkeypatch.setattr(start, "BESIDE", tmp_path / "old")
    monkeypatch.setenv("COMFYUI_PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    with refused("comfyui.too_old", tmp_path / "old"):
        start.find_comfyui()
    monkeypatch.setitem(sys.modules, "folder_paths", argparse)
    with refused("comfyui.imported", "folder_paths"):
        start.start(new)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--checkpoint", "a", "--model", "b"], "host.two_models"),
        (["--backend", "comfy"], "host.no_model"),
        (["--backend", "tiny", "--graph", "g.json"], "host.tiny"),
    ],
)
def test_which_model_is_meant_must_be_clear(words: list[str], code: str) -> None:
    args = parser().parse_args(["doctor", "d", *words])
    with refused(code):
        hosts.wants_comfy(args)


def test_every_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, rank, taken in ((None, "1", "1"), ("4,5", "1", "5"), ("7", "1", "7")):
        with monkeypatch.context() as patch:
            patch.setenv("SLIDER_LORA_DEVICE_CHOSEN", "")
            patch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
            patch.setenv("LOCAL_RANK", rank)
            choose_device()
            assert start.os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_every_choice_of_a_text_slider_arrives() -> None:
    words = "train --out x.safetensors --target a --positive b --negative c --hold d,e --guidance 2 --words-weight 3 --latents 4"
    words += " --latents-width 64 --latents-height 32 --latents-steps 5 --latents-cfg 6"
    args = parser().parse_args(words.split())
    (spec,) = training_data(args).text_sliders
    assert spec == TextSliderSpec("a", "b", "c", ("d", "e"), 2.0, 3.0, count=4, width=64, height=32, steps=5, cfg=6.0)
    with refused("text_slider.no_images", "--dataset"):
        training_data(parser().parse_args([*words.split(), "--latents-from", "images"]))


def test_the_page_of_the_command_line_is_that_of_its_parser() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "make_commands.py"))
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert text.count("\n| `--") > 100
    assert tool["page"](text) == text
    assert "| |\n" not in tool["tables"]().replace("| option | default | |\n", "")  # each option says what it is
