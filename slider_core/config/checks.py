"""What every choice is checked with: errors that name the value and the fix, JSON both ways."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from enum import Enum
from typing import Any, TypeVar

Spec = TypeVar("Spec", bound="JsonSpec")


class SliderError(ValueError):
    """A fault the user can fix. The message is one line: the file or value, what is wrong, what to do.

    `code` names the kind of fault for programs and tests: subject.problem, such as "file.exists".
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`; did you mean "x"?` when something known is close to `name`, else the list of what is known."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}."


def choice(kind: type[Enum], value: Any, what: str) -> Any:
    """`value` as a member of `kind`; SliderError that lists the members otherwise."""
    try:
        return kind(value)
    except ValueError:
        raise SliderError(f'{what} "{value}" is not known; {nearest(str(value), [m.value for m in kind])}') from None


def need(ok: bool, message: str, code: str = "") -> None:
    if not ok:
        raise SliderError(message, code)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class JsonSpec:
    """`to_json` and `from_json` for a frozen dataclass of plain values, Enums and tuples."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[Spec], text: str) -> Spec:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as fault:
            raise SliderError(f"{cls.__name__}: not valid JSON ({fault}).") from None
        need(isinstance(values, dict), f"{cls.__name__}: a JSON object is needed, got {type(values).__name__}.")
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values:
            need(key in names, f'{cls.__name__} has no field "{key}"; {nearest(key, names)}')
        return cls(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
