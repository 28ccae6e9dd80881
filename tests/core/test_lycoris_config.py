"""A LyCORIS configuration means here what it means to LyCORIS, and what cannot be a slider is refused by its name.

The oracle is LyCORIS' own network on the embedded model: which layers it takes, and their ranks and alphas. The one exception is
`target_module`, where the slider guide writes names of layers, with which LyCORIS makes nothing.
"""

import json

import pytest
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.layers.layer import Target
from slider_core.layers.select import survey
from slider_core.lora.algorithm import Kind
from slider_core.lora.lycoris_config import MUST_BE_OFF, NO_MATTER, TUCKER_KEYS, WITHOUT_SIGN, read_lycoris
from slider_core.lora.slider_adapter import Adapter
from slider_core.with_tiny.model import DEPTH, TinyBackend

# as the slider guide of SimpleTuner has it
GUIDE = """
{
  "algo": "lokr",
  "multiplier": 1.0,
  "linear_dim": 4,
  "linear_alpha": 1,
  "apply_preset": {
    "target_module": [
      "attn1.to_q",
      "attn1.to_k",
      "attn1.to_v",
      "attn1.to_out.0",
      "conv_in",
      "conv_out",
      "time_embedding.linear_1",
      "time_embedding.linear_2"
    ]
  }
}
"""
OURS = AdapterSpec(rank=9, alpha=9.0, exclude=("^modulation$",))  # what holds where a configuration says nothing
PRESETS = {
    "a pattern from the beginning of the path": {"target_name": [r"blocks\.\d+\.attn1\.to_q"]},
    "a part of a block": {"target_name": [r"blocks\.0\.attn2"]},
    "a whole path": {"target_name": ["proj_out", "time_embedding.linear_1"]},
    "alternatives": {"target_name": [r"proj_in|blocks\.1\.attn1\.to_v"]},
    "as file names are matched": {"use_fnmatch": True, "target_name": ["blocks.*.attn1.to_?", "proj_*"]},
    "as file names, from end to end": {"use_fnmatch": True, "target_name": ["*.linear_?", "blocks.0.attn1*", "proj_in"]},
    "some left out": {"target_name": [r"blocks\.\d\.attn1\.to_"], "exclude_name": [r"blocks\.[02]", "attn1"]},
    "some left out, as file names": {"use_fnmatch": True, "target_name": ["blocks.*.to_*"], "exclude_name": ["*.attn2.*"]},
    "no convolutions": {"target_name": ["proj_"], "enable_conv": False},
    "ranks of their own": {
        "target_name": [r"blocks\.0\.attn1\.to_[qk]"],
        "name_algo_map": {r"blocks\.0\.attn1\.to_q": {"dim": 8}, r"blocks\.1\.attn1": {"dim": 2, "alpha": 0.5}},
    },
}


@pytest.fixture
def lycoris(monkeypatch: pytest.MonkeyPatch) -> type:
    """LyCORIS keeps a preset on the class: put it back."""
    from lycoris.wrapper import LycorisNetwork

    for name, value in list(vars(LycorisNetwork).items()):
        if name.isupper():
            monkeypatch.setattr(LycorisNetwork, name, value)
    return LycorisNetwork


def sizes_by_lycoris(network: type, module: nn.Module, preset: dict, **options: object) -> dict[str, tuple[int, float]]:
    network.apply_preset({"target_module": [], **preset})
    paths = {f"lycoris_{path.replace('.', '_')}": path for path, _ in module.named_modules()}
    found = network(module, lora_dim=4, conv_lora_dim=4, alpha=1, network_module="lora", **options)
    return {paths[part.lora_name]: (part.lora_dim, float(part.alpha)) for part in found.loras}


def sizes(module: nn.Module, config: dict) -> dict[str, tuple[int, float]]:
    spec, _ = read_lycoris(json.dumps(config), AdapterSpec())
    adapter = Adapter.create(module, survey(module, spec).targets, spec)
    return {t.path: (w.rank, w.alpha) for t, w in adapter.weights().items()}


def paths(module: nn.Module, config: dict) -> set[str]:
    return {t.path for t in survey(module, read_lycoris(json.dumps(config), AdapterSpec())[0]).targets}


