"""LoRAs that the MODEL already carries act while a slider trains on it, and are no part of the slider.

Oracles outside our code: weights merged by hand, ComfyUI's own two LoRA loaders, its KSampler, and the bits of every tensor.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import demo_graph, sweep_inputs, sweep_nodes
from safetensors.torch import save_file

STEPS, STRENGTH, RANK, ALPHA = 3, 0.7, 3, 1.5
SAME = 2e-3  # of a slider's size: two orders of adding in float32, through Adam, which divides by small numbers
NAME = "assistant.safetensors"
LOADERS = {"merged": "LoraLoaderModelOnly", "bypass": "LoraLoaderBypassModelOnly"}


@pytest.fixture(scope="module")
def dataset(pack) -> Any:
    """The quickstart's images, looked at by the doctor once."""
    module = pack.part("nodes.dataset")
    return module.LoadSliderDataset.execute("demo: smile", "").args[0]


@pytest.fixture
def prompt(dataset: Any, run_graph) -> dict[str, Any]:
    graph = demo_graph() | {"2": run_graph.give(dataset)}
    graph["6"]["inputs"] |= {"steps": STEPS, "any_rate": True, "calibrate": False}
    return graph


@pytest.fixture
def lora(comfy: Path, pack, extra_nodes) -> dict[str, torch.Tensor]:
    """A file of the stock loader's for eight layers of the demo model, large enough to matter; also its tensors."""
    extra_nodes("nodes_lora_debug")
    generator = torch.Generator().manual_seed(5)
    weights = pack.core("with_tiny.model").load_weights()
    paths = [k.removesuffix(".weight") for k, w in weights.items() if k.startswith("diffusion_model.") and w.ndim == 2]
    state = {}
    for path in [p for p in paths if f"{p}.weight" in weights][2:18:2]:
        tall, wide = weights[f"{path}.weight"].shape
        scale = float(weights[f"{path}.weight"].std()) / RANK**0.5
        state[f"{path}.lora_up.weight"] = torch.randn(tall, RANK, generator=generator)
        state[f"{path}.lora_down.weight"] = torch.randn(RANK, wide, generator=generator) * scale
        state[f"{path}.alpha"] = torch.tensor(ALPHA)
    assert len(state) == 24
    save_file(state, comfy / "models" / "loras" / NAME)
    return state


