"""What is in parts because of the memory comes whole and in order; seeds and fingerprints are functions of their arguments."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from slider_core.backend import in_parts, module_fingerprint, per_sample, seeded


def parts(count: int, most: int, fits: int) -> list[int]:
    """Sizes of the calls for `count` items when no call may hold more than `fits`; checks that each item comes once, in order."""
    done: list[float] = []

    def run(group: Sequence[float]) -> bool:
        if len(group) > fits:
            raise MemoryError
        done.extend(group)
        return True

    results = in_parts(range(count), most, run, lambda fault: isinstance(fault, MemoryError))
    assert done == list(range(count))
    return [size for size, _ in results]


def test_a_part_that_runs_out_of_memory_is_halved_and_those_after_it() -> None:
    assert parts(5, 5, 9) == [5]
    assert parts(5, 2, 9) == [2, 2, 1]
    assert parts(7, 7, 3) == [3, 3, 1]
    assert parts(8, 8, 1) == [1] * 8
    assert parts(1, 0, 1) == [1]


def test_one_item_that_is_too_large_and_any_other_fault_are_errors() -> None:
    with pytest.raises(MemoryError):
        parts(4, 4, 0)
    with pytest.raises(ZeroDivisionError):
        in_parts([1, 2], 2, lambda group: 1 // (len(group) - 2), lambda fault: isinstance(fault, MemoryError))


def test_a_seed_and_a_place_make_one_generator() -> None:
    draws = [
        torch.rand(4, generator=seeded(seed, place)) for seed, place in ((1, "a"), (1, "a"), (2, "a"), (1, "b"), (2**40, "a"))
    ]
    assert torch.equal(draws[0], draws[1])
    for other in draws[2:]:
        assert not torch.equal(draws[0], other)


def test_a_fingerprint_changes_with_a_weight() -> None:
    module = nn.Linear(4, 3)
    before = module_fingerprint(module)
    assert module_fingerprint(module) == before
    with torch.no_grad():
        module.bias[0] += 1
    assert module_fingerprint(module) != before


def test_a_value_for_each_sample_broadcasts() -> None:
    assert per_sample(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4, 5)).shape == (2, 1, 1, 1)