def test_the_guides_example_trains_its_layers_as_a_lokr_of_rank_4_and_alpha_1(backend: TinyBackend) -> None:
    spec, notes = read_lycoris(GUIDE, AdapterSpec())
    assert (spec.algorithm, spec.rank, spec.alpha) == (Algorithm.LOKR, 4, 1.0)
    found = survey(backend.module, spec)
    attention = {f"blocks.{i}.attn1.{n}" for i in range(DEPTH) for n in ("to_q", "to_k", "to_v", "to_out.0")}
    assert {t.path for t in found.targets} == attention | {"time_embedding.linear_1", "time_embedding.linear_2"}
    assert found.warning == "No layer of this model has these names: conv_in, conv_out."
    assert notes == ["multiplier has no meaning here and was left out"]
    weights = Adapter.create(backend.module, found.targets, spec).weights()
    assert {(w.kind, w.rank, w.alpha) for w in weights.values()} == {(Kind.LOKR, 4, 1.0)}
    assert weights[Target("time_embedding.linear_1")].tensors["lokr_w1"].shape == (8, 8)  # 128 = 8 x 16


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_layers_ranks_and_alphas_are_those_that_lycoris_takes(backend: TinyBackend, lycoris: type, preset: dict) -> None:
    wanted = sizes_by_lycoris(lycoris, backend.module, preset)
    assert wanted
    assert sizes(backend.module, {"apply_preset": preset}) == wanted


@pytest.mark.parametrize("shell", [False, True], ids=["regular expression", "file names"])
def test_a_pattern_does_not_begin_in_the_middle_of_a_name(lycoris: type, shell: bool) -> None:
    blocks, layer = ("blocks", "single_blocks"), "0"
    module = nn.ModuleDict({name: nn.ModuleDict({layer: nn.Linear(8, 8)}) for name in blocks})
    preset = {"target_name": ["blocks.?" if shell else r"blocks\.\d"], "use_fnmatch": shell}
    assert set(sizes_by_lycoris(lycoris, module, preset)) == {"blocks.0"}
    assert paths(module, {"apply_preset": preset}) == {"blocks.0"}


def test_what_it_does_not_say_is_lycoris_default_and_its_layers_are_ours() -> None:
    spec, notes = read_lycoris("{}", OURS)
    assert spec == AdapterSpec(rank=4, alpha=1.0, algorithm=Algorithm.LOCON, exclude=OURS.exclude)
    assert notes == []
    chosen = AdapterSpec(preset="custom", patterns=("to_q$",), names=("proj_in",))
    spec, _ = read_lycoris('{"algo": "full", "apply_preset": {"exclude_name": ["blocks.0"]}}', chosen)
    assert (spec.preset, spec.patterns, spec.names, spec.exclude) == ("custom", ("to_q$",), ("proj_in",), ("^(?:blocks.0)",))


MEANINGS = [
    ({"algo": "lora"}, {"algorithm": Algorithm.LOCON}),
    ({"algo": "LoKr", "factor": 8}, {"algorithm": Algorithm.LOKR, "factor": 8}),
    ({"algo": "lokr", "full_matrix": True}, {"full_matrix": True}),
    ({"algo": "lokr", "full_matrix": "true", "decompose_both": 1}, {"full_matrix": True, "decompose_both": True}),
    ({"algo": "loha", "linear_dim": 16, "linear_alpha": 8}, {"rank": 16, "alpha": 8.0, "algorithm": Algorithm.LOHA}),
    ({"algo": "locon", "conv_dim": 2, "conv_alpha": 0.5}, {"conv_rank": 2, "conv_alpha": 0.5}),
    ({"algo": "lora", "dora_wd": True, "wd_on_output": True}, {"algorithm": Algorithm.DORA}),
    ({"algo": "lora", "rs_lora": True}, {"algorithm": Algorithm.RSLORA}),
    ({"algo": "lora", "dora_wd": False, "rs_lora": "false"}, {"algorithm": Algorithm.LOCON}),
    *(({"algo": algo, key: True}, {"tucker": True}) for algo, key in zip(("loha", "lokr", "locon"), TUCKER_KEYS, strict=True)),
    ({"algo": "full", "use_tucker": True}, {"tucker": False}),
    ({"algo": "locon", "conv_dim": 0}, {"conv_rank": None}),
    ({"algo": "lokr", "factor": None, "linear_dim": None, "linear_alpha": None}, {"factor": -1, "rank": 4, "alpha": 1.0}),
    ({"algo": "lokr", "factor": 8.0, "linear_dim": 16.0}, {"factor": 8, "rank": 16}),
    ({"apply_preset": {"name_algo_map": None}}, {"preset": "auto", "rank_pattern": ()}),
    ({"algo": "glora", "dropout": 0.25}, {"dropout": 0.25, "algorithm": Algorithm.GLORA}),
    ({"algo": "lora", "dropout": 0, "rank_dropout": 0, "module_dropout": 0.0, "train_norm": False}, {"dropout": 0.0}),
    ({"algo": "lora", "apply_preset": {"enable_conv": False}}, {"conv_rank": 0}),
    ({"algo": "lora", "apply_preset": {"enable_conv": True}}, {"conv_rank": None}),
    ({"algo": "lora", "factor": 4}, {"factor": -1}),  # LyCORIS passes it to every algorithm; only LoKr knows it
]


