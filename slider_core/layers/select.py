"""Which layers a slider may touch: `select` reads them off the model itself, by the table in architectures_*.py.

Presets: `auto` (the architecture is recognised, or guessed from the structure with a warning), any architecture's name,
`reference` (the slider guide's own lists, translated), `all` (every Linear and convolution, as trainers without slider targeting
do) and `custom` (your own regular expressions and names, patterns.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..config.checks import nearest, need
from ..config.lora import AdapterSpec, Algorithm, Preset
from .architecture import Architecture
from .layer import Aliases, Target, find_layer, large_kernel, layers, weight_shape
from .patterns import custom, matching, sized
from .recognise import ARCHITECTURES, recognise
from .recognise_guess import guess

MOST_KINDS = 24  # lines of a report's list
GUESSED = (
    "This architecture is not known: its layers were guessed from the structure (self-attention of the image side only). "
    'Check the list; the preset "custom" takes your own patterns.'
)
Choice = tuple[Architecture | None, list[str], str]  # None where it was guessed; the paths of the layers; a warning


@dataclass(frozen=True)
class Selection:
    """Which rule chose the targets, the targets, the text-only layers left alone, and the trainable numbers per rank."""

    architecture: str
    targets: tuple[Target, ...]
    text_layers: tuple[str, ...]
    per_rank: int
    warning: str
    spec: AdapterSpec  # what was asked for, with sizes by name as patterns on this model's paths

    def kinds(self) -> list[str]:
        """The targets with block numbers left out, each kind once: `blocks.*.attn1.to_q (24)`."""
        count: Counter[str] = Counter()
        for target in self.targets:
            kind = re.sub(r"(?<=\.)(block)?\d+(?=\.)", r"\1*", target.path)
            if target.rows:
                kind += f" rows {target.rows[0]}:{target.rows[1]}"
            count[kind] += 1
        return [f"{kind} ({number})" for kind, number in count.items()]

    def report(self) -> str:
        """Readable lines for the Injector node and the command line."""
        spec = self.spec
        size = f"rank {spec.rank}"
        if spec.algorithm in (Algorithm.LORA, Algorithm.RSLORA) and spec.conv_rank is None and not spec.rank_pattern:
            size = f"{spec.rank * self.per_rank:,} trainable parameters at {size}"
        lines = [f"Warning: {self.warning}"] if self.warning else []
        chosen = f"{len(self.targets)} layers ({self.architecture})"
        lines.append(f"{chosen}, {spec.algorithm.value}, {size}; {len(self.text_layers)} text layers left alone.")
        first = [target.path for target in self.targets[:3]]
        if len(self.targets) > 3:
            first.append("...")
        lines.append(f"First: {', '.join(first)}")
        kinds = self.kinds()
        lines += [f"- {kind}" for kind in kinds[:MOST_KINDS]]
        if len(kinds) > MOST_KINDS:
            lines.append(f"- and {len(kinds) - MOST_KINDS} more kinds")
        return "\n".join(lines)


def presets() -> list[str]:
    """Every preset's name, in the order of a menu."""
    general = [Preset.AUTO.value, Preset.REFERENCE.value, Preset.ALL.value, Preset.CUSTOM.value]
    return general + [architecture.name for architecture in ARCHITECTURES]


