"""The model is borrowed: nothing copied while it trains, everything put back on success, error and cancel, wherever they come.

A fault is injected in the middle of a forward, and in the middle of a backward (plain, and in a checkpointed block's second
run). The switches of the host are set to unusual values first, so that "put back" is not "set to the default".
"""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils._python_dispatch
from zoo.animals import TINY
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
    for path, part in module.named_modules():
        found[path] = (dict(part._forward_hooks), dict(part._forward_pre_hooks), part.__dict__.get("forward"), part.training)
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
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
    backend = core("comfy_host").ComfyBackend(build_tiny(entry), None, None)
    targets = core("targets").select(backend.module)
    adapter = core("adapter").Adapter.create(backend.module, targets, core("config").AdapterSpec(rank=2, alpha=2.0))
    generator = torch.Generator().manual_seed(1)
    samples = [
        core("cache").Sample(
            torch.randn(entry.latent, generator=generator), core("backend").Conditioning("", conditioning(entry, 0)), sign, pair
        )
        for sign in (1.0, -1.0)
        for pair in range(PAIRS)
    ]
    spec = core("config").TrainSpec(steps=4, batch=2, lr=1e-2, checkpointing=checkpointing)
    return core("trainer").Trainer(adapter, samples, spec), backend


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


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("place", ["nowhere", "forward", "backward"])
@pytest.mark.parametrize("name", MODELS)
def test_everything_is_put_back(name: str, place: str, checkpointing: bool, in_training: bool, pack, monkeypatch) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "in_training", in_training)
    entry = next(e for e in TINY if e.title == name)
    for fault in (RuntimeError("torn"), comfy.model_management.InterruptProcessingException(), KeyboardInterrupt()):
        with torch.inference_mode():
            trainer, backend = trainer_of(pack, entry, checkpointing)
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


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("entry", TINY, ids=lambda e: e.title)
def test_no_weight_is_copied(entry, checkpointing: bool, pack) -> None:
    """While gradients are recorded every weight lies where the loader put it; afterwards the very objects are back."""
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


def test_attention_without_a_gradient_gives_way(pack, monkeypatch) -> None:
    """A user who started ComfyUI with sage or flash attention trains with torch's own; the host's choice stays."""
    from comfy.ldm.modules import attention

    calls = []

    @attention.wrap_attn
    def attention_sage(q, k, v, *args, **kwargs):
        calls.append("asked")
        return attention.attention_pytorch(q.detach(), k.detach(), v.detach(), *args, **kwargs)  # a kernel without autograd

    monkeypatch.setattr(attention, "optimized_attention", attention_sage)
    trainer, backend = trainer_of(pack, next(e for e in TINY if e.title == "SD15"), False)
    with torch.inference_mode():
        trainer.run(backend, 2)
    assert not calls
    assert all(float(p.abs().max()) > 0 for p in trainer.adapter.parameters()), "queries and keys learn too"
    assert attention.optimized_attention is attention_sage
