"""What a file holds beside plain factors: biases, norms, scalars, alphas in the header, DoRA on slices and on other updates,
cores, and what has no place. Each is applied as its own maker applies it, live, merged and written again.
"""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from core.faults import refused
from core.nets import CLOSE, STRENGTHS, randn
from safetensors.torch import save_file
from torch import nn

from slider_core.config.lora import FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.algorithm import Kind
from slider_core.lora.combine import by_layer
from slider_core.lora.file_left_out import Reason
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, load_slider, save_slider
from slider_core.lora.strength import at_strength

IN, OUT, RANK, ALPHA = 8, 12, 2, 3.0
A, B = randn(RANK, IN, seed=1), randn(OUT, RANK, seed=2)
BIAS, SCALE = randn(OUT, seed=3), randn(IN, seed=4)
STEM = "diffusion_model.plain"
LORA = {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B, f"{STEM}.alpha": torch.tensor(ALPHA)}
UPDATE = ALPHA / RANK * B @ A


class Net(nn.Module):
    """Norms of each kind, a convolution of one place, a Linear, one without a bias, q, k and v in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.group, self.conv = nn.GroupNorm(2, 4), nn.Conv2d(4, IN, 1)
        self.norm, self.plain = nn.LayerNorm(IN), nn.Linear(IN, OUT)
        self.rms, self.bare = nn.RMSNorm(OUT, eps=1e-6), nn.Linear(OUT, IN, bias=False)
        self.qkv = nn.Linear(IN, 3 * IN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.conv(self.group(x))).flatten(2).transpose(1, 2)
        return self.qkv(self.bare(self.rms(torch.tanh(self.plain(self.norm(h))))))


@pytest.fixture
def net() -> Net:
    net = Net().requires_grad_(False)
    for number, p in enumerate(net.parameters()):
        p.copy_(0.4 * randn(*p.shape, seed=5 + number) + float(p.ndim == 1))
    return net


def read(state: dict[str, torch.Tensor], tmp_path: Path, header: dict[str, str] | None = None) -> Slider:
    save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "theirs.safetensors", header)
    return load_slider(tmp_path / "theirs.safetensors")


def acts(net: Net, slider: Slider, change: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Live, and live once more out of a native file, it adds strength * change to the parameters of those names."""
    x = randn(len(STRENGTHS), 4, 3, 3, seed=9)
    wanted = []
    for strength, image in zip(STRENGTHS, x, strict=True):
        shifted = {name: p + strength * change.get(name, 0.0) for name, p in net.named_parameters()}
        wanted.append(torch.func.functional_call(net, shifted, (image[None],)))
    slider = slider.on(net)
    save_slider(tmp_path / "again.safetensors", slider, overwrite=True)
    for weights in (slider.weights, load_slider(tmp_path / "again.safetensors").weights):
        with torch.no_grad(), at_strength(Adapter.from_weights(net, weights), net, STRENGTHS):
            torch.testing.assert_close(net(x), torch.cat(wanted), **CLOSE)
        for path, weight in by_layer(weights).items():
            if weight.kind is not Kind.VECTOR:
                base = net.get_submodule(path).weight
                torch.testing.assert_close(weight.delta(base), change[f"{path}.weight"].flatten(1), **CLOSE)


# --- biases, norms, scalars

LOKR = {f"{STEM}.lokr_w1": randn(3, 2, seed=6), f"{STEM}.lokr_w2": randn(4, 4, seed=7)}
KRON = torch.kron(LOKR[f"{STEM}.lokr_w1"], LOKR[f"{STEM}.lokr_w2"])
BESIDE = {
    "a bias beside a lora": (LORA | {f"{STEM}.diff_b": BIAS}, {"plain.weight": UPDATE, "plain.bias": BIAS}),
    "a bias beside a lokr": (LOKR | {f"{STEM}.diff_b": BIAS}, {"plain.weight": KRON, "plain.bias": BIAS}),
    "a bias beside a difference": (
        {f"{STEM}.diff": UPDATE, f"{STEM}.diff_b": BIAS},
        {"plain.weight": UPDATE, "plain.bias": BIAS},
    ),
    "a bias alone": (LORA | {"diffusion_model.conv.diff_b": SCALE}, {"plain.weight": UPDATE, "conv.bias": SCALE}),
    "a bias of peft": (LORA | {f"{STEM}.lora_B.bias": BIAS}, {"plain.weight": UPDATE, "plain.bias": ALPHA / RANK * BIAS}),
    "a norm": (LORA | {"diffusion_model.norm.diff": SCALE}, {"plain.weight": UPDATE, "norm.weight": SCALE}),
    "a norm of lycoris": (
        {"lycoris_group.w_norm": SCALE[:4], "lycoris_group.b_norm": BIAS[:4]},
        {"group.weight": SCALE[:4], "group.bias": BIAS[:4]},
    ),
    "an rms norm": ({"diffusion_model.rms.diff": BIAS}, {"rms.weight": BIAS}),
    "the bias of a norm": ({"diffusion_model.norm.diff_b": SCALE}, {"norm.bias": SCALE}),
    "a scalar": (LORA | {f"{STEM}.scalar": torch.tensor(-0.5)}, {"plain.weight": -0.5 * UPDATE}),
    "a scalar of whole factors": (LOKR | {f"{STEM}.scalar": torch.tensor([2.0])}, {"plain.weight": 2 * KRON}),
}


