"""Write docs/model-nodes.md: what the pack makes of what other nodes put on a MODEL (needs ComfyUI; some minutes).

python tools/make_model_nodes.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from make_architectures import ROOT, core, start

HEAD = """# What becomes of other nodes on the MODEL?

What *Slider Train Step*, the sweep (and with it every preview) and *Slider LoRA Apply* make of what other nodes have put
on the MODEL before. Written by `python tools/make_model_nodes.py` on tiny models with random weights, ComfyUI 0.33. The oracle is
ComfyUI's own sampler on the same MODEL.

*Train*: the model call of training against one of the sampler's, in a batch of two.

- *as in the sampler*: it answers the same, with the node in force.
- *left out, named*: the node belongs to a whole sampling (guidance, skipped steps). The status of the training says so.
- *no part in a model call*: the node acts on the schedule, from which training draws its noise levels, or on guidance.

*Sweep, preview*: against a sampling for each strength. *As KSampler*: the pictures are the same. In brackets: whether all
strengths went through one sampling call, or one after another.

*Apply*: a live slider against a merged one. *Live as merged*: the pictures are the same.

Names with *as* in brackets are imitations of other packs' nodes.

| node | tried on | train | sweep, preview | Apply |
|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="*", help="titles of nodes to try, without writing the page; else all")
    only = parser.parse_args().nodes
    start()
    from zoo.model_nodes import NODES, measure_node

    rows = []
    for node in NODES:
        if only and node.title not in only:
            continue
        try:
            outcome = measure_node(core, node)
            cells = [node.title, node.tried_on, outcome.training, outcome.sweep, outcome.apply]
        except Exception as fault:
            cells = [node.title, node.tried_on, f"could not be tried: {type(fault).__name__} {str(fault)[:80]}", "", ""]
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)  # noqa: T201
    if not only:
        Path(ROOT / "docs" / "model-nodes.md").write_text(HEAD + "\n".join(rows) + "\n", "utf-8")


if __name__ == "__main__":
    main()
