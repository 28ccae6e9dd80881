"""The nodes, in the order of use."""

from . import apply, calibrate, dataset, demo, files, finding, prompts, sampling, stack, sweep, target, text_pair, train

NODES = [
    *demo.NODES,
    *dataset.NODES,
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
