"""Which combinations of a product are tried: in turn in `make test`, all of them in `make test-all`."""

import os
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

FULL = os.environ.get("SLIDER_FULL_PRODUCTS") == "1"


def in_turn(first: Iterable[Any], *others: Sequence[Any], each: int = 1) -> list[tuple[Any, ...]]:
    """Every value of `first` with `each` values of the others, which take turns. The whole product in a full run.

    The first turn of each value starts one place further than that of the value before, so all values of the others are met.
    """
    first = list(first)
    if FULL:
        return list(product(first, *others))
    rows = []
    for place, value in enumerate(first):
        for turn in range(each):
            rows.append((value, *(other[(place + turn * max(1, len(other) // each)) % len(other)] for other in others)))
    return rows
