"""The model is trained through where it lies: quantised, in fp8, from a GGUF loader, outside the GPU. Only activations are kept.

The oracle is autograd through a plain copy of the same numbers. Layers that round their inputs as well (fp8 and int8 of ComfyUI)
have the rounded answer in the copy too, with the plain gradient: rounding has none of its own.
"""

import hashlib
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from zoo.animals import tiny
from zoo.every_way import products_by_fallback
from zoo.measure import shaken
from zoo.model import build_tiny, conditioning
from zoo.quantised import build, gguf_layer, linears, plain_twin, put, quantised, raw_fp8

EXACT, HALF = 1e-5, 2e-2  # relative, in float32 and in float16
PRODUCT = " product"  # of packed inputs, as on Blackwell
KINDS = ["fp8", "gguf", "offloaded", "int8_tensorwise", "float8_e4m3fn", "float8_e5m2", "mxfp8", f"nvfp4{PRODUCT}"]
ROUNDING = ("int8_tensorwise", "float8_e4m3fn", "float8_e5m2", f"nvfp4{PRODUCT}")
MODEL = "ZImage"
STEPS = 12


def relative(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    a, b = (torch.cat([t.flatten().double() for t in some]) for some in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.fixture(autouse=True)
def fallback() -> Iterator[None]:
    with products_by_fallback():
        yield


class Case:
    """A tiny model, an adapter on it, and the gradient of one loss of both signs."""

    def __init__(self, pack, patcher: Any, entry: Any, algorithm: str = "lora", targets: Any = None) -> None:
        self.core, self.backend = pack.core, pack.core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
        self.module = self.backend.module
        self.targets = targets or pack.core("layers.select").select(self.module)
        self.adapter = shaken(pack.core, self.module, self.targets, torch.float32, algorithm)
        self.cond = [pack.core("backend").Conditioning(str(i), conditioning(entry, i)) for i in range(2)]
        generator = torch.Generator().manual_seed(4)
        self.x, self.weight = (torch.randn(2, *entry.latent, generator=generator) for _ in range(2))

    def loss(self) -> torch.Tensor:
        sigma = self.backend.sigmas(torch.tensor([0.3, 0.7]))
        with self.core("lora.strength").at_strength(self.adapter, self.module, [1.0, -1.0]):
            return (self.backend.predict(self.x, sigma, self.cond) * self.weight).sum()

    def gradient(self) -> list[torch.Tensor]:
        return [g.clone() for g in torch.autograd.grad(self.loss(), self.adapter.parameters())]

    def gradients(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """As the model is, and with its blocks computed twice."""
        with self.backend.borrowed(), torch.enable_grad():
            plain = self.gradient()
            remember = self.core("lora.strength").remember
            with self.core("layers.checkpointing").checkpointed(self.module, self.adapter.factors, remember):
                return plain, self.gradient()


def with_rounded_answers(twin: nn.Module, rounded: nn.Module) -> None:
    """The answers of `rounded`'s layers, with the gradients of `twin`'s."""

    def answer_as(layer: nn.Module) -> Any:
        def hook(_module: nn.Module, args: tuple, out: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                other = layer(args[0].detach())
            return out + (other.clone() - out.detach())

        return hook

    for path, layer in linears(twin).items():
        layer.register_forward_hook(answer_as(rounded.get_submodule(path)))


def bits(module: nn.Module) -> dict[str, Any]:
    """Every tensor's own memory, its object and flags; every module's hooks and what stands in its own attributes."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        found[path] = dict(part._forward_hooks), dict(part._forward_pre_hooks), sorted(part.__dict__)
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
                stored = getattr(tensor, "_qdata", tensor).detach().contiguous().as_subclass(torch.Tensor)
                raw = stored.reshape(-1).view(torch.uint8).numpy().tobytes()
                found[f"{path}.{name}"] = hashlib.sha256(raw).hexdigest(), id(tensor), tensor.data_ptr(), tensor.requires_grad
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_a_plain_copy_and_all_is_put_back(kind: str, pack) -> None:
    import comfy.model_management

    entry = tiny(MODEL)
    patcher = build(entry, kind.removesuffix(PRODUCT), product=kind.endswith(PRODUCT))
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([patcher])  # which marks the layers of a model
    before, switch = bits(patcher.model), comfy.model_management.training_fp8_bwd
    plain, twice = Case(pack, patcher, entry).gradients()
    assert bits(patcher.model) == before
    assert comfy.model_management.training_fp8_bwd is switch
    twin = plain_twin(entry, patcher)
    if kind in ROUNDING:
        with_rounded_answers(twin.model.diffusion_model, patcher.model.diffusion_model)
    wanted, _ = Case(pack, twin, entry).gradients()
    assert relative(plain, wanted) < EXACT
    assert relative(twice, wanted) < EXACT


def saved_by(case: Case) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    listen = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with case.backend.borrowed(), torch.enable_grad(), listen:
        case.loss()
    return kept


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_is_kept(kind: str, pack) -> None:
    """Neither a weight's memory nor a copy of one: what is kept has another shape than any weight. A plain model keeps them."""
    entry = tiny(MODEL)
    for made in (kind, "plain"):
        case = Case(pack, build(entry, made.removesuffix(PRODUCT), product=made.endswith(PRODUCT)), entry)
        layers = [case.module.get_submodule(t.path) for t in case.targets]
        shapes = {tuple(layer.weight.shape) for layer in layers}
        shapes |= {shape[::-1] for shape in shapes}
        own = {p.untyped_storage().data_ptr() for p in case.adapter.parameters()}
        kept = [t for t in saved_by(case) if t.untyped_storage().data_ptr() not in own]
        assert kept
        assert any(tuple(t.shape) in shapes for t in kept) is (made == "plain")


class Alone:
    """One layer of ComfyUI's own, and a plain one of torch's with the same numbers."""

    def __init__(self, pack, name: str, *sizes: int, **choices: Any) -> None:
        import comfy.ops

        self.frozen = pack.core("with_comfy.autograd_frozen")
        self.layer = getattr(comfy.ops.manual_cast, name)(*sizes, dtype=torch.float64, **choices)
        self.plain = getattr(nn, name)(*sizes, dtype=torch.float64, **choices)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.layer.parameters():
                p.requires_grad_(False).copy_(torch.randn(p.shape, generator=generator) / 4)

    def gradient_deviates(self, shape: tuple[int, ...], **given: Any) -> float:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
        layers = self.frozen.frozen_layers(nn.ModuleDict({"it": self.layer}), torch.device("cpu"))
        assert list(layers) == ["it"]
        with self.frozen.frozen(layers):
            out = self.layer(x, **given)
            weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
            (found,) = torch.autograd.grad((out * weight).sum(), x)
            with torch.no_grad():  # finite differences: the layer is affine, so a large step is exact
                nudge = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
                slope = ((self.layer(x + nudge, **given) - self.layer(x - nudge, **given)) * weight).sum() / 2
        assert "forward" not in self.layer.__dict__
        assert float((found * nudge).sum()) == pytest.approx(float(slope), rel=1e-9)
        if given:
            return 0.0
        with torch.no_grad():
            self.plain.weight.copy_(self.layer.weight.double())
            self.plain.bias.copy_(self.layer.bias.double())
        (wanted,) = torch.autograd.grad((self.plain(x) * weight).sum(), x)
        return relative([found], [wanted])


@pytest.mark.parametrize(
    ("name", "sizes", "choices", "shape"),
    [
        ("Linear", (6, 5), {}, (2, 3, 6)),
        ("Conv1d", (4, 6, 3), {"padding": 1, "dilation": 2}, (2, 4, 9)),
        ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 7, 8)),
        ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 4, 5, 5)),
        ("Conv2d", (4, 6, 3), {"padding": "same"}, (2, 4, 5, 5)),
        ("Conv3d", (4, 6, 3), {"padding": (0, 1, 1)}, (1, 4, 4, 5, 5)),
        ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5, 5)),
    ],
)
def test_every_kind_of_layer_has_the_gradient_of_torchs_own(name, sizes, choices, shape, pack) -> None:
    alone = Alone(pack, name, *sizes, **choices)
    assert alone.gradient_deviates(shape) < 1e-12
    raw_fp8(alone.layer)
    assert alone.gradient_deviates(shape) < 1e-12


