"""Draw docs/images/worlds.jpg: a slider of each world of the benchmarks at five strengths, its first held-out noises in rows.

    OMP_NUM_THREADS=1 python tools/make_world_strips.py          (about a minute and a half for each world)

Every slider is trained as the exam trains (benchmarks/exam.py): six pairs, seed 0, the default objective and its found rate, and
drawn at calibrated strengths. Nothing is picked. A world whose weights are not there is left out and named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from exam import World, measured, trained  # noqa: E402
from PIL import Image  # noqa: E402

from slider_core.canvas import PAPER  # noqa: E402
from slider_core.use.plot_grids import Legend, draw_strip  # noqa: E402

SHOWN = (("heads", "eye"), ("latent heads", "smile"), ("avatars", "glasses"), ("avatars", "hair"))
STRENGTHS, NOISES, CELL = (-2.0, -1.0, 0.0, 1.0, 2.0), 3, 96


def strip(name: str, attribute: str, steps: int) -> Image.Image:
    """Rows: noises; columns: strengths."""
    world = World(name)
    samples = world.samples(attribute, 0)
    trainer = trained(world, samples, 0, steps, {})
    unit = measured(world, trainer)[1].unit
    columns = [world.drawn(trainer.adapter, strength * unit)[:NOISES] for strength in STRENGTHS]
    pictures = torch.stack(columns, dim=1)  # (rows, columns, 3, H, W)
    rows = [f"noise {number}" for number in range(NOISES)]
    return draw_strip(pictures, Legend(STRENGTHS, rows, f"{name}: {attribute}"), CELL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "worlds.jpg")
    args = parser.parse_args()
    drawn = []
    for name, attribute in SHOWN:
        try:
            drawn.append(strip(name, attribute, args.steps))
        except (FileNotFoundError, SystemExit) as error:
            sys.stderr.write(f"{name} is left out: {error}\n")
    width, height = max(picture.width for picture in drawn), max(picture.height for picture in drawn)
    page = Image.new("RGB", (2 * width, -(-len(drawn) // 2) * height), PAPER)
    for number, picture in enumerate(drawn):
        page.paste(picture, (number % 2 * width, number // 2 * height))
    page.save(args.out, quality=88)


if __name__ == "__main__":
    main()
