"""Write docs/number-formats.md: one slider in every way on weights in every number format (needs ComfyUI; half an hour).

python tools/make_every_way.py [family ...]
"""

from __future__ import annotations

import sys

from make_architectures import ROOT, core, shown, start

HEAD = """# Every way, on every number format

A slider with random weights on a tiny model of each family, by `python tools/make_every_way.py`, ComfyUI 0.33 on a CPU: the
model's answer in a sweep and by a live slider against that of training, and by a merged slider, as shares of the slider's
effect; the worse of the presets `auto` and `all`. *beside*: sweep and live. *merged*: ComfyUI quantises the changed weight anew,
so what is left there is the rounding of the format, which `live` spares. A layer that was not reached would show as 1e-01 or more
under *beside*. Families marked * have layers whose weights ComfyUI reads past them in one of the formats: they are reached in
another way.
nvfp4 and mxfp8 are packed for a GPU only and were not tried; a dash is a way that could not be compared (the imitated GGUF loader
merges by itself; a prompt's layers move by merging only).

"""


def main() -> None:
    start()
    from zoo.animals import TINY
    from zoo.every_way import FORMATS, measure_every_way

    forms = [form for form in FORMATS if form not in ("nvfp4", "mxfp8")]
    entries = {entry.family: entry for entry in reversed(TINY)}
    chosen = sys.argv[1:] or list(entries)
    lines = [f"| family | {' | '.join(f'{form}: beside, merged' for form in forms)} |", "|---" * (1 + len(forms)) + "|"]
    for family in chosen:
        cells, past = [], ""
        for form in forms:
            outcomes = [measure_every_way(core, entries[family], form, preset) for preset in ("auto", "all")]
            past += "".join(outcome.past for outcome in outcomes)
            beside = max(max(outcome.sweep, outcome.live) for outcome in outcomes)
            merged = [outcome.merged for outcome in outcomes if "prompt" not in outcome.past and form != "GGUF"]
            cells.append(f"{shown(beside)}, {shown(max(merged)) if merged else '-'}")
        lines.append(f"| `{family}`{' *' if 'past' in past or 'fused' in past else ''} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)  # noqa: T201
    if not sys.argv[1:]:
        (ROOT / "docs" / "number-formats.md").write_text(HEAD + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
