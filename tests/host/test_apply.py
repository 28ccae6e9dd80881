"""Slider LoRA Apply: merged and live are one thing; a window and a curve are what a chain of KSamplers draws by hand.

Oracles: ComfyUI's own loader path (merge), its KSampler split into steps, and its rule for a conditioning's timestep range.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import demo_graph
from safetensors.torch import load_file
from zoo.animals import tiny
from zoo.measure import Trial, norm, shaken
from zoo.model import build_tiny, conditioning

TITLES = ("SD15", "Flux", "ZImage", "WAN21_T2V", "SD3 3.5 medium", "HiDreamO1")
SAME, MOVED = 1e-4, 1e-2  # as a share of the slider's effect; what the slider must move, as a share of the output
BATCHED = 1e-3  # the same where rows of one batch are compared with runs of one row
STEPS, SEED = 4, 7


class Case:
    """A tiny model, two sliders whose every part acts, and ComfyUI's own sampler."""

    def __init__(self, pack: Any, title: str, algorithm: str = "lora") -> None:
        self.core, self.entry = pack.core, tiny(title)
        self.model = build_tiny(self.entry)
        self.module = self.model.model.diffusion_model
        targets = self.core("layers.select").select(self.module)
        self.adapter = shaken(self.core, self.module, targets, torch.float32, algorithm)
        if algorithm == "loha" or title == "HiDreamO1":  # a product of four small factors; a model that hardly hears small ones
            with torch.no_grad():
                for p in self.adapter.parameters():
                    p.mul_(2)
        self.adapter.read_base(self.module)
        self.slider = self.core("lora.slider_file").Slider(self.adapter.weights())

    @cached_property
    def other_adapter(self) -> Any:
        other = shaken(self.core, self.module, self.adapter.targets[::2], torch.float32)
        with torch.no_grad():
            for p in other.parameters():
                p.mul_(-0.7).add_(0.01)
        return other

    @cached_property
    def other(self) -> Any:
        return self.core("lora.slider_file").Slider(self.other_adapter.weights())

    def on(self, model: Any, strength: float, mode: str = "auto", slider: Any = None, **window: Any) -> Any:
        made = self.core("use.schedule").Window(**window)
        apply = self.core("with_comfy.slider_apply").apply
        return apply(slider or self.slider, strength, model, window=made, mode=mode)[0]

    @torch.inference_mode()
    def drawn(self, model: Any, steps: int = STEPS, cfg: float = 1.0, latent: Any = None, **part: Any) -> torch.Tensor:
        """The latent that ComfyUI's KSampler (Advanced) gives."""
        import nodes

        latent = torch.zeros(1, *self.entry.latent) if latent is None else latent
        prompts = conditioning(self.entry, 0), conditioning(self.entry, 1)
        args = model, SEED, steps, cfg, "euler", "simple", *prompts, {"samples": latent}
        return nodes.common_ksampler(*args, **part)[0]["samples"].clone()

    def by_hand(self, models: list[Any], cfg: float = 1.0) -> torch.Tensor:
        """One KSampler (Advanced) a step, each with a MODEL of its own."""
        latent = None
        for step, model in enumerate(models):
            part = {"start_step": step, "last_step": step + 1, "disable_noise": step > 0, "force_full_denoise": False}
            latent = self.drawn(model, len(models), cfg, latent, **part)
        return latent

    def sigmas(self, steps: int = STEPS) -> torch.Tensor:
        from comfy.samplers import calculate_sigmas

        return calculate_sigmas(self.sampling, "simple", steps)

    @property
    def sampling(self) -> Any:
        return self.model.get_model_object("model_sampling")

    def percent(self, step: int, steps: int = STEPS) -> float:
        """The percent between the step before and this one."""
        sigmas, percent = self.sigmas(steps), self.core("with_comfy.live_slider").percent_of
        return (percent(self.sampling, float(sigmas[step - 1])) + percent(self.sampling, float(sigmas[step]))) / 2

    def hooks(self) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in self.module.modules())


