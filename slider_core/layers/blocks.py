"""The repeated parts of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
MOSTLY = 0.75  # a block whose own repeated parts hold this share of its parameters is split into them


# --- which modules are blocks


def _members(container: nn.Module) -> Iterator[nn.Module]:
    """What a container holds, containers inside it opened too."""
    for child in container.children():
        if isinstance(child, CONTAINERS):
            yield from _members(child)
        else:
            yield child


def _numbers(modules: Sequence[nn.Module]) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated parts of a model, none inside another: modules in a list or sequence that have layers of their own.

    A part that consists mostly of repeated parts itself (a UNet's transformer of ten blocks) gives way to those.
    """
    found: list[nn.Module] = []
    for child in module.children():
        if not isinstance(child, CONTAINERS):
            found += blocks(child)
            continue
        for member in _members(child):
            inner = blocks(member)
            if _numbers(inner) > MOSTLY * _numbers([member]):
                found += inner
            elif any(True for _ in member.children()) and _numbers([member]):
                found.append(member)
    return found
