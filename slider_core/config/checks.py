"""What every choice is checked with: errors that name the value and the fix, JSON both ways."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NoReturn, TypeVar

Spec = TypeVar("Spec", bound="JsonSpec")
MOST_DIGITS = 40  # of a number in a JSON text
MOST_WHOLE = 10**7  # of a count that names no other limit
LONGEST_NAME = 100  # characters of a name that is compared with others: the comparison is slow
ODD_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)|[\ud800-\udfff\0]")  # in a JSON text: half a character, or NUL
SHOWN = 60  # characters of a value in a message


class SliderError(ValueError):
    """A fault the user can fix. The message is one line: the file or value, what is wrong, what to do.

    `code` names the kind of fault for programs and tests: subject.problem, such as "file.exists".
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(clean_text(message))
        self.code = code


def clean_text(text: str) -> str:
    """Text that every file and screen takes: halves of a surrogate pair joined, or replaced where they are alone; no NUL."""
    if text.isascii():
        return text.replace("\0", "")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")


def shown(value: Any) -> str:
    """A value in a message: its beginning."""
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"a number of more than {MOST_DIGITS} digits"  # Python refuses to write one of thousands
    if not isinstance(value, str):
        value = repr(value)
    text = clean_text(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def reason(fault: BaseException) -> str:
    """What went wrong, in words for a user: of the system's errors without their number and path."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror[:1].lower() + fault.strerror[1:]
    return " ".join(str(fault).split())[:200] or type(fault).__name__


def in_words(fault: OSError) -> SliderError:
    """An error of the system that nobody has foreseen, as one that names the file and says what to look at."""
    where = clean_text(str(fault.filename)) if fault.filename else "A file or folder"
    message = f"{where} cannot be used ({reason(fault).rstrip('.')}). Check that it is there, its permissions and its drive."
    return SliderError(message, "file.system")


def nearest(name: str, options: Sequence[str]) -> str:
    """`did you mean "x"?` when an option is close to `name`, else the list of options."""
    close = difflib.get_close_matches(name[:LONGEST_NAME], options, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(options)}."


def choice(kind: type[Enum], value: Any, what: str) -> Any:
    """`value` as a member of `kind`; SliderError that lists the members otherwise."""
    try:
        return kind(value)
    except ValueError:
        members = nearest(shown(value), [member.value for member in kind])
        raise SliderError(f'{what} "{shown(value)}" is not known; {members}', f"{_subject(kind)}.unknown") from None


def need(ok: bool, message: str, code: str = "") -> None:
    if not ok:
        raise SliderError(message, code)


def is_number(value: Any) -> bool:
    """A finite number that a float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def all_whole(values: Iterable[Any]) -> bool:
    """Whether each is a whole number from 0."""
    return all(is_whole(value, 0) for value in values)


def all_are(kind: type | tuple[type, ...], values: Iterable[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def first_of(names: Sequence[str], most: int) -> str:
    """The first names of several, and how many more there are."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def values_of(members: Iterable[Enum]) -> str:
    """The values of some members of an Enum, for a message."""
    return ", ".join(str(member.value) for member in members)


def parse_json(text: str | bytes, source: str, code: str, fix: str = "") -> Any:
    """The value of a JSON text. SliderError with that code, which names `source`, for what is none: and for a name that is there
    twice in one object ("json.twice"), a number beyond a float or of more than MOST_DIGITS digits, NaN, and deep nesting."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names: set[str] = set()
            twice = next(name for name, _ in pairs if name in names or names.add(name))  # type: ignore[func-returns-value]
            raise SliderError(f'{source}: "{shown(twice)}" is there twice; keep one of each name.', "json.twice")
        return fields

    def refuse(number: str) -> NoReturn:
        raise SliderError(f"{source}: the number {shown(number)} is out of range. {fix}".rstrip(), code)

    def whole(number: str) -> int:
        return int(number) if len(number) <= MOST_DIGITS else refuse(number)

    def real(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else refuse(number)

    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(decoded, object_pairs_hook=distinct, parse_int=whole, parse_float=real, parse_constant=refuse)
        return _clean(value) if ODD_ESCAPE.search(decoded) else value
    except json.JSONDecodeError as fault:
        problem = f"at line {fault.lineno}, column {fault.colno}: {fault.msg}"
    except UnicodeDecodeError as fault:
        problem = f"(byte {fault.start} is not UTF-8)"
    except RecursionError:
        problem = "(nested too deep)"
    raise SliderError(f"{source}: not valid JSON {problem}. {fix}".rstrip(), code)


def _clean(value: Any) -> Any:
    """The same value with each text in it cleaned."""
    if isinstance(value, dict):
        return {clean_text(name): _clean(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return clean_text(value) if isinstance(value, str) else value


class JsonSpec:
    """`to_json` and `from_json` for a frozen dataclass of plain values, Enums and tuples; checks that name the field."""

    @classmethod
    def subject(cls) -> str:
        """The class in an error's code: train_spec."""
        return _subject(cls)

    @property
    def where(self) -> str:
        """What a message begins with: which of several specs it is."""
        return ""

    def check(self, name: str, ok: bool, requirement: str) -> None:
        """SliderError with the code train_spec.lr, that says what the field must be and what it is."""
        message = f"{self.where}{name} must be {requirement}, got {shown(getattr(self, name))}."
        need(ok, message, f"{self.subject()}.{name}")

    def check_whole(self, name: str, least: int, most: int = MOST_WHOLE) -> None:
        whole = is_whole(getattr(self, name), least) and getattr(self, name) <= most
        self.check(name, whole, f"a whole number from {least} to {most}")

    def convert(self, name: str, kind: type[Enum], label: str) -> None:
        """The field as a member of `kind`, also where it came as text."""
        object.__setattr__(self, name, choice(kind, getattr(self, name), label))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[Spec], text: str) -> Spec:
        code = cls.subject()
        values = parse_json(text, cls.__name__, f"{code}.not_json")
        message = f"{cls.__name__}: a JSON object is needed, got {type(values).__name__}."
        need(isinstance(values, dict), message, f"{code}.not_json")
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values:
            need(key in names, f'{cls.__name__} has no field "{key}"; {nearest(key, names)}', f"{code}.unknown_field")
        try:
            return cls(**{name: as_tuple(value) for name, value in values.items()})
        except (TypeError, AttributeError, OverflowError) as fault:  # a field that is missing, or of another kind than is checked
            why = f"{cls.__name__}: a field is missing or holds something else ({reason(fault)})."
            raise SliderError(why, f"{code}.field") from None


def _subject(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def as_tuple(value: Any) -> Any:
    """Lists as tuples, those inside them too."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
