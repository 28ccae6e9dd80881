"""What training takes of the device is little, as little as was promised, and given back; part of the model may stay outside."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from gpu.trial import Trial, numbers, on_device, relative, trainer_of
from zoo.animals import tiny

MODEL = "ZImage"
SAME = 1e-5


def kept_within(patcher: Any, share: float, monkeypatch) -> None:
    """As much of the model as that share goes to the device, however much is free there."""
    real, most = patcher.partially_load, share * patcher.model_size()

    def partially_load(device: torch.device, extra: float = 0, force: bool = False, **named: Any) -> int:
        force = named.get("force_patch_weights", force)
        return real(device, min(extra, most - patcher.model.model_loaded_weight_memory), force_patch_weights=force)

    monkeypatch.setattr(patcher, "partially_load", partially_load)


@pytest.mark.parametrize(("kind", "dtype"), [("plain", torch.float32), ("plain", torch.float16), ("fp8", torch.bfloat16)])
@pytest.mark.parametrize("name", ["SD15", MODEL])
def test_a_partly_loaded_model_trains_and_stays_where_it_is(
    name: str, kind: str, dtype: torch.dtype, device, pack, monkeypatch
) -> None:
    patcher = on_device(tiny(name), device, kind, dtype)
    kept_within(patcher, 0.5, monkeypatch)
    trainer, backend = trainer_of(pack, patcher, tiny(name))
    with torch.inference_mode():
        backend.load()
        before, loaded = numbers(backend.module), patcher.loaded_size()
        places = {n: p.device for n, p in backend.module.named_parameters()}
        trainer.run(backend, 8, read_every=8)
    assert 0 < loaded < patcher.model_size(), "half of it"
    assert patcher.loaded_size() == loaded
    assert {n: p.device for n, p in backend.module.named_parameters()} == places
    assert device.type == "cpu" or len(set(places.values())) == 2
    assert numbers(backend.module) == before
    whole, backend = trainer_of(pack, on_device(tiny(name), device, kind, dtype), tiny(name))
    with torch.inference_mode():
        whole.run(backend, 8, read_every=8)
    assert trainer.losses == pytest.approx(whole.losses, rel=1e-3), "as the whole model learns"


@pytest.mark.parametrize("name", ["SD15", MODEL])
def test_a_partly_loaded_models_gradient_is_that_of_the_whole_one(name: str, device, pack, monkeypatch) -> None:
    part, whole = (on_device(tiny(name), device) for _ in range(2))
    kept_within(part, 0.5, monkeypatch)
    found = Trial(pack, part, tiny(name)).borrowed_gradient()
    assert 0 < part.loaded_size() < part.model_size()
    assert relative(found, Trial(pack, whole, tiny(name)).borrowed_gradient()) < SAME


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_takes_less_memory(dtype: torch.dtype, gpu, pack) -> None:
    """The most that one step allocates above the loaded model, with a batch that is large beside the weights."""
    entry, peaks = tiny(MODEL), []
    large = dataclasses.replace(entry, latent=(*entry.latent[:-2], 4 * entry.latent[-2], 4 * entry.latent[-1]))
    for checkpointing in (False, True):
        trainer, backend = trainer_of(pack, on_device(entry, gpu, "plain", dtype), large, 4, batch=8, checkpointing=checkpointing)
        with torch.inference_mode():
            backend.load()
            trainer.run(backend, 1)  # kernels and the optimizer's memory are there afterwards
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats(gpu)
            before = torch.cuda.memory_allocated(gpu)
            trainer.run(backend, 2)
            peaks.append(torch.cuda.max_memory_allocated(gpu) - before)
    assert peaks[1] < 0.7 * peaks[0], peaks


@pytest.mark.parametrize("end", ["done", "cancelled in a forward", "cancelled in a backward", "an error"])
def test_memory_is_given_back(end: str, device, pack, held) -> None:
    from comfy.model_management import InterruptProcessingException

    fault = {"done": None, "an error": ZeroDivisionError()}.get(end, InterruptProcessingException())
    patcher = on_device(tiny(MODEL), device)
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, patcher, tiny(MODEL))
        trainer.run(backend, 1)
        layer = backend.module.get_submodule(trainer.adapter.targets[-1].path)

        def strike(*_: Any) -> None:
            raise fault

        def hook(_module: Any, _args: Any, out: torch.Tensor) -> None:
            if fault is not None and torch.is_grad_enabled() and out.requires_grad:
                out.register_hook(strike) if end.endswith("backward") else strike()

        before, handle = held(), layer.register_forward_hook(hook)
        if fault is None:
            trainer.run(backend, 4)
        else:
            with pytest.raises(type(fault)):
                trainer.run(backend, 4)
        handle.remove()
        fault = None
        kept = 3 * trainer.adapter.bytes()  # the last good state: factors and both moments
    assert held() <= before + kept + 4096, "but for that and a few numbers"


def test_memory_that_runs_out_goes_down_the_ladder_and_learns_the_same(device, pack) -> None:
    """torch's own error, as the device would raise it, in the first forward that has a graph."""
    losses = []
    for short in (False, True):
        trainer, backend = trainer_of(pack, on_device(tiny(MODEL), device), tiny(MODEL), checkpointing=False)
        struck: list[bool] = []

        def hook(_module: Any, _args: Any, out: torch.Tensor, struck: list[bool] = struck) -> None:
            if out.requires_grad and not struck:
                struck.append(True)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

        layer = backend.module.get_submodule(trainer.adapter.targets[-1].path)
        handle = layer.register_forward_hook(hook) if short else None
        with torch.inference_mode():
            trainer.run(backend, 4)
        losses.append(trainer.losses)
        if handle:
            handle.remove()
            assert "checkpointing" in trainer.fallback.summary()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
