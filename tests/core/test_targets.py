"""The right layers, and the text left alone."""

import pytest
import torch
from torch import nn

from slider_core.config import AdapterSpec, Preset, SliderError
from slider_core.targets import select
from slider_core.tiny import DEPTH, TinyBackend


def unet_like() -> nn.Module:
    """ComfyUI's names of an SD UNet, a few of each kind."""
    names = [
        "input_blocks.0.0",
        "time_embed.0",
        "time_embed.2",
        "out.2",
        "input_blocks.1.0.in_layers.2",
        "input_blocks.1.0.emb_layers.1",
        *(f"input_blocks.1.1.transformer_blocks.0.attn1.{n}" for n in ("to_q", "to_k", "to_v", "to_out.0")),
        *(f"input_blocks.1.1.transformer_blocks.0.{n}" for n in ("attn2.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.0.proj")),
        "input_blocks.1.1.proj_in",
        "input_blocks.1.1.proj_out",
        "label_emb.0.0",
    ]
    root = nn.Module()
    for name in names:
        at = root
        *parents, last = name.split(".")
        for part in parents:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.add_module(last, nn.Linear(2, 2))
    return root


def test_auto_takes_the_image_side_of_the_embedded_model(backend: TinyBackend) -> None:
    found = select(backend.module, AdapterSpec())
    paths = [t.path for t in found.targets]
    assert found.family == "general"
    assert len(paths) == 4 * DEPTH + 4  # q, k, v, out of each block; proj_in, proj_out and the two of the time embedding
    assert {"proj_in", "proj_out", "time_embedding.linear_1", "time_embedding.linear_2"} < set(paths)
    assert not any("attn2" in p or ".ff." in p for p in paths)
    assert len(found.text_layers) == 4 * DEPTH


def test_auto_recognises_a_unet_by_comfyui_names() -> None:
    found = select(unet_like(), AdapterSpec())
    paths = {t.path.removeprefix("input_blocks.1.1.transformer_blocks.0.") for t in found.targets}
    assert found.family == "unet"
    assert paths == {
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
        "input_blocks.0.0",
        "time_embed.0",
        "time_embed.2",
        "out.2",
        "input_blocks.1.1.proj_in",
        "input_blocks.1.1.proj_out",
    }


def test_all_takes_every_linear_and_conv(backend: TinyBackend) -> None:
    every = sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in backend.module.modules())
    assert len(select(backend.module, AdapterSpec(preset=Preset.ALL)).targets) == every


def test_custom_patterns_and_exclude(backend: TinyBackend) -> None:
    spec = AdapterSpec(preset=Preset.CUSTOM, patterns=(r"attn1\.to_q$",), exclude=(r"blocks\.0\.",))
    assert [t.path for t in select(backend.module, spec).targets] == [f"blocks.{i}.attn1.to_q" for i in range(1, DEPTH)]


def test_a_pattern_that_matches_nothing_shows_the_nearest_names(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match=r'"attn1\.to_queue" matches no layer; the nearest are: .*attn1\.to_q'):
        select(backend.module, AdapterSpec(preset=Preset.CUSTOM, patterns=("attn1.to_queue",)))


def test_a_broken_pattern_is_named(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match="not a valid regular expression"):
        select(backend.module, AdapterSpec(preset=Preset.CUSTOM, patterns=("attn1(",)))


def test_an_unknown_model_is_an_error_with_a_way_out() -> None:
    with pytest.raises(SliderError, match='use the preset "custom"'):
        select(nn.Sequential(nn.Linear(2, 2), torch.nn.ReLU()), AdapterSpec())


def test_excluding_everything_is_an_error(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match="leaves no layer"):
        select(backend.module, AdapterSpec(exclude=(".",)))
