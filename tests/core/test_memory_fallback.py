"""When memory runs out the step is done again, one level lower, with the result that it would have had.

Memory that runs out is played by a backend that refuses more than so many samples at once, as a device would.
"""

import pytest
import torch
from core.faults import refused

from slider_core.backend import Memory, format_bytes, free_ram, peak_rss
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, TrainSpec
from slider_core.layers.block_inputs import BlockInputs
from slider_core.layers.checkpointing import checkpointed
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength, remember
from slider_core.train.memory_alive import Alive
from slider_core.train.memory_estimate import estimate
from slider_core.train.memory_fallback import fallback_levels
from slider_core.train.trainer import Trainer

STEPS, PAIRS, NEUTRAL = 6, 4, 2
CLOSE = 1e-5


class Small(Memory):
    """A memory of which so much is free."""

    def __init__(self, free: int | None) -> None:
        super().__init__(torch.device("cpu"))
        self.left, self.tidied = free, 0

    def free(self) -> int | None:
        return self.left

    def tidy(self) -> None:
        self.tidied += 1
        super().tidy()


@pytest.fixture
def run(linear_backend, make_samples):
    """(trainer, backend, shapes) of a run in which no more than `most` samples fit with a graph; `free` is what is said to be.
    `looked`: the look ahead has room all the same."""

    def start(most: int = 99, free: int | None = None, steps: int = STEPS, looked: bool = False, **choices):
        backend, predict = linear_backend(), None
        backend.memory, predict = Small(free), backend.predict
        shapes: list[tuple[int, bool]] = []

        def limited(x, sigma, cond):
            shapes.append((len(x), torch.is_grad_enabled()))
            if torch.is_grad_enabled() and len(x) > most and not (looked and len(shapes) == 1):
                raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
            return predict(x, sigma, cond)

        backend.predict = limited
        adapter = Adapter.create(backend.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0, dropout=0.2), seed=3)
        spec = TrainSpec(**({"steps": STEPS, "lr": 1e-2, "seed": 3, "warmup": 0, "batch": 4} | choices))
        trainer = Trainer(adapter, make_samples(PAIRS, NEUTRAL), spec)
        trainer.run(backend, steps)
        return trainer, backend, shapes

    return start


def factors(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.adapter.parameters()])


@pytest.mark.parametrize(("objective", "most"), [*zip(Objective, (3, 2, 1, 2), strict=True), (Objective.DISPLACEMENT, 1)])
def test_a_run_on_a_lower_level_learns_the_same(run, objective: Objective, most: int) -> None:
    plain, _, _ = run(objective=objective)
    short, backend, shapes = run(most, objective=objective)
    assert torch.allclose(factors(short), factors(plain), atol=CLOSE)
    assert short.losses == pytest.approx(plain.losses, rel=1e-4)
    assert backend.memory.tidied == len(short.fallback.tried) > 0
    assert max([count for count, graph in shapes if graph][-2:]) <= most
    assert short.fallback.level.rows == max(r.rows for r in fallback_levels(4, True) if r.rows <= most)


def test_the_summary_names_how_memory_is_saved_and_why(run) -> None:
    assert run()[0].fallback.summary() == ""
    assert run(2)[0].fallback.summary() == " Memory ran out, so: checkpointing, one sign at a time."
    assert run(1)[0].fallback.summary() == " Memory ran out, so: checkpointing, 1 of 4 images at a time."


def test_the_lowest_level_is_an_error_that_names_what_was_tried_and_what_is_missing(run) -> None:
    with refused("training.out_of_memory", "a step needs", "Tried to allocate 2.00 GiB", "one sign at a time", "1 of 4"):
        run(0, looked=True)
    with refused("training.out_of_memory", "not even a forward fits", "1 of 4"):
        run(0)


def test_what_was_learned_stays_and_the_next_run_begins_on_that_level(run) -> None:
    trainer, backend, shapes = run(2, steps=2)
    shapes.clear()
    tried = list(trainer.fallback.tried)
    assert tried
    trainer.run(backend, 4)
    assert max(count for count, graph in shapes if graph) <= 2
    assert trainer.fallback.tried == tried


@pytest.mark.parametrize(
    ("checkpointing", "share", "rows", "twice"), [(True, 9, 4, True), (True, 0.6, 2, True), (False, 9, 4, False)]
)
def test_the_estimate_chooses_the_first_level(run, checkpointing: bool, share: float, rows: int, twice: bool) -> None:
    whole, _, _ = run(checkpointing=checkpointing)
    need = whole.fallback.estimate.need(checkpointing, 4) * 1.25
    trainer, _, _ = run(free=int(share * need), checkpointing=checkpointing)
    assert (trainer.fallback.level.rows, trainer.fallback.level.checkpointing) == (rows, twice)
    assert trainer.fallback.summary().startswith(" Memory is short") is (share < 1)
    assert torch.allclose(factors(trainer), factors(whole), atol=CLOSE)


