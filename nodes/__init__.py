"""The nodes, in the order of use."""

from . import apply, calibrate, dataset, demo, files, live_preview, stack, sweep, target, train

NODES = [
    *demo.NODES,
    *dataset.NODES,
    *target.NODES,
    *live_preview.NODES,
    *train.NODES,
    *calibrate.NODES,
    *apply.NODES,
    *stack.NODES,
    *sweep.NODES,
    *files.NODES,
]
