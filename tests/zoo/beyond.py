"""Why a row names layers that the slider guide's list, by its diffusers names, does not reach, and why it leaves others alone
that the rule may be taken to mean: for docs/architectures.md.

The list means four things: a visual block's self-attention, its output projection, the model's own ends, the time embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# the first that matches a layer's path
REASONS: tuple[tuple[str, str], ...] = (
    (r"time|t_embed|tmlp", "the time embedding, a plain MLP: the list's `time_embedding.linear_1` and `_2` by another name"),
    (r"visual_embeddings\.in_layer$", "the model's input projection: the list's `conv_in` by another name"),
    (r"out_layer\.out_layer$|^proj_out$", "the model's output projection: the list's `conv_out`, `proj_out`"),
    (r"linear1$", "query, key and value of a single-stream block, whose tokens are text and image: no attention without it"),
    (r"img_instruct_attn\.to_out", "the output of the attention over joint tokens, after the streams' own"),
    (r"proj_(?:qkv|out)\.all$", "self-attention of blocks that share one set of weights for both streams"),
    (r"img_|x_block|_x$|\.vid$", "self-attention of the image's stream alone; the text's twin stays as it is"),
    (
        r"to_out|(?<![qkv]_)proj$|attention\.out$|\.w?o$",
        "the output projection of that attention: the list's `to_out.0`",
    ),
    (r"attn|attention", "self-attention of blocks that carry image or joint tokens: the list's `attn1.to_q`, `to_k`, `to_v`"),
)


def reason(path: str) -> str:
    return next((why for pattern, why in REASONS if re.search(pattern, path)), "")


def beyond(architecture: Any, targets: Any) -> dict[str, str]:
    """Kinds of layers in the row that the guide's list does not reach -> why they are there."""
    listed = architecture.reference_patterns()
    kinds = {}
    for target in targets:
        if not any(re.search(pattern, target.path) for pattern in listed):
            kinds[kind_of(target.path)] = reason(target.path)
    return kinds


def kind_of(path: str) -> str:
    """A path with a star for each block's number."""
    return re.sub(r"(?<=\.)(block)?\d+(?=\.)", r"\1*", path)


# Layers that the rule may be taken to mean and that a row leaves alone: attention, time embeddings, the model's own ends.
MEANT = re.compile(
    r"attn|attention|time|t_embed|tmlp|(?:^|\.)(?:proj|conv)_(?:in|out)|^(?:img_in|x_embedder|patch_embed|patchify|first|input_proj)"
    r"|^(?:final_layer|final_linear|last|head|clf|embedding)\b|^norm_out\.linear_2$|^\w*_(?:embedder|proj_out)$"
)
# (family, path, why): the first that matches both
LEFT: tuple[tuple[str, str, str], ...] = (
    ("", r"audio|music|face_|^(?:de)?tokenizer", "of sound, music or a face beside the picture"),
    ("", r"^visual\.|ref_|pose|_mask$|_global$", "reads a reference picture, a pose or a mask, not the picture that is made"),
    ("wan", r"^vace_blocks", "reads the control video; left alone, a slider fits plain Wan too"),
    ("", r"time_r_in|time_embed_r", "embeds the second timestep of a mean flow"),
    ("flux|chroma|auraflow", r"", "the guide's list for these models names the attention alone"),
    ("hunyuan", r"^time_in", "Flux's blocks and names, for which the guide's list names no time embedding"),
    (
        r"sd3|lumina|wan|ltx|qwen",
        r"^(?:t_embedder|time_embedding|time_text_embed\.timestep|adaln_single\.emb)",
        "the guide's list, which trains this model, does not reach it",
    ),
    (
        r"sd3|wan|qwen",
        r"^(?:final_layer\.linear|head\.head|proj_out)$",
        "the preset `reference` takes it: the guide's `proj_out`",
    ),
    ("", r"ada|[mM]odulation|_mod\b|\bmod[FX]?\b|t_block|time_proj|tproj", "makes the modulation of blocks, not the embedding"),
    ("cosmos|seedvr2", r"^t_embedder|^emb_in", "makes the modulation of blocks, not an embedding alone"),
    ("unet", r"time_(?:stack|pos)", "of the frames' own blocks: no attention, and no embedding of the noise level"),
    ("lumina", r"time_text_embed", "joins the prompt to the time embedding"),
    ("lumina", r"^dec_net", "of the decoder into pixels"),
    ("", r"attn.*gate", "opens and closes the attention's output: none of query, key, value and output"),
    ("", r"(?:compress|expand)_", "between patches and pixels, around the attention"),
    ("", r"\bmlp\b|ff_|\.ff\b", "of the feed-forward"),
    ("kandinsky5", r"self_attention\.out_layer", "the guide's list for Kandinsky 5 has no output projection"),
    ("acestep", r"proj_in", "the guide's `proj_in` is several layers here, none of that name"),
    (
        "",
        r"_in\b|embed|^(?:first|last|clf|final|norm_out|input_proj|patchify)|_proj$",
        "no `proj_in`, `proj_out`, `conv_in`, `conv_out` of the guide's",
    ),
)


def left(architecture: Any, layers: Iterable[str], targets: Any) -> dict[str, str]:
    """Kinds of layers that the rule may be taken to mean, that carry no text and that the row leaves alone -> why."""
    chosen = {target.path for target in targets}
    kinds = {}
    for path in layers:
        text = any(re.search(pattern, path) for pattern in architecture.text)
        if path not in chosen and not text and MEANT.search(path):
            kinds[kind_of(path)] = _why_left(architecture.name, path)
    return kinds


def _why_left(family: str, path: str) -> str:
    return next((why for of, pattern, why in LEFT if re.search(of, family) and re.search(pattern, path)), "")
