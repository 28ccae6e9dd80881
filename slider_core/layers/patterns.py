"""Layers by the user's own regular expressions and names: the preset `custom`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ..config.checks import SliderError, need
from ..config.lora import AdapterSpec
from .layer import Aliases, Target, weight_shape

FOREIGN_CLASSES = (  # the end of a class's name in diffusers or SimpleTuner, and what is in the names of the layers inside
    (r"(?:Attention|Attn)$", r"(?:^|\.)(?:\w+_)?(?:attn|attention)(?:\d|_\w+)?\."),
    (r"(?:FeedForward|FFN|MLP)$", r"(?:^|\.)(?:\w+_)?(?:ff|ffn|mlp|feed_forward)(?:_\w+)?\."),
    (r"(?:Transformer\w*|UNet\w*)Model$", r"(?:^|\.)\w*blocks\."),
)


def matching(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The paths in which one of the regular expressions is found."""
    try:
        compiled = list(map(re.compile, patterns))
    except re.error as fault:
        message = f'Target pattern "{fault.pattern!s}" is not a valid regular expression: {fault}.'
        raise SliderError(message, "target.pattern_invalid") from None
    found = []
    for path in paths:
        if any(pattern.search(path) for pattern in compiled):
            found.append(path)
    return found


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
    first = f"its first layers are: {', '.join(paths[:3])}"
    message = f'None of the names {names} means a layer of this model; {first}. Use the preset "auto" without a list of names.'
    need(not spec.names or len(unmatched) < len(spec.names), message, "target.names_unmatched")
    warning = f"No layer of this model has these names: {names}." if unmatched else ""
    return unite(diffusion_model, paths, targets), warning


def _by_pattern(paths: Sequence[str], pattern: str, aliases: Aliases) -> list[Target]:
    """The layers whose path matches, else those of which another program's name does."""
    targets = list(map(Target, matching(paths, (pattern,))))
    targets = targets or _by_alias(aliases, pattern)
    if not targets:
        plain = re.sub(r"[\\^$?:()]", "", pattern)
        close = difflib.get_close_matches(plain, paths, n=3, cutoff=0.2) or paths[:3]
        message = f'Target pattern "{pattern}" matches no layer; the nearest are: {", ".join(close)}.'
        raise SliderError(message, "target.pattern_unmatched")
    return targets


def _by_alias(aliases: Aliases, pattern: str) -> list[Target]:
    """The layers of which another program's name matches."""
    return [aliases[alias] for alias in matching(list(aliases), (pattern,))]


def _by_name(diffusion_model: nn.Module, paths: Sequence[str], name: str, aliases: Aliases) -> list[Target]:
    """The layers whose path ends in the name and those inside a class of that name, else those whose alias ends in it."""
    ending = re.compile(rf"(?:^|[._]){re.escape(name)}$")
    targets = [Target(path) for path in paths if ending.search(path)]
    for parent, module in diffusion_model.named_modules():
        if type(module).__name__ == name:
            targets += [Target(path) for path in paths if not parent or f"{path}.".startswith(f"{parent}.")]
    targets = targets or [target for alias, target in aliases.items() if ending.search(alias)]
    return targets or _by_foreign_class(paths, name, aliases)


def _by_foreign_class(paths: Sequence[str], name: str, aliases: Aliases) -> list[Target]:
    """What a class of diffusers' stands for, such as Flux2Attention: layers by diffusers' names, else by the model's own."""
    pattern = next((inside for ending, inside in FOREIGN_CLASSES if re.search(ending, name)), None)
    if pattern is None:
        return []
    dotted = {alias: target for alias, target in aliases.items() if "." in alias}
    targets = _by_alias(dotted, pattern)
    return targets or list(map(Target, matching(paths, (pattern,))))


def sized(diffusion_model: nn.Module, paths: Sequence[str], spec: AdapterSpec, aliases: Aliases) -> AdapterSpec:
    """The spec with `sizes_by_name` as patterns on this model's paths, after those that it has."""
    patterns: dict[str, Any] = {}
    for name, which, value in spec.sizes_by_name:
        named = dict.fromkeys(target.path for target in _by_name(diffusion_model, paths, name, aliases))
        if named:
            patterns.setdefault(which, []).append((f"^(?:{'|'.join(map(re.escape, named))})$", value))
    merged: dict[str, Any] = {which: (*getattr(spec, which), *added) for which, added in patterns.items()}
    return replace(spec, sizes_by_name=(), **merged) if spec.sizes_by_name else spec


def unite(diffusion_model: nn.Module, paths: Sequence[str], targets: Iterable[Target]) -> list[Target]:
    """In the order of `paths`, each row once: slices that touch become one, and one that is the whole layer becomes that."""
    slices: dict[str, list[tuple[int, int]]] = {}
    for target in targets:
        height = weight_shape(diffusion_model.get_submodule(target.path))[0]
        slices.setdefault(target.path, []).append(target.rows or (0, height))
    united = []
    for path in paths:
        for rows in _merge(sorted(slices.get(path, []))):
            height = weight_shape(diffusion_model.get_submodule(path))[0]
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