def test_each_key_means_what_it_means_to_lycoris() -> None:
    for config, expected in MEANINGS:
        spec, _ = read_lycoris(json.dumps(config), AdapterSpec())
        assert {key: getattr(spec, key) for key in expected} == expected, config


def test_keys_without_a_meaning_here_are_noted_and_not_refused() -> None:
    for key in NO_MATTER:
        _, notes = read_lycoris(json.dumps({key: 1}), AdapterSpec())
        assert len(notes) == 1
        assert notes[0].startswith(key)


def test_a_presets_other_keys_are_noted() -> None:
    preset = {"text_encoder_target_module": ["CLIPAttention"], "lora_prefix": "mine", "target_name": ["proj_in"]}
    _, notes = read_lycoris(json.dumps({"apply_preset": preset}), AdapterSpec())
    assert [note.split()[0] for note in notes] == ["apply_preset.text_encoder_target_module", "apply_preset.lora_prefix"]
    preset = {"name_algo_map": {"proj_in": {"dim": 8}, "proj_out": {}}}
    spec, notes = read_lycoris(json.dumps({"apply_preset": preset}), AdapterSpec())
    assert spec.patterns == ("^(?:proj_in)", "^(?:proj_out)")
    assert spec.rank_pattern == (("^(?:proj_in)", 8),)
    assert notes[0].startswith("name_algo_map")


def test_every_algorithm_of_lycoris_is_taken_or_refused_with_its_reason() -> None:
    from lycoris.wrapper import network_module_dict

    for algo in {*network_module_dict, *WITHOUT_SIGN}:
        if algo in WITHOUT_SIGN:
            with pytest.raises(SliderError, match=f'"{algo}" .*{WITHOUT_SIGN[algo]}') as fault:
                read_lycoris(json.dumps({"algo": algo}), AdapterSpec())
            assert fault.value.code == "lycoris_config.no_sign"
            continue
        spec, notes = read_lycoris(json.dumps({"algo": algo}), AdapterSpec())
        assert spec.algorithm.value == {"lora": "locon"}.get(algo, algo)
        assert notes == []


REFUSED = [  # the configuration, the code's second half, what is named
    ("{", "no_json", ""),
    ("[]", "no_object", "list"),
    ({"linear_dimm": 4}, "key", '"linear_dim"'),
    ({"algo": "lokrr"}, "algorithm", '"lokr"'),
    ({"apply_preset": {"target_modul": []}}, "key", '"target_module"'),
    ({"preset": "attn-mlp"}, "preset", "apply_preset"),
    ({"apply_preset": ["attn"]}, "no_object", "apply_preset"),
    ({"apply_preset": {"target_module": "attn"}}, "names", "target_module"),
    ({"apply_preset": {"target_name": [1]}}, "names", "target_name"),
    ({"algo": "lokr", "apply_preset": {"module_algo_map": {"A": {"algo": "lora"}, "B": {}}}}, "mixed", "lokr"),
    ({"apply_preset": {"module_algo_map": {"Linear": {"dims": 2}}}}, "key", '"dim"'),
    ({"apply_preset": {"name_algo_map": {"proj": {"algo": "loha"}}}}, "key", '"algo"'),
    ({"apply_preset": {"name_algo_map": [1]}}, "no_object", "name_algo_map"),
    *(({key: 0.1}, "not_taken", key) for key in MUST_BE_OFF),
    ({"rank_dropout": "0.1"}, "not_taken", "rank_dropout"),
    ({"algo": "lokr", "dora_wd": True}, "dora", '"lora"'),
    ({"dora_wd": True, "rs_lora": True}, "dora", "rs_lora"),
    ({"dora_wd": True, "wd_on_output": False}, "columns", "wd_on_output"),
    ({"algo": "lokr", "factor": "many"}, "number", "factor"),
    ({"algo": "lokr", "factor": 2.5}, "number", "2.5"),
    ({"conv_dim": "4"}, "number", "conv_dim"),
    ({"linear_dim": "four"}, "number", "linear_dim"),
]


def test_what_is_wrong_is_refused_by_its_key() -> None:
    for config, code, named in REFUSED:
        with pytest.raises(SliderError) as fault:
            read_lycoris(config if isinstance(config, str) else json.dumps(config), AdapterSpec())
        assert fault.value.code == f"lycoris_config.{code}", config
        assert named in str(fault.value)