def same(one: torch.Tensor, other: torch.Tensor, base: torch.Tensor) -> bool:
    """Equal within SAME of the effect, which there must be."""
    effect = (other - base).norm()
    assert effect > MOVED * base.norm(), "the slider moves the picture"
    return bool((one - other).norm() < SAME * effect)


@pytest.fixture(scope="module")
def cases(pack: Any) -> Any:
    made: dict[tuple[str, str], Case] = {}

    def case(title: str, algorithm: str = "lora") -> Case:
        key = title, algorithm
        made[key] = made[key] if key in made else Case(pack, title, algorithm)
        return made[key]

    return case


@pytest.mark.parametrize("title", TITLES)
def test_live_is_merged(title: str, cases: Any) -> None:
    case = cases(title)
    base = case.drawn(case.model, 2, 3.0)
    for strength in (1.5, -0.7):
        live = case.drawn(case.on(case.model, strength, "live"), 2, 3.0)
        assert same(live, case.drawn(case.on(case.model, strength, "merge"), 2, 3.0), base), strength
    assert torch.equal(case.drawn(case.model, 2, 3.0), base)
    assert case.hooks() == 0


@pytest.mark.parametrize("algorithm", ["dora", "loha", "lokr", "full", "glora"])
def test_live_is_merged_with_any_algorithm(algorithm: str, cases: Any) -> None:
    case = cases("SD15", algorithm)
    base = case.drawn(case.model, steps=1)
    for strength in (1.5, -0.7):
        live = case.drawn(case.on(case.model, strength, "live"), steps=1)
        assert same(live, case.drawn(case.on(case.model, strength, "merge"), steps=1), base), strength


@pytest.mark.parametrize(("title", "cfg", "strength"), [("SD15", 1.0, 1.5), ("ZImage", 4.0, 1.5), ("HiDreamO1", 4.0, 6.0)])
def test_a_window_is_the_base_model_and_then_the_slider(title: str, cfg: float, strength: float, cases: Any) -> None:
    case = cases(title)
    base, merged = case.model, case.on(case.model, strength, "merge")
    plain = case.drawn(base, cfg=cfg)
    late = case.drawn(case.on(base, strength, start=case.percent(2)), cfg=cfg)
    assert same(late, case.by_hand([base, base, merged, merged], cfg), plain)
    middle = case.drawn(case.on(base, strength, start=case.percent(1), end=case.percent(3)), cfg=cfg)
    assert same(middle, case.by_hand([base, merged, merged, base], cfg), plain)
    assert not torch.allclose(late, middle)


@pytest.mark.parametrize("title", ["SD15", "ZImage"])
def test_a_curve_is_a_strength_for_each_step(title: str, cases: Any) -> None:
    """One that changes its sign, too."""
    case = cases(title)
    percents = [case.core("with_comfy.live_slider").percent_of(case.sampling, float(s)) for s in case.sigmas()[:-1]]
    points = ((0.1, -1.0), (0.8, 2.0))
    shares = [case.core("use.schedule").Window(points=points).share(p) for p in percents]
    assert len(set(shares)) == STEPS
    found = case.drawn(case.on(case.model, 0.8, points=points))
    wanted = case.by_hand([case.on(case.model, 0.8 * share, "merge") for share in shares])
    assert same(found, wanted, case.drawn(case.model))


