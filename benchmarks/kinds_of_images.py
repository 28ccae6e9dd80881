"""Images that do not line up, and neutral images beside the pairs, on every measurable world.

    DICEBEAR_PATH=... python benchmarks/kinds_of_images.py --seeds 3        # goes on where it was stopped
    python benchmarks/kinds_of_images.py --report                           # the tables of what was measured so far
    python benchmarks/kinds_of_images.py --found 20                         # which sets are found to line up; trains nothing

The default objective in 150 steps, on the attributes that are for tuning (exam.py); of the avatars one, which is told and chooses
nothing. Every line of one attribute and seed has the same subjects:

    pairs             six pairs, each subject at both ends
    shuffled          the same twelve images, no two of one subject side by side; trained as they are found
    shuffled, random  where they are found to line up: the same with the pairing `random`, which says that they do not
    others            the negative images show other subjects; trained as they are found
    others, random    where they are found to line up: the same with the pairing `random`
    weight 0          six pairs of one kind (skin or hair), every third step of 12 neutral images of the other kinds, which
                      count nothing
    weight 1          the same, and neutral images count as much as pairs do
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results import keep, kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(Path(__file__).parent / "worlds")]

import exam  # noqa: E402
import torch  # noqa: E402

from slider_core.encode.alignment import line_up  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.with_tiny import faces, faces_pairs  # noqa: E402
from slider_core.with_tiny.model_sweep import held_out_caption  # noqa: E402

ATTRIBUTES = {name: some for name, some in exam.TUNING.items() if some} | {"avatars": ("mouth",)}
STEPS, PAIRS, NEUTRAL = 150, 6, 12
# of each line: how its images are arranged, what neutral images count (None: there are none)
LINES: dict[str, tuple[str, float | None]] = {
    "pairs": ("pairs", None),
    "shuffled": ("shuffled", None),
    "shuffled, random": ("shuffled", None),
    "others": ("others", None),
    "others, random": ("others", None),
    "weight 0": ("one kind", 0.0),
    "weight 1": ("one kind", 1.0),
}
RANDOM = ", random"
OF_A_KIND = ("weight 0", "weight 1")
APART = tuple(line for line in LINES if line not in OF_A_KIND)
KEY = ("world", "attribute", "line", "seed")
Subject = Any  # a face, the numbers and hair of a head, an avatar's options


@dataclass(frozen=True)
class Kinds:
    """What a world is made of. `kinds`: the first is the pairs', the others the neutral images'; `says`: a prompt of a kind."""

    kinds: Sequence[str]
    says: Callable[[str], str]
    subjects: Callable[[int, int], list[Subject]]  # (count, seed)
    of_kind: Callable[[Subject, str], Subject]
    at_end: Callable[[Subject, str, int], Subject]
    render: Callable[[Sequence[Subject]], torch.Tensor]
    caption: Callable[[Subject], str]
    prompt: Callable[[int], str]  # what is drawn from a seed's noise


def kinds_of(world: exam.World) -> Kinds:
    if world.name == "faces":
        return _faces()
    return _avatars(world) if world.name == "avatars" else _heads(world)


def _own_first(names: Sequence[str], own: str) -> list[str]:
    return [own, *(name for name in names if name != own)]


def _faces() -> Kinds:
    return Kinds(
        _own_first(list(faces.SKINS), "tan"),
        lambda kind: f"{kind} skin",
        lambda count, seed: faces.sample_faces(count, torch.Generator().manual_seed(seed)),
        lambda face, kind: replace(face, skin=kind),
        faces_pairs.at_extreme,
        faces.render,
        lambda face: face.caption,
        held_out_caption,
    )


def _heads(world: exam.World) -> Kinds:
    import heads

    latent = world.name == "latent heads"

    def subjects(count: int, seed: int) -> list[Subject]:
        return list(zip(*heads.heads(count, torch.Generator().manual_seed(seed)), strict=True))

    def at_end(head: Subject, attribute: str, sign: int) -> Subject:
        numbers = head[0].clone()
        numbers[heads.NUMBERS.index(attribute)] = sign * heads.EXTREME
        return numbers, head[1]

    return Kinds(
        _own_first(list(heads.HAIRS), "blond"),
        lambda kind: f"{kind} hair",
        subjects,
        lambda head, kind: (head[0], torch.tensor(list(heads.HAIRS).index(kind))),
        at_end,
        lambda some: heads.render(torch.stack([head[0] for head in some]), torch.stack([head[1] for head in some])),
        lambda head: world.module.caption(head[0], int(head[1])) if latent else heads.caption(int(head[1])),
        world.module._prompt if latent else world.model.prompt,
    )


def _avatars(world: exam.World) -> Kinds:
    module = world.module

    def of_kind(avatar: Subject, kind: str) -> Subject:
        return avatar | {"skinColor": [module.SKINS[kind]], "words": (kind, avatar["words"][1])}

    return Kinds(
        _own_first(list(module.SKINS), "tan"),
        lambda kind: f"{kind} skin",
        module.avatars,
        of_kind,
        module.at_end,
        lambda some: module.draw(some).float() / 255,
        module.caption,
        world.model.prompt,
    )


def samples_of(world: exam.World, kinds: Kinds, attribute: str, seed: int, line: str) -> list[Sample]:
    """A line's encoded images."""
    arrangement, neutral = LINES[line]
    every = kinds.subjects(2 * PAIRS, 100 + seed)
    if arrangement == "one kind":
        every = [kinds.of_kind(one, kinds.kinds[0]) for one in every]
    plus = every[:PAIRS]
    minus = every[PAIRS:] if arrangement == "others" else plus
    if arrangement == "shuffled":
        minus = [*plus[1:], plus[0]]
    sides = [[kinds.at_end(one, attribute, sign) for one in side] for sign, side in ((1, plus), (-1, minus))]
    latents = [world.model.encode_images(kinds.render(side)) for side in sides]
    aligned = line_up(*latents)
    random = line.endswith(RANDOM)
    samples = []
    for sign, side, latent in zip((1.0, -1.0), sides, latents, strict=True):
        for number, (one, picture) in enumerate(zip(side, latent, strict=True)):
            cond = world.model.encode_prompt(kinds.caption(one))
            samples.append(Sample(picture, cond, sign, None if random else number, aligned=aligned and not random))
    return samples if neutral is None else samples + _neutral(world, kinds, seed)


