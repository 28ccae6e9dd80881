"""The command line on models of ComfyUI: files made on the spot, trained, swept, calibrated, exported and read by stock loaders.

Oracles: the node's own run, bit for bit, and ComfyUI's LoRA loader on the file.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rings import ROOT, find_comfyui
from safetensors.torch import load_file
from zoo.files import flux_files, sd15_file

STEPS = 4
FAST = ["--resolution", "64", "--lr", "0.001", "--any-rate", "--no-calibration"]


@pytest.fixture(scope="module")
def data(pack, comfy: Path) -> Path:
    """Two pairs in ComfyUI's input folder, so that the node finds them too."""
    folder = comfy / "input" / "smile"
    pairs = pack.core("with_tiny.faces_pairs")
    pairs.write_pairs(folder, pairs.make_pairs("mouth", 2, 0, False))
    return folder


# inputs that are no option: what other nodes' outputs go into, what the command line has in another form
ELSEWHERE = {
    "training": {
        *("model", "clip", "vae", "dataset", "targets", "start_from", "sampling", "control", "name", "old_name", "checkpoints"),
        "options",
    },
    "targets": {"model", "control_net", "options"},
    "dataset": {"folder", "options"},
    "text": {"target", "positive", "negative", "dataset", "options"},
    "sampling": {"positive", "negative", "latent_image", "clip", "prompts", "settings"},
}


