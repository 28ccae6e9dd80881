"""Which layers a slider may touch: `select` reads them off the model itself, by the table in families_*.py.

Presets: `auto` (the family is recognised, or guessed from the structure with a warning), any family's name, `reference` (the
slider guide's own lists, translated), `all` (every Linear and convolution, as trainers without slider targeting do) and
`custom` (your own regular expressions).
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..config.checks import SliderError, nearest
from ..config.lora import AdapterSpec, Algorithm, Preset
from .architecture import Family
from .architectures_image import IMAGE
from .architectures_video import VIDEO_AND_SOUND
from .layer import Aliases, Target, find_layer, is_linear, large_kernel, layers

FAMILIES = (*VIDEO_AND_SOUND, *IMAGE)  # the first that fits is taken: HunyuanVideo has every name of Flux, and some more
MOST_KINDS = 24  # lines of a report's list
GUESSED = (
    "This architecture is not known: its layers were guessed from the structure (self-attention of the image side only). "
    'Check the list; the preset "custom" takes your own patterns.'
)
# for the guess: words of a path that mean text or another source, and the names of an attention's projections
_ELSEWHERE = re.compile(
    r"cross|context|caption|prompt|lyric|speaker|encoder|connector|tokenizer|token_refiner|ref_|llm|clip"
    r"|(?:^|[._])(?:txt|text)|(?:^|[._])(?:cap|cond|add|t5|attn2|instruct)(?:$|[._\d])|(?:^|\.)visual\."
)
_ATTENTION = re.compile(r"attn|attention|(?:^|\.)sa$")
_INPUT = re.compile(r"\.(?:to_|w)?(?:q|k|v|qkv|query|key|value)(?:_?proj)?(?:\.0)?$")
_PROJECTION = re.compile(r"(?:(?:to_|w)?(?:q|k|v|o|qkv|out|query|key|value)(?:_?proj)?|proj|proj_out|output_proj)(?:\.0)?$")


@dataclass(frozen=True)
class Selection:
    """What was found: the family that named the targets, the text-only layers left alone, trainable numbers per rank."""

    family: str
    targets: tuple[Target, ...]
    text_layers: tuple[str, ...]
    per_rank: int
    warning: str = ""

    def kinds(self) -> list[str]:
        """The targets with block numbers left out, each kind once: `blocks.*.attn1.to_q (24)`."""
        count = Counter(
            re.sub(r"(?<=\.)(block)?\d+(?=\.)", r"\1*", t.path) + (f" rows {t.rows[0]}:{t.rows[1]}" if t.rows else "")
            for t in self.targets
        )
        return [f"{kind} ({number})" for kind, number in count.items()]

    def report(self, spec: AdapterSpec) -> str:
        """Readable lines for the Injector node and the command line."""
        kinds = self.kinds()
        shown = kinds[:MOST_KINDS] + ([f"and {len(kinds) - MOST_KINDS} more kinds"] if len(kinds) > MOST_KINDS else [])
        plain = spec.algorithm in (Algorithm.LORA, Algorithm.RSLORA) and spec.conv_rank is None and not spec.rank_pattern
        count = f"{spec.rank * self.per_rank:,} trainable parameters at rank {spec.rank}" if plain else f"rank {spec.rank}"
        lines = [
            *([f"Warning: {self.warning}"] if self.warning else []),
            f"{len(self.targets)} layers ({self.family}), {spec.algorithm.value}, {count}; "
            f"{len(self.text_layers)} text layers left alone.",
            f"First: {', '.join(t.path for t in self.targets[:3])}{', ...' if len(self.targets) > 3 else ''}",
            *(f"- {kind}" for kind in shown),
        ]
        return "\n".join(lines)


def presets() -> list[str]:
    """Every preset's name, in the order of a menu."""
    return [Preset.AUTO.value, Preset.REFERENCE.value, Preset.ALL.value, Preset.CUSTOM.value, *(f.name for f in FAMILIES)]


