"""The nodes, in the order of use. What the system says to one of them reaches the user in words."""

import functools
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import in_words
from . import (
    apply,
    calibrate,
    dataset,
    demo,
    files,
    finding,
    pair_maker,
    prompts,
    sampling,
    stack,
    sweep,
    target,
    text_pair,
    train,
)


def worded(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, an OSError out of its `execute` (a drive that is gone, a folder without rights) as a SliderError."""
    plain = node.execute.__func__

    @functools.wraps(plain)
    def execute(cls: type[io.ComfyNode], *values: Any, **inputs: Any) -> io.NodeOutput:
        try:
            return plain(cls, *values, **inputs)
        except OSError as fault:
            raise in_words(fault) from fault

    node.execute = classmethod(execute)
    return node


NODES = [
    *demo.NODES,
    *dataset.NODES,
    *pair_maker.NODES,
    *text_pair.NODES,
    *target.NODES,
    *sampling.NODES,
    *train.NODES,
    *calibrate.NODES,
    *apply.NODES,
    *stack.NODES,
    *prompts.NODES,
    *sweep.NODES,
    *finding.NODES,
    *files.NODES,
]
NODES = [worded(node) for node in NODES]
