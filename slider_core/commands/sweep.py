"""sweep: images over strengths and seeds on the embedded model, measured; or each entry of a prompt library."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..config.checks import need
from ..config.sweep import SweepSpec, parse_strengths
from ..lora.safe_files import atomic_write, check_writable
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider, load_slider
from ..use.plot_curves import label
from ..use.plot_grids import draw_strip, to_pil
from ..use.prompt_library import read_prompts
from ..use.sweep_export import as_json, png
from ..with_tiny.model import TinyBackend
from ..with_tiny.model_sweep import draw_prompts, measured_sweep, table
from .options import Commands, Shared, say, say_left_out, strict, whole_number


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("sweep", parents=shared, help="images over strengths and seeds, measured")
    command.add_argument("--slider", type=Path, required=True)
    strict(command)
    command.add_argument("--strengths", default="-2,-1,0,1,2", help="-2,-1,0,1,2 or start:stop:step (write --strengths=-2,...)")
    command.add_argument("--raw", action="store_true", help="strengths of the file, not calibrated ones")
    command.add_argument("--seeds", type=whole_number(1000), default=4, help="how many held-out seeds")
    command.add_argument("--prompt", default="", help="one prompt for all; without it every seed has its own")
    command.add_argument("--prompts", type=Path, help="a prompt library (JSON): each entry at its own strength, no sweep")
    command.add_argument("--strength", type=float, default=1.0, help="of the library's entries without an adapter_strength")
    command.add_argument("--sample-steps", type=whole_number(1000), default=SweepSpec.steps)
    command.add_argument("--cfg", type=float, default=SweepSpec.cfg)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    strengths = parse_strengths(args.strengths)
    distinct = len({label(s) for s in strengths}) == len(strengths)
    need(distinct, f'Strengths "{args.strengths}" hold the same number twice: name each once.', "sweep.strengths_twice")
    spec = SweepSpec(strengths, tuple(range(args.seeds)), prompt=args.prompt, steps=args.sample_steps, cfg=args.cfg)
    library = read_prompts(args.prompts) if args.prompts else None
    backend = TinyBackend()
    slider = load_slider(args.slider, args.strict).cut().on(backend.module)
    say_left_out(slider)
    if library is None:
        return _sweep(args, spec, slider, backend)
    say(library.summary(args.strength))
    spec = dataclasses.replace(spec, strengths=(args.strength,))
    return draw_prompts(library, args.strength, backend, slider, spec, None if args.raw else slider.info, args.out)


def _sweep(args: argparse.Namespace, spec: SweepSpec, slider: Slider, backend: TinyBackend) -> dict[str, Any]:
    adapter = Adapter.from_weights(backend.module, slider.weights)
    check_writable(args.out, "strip.png", "sweep.json")
    result, curve = measured_sweep(backend, adapter, spec, None if args.raw else slider.info)
    report = {
        "slider": str(args.slider),
        "strengths": list(spec.strengths),
        "seeds": list(spec.seeds),
        "mean": curve.mean,
        "kept": curve.kept,
    }
    for row, seed in enumerate(spec.seeds):
        for column, strength in enumerate(spec.strengths):
            name = f"seed{seed}_strength{label(strength)}.png"
            atomic_write(args.out / name, png(to_pil(result.images[row, column])), overwrite=True)
    strip = draw_strip(result.images, spec.strengths, result.names(), args.slider.stem, cell=128)
    atomic_write(args.out / "strip.png", png(strip), overwrite=True)
    atomic_write(args.out / "sweep.json", as_json(report, indent=1).encode(), overwrite=True)
    say(table(spec.strengths, curve.mean, curve.kept))
    say(f"Wrote {args.out / 'strip.png'}, sweep.json and {len(spec.strengths) * len(spec.seeds)} images.")
    return report