def _neutral(world: exam.World, kinds: Kinds, seed: int) -> list[Sample]:
    """Images of the other kinds, as many of each as of the next."""
    others = itertools.cycle(kinds.kinds[1:])
    some = [kinds.of_kind(one, next(others)) for one in kinds.subjects(NEUTRAL, 3000 + seed)]
    latents = world.model.encode_images(kinds.render(some))
    samples = []
    for one, picture in zip(some, latents, strict=True):
        samples.append(Sample(picture, world.model.encode_prompt(kinds.caption(one)), 0.0, None, aligned=False))
    return samples


def held_out(kinds: Kinds, own: bool) -> list[int]:
    """Seeds whose prompt names the kind of the pairs, or another."""
    name = kinds.says(kinds.kinds[0])
    fitting = (seed for seed in itertools.count() if (name in kinds.prompt(seed)) == own)
    return list(itertools.islice(fitting, exam.HELD_OUT))


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One slider, drawn with the prompts of its pairs' kind where they have one, and at +-1 with those of the other kinds."""
    world = exam.World(task["world"])
    kinds, attribute = kinds_of(world), task["attribute"]
    arrangement, neutral = LINES[task["line"]]
    samples = samples_of(world, kinds, attribute, task["seed"], task["line"])
    start = time.monotonic()
    trainer = exam.trained(world, samples, task["seed"], STEPS, {"neutral_weight": neutral or 0.0})
    seconds = round(time.monotonic() - start, 1)
    if arrangement == "one kind":
        world.seeds = held_out(kinds, own=True)
    found = exam.judged(world, trainer, attribute)
    more: dict[str, Any] = {"aligned": samples[0].aligned, "rate": trainer.rate, "seconds": seconds}
    if arrangement == "one kind":
        world.seeds = held_out(kinds, own=False)
        more["share of others"] = world.curve(trainer.adapter, found["unit"], (-1.0, 0.0, 1.0)).effect(attribute) / world.gap
    return task | found | more


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _is_known_apart(task: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether the images of this line were found not to line up without being told."""
    found = {_key(row): row["aligned"] for row in rows}
    plain = task | {"line": task["line"].removesuffix(RANDOM)}
    return plain != task and not found.get(_key(plain), True)


def _groups(rows: list[dict[str, Any]], lines: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Rows of one world, attribute and line, in the order of the tables."""
    found = []
    for world, some in ATTRIBUTES.items():
        for attribute, line in itertools.product(some, lines):
            group = [r for r in rows if (r["world"], r["attribute"], r["line"]) == (world, attribute, line)]
            if group:
                found.append(sorted(group, key=lambda row: row["seed"]))
    return found


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(cells) + " |" for cells in (heads, *lines)]
    return "\n".join([rows[0], "|---" * len(heads) + "|", *rows[1:]])