@pytest.mark.parametrize("title", ["SD15", "ZImage", "CosmosI2V"])
def test_the_edges_of_the_window_are_those_of_a_conditioning(title: str, cases: Any) -> None:
    """ConditioningSetTimestepRange's own test, at the edges' very sigmas in float32 and beside them."""
    from comfy.samplers import get_area_and_mult

    case = cases(title)
    live = case.core("with_comfy.live_slider").LiveSlider(case.adapter, 1.0, case.core("use.schedule").Window(0.3, 0.7))
    start, end = (case.sampling.percent_to_sigma(p) for p in (0.3, 0.7))
    for edge in (start, end):
        exact = torch.tensor([edge], dtype=torch.float32)
        for sigma in (exact, torch.nextafter(exact, exact + 1), torch.nextafter(exact, exact - 1), exact * 1.1, exact * 0.9):
            cond = {"timestep_start": start, "timestep_end": end, "model_conds": {}, "uuid": None}
            theirs = get_area_and_mult(cond, torch.zeros(1, *case.entry.latent), sigma) is not None
            assert live.strengths(case.sampling, sigma) == [float(theirs)], sigma


def test_the_percent_of_a_sigma_is_the_inverse_of_the_models_own(cases: Any) -> None:
    for title in TITLES:
        sampling = cases(title).sampling
        for percent in (0.05, 0.3, 0.62, 0.98):
            found = cases(title).core("with_comfy.live_slider").percent_of(sampling, float(sampling.percent_to_sigma(percent)))
            assert found == pytest.approx(percent, abs=1e-4), title


def test_outside_its_window_a_slider_is_the_base_model_bit_for_bit(cases: Any) -> None:
    case = cases("SD15")
    base = case.drawn(case.model)
    assert torch.equal(case.drawn(case.on(case.model, 1.5, start=0.9999)), base)
    assert case.on(case.model, 0.0, "live") is case.model
    assert case.on(case.model, 0.0, start=0.5) is case.model


def test_auto_merges_unless_the_strength_changes(cases: Any, pack: Any) -> None:
    case = cases("SD15")
    live_sliders = case.core("with_comfy.live_slider").live_sliders
    assert live_sliders(case.on(case.model, 1.0)) == []
    assert case.on(case.model, 1.0).patches
    for window in ({"start": 0.2}, {"end": 0.8}, {"points": ((0.0, 0.5),)}):
        model = case.on(case.model, 1.0, **window)
        assert len(live_sliders(model)) == 1
        assert not model.patches
        with pytest.raises(pack.core("config.checks").SliderError, match="set mode to auto"):
            case.on(case.model, 1.0, "merge", **window)


def stacked(case: Case, order: str) -> Any:
    """The slider at 1.5 and the other at -1, merged (capital letter) or live, in that order."""
    model = case.model
    for letter in order:
        strength, slider = (1.5, case.slider) if letter in "aA" else (-1.0, case.other)
        model = case.on(model, strength, "merge" if letter.isupper() else "live", slider)
    return model


@pytest.mark.parametrize("title", ["SD15", "Flux"])
def test_sliders_stack_in_any_order_and_any_mode(title: str, cases: Any) -> None:
    """B is what ComfyUI's LoRA loader does with a file."""
    case = cases(title)
    base, wanted = case.drawn(case.model), case.drawn(stacked(case, "AB"))
    assert not same(case.drawn(stacked(case, "A")), wanted, base)
    for order in ("BA", "aB", "Ba", "ab", "ba"):
        assert same(case.drawn(stacked(case, order)), wanted, base), order


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_live_dora_does_not_take_another_slider_for_its_base(order: str, cases: Any) -> None:
    """Its change is that of the weights, whatever hooks ran before it. Oracle: both changes added to the weights by hand."""
    case = cases("SD15", "dora")
    base = case.drawn(case.model, steps=1)
    found = case.drawn(stacked(case, order), steps=1)
    weights = dict(case.module.named_parameters())
    before = {name: p.clone() for name, p in weights.items()}
    with torch.inference_mode():
        for strength, slider in ((1.5, case.slider), (-1.0, case.other)):
            for target, weight in slider.weights.items():
                p, base_weight = weights[f"{target.path}.weight"], before[f"{target.path}.weight"]
                p += strength * weight.delta(base_weight).reshape(p.shape)
        try:
            wanted = case.drawn(case.model, steps=1)
        finally:
            for name, value in before.items():
                weights[name].copy_(value)
    assert same(found, wanted, base)


