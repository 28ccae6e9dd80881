"""Which architecture a diffusion model is of, by the names of its modules; for one that no row knows, a guess by structure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from .architecture import Architecture
from .architectures_image import IMAGE
from .architectures_video import VIDEO_AND_SOUND
from .layer import is_linear, layers
from .patterns import matching

ARCHITECTURES = (*VIDEO_AND_SOUND, *IMAGE)  # the first that matches is taken: HunyuanVideo has every name of Flux, and more

# for the guess: parts of a path that mean text or another source, and the names of an attention's projections
_NOT_THE_IMAGE = re.compile(
    r"cross|context|caption|prompt|lyric|speaker|encoder|connector|tokenizer|token_refiner|ref_|llm|clip"
    r"|(?:^|[._])(?:txt|text)|(?:^|[._])(?:cap|cond|add|t5|attn2|instruct)(?:$|[._\d])|(?:^|\.)visual\."
)
_ATTENTION = re.compile(r"attn|attention|(?:^|\.)sa$")
_INPUT = re.compile(r"\.(?:to_|w)?(?:q|k|v|qkv|query|key|value)(?:_?proj)?(?:\.0)?$")
_PROJECTION = re.compile(r"\.(?:(?:to_|w)?(?:q|k|v|o|qkv|out|query|key|value)(?:_?proj)?|proj|proj_out|output_proj)(?:\.0)?$")


def recognise(diffusion_model: nn.Module) -> Architecture | None:
    """The first architecture of which every recognising expression matches some module path, or None."""
    paths = list(dict(diffusion_model.named_modules()))
    for architecture in ARCHITECTURES:
        if all(matching(paths, (expression,)) for expression in architecture.recognised_by):
            return architecture
    return None


def guess(diffusion_model: nn.Module) -> list[str]:
    """Image self-attention by structure, for a model that no row of the table knows. Conservative: may be empty.

    Of two attentions in one block the first counts (the second is cross-attention), and one whose query is of another width
    than its key is cross-attention too.
    """
    blocks_with_attention: set[str] = set()
    chosen: list[str] = []
    for attention, projections in _attentions(diffusion_model, list(layers(diffusion_model))).items():
        block = attention.rpartition(".")[0]
        inputs = [path for path in projections if _INPUT.search(path)]
        input_widths = {diffusion_model.get_submodule(path).in_features for path in inputs}
        if block not in blocks_with_attention and len(input_widths) == 1:
            blocks_with_attention.add(block)
            chosen += projections
    return chosen


def _attentions(diffusion_model: nn.Module, paths: Sequence[str]) -> dict[str, list[str]]:
    """Attention modules -> their projections, by the shape of the names; text and cross-attention left out by theirs."""
    attentions: dict[str, list[str]] = {}
    for path in paths:
        projection = _PROJECTION.search(path)
        if projection is None or _NOT_THE_IMAGE.search(path):
            continue
        parent = path[: projection.start()]
        name = parent.rpartition(".")[2]
        if _ATTENTION.search(name) and is_linear(diffusion_model.get_submodule(path)):
            attentions.setdefault(parent, []).append(path)
    return attentions
