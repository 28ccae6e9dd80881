"""On a device that is no CPU: what the CPU computes, under every way in which ComfyUI keeps a model there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from device import accelerator
from device.accelerator import EVICT, KEEP
from device.ways import MODEL, PLAIN, STEPS, TENTH, WAYS, Ways, patcher_of, short_of_memory
from gpu.trial import numbers, relative
from host.test_control import Scene, StubVae, control_net, trainer_in
from products import FULL
from zoo.animals import TINY, tiny
from zoo.measure import strengths_deviate

MODELS = ["SD15", "Flux", "ZImage", "WAN21_T2V"]
SAME = 1e-4  # relative, in float32
QUANTISED = 2e-2  # a LoRA on quantised weights is rounded at random
MOST_SYNCS = 2  # reads from the device in a step: the loss, and whether the gradient is finite
CONTROLLED = 1e-3


FAMILIES = list({entry.family: entry.title for entry in reversed(TINY)}.values())
IN_TURN = ["SD15", "ZImage", "MiniMaxH3", "SeedVR2 3B", "LTXV", "StableAudio"]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_cpu(name: str, ways: Ways, device) -> None:
    wanted = ways.of_cpu(ways.gradient, name, False)
    for way in WAYS:
        for checkpointing in (False, True) if FULL or way == EVICT else (False,):
            assert relative(ways.gradient(name, checkpointing, device, way), wanted) < SAME, (way, checkpointing)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_is_that_of_the_cpu_and_leaves_nothing_on_the_device(way: str, ways: Ways, device) -> None:
    trainer, backend = ways.trainer(MODEL, device, way)
    with torch.inference_mode():
        trainer.run(backend, STEPS, read_every=STEPS)
    assert trainer.losses == pytest.approx(ways.of_cpu(ways.losses), rel=SAME)
    moments = [t for state in trainer.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert {t.device.type for t in (*trainer.adapter.parameters(), *moments)} == {"cpu"}
    pages = backend.patcher.model.dynamic_vbars.get(device) if way not in (PLAIN, TENTH) else None
    assert pages is None or pages.pinned == 0


@pytest.mark.parametrize("end", ["attention.out.weight", "attention_norm1.weight", "q_norm.weight"])
def test_a_lora_on_the_model_acts_while_training(end: str, ways: Ways, device) -> None:
    wanted = ways.of_cpu(ways.losses, end)
    assert wanted != pytest.approx(ways.of_cpu(ways.losses), rel=SAME)
    for way in (EVICT, KEEP, PLAIN, TENTH) if FULL else (EVICT, TENTH):
        assert ways.losses(end, where=device, way=way) == pytest.approx(wanted, rel=SAME), way


@pytest.mark.parametrize("kind", ["fp8", "float8_e4m3fn", "int8_tensorwise"])
def test_quantised_weights_train_as_on_the_cpu(kind: str, ways: Ways, device) -> None:
    chosen = {"kind": kind, "dtype": torch.bfloat16}
    for patches in ("", "attention.out.weight") if FULL else ("attention.out.weight",):
        wanted = ways.of_cpu(ways.losses, patches, **chosen)
        for way in (EVICT, TENTH):
            assert ways.losses(patches, where=device, way=way, **chosen) == pytest.approx(wanted, rel=QUANTISED), way


@pytest.mark.parametrize("moment", ["forward", "backward"])
@pytest.mark.parametrize("way", [EVICT, PLAIN])
def test_memory_that_runs_out_costs_a_level_and_no_learning(way: str, moment: str, ways: Ways, device, extension) -> None:
    trainer, backend = ways.trainer(MODEL, device, way, checkpointing=False)
    with torch.inference_mode():
        backend.load()
        trainer.run(backend, 1)
        layer = backend.module.get_submodule(trainer.adapter.targets[-1].path)
        with short_of_memory(backend, layer, extension, moment) as struck:
            trainer.run(backend, STEPS)
    assert struck == [moment]
    assert trainer.fallback.tried
    assert trainer.losses == pytest.approx(ways.of_cpu(ways.losses), rel=SAME)


def test_inputs_of_blocks_wait_in_main_memory(ways: Ways, device) -> None:
    trainer, backend = ways.trainer(MODEL, device, EVICT)
    lowest = ways.pack.core("train.memory_fallback").fallback_levels(trainer.spec.batch, True, host=True)[-1]
    trainer.fallback._learned = lowest
    with torch.inference_mode():
        trainer.run(backend, STEPS, read_every=STEPS)
    assert trainer.fallback.level == lowest
    assert trainer.losses == pytest.approx(ways.of_cpu(ways.losses), rel=SAME)


def test_free_memory_is_what_the_patcher_counts(ways: Ways, device, monkeypatch) -> None:
    import comfy_aimdo.model_vbar as model_vbar

    trainer, backend = ways.trainer(MODEL, device, KEEP)
    with torch.inference_mode():
        trainer.run(backend, 1)
    pages = backend.patcher.model.dynamic_vbars[device]
    before = backend.memory.free()
    monkeypatch.setattr(model_vbar, "vbars_analyze", lambda _device=None: pages.loaded_size())
    assert backend.memory.free() - before == pages.loaded_size() > 0


def test_encoders_leave_the_device_where_a_step_needs_their_room(ways: Ways, device, extension, monkeypatch) -> None:
    from comfy import model_management

    trainer, backend = ways.trainer(MODEL, device, PLAIN, checkpointing=False)
    with torch.inference_mode():
        trainer.run(backend, 1)
        needs = backend.memory.needs[0]
        model_management.unload_all_models()
        empty = extension.used()
        encoder = patcher_of("SD15", device, PLAIN)
        model_management.load_models_gpu([encoder], force_full_load=True)
        held = extension.used() - empty
        trainer, backend = ways.trainer(MODEL, device, PLAIN, checkpointing=False)
        needed = int(1.1 * backend.patcher.model_size()) + needs
        monkeypatch.setattr(accelerator, "TOTAL", empty + needed + held - needs // 2)
        monkeypatch.setattr(model_management, "minimum_inference_memory", lambda: 0)
        monkeypatch.setattr(model_management, "EXTRA_RESERVED_VRAM", 0)
        trainer.run(backend, STEPS)
    assert encoder.loaded_size() == 0
    assert not trainer.fallback.level.checkpointing
    assert trainer.losses == pytest.approx(ways.of_cpu(ways.losses), rel=SAME)


@pytest.mark.parametrize("way", [EVICT, PLAIN])
def test_pictures_between_two_parts_of_a_training_change_nothing(way: str, ways: Ways, device) -> None:
    trainer, backend = ways.trainer(MODEL, device, way)
    with torch.inference_mode():
        trainer.run(backend, 2)
        assert bool(ways.strip(backend, trainer).isfinite().all())
        assert trainer.adapter.device.type == "cpu"
        trainer.adapter.to(device)  # as another program may leave it
        trainer.run(backend, STEPS)
    assert trainer.losses == pytest.approx(ways.of_cpu(ways.losses), rel=SAME)


@pytest.mark.parametrize("way", [EVICT, PLAIN])
def test_an_interrupted_training_goes_on_from_its_state(way: str, ways: Ways, device) -> None:
    from comfy.model_management import InterruptProcessingException

    straight, backend = ways.trainer(MODEL, device, way)
    with torch.inference_mode():
        straight.run(backend, STEPS)
        trainer, backend = ways.trainer(MODEL, device, way)
        backend.load()
        before = numbers(backend.module)

        def press(_layer: Any, _args: Any, out: torch.Tensor) -> None:
            if trainer.step == 2 and out.requires_grad:
                raise InterruptProcessingException

        handle = backend.module.get_submodule(trainer.adapter.targets[-1].path).register_forward_hook(press)
        with pytest.raises(InterruptProcessingException):
            trainer.run(backend, STEPS)
        handle.remove()
        assert trainer.step == 2
        assert numbers(backend.module) == before
        assert trainer.adapter.device.type == "cpu"
        again, backend = ways.trainer(MODEL, device, way)
        again.load_state_dict(trainer.state_dict())
        again.run(backend, STEPS)
    assert again.losses == straight.losses
    assert relative(again.adapter.parameters(), straight.adapter.parameters()) == 0


def reads_of_a_step(ways: Ways, name: str, where: torch.device, extension: Any) -> tuple[int, int]:
    """(of a training step, of the model's own in its forwards without a slider)."""
    trainer, backend = ways.trainer(name, where, PLAIN)
    counts, calls = [], []
    apply = backend.patcher.model.apply_model

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((args, kwargs))
        return apply(*args, **kwargs)

    def note(_report: Any) -> bool:
        counts.append((extension.reads(), len(calls)))
        return len(counts) == 3

    with torch.inference_mode():
        backend.patcher.model.apply_model = counted
        trainer.run(backend, 4, note, read_every=1000)
        del backend.patcher.model.apply_model
        with backend.borrowed(), torch.no_grad():
            before = extension.reads()
            apply(*calls[-1][0], **calls[-1][1])
            plain = extension.reads() - before
    (first, called), (second, again) = counts[1:3]
    return second - first, plain * (again - called)


@pytest.mark.parametrize("name", FAMILIES if FULL else IN_TURN)
def test_a_step_waits_for_the_device_twice(name: str, ways: Ways, device, extension) -> None:
    reads, of_the_model = reads_of_a_step(ways, name, device, extension)
    assert reads - of_the_model <= MOST_SYNCS


@pytest.mark.parametrize("way", [EVICT, PLAIN, TENTH])
def test_a_sweep_in_one_call_equals_separate_runs(way: str, ways: Ways, device) -> None:
    for name in ("SD15", "Flux"):
        with torch.inference_mode():
            patcher = patcher_of(name, device, way)
        assert strengths_deviate(ways.pack.core, tiny(name), 3.0, patcher=patcher) < SAME


@pytest.mark.parametrize("name", ["SD15", "Flux"])
def test_a_slider_in_a_controlnet_trains_as_on_the_cpu(name: str, ways: Ways, device) -> None:
    losses = []
    vae = StubVae() if name == "Flux" else None
    for where, way in ((torch.device("cpu"), PLAIN), (device, PLAIN), (device, EVICT)):
        with torch.inference_mode():
            patcher_of(name, where, PLAIN)  # dynamic VRAM is off while a network is made
            net = control_net(tiny(name), where)
            scene = Scene(tiny(name), patcher_of(name, where, way), net, vae)
            backend, trainer = trainer_in(ways.pack, scene, hints=2)
            trainer.run(backend, STEPS)
        losses.append(trainer.losses)
    for found in losses[1:]:
        assert found == pytest.approx(losses[0], rel=CONTROLLED)


def test_the_input_of_a_fused_layer_is_cast_once(ways: Ways, device) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func.overloadpacket.__name__ == "_to_copy" and args[0].dtype is torch.float16 and out.dtype is torch.float32:
                Casts.count += args[0].shape == (2, 5, 8)
            return out

    core = ways.pack.core
    layer = torch.nn.Sequential(torch.nn.Linear(8, 12, dtype=torch.float16)).to(device).requires_grad_(False)
    targets = [core("layers.layer").Target("0", rows) for rows in ((0, 4), (4, 8), (8, 12))]
    adapter = core("lora.slider_adapter").Adapter.create(layer, targets, core("config.lora").AdapterSpec(rank=2), device=device)
    x = torch.zeros(2, 5, 8, dtype=torch.float16).to(device)
    with core("lora.strength").at_strength(adapter, layer, [1.0, -1.0]), Casts():
        layer(x)
    assert Casts.count == 1
