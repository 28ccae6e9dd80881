"""Why a row names layers that the slider guide's list, by its diffusers names, does not reach: for docs/architectures.md.

The list means four things: a visual block's self-attention, its output projection, the model's own ends, the time embedding.
"""

from __future__ import annotations

import re
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
            kinds[re.sub(r"(?<=\.)(block)?\d+(?=\.)", r"\1*", target.path)] = reason(target.path)
    return kinds
