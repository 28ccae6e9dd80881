"""Layers by the user's own regular expressions and names: the preset `custom`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from torch import nn

from ..config.checks import SliderError, need
from ..config.lora import AdapterSpec
from .layer import Aliases, Target, weight_of


def matching(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The paths in which one of the regular expressions is found."""
    try:
        compiled = list(map(re.compile, patterns))
    except re.error as fault:
        message = f'Target pattern "{fault.pattern!s}" is not a valid regular expression: {fault}.'
        raise SliderError(message, "target.pattern_invalid") from None
    return [path for path in paths if any(pattern.search(path) for pattern in compiled)]


def custom(diffusion_model: nn.Module, paths: Sequence[str], spec: AdapterSpec, aliases: Aliases) -> tuple[list[Target], str]:
    """The layers of the spec's patterns and names, and a warning about names that no layer has."""
    available = {alias: target for alias, target in aliases.items() if target.path in paths}
    targets: list[Target] = []
    for pattern in spec.patterns:
        targets += _by_pattern(paths, pattern, available)
    unmatched = []
    for name in spec.names:
        named = _by_name(diffusion_model, paths, name, available)
        targets += named
        if not named:
            unmatched.append(name)
    names = ", ".join(unmatched)
    message = f"None of the names {names} means a layer of this model; its first layers are: {', '.join(paths[:3])}."
    need(not spec.names or len(unmatched) < len(spec.names), message, "target.names_unmatched")
    warning = f"No layer of this model has these names: {names}." if unmatched else ""
    return unite(diffusion_model, paths, targets), warning


def _by_pattern(paths: Sequence[str], pattern: str, aliases: Aliases) -> list[Target]:
    """The layers whose path matches, else those of which another program's name does."""
    targets = list(map(Target, matching(paths, (pattern,))))
    targets = targets or [aliases[alias] for alias in matching(list(aliases), (pattern,))]
    if not targets:
        plain = re.sub(r"[\\^$?:()]", "", pattern)
        close = difflib.get_close_matches(plain, paths, n=3, cutoff=0.2) or paths[:3]
        message = f'Target pattern "{pattern}" matches no layer; the nearest are: {", ".join(close)}.'
        raise SliderError(message, "target.pattern_unmatched")
    return targets


def _by_name(diffusion_model: nn.Module, paths: Sequence[str], name: str, aliases: Aliases) -> list[Target]:
    """The layers whose path ends in the name and those inside a class of that name, else those whose alias ends in it."""
    ending = re.compile(rf"(?:^|[._]){re.escape(name)}$")
    targets = [Target(path) for path in paths if ending.search(path)]
    for parent, module in diffusion_model.named_modules():
        if type(module).__name__ == name:
            targets += [Target(path) for path in paths if not parent or f"{path}.".startswith(f"{parent}.")]
    return targets or [target for alias, target in aliases.items() if ending.search(alias)]


def unite(diffusion_model: nn.Module, paths: Sequence[str], targets: Iterable[Target]) -> list[Target]:
    """In the order of `paths`, each row once: slices that touch become one, and one that is the whole layer becomes that."""
    slices: dict[str, list[tuple[int, int]]] = {}
    for target in targets:
        height = weight_of(diffusion_model, target.path).shape[0]
        slices.setdefault(target.path, []).append(target.rows or (0, height))
    united = []
    for path in paths:
        for rows in _merge(sorted(slices.get(path, []))):
            height = weight_of(diffusion_model, path).shape[0]
            united.append(Target(path, None if rows == (0, height) else rows))
    return united


def _merge(slices: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted (start, stop) slices, those that touch or overlap joined."""
    merged: list[tuple[int, int]] = []
    for start, stop in slices:
        if merged and start <= merged[-1][1]:
            first, last = merged.pop()
            merged.append((first, max(stop, last)))
        else:
            merged.append((start, stop))
    return merged
