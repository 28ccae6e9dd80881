"""A sweep calls its sampler once a row; its figures, by hand-made latents whose answer is known."""

from collections.abc import Sequence

import pytest
import torch

from slider_core.config.sweep import SweepSpec
from slider_core.use.plot_curves import CURVE
from slider_core.use.prompt_library import PromptEntry, parse_prompts
from slider_core.use.sweep import (
    Row,
    SweepResult,
    effect_curve,
    figures,
    how_it_ran,
    rows_of,
    sweep,
    sweep_library,
    sweep_rows,
    table,
)

STRENGTHS = (2.0, 0.0, -1.0)  # not in order
DIRECTION = torch.tensor([3.0, 4.0])  # length 5
BASE = torch.tensor([0.0, 10.0])
LIBRARY = """{"plain": "a", "other": "b", "zero": {"prompt": "a", "adapter_strength": 0},
              "minus": {"prompt": "b", "adapter_strength": -0.5}}"""


def grey(levels: Sequence[float]) -> torch.Tensor:
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def swept(effect_under: dict[float | None, float], seeds: Sequence[int] = (0, 1)) -> SweepResult:
    """Latents BASE + strength * effect * DIRECTION, the effect as the row's second slider has it."""
    rows = rows_of(seeds, others=tuple(effect_under))
    latents = [[BASE + s * effect_under[row.other] * DIRECTION for s in STRENGTHS] for row in rows]
    images = torch.stack([grey([0.5 + s / 10 for s in STRENGTHS])] * len(rows))
    return SweepResult(SweepSpec(STRENGTHS, tuple(seeds)), images, torch.stack([torch.stack(row) for row in latents]), rows)


def test_a_sweep_is_one_call_a_seed_with_all_strengths() -> None:
    calls = []

    def sample(strengths: Sequence[float], seed: int) -> torch.Tensor:
        calls.append((strengths, seed))
        return grey([strength / 10 + seed / 10 for strength in strengths])

    result = sweep(SweepSpec(STRENGTHS, (5, 6)), sample)
    assert calls == [(STRENGTHS, 5), (STRENGTHS, 6)]
    assert result.images.shape == (2, 3, 3, 4, 4)
    assert result.images[1, 0, 0, 0, 0] == pytest.approx(0.8)
    assert result.names() == ["seed 5", "seed 6"]
    clamped = sweep(SweepSpec((1.0,), (0,)), lambda _strengths, _seed: torch.tensor([-3.0, 0.5, 7.0]).reshape(1, 3, 1, 1))
    assert clamped.images.flatten().tolist() == [0.0, 0.5, 1.0]


def test_every_row_is_sampled_with_all_strengths() -> None:
    calls = []

    def sample(strengths: Sequence[float], row: Row) -> tuple[torch.Tensor, None]:
        calls.append((tuple(strengths), row.prompt))
        return torch.zeros(len(strengths), 3, 2, 2), None

    result = sweep_rows(SweepSpec(STRENGTHS, (0,)), rows_of((0,), ("a", "b")), sample)
    assert calls == [(STRENGTHS, "a"), (STRENGTHS, "b")]
    assert (result.images.shape[:2], result.latents, result.names()) == ((2, 3), None, ["a", "b"])


def test_a_library_is_one_call_a_prompt_and_each_entry_gets_its_own_pictures() -> None:
    calls = []

    def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
        calls.append((entry.name, strengths))
        return grey([strength / 10 + {"a": 0.3, "b": 0.5}[entry.prompt] for strength in strengths])

    pictures = sweep_library(parse_prompts(LIBRARY), (1.0, 2.0), sample)
    assert calls == [("plain", [1.0, 2.0, 0.0]), ("other", [1.0, 2.0, -0.5])]
    levels = [images[:, 0, 0, 0].tolist() for images in pictures]
    assert levels == [pytest.approx(values) for values in ([0.4, 0.5], [0.6, 0.7], [0.3], [0.45])]


def test_distances_start_at_strength_zero_and_along_counts_lengths_of_the_direction() -> None:
    result = swept({None: 1.0})
    assert result.distance() == pytest.approx([0.2, 0.0, 0.1])
    assert result.latent_distance() == pytest.approx([1.0, 0.0, 0.5])  # |2 * DIRECTION| / |BASE| = 10 / 10
    assert result.along(DIRECTION) == pytest.approx([2.0, 0.0, -1.0])
    assert result.along(torch.tensor([4.0, -3.0])) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    nearest = SweepResult(SweepSpec((-2.0, -1.0, 3.0), (0,)), grey([0.5, 0.3, 0.9])[None])
    assert nearest.distance() == pytest.approx([0.2, 0.0, 0.6])


def test_a_sweep_without_latents_has_the_figure_of_its_pixels_alone() -> None:
    result = SweepResult(SweepSpec(STRENGTHS, (0,)), swept({None: 1.0}).images[:1])
    assert list(figures(result, DIRECTION)) == ["pixels"]
    assert result.under_the_other() is None


def test_what_a_second_slider_leaves_of_the_effect() -> None:
    effects = {-1.0: 0.5, 0.0: 1.0, 1.0: -0.25}
    assert swept(effects).under_the_other() == pytest.approx(effects)
    assert swept({None: 1.0}).under_the_other() is None


def test_the_table_is_in_order_of_strength_and_names_what_is_left() -> None:
    result = swept({0.0: 1.0, 2.0: 0.5})
    lines = table(result, figures(result, DIRECTION))
    assert lines[0].split() == ["strength", "pixels", "latent", "along", "the", "pairs"]
    assert [line.split()[0] for line in lines[1:4]] == ["-1", "0", "+2"]
    assert "+2" in lines[-1]
    assert "50%" in lines[-1]
    assert effect_curve(result, figures(result, DIRECTION), "title").size == CURVE


def test_rows_say_what_tells_them_apart() -> None:
    rows = rows_of((5, 6), ("plain", "other"), (-1.0, 1.0))
    assert len(rows) == 8
    assert (rows[0], rows[-1]) == (Row(5, "plain", -1.0), Row(6, "other", 1.0))
    assert rows[0].name() == "plain, B -1, seed 5"
    assert rows[0].name(seeds=1) == "plain, B -1"
    assert Row(7).name(1) == "seed 7"


def test_how_it_ran_counts_rows_and_calls() -> None:
    assert how_it_ran([[5], [5]], "").startswith("2 rows, each one")
    assert how_it_ran([[5]], "").startswith("1 row, each one")
    split = how_it_ran([[2, 1], [2, 1], [3]], "by the memory")
    assert all(part in split for part in ("3 rows", "2 in 2 calls (2 + 1", "1 in 1 calls (3", "by the memory"))
