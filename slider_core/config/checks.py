"""What every choice is checked with: errors that name the value and the fix, JSON both ways."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Sequence
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


def nearest(name: str, options: Sequence[str]) -> str:
    """`did you mean "x"?` when an option is close to `name`, else the list of options."""
    close = difflib.get_close_matches(name, options, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(options)}."


def choice(kind: type[Enum], value: Any, what: str) -> Any:
    """`value` as a member of `kind`; SliderError that lists the members otherwise."""
    try:
        return kind(value)
    except ValueError:
        members = nearest(str(value), [member.value for member in kind])
        raise SliderError(f'{what} "{value}" is not known; {members}', f"{_subject(kind)}.unknown") from None


def need(ok: bool, message: str, code: str = "") -> None:
    if not ok:
        raise SliderError(message, code)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class JsonSpec:
    """`to_json` and `from_json` for a frozen dataclass of plain values, Enums and tuples; checks that name the field."""

    @classmethod
    def subject(cls) -> str:
        """The class in an error's code: train_spec."""
        return _subject(cls)

    def check(self, name: str, ok: bool, requirement: str) -> None:
        """SliderError with the code train_spec.lr, that says what the field must be and what it is."""
        need(ok, f"{name} must be {requirement}, got {getattr(self, name)!r}.", f"{self.subject()}.{name}")

    def check_whole(self, name: str, least: int) -> None:
        self.check(name, is_whole(getattr(self, name), least), f"a whole number from {least}")

    def convert(self, name: str, kind: type[Enum], label: str) -> None:
        """The field as a member of `kind`, also where it came as text."""
        object.__setattr__(self, name, choice(kind, getattr(self, name), label))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[Spec], text: str) -> Spec:
        code = cls.subject()
        try:
            values = json.loads(text)
        except json.JSONDecodeError as fault:
            raise SliderError(f"{cls.__name__}: not valid JSON ({fault}).", f"{code}.not_json") from None
        message = f"{cls.__name__}: a JSON object is needed, got {type(values).__name__}."
        need(isinstance(values, dict), message, f"{code}.not_json")
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values:
            need(key in names, f'{cls.__name__} has no field "{key}"; {nearest(key, names)}', f"{code}.unknown_field")
        return cls(**{name: as_tuple(value) for name, value in values.items()})


def _subject(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def as_tuple(value: Any) -> Any:
    """Lists as tuples, those inside them too."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
