"""calibrate: what the strengths of a saved slider mean, measured on images, and the slider rescaled to it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..config.checks import choice, values_of
from ..config.lora import FileDtype, FileFormat
from ..lora.safe_files import check_writable
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import load_slider
from ..train.calibration import calibrated
from ..train.measurement import measure_any
from ..train.progress_verdict import strengths_found
from .datasets import add_dataset, add_text_options, training_data
from .hosts import add_host, opened
from .options import Commands, Shared, add_strict, need_ending, number_or_0, refuse_existing, say, say_left_out, seed_number
from .train import encoding


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("calibrate", parents=shared, help="make strength 1 of a slider what images show")
    add_host(command)
    add_dataset(command)
    add_text_options(command)
    command.add_argument("--slider", type=Path, required=True, help="a slider, or any LoRA")
    add_strict(command)
    command.add_argument("--seed", type=seed_number, default=0, help="noise of the measurement")
    command.add_argument("--resolution", type=number_or_0, default=0, help="pixels, the side of a square; 0: the family's")
    command.add_argument("--dtype", default=FileDtype.FP32.value, help=f"number format of the file: {values_of(FileDtype)}")
    command.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    dtype = choice(FileDtype, args.dtype, "Number format")
    need_ending(args.out, ".safetensors")
    refuse_existing(args)
    check_writable(args.out.parent, args.out.name)
    slider = load_slider(args.slider, args.strict)
    dataset = training_data(args)
    with opened(args) as host:
        backend = host.backend()
        resolution = args.resolution or host.likes.training.resolution
        samples = host.encoded(backend, dataset, resolution, *encoding())
        backend.load()  # encoding may have sent the model away, and a DoRA reads its weights
        placed = host.place(slider.cut())
        say_left_out(placed)
        adapter = Adapter.from_weights(backend.module, placed.weights, backend.device)
        calibration = measure_any(backend, adapter, samples, args.seed, one_way=placed.info.one_way)
        useful, found = strengths_found(calibration, placed.info)
        weights, info = calibrated(placed.weights, placed.info, calibration, useful)
        measured = dataclasses.replace(placed, weights=weights, info=info)
        notes = host.save(args.out, measured, FileFormat.NATIVE, dtype, args.overwrite)
    say(f"{found} {calibration.passes} forward passes.")
    say(" ".join([f"Saved {args.out}.", *notes]))
    described = info.calibration.to_dict() if info.calibration else None
    return {"out": str(args.out), "passes": calibration.passes, "calibration": described}
