"""A guess by structure, for a diffusion model that no row of the table knows: self-attention of the image side, and what belongs
to it. In: the model's module names and the widths of its Linears. Out: paths of layers; text is left alone where in doubt.

With the row of each known family hidden it finds 97 % of the row's layers, and 99.6 % of what it finds are the row's (means over
the families, at full size; tests/host/test_architectures.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from .layer import is_linear, layers

# parts of a path that mean text or another source than the image
_NOT_THE_IMAGE = re.compile(
    r"cross|context|caption|prompt|lyric|speaker|encoder|connector|tokenizer|token_refiner|ref_|llm|clip|vace|control|inject|ctx"
    r"|(?:^|[._])(?:txt|text)|(?:^|[._])(?:cap|cond|add|t5|instruct)(?:$|[._\d])|(?:^|\.)visual\."
)
# a model of another kind beside the image's; where there is nothing else it carries the image too
_ANOTHER_MODEL = re.compile(r"(?:^|[._])(?:language|bert|gemma|llama|qwen|mistral|umt5|mt5|byt5|siglip|dino|vit)")
_ATTENTION = re.compile(r"attn|attention|^sa$")
_PROJECTION = re.compile(
    r"(?P<image>(?:img|image|vid|video|x)_)?(?P<attn>attn_)?(?:to_|proj_|[wW]\d?)?"
    r"(?P<role>q|k|v|o|qkv|query|key|value|out|output|proj)(?:_proj|_linear)?(?P<x>_x)?"
)
_IMAGE_STREAMS = ("vid", "video", "img", "image", "all")
_INPUTS = ("q", "k", "v", "qkv", "query", "key", "value")
_APART = ({"q", "k", "v"}, {"query", "key", "value"})
_QUERY_NORM = re.compile(r"^(.*\.\d+)\.(?:.*\.)?(?:(?:q|query)_?norm|norm_q)")
_MODULATION = re.compile(r"mod|ada")
_ENDS = re.compile(r"(?:^|\.)(?:proj_in|proj_out|conv_in|conv_out|project_in|project_out|patchify_proj)$")
_TIME = re.compile(r"(?:^|[._])(?:t|time|timestep)_?(?:embed|mlp|proj)|^tmlp|(?:^|[._])t_block")
_NOT_TIME = re.compile(r"(?:blocks?|layers)\.\d|adaln")


@dataclass(frozen=True)
class _Projection:
    """A layer whose name says what it does in an attention: `role` q, k, v, qkv, out, ... ; `image`: of the image's stream."""

    path: str
    attention: str  # the module that holds it
    role: str
    image: bool
    named: bool  # the name itself says that it belongs to an attention
    width: int  # of its input


def guess(diffusion_model: nn.Module) -> list[str]:
    """Layers to train in a model that no row of the table knows, in module order. Conservative: may be empty.

    Of two attentions in one block the first counts (the second is cross-attention) unless its query, key and value are one
    matrix; one whose query is of another width than its key is cross-attention too. Of two streams in one attention only that
    named as the image's counts. Besides: the fused layer of blocks without projections of their own (Flux's linear1), input and
    output projections around the attentions, and the time embedding where it is two layers.
    """
    paths = list(layers(diffusion_model))
    linears = _linears(diffusion_model, paths)
    chosen = set(_self_attention(linears))
    chosen |= _fused(diffusion_model, linears, chosen)
    chosen = {path for path in chosen if not _ANOTHER_MODEL.search(path)} or chosen
    if not chosen:
        return []
    chosen |= _ends(paths, chosen) | _time_embedding(linears)
    return [path for path in paths if path in chosen]


