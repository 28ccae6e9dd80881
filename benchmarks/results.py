"""Rows of a measurement, a line of JSON each, so that a script goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def kept(path: Path) -> list[dict[str, Any]]:
    """The rows so far, in the order in which they were measured."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def keep(path: Path, row: Mapping[str, Any]) -> None:
    """Add one; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
