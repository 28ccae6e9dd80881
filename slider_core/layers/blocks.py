"""The repeated parts of a model."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
MOSTLY = 0.75  # a block whose own repeated parts hold this share of its parameters is split into them


def _members(container: nn.Module) -> Iterator[nn.Module]:
    """The modules in a container, containers inside it opened too."""
    for child in container.children():
        if isinstance(child, CONTAINERS):
            yield from _members(child)
        else:
            yield child


def _size(*modules: nn.Module) -> int:
    """How many parameters the modules have."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated parts of a model, none inside another: modules in a list or sequence that have layers of their own.

    A part that consists mostly of repeated parts itself (a UNet's transformer of ten blocks) gives way to those.
    """
    repeated: list[nn.Module] = []
    for child in module.children():
        if not isinstance(child, CONTAINERS):
            repeated += blocks(child)
            continue
        for member in _members(child):
            inner = blocks(member)
            if _size(*inner) > MOSTLY * _size(member):
                repeated += inner
            elif len(list(member.children())) > 0 and _size(member) > 0:
                repeated.append(member)
    return repeated