def test_keys_are_unique_and_clones_keep_theirs(cases: Any) -> None:
    from comfy.patcher_extension import WrappersMP

    case = cases("SD15")
    twice = case.on(case.on(case.model, 1.0, "live"), 1.0, "live")
    keys = list(twice.wrappers[WrappersMP.APPLY_MODEL])
    assert len(set(keys)) == 2
    assert not case.model.wrappers.get(WrappersMP.APPLY_MODEL), "the model that came in carries nothing"
    assert list(twice.clone().wrappers[WrappersMP.APPLY_MODEL]) == keys
    base = case.drawn(case.model)
    assert same(case.drawn(twice.clone()), case.drawn(case.on(case.model, 2.0, "merge")), base)


def test_another_strength_makes_no_new_adapter(cases: Any) -> None:
    case = cases("ZImage")
    live_sliders = case.core("with_comfy.live_slider").live_sliders
    copied = case.core("lora.slider_file").Slider({t: w for t, w in case.slider.weights.items()})  # a file that was read again
    one, other, third = (
        live_sliders(case.on(case.model, strength, "live", slider))[0]
        for strength, slider in ((1.0, case.slider), (2.0, copied), (1.0, case.other))
    )
    assert one.adapter._parts is other.adapter._parts
    assert one.adapter is not other.adapter
    assert third.adapter._parts is not one.adapter._parts
    assert len({one.fingerprint, other.fingerprint, third.fingerprint}) == 3
    assert one.fingerprint == live_sliders(case.on(case.model, 1.0, "live"))[0].fingerprint


def test_a_stop_in_the_middle_leaves_no_hook(cases: Any) -> None:
    from comfy.model_management import InterruptProcessingException

    case = cases("ZImage")
    base, model = case.drawn(case.model), stacked(case, "ab")
    calls: list[int] = []

    def stop(_layer: Any, _args: Any) -> None:
        calls.append(case.hooks())
        if len(calls) == 3:
            raise InterruptProcessingException

    target = next(iter(case.slider.weights)).path
    handle = case.module.get_submodule(target).register_forward_pre_hook(stop)
    with pytest.raises(InterruptProcessingException):
        case.drawn(model)
    handle.remove()
    assert calls[0] > 1, "the sliders were on"
    assert case.hooks() == 0
    assert case.core("lora.strength").attachments(case.module) == []
    assert torch.equal(case.drawn(case.model), base)


def test_a_sweep_on_a_model_with_a_live_slider_moves_both(cases: Any) -> None:
    """One strength at a time it is the merged pair; in one batch it is the same but for the rounding of a batch."""
    case = cases("ZImage")
    strengths = (-1.0, 0.0, 2.0)
    prompts = conditioning(case.entry, 0), conditioning(case.entry, 1)
    latent = {"samples": torch.zeros(1, *case.entry.latent)}

    @torch.inference_mode()
    def swept(some: tuple[float, ...]) -> torch.Tensor:
        sampling = case.core("use.sampling").Sampling(*prompts, latent, SEED, STEPS, 3.0)
        backend = case.core("with_comfy.model_backend").ComfyBackend(live)
        return case.core("with_comfy.sampling").sample_latents(backend, case.other_adapter, sampling, some).latents.clone()

    live = case.on(case.model, 1.5, "live")
    base, together = case.drawn(case.model, cfg=3.0), swept(strengths)
    for row, strength in zip(together, strengths, strict=True):
        merged = case.drawn(case.on(case.on(case.model, 1.5, "merge"), strength, "merge", case.other), cfg=3.0)
        assert same(swept((strength,)), merged, base), strength
        assert (row[None] - merged).norm() < BATCHED * (merged - base).norm(), strength