def _matches(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    try:
        compiled = [re.compile(p) for p in patterns]
    except re.error as fault:
        raise SliderError(f'Target pattern "{fault.pattern}" is not a valid regular expression: {fault}.') from None
    return [path for path in paths if any(p.search(path) for p in compiled)]


def recognise(diffusion_model: nn.Module) -> Family | None:
    """The first family whose marks all occur among the model's module paths, or None."""
    paths = [path for path, _ in diffusion_model.named_modules()]
    return next((f for f in FAMILIES if all(_matches(paths, (mark,)) for mark in f.recognised_by)), None)


def _attentions(diffusion_model: nn.Module, paths: Sequence[str]) -> dict[str, list[str]]:
    """Attention modules -> their projections, by the shape of the names; text and cross-attention left out by theirs."""
    found: dict[str, list[str]] = {}
    for path in paths:
        projection = _PROJECTION.search(path)
        parent = path[: projection.start()].rstrip(".") if projection and path[projection.start() - 1] == "." else ""
        named = parent and _ATTENTION.search(parent.rsplit(".", 1)[-1]) and not _ELSEWHERE.search(path)
        if named and is_linear(diffusion_model.get_submodule(path)):
            found.setdefault(parent, []).append(path)
    return found


def guess(diffusion_model: nn.Module) -> list[str]:
    """Image self-attention by structure, for a model that no row of the table knows. Conservative: may be empty.

    Of two attentions in one block the first counts (the second is cross-attention), and one whose query is of another width
    than its key is cross-attention too.
    """
    attentions = _attentions(diffusion_model, list(layers(diffusion_model)))
    taken: set[str] = set()
    chosen: list[str] = []
    for attention, projections in attentions.items():
        block = attention.rpartition(".")[0]
        inputs = [p for p in projections if _INPUT.search(p)]
        widths = {diffusion_model.get_submodule(p).in_features for p in inputs}
        if block not in taken and len(widths) == 1:
            taken.add(block)
            chosen += projections
    return chosen


def _with_name(diffusion_model: nn.Module, paths: list[str], name: str, aliases: Aliases) -> list[Target]:
    """The layers that a name means: those whose path ends in it, those inside a class of that name, or whose alias ends in it."""
    ends = re.compile(rf"(?:^|[._]){re.escape(name)}$")
    found = [Target(p) for p in paths if ends.search(p)]
    parts = [path for path, part in diffusion_model.named_modules() if type(part).__name__ == name]
    found += [Target(p) for p in paths if any(p == part or not part or p.startswith(f"{part}.") for part in parts)]
    return found or [target for alias, target in aliases.items() if ends.search(alias)]


def _with_pattern(paths: list[str], pattern: str, aliases: Aliases) -> list[Target]:
    found = [Target(p) for p in _matches(paths, (pattern,))]
    return found or [aliases[alias] for alias in _matches(list(aliases), (pattern,))]


def _united(found: Iterable[Target], diffusion_model: nn.Module, paths: list[str]) -> list[Target]:
    """In the order of `paths`, each row once: slices that touch become one, and one that is the whole layer becomes that."""
    parts: dict[str, list[tuple[int, int]]] = {}
    for target in found:
        height = diffusion_model.get_submodule(target.path).weight.shape[0]
        parts.setdefault(target.path, []).append(target.rows or (0, height))
    united = []
    for path in (p for p in paths if p in parts):
        height, merged = diffusion_model.get_submodule(path).weight.shape[0], []
        for start, stop in sorted(parts[path]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        united += [Target(path, None if rows == (0, height) else rows) for rows in merged]
    return united


def _custom(
    diffusion_model: nn.Module, paths: list[str], patterns: Sequence[str], names: Sequence[str], aliases: Aliases
) -> tuple[list[Target], str]:
    """The layers of own patterns and names, and a warning about names that mean nothing here."""
    if not patterns and not names:
        raise SliderError('The preset "custom" needs at least one pattern: a regular expression on layer names.')
    aliases = {alias: target for alias, target in aliases.items() if target.path in paths}
    found: list[Target] = []
    for pattern in patterns:
        matched = _with_pattern(paths, pattern, aliases)
        if not matched:
            close = difflib.get_close_matches(re.sub(r"[\\^$?:()]", "", pattern), paths, n=3, cutoff=0.2)
            raise SliderError(f'Target pattern "{pattern}" matches no layer; the nearest are: {", ".join(close or paths[:3])}.')
        found += matched
    named = {name: _with_name(diffusion_model, paths, name, aliases) for name in names}
    idle = [name for name, matched in named.items() if not matched]
    if names and len(idle) == len(named):
        raise SliderError(
            f"None of the names {', '.join(idle)} means a layer of this model; its first layers are: {', '.join(paths[:3])}."
        )
    found += [target for matched in named.values() for target in matched]
    warning = f"No layer of this model has these names: {', '.join(idle)}." if idle else ""
    return _united(found, diffusion_model, paths), warning


def _named(diffusion_model: nn.Module, preset: str, paths: list[str]) -> tuple[Family, list[str], str]:
    """The family of that name, which must be the model's own where the model is known."""
    if preset not in presets():
        raise SliderError(f'Target preset "{preset}" is not known; {nearest(preset, presets())}')
    family, own = next(f for f in FAMILIES if f.name == preset), recognise(diffusion_model)
    if own not in (family, None):
        raise SliderError(
            f'The preset "{preset}" is for {family.title}, and this model is "{own.name}" ({own.title}): use "auto".'
        )
    return family, _matches(paths, family.patterns), "" if own else GUESSED


def _reference(diffusion_model: nn.Module, paths: list[str]) -> tuple[Family, list[str], str]:
    """What the guide's own lists reach, but for text: that one they were meant to leave alone."""
    family = recognise(diffusion_model)
    text = set(_matches(paths, family.text)) if family else set()
    found = [p for p in _matches(paths, family.guides()) if p not in text] if family else []
    if not found or family is None:
        known = family.title if family else "this architecture"
        raise SliderError(f'The lists of the reference guide reach no layer of {known}; use the preset "auto".')
    return family, found, ""


def _family(diffusion_model: nn.Module, preset: str, paths: list[str]) -> tuple[Family | None, list[str], str]:
    """The family of a preset, the layers it names in this model, and a warning."""
    if preset == Preset.REFERENCE.value:
        return _reference(diffusion_model, paths)
    if preset != Preset.AUTO.value:
        return _named(diffusion_model, preset, paths)
    family = recognise(diffusion_model)
    if family:
        return family, _matches(paths, family.patterns), ""
    found = guess(diffusion_model)
    if not found:
        raise SliderError(
            f"No known family of layers in this model (first layers: {', '.join(paths[:4]) or 'none'}); "
            'use the preset "custom" with your own patterns, or "all".'
        )
    return None, found, GUESSED


def _target(diffusion_model: nn.Module, path: str, fused: Sequence[str]) -> Target:
    """The layer as a target, with its rows where it is fused."""
    weight = diffusion_model.get_submodule(path).weight
    stacked = 3 * weight.shape[1]
    return Target(path, (0, stacked) if _matches([path], fused) and stacked < weight.shape[0] else None)


def _per_rank(diffusion_model: nn.Module, target: Target) -> int:
    """The numbers that one rank of a LoRA adds there."""
    weight = diffusion_model.get_submodule(target.path).weight
    return (target.rows[1] - target.rows[0] if target.rows else weight.shape[0]) + math.prod(weight.shape[1:])


def survey(
    diffusion_model: nn.Module,
    preset: str = "auto",
    patterns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
    aliases: Aliases | None = None,
) -> Selection:
    """The layers of `diffusion_model` that `preset` names, in module order, with what there is to say about them.

    `patterns` and `names` are for the preset `custom`: regular expressions on module paths; and ends of paths or classes. Either
    may use another program's names where `aliases` knows them. `exclude` are regular expressions, too. Raises SliderError when
    nothing matches, when a custom pattern matches nothing (with the nearest names) or is no valid regular expression.
    """
    preset, paths = Preset(preset).value if preset in list(Preset) else preset, list(layers(diffusion_model))
    family, warning = None, ""
    if preset == Preset.CUSTOM.value:
        targets, warning = _custom(diffusion_model, paths, patterns, names, aliases or {})
        name = "custom patterns"
    elif preset == Preset.ALL.value:
        targets, name = [Target(p) for p in paths], "every layer"
    else:
        family, found, warning = _family(diffusion_model, preset, paths)
        targets = [_target(diffusion_model, p, family.fused if family else ()) for p in found]
        name = "guessed" if family is None else family.name
        name = f"{preset}, {name}" if preset == Preset.REFERENCE.value else name
    left_out = set(_matches(paths, exclude))
    kept = tuple(t for t in targets if t.path not in left_out)
    if not kept:
        raise SliderError(f'The preset "{preset}" leaves no layer of this model to train; choose another preset.')
    chosen = {target.path for target in kept}
    text = [p for p in _matches(paths, family.text) if p not in chosen] if family else []
    return Selection(name, kept, tuple(text), sum(_per_rank(diffusion_model, t) for t in kept), warning)


def select(
    diffusion_model: nn.Module, preset: str = "auto", patterns: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[Target]:
    """The targets of `survey` alone."""
    return list(survey(diffusion_model, preset, patterns, exclude).targets)


def survey_for(diffusion_model: nn.Module, spec: AdapterSpec, aliases: Aliases | None = None) -> Selection:
    """The layers that an AdapterSpec asks for, without those that it gives a rank of 0. SliderError when none is left."""
    found = survey(diffusion_model, spec.preset, spec.patterns, spec.exclude, spec.names, aliases)
    kept = tuple(t for t in found.targets if spec.size(t.path, large_kernel(find_layer(diffusion_model, t)))[0])
    if not kept:
        raise SliderError("A conv_rank of 0 leaves no layer to train.")
    patterns = dict.fromkeys(pattern for pattern, _ in (*spec.rank_pattern, *spec.alpha_pattern))
    idle = [pattern for pattern in patterns if not _matches([t.path for t in kept], (pattern,))]
    words = [found.warning, f"No chosen layer matches {', '.join(idle)}, so no rank or alpha follows." if idle else ""]
    size = sum(_per_rank(diffusion_model, t) for t in kept)
    return replace(found, targets=kept, per_rank=size, warning=" ".join(filter(None, words)))