def _linears(diffusion_model: nn.Module, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Linears that may carry the image -> (width of the input, of the output)."""
    widths = {}
    for path in paths:
        layer: Any = diffusion_model.get_submodule(path)
        if is_linear(layer) and not _NOT_THE_IMAGE.search(path):
            widths[path] = cast(int, layer.in_features), cast(int, layer.out_features)
    return widths


def _projection(path: str, width: int) -> _Projection | None:
    parts = path.split(".")
    if parts[-1].isdigit():  # to_out.0
        parts.pop()
    stream = parts.pop() if parts and parts[-1] in _IMAGE_STREAMS else ""
    if len(parts) < 2:
        return None
    name = _PROJECTION.fullmatch(parts[-1])
    if name is None:
        return None
    image = bool(stream or name["image"] or name["x"])
    return _Projection(path, ".".join(parts[:-1]), name["role"], image, bool(name["attn"]), width)


def _self_attention(linears: Mapping[str, tuple[int, int]]) -> list[str]:
    attentions: dict[str, list[_Projection]] = {}
    for path, (width, _) in linears.items():
        projection = _projection(path, width)
        if projection:
            attentions.setdefault(projection.attention, []).append(projection)
    blocks: set[str] = set()
    chosen: list[str] = []
    for attention, projections in attentions.items():
        block = attention
        kept = _bare(projections)
        if any(map(_ATTENTION.search, attention.split(".")[-2:])):
            block = attention.rpartition(".")[0]
            kept = projections
        kept = _of_the_image(kept)
        inputs = [one for one in kept if one.role in _INPUTS]
        fused = all(one.role == "qkv" for one in inputs)
        if not inputs or not re.search(r"\d", attention) or (block in blocks and not fused):
            continue
        if len({one.width for one in projections if one.role in _INPUTS}) == 1:
            blocks.add(block)
            chosen += [one.path for one in kept]
    return chosen


def _bare(projections: Sequence[_Projection]) -> list[_Projection]:
    """Those of a block that has query, key and value itself, without an attention module around them."""
    roles = {one.role for one in projections}
    if not any(apart <= roles for apart in _APART):
        return []
    return [one for one in projections if one.role in _INPUTS or one.named]


def _of_the_image(projections: Sequence[_Projection]) -> list[_Projection]:
    """Of two layers of one role that of the image's stream; none where the names do not say which it is."""
    kept = []
    for one in projections:
        twins = [other for other in projections if other.role == one.role]
        if len(twins) > 1:
            twins = [other for other in twins if other.image]
        if twins == [one]:
            kept.append(one)
    return kept


def _fused(diffusion_model: nn.Module, linears: Mapping[str, tuple[int, int]], chosen: set[str]) -> set[str]:
    """Of blocks that norm a query and have no projection of their own: the layer that makes query, key, value and more."""
    found = set()
    blocks: dict[str, None] = {}
    for path, _ in diffusion_model.named_modules():
        norm = _QUERY_NORM.search(path)
        if norm and not _NOT_THE_IMAGE.search(path):
            blocks[norm[1]] = None
    for block in blocks:
        inside = [path for path in linears if path.startswith(f"{block}.")]
        stacked = []
        for path in inside:
            width, height = linears[path]
            if height > 3 * width and not _MODULATION.search(path[len(block) :]):
                stacked.append(path)
        if len(stacked) == 1 and chosen.isdisjoint(inside):
            found.add(stacked[0])
    return found


def _ends(paths: Sequence[str], chosen: set[str]) -> set[str]:
    """Input and output projections of a module that holds chosen layers."""
    found = set()
    for path in paths:
        if _ENDS.search(path) and not _NOT_THE_IMAGE.search(path):
            module, dot, _ = path.rpartition(".")
            if any(other.startswith(module + dot) for other in chosen):
                found.add(path)
    return found


def _time_embedding(linears: Mapping[str, tuple[int, int]]) -> set[str]:
    """The two layers of a time embedding, outside the blocks."""
    modules: dict[str, list[str]] = {}
    for path in linears:
        if _TIME.search(path) and not _NOT_TIME.search(path):
            modules.setdefault(path.rpartition(".")[0], []).append(path)
    found: set[str] = set()
    for name, inside in modules.items():
        if len(inside) == 2 or not name:
            found.update(inside)
    return found