@pytest.fixture(scope="module")
def flux(comfy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model, clip, vae = flux_files(tmp_path_factory.mktemp("flux"))
    return ["--model", str(model), "--clip", str(clip), "--clip-type", "flux", "--vae", str(vae)]


@pytest.fixture
def main(pack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line in this process, where ComfyUI runs already."""
    monkeypatch.setattr(pack.core("with_comfy.start"), "start", lambda *_args: None)
    return lambda *words: pack.core("__main__").main([str(word) for word in words])


def test_every_input_of_the_nodes_is_an_option_and_every_option_an_input(pack) -> None:
    table = pack.core("commands.choices")
    nodes = {
        "training": ("train.SliderTrainStep", "train_options.SliderTrainOptions"),
        "targets": ("target.SliderTargetInjector", "target_options.SliderTargetOptions"),
        "dataset": ("dataset.LoadSliderDataset", "dataset_options.SliderDatasetOptions"),
        "text": ("text_pair.SliderTextPair", "text_options.SliderTextOptions"),
        "sampling": ("sampling.SliderSampling",),
    }
    assert nodes.keys() == table.GROUPS.keys() == ELSEWHERE.keys()
    for group, names in nodes.items():
        inputs = _defaults(pack, names)
        if group == "training":
            assert inputs["checkpoint_every"] > 0, "shown only where checkpoints are chosen"
            inputs["checkpoint_every"] = 0
        flags = {flag.input: flag.default for flag in table.GROUPS[group] if flag.option != "--preset"}
        assert {name: inputs[name] for name in inputs.keys() - ELSEWHERE[group]} == flags, group
        assert ELSEWHERE[group] <= inputs.keys()


def _defaults(pack, names: tuple[str, ...]) -> dict[str, object]:
    """The default of every input of these nodes, of every field of their choices too."""
    found = {}
    for name in names:
        module, _, node = name.partition(".")
        for widget in getattr(pack.part(f"nodes.{module}"), node).define_schema().inputs:
            options = getattr(widget, "options", None) or ()
            shown = [field for option in options for field in getattr(option, "inputs", ())]
            first = next((option.key for option in options if hasattr(option, "key")), None)
            found[widget.id] = first or getattr(widget, "default", None)
            found |= {field.id: field.default for field in shown}
    return {name: getattr(default, "value", default) for name, default in found.items()}


def test_a_run_goes_from_the_node_to_the_command_line_and_back(
    pack, comfy: Path, data, run_graph, main, tmp_path, forget, monkeypatch
) -> None:
    checkpoint = sd15_file(comfy / "models" / "checkpoints" / "sd15_tiny.safetensors")
    try:
        graph = {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint.name}},
            "2": {"class_type": "LoadSliderDataset", "inputs": {"folder": "smile", "strength": 1.0, "caption": ""}},
        }
        links = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["2", 0]}
        chosen = {"name": "s", "steps": STEPS, "learning_rate": 0.001, "any_rate": True, "batch": 0}
        chosen |= {"objective": "displacement", "training_seed": 0, "resolution": 64, "calibrate": False}
        node = {"class_type": "SliderTrainStep", "inputs": links | chosen}
        straight = run_graph(graph | {"4": node}, slider=("4", 0), loss=("4", 2))
        node["inputs"] |= {"steps_per_run": 1, "old_name": "restart"}
        run_graph(graph | {"4": node}, slider=("4", 0))
        node["inputs"] |= {"steps_per_run": 0, "old_name": "continue"}
        pack.part("nodes.running").SESSION.drop("s")  # on disk alone
        out = tmp_path / "s.safetensors"
        words = ["--checkpoint", checkpoint.name, "--dataset", data, "--out", out, "--steps", STEPS, *FAST]
        unset_weights_hold(monkeypatch, 7.0)  # as other memory would after another start
        assert main("train", *words, "--resume", "--run-steps", 2) == 0
        stock = run_graph(graph | {"4": node}, slider=("4", 0), loss=("4", 2))
        assert stock["loss"] == straight["loss"]
        assert len(stock["loss"]["loss"]) == STEPS
        for target, weight in straight["slider"].weights.items():
            assert all(torch.equal(value, stock["slider"].weights[target].tensors[n]) for n, value in weight.tensors.items())
        assert main("train", *words, "--resume") == 0, "and once more on the command line, past its end"
        _loads_whole(out, straight["slider"])
    finally:
        pack.core("commands.hosts")._LAST.clear()
        checkpoint.unlink()


def unset_weights_hold(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    """Weights that no file fills hold `number`: ComfyUI leaves them as the memory was."""
    import comfy.ops

    linear = comfy.ops.disable_weight_init.Linear
    monkeypatch.setattr(linear, "reset_parameters", lambda self: self.weight.data.fill_(number))


def _loads_whole(file: Path, slider) -> None:
    """ComfyUI's own table of keys knows every tensor of the file, and it holds the slider's numbers."""
    native = load_file(file)
    layers = {key.rpartition(".lora_")[0] for key in native if ".lora_" in key}
    assert len(layers) == len(slider.weights)


def test_every_command_works_on_a_model_in_parts(pack, flux: list[str], data: Path, main, tmp_path: Path, capsys, forget) -> None:
    import comfy.sd
    import comfy.utils

    out = tmp_path / "f.safetensors"
    words = ["--dataset", data, "--out", out, "--steps", STEPS, *FAST]
    assert main("train", *flux, *words, "--prompt", "a face", "--sample-steps", 1, "--picture-size", 64, "--json") == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["steps"] == STEPS
    assert Path(report["strip"]).is_file()
    host = next(iter(pack.core("commands.hosts")._LAST.values()))
    patched, _ = comfy.sd.load_lora_for_models(host.loaded.model, None, comfy.utils.load_torch_file(str(out)), 1.0, 0.0)
    assert len(patched.patches) == 3, "every layer of the slider, in ComfyUI's own loader"
    assert (
        main(
            "sweep",
            *flux,
            "--slider",
            out,
            "--strengths=-1,0,1",
            "--seeds",
            1,
            "--sample-steps",
            1,
            "--picture-size",
            64,
            "--out",
            tmp_path / "w",
        )
        == 0
    )
    drawn = json.loads((tmp_path / "w" / "sweep.json").read_text())["drawn"]
    assert (drawn["steps"], drawn["cfg"], drawn["sampler"]) == (1, host.likes.drawing.cfg, host.likes.drawing.sampler)
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"plain": "a face", "plus": {"prompt": "a face", "adapter_strength": 1.5}}', encoding="utf-8")
    library = ["--slider", out, "--prompts", prompts, "--sample-steps", 1, "--picture-size", 64, "--out", tmp_path / "p"]
    assert main("sweep", *flux, *library) == 0
    assert len(json.loads((tmp_path / "p" / "prompts.json").read_text())["images"]) == 2
    assert main("export", *flux, "--slider", out, "--format", "diffusers", "--out", tmp_path / "d.safetensors") == 0
    assert main("doctor", *flux, data) == 0
    assert "flux" in capsys.readouterr().out
    assert main("calibrate", *flux, "--slider", out, *words[:2], "--resolution", 64, "--out", tmp_path / "c.safetensors") == 0


def test_a_graph_loads_the_model_without_a_server(flux: list[str], data: Path, tmp_path: Path) -> None:
    """In a process of its own, as a user has it: no ComfyUI is imported there before."""
    graph = {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": Path(flux[1]).name, "weight_dtype": "default"}},
        "2": {"class_type": "CLIPLoader", "inputs": {"clip_name": Path(flux[3]).name, "type": "flux2"}},
        "3": {"class_type": "VAELoader", "inputs": {"vae_name": Path(flux[7]).name}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 0], "text": "a face"}},
        "5": {"class_type": "VAEDecode", "inputs": {"vae": ["3", 0], "samples": ["6", 0]}},
        "6": {"class_type": "KSampler", "inputs": {"model": ["7", 0], "positive": ["4", 0]}},
        "7": {"class_type": "ModelSamplingFlux", "inputs": {"model": ["1", 0], "max_shift": 1.15, "base_shift": 0.5}},
    }
    graph["7"]["inputs"] |= {"width": 64, "height": 64}
    base = tmp_path / "base"
    for kind, file in (("diffusion_models", flux[1]), ("text_encoders", flux[3]), ("vae", flux[7])):
        (base / "models" / kind).mkdir(parents=True)
        shutil.copy(file, base / "models" / kind)
    (tmp_path / "g.json").write_text(json.dumps(graph), encoding="utf-8")
    options = f"--cpu --base-directory {base} --disable-all-custom-nodes"
    words = ["train", "--graph", tmp_path / "g.json", "--dataset", data, "--out", tmp_path / "g.safetensors", "--steps", 2, *FAST]
    line = [sys.executable, "-m", "slider_core", *map(str, words), "--comfy-options", options, "--comfyui", str(find_comfyui())]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(load_file(tmp_path / "g.safetensors")) >= 6
    assert (base / "output" / "sliders" / "g" / "g.run.safetensors").is_file(), "where the node would go on with it"
