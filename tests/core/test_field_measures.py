"""What papers report of sliders, by pictures whose figures are worked out by hand."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from slider_core.config.checks import SliderError
from slider_core.config.sweep import SweepSpec
from slider_core.use import field_measures as field
from slider_core.use.perceptual import best_metric
from slider_core.use.sweep import SweepResult
from slider_core.use.sweep_report import Clip, report_card
from slider_core.use.sweep_report_shown import draw_card, table, to_json

HALVES = (0.0, 0.5, 1.0)
CPU = torch.device("cpu")
TRAJECTORIES = {  # pictures as points of a plane: steps, skips, distances; shares, deficits, r, rises to
    "0, 1, 3 on a line": ((1, 2), (3,), (0, 1, 3), (1 / 3, 2 / 3), (0.0,), 1.5 / math.sqrt(0.5 * 42 / 9), 1.0),
    "(0, 0), (3, 0), (3, 4)": ((3, 4), (5,), (0, 3, 5), (3 / 7, 4 / 7), (0.4,), 2.5 / math.sqrt(0.5 * 114 / 9), 1.0),
    "there and back": ((1, 1), (0,), (0, 1, 0), (0.5, 0.5), (math.nan,), 0.0, 0.5),
    "nothing": ((0, 0), (0,), (0, 0, 0), (math.nan, math.nan), (math.nan,), math.nan, 0.0),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_a_trajectory_has_the_figures_of_its_points(name: str) -> None:
    steps, skips, distances, shares, deficits, r, reaches = TRAJECTORIES[name]
    path = field.Trajectory(HALVES, steps, skips, distances)
    assert field.step_shares(path) == pytest.approx(shares, nan_ok=True)
    assert field.step_deviation(path) == pytest.approx(abs(shares[1] - shares[0]) / 2, nan_ok=True)
    assert field.triangle_deficits(path) == pytest.approx(deficits, nan_ok=True)
    assert field.linearity(HALVES, distances) == pytest.approx(r, nan_ok=True)
    assert field.rises_to(path) == reaches


def test_uneven_strengths_make_no_uneven_steps() -> None:
    path = field.Trajectory((0.0, 1.0, 4.0), (2.0, 6.0), (8.0,), (0.0, 2.0, 8.0))
    assert field.step_shares(path) == [0.5, 0.5]


def test_clip_figures_of_three_pictures() -> None:
    """(1, 0) to (0, 1) is the prompts' own way, (1, 0) to (0, -1) is at right angles to it; lengths do not count."""
    images, source, target = torch.tensor([[1.0, 0], [0, -1], [0, 5]]), torch.tensor([3.0, 0]), torch.tensor([0, 2.0])
    cosines = field.clip_directions(images, source, target)
    assert cosines == pytest.approx([0.0, 1.0])
    assert field.clip_direction([0.2, 0.3], HALVES) == pytest.approx((0.2 * 2 + 0.3) / 2)
    assert field.clip_similarities(torch.tensor([[1.0, 0], [2, 2]])) == pytest.approx([math.sqrt(0.5)])
    assert field.clip_gain(images, target) == pytest.approx(100)


def straight(strengths: tuple[float, ...]) -> SweepResult:
    """Two rows whose latents lie at (0, 10) + strength (3, 4), and grey pictures."""
    latents = torch.stack([torch.tensor([0.0, 10.0]) + s * torch.tensor([3.0, 4.0]) for s in strengths])
    images = torch.stack([torch.full((3, 4, 4), 0.5 + s / 10) for s in strengths])
    return SweepResult(SweepSpec(strengths, (0, 1)), images.expand(2, *images.shape), latents.expand(2, *latents.shape))


def test_a_straight_sweep_has_a_perfect_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)  # as where it is not installed
    result = straight((2.0, 0.0, -1.0, 1.0))
    vectors = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0.0, 1]]).expand(2, 4, 2)
    card = report_card(
        result, best_metric(result.images, result.latents, CPU), Clip(vectors, vectors[0, 2], vectors[0, 0]), "age"
    )
    plus, minus = card.sides["plus"], card.sides["minus"]
    assert plus["distance"] == pytest.approx(2 * 5 / math.sqrt(2))
    assert (plus["triangle_deficit"], plus["step_deviation"], plus["linearity"]) == pytest.approx((0, 0, 1), abs=1e-6)
    assert (plus["rises_to"], minus["rises_to"], card.rows) == (2.0, 1.0, 2)
    assert math.isnan(minus["triangle_deficit"]), "one step has no triangle"
    assert card.mean("distance") == pytest.approx(1.5 * 5 / math.sqrt(2))
    assert card.overall == pytest.approx({"linearity": 1.0, "lowest": -1.0, "highest": 2.0})
    # from (1, 1) / sqrt(2) to (0, 1): (-0.7071, 0.2929); along (-1, 1): 1 / (0.7654 * 1.4142)
    assert plus["clip_direction_end"] == pytest.approx(0.92388, abs=1e-5)
    assert minus["identity"] == pytest.approx(math.sqrt(0.5))
    shown = json.loads(to_json(card))
    assert (shown["distance"], shown["identity"], "lpips" in shown["note"]) == ("latents", "CLIP", True)
    assert shown["sides"]["minus"]["triangle_deficit"] is None
    assert [strength for strength, _ in shown["curve"]] == [-1.0, 0.0, 1.0, 2.0]
    assert "lpips" in table(card)
    assert draw_card(card).width == 900
    above = report_card(straight((0.5, 0.5, 1.5)), best_metric(result.images, result.latents, CPU))
    assert (above.start, above.sides["minus"], above.sides["plus"]["rises_to"]) == (0.5, {}, 1.0)
    assert "minus" not in table(above)
    with pytest.raises(SliderError) as refused:
        report_card(straight((1.0,)), best_metric(result.images, None, CPU))
    assert refused.value.code == "report_card.one_strength"


def test_lpips_is_taken_where_it_is_installed_and_asked_in_its_own_range(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert (net, verbose) == ("vgg", False)

        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return torch.stack([one.mean(), other.mean()]).max().reshape(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Stub))
    result = straight((0.0, 2.0))
    metric = best_metric(result.images, result.latents, CPU)
    assert metric.name == "LPIPS (vgg)"
    assert metric.between(*result.images[0, :, None]).tolist() == pytest.approx([0.4])  # 0.7 of [0, 1]
    monkeypatch.setattr(Stub, "__init__", lambda *_a, **_k: (_ for _ in ()).throw(OSError("offline")))
    assert best_metric(result.images, None, CPU).name == "pixels"
