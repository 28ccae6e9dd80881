"""The nodes, in the order of use. An error of the system in one of them reaches the user in words."""

import functools
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import in_words
from ..slider_core.config.hosts import speak_as_nodes
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

speak_as_nodes()


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


ORDER = (
    demo, dataset, pair_maker, pair_prompts, dataset_options, text_pair, text_options, target, target_options, probe,
    sampling, train, train_options, calibrate, apply, schedule, stack, prompts, sweep, sweep_options, report_card, finding,
    files, file_options,
)  # fmt: skip
NODES = [worded(node) for module in ORDER for node in module.NODES]
