"""Write the table of number formats into docs/architectures.md: one slider in every way, on weights in every format (needs
ComfyUI; an hour).

    python tools/make_every_way.py            measures the families that benchmarks/every_way.json lacks, then writes the page
    python tools/make_every_way.py wan flux   measures these anew

The figures are kept in that file after each family, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from make_architectures import FORMATS_SECTION, ROOT, between, core, shown, start

RESULTS = ROOT / "benchmarks" / "every_way.json"
PRESETS = ("auto", "all")
HEAD = """
## Every way, on every number format

A slider with random weights on a tiny model of each family, by `python tools/make_every_way.py`, ComfyUI {host} on a CPU, with
the presets `auto` and `all`, of which the worse is shown. The first figure: the model's answer in a sweep and by a live slider
against that of training, the worse of the two (LTX in 16 bits rounds otherwise in training, without a slider too). The second:
that of a merged slider. Both are shares of the slider's effect. A layer that was not reached would show as 1e-01 or more in the
first figure. In the second ComfyUI quantises the changed weight anew, so what is left there is the rounding of the format, which
live mode spares; *held* is the smallest share of a layer's change that its merged weight has, over all layers: 1 but for
rounding, 0 where one was left out. Families marked * have layers whose weights ComfyUI reads past them in one of the formats:
they are reached in another way. A dash: not compared (the imitated GGUF loader merges by itself; a prompt's layers move by
merging only).

*fp8*: raw weights, cast at each call. With scales the weights are packed, and the product of a layer is computed either from the
numbers that they stand for, which is ComfyUI's choice for nvfp4 and mxfp8 on a CPU and on cards before Blackwell, or from packed
weights and a packed input (*scaled fp8*, and the columns *product*). A CPU has no kernel for the products of nvfp4 and
mxfp8{without}: comfy-kitchen's own fallback has computed them, from the numbers that both stand for.

"""


def measured(entry: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """format -> preset -> figures."""
    from zoo.every_way import FORMATS, UNMERGED, measure_every_way, refused_by_host

    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for form in FORMATS:
        if fault := refused_by_host(core, entry, form):
            figures[form] = {"host": {"says": fault}}
            continue
        for preset in PRESETS:
            outcome = measure_every_way(core, entry, form, preset)
            beside = max(outcome.sweep, outcome.live)
            merged = None if "prompt" in outcome.past or form in UNMERGED else outcome.merged
            cell: dict[str, Any] = {"beside": beside, "merged": merged, "held": outcome.held, "rounding": outcome.rounding}
            cell["past"] = outcome.past
            figures.setdefault(form, {})[preset] = cell
    return figures


def no_kernel() -> str:
    """What this device says of the product of packed tensors."""
    import torch
    from zoo.quantised import quantised

    try:
        with torch.inference_mode():
            quantised("nvfp4", product=True)(torch.nn.Linear(32, 32))(torch.zeros(1, 32))
    except (RuntimeError, ValueError) as fault:
        return f' (here: "{fault}")'
    return ""


def row(family: str, figures: dict[str, dict[str, dict[str, Any]]], forms: list[str]) -> str:
    from zoo.every_way import HELD, LIMITS

    cells = []
    past = False
    for form in forms:
        if "host" in figures[form]:
            cells.append("none")
            continue
        of_form = figures[form].values()
        past = past or any("past" in one["past"] or "fused" in one["past"] for one in of_form)
        merged = [one["merged"] for one in of_form if one["merged"] is not None]
        limit, limit_merged = (limit + 2 * max(one.get("rounding", 0) for one in of_form) for limit in LIMITS[form])
        within = max(one["beside"] for one in of_form) < limit and max(merged, default=0) < limit_merged
        within = within and min(one["held"] for one in of_form) > HELD
        mark = "" if within else " **over its limit**"
        cells.append(f"{shown(max(one['beside'] for one in of_form))}, {shown(max(merged)) if merged else '-'}{mark}")
    return f"| `{family}`{' *' if past else ''} | {' | '.join(cells)} |"


def held_row(results: dict[str, Any], forms: list[str]) -> str:
    from zoo.every_way import UNMERGED

    cells = []
    for form in forms:
        shares = [one["held"] for family in results.values() for one in family[form].values() if "held" in one]
        cells.append("-" if form in UNMERGED else f"{min(shares):.2f}")
    return f"| *held* | {' | '.join(cells)} |"


def refusals(results: dict[str, Any], forms: list[str]) -> str:
    """What ComfyUI says where a model in a format does not run at all."""
    lines = []
    for family, figures in results.items():
        for form in forms:
            if "host" in figures[form]:
                lines.append(f"- `{family}`, {form}: {figures[form]['host']['says']}")
    return (
        "\n\nNone: there the model does not run in ComfyUI on a CPU, without a slider either.\n\n" + "\n".join(lines)
        if lines
        else ""
    )


def table(results: dict[str, Any], forms: list[str]) -> str:
    lines = [f"| family | {' | '.join(forms)} |", "|---" * (1 + len(forms)) + "|"]
    lines += [row(family, figures, forms) for family, figures in results.items()]
    return "\n".join([*lines, held_row(results, forms)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    families = parser.parse_args().families
    start()
    from comfyui_version import __version__
    from zoo.animals import ONE_PER_FAMILY
    from zoo.every_way import FORMATS

    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    for entry in ONE_PER_FAMILY:
        stale = set(results.get(entry.family, ())) != set(FORMATS)
        if entry.family in families or (stale and not families):
            results[entry.family] = measured(entry)
            lines = [f"{json.dumps(family)}: {json.dumps(figures)}" for family, figures in results.items()]
            RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
            print(row(entry.family, results[entry.family], list(FORMATS)), flush=True)  # noqa: T201
    page = ROOT / "docs" / "architectures.md"
    head = HEAD.format(host=__version__, without=no_kernel())
    count = f"\n\n{len(results)} families of {len(ONE_PER_FAMILY)} ({time.strftime('%-d %B %Y')}).\n"
    text = head + table(results, list(FORMATS)) + refusals(results, list(FORMATS)) + count
    page.write_text(between(page.read_text("utf-8"), FORMATS_SECTION, text), "utf-8")


if __name__ == "__main__":
    main()
