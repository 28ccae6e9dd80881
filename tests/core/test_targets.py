"""The right layers, and the text left alone."""

import pytest
import torch
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.layers.recognise import ARCHITECTURES, guess
from slider_core.layers.select import presets, select, survey, survey_for
from slider_core.with_tiny.model import DEPTH, TinyBackend


def tree(*names: str, wide: int = 2) -> nn.Module:
    """A module with a Linear at each of these paths."""
    root = nn.Module()
    for name in names:
        at = root
        *parents, last = name.split(".")
        for part in parents:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.add_module(last, nn.Linear(wide, wide))
    return root


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
    return tree(*names)


def test_auto_takes_the_image_side_of_the_embedded_model(backend: TinyBackend) -> None:
    found = survey(backend.module)
    paths = [t.path for t in found.targets]
    assert found.architecture == "general"
    assert len(paths) == 4 * DEPTH + 4  # q, k, v, out of each block; proj_in, proj_out and the two of the time embedding
    assert {"proj_in", "proj_out", "time_embedding.linear_1", "time_embedding.linear_2"} < set(paths)
    assert not any("attn2" in p or ".ff." in p for p in paths)
    assert len(found.text_layers) == 4 * DEPTH


def test_auto_recognises_a_unet_by_comfyui_names() -> None:
    found = survey(unet_like())
    paths = {t.path.removeprefix("input_blocks.1.1.transformer_blocks.0.") for t in found.targets}
    assert found.architecture == "unet"
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
    assert len(select(backend.module, "all")) == every


def test_custom_patterns_and_exclude(backend: TinyBackend) -> None:
    found = select(backend.module, "custom", patterns=(r"attn1\.to_q$",), exclude=(r"blocks\.0\.",))
    assert [t.path for t in found] == [f"blocks.{i}.attn1.to_q" for i in range(1, DEPTH)]


def test_a_pattern_that_matches_nothing_shows_the_nearest_names(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match=r'"attn1\.to_queue" matches no layer; the nearest are: .*attn1\.to_q'):
        select(backend.module, "custom", patterns=("attn1.to_queue",))


def test_a_broken_pattern_is_named(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match="not a valid regular expression"):
        select(backend.module, "custom", patterns=("attn1(",))


def test_an_unknown_model_is_an_error_with_a_way_out() -> None:
    with pytest.raises(SliderError, match='use the preset "custom"'):
        select(nn.Sequential(nn.Linear(2, 2), torch.nn.ReLU()))


def test_excluding_everything_is_an_error(backend: TinyBackend) -> None:
    with pytest.raises(SliderError, match="leaves no layer"):
        select(backend.module, exclude=(".",))


def test_the_presets_are_the_four_and_a_family_each() -> None:
    assert presets() == ["auto", "reference", "all", "custom", *(f.name for f in ARCHITECTURES)]
    assert len(set(presets())) == len(presets())


def test_a_misspelt_preset_shows_the_nearest() -> None:
    with pytest.raises(SliderError, match='preset "flus" is not known; did you mean "flux"'):
        select(unet_like(), "flus")


def test_a_family_by_name_insists_on_its_architecture() -> None:
    with pytest.raises(SliderError, match=r'"wan" is for Wan .* and their kin, and this model is "unet"'):
        select(unet_like(), "wan")


def test_a_family_by_name_on_an_unknown_model_warns() -> None:
    found = survey(tree("blocks.0.self_attn.q", "blocks.0.self_attn.k"), "wan")
    assert len(found.targets) == 2
    assert found.warning


def test_an_unknown_model_with_diffusers_names_is_guessed_not_taken_for_the_demo() -> None:
    names = ("to_q", "to_k", "to_v")
    model = tree("proj_in", *(f"{at}.0.attn1.{n}" for at in ("stages", "text_refiner") for n in names))
    found = survey(model)
    assert [t.path for t in found.targets] == [f"stages.0.attn1.{n}" for n in names]
    assert found.warning