def select(
    diffusion_model: nn.Module, preset: str = "auto", patterns: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[Target]:
    """The targets of `survey` alone."""
    spec = AdapterSpec(preset=preset, patterns=tuple(patterns), exclude=tuple(exclude))
    return list(survey(diffusion_model, spec).targets)


def survey(diffusion_model: nn.Module, spec: AdapterSpec | None = None, aliases: Aliases | None = None) -> Selection:
    """The layers that `spec` chooses, in module order and without those that it gives a rank of 0.

    Its patterns and names may use another program's names where `aliases` has them. Raises SliderError when no layer is left,
    when a custom pattern matches nothing (with the nearest names) or is no valid regular expression.
    """
    spec = spec or AdapterSpec()
    paths = list(layers(diffusion_model))
    spec = sized(diffusion_model, paths, spec, aliases or {})
    architecture, warning = None, ""
    if spec.preset == Preset.CUSTOM.value:
        candidates, warning = custom(diffusion_model, paths, spec, aliases or {})
        rule = "custom patterns"
    elif spec.preset == Preset.ALL.value:
        candidates = list(map(Target, paths))
        rule = "every layer"
    else:
        architecture, chosen, warning = _by_architecture(diffusion_model, spec.preset, paths)
        candidates = [_target(diffusion_model, path, architecture) for path in chosen]
        rule = architecture.name if architecture else "guessed"
        if spec.preset == Preset.REFERENCE.value:
            rule = f"{spec.preset}, {rule}"
    targets: list[Target] = []
    per_rank = 0
    excluded = matching(paths, spec.exclude)
    for target in candidates:
        rank, _ = spec.size(target.path, large_kernel(find_layer(diffusion_model, target)))
        if rank and target.path not in excluded:
            targets.append(target)
            per_rank += _per_rank(diffusion_model, target)
    message = f'The preset "{spec.preset}" with its exclusions and ranks of 0 leaves no layer to train; choose another preset.'
    need(bool(targets), message, "target.no_layer")
    chosen = [target.path for target in targets]
    text_layers: tuple[str, ...] = ()
    if architecture:
        text_layers = tuple(path for path in matching(paths, architecture.text) if path not in chosen)
    return Selection(rule, tuple(targets), text_layers, per_rank, f"{warning} {_unmatched(spec, chosen)}".strip(), spec)


def _unmatched(spec: AdapterSpec, paths: Sequence[str]) -> str:
    """A warning about patterns of ranks and alphas that match none of the layers."""
    patterns = dict((*spec.rank_pattern, *spec.alpha_pattern))
    unmatched = ", ".join(pattern for pattern in patterns if not matching(paths, (pattern,)))
    return f"No chosen layer matches {unmatched}, so no rank or alpha follows." if unmatched else ""


def _by_architecture(diffusion_model: nn.Module, preset: str, paths: Sequence[str]) -> Choice:
    if preset == Preset.REFERENCE.value:
        return _reference(diffusion_model, paths)
    if preset != Preset.AUTO.value:
        return _named(diffusion_model, preset, paths)
    architecture = recognise(diffusion_model)
    if architecture:
        return architecture, matching(paths, architecture.patterns), ""
    guessed = guess(diffusion_model)
    first = ", ".join(paths[:4]) or "none"
    message = f"No known family of layers in this model (first layers: {first}); "
    need(bool(guessed), message + 'use the preset "custom" with your own patterns, or "all".', "target.unknown_architecture")
    return None, guessed, GUESSED


def _named(diffusion_model: nn.Module, preset: str, paths: Sequence[str]) -> Choice:
    """The architecture of that name, which must be the model's where the model is recognised."""
    need(preset in presets(), f'Target preset "{preset}" is not known; {nearest(preset, presets())}', "target.unknown_preset")
    architecture = next(architecture for architecture in ARCHITECTURES if architecture.name == preset)
    recognised = recognise(diffusion_model)
    if recognised is None:
        return architecture, matching(paths, architecture.patterns), GUESSED
    message = f'The preset "{preset}" is for {architecture.title}, and this model is "{recognised.name}" ({recognised.title})'
    need(recognised is architecture, f'{message}: use "auto".', "target.other_architecture")
    return architecture, matching(paths, architecture.patterns), ""


def _reference(diffusion_model: nn.Module, paths: Sequence[str]) -> Choice:
    """What the guide's own lists reach, but for text: that one they were meant to leave alone."""
    architecture = recognise(diffusion_model)
    chosen: list[str] = []
    title = "this architecture"
    if architecture:
        text = set(matching(paths, architecture.text))
        chosen = [path for path in matching(paths, architecture.reference_patterns()) if path not in text]
        title = architecture.title
    message = f'The lists of the reference guide reach no layer of {title}; use the preset "auto".'
    need(bool(chosen), message, "target.reference_empty")
    return architecture, chosen, ""


def _target(diffusion_model: nn.Module, path: str, architecture: Architecture | None) -> Target:
    """The layer as a target, with its rows where it is fused."""
    if architecture and matching([path], architecture.fused):
        height, width = weight_shape(diffusion_model.get_submodule(path))
        stacked = 3 * width
        if stacked < height:
            return Target(path, (0, stacked))
    return Target(path)


def _per_rank(diffusion_model: nn.Module, target: Target) -> int:
    """The numbers that one rank of a LoRA adds there."""
    shape = weight_shape(diffusion_model.get_submodule(target.path))
    start, stop = target.rows or (0, shape[0])
    return stop - start + math.prod(shape[1:])
