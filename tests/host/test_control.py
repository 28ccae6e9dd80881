"""ControlNets: prompts that carry one train with it, and a slider can lie in one.

Two families with random weights: SD1.5's (pixels as hint) and Flux's (a latent as hint, through a VAE). Oracles outside our code:
ComfyUI's own sampler, its patcher, finite differences, runs of single samples, and the bits of every tensor.
"""

import hashlib
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from graphs import sweep_nodes
from zoo.animals import tiny
from zoo.model import _fill, build_tiny, conditioning, model_config

FAMILIES = ["SD15", "Flux"]
CLOSE = 1e-4  # of a prediction's size, between batches of different sizes in float32
NUDGE = 2e-3  # step of the finite difference, of the parameters' size


class StubVae:
    """Enough of a VAE for a hint: pixels (B, H, W, 3) -> latents (B, 4, H / 8, W / 8)."""

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, image_BHWC: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(image_BHWC.movedim(-1, 1).float(), 8)
        return torch.cat((small, small.mean(dim=1, keepdim=True)), dim=1)


@dataclass
class Scene:
    """A tiny model and a ControlNet for it, and prompts with and without the ControlNet."""

    entry: Any
    patcher: Any
    net: Any
    vae: Any

    def prompt(self, seed: int, tokens: int | None = None) -> list[list[Any]]:
        return conditioning(self.entry, seed, tokens)

    def controlled(self, prompt: Any, hints: torch.Tensor, strength: float = 0.8, start: float = 0.0, end: float = 1.0) -> Any:
        import nodes

        return nodes.ControlNetApplyAdvanced().apply_controlnet(prompt, prompt, self.net, hints, strength, start, end, self.vae)[
            0
        ]

    def noise(self, count: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(count, *self.entry.latent, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 3) -> torch.Tensor:
    """Hints (count, 64, 64, 3) in [0, 1]."""
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(seed))


def control_net(entry: Any, where: torch.device | None = None) -> Any:
    """A CONTROL_NET with random weights, made under inference mode as ComfyUI's loader does."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.latent_formats
    import comfy.ldm.flux.controlnet
    import comfy.ops

    cpu = torch.device("cpu")
    with torch.inference_mode():
        config = dict(model_config(entry.name, entry.config).unet_config)
        config |= {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32, "device": cpu}
        if entry.name == "Flux":
            module = comfy.ldm.flux.controlnet.ControlNetFlux(latent_input=True, control_latent_channels=4, **config)
            module.main_model_double = module.main_model_single = 2  # blocks of the tiny model, one output for each
            kept = {"compression_ratio": 1, "latent_format": comfy.latent_formats.Flux(), "extra_conds": ["y", "guidance"]}
        else:
            config.pop("out_channels")
            module, kept = comfy.cldm.cldm.ControlNet(hint_channels=3, **config), {}
        _fill(module, torch.Generator().manual_seed(1))
        return comfy.controlnet.ControlNet(module, load_device=where or cpu, **kept)


@pytest.fixture
def scene(request: pytest.FixtureRequest, pack) -> Scene:
    entry = tiny(request.param)
    return Scene(entry, build_tiny(entry), control_net(entry), StubVae() if request.param == "Flux" else None)


both = pytest.mark.parametrize("scene", FAMILIES, indirect=True)
one = pytest.mark.parametrize("scene", FAMILIES[:1], indirect=True)


def state(module: torch.nn.Module) -> dict[str, Any]:
    """Bits, object, memory and flags of every weight, and every part's hooks and forward."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        found[path] = (dict(part._forward_hooks), dict(part._forward_pre_hooks), part.__dict__.get("forward"), part.training)
        for name, p in [*part._parameters.items(), *part._buffers.items()]:
            if p is not None:
                bits = hashlib.sha256(p.detach().contiguous().numpy().tobytes()).hexdigest()
                found[f"{path}.{name}"] = bits, id(p), p.data_ptr(), p.requires_grad, p.is_inference(), p.grad
    return found


