"""The model is borrowed: nothing copied while it trains, everything put back on success, error and cancel, wherever they come.

A fault is injected in the middle of a forward, and in the middle of a backward (plain, and in a checkpointed block's second
run). The switches of the host are set to unusual values first, so that "put back" is not "set to the default".
"""

import hashlib
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.utils._python_dispatch
from products import FULL, in_turn
from zoo.animals import TINY, tiny
from zoo.model import build_tiny, conditioning

PAIRS = 2
MODELS = ["SD15", "Flux", "CosmosT2IPredict2", "HiDreamO1"]  # plain; in place; kernels without a gradient; out= and a cache


def in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def switches() -> dict[str, Any]:
    """Everything in the process that training flips or could leave behind."""
    import comfy.ldm.modules.attention
    import comfy.model_management
    import comfy.quant_ops

    kitchen = comfy.quant_ops.ck
    return {
        "in_training": comfy.model_management.in_training,
        "training_fp8_bwd": comfy.model_management.training_fp8_bwd,
        "attention": comfy.ldm.modules.attention.optimized_attention,
        **{name: getattr(kitchen, name) for name in dir(kitchen) if "rope" in name},
        "masked": comfy.ldm.modules.attention.optimized_attention_masked,
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "saving": torch._C._autograd._top_saved_tensors_default_hooks(True),
        "modes": (torch.utils._python_dispatch._get_current_dispatch_mode(), torch.overrides._get_current_function_mode()),
        "float": torch.Tensor.float,
        "generator": torch.random.get_rng_state().tolist(),
    }


def state(patcher: Any) -> dict[str, Any]:
    """Every weight's bits, object, memory and flags; every module's hooks and forward; the patcher's own marks."""
    module = patcher.model.diffusion_model
    found: dict[str, Any] = {"injected": patcher.is_injected, "patches": patcher.patches_uuid}
    found["prompts"] = list(getattr(module, "_kv_cache_entries", []))
    for path, part in module.named_modules():
        found[path] = (dict(part._forward_hooks), dict(part._forward_pre_hooks), part.__dict__.get("forward"), part.training)
        for name, tensor in [*part._parameters.items(), *part._buffers.items(), *part.__dict__.items()]:
            if isinstance(tensor, torch.Tensor):
                bits = hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
                flags = tensor.requires_grad, tensor.is_inference(), tensor.grad
                found[f"{path}.{name}"] = bits, id(tensor), tensor.data_ptr(), flags
    return found


@pytest.fixture(autouse=True)
def unusual(pack, monkeypatch) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "training_fp8_bwd", True)


def trainer_of(pack, entry, checkpointing: bool) -> tuple[Any, Any]:
    """(trainer, backend) of one tiny model, its adapter zero, as in a graph's first step."""
    core = pack.core
    backend = core("with_comfy.model_backend").ComfyBackend(build_tiny(entry), None, None)
    targets = core("layers.select").select(backend.module)
    adapter = core("lora.slider_adapter").Adapter.create(
        backend.module, targets, core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    )
    generator = torch.Generator().manual_seed(1)
    samples = [
        core("encode.encoder").Sample(
            torch.randn(entry.latent, generator=generator), core("backend").Conditioning("", conditioning(entry, 0)), sign, pair
        )
        for sign in (1.0, -1.0)
        for pair in range(PAIRS)
    ]
    spec = core("config.training").TrainSpec(steps=4, batch=2, lr=1e-2, checkpointing=checkpointing)
    return core("train.trainer").Trainer(adapter, samples, spec), backend


def fault_at(place: str, layer: torch.nn.Module, fault: BaseException) -> Callable[[], None]:
    """Raise `fault` once, when `layer` runs while gradients are recorded (forward), or in the backward through it."""
    done: list[bool] = []

    def strike(*_: Any) -> None:
        if not done:
            done.append(True)
            raise fault

    def hook(_module: Any, _args: Any, output: torch.Tensor) -> None:
        if place == "nowhere":
            return
        if place == "forward":
            if torch.is_grad_enabled() and not in_backward():
                strike()
        elif in_backward():
            strike()
        elif output.requires_grad:
            output.register_hook(strike)

    return layer.register_forward_hook(hook).remove


PLACES = ("nowhere", "forward", "backward")
SWITCHED = in_turn(product(MODELS, PLACES), ("plain", "checkpointed"), (False, True, True))  # the last: in_training


