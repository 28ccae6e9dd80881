"""A slider in diffusers, PEFT and LyCORIS is what it is here: every layer is loaded, at +1, -1 and 2.5, or the save refuses.

Oracles: diffusers' own LoRA loader and conversion of checkpoints (zoo/peers.py), the names that sd-scripts gives by its rule.
"""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
from products import FULL
from zoo import readers
from zoo.animals import TINY
from zoo.model import build_tiny
from zoo.peers import ONLY_HERE, PEERS, STRENGTHS, InDiffusers, merged, save, slider_on

SAME = 1e-4  # of the slider's effect
MISSING = "NOT COMPARED WITH diffusers, which is not installed: pip install -e '.[peers]'"


@pytest.fixture(scope="module", autouse=True)
def diffusers_installed() -> None:
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip(MISSING)


@pytest.fixture(scope="module")
def peers() -> Any:
    made: dict[str, InDiffusers] = {}
    return lambda title: made.setdefault(title, None) or made.update({title: InDiffusers(title)}) or made[title]


def named_in_diffusers(pack: Any, slider: Any, patcher: Any) -> Any:
    """The slider without the layers for which the format refuses."""
    form = pack.core("lora.formats.registry").FORMATS[pack.core("config.lora").FileFormat.DIFFUSERS]
    aliases = pack.core("with_comfy.layer_names").written_names(patcher)
    kept, refused = {}, []
    for target, weight in slider.weights.items():
        try:
            form.write({target: weight}, aliases, slider.info.architecture)
        except pack.core("config.checks").SliderError as fault:
            refused.append(fault.code)
        else:
            kept[target] = weight
    assert set(refused) <= {"format.no_name"}
    return replace(slider, weights=kept)


@pytest.mark.parametrize("preset", ["auto", "all"] if FULL else ["all"])
@pytest.mark.parametrize("title", PEERS)
def test_diffusers_loads_every_layer_and_changes_it_as_apply_does(title: str, preset: str, pack, peers, tmp_path) -> None:
    peer = peers(title)
    slider = slider_on(pack.core, peer.ours, preset, ONLY_HERE.get(title, ()))
    if preset == "all":
        slider = named_in_diffusers(pack, slider, peer.ours)
        chosen = slider_on(pack.core, peer.ours, "auto", ONLY_HERE.get(title, ())).weights
        assert {target.path for target in chosen} <= {target.path for target in slider.weights}, "what auto chooses has a name"
    file = save(pack.core, tmp_path / "slider.safetensors", slider, "diffusers", peer.ours)
    with torch.no_grad():
        weights = {strength: merged(pack.core, peer.ours, slider, strength) for strength in STRENGTHS}
        found = peer.deviations(file, weights)
    for loaded, expected, gap in found:
        assert loaded == expected > 0
        assert gap < SAME
    back = pack.core("with_comfy.layer_names").on_model(pack.core("lora.slider_file").load_slider(file), peer.ours)
    again = merged(pack.core, peer.ours, back, -1.0)
    for key, weight in weights[-1.0].items():
        torch.testing.assert_close(again[key], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry", [entry for entry in TINY if entry.title not in PEERS], ids=lambda entry: entry.title)
def test_a_model_that_no_pipeline_was_tried_for_is_refused(entry: Any, pack, tmp_path) -> None:
    """Those of a class that was tried have the same names; Ovis-Image is FLUX.1 schnell for ComfyUI, and no LoRA loader's."""
    layers = pack.core("lora.diffusers_layers")
    if "Ovis" not in entry.title and entry.name in (*layers.LAYERS, *layers.UNETS_1, *layers.UNETS_XL):
        return
    patcher = build_tiny(entry)
    with pytest.raises(pack.core("config.checks").SliderError, match="native") as fault:
        save(pack.core, tmp_path / "a.safetensors", slider_on(pack.core, patcher, "auto"), "diffusers", patcher)
    assert fault.value.code == "format.no_names"


@pytest.mark.parametrize("title", ["SD15", "SDXL"])
def test_kohyas_names_of_a_unet_are_those_of_sd_scripts(title: str, pack, peers, tmp_path) -> None:
    """sd-scripts' rule: the path of each Linear and convolution inside a transformer or residual block, with underscores, in
    diffusers' class for SD 1.x and in the released one for SDXL."""
    from safetensors.torch import load_file

    peer = peers(title)
    slider = slider_on(pack.core, peer.ours, "all")
    stems = {key.split(".")[0] for key in load_file(save(pack.core, tmp_path / "a.safetensors", slider, "kohya", peer.ours))}
    module = peer.model() if title == "SD15" else peer.ours.model.diffusion_model
    blocks = ("Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D")
    ours = ("SpatialTransformer", "ResBlock", "Downsample", "Upsample")
    names = set()
    for path, block in module.named_modules():
        if type(block).__name__ in (*blocks, *ours):
            for inner, layer in block.named_modules():
                if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
                    names.add(f"lora_unet_{path}_{inner}".replace(".", "_"))
    assert names <= stems
    notes = pack.core("lora.loader_notes").loader_notes(slider.weights, pack.core("config.lora").FileFormat.KOHYA)
    assert any(f"{len(stems - names)} of {len(stems)}" in note for note in notes)


@pytest.mark.parametrize("title", readers.TITLES)
@pytest.mark.parametrize("program", readers.READERS)
def test_peft_and_lycoris_answer_as_apply_does(program: str, title: str, pack, tmp_path) -> None:
    for loaded, expected, gap in readers.deviations(pack.core, program, title, tmp_path):
        assert loaded == expected > 0
        assert gap < SAME


@pytest.mark.parametrize("case", ["SD15", "SDXL"])
def test_a_native_file_is_not_for_diffusers(case: str, pack, peers, tmp_path) -> None:
    """Why there is a format of its own."""
    slider = slider_on(pack.core, peers(case).ours, "auto")
    file = save(pack.core, tmp_path / "a.safetensors", slider, "native", peers(case).ours)
    with pytest.raises(ValueError, match="LoRA"):
        peers(case).changes(file, (1.0,))