def merged(weights: dict[str, torch.Tensor], lora: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The checkpoint with the LoRA in its weights, by hand: W + strength * alpha / rank * up @ down."""
    found = dict(weights)
    for key in lora:
        if key.endswith(".alpha"):
            path = key.removesuffix(".alpha")
            up, down = lora[f"{path}.lora_up.weight"], lora[f"{path}.lora_down.weight"]
            found[f"{path}.weight"] = weights[f"{path}.weight"] + STRENGTH * ALPHA / RANK * (up @ down)
    return found


def carrying(prompt: dict[str, Any], loader: str) -> dict[str, Any]:
    """The training part of the graph on a MODEL that the stock loader has put the LoRA on."""
    node = {"class_type": loader, "inputs": {"model": ["1", 0], "lora_name": NAME, "strength_model": STRENGTH}}
    graph = {k: prompt[k] for k in ("1", "2", "5", "6")} | {"lora": node}
    for k in ("5", "6"):
        graph[k] = {"class_type": prompt[k]["class_type"], "inputs": prompt[k]["inputs"] | {"model": ["lora", 0]}}
    return graph


def numbers(slider: Any) -> torch.Tensor:
    """Every number of a slider's change in one row, layers by name: a file has them in an order of its own."""
    return torch.cat([slider.weights[t].delta().flatten() for t in sorted(slider.weights, key=str)])


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {name: hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest() for name, t in tensors.items()}


def carried(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of the LoRA that a MODEL carries, by layer, whichever loader put it there."""
    found = {f"{key} {i}": t for key, ((_, change, *_),) in model.patches.items() for i, t in enumerate(change.weights[:2])}
    for (injection,) in model.injections.values():
        hooks = next(c.cell_contents for c in injection.inject.__closure__ if hasattr(c.cell_contents, "hooks")).hooks
        found |= {f"{n} {i}": t for n, hook in enumerate(hooks) for i, t in enumerate(hook.adapter.weights[:2])}
    return found


@pytest.mark.parametrize("way", LOADERS)
def test_training_on_it_is_training_on_the_merged_model(way: str, prompt: dict, lora: dict, run_graph, forget, pack) -> None:
    slider = run_graph(carrying(prompt, LOADERS[way]), slider=("6", 0))["slider"]
    forget()
    plain = run_graph({k: prompt[k] for k in ("1", "2", "5", "6")}, slider=("6", 0))["slider"]
    forget()
    tiny, comfy_tiny = pack.core("with_tiny.model"), pack.core("with_tiny.model_in_comfy")
    model = comfy_tiny.load_model(merged(tiny.load_weights(), lora))
    graph = carrying(prompt, LOADERS[way]) | {"lora": run_graph.give(model)}
    oracle = run_graph(graph, slider=("6", 0))["slider"]
    assert apart(numbers(slider), numbers(oracle)) < SAME
    assert apart(numbers(plain), numbers(oracle)) > 50 * SAME, "the assistant makes a difference"


@pytest.mark.parametrize("way", LOADERS)
def test_it_stays_as_it_was_and_so_does_the_base(way: str, prompt: dict, lora: dict, run_graph, pack) -> None:
    import comfy.model_management

    run = run_graph(
        {k: v for k, v in carrying(prompt, LOADERS[way]).items() if k in ("1", "lora")}, lora=("lora", 0), base=("1", 0)
    )
    before = bits(carried(run["lora"]))
    assert len(before) == 16
    again = run_graph(carrying(prompt, LOADERS[way]), slider=("6", 0), lora=("lora", 0), base=("1", 0))
    assert again["lora"] is run["lora"]
    assert bits(carried(again["lora"])) == before
    comfy.model_management.load_models_gpu([again["base"]])  # the MODEL without the assistant, as a sampler loads it
    module = again["base"].model.diffusion_model
    own = {f"diffusion_model.{name}": p for name, p in module.named_parameters()}
    checkpoint = pack.core("with_tiny.model").load_weights()
    assert bits(own) == bits({name: checkpoint[name] for name in own})
    assert all(part.forward.__self__ is part for part in module.modules()), "nothing stays in a forward's place"
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("way", LOADERS)
def test_the_file_holds_the_slider_alone_and_needs_no_assistant(
    way: str, prompt: dict, lora: dict, run_graph, pack, comfy
) -> None:
    graph = carrying(prompt, LOADERS[way])
    graph["save"] = {"class_type": "SaveSliderLoRA", "inputs": {"slider": ["6", 0], "name": "alone", "dtype": "fp32"}}
    run = run_graph(graph, slider=("6", 0), name=("save", 0), base=("1", 0))
    saved = pack.core("lora.slider_file").load_slider(comfy / "models" / "loras" / run["name"])
    assert set(saved.weights) == set(run["slider"].weights)
    assert torch.equal(numbers(saved), numbers(run["slider"]))
    checkpoint = pack.core("with_tiny.model").load_weights()
    node = {"model": ["1", 0], "lora_name": run["name"], "strength_model": -1.5}
    stock = run_graph({"1": prompt["1"], "l": {"class_type": "LoraLoaderModelOnly", "inputs": node}}, model=("l", 0))["model"]
    import comfy.model_management

    comfy.model_management.load_models_gpu([stock])
    shifted = {target.path: weight.delta() for target, weight in run["slider"].weights.items()}
    for name, p in stock.model.diffusion_model.named_parameters():
        base, change = checkpoint[f"diffusion_model.{name}"], shifted.get(name.removesuffix(".weight"))
        if change is None or not name.endswith(".weight"):
            assert torch.equal(p, base), name
        else:
            assert torch.allclose(p - base, -1.5 * change.reshape(base.shape), atol=1e-6, rtol=1e-4), name
    comfy.model_management.load_models_gpu([run["base"]])


@pytest.mark.parametrize("way", LOADERS)
def test_strengths_do_not_scale_it(way: str, prompt: dict, lora: dict, run_graph, forget, pack) -> None:
    """A sweep on the MODEL with the assistant is Slider LoRA Apply on it at each strength: at 0 the picture of that MODEL."""
    graph = carrying(prompt, LOADERS[way]) | {k: prompt[k] for k in ("7", "8", "9")}
    sweep = sweep_inputs(prompt) | {"model": ["lora", 0], "rows": 1, "steps": 4, "strengths": "-2, 0, 1"}
    graph |= sweep_nodes(sweep)
    run = run_graph(graph, slider=("6", 0), images=("10", 1))
    for column, strength in enumerate((-2.0, 0.0, 1.0)):
        alone = {k: graph[k] for k in ("1", "7", "8", "9", "lora")} | {"6": run_graph.give(run["slider"]), "13": prompt["13"]}
        put_on = {"model": ["lora", 0], "slider": ["6", 0], "strength": strength}
        alone["11"] = {"class_type": "SliderLoRAApply", "inputs": put_on}
        sampler = prompt["12"]["inputs"] | {"steps": 4, "seed": sweep["seed"]}
        alone["12"] = {"class_type": "KSampler", "inputs": sampler}
        image = run_graph(alone, image=("13", 0))["image"][0]
        assert (run["images"][column] - image).abs().max() < 1e-4
    bare = {k: prompt[k] for k in ("1", "7", "8", "9", "13")}
    bare["12"] = {"class_type": "KSampler", "inputs": sampler | {"model": ["1", 0]}}
    assert (run_graph(bare, image=("13", 0))["image"][0] - run["images"][1]).abs().max() > 1e-2, "without it, another picture"


@pytest.mark.parametrize("way", LOADERS)
def test_another_assistant_under_the_same_name_is_named(way: str, prompt: dict, lora: dict, run_graph) -> None:
    graph = carrying(prompt, LOADERS[way])
    graph["6"]["inputs"] |= {"steps": 3 * STEPS, "steps_per_run": STEPS}
    info = run_graph(graph, slider=("6", 0))["slider"].info
    assert info.assistant.startswith("LoRA on 8 layers")
    run_graph(graph, slider=("6", 0))
    graph["lora"]["inputs"]["strength_model"] = STRENGTH / 2
    with pytest.raises(run_graph.Error, match=r"with another assistant: LoRA on 8 layers .* then, LoRA on 8 layers .* now"):
        run_graph(graph, slider=("6", 0))
    graph["6"]["inputs"]["model"] = ["1", 0]
    with pytest.raises(run_graph.Error, match=r"with another assistant: LoRA on 8 layers .* then, none now"):
        run_graph(graph, slider=("6", 0))
