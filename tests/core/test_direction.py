"""What pairs ask before a training, on a model whose gradients are known, and on the built-in world."""

from __future__ import annotations

import pytest
import torch
from core.faults import refused
from core.test_progress import CONCEPT, constant_model

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.direction import LEVELS, Direction, asked
from slider_core.use.probe_report import draw_asked, report

ACROSS = torch.tensor([2.0, 1.0, 0.0])  # at right angles to CONCEPT
# the differences of the pairs, the mean cosine between two of them
SETS = {
    "alike": ([CONCEPT, CONCEPT, 2 * CONCEPT], 1.0, Direction.CLEAR),
    "wrong_way": ([CONCEPT, -CONCEPT], -1.0, Direction.NONE),
    "two_things": ([CONCEPT, CONCEPT, ACROSS], 1 / 3, Direction.CLEAR),
    "other_things": ([CONCEPT, ACROSS], 0.0, Direction.NONE),
}


def pairs(differences: list[torch.Tensor]) -> list[Sample]:
    samples = []
    for number, difference in enumerate(differences):
        flat = difference[:, None, None].expand(3, 4, 4)
        samples += [Sample(sign * flat, Conditioning("", None), sign, number) for sign in (1.0, -1.0)]
    return samples


@pytest.mark.parametrize(("differences", "agreement", "direction"), SETS.values(), ids=SETS)
def test_agreement_is_the_cosine_of_what_the_pairs_ask(
    differences: list[torch.Tensor], agreement: float, direction: Direction, linear_backend
) -> None:
    """The model sees the same everywhere, so the gradient of a pair is its difference times a constant."""
    model, _ = constant_model(linear_backend, 1.0)
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    before = adapter.state()
    found = asked(model, adapter, pairs(differences), TrainSpec())
    assert found.agreement == pytest.approx(agreement, abs=1e-4)
    assert found.agreements == pytest.approx([agreement] * len(LEVELS), abs=1e-4)
    assert (found.direction, found.by_noise) == (direction, pytest.approx(1.0, abs=1e-4))
    whole = pytest.approx(0.0 if agreement == -1 else 1.0)  # two that cancel ask for nothing together
    assert (found.layers, found.share_of(["mix"])) == ((("mix", whole),), whole)
    assert all(torch.equal(a, b) for key in before for a, b in zip(before[key], adapter.state()[key], strict=True))
    assert f"{agreement:.2f}" in report(found, 1.0).replace("-0.00", "0.00")
    assert draw_asked(found, "x").size == (900, 520)


def test_one_pair_has_nothing_to_agree_with(linear_backend) -> None:
    model, adapter = constant_model(linear_backend, 1.0)
    with refused("probe.no_pairs", "two"):
        asked(model, adapter, pairs([CONCEPT]), TrainSpec())
