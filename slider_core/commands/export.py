"""export: write a slider in another format or number format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..config.checks import choice, values_of
from ..config.lora import FileDtype, FileFormat
from ..lora.safe_files import check_writable
from ..lora.slider_file import load_slider, lost_to
from .hosts import add_host, opened
from .options import Commands, Shared, add_strict, need_ending, refuse_existing, say


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("export", parents=shared, help="write a slider in another format or number format")
    add_host(command)
    command.add_argument("--slider", type=Path, required=True, help="a slider, any LoRA, or a PEFT folder")
    add_strict(command)
    command.add_argument("--format", default=FileFormat.NATIVE.value, help=f"of the file: {values_of(FileFormat)}")
    command.add_argument("--dtype", default=FileDtype.FP32.value, help=f"number format of the file: {values_of(FileDtype)}")
    command.add_argument("--out", type=Path, required=True, help="the file to write; a folder with --format peft")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    form = choice(FileFormat, args.format, "File format")
    dtype = choice(FileDtype, args.dtype, "Number format")
    names = []
    if form is not FileFormat.PEFT:  # a folder
        need_ending(args.out, ".safetensors")
        names.append(args.out.name)
    refuse_existing(args)
    slider = load_slider(args.slider, args.strict).cut()
    with opened(args) as host:
        slider = host.place(slider)
        check_writable(args.out.parent, *names)
        notes = host.save(args.out, slider, form, dtype, args.overwrite)
    say(slider.summary())
    say(" ".join([f"Wrote {args.out} as {form.value}.", *notes]))
    return {"out": str(args.out), "format": form.value, "layers": len(slider.weights), "rounding": lost_to(slider, dtype)}
