"""The nodes, in the order of use. What the system says to one of them reaches the user in words."""

import functools
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import in_words
from . import (
    apply,
    calibrate,
    dataset,
    dataset_options,
    demo,
    file_options,
    files,
    finding,
    pair_maker,
    pair_prompts,
    probe,
    prompts,
    report_card,
    sampling,
    schedule,
    stack,
    sweep,
    sweep_options,
    target,
    target_options,
    text_options,
    text_pair,
    train,
    train_options,
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
    *pair_prompts.NODES,
    *dataset_options.NODES,
    *text_pair.NODES,
    *text_options.NODES,
    *target.NODES,
    *target_options.NODES,
    *probe.NODES,
    *sampling.NODES,
    *train.NODES,
    *train_options.NODES,
    *calibrate.NODES,
    *apply.NODES,
    *schedule.NODES,
    *stack.NODES,
    *prompts.NODES,
    *sweep.NODES,
    *sweep_options.NODES,
    *report_card.NODES,
    *finding.NODES,
    *files.NODES,
    *file_options.NODES,
]
NODES = [worded(node) for node in NODES]