def test_a_causal_convolution_of_a_video_and_a_packed_layer_agree_with_finite_differences(pack) -> None:
    assert Alone(pack, "Conv3d", 4, 6, 3).gradient_deviates((1, 4, 2, 5, 5), autopad="causal_zero") == 0.0
    packed = Alone(pack, "Linear", 64, 5)
    gguf_layer(packed.layer)
    x = torch.randn(3, 64, dtype=torch.float64, requires_grad=True)
    with packed.frozen.frozen({"it": packed.layer}):
        found = torch.autograd.grad(packed.layer(x).sum(), x)[0]
        with torch.no_grad():
            columns = [
                float((packed.layer(x + d) - packed.layer(x - d))[0].sum() / 2) for d in torch.eye(64, dtype=torch.float64)
            ]
    assert torch.allclose(found[0], torch.tensor(columns, dtype=torch.float64), atol=1e-9)


def test_a_smoothed_input_has_its_scale_in_the_gradient(pack) -> None:
    """ModelOpt's pre_quant_scale, which the layer multiplies its input by."""
    with torch.inference_mode():
        layer = quantised("int8_tensorwise", full_precision=True)(nn.Linear(32, 8))
        layer.register_parameter("pre_quant_scale", nn.Parameter(torch.linspace(0.5, 2, 32), requires_grad=False))
        weight = layer.weight.dequantize().clone()
    x = torch.randn(4, 32, requires_grad=True)
    with pack.core("with_comfy.autograd_frozen").frozen({"it": layer}):
        (found,) = torch.autograd.grad(layer(x).sum(), x)
    assert torch.allclose(found, weight.sum(0).expand(4, -1) * torch.linspace(0.5, 2, 32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["convrot_w4a4", "asym_w4a8_int8"])  # too wide for a tiny model: 256 inputs a group
def test_a_rotated_weight_has_the_gradient_of_its_numbers(form: str, pack) -> None:
    with torch.inference_mode():
        layer = quantised(form)(nn.Linear(256, 16))
        weight, answer = layer.weight.dequantize().clone(), layer(torch.ones(4, 256))
    x = torch.ones(4, 256, requires_grad=True)
    with pack.core("with_comfy.autograd_frozen").frozen({"it": layer}):
        out = layer(x)
        (found,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(out.detach(), answer)
    assert torch.allclose(found, weight.sum(0).expand(4, -1), rtol=1e-4, atol=1e-5)


def test_loras_of_the_model_that_are_laid_on_while_it_runs_act_in_the_gradient(pack, monkeypatch) -> None:
    """A model that is loaded in part has them as `weight_function`; merged into the weights is the oracle."""
    import comfy.model_management

    entry, gradients = tiny(MODEL), []
    for share in (1, 0):  # of memory: next to nothing, or all
        patcher = build_tiny(entry)
        generator = torch.Generator().manual_seed(8)
        layers = linears(patcher.model.diffusion_model)
        for path, layer in layers.items():
            change = torch.randn(layer.weight.shape, generator=generator) * 0.05
            patcher.add_patches({f"diffusion_model.{path}.weight": ("diff", (change,))}, 1.0)

        def load(_models: Any, share: int = share, patcher: Any = patcher, **_room: Any) -> None:
            with torch.inference_mode():
                patcher.patch_model(torch.device("cpu"), lowvram_model_memory=share)

        monkeypatch.setattr(comfy.model_management, "load_models_gpu", load)
        gradients.append(Case(pack, patcher, entry).gradients()[0])
        assert all(len(layer.weight_function) == share for layer in layers.values())
        if share:
            with pytest.raises(pack.core("config.checks").SliderError, match="laid on it only while it runs"):
                Case(pack, patcher, entry, "dora")
        patcher.unpatch_model(torch.device("cpu"))
    assert relative(gradients[0], gradients[1]) < EXACT


def test_what_cannot_be_trained_through_is_refused_by_name(pack) -> None:
    error = pack.core("config.checks").SliderError
    patcher = build(tiny(MODEL), "fp8")
    backend = pack.core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    layer = backend.module.layers[0].feed_forward.w1
    layer.forward = lambda x: x
    with pytest.raises(error, match=r"replaced the forward of the layer .layers\.0"), backend.borrowed():
        pass
    del layer.forward

    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.Parameter(torch.zeros(4, dtype=torch.int8), requires_grad=False)

    put(backend.module, "layers.0.feed_forward.w1", Strange())
    with pytest.raises(error, match=r"w1. \(Strange\) keeps its weights in a way of its own"):
        backend.load()
    with pytest.raises(error, match="packed by its loader"):
        Case(pack, build(tiny(MODEL), "gguf"), tiny(MODEL), "dora")
    assert Case(pack, build(tiny(MODEL), "float8_e4m3fn"), tiny(MODEL), "dora").adapter.finite()


def test_a_bypass_lora_of_comfyuis_own_acts_above_the_frozen_layer(pack) -> None:
    from comfy.weight_adapter.bypass import BypassForwardHook

    with torch.inference_mode():
        layer = quantised("int8_tensorwise", full_precision=True)(nn.Linear(32, 8))
        weight = layer.weight.dequantize().clone()
    up, down = torch.randn(8, 2), torch.randn(2, 32)

    class Extra:
        multiplier, is_conv = 1.0, False

        def h(self, x: torch.Tensor, _base: torch.Tensor) -> torch.Tensor:
            return x @ down.T @ up.T

        def g(self, y: torch.Tensor) -> torch.Tensor:
            return y

        def bypass_forward(self, forward: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            base = forward(x, *args, **kwargs)
            return self.g(base + self.h(x, base))

    hook = BypassForwardHook(layer, Extra())
    hook.inject()
    outer, original = layer.forward, hook.original_forward
    x = torch.randn(4, 32, requires_grad=True)
    with pack.core("with_comfy.autograd_frozen").frozen({"it": layer}):
        (found,) = torch.autograd.grad(layer(x).sum(), x)
    assert layer.forward == outer
    assert hook.original_forward == original
    assert torch.allclose(found, (weight + up @ down).sum(0).expand(4, -1), rtol=1e-4, atol=1e-4)


# --- training


def trainer_of(pack, patcher: Any, entry: Any, lr: float = 1e-2) -> tuple[Any, Any]:
    core, backend = pack.core, pack.core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    adapter = core("lora.slider_adapter").Adapter.create(
        backend.module, core("layers.select").select(backend.module), core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    )
    generator = torch.Generator().manual_seed(1)
    samples = [
        core("encode.encoder").Sample(
            torch.randn(entry.latent, generator=generator), core("backend").Conditioning("", conditioning(entry, 0)), sign, pair
        )
        for sign in (1.0, -1.0)
        for pair in range(2)
    ]
    spec = core("config.training").TrainSpec(steps=STEPS, batch=2, lr=lr, warmup=0)
    return core("train.trainer").Trainer(adapter, samples, spec), backend


@pytest.mark.parametrize("kind", ["fp8", "gguf", "int8_tensorwise"])
def test_a_slider_learns_on_it_and_its_mark_stays(kind: str, pack) -> None:
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, build(tiny(MODEL), kind), tiny(MODEL))
        backend.load()
        mark, before = backend.weights_fingerprint(), bits(backend.module)
        trainer.run(backend, STEPS, read_every=STEPS)
        assert sum(trainer.readings[-1].explained) > 0
        assert backend.weights_fingerprint() == mark
        assert bits(backend.module) == before
        assert trainer.fallback.summary() == ""


def test_half_precision_learns_scales_down_on_an_overflow_and_up_again(pack, monkeypatch) -> None:
    """A float16 model, its adapter in float32; the first scale overflows float16 on purpose."""
    module = pack.core("train.trainer")
    monkeypatch.setattr(module, "CALM", 4)
    monkeypatch.setattr(module, "HALF_SCALE", 2.0**24)
    patcher = build_tiny(tiny(MODEL), torch.float16)
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, patcher, tiny(MODEL))
        assert backend.dtype is torch.float16
        scales: list[float] = []
        trainer.run(backend, STEPS, lambda _report: scales.append(trainer._scale), read_every=STEPS)
    assert {p.dtype for p in trainer.adapter.parameters()} == {torch.float32}
    assert scales[0] < 2.0**24
    assert any(b == 2 * a for a, b in itertools.pairwise(scales))
    assert trainer.adapter.finite()
    assert sum(trainer.readings[-1].explained) > 0


def test_the_scale_is_asked_for_by_what_the_model_computes_in(pack) -> None:
    """Weights in fp8 that are cast to float16: no parameter of the model is float16, and the gradients are."""
    patcher = build(tiny(MODEL), "fp8", torch.float16)
    trainer, backend = trainer_of(pack, patcher, tiny(MODEL))
    trainer.run(backend, 1)
    assert trainer._scale > 1


@pytest.mark.parametrize("kind", ["fp8", "float8_e4m3fn"])
def test_a_slider_file_is_tried_on_a_model_that_is_not_plain(kind: str, pack, tmp_path) -> None:
    core, patcher = pack.core, build(tiny(MODEL), kind)
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, patcher, tiny(MODEL))
        trainer.run(backend, 3)
    sample = trainer.samples[0]
    proof = core("with_comfy.proof").Proof(weakref.ref(patcher), sample.latent, sample.cond)
    slider = core("lora.slider_file").Slider(trainer.adapter.weights(), proof=proof)
    config = core("config.lora")
    said = core("with_comfy.slider_saving").save_proven(
        tmp_path / "it.safetensors", slider, config.FileFormat.NATIVE, config.FileDtype.FP32
    )
    assert "ComfyUI's own LoRA loader gives the same: 4 layers" in " ".join(said)
    assert (tmp_path / "it.safetensors").is_file()
