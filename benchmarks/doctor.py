"""How often is the pair doctor right, on pictures that nobody of this project drew? docs/making-pairs.md quotes what this prints.

    pip download scikit-image --no-deps        # its wheel holds the photographs: unzip it, skimage/data
    npm install @dicebear/core@9 @dicebear/collection@9 @resvg/resvg-js@2
    python benchmarks/doctor.py --avatars FOLDER/OF/node_modules/.. --photos skimage/data --out /tmp/sets    # about 20 minutes

`--part held` judges the styles and photographs that no limit was chosen on; sets that lie in `--out` already are not made again.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import torch
from doctor_corpus import PARTS, make, truths

from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.data.pair_diagnosis import Kind, PairsReport
from slider_core.data.pairs_report import pairs_report

ADVICE = {"TOO_FEW", "CAPTIONS", "SIZE"}
RIGHT = {  # what is to be said of a set, or of some of its pairs
    "unpaired": "UNPAIRED",
    "shuffled": "UNPAIRED",
    "mispaired": "UNRELATED",
    "swapped": "WRONG_WAY",
    "faint": "WRONG_WAY",
    "shifted": "SHIFTED",
    "all shifted": "SHIFTED",
    "duplicate": "DUPLICATE",
    "identical": "IDENTICAL",
}
OF_STRANGERS = {"LIGHT", "SHARP", "SHIFTED"}  # may be true of two pictures that do not belong together
COMMON = 0.5  # mean cosine of the changes: above, what changes in all pairs is more than what changes in each alone


def _false(truth: dict, finding: tuple[str, str | None]) -> bool:
    """Whether a finding is not true of its set."""
    kind, pair = finding
    some, twins = ({f"{i + 1:02}" for i in truth[which]} for which in ("some", "twins"))
    if kind == "DUPLICATE" and pair in twins:
        return False
    if kind in ADVICE or kind in truth["says"] or (kind == "IDENTICAL" and truth["kind"] == "faint"):
        return False
    if kind == RIGHT.get(truth["kind"]):
        return not (pair is None or pair in some or truth["kind"] in ("all shifted", "unpaired", "shuffled"))
    if truth["kind"] in ("unpaired", "shuffled"):
        return kind not in ("UNRELATED", "DUPLICATE")  # strangers of a style may look the same
    return not (truth["kind"] == "mispaired" and pair in some and kind in OF_STRANGERS)


def _named(truth: dict, findings: Sequence[tuple[str, str | None]]) -> bool:
    """Whether what was done to a set is said: of the set, or of each pair that it was done to."""
    kind, right = truth["kind"], RIGHT.get(truth["kind"])
    if kind == "aligned":
        return True
    pairs = {pair for found, pair in findings if found == right}
    some = {f"{i + 1:02}" for i in truth["some"]}
    if kind == "all shifted":
        return None in pairs or len(pairs) * 2 > truth["count"]
    return None in pairs or (bool(pairs & some) if kind == "duplicate" else some <= pairs)


def _common(report: PairsReport, truth: dict) -> bool:
    """Whether the pairs, the right way round, have most of their change in common: the mean cosine of their small images."""
    signs = torch.ones(len(report.pairs))
    signs[truth["some"]] = -1
    change = torch.stack([pair.views[0, :3] - pair.views[1, :3] for pair in report.pairs]).flatten(1) * signs[:, None]
    change = change / change.norm(dim=1, keepdim=True).clamp_min(1e-9)
    count = len(change)
    return float((change @ change.T).sum() - count) / (count * (count - 1)) >= COMMON


def judge(out: Path, part: str, verbose: bool) -> None:
    sets: Counter[tuple[str, str]] = Counter()
    named: Counter[tuple[str, str]] = Counter()
    alarms: Counter[tuple[str, str]] = Counter()
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    contradicting: Counter[tuple[bool, bool]] = Counter()  # (with pairs the wrong way round, said to contradict each other)
    for folder, truth in truths(out):
        if truth["part"] != part:
            continue
        report = pairs_report(read_dataset(bucket_folders(folder)))[2]
        findings = [(finding.kind.name, finding.pair and finding.pair.split(".")[0]) for finding in report.findings]
        kind = truth["kind"]
        contradicting[kind in ("swapped", "faint"), bool(report.contradiction)] += 1
        if kind in ("swapped", "faint"):
            kind = "swapped, change " + ("above" if _common(report, truth) else "below") + " the noise"
        key = truth["source"], kind
        sets[key] += 1
        false = sorted({finding[0] for finding in findings if _false(truth, finding)})
        alarms[key] += bool(false)
        told = _named(truth, findings)
        if kind.endswith("below the noise"):
            told = told or any("cannot be told" in note for note in report.notes) or ("IDENTICAL" in dict(findings))
        named[key] += told
        for what in [*false, *([] if told else ["missed"])]:
            wrong[what].append(f"{folder.name} {truth['kind']} ({truth['what']}, {truth['count']} pairs)")
    print(f"| {part} | sets | said | with a false alarm |\n|---|---|---|---|")
    for source, kind in sorted(sets):
        key = source, kind
        print(f"| {source}s, {kind} | {sets[key]} | {named[key]} ({named[key] / sets[key]:.0%}) | {alarms[key]} |")
    total = sum(sets.values())
    print(f"| all | {total} | | {sum(alarms.values())} ({sum(alarms.values()) / total:.1%}) |")
    for swapped in (False, True):
        said, not_said = (contradicting[swapped, said] for said in (True, False))
        of = "with" if swapped else "without"
        print(f"contradict each other: said of {said} of {said + not_said} sets {of} pairs the wrong way round")
    for what, where in sorted(wrong.items()) if verbose else ():
        print(f"{what}: {len(where)}", *where, sep="\n    ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatars", type=Path, help="a folder with node_modules")
    parser.add_argument("--photos", type=Path, help="skimage/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=400, help="of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=[*PARTS], action="append")
    parser.add_argument("--verbose", action="store_true", help="what was wrong, set by set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not any(truths(args.out)):
        make(args.out, args.avatars, args.photos, args.sets, args.seed)
    for part in args.part or PARTS:
        judge(args.out, part, args.verbose)


if __name__ == "__main__":
    assert set(RIGHT.values()) <= {kind.name for kind in Kind}
    main()
