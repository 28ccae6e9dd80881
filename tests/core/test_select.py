"""The right layers, and the text left alone."""

from dataclasses import replace

import pytest
from core.faults import refused
from torch import nn

from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.layers.layer import Target
from slider_core.layers.recognise import ARCHITECTURES
from slider_core.layers.recognise_guess import guess
from slider_core.layers.select import presets, select, survey
from slider_core.with_tiny.model import DEPTH, TinyBackend

PROJECTIONS = ("wq", "wk", "wv", "wo")
UNET_ATTENTION = "input_blocks.1.1.transformer_blocks.0.attn1."
UNET_IMAGE = [
    *(UNET_ATTENTION + name for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *("input_blocks.0.0", "time_embed.0", "time_embed.2", "out.2", "input_blocks.1.1.proj_in", "input_blocks.1.1.proj_out"),
]
UNET_REST = [
    *("input_blocks.1.0.in_layers.2", "input_blocks.1.0.emb_layers.1", "label_emb.0.0"),
    *(f"input_blocks.1.1.transformer_blocks.0.{name}" for name in ("attn2.to_q", "attn2.to_out.0", "ff.net.0.proj")),
]


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


def chosen(module: nn.Module, spec: AdapterSpec | None = None) -> set[str]:
    return {str(target) for target in survey(module, spec).targets}


def test_auto_takes_the_image_side_of_the_embedded_model(backend: TinyBackend) -> None:
    selection = survey(backend.module)
    paths = {t.path for t in selection.targets}
    assert selection.architecture == "general"
    assert len(paths) == 4 * DEPTH + 4  # q, k, v, out of each block; proj_in, proj_out and the two of the time embedding
    assert {"proj_in", "proj_out", "time_embedding.linear_1", "time_embedding.linear_2"} < paths
    assert not any("attn2" in p or ".ff." in p for p in paths)
    assert len(selection.text_layers) == 4 * DEPTH


def test_auto_recognises_a_unet_by_comfyui_names() -> None:
    unet = tree(*UNET_IMAGE, *UNET_REST)
    assert survey(unet).architecture == "unet"
    assert chosen(unet) == set(UNET_IMAGE)
    assert chosen(unet, AdapterSpec(preset="reference")) == set(UNET_IMAGE)


def test_all_takes_every_linear_and_convolution_without_groups() -> None:
    root = tree("linear")
    root.one, root.two, root.three = nn.Conv1d(2, 2, 1), nn.Conv2d(2, 2, 3), nn.Conv3d(2, 2, 1)
    root.grouped = nn.Conv2d(4, 4, 1, groups=2)
    assert chosen(root, AdapterSpec(preset="all")) == {"linear", "one", "two", "three"}


def test_custom_patterns_and_exclude(backend: TinyBackend) -> None:
    targets = select(backend.module, "custom", patterns=(r"attn1\.to_q$",), exclude=(r"blocks\.0\.",))
    assert [t.path for t in targets] == [f"blocks.{i}.attn1.to_q" for i in range(1, DEPTH)]


def test_a_choice_that_reaches_nothing_is_an_error_with_a_way_out(backend: TinyBackend) -> None:
    with refused("target.pattern_unmatched", "attn1.to_queue", "attn1.to_q,"):
        select(backend.module, "custom", patterns=("attn1.to_queue",))
    with refused("adapter_spec.pattern_invalid", "attn1("):
        select(backend.module, "custom", patterns=("attn1(",))
    with refused("target.unknown_architecture", "custom"):
        select(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    with refused("target.no_layer", "auto"):
        select(backend.module, exclude=(".",))
    with refused("target.no_layer"):
        survey(backend.module, AdapterSpec(preset="custom", patterns=("proj_in",), conv_rank=0))
    lumina = tree("layers.0.attention.qkv", "noise_refiner.0.attention.qkv", "cap_embedder.1")
    with refused("target.reference_empty", "Lumina 2"):
        select(lumina, "reference")


def test_an_architecture_by_name_must_be_the_models() -> None:
    assert presets() == ["auto", "reference", "all", "custom", *(a.name for a in ARCHITECTURES)]
    unet = tree(*UNET_IMAGE)
    with refused("target.unknown_preset", "flus", '"flux"'):
        select(unet, "flus")
    with refused("target.other_architecture", "wan", '"unet"'):
        select(unet, "wan")
    unknown = survey(tree("blocks.0.self_attn.q", "blocks.0.self_attn.k"), AdapterSpec(preset="wan"))
    assert len(unknown.targets) == 2
    assert unknown.warning


def test_a_fused_output_moves_its_query_key_and_value_only() -> None:
    flux = tree("double_blocks.0.img_attn.qkv", "double_blocks.0.img_mod.lin", "img_in", "txt_in")
    flux.single_blocks = nn.ModuleList([nn.Module()])
    flux.single_blocks[0].linear1 = nn.Linear(8, 56)
    assert chosen(flux) == {"double_blocks.0.img_attn.qkv", "single_blocks.0.linear1[0:24]"}


def test_an_unknown_model_is_guessed_from_its_structure_with_a_warning() -> None:
    parents = [f"stages.{i}.{name}" for i in range(3) for name in ("mixer_attn", "text_attn", "cross_attn", "attn_b")]
    parents += [f"caption_refiner.{i}.attn" for i in range(2)]
    selection = survey(tree(*(f"{parent}.{name}" for parent in parents for name in PROJECTIONS), "stages.0.ff"))
    # the second attention of a block, attn_b, is taken for cross-attention
    assert {t.path for t in selection.targets} == {f"stages.{i}.mixer_attn.{n}" for i in range(3) for n in PROJECTIONS}
    report = selection.report()
    assert report.startswith("Warning: ")
    assert "stages.*.mixer_attn.wq (3)" in report


def test_a_model_with_diffusers_names_is_guessed_not_taken_for_the_demo() -> None:
    names = ("to_q", "to_k", "to_v")
    model = tree("proj_in", *(f"{at}.0.attn1.{n}" for at in ("stages", "text_refiner") for n in names))
    assert chosen(model) == {"proj_in", *(f"stages.0.attn1.{n}" for n in names)}


def test_qwen_image_2_1_is_guessed_by_its_published_names() -> None:
    attention = [f"transformer_blocks.{n}.attn.{name}" for n in range(2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
    others = [f"transformer_blocks.{n}.{name}" for n in range(2) for name in ("img_mlp.gate_up", "img_mlp.out", "modulation.1")]
    assert chosen(tree("img_in", "txt_in", "proj_out", *attention, *others)) == {"proj_out", *attention}


def test_of_two_streams_only_the_one_named_as_the_images_is_guessed() -> None:
    joint = [f"blocks.0.attn.{name}" for name in ("img_qkv", "txt_qkv", "out")]
    unnamed = [f"blocks.1.attn.{name}" for name in ("w1q", "w2q", "w1k", "w2k")]
    tower = ["qwen.layers.0.self_attn.q_proj", "qwen.layers.0.self_attn.k_proj"]
    assert set(guess(tree(*joint, *unnamed, *tower))) == {"blocks.0.attn.img_qkv", "blocks.0.attn.out"}


def test_the_guess_leaves_out_attention_whose_key_is_of_another_width() -> None:
    model = tree("blocks.0.attn.to_q", "blocks.0.attn.to_k", "blocks.0.attn.to_v")
    assert len(guess(model)) == 3
    model.blocks.get_submodule("0").attn.to_k = nn.Linear(5, 2)
    assert guess(model) == []


def test_the_report_counts_what_is_trained_where_it_can(backend: TinyBackend) -> None:
    spec = AdapterSpec(rank=3, preset="custom", patterns=(r"^blocks\.0\.attn1\.to_q$",))
    layer = backend.module.get_submodule("blocks.0.attn1.to_q")
    report = survey(backend.module, spec).report()
    assert f"{3 * sum(layer.weight.shape):,} trainable parameters at rank 3" in report
    assert "blocks.0.attn1.to_q" in report
    for algorithm in (Algorithm.DORA, Algorithm.LOKR, Algorithm.FULL):
        report = survey(backend.module, replace(spec, algorithm=algorithm)).report()
        assert f", {algorithm.value}, rank 3;" in report
        assert "trainable parameters" not in report


def test_layers_with_a_rank_of_zero_are_left_out(backend: TinyBackend) -> None:
    everything, no_convolutions = (survey(backend.module, AdapterSpec(conv_rank=rank)) for rank in (None, 0))
    assert {t.path for t in everything.targets} - {t.path for t in no_convolutions.targets} == {"proj_in"}
    assert everything.per_rank - no_convolutions.per_rank == 128 + 3 * 16 * 16


def test_a_pattern_of_ranks_that_matches_no_layer_is_a_warning(backend: TinyBackend) -> None:
    spec = AdapterSpec(rank_pattern=(("to_q", 2), ("nowhere", 3)), alpha_pattern=(("nowhere", 1.0),))
    assert "nowhere" in survey(backend.module, spec).warning
    assert "to_q" not in survey(backend.module, spec).warning


# --- names: the end of a path, a class, another program's name

QKV = [Target(f"blocks.{i}.attn.qkv") for i in (0, 1)]


@pytest.fixture
def fused() -> nn.Module:
    model = tree(*map(str, QKV), "blocks.0.attn.proj", "blocks.0.mlp.fc")
    for block in "01":
        model.blocks.get_submodule(block).attn.qkv = nn.Linear(4, 12)
    return model


@pytest.fixture
def aliases() -> dict[str, Target]:
    """As ComfyUI has them: diffusers' q, k and v are slices of ours."""
    names = {"transformer.layers.0.to_out.0": Target("blocks.0.attn.proj"), "transformer.gone": Target("nowhere")}
    for block in (0, 1):
        for place, name in enumerate("qkv"):
            names[f"transformer.layers.{block}.to_{name}"] = Target(str(QKV[block]), (4 * place, 4 * place + 4))
    return names


def named(*names: str, patterns: tuple[str, ...] = (), **fields: tuple[str, ...]) -> AdapterSpec:
    return AdapterSpec(preset="custom", names=names, patterns=patterns, **fields)


def test_a_name_is_the_end_of_a_path_between_dots_or_a_class(fused: nn.Module) -> None:
    assert survey(fused, named("attn.qkv")).targets == tuple(QKV)
    assert chosen(fused, named("proj")) == chosen(fused, named("attn.proj", "proj", patterns=("proj",))) == {"blocks.0.attn.proj"}
    assert chosen(fused, named("Linear")) == chosen(fused, AdapterSpec(preset="all"))
    with refused("target.names_unmatched", "kv"):
        survey(fused, named("kv"))


def test_another_programs_name_means_our_layer_or_its_slice(fused: nn.Module, aliases: dict[str, Target]) -> None:
    first = (Target(str(QKV[0]), (0, 4)),)
    assert survey(fused, named("to_out.0"), aliases).targets == (Target("blocks.0.attn.proj"),)
    assert survey(fused, named("to_q"), aliases).targets == (*first, Target(str(QKV[1]), (0, 4)))
    assert survey(fused, named("to_q", exclude=(r"blocks\.1",)), aliases).targets == first
    assert survey(fused, named(patterns=(r"layers\.0\.to_q$",)), aliases).targets == first


def test_slices_that_touch_become_one_and_all_of_them_the_layer(fused: nn.Module, aliases: dict[str, Target]) -> None:
    def rows(*names: str) -> list[tuple[int, int] | None]:
        return [target.rows for target in survey(fused, named(*names), aliases).targets]

    assert rows("layers.0.to_q", "layers.0.to_k") == [(0, 8)]
    assert rows("layers.0.to_v", "layers.0.to_q") == [(0, 4), (8, 12)]
    assert rows("layers.0.to_v", "layers.0.to_k", "layers.0.to_q") == [None]
    assert rows("layers.0.to_k", "blocks.0.attn.qkv") == [None]


def test_a_name_without_a_layer_is_a_warning_and_no_layer_at_all_an_error(fused: nn.Module, aliases: dict[str, Target]) -> None:
    assert "conv_in" in survey(fused, named("proj", "conv_in")).warning
    with refused("target.names_unmatched", "conv_in, gone", "blocks.0"):
        survey(fused, named("conv_in", "gone"), aliases)
