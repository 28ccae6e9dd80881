"""Write docs/architectures.md: every architecture of ComfyUI, its layers, and what was measured on a tiny model of its class.

    python tools/make_architectures.py            (needs ComfyUI, as the host tests do; about ten minutes on two cores)

The families and their layers come from slider_core itself, the full-size models from tests/zoo, the figures from
tests/zoo/measure.py, which the host tests hold to their limits.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from rings import find_comfyui  # noqa: E402

HEAD = """# Which layers does a slider move in each model?

Which layers a slider moves, for every model of ComfyUI 0.33 that makes images, video or sound, and what was checked on each.
Written by `python tools/make_architectures.py`; the tests in `tests/host` hold the same (`test_architectures.py` and
`test_gradients.py`).

The rule is that of [SimpleTuner's slider guide](https://github.com/bghira/SimpleTuner): self-attention of the blocks that carry
image (or joint) tokens, the model's own input and output projection, and the time embedding where it is a plain MLP. What
carries only text stays alone: cross-attention, text refiners, caption projections, text encoders inside the model.

The preset `auto` of *Slider Target Injector* recognises the family from the model's own module names. A model that no family
knows is guessed from its structure, with a warning and the list. `reference` takes the guide's literal lists, by diffusers'
names translated into ComfyUI's, but for text; where those reach nothing it says so. `all` takes every Linear and convolution.

## Families and layers

Layers are counted on the model at full size, built without weights by ComfyUI's own classes from the configuration of the
released checkpoint. ComfyUI's own detection finds the class again in the shapes that were built, or another class of the same
layers where it goes by more than shapes. A star stands for a block's number. *rows* is the part of a fused output that moves:
the query, key and value rows.

"""
CHECKS = """
## What was checked on each

On a tiny model of each class, with random weights, through ComfyUI's own forward:

- **gradient**: the adapter's gradient against finite differences of the loss along three random directions, worst relative
  error; presets `auto` and `all`. In float64 where the class can compute in it (all but those marked 32).
- **checkpointed**: the gradient with checkpointing against the one without, worst factor.
- **strengths**: one sampling call with a strength per row (-1, 0, 0.5, 1) against four calls, largest relative difference,
  CFG 1 and 3.
- **in place**: the model changes tensors that autograd has saved; noticed at the first step, and survived at some cost in time.
- **one by one**: samples of one batch are mixed somewhere; noticed before the first step, and strengths then run separately.
- **blocks**: how many repeated parts checkpointing found in the tiny model. *once*: of these keep values between runs, and are
  computed once after all; *idle*: of these are not called (parts for other inputs, or called by another name). On SeedVR2 and
  WAN_Animate2 checkpointing saves nothing for that.

| family | model | gradient | checkpointed | strengths | in place | one by one | blocks |
|---|---|---|---|---|---|---|---|
"""
BEYOND = """
## Layers beyond the guide's list

The guide names layers as diffusers does. Where that list, translated, does not reach what it means, the row goes beyond it; each
such layer and the reason. Families that are not here have just the list's layers, or fewer.

"""
LEFT = """
## Layers that are left alone

Attention, time embeddings and the model's own ends that carry no text and that the row does not name, each with the reason.
`reference` takes some of them.

"""
TAIL = """
No model that makes images, video or sound: {excluded}.
"""
FORMATS_SECTION = "number formats"  # written by make_every_way.py, and kept when the rest of the page is written anew


def core(name: str) -> ModuleType:
    return importlib.import_module(f"slider_core.{name}")


def start(cpu: bool = True) -> None:
    """ComfyUI importable and quiet."""
    root = find_comfyui()
    if root is None:
        sys.exit("ComfyUI is needed: set COMFYUI_PATH.")
    sys.path.insert(0, str(root))
    sys.path.append(sys.path.pop(sys.path.index(str(ROOT))))  # ComfyUI first: the repository has a nodes/ too
    from comfy.cli_args import args

    args.cpu = cpu or not torch.cuda.is_available()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    import comfy.model_management  # noqa: F401 - once, before the models


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of that name; at its end where it has none."""
    begin, end = marks(name)
    if begin not in page:
        return f"{page.rstrip()}\n\n{begin}\n{text}\n{end}\n"
    head, rest = page.split(begin, 1)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"


def section(page: str, name: str) -> str:
    """What stands between the marks; empty without them."""
    begin, end = marks(name)
    return page.split(begin, 1)[1].split(end, 1)[0].strip("\n") if begin in page else ""


def shown(number: float) -> str:
    return "0" if number == 0 else f"{number:.0e}"


def table_of_families(full: Iterable[Any], build: Any) -> list[str]:
    """One row per family: its models with their counts, and the kinds of layers among them."""
    entries = list(full)
    lines = ["| family | models | layers | moves |", "|---|---|---|---|"]
    for family in core("layers.recognise").ARCHITECTURES:
        mine = [e for e in entries if e.family == family.name]
        if not mine:
            continue
        counts: dict[int, list[str]] = {}
        for entry in mine:
            counts.setdefault(entry.targets, []).append(entry.title)
        layers = "<br>".join(f"{count}: {', '.join(titles)}" for count, titles in counts.items())
        surveys = [core("layers.select").survey(build(entry).diffusion_model) for entry in mine]
        names = dict.fromkeys(re.sub(r" \(\d+\)$", "", kind) for found in surveys for kind in found.kinds())
        kinds = "<br>".join(f"`{name}`" for name in names)
        lines.append(f"| `{family.name}` | {family.title} | {layers} | {kinds} |")
    return lines


def table_beyond(full: Iterable[Any], build: Any) -> list[str]:
    """One row per family and reason: the layers that the guide's list does not reach."""
    from zoo.beyond import beyond

    kinds: dict[tuple[str, str], dict[str, None]] = {}
    for entry in full:
        row = next(a for a in core("layers.recognise").ARCHITECTURES if a.name == entry.family)
        for kind, why in beyond(row, core("layers.select").select(build(entry).diffusion_model)).items():
            kinds.setdefault((entry.family, why), {})[kind] = None
    lines = ["| family | layers | why |", "|---|---|---|"]
    lines += [f"| `{family}` | {'<br>'.join(f'`{k}`' for k in some)} | {why} |" for (family, why), some in kinds.items()]
    return lines


def table_left(full: Iterable[Any], build: Any) -> list[str]:
    """One row per family and reason: layers that the rule may be taken to mean and that the row leaves alone."""
    from zoo.beyond import left

    kinds: dict[tuple[str, str], dict[str, None]] = {}
    for entry in full:
        row = next(a for a in core("layers.recognise").ARCHITECTURES if a.name == entry.family)
        module = build(entry).diffusion_model
        targets = core("layers.select").select(module)
        for kind, why in left(row, core("layers.layer").layers(module), targets).items():
            kinds.setdefault((entry.family, why), {})[kind] = None
    lines = ["| family | layers | why |", "|---|---|---|"]
    lines += [f"| `{family}` | {'<br>'.join(f'`{k}`' for k in some)} | {why} |" for (family, why), some in kinds.items()]
    return lines


def row_of_checks(entry: Any) -> str:
    from zoo.measure import measure_gradients, strengths_deviate

    found = [measure_gradients(core, entry, preset) for preset in ("auto", "all")]
    strengths = max(strengths_deviate(core, entry, cfg) for cfg in (1.0, 3.0))
    auto = found[0]
    left = [f"{number} {word}" for number, word in ((auto.once, "once"), (auto.idle, "idle")) if number]
    cells = [
        f"`{entry.family}`",
        entry.title + ("" if entry.wide else " (32)"),
        ", ".join(shown(f.exact) for f in found),
        shown(max(f.checkpointed for f in found)),
        shown(strengths),
        "yes" if auto.in_place else "",
        "" if auto.apart else "yes",
        ", ".join([str(auto.blocks), *left]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "architectures.md")
    out = parser.parse_args().out
    start()
    from zoo.animals import EXCLUDED, FULL, TINY
    from zoo.model import build_full

    torch.manual_seed(0)
    lines = table_of_families(FULL, build_full)
    checks = []
    for entry in sorted(TINY, key=lambda e: [f.name for f in core("layers.recognise").ARCHITECTURES].index(e.family)):
        checks.append(row_of_checks(entry))
        print(checks[-1], flush=True)  # noqa: T201
    excluded = ", ".join(f"{name} ({reason})" for name, reason in EXCLUDED.items())
    formats = section(out.read_text("utf-8"), FORMATS_SECTION) if out.is_file() else ""
    beyond = "\n".join(table_beyond(FULL, build_full))
    alone = "\n".join(table_left(FULL, build_full))
    parts = [HEAD + "\n".join(lines), BEYOND + beyond, LEFT + alone, CHECKS + "\n".join(checks), TAIL.format(excluded=excluded)]
    page = "\n".join(parts)
    out.write_text(between(page, FORMATS_SECTION, formats) if formats else page, "utf-8")


if __name__ == "__main__":
    main()