def test_where_nothing_is_known_of_free_memory_nothing_is_saved_unasked(run) -> None:
    assert run(free=None, checkpointing=False)[0].fallback.level.summary() == ""
    assert run(free=1, checkpointing=False)[0].fallback.level.summary() == "checkpointing, 1 of 4 images at a time"


@pytest.mark.parametrize(("share", "last"), [(0.1, "in main memory"), (1.1, "1 of 4 images at a time")])
def test_inputs_of_blocks_go_to_the_host_only_where_one_image_does_not_fit(run, monkeypatch, share: float, last: str) -> None:
    least = run(checkpointing=True)[0].fallback.estimate.need(True, 1) * 1.25
    monkeypatch.setattr("slider_core.train.memory_fallback.HERE", ())
    trainer, _, _ = run(free=int(share * least))
    assert trainer.fallback.level.summary().endswith(last)
    assert run(free=None)[0].fallback._left[-1].host


def test_a_fault_of_another_kind_is_no_reason_to_go_down(run, monkeypatch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: (_ for _ in ()).throw(RuntimeError("torn")))
    with pytest.raises(RuntimeError, match="torn"):
        run()


def test_a_tensor_is_counted_where_one_that_was_not_has_lain() -> None:
    with Alive(torch.device("cpu"), BlockInputs()) as alive:
        for _ in range(20):
            torch.tensor([0.5])  # made out of sight, and gone: its place is free
            large = torch.zeros(1000)
            assert alive.now == 4000
            del large


def test_the_estimate_is_what_autograd_keeps(backend, samples) -> None:
    """Counted without keeping it, against what a real graph keeps; with checkpointing less."""
    adapter = Adapter.create(backend.module, select(backend.module), AdapterSpec())
    with torch.enable_grad():
        found = estimate(backend, adapter, samples)
        x, sigma = samples[0].latent[None], torch.tensor([0.5])
        own = {t.untyped_storage().data_ptr() for t in (*backend.module.parameters(), *adapter.parameters())}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), at_strength(adapter, backend.module, [1.0]):
            out = backend.predict(x, sigma, [samples[0].cond])
        assert sum(s.nbytes() for s in kept.values()) == found.plain
        del out
        kept.clear()
        with checkpointed(backend.module, adapter.factors, remember), at_strength(adapter, backend.module, [1.0]):
            backend.predict(x, sigma, [samples[0].cond])
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                backend.predict(x, sigma, [samples[0].cond])
    assert sum(s.nbytes() for s in kept.values()) < found.checkpointed < found.plain
    assert found.fixed == 3 * adapter.bytes()
    assert found.need(True, 4) == found.fixed + 4 * found.checkpointed


@pytest.mark.parametrize("most", [4, 2, 1])
def test_a_lower_level_computes_nothing_twice(run, most: int) -> None:
    _, _, shapes = run(most, steps=1, objective=Objective.DENOISE_PAIRED)
    with_graph = [count for count, graph in shapes if graph]
    assert with_graph[-(4 // most) :] == [most] * (4 // most)
    assert sum(with_graph[-(4 // most) :]) == 4


def test_the_figures_of_this_process_are_there() -> None:
    assert peak_rss() > 10e6
    assert free_ram() > 0
    assert format_bytes(1.5e9) == "1.5 GB"
    assert format_bytes(12e6) == "12 MB"
    memory = Memory(torch.device("cpu"))
    memory.begin()
    before, held = memory.peak(), torch.ones(64_000_000 // 4)
    assert held.sum() > 0
    assert memory.peak() >= before
    assert memory.summary().endswith("(RSS)")


def test_which_faults_mean_that_memory_ran_out() -> None:
    memory = Memory(torch.device("cpu"))
    for fault in (torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")):
        assert memory.is_short(fault)
    assert memory.is_short(RuntimeError("MPS backend out of memory"))
    assert not memory.is_short(RuntimeError("shapes do not fit"))
    assert not memory.is_short(KeyboardInterrupt())


def test_the_figures_without_proc_come_from_resource(monkeypatch, tmp_path) -> None:
    from slider_core import backend as memory

    for name in ("STATUS", "MEMINFO", "RESET"):
        monkeypatch.setattr(memory, name, tmp_path / "gone" / name)
    assert memory.peak_rss() > 10e6
    memory.forget_peak_rss()
    assert memory.free_ram() is None or memory.free_ram() > 0