def test_what_an_adapter_cannot_be_is_refused() -> None:
    for config, named in (({"linear_dim": -4}, "rank"), ({"linear_alpha": "one"}, "alpha"), ({"dropout": 1.5}, "dropout")):
        with pytest.raises(SliderError, match=named) as fault:
            read_lycoris(json.dumps(config), AdapterSpec())
        assert fault.value.code == f"adapter_spec.{named}"


def test_a_preset_that_chooses_nothing_is_an_error_not_silence(backend: TinyBackend) -> None:
    for preset in (
        {"target_module": ["conv_in", "Resampler"]},
        {"target_name": ["attn1"]},
        {"target_name": ["attn1("]},
        {"target_name": ["proj_in"], "exclude_name": ["proj"]},
    ):
        with pytest.raises(SliderError, match=r"conv_in|attn1|layer"):
            survey(backend.module, read_lycoris(json.dumps({"apply_preset": preset}), AdapterSpec())[0])


def test_a_class_under_target_module_means_every_layer_in_it(backend: TinyBackend) -> None:
    found = paths(backend.module, {"apply_preset": {"target_module": ["TimeEmbedding", "FeedForward"]}})
    feed = {f"blocks.{i}.ff.net.{n}" for i in range(DEPTH) for n in (0, 2)}
    assert found == feed | {"time_embedding.linear_1", "time_embedding.linear_2"}


SHIPPED = [  # the shapes of the 29 files that SimpleTuner ships: the classes with their factors
    {"Attention": 16, "FeedForward": 8},
    {"Cosmos3PackedMoTAttention": 25},
    {"Flux2Attention": 2, "Flux2FeedForward": 4, "Flux2ParallelSelfAttention": 2},
    {"Kandinsky5Attention": 2, "Kandinsky5FeedForward": 4},
    {"MMDiTAttention": 2, "SwiGLUFFN": 4},
    {"BriaTransformer2DModel": 25},
]


@pytest.mark.parametrize("factors", SHIPPED, ids="-".join)
def test_factors_by_class_reach_the_layers_of_that_kind(backend: TinyBackend, factors: dict) -> None:
    from lycoris.modules.lokr import LokrModule

    preset = {"target_module": list(factors), "module_algo_map": {name: {"factor": n} for name, n in factors.items()}}
    config = {"algo": "lokr", "full_matrix": True, "linear_dim": 10000, "linear_alpha": 1, "factor": 4, "apply_preset": preset}
    spec, _ = read_lycoris(json.dumps(config), AdapterSpec())
    found = survey(backend.module, spec)
    weights = Adapter.create(backend.module, found.targets, found.spec).weights()
    for target, weight in weights.items():
        wanted = next((n for name, n in factors.items() if ("Attention" in name) == ("attn" in target.path)), None)
        wanted = wanted or next(iter(factors.values()))
        expected = LokrModule("x", backend.module.get_submodule(target.path), 1.0, 10000, 1, factor=wanted, full_matrix=True)
        assert weight.tensors["lokr_w1"].shape == expected.lokr_w1.shape, target
    assert len(weights) == len(found.targets) > 0


def test_an_algorithm_rank_and_alpha_by_class_are_taken(backend: TinyBackend, lycoris: type) -> None:
    preset = {"target_module": ["Attention"], "module_algo_map": {"Attention": {"algo": "lora", "dim": 8, "alpha": 4}}}
    spec, _ = read_lycoris(json.dumps({"algo": "lokr", "linear_dim": 16, "apply_preset": preset}), AdapterSpec())
    found = survey(backend.module, spec)
    weights = Adapter.create(backend.module, found.targets, found.spec).weights()
    assert {(w.kind, w.rank, w.alpha) for w in weights.values()} == {(Kind.LORA, 8, 4.0)}


def test_classes_are_taken_as_lycoris_takes_them(backend: TinyBackend, lycoris: type) -> None:
    for names in (["Attention"], ["Linear"], ["TimeEmbedding", "Conv2d"]):
        wanted = sizes_by_lycoris(lycoris, backend.module, {"target_module": names})
        assert paths(backend.module, {"apply_preset": {"target_module": names}}) == set(wanted)


def test_both_spellings_of_the_image_models_keys_are_read(backend: TinyBackend) -> None:
    preset = {"unet_target_module": ["TimeEmbedding"], "unet_target_name": ["proj_in"], "target_name": ["proj_out"]}
    assert paths(backend.module, {"apply_preset": preset}) == {
        "time_embedding.linear_1",
        "time_embedding.linear_2",
        "proj_in",
        "proj_out",
    }
