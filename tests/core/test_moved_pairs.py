"""Pairs are moved at random where the model knows moved pictures, and stay in their places where it does not."""

import copy
from dataclasses import replace

import pytest
import torch

from slider_core.backend import Conditioning, per_sample
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, Timesteps, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective.batch import Batch
from slider_core.objective.noising import draw_shifts, jitter_of, timesteps_of
from slider_core.ranks import Ranks
from slider_core.train.moved_pairs import FAMILIAR, moved_error, pairs_to_move
from slider_core.train.trainer import Trainer
from slider_core.train.training_file import load_run, save_run
from slider_core.train.training_run import Run

SIDE, JITTER = 16, 1 / 16


@pytest.fixture
def knows_one_place(linear_backend):
    """A model that takes every noised picture for one it knows: a step of `height` in the middle, from left to right."""

    class KnowsOnePlace(linear_backend):
        def __init__(self, height: float) -> None:
            super().__init__()
            self.frozen = copy.deepcopy(self.module)
            self.known = torch.zeros(3, SIDE, SIDE)
            self.known[..., SIDE // 2 :] = height

        def predict(self, x, sigma_B, _cond):
            return (x - self.known) / per_sample(sigma_B, x) + self.module(x) - self.frozen(x)

        def pair(self, **options: object) -> list[Sample]:
            """One lies 1 above that picture, the other 1 below, so the error is 1 where they are in their places."""
            return [Sample(self.known + sign, Conditioning("", None), sign, 0, **options) for sign in (1.0, -1.0)]

    return KnowsOnePlace


def height_for(ratio: float) -> float:
    """Moved by a pixel to one side, one column in SIDE is off by the height; up or down, none."""
    return (2 * SIDE * (ratio - 1)) ** 0.5


@pytest.mark.parametrize("ratio", [1.0, FAMILIAR - 0.05, FAMILIAR + 0.05, 3.0])
def test_pairs_are_moved_as_far_as_the_model_knows_them(knows_one_place, ratio: float, tmp_path, monkeypatch) -> None:
    model = knows_one_place(height_for(ratio))
    assert moved_error(model, [model.pair()], JITTER, 0) == pytest.approx(ratio, rel=1e-3)
    runs = []
    for parts in (1, 2):
        adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0), seed=0)
        trainer = Trainer(adapter, model.pair(), TrainSpec(steps=2, batch=2, lr=1e-4, timesteps=Timesteps.AUTO))
        trainer.ranks = Ranks(parts)
        trainer.run(model, 1)
        runs.append(Run("one", {}, trainer))
    assert runs[0].trainer.probe.moved_error == runs[1].trainer.probe.moved_error == pytest.approx(ratio, rel=1e-3)
    trainer = runs[0].trainer
    drawn = trainer._batch(0)
    moves = ratio <= FAMILIAR
    levels = Timesteps.MODEL if moves else Timesteps.LOGIT_NORMAL
    assert (jitter_of(drawn, trainer.spec), timesteps_of(drawn, trainer.spec)) == (JITTER if moves else 0, levels)
    assert any(shift != (0, 0) for n in range(9) for shift in draw_shifts(trainer._batch(n), trainer.spec)) is moves
    told = TrainSpec.from_json(runs[0].slider().info.training)
    assert (told.jitter, told.timesteps) == (JITTER if moves else 0, levels)
    assert f"{ratio:.2f}" in runs[0].found_note()
    save_run(tmp_path / "one.safetensors", "one", {}, trainer)
    trainer.probe.moved_error = None
    load_run(tmp_path / "one.safetensors").restore(trainer)
    monkeypatch.delattr("slider_core.train.progress.moved_error")  # to be measured once
    trainer.run(model, 2)
    assert trainer.probe.moved_error == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ({"jitter": 0.1}, {}),
        ({"objective": Objective.TEACHER_DIFFERENCE}, {}),
        ({}, {"aligned": False}),
    ],
)
def test_nothing_is_measured_where_nothing_hangs_on_it(knows_one_place, spec: dict, options: dict) -> None:
    pair = knows_one_place(1.0).pair(**options)
    assert pairs_to_move(pair, TrainSpec()) == ([pair] if not options else [])
    assert pairs_to_move(pair, TrainSpec(**spec)) == []
    assert pairs_to_move([replace(sample, pair=None) for sample in pair], TrainSpec()) == []


def test_latents_too_small_to_be_moved_take_the_levels_in_the_middle(knows_one_place) -> None:
    spec = TrainSpec(timesteps=Timesteps.AUTO)
    for side, found in ((8, (0.0, Timesteps.LOGIT_NORMAL)), (9, (JITTER, Timesteps.MODEL))):
        pair = [replace(sample, latent=torch.zeros(1, side, 4)) for sample in knows_one_place(1.0).pair()]
        batch = Batch(0, tuple(pair), (1.0, -1.0), (0, 0), neutral=False, aligned=True)
        assert (jitter_of(batch, spec), timesteps_of(batch, spec)) == found
