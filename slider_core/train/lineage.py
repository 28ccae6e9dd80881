"""Which training a file is of: a training has an id from its first step on, and knows those that it was begun in place of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def _fresh() -> str:
    return uuid.uuid4().hex[:16]


@dataclass(frozen=True)
class Lineage:
    """The id of one training, and those of the trainings of its name that a restart has discarded, the oldest first."""

    id: str = field(default_factory=_fresh)
    replaces: tuple[str, ...] = ()

    def restarted(self) -> Lineage:
        """That of a training that is begun in place of this one."""
        return Lineage(replaces=(*self.replaces, self.id))

    def to_header(self) -> dict[str, Any]:
        """As a run's file keeps it."""
        return {"id": self.id, "replaces": list(self.replaces)}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Lineage:
        """Out of a run's header; a new one where that says none, as before 0.3."""
        if not header.get("id"):
            return cls()
        return cls(str(header["id"]), tuple(map(str, header.get("replaces") or ())))
