"""Regular expressions out of an input or a configuration: valid and quick, or refused with what to write instead.

Python tries every way in which an expression may match and cannot be stopped meanwhile: with a repeat inside a repeat, as in
(a+)+$, the ways double with each letter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from .checks import SliderError, need, reason, shown

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

MOST_REPEATS = 4  # of any length: a name of 80 letters has a million places for four of them
LOOSE = 10  # a repeat of more lengths than that counts
NESTED = 1000
UNTRIED = ("ATOMIC_GROUP", "ASSERT", "ASSERT_NOT")  # what is inside is matched in one way alone


def check_expression(pattern: str, code: str) -> None:
    """SliderError unless it is a regular expression that ends soon on the name of a layer."""
    what = f'Pattern "{shown(pattern)}"'
    try:
        re.compile(pattern)
        repeats = _repeats(parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as fault:
        raise SliderError(f"{what} is not a valid regular expression: {reason(fault)}.", code) from None
    message = f"{what} may take for ever: no repeat inside a repeat, and {MOST_REPEATS} of * and + at most. Write .* instead."
    need(repeats <= MOST_REPEATS, message, code)


def _repeats(tree: Any) -> int:
    """How many repeats of loose length there are one after another; NESTED where a choice or a repeat lies in one."""
    count = 0
    for operation, argument in tree:
        inner = sum(map(_repeats, _bodies(argument)))
        if "REPEAT" in str(operation) and argument[1] - argument[0] > LOOSE:
            many = inner or any(str(part) == "BRANCH" for part, _ in _all(argument[2]))
            count += NESTED if many else 1
        elif str(operation) not in UNTRIED or inner >= NESTED:
            count += inner
    return count


def _bodies(argument: Any) -> Iterator[Any]:
    """The expressions inside an operation's argument."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from _bodies(part)


def _all(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every operation in an expression."""
    for operation, argument in tree:
        yield operation, argument
        for body in _bodies(argument):
            yield from _all(body)