def adapter_in(pack, module: torch.nn.Module, size: float = 0.0) -> Any:
    """An adapter on what the preset auto chooses in `module`; with random weights of that size."""
    targets = pack.core("layers.select").select(module)
    adapter = pack.core("lora.slider_adapter").Adapter.create(
        module, targets, pack.core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in adapter.parameters() if size else ():
            p.copy_(size * torch.randn(p.shape, generator=generator))
    return adapter


def sampler_oracle(patcher: Any, prompt: Any, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """What ComfyUI's sampler gets from the model for one prompt: the denoised latent."""
    import comfy.model_management
    import comfy.sampler_helpers
    import comfy.samplers

    conds = {"positive": comfy.sampler_helpers.convert_cond(prompt)}
    models, _ = comfy.sampler_helpers.get_additional_models(conds, torch.float32)
    comfy.model_management.load_models_gpu([patcher, *models])
    patcher.pre_run()
    comfy.samplers.pre_run_control(patcher.model, conds["positive"])
    shapes = {"latent_image": torch.zeros_like(x), "seed": 0, "latent_shapes": [x.shape]}
    ready = comfy.samplers.process_conds(patcher.model, x, conds, torch.device("cpu"), **shapes)["positive"]
    out = comfy.samplers.calc_cond_batch(patcher.model, [ready], x, torch.tensor([sigma] * len(x)), patcher.model_options)[0]
    comfy.sampler_helpers.cleanup_models(conds, models)
    patcher.cleanup()
    return out


def predicted(backend: Any, x: torch.Tensor, sigma: torch.Tensor, conds: list[Any]) -> torch.Tensor:
    with backend.borrowed(), torch.no_grad():
        return backend.predict(x, sigma, conds)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@both
def test_the_control_is_the_samplers(scene: Scene, pack) -> None:
    host, Conditioning = pack.core("with_comfy.model_backend"), pack.core("backend").Conditioning
    hints, x = pictures(1), scene.noise(1)
    for start, end in ((0.0, 1.0), (0.5, 0.9)):
        with torch.inference_mode():
            control = scene.controlled(scene.prompt(9), hints, start=start, end=end)
        backend = host.ComfyBackend(scene.patcher, None, None, pack.core("with_comfy.control_hints").Hints(control))
        plain = host.ComfyBackend(scene.patcher, None, None)
        cond = Conditioning("", scene.prompt(1))
        for u in (0.9, 0.3):
            sigma = backend.sigmas(torch.tensor([u]))
            ours = predicted(backend, x, sigma, [cond])
            with torch.inference_mode():
                mine = [[t, e | {"control": control[0][1]["control"]}] for t, e in cond.value]
                denoised = sampler_oracle(scene.patcher, mine, x, float(sigma))
            a, b = backend._affine(x, sigma)
            assert relative(ours, (denoised - a) / b) < CLOSE
            off = start > 1 - u + 1e-6
            bare = predicted(plain, x, sigma, [cond])
            assert torch.equal(ours, bare) if off else relative(ours, bare) > 100 * CLOSE


@both
@pytest.mark.parametrize("prompts", ["alike", "of other lengths"])
def test_every_row_has_its_own_hint_prompt_and_noise_level(scene: Scene, prompts: str, pack) -> None:
    control, Conditioning = pack.core("with_comfy.control_hints"), pack.core("backend").Conditioning
    with torch.inference_mode():
        carrying = scene.controlled(scene.prompt(9), pictures(3), start=0.3, end=0.8)
    backend = pack.core("with_comfy.model_backend").ComfyBackend(scene.patcher, None, None, control.Hints(carrying))
    longer = 3 if prompts == "of other lengths" else None
    conds = [
        Conditioning(str(n), control.with_hint(scene.prompt(n, longer if n == 1 else None), hint))
        for n, hint in enumerate((0, 2, 1, 0, 1))
    ]
    x, sigma = scene.noise(5), backend.sigmas(torch.tensor([0.5, 0.6, 0.1, 0.95, 0.4]))
    together = predicted(backend, x, sigma, conds)
    for row, cond in enumerate(conds):
        alone = predicted(backend, x[row : row + 1], sigma[row : row + 1], [cond])
        assert relative(together[row : row + 1], alone) < CLOSE, row
    plain = predicted(pack.core("with_comfy.model_backend").ComfyBackend(scene.patcher, None, None), x, sigma, conds)
    acting = [relative(together[r], plain[r]) > 100 * CLOSE for r in range(5)]
    assert acting == [True, True, False, False, True], "the middle of the range alone"
    swapped = [Conditioning("", control.with_hint(c.value, 1)) for c in conds]
    assert relative(predicted(backend, x, sigma, swapped)[0], together[0]) > 100 * CLOSE, "another hint, another answer"


def slope(
    at_strength: Any, backend: Any, adapter: Any, x: torch.Tensor, sigma: torch.Tensor, conds: list[Any]
) -> tuple[float, float]:
    """The length of the loss's gradient, by autograd and by a step each way along it."""
    target = torch.roll(x, 1, 0)

    def loss() -> torch.Tensor:
        with at_strength(adapter, backend.module, [1.0, -0.5]):
            return (backend.predict(x, sigma, conds).float() - target).square().mean()

    parameters = adapter.parameters()
    with backend.borrowed(), torch.enable_grad():
        gradient = torch.autograd.grad(loss(), parameters)
        length = torch.cat([g.flatten() for g in gradient]).norm()
        size = torch.cat([p.detach().flatten() for p in parameters]).norm()
        ends = []
        with torch.no_grad():
            for sign in (1, -1):
                for p, g in zip(parameters, gradient, strict=True):
                    p.add_(g, alpha=float(sign * NUDGE * size / length))
                ends.append(float(loss().double()))
                for p, g in zip(parameters, gradient, strict=True):
                    p.sub_(g, alpha=float(sign * NUDGE * size / length))
    return float(length), (ends[0] - ends[1]) / float(2 * NUDGE * size)


@both
@pytest.mark.parametrize("place", ["diffusion model", "ControlNet"])
def test_gradients_are_those_of_finite_differences(scene: Scene, place: str, pack) -> None:
    control, Conditioning = pack.core("with_comfy.control_hints"), pack.core("backend").Conditioning
    inside = place == "ControlNet"
    with torch.inference_mode():
        carrying = scene.controlled(scene.prompt(9), pictures(2))
    net = scene.net if inside else None
    backend = pack.core("with_comfy.model_with_control").backend_for(scene.patcher, None, None, net, carrying, checkpointing=True)
    assert backend.module is (scene.net.control_model if inside else scene.patcher.model.diffusion_model)
    adapter = adapter_in(pack, backend.module, 0.2)
    conds = [Conditioning("", control.with_hint(scene.prompt(n), n)) for n in range(2)]
    before = state(scene.patcher.model.diffusion_model), state(scene.net.control_model)
    gradients = pack.core("layers.checkpointing")  # the UNet adds control in place to what autograd has saved
    strength, sigma = pack.core("lora.strength"), backend.sigmas(torch.tensor([0.4, 0.7]))
    with (
        gradients.checkpointed(backend.module, adapter.factors, strength.remember),
        pack.core("layers.autograd_inplace").forgiving(True),
    ):
        autograd, differences = slope(strength.at_strength, backend, adapter, scene.noise(2), sigma, conds)
    assert autograd == pytest.approx(differences, rel=0.02)
    assert autograd > 1e-4
    assert (state(scene.patcher.model.diffusion_model), state(scene.net.control_model)) == before


def samples_of(pack, scene: Scene) -> list[Any]:
    Sample, Conditioning = pack.core("encode.encoder").Sample, pack.core("backend").Conditioning
    conds = [Conditioning(str(n), scene.prompt(n)) for n in range(2)]
    latents = scene.noise(2, 8)
    return [Sample(latents[pair] * sign, conds[pair], float(sign), pair) for pair in range(2) for sign in (1, -1)]


def trainer_in(pack, scene: Scene, hints: int, steps: int = 3) -> tuple[Any, Any]:
    """(backend, trainer) of a slider in the ControlNet."""
    with torch.inference_mode():
        carrying = scene.controlled(scene.prompt(9), pictures(hints), start=0.4, end=0.5)
    backend = pack.core("with_comfy.model_with_control").backend_for(
        scene.patcher, None, None, scene.net, carrying, checkpointing=True
    )
    samples = backend.hints.given_out(samples_of(pack, scene))
    backend.hints.encode(samples, scene.patcher.model.model_sampling, backend.device)
    spec = pack.core("config.training").TrainSpec(steps, 0.01, 2)
    return backend, pack.core("train.trainer").Trainer(adapter_in(pack, backend.module), samples, spec)


@both
def test_a_slider_in_the_controlnet_trains_and_leaves_both_models_as_they_were(scene: Scene, pack) -> None:
    backend, trainer = trainer_in(pack, scene, hints=2)
    before = state(scene.patcher.model.diffusion_model), state(scene.net.control_model)
    trainer.run(backend, 3)
    assert len(trainer.losses) == 3
    shifted = [float(w.delta().norm()) for w in trainer.adapter.weights().values()]
    assert min(shifted) > 0, "every layer learns, at whatever noise level, though the prompt has the ControlNet act at few"
    assert (state(scene.patcher.model.diffusion_model), state(scene.net.control_model)) == before
    assert not backend.one_by_one
    assert scene.net.timestep_percent_range == (0.0, 1.0)
    assert scene.net.cond_hint is None


@both
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_fault_in_the_middle_leaves_everything_as_it_was(scene: Scene, where: str, pack) -> None:
    import comfy.model_management

    backend, trainer = trainer_in(pack, scene, hints=1)
    before = state(scene.patcher.model.diffusion_model), state(scene.net.control_model)
    late = list(pack.core("layers.blocks").blocks(scene.net.control_model))[-1]

    def stop(_part: Any, _args: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if trainer.step == 1 and where == "forward":
            comfy.model_management.interrupt_current_processing()
        elif trainer.step == 1 and tensor.requires_grad:
            tensor.register_hook(lambda _gradient: comfy.model_management.interrupt_current_processing())

    handle = late.register_forward_hook(stop)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            trainer.run(backend, 3)
    finally:
        handle.remove()
        comfy.model_management.interrupt_current_processing(False)
    assert trainer.step == 1
    assert (state(scene.patcher.model.diffusion_model), state(scene.net.control_model)) == before
    assert comfy.model_management.in_training is False
    trainer.run(backend, 3)
    assert trainer.step == 3, "and training goes on"


def sampled(scene: Scene, patcher: Any, positive: Any, negative: Any) -> torch.Tensor:
    """The stock sampler, two steps with guidance."""
    import comfy.sample

    latent = torch.zeros(1, *scene.entry.latent)
    noise = comfy.sample.prepare_noise(latent, 7)
    return comfy.sample.sample(patcher, noise, 2, 2.0, "euler", "simple", positive, negative, latent, seed=7, disable_pbar=True)


def swept(pack, scene: Scene, slider: Any, strengths: list[float], positive: Any, negative: Any) -> torch.Tensor:
    backend, adapter = pack.core("with_comfy.sweep").sweep_adapter(scene.patcher, slider, positive)
    latent = {"samples": torch.zeros(1, *scene.entry.latent)}
    sampling = pack.core("use.sampling").Sampling(positive, negative, latent, 7, 2, 2.0)
    return pack.core("with_comfy.sampling").sample_latents(backend, adapter, sampling, strengths).latents


@both
@pytest.mark.parametrize("place", ["diffusion model", "ControlNet"])
def test_a_sweep_is_the_stock_sampler_with_the_slider_put_on(scene: Scene, place: str, pack, monkeypatch) -> None:
    import comfy.sample

    formats, apply = pack.core("lora.formats.native"), pack.core("with_comfy.slider_apply").apply
    inside, strengths = place == "ControlNet", [-1.0, 0.0, 1.5]
    module = scene.net.control_model if inside else scene.patcher.model.diffusion_model
    weights = adapter_in(pack, module, 0.3).weights()
    place = formats.Place.CONTROLNET if inside else formats.Place.DIFFUSION_MODEL
    slider = pack.core("lora.slider_file").Slider(weights, pack.core("lora.info").SliderInfo(place=place))
    before = state(module)
    hints = pictures(1)
    with torch.inference_mode():
        positive, negative = (scene.controlled(scene.prompt(n), hints) for n in (1, 2))
        calls, sample = [], comfy.sample.sample
        monkeypatch.setattr(comfy.sample, "sample", lambda *args, **kw: calls.append(args[1].shape[0]) or sample(*args, **kw))
        columns = swept(pack, scene, slider, strengths, positive, negative)
        assert calls == [3], "all strengths in one call"
        plain = sampled(scene, scene.patcher, positive, negative)
        for column, strength in zip(columns, strengths, strict=True):
            if inside:
                scene.net, base = apply(slider, strength, scene.patcher, scene.net)[1], scene.net
                put_on = sampled(scene, scene.patcher, *(scene.controlled(scene.prompt(n), hints) for n in (1, 2)))
                scene.net = base
            else:
                put_on = sampled(scene, apply(slider, strength, scene.patcher)[0], positive, negative)
            assert relative(column[None], put_on) < 10 * CLOSE, strength
            assert strength == 0 or relative(put_on, plain) > 100 * CLOSE, "it does something"
        assert torch.equal(sampled(scene, scene.patcher, positive, negative), plain), "and goes again"
    assert {k: v[0] for k, v in state(module).items() if k not in dict(module.named_modules())} == {
        k: v[0] for k, v in before.items() if k not in dict(module.named_modules())
    }, "the same bits"


@both
def test_the_file_is_for_a_controlnet_and_says_so(scene: Scene, pack, tmp_path) -> None:
    import comfy.sd
    import comfy.utils

    formats, store, config = pack.core("lora.formats.native"), pack.core("lora.slider_file"), pack.core("config.lora")
    saving, names, apply = (pack.core(f"with_comfy.{name}") for name in ("slider_saving", "layer_names", "slider_apply"))
    SliderError = pack.core("config.checks").SliderError
    weights = adapter_in(pack, scene.net.control_model, 0.3).weights()
    slider = store.Slider(weights, pack.core("lora.info").SliderInfo(place=formats.Place.CONTROLNET, name="leaf"))
    path = tmp_path / "leaf.safetensors"
    words = saving.save_proven(path, slider, config.FileFormat.NATIVE, config.FileDtype.FP32)
    assert f"{len({t.path for t in weights})} layers" in " ".join(words)
    read = store.load_slider(path)
    assert read.info.in_controlnet
    back = names.on_control(read, scene.net.control_model).weights
    for target, weight in pack.core("lora.combine").by_layer(weights).items():
        mine = pack.core("lora.combine").by_layer(back)[target]
        assert torch.equal(mine.delta(), weight.delta())
    stock = comfy.sd.load_lora_for_models(scene.patcher, None, comfy.utils.load_torch_file(str(path)), 1.0, 0)[0]
    assert not stock.patches, "a stock loader takes it for nothing else"
    for refused, code in (
        (lambda: names.on_model(read, scene.patcher), "slider.controlnet"),
        (lambda: apply.apply(read, 1.0, scene.patcher), "slider.controlnet"),
        (lambda: apply.apply(read, 1.0, scene.patcher, scene.net, mode="live"), "apply.controlnet_live"),
        (lambda: names.on_control(store.Slider(weights), scene.net.control_model), "slider.model"),
        (lambda: pack.core("with_comfy.sweep").sweep_adapter(scene.patcher, read, scene.prompt(1)), "sweep.no_controlnet"),
    ):
        with pytest.raises(SliderError) as fault:
            refused()
        assert fault.value.code == code
    with pytest.raises(SliderError, match="saved as native"):
        saving.save_proven(tmp_path / "k.safetensors", slider, config.FileFormat.KOHYA, config.FileDtype.FP32)


@one
def test_hints_go_to_all_to_pairs_or_to_samples(scene: Scene, pack) -> None:
    control, SliderError = pack.core("with_comfy.control_hints"), pack.core("config.checks").SliderError
    samples = samples_of(pack, scene)

    def numbers(count: int) -> list[int]:
        given = control.Hints(scene.controlled(scene.prompt(9), pictures(count))).given_out(samples)
        return [s.cond.value[0][1][control.HINT] for s in given]

    assert [numbers(1), numbers(2), numbers(4)] == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2, 3]]
    with pytest.raises(SliderError, match=r"3 control images for 4 training images; give 1 .*, 2 \(one per pair\) or 4"):
        numbers(3)
    with pytest.raises(SliderError, match="no ControlNet in this conditioning"):
        control.Hints(scene.prompt(1))
    with pytest.raises(SliderError, match="no network of its own"):
        pack.core("with_comfy.control_hints").network(SimpleNamespace())
    one, two = (control.Hints(scene.controlled(scene.prompt(9), pictures(1, seed))).fingerprint() for seed in (1, 2))
    assert one != two


@one
def test_two_controlnets_in_a_row_act_both(scene: Scene, pack) -> None:
    Conditioning, hints = pack.core("backend").Conditioning, pictures(2)
    with torch.inference_mode():
        first = scene.controlled(scene.prompt(9), hints[:1], end=0.5)
        carrying = scene.controlled(first, hints[1:], start=0.3)
    backend = pack.core("with_comfy.model_backend").ComfyBackend(
        scene.patcher, None, None, pack.core("with_comfy.control_hints").Hints(carrying)
    )
    x, sigma = scene.noise(3), backend.sigmas(torch.tensor([0.9, 0.6, 0.2]))
    cond = Conditioning("", scene.prompt(1))
    ours = predicted(backend, x, sigma, [cond] * 3)
    for row in range(3):
        with torch.inference_mode():
            mine = [[t, e | {"control": carrying[0][1]["control"]}] for t, e in cond.value]
            denoised = sampler_oracle(scene.patcher, mine, x[row : row + 1], float(sigma[row]))
        a, b = backend._affine(x[row : row + 1], sigma[row : row + 1])
        assert relative(ours[row : row + 1], (denoised - a) / b) < CLOSE


@pytest.fixture
def small(run_graph, pack, forget) -> dict[str, Any]:
    """A graph that trains on 16 x 16 pixels as latents, with the demo's CLIP and VAE around a tiny UNet and its ControlNet."""
    width = pack.core("with_tiny.model").TEXT_WIDTH
    sizes = {"in_channels": 3, "out_channels": 3, "context_dim": width}
    entry = replace(tiny("SD15"), latent=(3, 16, 16), config=tiny("SD15").config | sizes)
    _, clip, vae = pack.core("with_tiny.model_in_comfy").load_demo(pack.core("with_tiny.model").load_weights())
    dataset = pack.part("nodes.dataset").LoadSliderDataset.execute("demo: smile", "").args[0]
    given = {
        "model": build_tiny(entry),
        "clip": clip,
        "vae": vae,
        "net": control_net(entry),
        "hint": pictures(1),
        "data": dataset,
    }

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    choice = {
        "name": "leaf",
        "steps": 3,
        "learning_rate": 0.01,
        "any_rate": True,
        "batch": 2,
        "objective": "displacement",
    }
    return {name: run_graph.give(value) for name, value in given.items()} | {
        "text": node("CLIPTextEncode", clip=["clip", 0], text="a face"),
        "on": node(
            "ControlNetApplyAdvanced",
            positive=["text", 0],
            negative=["text", 0],
            control_net=["net", 0],
            image=["hint", 0],
            strength=0.8,
            start_percent=0.0,
            end_percent=1.0,
        ),
        "layers": node("SliderTargetInjector", model=["model", 0], preset="auto", rank=2, alpha=2.0, control_net=["net", 0]),
        "train": node(
            "SliderTrainStep",
            model=["model", 0],
            clip=["clip", 0],
            vae=["vae", 0],
            dataset=["data", 0],
            targets=["layers", 0],
            control=["on", 0],
            training_seed=0,
            resolution=16,
            calibrate=False,
            **choice,
        ),
    }


def test_the_nodes_train_save_apply_and_sweep_a_slider_in_a_controlnet(small: dict, run_graph, comfy) -> None:
    latent = {"samples": torch.zeros(1, 3, 16, 16)}
    sampler = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "seed": 7}
    asked = {"positive": ["on", 0], "negative": ["on", 1], "latent_image": ["latent", 0], "model": ["model", 0]}
    graph = small | {"latent": run_graph.give(latent)}
    graph["save"] = {
        "class_type": "SaveSliderLoRA",
        "inputs": {"slider": ["train", 0], "name": "leaf", "dtype": "fp32", "force": True},
    }
    swept = {"slider": ["train", 0], "vae": ["vae", 0], "strengths": "-2, 0, 2", "rows": 1}
    graph |= sweep_nodes(sampler | asked | swept, "sweep")
    run = run_graph(graph, slider=("train", 0), lora=("train", 1), name=("save", 0), images=("sweep", 1), report=("layers", 1))
    assert run["slider"].info.in_controlnet
    assert "the layers are those of the ControlNet" in run["report"]
    assert all(key.startswith("control_model.") for key in run["lora"])
    for column, strength in enumerate((-2.0, 0.0, 2.0)):
        again = {k: small[k] for k in ("model", "clip", "vae", "net", "hint", "text")} | {"latent": graph["latent"]}
        put_on = {"model": ["model", 0], "strength": strength, "file": run["name"], "control_net": ["net", 0]}
        again["apply"] = {"class_type": "SliderLoRAApply", "inputs": put_on}
        again["on"] = {"class_type": "ControlNetApplyAdvanced", "inputs": small["on"]["inputs"] | {"control_net": ["apply", 1]}}
        again["sample"] = {"class_type": "KSampler", "inputs": sampler | asked | {"model": ["apply", 0], "denoise": 1.0}}
        again["picture"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["vae", 0]}}
        image = run_graph(again, image=("picture", 0))["image"][0]
        assert (run["images"][column] - image).abs().max() < 1e-3, strength
    assert (run["images"][0] - run["images"][2]).abs().max() > 1e-3, "it does something"


def test_a_run_with_control_remembers_it(small: dict, run_graph) -> None:
    small["layers"]["inputs"].pop("control_net")
    small["train"]["inputs"] |= {"steps": 9, "steps_per_run": 3}
    slider = run_graph(small, slider=("train", 0))["slider"]
    assert not slider.info.in_controlnet
    assert slider.info.control.startswith("ControlNet 1 hints")
    small["on"]["inputs"]["strength"] = 0.5
    with pytest.raises(run_graph.Error, match=r"with another control: ControlNet 1 hints .* then, ControlNet 1 hints .* now"):
        run_graph(small, slider=("train", 0))
    small["layers"]["inputs"]["control_net"] = ["net", 0]
    small["train"]["inputs"] |= {"name": "other"}
    small["train"]["inputs"].pop("control")
    with pytest.raises(run_graph.Error, match="a slider in a ControlNet needs control images"):
        run_graph(small, slider=("train", 0))
