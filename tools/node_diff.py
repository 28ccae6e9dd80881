"""Would workflows saved with one checkout still load in another?

    python tools/node_diff.py BASE NEW      compare the nodes of two checkouts; exit code 1 when something would break
    python tools/node_diff.py --dump ROOT   only print what is compared, as JSON

A saved workflow keeps the values of a node's widgets by position, its links by the number of the output, and choices by their
text. So nodes, inputs, outputs and choices may be added at the end, and none may go, move or change its type.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from make_locales import load_nodes

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR")


def described(node: Any) -> dict[str, Any]:
    """Inputs in order as [name, type, choices], and the types of the outputs."""
    info = node.GET_NODE_INFO_V1()
    given = [(name, *value) for group in ("required", "optional") for name, value in info["input"].get(group, {}).items()]
    order = [name for group in ("required", "optional") for name in info["input_order"].get(group, ())]
    given.sort(key=lambda one: order.index(one[0]))
    inputs = [[name, kind, options.get("options", []) if kind == "COMBO" else []] for name, kind, options in given]
    return {"inputs": inputs, "outputs": list(info["output"])}


def breaks(base: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One line for each thing of `base` that would not fit in `new`."""
    lines = [f"{name}: the node is gone" for name in base if name not in new]
    for name in base.keys() & new.keys():
        lines += [f"{name}: {line}" for line in node_breaks(base[name], new[name])]
    return sorted(lines)


def node_breaks(base: dict[str, Any], new: dict[str, Any]) -> list[str]:
    there = {name: (kind, choices) for name, kind, choices in new["inputs"]}
    lines = []
    for name, kind, choices in base["inputs"]:
        if name not in there:
            lines.append(f"the input {name} is gone")
        elif there[name][0] != kind:
            lines.append(f"the input {name} was {kind} and is {there[name][0]}")
        else:
            lines += [f"the input {name} has no choice {choice} any more" for choice in choices if choice not in there[name][1]]
    old, now = ([name for name, kind, _ in side["inputs"] if kind in WIDGETS] for side in (base, new))
    kept = [name for name in old if name in now]
    if any(now.index(a) > now.index(b) for a, b in pairwise(kept)) or now[: len(kept)] != kept:
        lines.append(f"the widgets are in another order: {', '.join(now)}; they were {', '.join(old)}")
    if new["outputs"][: len(base["outputs"])] != base["outputs"]:
        lines.append(f"the outputs were {', '.join(base['outputs'])} and are {', '.join(new['outputs'])}")
    return lines


def dumped(checkout: str) -> dict[str, Any]:
    """The definitions of a checkout, read in a process of its own: two checkouts share their module names."""
    command = [sys.executable, __file__, "--dump", checkout]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", metavar="CHECKOUT")
    parser.add_argument("--dump", action="store_true")
    options = parser.parse_args()
    if options.dump:
        nodes = load_nodes(Path(options.checkouts[0]).resolve())
        sys.stdout.write(json.dumps({node.GET_SCHEMA().node_id: described(node) for node in nodes}) + "\n")
        return 0
    found = breaks(*map(dumped, options.checkouts))
    sys.stdout.write("\n".join([*found, f"{len(found)} things would break saved workflows"]) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