def compiled_of(model: Any) -> Any:
    """What TorchCompileModel makes of a MODEL, without a compiler behind it."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    return compiled


def test_compiled_models_hear_a_live_slider(cases: Any) -> None:
    """Compiled before without it, where torch would not look for hooks; in both orders of the nodes."""
    case = cases("ZImage")
    compiled = compiled_of(case.model)
    base = case.drawn(compiled, steps=2)
    wanted = case.drawn(case.on(case.model, 1.5, "merge"), steps=2)
    assert same(case.drawn(case.on(compiled, 1.5, "live"), steps=2), wanted, base)
    later = compiled_of(case.on(case.model, 1.5, "live"))
    assert same(case.drawn(later, steps=2), wanted, base)


def test_compiled_models_hear_a_sweep(cases: Any) -> None:
    """A call like that for which the model was compiled, without the slider."""
    case = cases("ZImage")
    compiled = compiled_of(case.model)
    base = case.drawn(compiled, steps=2)
    prompts = conditioning(case.entry, 0), conditioning(case.entry, 1)
    sampling = case.core("use.sampling").Sampling(*prompts, {"samples": torch.zeros(1, *case.entry.latent)}, SEED, 2)
    backend = case.core("with_comfy.model_backend").ComfyBackend(compiled)
    with torch.inference_mode():
        swept = case.core("with_comfy.sampling").sample_latents(backend, case.adapter, sampling, (1.5,)).latents
    assert same(swept, case.drawn(case.on(case.model, 1.5, "merge"), steps=2), base)


def test_compiled_models_are_trained_on_as_plain_ones_are(cases: Any) -> None:
    case = cases("ZImage")
    compiled = compiled_of(case.model)
    case.drawn(compiled, steps=1)
    found = []
    for model in (case.model, compiled):
        trial = Trial(case.core, case.entry, patcher=model)
        with trial.backend.borrowed(), torch.enable_grad():
            found.append(trial.gradient(False)[0])
    assert all(torch.equal(plain, other) for plain, other in zip(*found, strict=True))
    assert norm(found[0]) > 0


# --- in graphs of the built-in model


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    """The quickstart's model 1, dataset 2, targets 5, training 6, prompts 7 and 8, latent 9, sampler 12, decoder 13."""
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": 3, "learning_rate": 0.01, "any_rate": True, "calibrate": False}
    graph["12"]["inputs"]["steps"] = 3
    return {k: graph[k] for k in ("1", "2", "5", "6", "7", "8", "9", "12", "13")}


@pytest.fixture
def two_sliders(prompt: dict, run_graph: Any, pack: Any) -> list[dict]:
    """Two random sliders of the built-in model, as nodes."""
    module = run_graph({"1": prompt["1"]}, model=("1", 0))["model"].model.diffusion_model
    targets = pack.core("layers.select").select(module)
    adapters = [shaken(pack.core, module, some, torch.float32) for some in (targets, targets[::3])]
    return [run_graph.give(pack.core("lora.slider_file").Slider(adapter.weights())) for adapter in adapters]


def apply_node(model: str, slider: str, **inputs: Any) -> dict:
    return {"class_type": "SliderLoRAApply", "inputs": {"model": [model, 0], "slider": [slider, 0], **inputs}}


def drawing(prompt: dict, model: str, nodes: dict) -> dict:
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "13")} | nodes
    graph["12"] = {"class_type": "KSampler", "inputs": prompt["12"]["inputs"] | {"model": [model, 0]}}
    return graph