@pytest.mark.parametrize(("where", "checkpointing", "in_training"), SWITCHED)
def test_everything_is_put_back(where: tuple[str, str], checkpointing: str, in_training: bool, pack, monkeypatch) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "in_training", in_training)
    entry, place = tiny(where[0]), where[1]
    faults = (RuntimeError("torn"), comfy.model_management.InterruptProcessingException(), KeyboardInterrupt())
    turn = MODELS.index(where[0]) % len(faults)
    for fault in faults if FULL else faults[turn : turn + 1]:
        with torch.inference_mode():
            trainer, backend = trainer_of(pack, entry, checkpointing == "checkpointed")
            backend.patcher.model.current_patcher = backend.patcher  # as after a first sampling
            before, outside = state(backend.patcher), switches()
            remove = fault_at(place, backend.module.get_submodule(trainer.adapter.targets[-1].path), fault)
            if place == "nowhere":
                trainer.run(backend, 2)
                assert trainer.step == 2
            else:
                with pytest.raises(type(fault)):
                    trainer.run(backend, 2)
                assert trainer.step == 0
            remove()
            assert switches() == outside
            assert {k: v for k, v in state(backend.patcher).items() if before[k] != v} == {}
            trainer.run(backend, 2 + trainer.step)  # and it can be trained again


@pytest.mark.parametrize(
    ("entry", "checkpointing"),
    in_turn(TINY if FULL else map(tiny, MODELS), (False, True)),
    ids=lambda v: getattr(v, "title", None),
)
def test_no_weight_is_copied(entry, checkpointing: bool, pack) -> None:
    """While gradients are recorded every weight lies where the loader put it; afterwards the very objects are back. Of one model
    of each family test_gradients.py holds the same."""
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, entry, checkpointing)
        weights = backend.module.state_dict(keep_vars=True)
        memory = {name: (t.untyped_storage().data_ptr(), t.data_ptr()) for name, t in weights.items()}
        seen = []

        def look(*_: Any) -> None:
            if torch.is_grad_enabled():
                now = backend.module.state_dict(keep_vars=True)
                seen.append({name: (t.untyped_storage().data_ptr(), t.data_ptr()) for name, t in now.items()} == memory)

        layer = backend.module.get_submodule(trainer.adapter.targets[0].path)
        handle = layer.register_forward_hook(look)
        trainer.run(backend, 1)
        handle.remove()
        assert seen
        assert all(seen)
        after = backend.module.state_dict(keep_vars=True)
        assert all(after[name] is tensor for name, tensor in weights.items())
        assert all(t.is_inference() for t in after.values() if t.is_floating_point())


def blind(calls: list[str]) -> Callable[..., torch.Tensor]:
    """Attention as a kernel without autograd gives it."""
    from comfy.ldm.modules import attention

    def attention_sage(q, k, v, *args, **kwargs):
        calls.append("asked")
        return attention.attention_pytorch(q.detach(), k.detach(), v.detach(), *args, **kwargs)

    return attention_sage


def learn_all(pack, name: str, options: dict | None = None) -> None:
    """Two steps, after which every factor has moved."""
    trainer, backend = trainer_of(pack, tiny(name), False)
    if options:
        backend.patcher.model_options["transformer_options"] = options
    with torch.inference_mode():
        trainer.run(backend, 2)
    paths = [t.path for t in trainer.adapter.targets for _ in range(2)]
    assert [p for p, f in zip(paths, trainer.adapter.parameters(), strict=True) if not f.abs().max()] == []


@pytest.mark.parametrize("name", ["SD15", "ErnieImage", "HunyuanDiT", "SeedVR2 3B"])
def test_attention_without_a_gradient_gives_way(name: str, pack, monkeypatch) -> None:
    """A user who started ComfyUI with sage or flash attention trains with torch's own; the host's choice stays."""
    import sys

    from comfy.ldm.modules import attention

    calls: list[str] = []
    chosen, before = attention.wrap_attn(blind(calls)), attention.optimized_attention
    entry = tiny(name)
    build_tiny(entry)  # its module is imported
    holders = [m for n, m in sys.modules.items() if n.startswith("comfy.") and getattr(m, "optimized_attention", None) is before]
    for holder in holders:
        monkeypatch.setattr(holder, "optimized_attention", chosen)
    learn_all(pack, name)
    assert len(calls) <= 1, "tried on a few numbers, and never asked again"
    assert all(holder.optimized_attention is chosen for holder in holders)


