"""Which layers a slider may touch: self-attention, projections and time embedding of the visual stream; never text.

A *family* is a set of regular expressions on module paths inside the diffusion model. `auto` takes the first family whose
`marks` all occur in the model; families are a table, so a new architecture is a new row. Fused weights take `rows`: the
slice of the output that may move. Source of the lists: SimpleTuner's slider guide and ComfyUI's own module names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .config import AdapterSpec, Preset, SliderError


@dataclass(frozen=True)
class Target:
    """One layer: `path` inside the diffusion model; `rows` (start, stop) of a fused output, or None for the whole."""

    path: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Family:
    """Patterns of one naming scheme. `marks` recognise it; `text` finds the text-only layers that must stay alone."""

    preset: Preset
    marks: tuple[str, ...]
    patterns: tuple[str, ...]
    text: tuple[str, ...]


FAMILIES = (
    Family(
        Preset.UNET,
        marks=(r"^input_blocks\.0\.0$", r"^time_embed\.0$", r"(?:^|\.)attn1\.to_q$"),
        patterns=(
            r"(?:^|\.)attn1\.to_(?:q|k|v)$",
            r"(?:^|\.)attn1\.to_out\.0$",
            r"(?:^|\.)proj_(?:in|out)$",
            r"^input_blocks\.0\.0$",
            r"^out\.2$",
            r"^time_embed\.(?:0|2)$",
        ),
        text=(r"(?:^|\.)attn2\.",),
    ),
    Family(
        Preset.GENERAL,
        marks=(r"(?:^|\.)attn1\.to_q$",),
        patterns=(
            r"(?:^|\.)attn1\.to_(?:q|k|v|qkv)$",
            r"(?:^|\.)attn1\.to_out\.0$",
            r"(?:^|\.)proj_(?:in|out)$",
            r"(?:^|\.)conv_(?:in|out)$",
            r"(?:^|\.)time_embedding\.linear_(?:1|2)$",
        ),
        text=(r"(?:^|\.)attn2\.", r"(?:^|\.)caption_", r"(?:^|\.)context_embedder"),
    ),
)


@dataclass(frozen=True)
class Selection:
    """What `select` found: the targets, the family that named them, and the text-only layers left alone."""

    family: str
    targets: tuple[Target, ...]
    text_layers: tuple[str, ...]

    def report(self) -> str:
        """A few readable lines for the Injector node and the command line."""
        first = ", ".join(t.path for t in self.targets[:3])
        return (
            f"{len(self.targets)} layers ({self.family}); {len(self.text_layers)} text layers left alone.\n"
            f"First: {first}{', ...' if len(self.targets) > 3 else ''}"
        )


def adaptable(module: nn.Module) -> bool:
    """Whether a LoRA fits: a Linear, or a Conv2d without groups."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def layers(diffusion_model: nn.Module) -> Iterator[str]:
    """Paths of every adaptable layer."""
    return (path for path, module in diffusion_model.named_modules() if path and adaptable(module))


def _matches(paths: list[str], patterns: tuple[str, ...]) -> list[str]:
    try:
        compiled = [re.compile(p) for p in patterns]
    except re.error as fault:
        raise SliderError(f'Target pattern "{fault.pattern}" is not a valid regular expression: {fault}.') from None
    return [path for path in paths if any(p.search(path) for p in compiled)]


def recognise(paths: list[str]) -> Family:
    """The first family whose marks all occur among `paths`; SliderError when there is none."""
    for family in FAMILIES:
        if all(_matches(paths, (mark,)) for mark in family.marks):
            return family
    raise SliderError(
        f"No known family of layers in this model (first layers: {', '.join(paths[:4]) or 'none'}); "
        'use the preset "custom" with your own patterns, or "all".'
    )


def _custom(paths: list[str], spec: AdapterSpec) -> list[str]:
    found = _matches(paths, spec.patterns)
    for pattern in spec.patterns:
        if not _matches(paths, (pattern,)):
            close = difflib.get_close_matches(re.sub(r"[\\^$?:()]", "", pattern), paths, n=3, cutoff=0.2)
            raise SliderError(f'Target pattern "{pattern}" matches no layer; the nearest are: {", ".join(close or paths[:3])}.')
    return found


def select(diffusion_model: nn.Module, spec: AdapterSpec) -> Selection:
    """The layers that `spec` names in `diffusion_model`, in module order.

    Raises SliderError when nothing matches, when a custom pattern matches nothing (with the nearest names) or is no
    valid regular expression.
    """
    paths = list(layers(diffusion_model))
    text: tuple[str, ...] = ()
    if spec.preset is Preset.ALL:
        found, name = paths, "every layer"
    elif spec.preset is Preset.CUSTOM:
        found, name = _custom(paths, spec), "custom patterns"
    else:
        family = recognise(paths) if spec.preset is Preset.AUTO else next(f for f in FAMILIES if f.preset is spec.preset)
        found, name = _matches(paths, family.patterns), family.preset.value
        text = tuple(_matches(paths, family.text))
    kept = [p for p in found if p not in set(_matches(paths, spec.exclude))]
    if not kept:
        raise SliderError(f'The preset "{spec.preset.value}" leaves no layer of this model to train; choose another preset.')
    return Selection(name, tuple(Target(p) for p in kept), text)