def test_a_slider_is_trained_with_a_live_one_in_place(prompt: dict, two_sliders: list[dict], run_graph: Any) -> None:
    """As with a merged one: it is context, not trained and not in the result. With blocks that are computed twice, too."""
    found = {}
    for mode, twice in (("merge", False), ("live", False), ("live", True), ("none", False)):
        on = {"a": two_sliders[0], "x": apply_node("1", "a", strength=0.0 if mode == "none" else 0.7, mode="live")}
        on["x"]["inputs"] |= {} if mode == "none" else {"mode": mode}
        graph = {k: prompt[k] for k in ("1", "2", "5")} | on
        inputs = prompt["6"]["inputs"] | {"model": ["x", 0], "name": f"{mode} {twice}", "checkpointing": twice}
        graph["6"] = {"class_type": "SliderTrainStep", "inputs": inputs}
        run = run_graph(graph, slider=("6", 0), model=("1", 0), given=("a", 0))
        found[mode, twice] = run["slider"].weights
        module = run["model"].model.diffusion_model
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()) == 0
    wanted = found["merge", False]
    for key in (("live", False), ("live", True)):
        assert found[key].keys() == wanted.keys()
        for target, weight in wanted.items():
            torch.testing.assert_close(found[key][target].update(), weight.update(), rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(found["none", False][t].update(), w.update(), rtol=1e-2) for t, w in wanted.items())


def test_training_goes_not_on_under_another_live_slider(prompt: dict, two_sliders: list[dict], run_graph: Any) -> None:
    """The session takes a MODEL with another live strength for another assistant, as it does with a merged one."""
    for strength, message in ((0.7, None), (0.7, None), (0.9, "trained up to step .* with another assistant")):
        graph = {k: prompt[k] for k in ("1", "2", "5")} | {
            "a": two_sliders[0],
            "x": apply_node("1", "a", strength=strength, mode="live"),
        }
        inputs = prompt["6"]["inputs"] | {"model": ["x", 0], "name": "context", "steps": 1}
        graph["6"] = {"class_type": "SliderTrainStep", "inputs": inputs}
        if message is None:
            run_graph(graph, slider=("6", 0))
        else:
            with pytest.raises(run_graph.Error, match=message):
                run_graph(graph, slider=("6", 0))


def test_a_slider_without_an_effect_at_its_strength_takes_no_part_in_solving(pack) -> None:
    store = pack.core("lora.slider_file")
    sliders = [store.Slider({}, pack.core("lora.info").SliderInfo(sides="plus")), store.Slider({})]
    solved = pack.core("with_comfy.solved_strengths").solved_strengths(None, sliders, (-1.0, 1.0), None, "calibrated")
    assert solved == ([-1.0, 1.0], "")


def test_places_of_a_dial_are_solved_as_strengths(pack) -> None:
    """A solved strength is a multiple of the one that was asked for, which a place is not."""
    slider_file, info, dial = (pack.core(f"lora.{name}") for name in ("slider_file", "info", "even_steps"))
    even = info.SliderInfo(even_steps=dial.EvenSteps(((0.0, 0.0), (0.75, 0.5), (1.0, 1.0))))
    sliders = [slider_file.Slider({}, even), slider_file.Slider({})]
    use, stack = pack.part("nodes.schedule").SliderUse, pack.part("nodes.stack")
    assert stack.as_calibrated(sliders, [0.75, 0.75], use(units="even_steps", mode="live")) == ([0.5, 0.75], use(mode="live"))
    assert stack.as_calibrated(sliders, [0.75, 0.75], use(units="raw")) == ([0.75, 0.75], use(units="raw"))


