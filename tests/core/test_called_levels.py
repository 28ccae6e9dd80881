"""Whatever is read off a distilled model is read at the noise levels of its own sampler; an ordinary one as ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from core.test_measurement import Pictures, images
from core.test_progress import constant_model

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Timesteps, TrainSpec
from slider_core.encode.called_levels import EDGE, called_levels, nearest_levels
from slider_core.encode.encoder import PromptPair, Sample
from slider_core.encode.text_latents import make_latents
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.calibration_errors import ErrorMeter
from slider_core.train.direction import HALF_WIDTH, asked
from slider_core.train.displacement import symmetric_part
from slider_core.train.drawn import Drawing, drawn_levels
from slider_core.train.measurement import MOST_ALIKE, measure_any
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run
from slider_core.use.interference import solve
from slider_core.use.probe_report import draw_asked, report

FEW = (1, 2, 4, 8)
PAIR = [replace(sample, pair=number) for number in range(2) for sample in images()]
NO_PROMPT = Conditioning("", None)
PROMPTS = [replace(sample, prompt_pair=PromptPair(NO_PROMPT, NO_PROMPT, 1.0, 1.0)) for sample in PAIR]


def drawing(model, adapter: Adapter, samples: list[Sample]) -> None:
    Drawing(model, adapter, samples, int).at(0.5)


def trained(model, adapter: Adapter, unaligned: bool) -> None:
    """From the first step to the calibration."""
    samples = [replace(sample, aligned=not unaligned) for sample in PAIR]
    spec = TrainSpec(steps=12, lr=0.0, timesteps=Timesteps.FEW_STEP, few_steps=model.few_steps)
    run = Run("one", {}, Trainer(adapter, samples, spec))
    run.trainer.fallback.look_ahead = lambda *_: None  # whose one forward pass only counts bytes
    run.trainer.run(model, 12)
    run.calibrate(model)
    assert run.calibrated_now


MEASURED: dict[str, Callable[..., object]] = {
    "pairs": lambda model, adapter: measure_any(model, adapter, PAIR),
    "unaligned": lambda model, adapter: measure_any(model, adapter, images(aligned=False)),
    "prompts": lambda model, adapter: measure_any(model, adapter, PROMPTS),
    "drawn pairs": lambda model, adapter: drawing(model, adapter, PAIR),
    "drawn prompts": lambda model, adapter: drawing(model, adapter, PROMPTS),
    "drawn unaligned": lambda model, adapter: drawing(model, adapter, images(aligned=False)),
    "made latents": lambda model, _: make_latents(model, torch.zeros(1, 3, 4, 4), NO_PROMPT, 10),
    "solved strengths": lambda model, adapter: solve(model, [adapter, adapter], [0.5, 0.5], NO_PROMPT, (3, 4, 4)),
    "training": lambda model, adapter: trained(model, adapter, unaligned=False),
    "training unaligned": lambda model, adapter: trained(model, adapter, unaligned=True),
}


def listening(linear_backend, few_steps: int):
    """A model that is distilled to so many steps, its slider, and the positions in the schedule that are asked for."""
    model, adapter = constant_model(linear_backend, 0.4)
    model.few_steps = few_steps
    levels: set[float] = set()

    def sigmas(u_B: torch.Tensor) -> torch.Tensor:
        levels.update(round(u, 4) for u in u_B.tolist())
        return u_B

    model.sigmas = sigmas
    return model, adapter, levels


@pytest.mark.parametrize("few_steps", FEW)
@pytest.mark.parametrize("measure", MEASURED.values(), ids=MEASURED)
def test_a_distilled_model_is_called_at_its_samplers_levels_alone(linear_backend, measure: Callable, few_steps: int) -> None:
    model, adapter, levels = listening(linear_backend, few_steps)
    measure(model, adapter)
    called = called_levels(few_steps)
    assert levels
    assert max(min(abs(level - one) for one in called) for level in levels) < 2 * EDGE, sorted(levels)


@pytest.mark.parametrize("few_steps", FEW)
def test_the_direction_is_asked_where_the_training_will_be(linear_backend, few_steps: int) -> None:
    model, _, levels = listening(linear_backend, few_steps)
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    spec = TrainSpec(timesteps=Timesteps.FEW_STEP, few_steps=few_steps)
    found = asked(model, adapter, PAIR, spec)
    assert set(found.levels) <= set(called_levels(few_steps))
    assert max(min(abs(level - one) for one in found.levels) for level in levels) <= HALF_WIDTH + EDGE
    assert 0 <= found.window[0] < found.window[1] <= 1
    assert f"at noise level {found.levels[0]:g}" in report(found, 1.0) or len(found.levels) > 1
    assert draw_asked(found, "x").size == (900, 520)


@pytest.mark.parametrize(("few_steps", "levels"), [(0, (0.822, 0.878)), (1, (0.999,)), (4, (0.75,))])
def test_a_level_that_shows_nothing_of_the_pairs_is_read_where_there_is_no_other(
    linear_backend, monkeypatch, few_steps: int, levels: tuple[float, ...]
) -> None:
    """Up to 0.8 the model sees 45 % of what sets the pairs apart, beyond nothing. The last levels are nearer to 0.999."""
    model, adapter, _ = listening(linear_backend, few_steps)

    def seen(batch, _base):
        return 0.45 * (batch.sigma_B[: len(batch.sigma_B) // 2] < 0.85)

    monkeypatch.setattr("slider_core.train.calibration_errors.visible_share", seen)
    assert ErrorMeter(model, adapter, PAIR, 0, None).levels == pytest.approx(levels, abs=0.05)


def test_an_ordinary_model_is_drawn_as_ever() -> None:
    for begin in (0.75, 0.999):
        assert drawn_levels(begin, 0) == torch.linspace(begin, EDGE, 5)[:-1].tolist()
    assert nearest_levels((0.6, 0.8), called_levels(0)) == (0.6, 0.8)


@pytest.mark.parametrize(
    ("begin", "few_steps", "levels"),
    [
        (0.75, 1, [0.999]),
        (0.75, 4, [0.75, 0.5, 0.25]),
        (0.999, 4, [0.999, 0.75, 0.5, 0.25]),
        (0.75, 8, [0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (0.75, 16, [0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),  # every second of its own
    ],
)
def test_a_distilled_model_is_drawn_as_its_sampler_draws(begin: float, few_steps: int, levels: list[float]) -> None:
    assert drawn_levels(begin, few_steps) == pytest.approx(levels)


def test_what_opposite_ends_have_in_common() -> None:
    common, apart = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert symmetric_part([common + apart], [common - apart]) == pytest.approx(0.75)
    assert symmetric_part([0 * common], [0 * common]) == 0.0


@pytest.mark.parametrize(("few_steps", "factor"), [(0, 2.5), (4, MOST_ALIKE / 0.4)])
def test_a_distilled_model_is_turned_up_no_further_than_the_ends_differ(
    linear_backend, monkeypatch, few_steps: int, factor: float
) -> None:
    """Pictures say 2.5 times what explains the images best; what both ends do alike says 2."""
    model, adapter, _ = listening(linear_backend, few_steps)
    monkeypatch.setattr("slider_core.train.measurement.Drawing", lambda *_: Pictures(lambda strength: strength / 6.25))
    monkeypatch.setattr("slider_core.train.measurement.symmetric_part", lambda *_: 0.4)
    found = measure_any(model, adapter, images())
    assert found.unit == pytest.approx(factor * found.plus.best, rel=0.02)
    assert found.plus.best == pytest.approx(2.5, rel=0.02)
