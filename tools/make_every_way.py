"""Write the table of number formats into docs/architectures.md: one slider in every way, on weights in every format (needs
ComfyUI; some minutes).

python tools/make_every_way.py [family ...]
"""

from __future__ import annotations

import sys

from make_architectures import FORMATS_SECTION, ROOT, between, core, shown, start

HEAD = """
## Every way, on every number format

A slider with random weights on every Linear and convolution (preset `all`) of a tiny model of each family, by
`python tools/make_every_way.py`, ComfyUI 0.33 on a CPU: the model's answer in a sweep and by a live slider against that of
training (first figure, the worse of the two), and by a merged slider (second), as shares of the slider's effect. A layer that
was not reached would show as 1e-01 or more in the first figure. In the second ComfyUI quantises the changed weight anew, so what
is left there is the rounding of the format, which live mode spares. Families marked * have layers whose weights ComfyUI reads
past them in one of the formats: they are reached in another way. A dash: not compared (the imitated GGUF loader merges by itself;
a prompt's layers move by merging only). nvfp4 and mxfp8 are packed for a GPU only and were not tried.

"""
NOT_ON_A_CPU = ("nvfp4", "mxfp8")


def row(family: str, entry: object, forms: list[str]) -> str:
    from zoo.every_way import measure_every_way

    cells, past = [], ""
    for form in forms:
        outcome = measure_every_way(core, entry, form, "all")
        past += outcome.past
        merged = "-" if "prompt" in outcome.past or form == "GGUF" else shown(outcome.merged)
        cells.append(f"{shown(max(outcome.sweep, outcome.live))}, {merged}")
    return f"| `{family}`{' *' if 'past' in past or 'fused' in past else ''} | {' | '.join(cells)} |"


def main() -> None:
    start()
    from zoo.animals import TINY
    from zoo.every_way import FORMATS

    forms = [form for form in FORMATS if form not in NOT_ON_A_CPU]
    entries = {entry.family: entry for entry in reversed(TINY)}
    lines = [f"| family | {' | '.join(forms)} |", "|---" * (1 + len(forms)) + "|"]
    for family in sys.argv[1:] or entries:
        lines.append(row(family, entries[family], forms))
        print(lines[-1], flush=True)  # noqa: T201
    if not sys.argv[1:]:
        page = ROOT / "docs" / "architectures.md"
        page.write_text(between(page.read_text("utf-8"), FORMATS_SECTION, HEAD + "\n".join(lines) + "\n"), "utf-8")


if __name__ == "__main__":
    main()