def test_reference_where_the_guide_reaches_nothing_is_an_error() -> None:
    lumina = tree("layers.0.attention.qkv", "noise_refiner.0.attention.qkv", "cap_embedder.1")
    with pytest.raises(SliderError, match="reach no layer of Lumina 2"):
        select(lumina, "reference")
    assert {t.path for t in select(unet_like(), "reference")} == {t.path for t in select(unet_like())}


def test_a_fused_output_moves_its_query_key_and_value_only() -> None:
    flux = tree("double_blocks.0.img_attn.qkv", "double_blocks.0.img_mod.lin", "img_in", "txt_in")
    flux.single_blocks = nn.ModuleList([nn.Module()])
    flux.single_blocks[0].linear1 = nn.Linear(8, 56)
    rows = {t.path: t.rows for t in select(flux)}
    assert rows == {"double_blocks.0.img_attn.qkv": None, "single_blocks.0.linear1": (0, 24)}


def test_convolutions_of_every_dimension_are_layers() -> None:
    root = nn.Module()
    root.one, root.two, root.three = nn.Conv1d(2, 2, 1), nn.Conv2d(2, 2, 3), nn.Conv3d(2, 2, 1)
    root.grouped = nn.Conv2d(4, 4, 1, groups=2)
    assert [t.path for t in select(root, "all")] == ["one", "two", "three"]


def test_an_unknown_model_is_guessed_from_its_structure_with_a_warning() -> None:
    names = ["wq", "wk", "wv", "wo"]
    model = tree(
        *(f"stages.{i}.mixer_attn.{n}" for i in range(3) for n in names),
        *(f"stages.{i}.text_attn.{n}" for i in range(3) for n in names),
        *(f"stages.{i}.cross_attn.{n}" for i in range(3) for n in names),
        *(f"stages.{i}.attn_b.{n}" for i in range(3) for n in names),  # the second of a block is taken for cross-attention
        *(f"caption_refiner.{i}.attn.{n}" for i in range(2) for n in names),
        "stages.0.ff",
    )
    found = survey(model)
    assert {t.path for t in found.targets} == {f"stages.{i}.mixer_attn.{n}" for i in range(3) for n in names}
    report = found.report(AdapterSpec(rank=4))
    assert report.startswith("Warning: This architecture is not known")
    assert "stages.*.mixer_attn.wq (3)" in report


def test_the_guess_leaves_out_attention_whose_key_is_of_another_width() -> None:
    model = tree("blocks.0.attn.to_q", "blocks.0.attn.to_k", "blocks.0.attn.to_v")
    assert len(guess(model)) == 3
    model.blocks.get_submodule("0").attn.to_k = nn.Linear(5, 2)
    assert guess(model) == []


def test_the_report_counts_what_is_trained(backend: TinyBackend) -> None:
    found = survey(backend.module, "custom", patterns=(r"^blocks\.0\.attn1\.to_q$",))
    layer = backend.module.get_submodule("blocks.0.attn1.to_q")
    assert f"{3 * sum(layer.weight.shape):,} trainable parameters at rank 3" in found.report(AdapterSpec(rank=3))
    assert "First: blocks.0.attn1.to_q" in found.report(AdapterSpec(rank=3))


@pytest.mark.parametrize("algorithm", ["dora", "lokr", "full"])
def test_the_report_of_another_algorithm_names_it_and_counts_nothing_wrong(backend: TinyBackend, algorithm: str) -> None:
    report = survey(backend.module).report(AdapterSpec(algorithm=algorithm))
    assert f", {algorithm}, rank 4;" in report
    assert "trainable parameters" not in report


# --- names: the end of a path, a class, another program's name


def fused_model() -> nn.Module:
    model = tree("blocks.0.attn.qkv", "blocks.1.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc")
    for block in "01":
        model.blocks.get_submodule(block).attn.qkv = nn.Linear(4, 12)
    return model


