"""Draw docs/images/gains.png: the learned share of three trainings on the built-in model, of which one goes well.

    python tools/make_gains.py          (some minutes on one core)

Each is trained on six pairs of open and closed eyes, with the default objective and a rate of its own; the verdicts are said.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from PIL import Image  # noqa: E402
from quality import images  # noqa: E402

from slider_core.canvas import PAPER  # noqa: E402
from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.training import TrainSpec  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.use.plot_curves import PANEL, draw_training  # noqa: E402
from slider_core.use.sweep_export import png  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

OUT = ROOT / "docs" / "images" / "gains.png"
STEPS, EVERY, WIDTH = 180, 10, 640
RATES = {"the learning rate that is found": 0.0, "learning rate 0.03": 0.03, "learning rate 0.000001": 1e-6}


def trained(rate: float) -> Trainer:
    """A slider of the eyes after STEPS steps."""
    model, spec = TinyBackend(), AdapterSpec()
    samples = images(model, "eyes", 6, 0, unpaired=False)
    adapter = Adapter.create(model.module, survey(model.module, spec).targets, spec)
    trainer = Trainer(adapter, samples, TrainSpec(steps=STEPS, lr=rate))
    trainer.run(model, STEPS, read_every=EVERY)
    return trainer


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    panels = []
    for name, rate in RATES.items():
        trainer = trained(rate)
        sys.stdout.write(f"{name}: {trainer.verdict()}\n")
        whole = draw_training(trainer.losses, trainer.readings, name)
        panels.append(whole.crop((0, 0, *PANEL)).resize((WIDTH, WIDTH * PANEL[1] // PANEL[0]), Image.Resampling.LANCZOS))
    picture = Image.new("RGB", (WIDTH, sum(p.height for p in panels)), PAPER)
    for number, panel in enumerate(panels):
        picture.paste(panel, (0, number * panel.height))
    OUT.write_bytes(png(picture))


if __name__ == "__main__":
    main()
