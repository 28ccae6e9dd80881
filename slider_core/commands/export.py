"""export: write a slider in another format or number format."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, choice
from ..config.lora import FileDtype, FileFormat
from ..lora.keys import with_ratio
from ..lora.safe_files import check_writable
from ..lora.slider_file import Slider, load_slider, lost_to, save_slider
from ..with_tiny.model import TinyBackend
from .options import Commands, Shared, need_ending, refuse_existing, rounding, say, strict


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("export", parents=shared, help="write a slider in another format or number format")
    command.add_argument("--slider", type=Path, required=True, help="a slider, any LoRA, or a PEFT folder")
    strict(command)
    command.add_argument("--format", default=FileFormat.NATIVE.value, help=", ".join(f.value for f in FileFormat))
    command.add_argument("--dtype", default=FileDtype.FP32.value, help=", ".join(d.value for d in FileDtype))
    command.add_argument("--out", type=Path, required=True, help="the file to write; a folder with the format peft")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=run)


def _on_tiny(slider: Slider) -> Slider:
    """The slider with what the built-in model adds to it, where it is for that one; another must name its layers itself."""
    module = TinyBackend().module
    try:
        fitted = slider.on(module)
        return dataclasses.replace(fitted, weights=with_ratio(fitted.weights, module))
    except SliderError:
        if not slider.placed:
            raise
        return slider


def run(args: argparse.Namespace) -> dict[str, Any]:
    form = choice(FileFormat, args.format, "File format")
    dtype = choice(FileDtype, args.dtype, "Number format")
    names = []
    if form is not FileFormat.PEFT:  # a folder
        need_ending(args.out, ".safetensors")
        names.append(args.out.name)
    slider = _on_tiny(load_slider(args.slider, args.strict).cut())
    refuse_existing(args)
    check_writable(args.out.parent, *names)
    save_slider(args.out, slider, dtype, args.overwrite, form)
    lost = lost_to(slider, dtype)
    say(slider.summary())
    say(f"Wrote {args.out} as {form.value}.{rounding(dtype, lost)}")
    return {"out": str(args.out), "format": form.value, "layers": len(slider.weights), "rounding": lost}