def test_what_lies_beside_the_factors_has_a_sign(net: Net, tmp_path: Path) -> None:
    for what, (state, change) in BESIDE.items():
        slider = read(state, tmp_path)
        assert slider.left_out == (), what
        acts(net, slider, change, tmp_path)


def test_biases_and_norms_are_trained_on(net: Net, tmp_path: Path) -> None:
    state = LORA | {f"{STEM}.diff_b": BIAS, "diffusion_model.norm.diff": SCALE}
    adapter = Adapter.from_weights(net, read(state, tmp_path).weights)
    x = randn(2, 4, 3, 3)
    with at_strength(adapter, net, [1.0, -2.0]):
        (net(x) * randn(2, 9, 3 * IN)).sum().backward()
    assert len(adapter.parameters()) == 4
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())


def test_a_bias_of_a_slice_is_that_of_its_rows(net: Net, tmp_path: Path) -> None:
    state = {"diffusion_model.q.lora_A.weight": A, "diffusion_model.q.lora_B.weight": B[:IN], "diffusion_model.q.diff_b": SCALE}
    weights = read(state, tmp_path).on(net, {"q": Target("qkv", (IN, 2 * IN))}).weights
    whole = by_layer(weights)["qkv"]
    zeros = torch.zeros(IN)
    torch.testing.assert_close(whole.tensors["diff_b"], torch.cat([zeros, SCALE, zeros]))
    again = whole.sliced((IN, 2 * IN))
    assert torch.equal(again.tensors["diff_b"], SCALE)
    with refused("lora.slice"):
        whole.sliced((0, IN))


def test_formats_that_cannot_hold_a_bias_or_a_norm_say_so(net: Net, tmp_path: Path) -> None:
    for state in (LORA | {f"{STEM}.diff_b": BIAS}, {"diffusion_model.norm.diff": SCALE}):
        slider = read(state, tmp_path).on(net)
        for form in (FileFormat.PEFT, FileFormat.LYCORIS):
            with refused("format.bias", "native"):
                save_slider(tmp_path / "no.safetensors", slider, form=form)


# --- alphas


def test_an_alpha_of_whole_factors_has_no_effect(net: Net, tmp_path: Path) -> None:
    split = {f"{STEM}.lokr_w1": torch.ones(3, 2), f"{STEM}.lokr_w2_a": torch.ones(4, 2), f"{STEM}.lokr_w2_b": torch.ones(2, 4)}
    for number in (9999999999, float("inf"), float("nan")):
        alpha = torch.tensor(number)
        acts(net, read(LOKR | {f"{STEM}.alpha": alpha}, tmp_path), {"plain.weight": KRON}, tmp_path)
        with refused("lora.alpha", STEM):
            read(split | {f"{STEM}.alpha": alpha}, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 8},
        {"lora_alpha": 8, "use_rslora": True},
        {"lora_alpha": 3, "alpha_pattern": {"bare": 7, "plain": 5}},
        {"lora_alpha": 3, "alpha_pattern": {r"pl.*n|x\.\d+\.y": 7, "^.are$": 5, "bare": 9}},
        {"lora_alpha": 3, "rank_pattern": {"^bare": 4}, "alpha_pattern": {"^bare": 16}, "use_rslora": True},
    ],
)
def test_alphas_of_a_header_count_as_in_peft(options: dict, net: Net, tmp_path: Path) -> None:
    """diffusers hands the fields of `lora_adapter_metadata` to peft.LoraConfig as they are."""
    from peft import LoraConfig, inject_adapter_in_model

    for prefix in ["transformer.", "unet.", ""]:
        config = LoraConfig(r=RANK, target_modules=["plain", "bare"], init_lora_weights=False, **options)
        tuned = inject_adapter_in_model(config, Net().requires_grad_(False))
        fields = json.dumps({f"{prefix}{name}": value for name, value in {"r": RANK, **options}.items()})
        state, change = {}, {}
        for path in ("plain", "bare"):
            part = tuned.get_submodule(path)
            state[f"{prefix}{path}.lora_A.weight"] = part.lora_A.default.weight.detach()
            state[f"{prefix}{path}.lora_B.weight"] = part.lora_B.default.weight.detach()
            change[f"{path}.weight"] = part.get_delta_weight("default").detach()
        acts(net, read(state, tmp_path, {"lora_adapter_metadata": fields}), change, tmp_path)
        beside = {f"{prefix}plain.alpha": torch.tensor(1.0)}
        weight = read(state | beside, tmp_path, {"lora_adapter_metadata": fields}).on(net).weights[Target("plain")]
        assert weight.scale == 1 / RANK, "an alpha among the tensors is nearer"


