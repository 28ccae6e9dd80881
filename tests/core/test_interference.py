"""What sliders do to each other in the model's answers, and the strengths at which each does what it does alone."""

import numpy as np
import pytest
import torch
from core.faults import refused

from slider_core.config.lora import AdapterSpec
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.use.interference import nearest_strengths, solve
from slider_core.with_tiny.model import TinyBackend


def slider(backend: TinyBackend, seed: int, size: float = 0.2) -> Adapter:
    """Random factors in place of a training."""
    adapter = Adapter.create(backend.module, survey(backend.module, AdapterSpec()).targets, AdapterSpec(), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in adapter.parameters():
            part.copy_(size * torch.randn(part.shape, generator=generator))
    return adapter


def test_the_strengths_are_those_of_a_hand_calculation() -> None:
    """Slider 1 changes m, slider 2 m and e alike: slider 2 alone does what both do alone."""
    matrix = np.array([[1.0, 1.0], [0.5, 1.0]])
    assert 1 + nearest_strengths(matrix, 1 - matrix.sum(axis=1)) == pytest.approx([0.0, 1.0])
    twice = np.ones((2, 2))
    assert 1 + nearest_strengths(twice, 1 - twice.sum(axis=1)) == pytest.approx([0.5, 0.5])


def test_sliders_that_overlap_are_brought_to_what_they_do_alone(backend: TinyBackend) -> None:
    first, second = slider(backend, 0), slider(backend, 1)
    cond = backend.encode_prompt("a face with tan skin on a blue background")
    shape = backend.encode_images(torch.full((1, 3, 64, 64), 0.5))[0].shape
    same = solve(backend, [first, slider(backend, 0)], [0.3, 0.3], cond, shape)
    assert same.matrix == pytest.approx(np.ones((2, 2)), abs=1e-4)
    assert max(same.together) > 1.5
    assert same.solved == pytest.approx([1, 1], abs=0.02)
    assert same.strengths == pytest.approx([0.5, 0.5], abs=0.02)
    found = solve(backend, [first, second], [0.3, -0.3], cond, shape)
    assert max(abs(1 - share) for share in found.solved) < 0.5 * max(abs(1 - share) for share in found.together)
    with refused("interference.no_effect"):
        solve(backend, [first, slider(backend, 2, 0.0)], [0.3, 0.3], cond, shape)