def test_the_stack_is_a_chain_of_apply_nodes(prompt: dict, two_sliders: list[dict], run_graph: Any) -> None:
    given = {"a": two_sliders[0], "b": two_sliders[1]}
    chain = {"x": apply_node("1", "b", strength=-0.5), "y": apply_node("x", "a", strength=1.5)}
    wanted = run_graph(drawing(prompt, "y", given | chain), image=("13", 0))["image"]
    plain = run_graph(drawing(prompt, "1", {}), image=("13", 0))["image"]
    inputs = {"model": ["1", 0], "sliders.slider_1": ["a", 0], "sliders.slider_2": ["b", 0], "strengths": "1.5, -0.5"}
    for mode in ("auto", "live"):
        stack = {"s": {"class_type": "SliderStack", "inputs": inputs | {"mode": mode}}}
        image = run_graph(drawing(prompt, "s", given | stack), image=("13", 0))["image"]
        assert (image - wanted).abs().max() < SAME, mode
    assert (wanted - plain).abs().max() > MOVED
    by_sign = {"x": apply_node("1", "b", strength=0.5), "y": apply_node("1", "a", strength=-0.5, minus_slider=["b", 0])}
    minus = [run_graph(drawing(prompt, one, given | by_sign), image=("13", 0))["image"] for one in by_sign]
    assert torch.equal(*minus), "below 0 the other slider acts at the strength without its sign"
    twice = {"model": ["1", 0], "sliders.slider_1": ["a", 0], "sliders.slider_2": ["a", 0], "strengths": "0.1"}
    solved = {"p": {"class_type": "SliderSampling", "inputs": {"prompt": "a face", "picture_seed": 0, "settings": "auto"}}}
    solved["p"]["inputs"] |= {"distilled": "auto", "clip": ["1", 1]}
    solved["s"] = {"class_type": "SliderStack", "inputs": twice | {"sampling": ["p", 0]}}
    alone = run_graph(drawing(prompt, "x", given | {"x": apply_node("1", "a", strength=0.1)}), image=("13", 0))["image"]
    shared = run_graph(drawing(prompt, "s", given | solved), image=("13", 0))["image"]
    assert (shared - alone).abs().max() < 0.1 * (alone - plain).abs().max()  # one slider twice does what it does once
    stack["s"]["inputs"]["strengths"] = "1, 2, 3"
    with pytest.raises(run_graph.Error, match="3 strengths for 2 sliders"):
        run_graph(drawing(prompt, "s", given | stack), image=("13", 0))


def test_the_node_takes_a_window_and_refuses_what_cannot_be(prompt: dict, two_sliders: list[dict], run_graph: Any) -> None:
    late = {"a": two_sliders[0], "x": apply_node("1", "a", strength=1.5, start_percent=0.5, curve="0.5: 0, 1: 1")}
    images = [run_graph(drawing(prompt, m, late), image=("13", 0))["image"] for m in ("x", "1")]
    assert not torch.equal(*images)
    for inputs, message in (
        ({"mode": "merge"}, "cannot change during the sampling"),
        ({"end_percent": 0.2}, "the slider would never act"),
        ({"curve": "half"}, '"half" is no point'),
    ):
        late["x"]["inputs"] |= inputs
        with pytest.raises(run_graph.Error, match=message):
            run_graph(drawing(prompt, "x", late), image=("13", 0))
        late["x"]["inputs"] |= {"mode": "auto", "end_percent": 1.0, "curve": ""}


def test_save_checkpoint_writes_the_model_with_the_slider_in_its_weights(pack, tmp_path: Path) -> None:
    """ComfyUI's own node after Slider LoRA Apply; the oracle is B A by hand."""
    import comfy.sd

    entry = tiny("SD15")
    model = build_tiny(entry)
    module = model.model.diffusion_model
    targets = pack.core("layers.select").select(module)
    slider = pack.core("lora.slider_file").Slider(shaken(pack.core, module, targets, torch.float32).weights())
    applied, _ = pack.core("with_comfy.slider_apply").apply(slider, -1.5, model)
    target, weight = next((t, w) for t, w in slider.weights.items() if "attn" in t.path)
    base = module.get_submodule(target.path).weight.double().clone()
    path = tmp_path / "merged.safetensors"
    comfy.sd.save_checkpoint(str(path), applied)
    saved = load_file(path)
    up, down = (weight.tensors[name].double() for name in weight.products()[0])
    wanted = base - 1.5 * weight.scale * up @ down
    key = f"model.diffusion_model.{target.path}.weight"
    assert torch.allclose(saved[key].double(), wanted, atol=1e-5)
    assert not torch.allclose(saved[key].double(), base, atol=1e-4)