def aliases_of(model: nn.Module) -> dict[str, Target]:
    """As ComfyUI has them: diffusers' q, k and v are slices of ours."""
    names = {
        f"transformer.layers.{i}.to_{n}": Target(f"blocks.{i}.attn.qkv", (4 * j, 4 * j + 4))
        for i in (0, 1)
        for j, n in enumerate("qkv")
    }
    return names | {"transformer.layers.0.to_out.0": Target("blocks.0.attn.proj"), "transformer.gone": Target("nowhere")}


def named(*names: str, aliases: dict[str, Target] | None = None, patterns: tuple[str, ...] = ()) -> list[Target]:
    return list(survey(fused_model(), "custom", patterns, names=names, aliases=aliases).targets)


def test_a_name_is_the_end_of_a_path_between_dots() -> None:
    assert named("attn.qkv") == [Target("blocks.0.attn.qkv"), Target("blocks.1.attn.qkv")]
    assert named("proj") == [Target("blocks.0.attn.proj")]
    with pytest.raises(SliderError, match="None of the names kv means a layer"):
        named("kv")


def test_a_name_is_a_class_too() -> None:
    assert {t.path for t in named("Linear")} == {t.path for t in select(fused_model(), "all")}


def test_another_programs_name_means_our_layer_or_its_slice() -> None:
    aliases = aliases_of(fused_model())
    assert named("to_out.0", aliases=aliases) == [Target("blocks.0.attn.proj")]
    assert named("to_q", aliases=aliases) == [Target(f"blocks.{i}.attn.qkv", (0, 4)) for i in (0, 1)]
    assert named(aliases=aliases, patterns=(r"layers\.0\.to_q$",)) == [Target("blocks.0.attn.qkv", (0, 4))]


def test_slices_that_touch_become_one_and_all_of_them_the_layer() -> None:
    aliases = aliases_of(fused_model())
    assert named("layers.0.to_q", "layers.0.to_k", aliases=aliases) == [Target("blocks.0.attn.qkv", (0, 8))]
    assert named("layers.0.to_v", "layers.0.to_q", aliases=aliases) == [
        Target("blocks.0.attn.qkv", (0, 4)),
        Target("blocks.0.attn.qkv", (8, 12)),
    ]
    assert named("layers.0.to_v", "layers.0.to_k", "layers.0.to_q", aliases=aliases) == [Target("blocks.0.attn.qkv")]
    assert named("layers.0.to_k", "blocks.0.attn.qkv", aliases=aliases) == [Target("blocks.0.attn.qkv")]


def test_a_layer_that_two_names_mean_is_taken_once() -> None:
    assert named("attn.proj", "proj", patterns=("proj",)) == [Target("blocks.0.attn.proj")]


def test_names_that_mean_nothing_are_told_and_none_that_means_anything_is_an_error() -> None:
    found = survey(fused_model(), "custom", names=("proj", "conv_in"))
    assert found.warning == "No layer of this model has these names: conv_in."
    with pytest.raises(SliderError, match=r"None of the names conv_in, gone means a layer .* first layers are: blocks\.0"):
        named("conv_in", "gone", aliases=aliases_of(fused_model()))


def test_a_spec_is_surveyed_by_its_own_fields() -> None:
    spec = AdapterSpec(preset="custom", names=("to_q",), exclude=(r"blocks\.1",))
    assert survey_for(fused_model(), spec, aliases_of(fused_model())).targets == (Target("blocks.0.attn.qkv", (0, 4)),)


def test_layers_with_a_rank_of_zero_are_not_surveyed(backend: TinyBackend) -> None:
    with_conv, without = (survey_for(backend.module, AdapterSpec(conv_rank=rank)) for rank in (None, 0))
    assert {t.path for t in with_conv.targets} - {t.path for t in without.targets} == {"proj_in"}
    assert with_conv.per_rank - without.per_rank == 128 + 3 * 16 * 16
    with pytest.raises(SliderError, match="conv_rank of 0 leaves no layer"):
        survey_for(backend.module, AdapterSpec(preset="custom", patterns=("proj_in",), conv_rank=0))