def test_a_damaged_header_of_alphas_is_named(tmp_path: Path) -> None:
    cases = ["{", "[]", '{"transformer.lora_alpha": "x"}', '{"lora_alpha": 1, "alpha_pattern": {"(a+)+$": 1}}']
    for text in cases:
        with refused("peft.config", "lora_adapter_metadata"):
            read(LORA, tmp_path, {"lora_adapter_metadata": text})
        assert read(LORA, tmp_path, {"lora_adapter_metadata": '{"text_encoder.lora_alpha": 9}'}).weights


def test_a_bias_in_peft_is_scaled_as_there(net: Net, tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    config = LoraConfig(r=RANK, lora_alpha=7, target_modules=["plain"], lora_bias=True, init_lora_weights=False)
    tuned = inject_adapter_in_model(config, nn.ModuleDict({"plain": nn.Linear(IN, OUT)}))
    state = {"plain.lora_A.weight": A, "plain.lora_B.weight": B, "plain.lora_B.bias": BIAS}
    set_peft_model_state_dict(tuned, state)
    x = randn(5, IN)
    wanted = tuned["plain"](x) - tuned["plain"].base_layer(x)
    weight = read(state, tmp_path, {"lora_adapter_metadata": '{"lora_alpha": 7}'}).on(net).weights[Target("plain")]
    torch.testing.assert_close(x @ weight.delta().T + weight.tensors["diff_b"], wanted.detach(), **CLOSE)


# --- DoRA


def test_a_dora_on_slices_is_joined_to_a_whole(net: Net, tmp_path: Path) -> None:
    """The dora_scale of a slice is that of its rows; the rest of the weight stays, and a LoRA beside it acts as one."""
    state, wanted = {}, torch.zeros(3 * IN, IN)
    names = {}
    for number, name in enumerate("qk"):
        rows = slice(number * IN, (number + 1) * IN)
        names[name] = Target("qkv", (rows.start, rows.stop))
        base, up = net.qkv.weight[rows], B[:IN] * (number + 1)
        scale = randn(IN, 1, seed=20 + number).abs() + 0.5
        state |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": up, f"{name}.dora_scale": scale}
        wanted[rows] = (base + up @ A) * scale / base.norm(dim=1, keepdim=True) - base
    names["v"] = Target("qkv", (2 * IN, 3 * IN))
    for others in ({}, {"v.lora_A.weight": A, "v.lora_B.weight": B[:IN]}):
        wanted[2 * IN :] = B[:IN] @ A if others else 0
        slider = read(state | others, tmp_path).on(net, names)
        acts(net, slider, {"qkv.weight": wanted}, tmp_path)


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_a_dora_on_another_update_is_merged_and_written(kind: str, net: Net, tmp_path: Path) -> None:
    factors = {f"hada_w{n}_{x}": randn(*((OUT, RANK) if x == "a" else (RANK, IN)), seed=30 + n) for n in (1, 2) for x in "ab"}
    tensors = factors if kind == "loha" else {key.removeprefix(f"{STEM}."): tensor for key, tensor in LOKR.items()}
    update = (factors["hada_w1_a"] @ factors["hada_w1_b"]) * (factors["hada_w2_a"] @ factors["hada_w2_b"])
    update = update if kind == "loha" else KRON
    scale = randn(OUT, 1, seed=8).abs() + 0.5
    slider = read({f"{STEM}.{name}": tensor for name, tensor in tensors.items()} | {f"{STEM}.dora_scale": scale}, tmp_path).on(
        net
    )
    base = net.plain.weight
    wanted = (base + update) * scale / base.norm(dim=1, keepdim=True) - base
    save_slider(tmp_path / "again.safetensors", slider)
    for weights in (slider.weights, load_slider(tmp_path / "again.safetensors").weights):
        torch.testing.assert_close(weights[Target("plain")].delta(base), wanted, **CLOSE)
    with refused("dora.merge_only", "plain", "merge"):
        Adapter.from_weights(net, slider.weights)


# --- shapes

MODULES = {"locon": "LoConModule", "loha": "LohaModule", "lokr": "LokrModule"}


@pytest.mark.parametrize("algorithm", MODULES)
@pytest.mark.parametrize("tucker", [False, True])
def test_factors_of_a_convolution_of_one_place_fit_a_linear(algorithm: str, tucker: bool, net: Net, tmp_path: Path) -> None:
    """LyCORIS' own module on a 1x1 convolution, its tensors on a Linear of the same size; a LoRA's core by hand."""
    options = {"use_tucker": tucker} | ({"decompose_both": True} if algorithm == "lokr" else {})
    module = getattr(import_module(f"lycoris.modules.{algorithm}"), MODULES[algorithm])(
        "x", nn.Conv2d(IN, OUT, 1), lora_dim=RANK, alpha=ALPHA, **options
    )
    state = {}
    for number, (name, tensor) in enumerate(module.custom_state_dict().items()):
        state[f"{STEM}.{name}"] = tensor.detach() if name == "alpha" else randn(*tensor.shape, seed=number)
    if algorithm == "locon" and tucker:
        core = randn(RANK, RANK, seed=40)
        state[f"{STEM}.lora_mid.weight"] = core[..., None, None]
    up, down = (state.get(f"{STEM}.lora_{name}.weight") for name in ("up", "down"))
    if up is not None:
        wanted = ALPHA / RANK * up.flatten(1) @ (core if tucker else torch.eye(RANK)) @ down.flatten(1)
    else:
        for name in module.custom_state_dict():
            getattr(module, name).data.copy_(state[f"{STEM}.{name}"])
        wanted = module.get_weight(module.shape).detach().flatten(1)
    slider = read(state, tmp_path).on(net)
    torch.testing.assert_close(slider.weights[Target("plain")].delta(), wanted, **CLOSE)
    acts(net, slider, {"plain.weight": wanted}, tmp_path)


# --- what has no place

EXTRA = {
    "bundle_emb.my face.clip_l": Reason.TEXT_ENCODER,
    "clip_l": Reason.NO_CHANGE,
    "global_step": Reason.NO_CHANGE,
    "v_pred": Reason.NO_CHANGE,
    "diffusion_model.gone.alpha": Reason.NO_CHANGE,
    "diffusion_model.blocks.0.diff_m": Reason.NO_CHANGE,
    "diffusion_model.gone.lora_A.weight": Reason.INCOMPLETE,
    "diffusion_model.gone.set_weight": Reason.NO_SIGN,
}


def test_an_adapters_own_name_and_a_wrapper_are_no_part_of_a_layer(net: Net, tmp_path: Path) -> None:
    for prefix in ("module.", "transformer._orig_mod.", "base_model.model."):
        state = {f"{prefix}plain.lora_A.slider_1.weight": A, f"{prefix}plain.lora_B.slider_1.weight": B}
        acts(
            net,
            read(state | {f"{prefix}plain.lora_B.slider_1.bias": BIAS}, tmp_path),
            {"plain.weight": B @ A, "plain.bias": BIAS},
            tmp_path,
        )
    acts(net, read({f"{key}.default": tensor for key, tensor in LOKR.items()}, tmp_path), {"plain.weight": KRON}, tmp_path)


def test_a_layer_that_a_file_makes_larger_is_left_out_where_the_model_has_not_grown(net: Net, tmp_path: Path) -> None:
    wide = {"diffusion_model.bare.lora_A.weight": randn(RANK, 2 * OUT), "diffusion_model.bare.lora_B.weight": B[:IN]}
    for shape, left_out in (((IN, 2 * OUT), 2), ((IN, OUT), 1)):
        state = LORA | wide | {"diffusion_model.bare.reshape_weight": torch.tensor(shape)}
        state["diffusion_model.bare.lora_A.weight"] = randn(RANK, shape[1])
        slider = read(state, tmp_path).on(net)
        assert len(slider.left_out) == left_out
        assert (Target("bare") in slider.weights) is (left_out == 1)
    with refused("lora.shape", "bare"):
        read(LORA | wide, tmp_path).on(net)


def test_keys_without_a_place_are_left_out_and_named(net: Net, tmp_path: Path) -> None:
    for key, reason in EXTRA.items():
        for value in (torch.tensor(7), torch.ones(2, 16)):
            slider = read(LORA | {key: value}, tmp_path)
            assert list(slider.weights) == [Target("plain")]
            assert slider.placed, "a key beside the layers does not make their names foreign"
            assert [part.reason for part in slider.left_out] == [reason], key
            assert "1 part" in slider.summary()
            assert slider.left_out[0].name in slider.summary()
            with refused("lora.strict", slider.left_out[0].name):
                load_slider(tmp_path / "theirs.safetensors", strict=True)
    for value in (torch.zeros(0), torch.tensor(True)):
        assert len(read(LORA | {"v_pred": value}, tmp_path).left_out) == 1
