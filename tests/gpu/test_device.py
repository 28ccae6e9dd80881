"""On the device that ComfyUI trains on: a slider learns, the model stays as it is to the last bit, and gradients are right."""

from __future__ import annotations

import pytest
import torch
from gpu.trial import Trial, numbers, on_device, relative, trainer_of
from zoo.animals import tiny
from zoo.measure import strengths_deviate

MODEL = "ZImage"  # transformers; SD15 has convolutions, Flux fused layers, Wan a clip
MODELS = ["SD15", "Flux", "ZImage", "WAN21_T2V"]
LEARNED = 12
KINDS = [
    ("plain", torch.float32),
    ("plain", torch.float16),
    ("plain", torch.bfloat16),
    ("fp8", torch.float16),
    ("fp8", torch.bfloat16),
    ("float8_e4m3fn", torch.bfloat16),
    ("int8_tensorwise", torch.bfloat16),
]
named = pytest.mark.parametrize(("kind", "dtype"), KINDS, ids=lambda x: str(x).removeprefix("torch."))
SLOPE, SAME, DEVICES, SWEPT = 1e-2, 1e-4, 1e-3, 1e-4  # relative, in float32


@named
def test_a_slider_learns_and_the_base_stays_bit_identical(kind: str, dtype: torch.dtype, device, pack) -> None:
    patcher = on_device(tiny(MODEL), device, kind, dtype)
    with torch.inference_mode():
        trainer, backend = trainer_of(pack, patcher, tiny(MODEL))
        backend.load()
        before = numbers(backend.module)
        assert next(backend.module.parameters()).device.type == device.type
        trainer.run(backend, LEARNED, read_every=LEARNED)
    assert numbers(backend.module) == before
    assert not any(p.requires_grad for p in backend.module.parameters())
    assert {p.dtype for p in trainer.adapter.parameters()} == {torch.float32}
    assert trainer.adapter.finite()
    assert sum(trainer.readings[-1].explained) > 0


@named
def test_the_loss_is_scaled_only_where_the_model_computes_in_half(kind: str, dtype: torch.dtype, device, pack) -> None:
    trainer, backend = trainer_of(pack, on_device(tiny(MODEL), device, kind, dtype), tiny(MODEL))
    with torch.inference_mode():
        trainer.run(backend, 1)
    assert (trainer._scale > 1) is (dtype is torch.float16)


def test_a_scale_that_overflows_half_precision_comes_down_and_training_goes_on(device, pack, monkeypatch) -> None:
    monkeypatch.setattr(pack.core("train.trainer"), "HALF_SCALE", 2.0**24)
    trainer, backend = trainer_of(pack, on_device(tiny(MODEL), device, "plain", torch.float16), tiny(MODEL))
    with torch.inference_mode():
        trainer.run(backend, LEARNED, read_every=LEARNED)
    assert 1 < trainer._scale < 2.0**24
    assert trainer.adapter.finite()
    assert sum(trainer.readings[-1].explained) > 0


@pytest.mark.parametrize("name", MODELS)
def test_gradients_agree_with_finite_differences(name: str, device, pack) -> None:
    assert Trial(pack, on_device(tiny(name), device), tiny(name)).borrowed_slope() < SLOPE


@pytest.mark.parametrize("name", MODELS)
def test_checkpointing_changes_no_gradient(name: str, device, pack) -> None:
    trial = Trial(pack, on_device(tiny(name), device), tiny(name))
    assert relative(trial.borrowed_gradient(checkpointing=True), trial.borrowed_gradient()) < SAME


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_cpu(name: str, gpu, pack) -> None:
    there, here = (Trial(pack, on_device(tiny(name), where), tiny(name)) for where in (gpu, torch.device("cpu")))
    assert relative(there.borrowed_gradient(), here.borrowed_gradient()) < DEVICES


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", ["SD15", "Flux", "ZImage"])
def test_a_sweep_in_one_call_equals_separate_runs(name: str, cfg: float, device, pack) -> None:
    assert strengths_deviate(pack.core, tiny(name), cfg, patcher=on_device(tiny(name), device)) < SWEPT


def test_training_twice_from_one_seed_gives_nearly_the_same_slider(device, pack) -> None:
    """Bit for bit on a CPU; a GPU may add in another order."""
    found = []
    for _ in range(2):
        trainer, backend = trainer_of(pack, on_device(tiny(MODEL), device), tiny(MODEL))
        with torch.inference_mode():
            trainer.run(backend, LEARNED)
        found.append([p.detach().cpu().clone() for p in trainer.adapter.parameters()])
    assert relative(*found) < (1e-9 if device.type == "cpu" else 1e-2)