def test_a_users_own_attention_gives_way_only_where_it_must(pack) -> None:
    """A patch node's attention on the MODEL: kept when gradients pass through it, replaced when they do not."""
    calls: list[str] = []
    sage = blind(calls)
    learn_all(pack, "SD15", {"optimized_attention_override": lambda _function, *a, **k: sage(*a, **k)})
    assert calls
    kept: list[str] = []

    def fine(function, *args, **kwargs):
        kept.append("asked")
        return function(*args, **kwargs)

    learn_all(pack, "SD15", {"optimized_attention_override": fine})
    assert len(kept) > len(calls)


def test_a_second_slider_is_tried_out_anew(pack) -> None:
    """What was found for one slider's layers says nothing of another's, and does not spoil the trial."""
    trainer, backend = trainer_of(pack, tiny("CosmosT2V"), False)
    sample = trainer.samples[0]
    with torch.inference_mode(), backend.borrowed():
        for targets in (trainer.adapter.targets, trainer.adapter.targets[:-1], trainer.adapter.targets):
            backend.prepare([t.path for t in targets], sample.latent, sample.cond)
            assert backend.one_by_one


def test_what_fails_while_a_run_is_ended_stops_nothing_else(pack, monkeypatch) -> None:
    _, backend = trainer_of(pack, tiny("SD15"), False)
    ended: list[str] = []

    def failing(name: str) -> Callable[[], None]:
        def fail() -> None:
            ended.append(name)
            raise RuntimeError(name)

        return fail

    controls = [SimpleNamespace(pre_run=lambda *_: None, cleanup=failing(name)) for name in ("one", "other")]
    monkeypatch.setattr(backend.patcher, "cleanup", failing("model"))
    backend.load()
    for control in controls:
        backend._controls.begin(control, backend.patcher.model)
    with pytest.raises(RuntimeError), backend.running():
        pass
    assert sorted(ended) == ["model", "one", "other"]


@pytest.mark.parametrize("kind", ["dynamic", "quantised"])
def test_a_sweep_runs_where_training_cannot(kind: str, pack, monkeypatch) -> None:
    """Strengths of a finished slider can be compared on a model that is too large, or quantised, to be trained."""
    from zoo.measure import shaken

    entry = tiny("ZImage")
    patcher = build_tiny(entry)
    host = pack.core("with_comfy.sampling")
    module = patcher.model.diffusion_model
    adapter = shaken(pack.core, module, pack.core("layers.select").select(module), torch.float32)
    monkeypatch.setattr(host.ComfyBackend, "load", lambda _self: pytest.fail("a sweep asks for what only training needs"))
    if kind == "quantised":
        layer = module.layers[0].feed_forward.w1
        layer.weight = torch.nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
        layer.comfy_cast_weights = True
    latent = {"samples": torch.zeros(1, *entry.latent)}
    prompts = conditioning(entry, 0), conditioning(entry, 1)
    sampling = pack.core("use.sampling").Sampling(*prompts, latent, seed=7, steps=1)
    with torch.inference_mode():
        drawn = host.sample_latents(host.ComfyBackend(patcher), adapter, sampling, (-1.0, 1.0)).latents
    assert drawn.shape == (2, *entry.latent)
    assert not torch.allclose(drawn[0], drawn[1])


def test_a_cancelled_sweep_leaves_no_prompt_behind(pack, monkeypatch) -> None:
    import comfy.sample
    from zoo.measure import shaken

    entry = tiny("HiDreamO1")
    patcher = build_tiny(entry)
    host, module = pack.core("with_comfy.sampling"), patcher.model.diffusion_model
    adapter = shaken(pack.core, module, pack.core("layers.select").select(module), torch.float32)
    sample = comfy.sample.sample

    def cancelled(*args: Any, **kwargs: Any) -> torch.Tensor:
        sample(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(comfy.sample, "sample", cancelled)
    prompts, latent = (conditioning(entry, 0), conditioning(entry, 1)), {"samples": torch.zeros(1, *entry.latent)}
    sampling = pack.core("use.sampling").Sampling(*prompts, latent, seed=7, steps=1)
    with torch.inference_mode(), pytest.raises(KeyboardInterrupt):
        host.sample_latents(host.ComfyBackend(patcher), adapter, sampling, (1.0,))
    assert module._kv_cache_entries == []