def apart_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: pairs, and the same images not lined up."""
    heads = ("attribute", "images", "share at +-1", "by seed", "largest", "leak at 20%", "leak at 40%", "monotone +-2", "R2")
    lines = []
    for some in _groups(rows, APART):
        first = some[0]
        cells = [f"{first['world']}' {first['attribute']}", first["line"], exam.mean([r["share"] for r in some], ".2f")]
        cells.append(", ".join(f"{r['share']:.2f}" for r in some))
        cells.append(exam.mean([r["largest"] for r in some], ".2f"))
        cells += [exam.mean([r["leak"][str(e)] for r in some]) for e in exam.EQUAL]
        cells.append(f"{sum(r['monotone'] for r in some)} of {len(some)}")
        cells.append(exam.mean([r["linearity"] for r in some]))
        lines.append(cells)
    return _table(heads, lines)


def neutral_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what a slider does to pictures of its pairs' kind, and to those of the neutral images'."""
    heads = (
        "attribute",
        "neutral images count",
        "share at +-1",
        "of the other kinds",
        "part of it",
        "leak at 20%",
        "leak at 40%",
    )
    lines = []
    for some in _groups(rows, OF_A_KIND):
        first = some[0]
        own = statistics.mean(r["share"] for r in some)
        others = statistics.mean(r["share of others"] for r in some)
        cells = [f"{first['world']}' {first['attribute']}", first["line"], f"{own:.2f}", f"{others:.2f}", f"{others / own:.0%}"]
        lines.append(cells + [exam.mean([r["leak"][str(e)] for r in some]) for e in exam.EQUAL])
    return _table(heads, lines)


def found_table(worlds: Sequence[str], seeds: int) -> str:
    """Markdown: how many sets of images are found to line up, of `seeds` of every attribute."""
    heads = ("world", *(line for line in APART if not line.endswith(RANDOM)))
    lines = []
    for name in worlds:
        world = exam.World(name)
        kinds = kinds_of(world)
        cells = [name]
        for line in heads[1:]:
            every = list(itertools.product(ATTRIBUTES[name], range(seeds)))
            known = sum(samples_of(world, kinds, attribute, seed, line)[0].aligned for attribute, seed in every)
            cells.append(f"{known} of {len(every)}")
        lines.append(cells)
    return _table(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(ATTRIBUTES), default=list(ATTRIBUTES))
    parser.add_argument("--lines", nargs="+", choices=list(LINES), default=list(LINES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--found", type=int, help="train nothing: of so many seeds, how many sets are found to line up")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "kinds_of_images.jsonl")
    args = parser.parse_args()
    if args.found:
        print(found_table(args.worlds, args.found))
        return
    rows = kept(args.out)
    done = set(map(_key, rows))
    for seed, world, line in itertools.product(range(args.seeds), args.worlds, args.lines):
        for attribute in ATTRIBUTES[world]:
            task = {"world": world, "attribute": attribute, "line": line, "seed": seed}
            if args.report or _key(task) in done or _is_known_apart(task, rows):
                continue
            row = run(task)
            keep(args.out, row)
            rows.append(row)
            sys.stderr.write(f"{world} {attribute} {line} {seed}: share {row['share']:.2f}, {row['seconds']} s\n")
    print(f"{apart_table(rows)}\n\n{neutral_table(rows)}")


if __name__ == "__main__":
    main()
