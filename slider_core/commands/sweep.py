"""sweep: images over strengths and seeds, measured; or each entry of a prompt library."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..config.checks import need
from ..config.sweep import SweepSpec, parse_strengths
from ..lora.calibration import Units
from ..lora.safe_files import atomic_write, check_writable
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider, load_slider
from ..lora.useful_range import Span, beyond_note, useful_range
from ..use.plot_curves import label
from ..use.plot_grids import Legend, draw_entries, draw_strip
from ..use.plot_video import FPS, Strip, as_bytes, length_of, over_time, strip_of
from ..use.prompt_library import PromptLibrary
from ..use.sampling import SamplingRequest
from ..use.sweep import SweepResult, figures
from ..use.sweep import table as sweep_table
from ..use.sweep_export import as_json
from ..with_tiny.model import TinyBackend
from ..with_tiny.model_sweep import draw_prompts, measured_sweep, table
from .hosts import Host, add_host, opened
from .options import Commands, Shared, add_strict, say, say_left_out, whole_number
from .pictures import write_picture, write_strip
from .strips import add_sampling, sampling_request
from .tiny_host import TinyHost

LEAST_CELL = 128  # pixels: smaller pictures are enlarged on the strip


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("sweep", parents=shared, help="images over strengths and seeds, measured")
    add_host(command)
    command.add_argument("--slider", type=Path, required=True, help="the slider's file, or any LoRA")
    add_strict(command)
    command.add_argument("--strengths", default="-2,-1,0,1,2", help="a list, or start:stop:step, as --strengths=-2:2:1")
    command.add_argument("--raw", action="store_true", help="strengths of the file, not calibrated ones")
    text = "how many seeds, counted up from --picture-seed; a library on ComfyUI's model is drawn with the first"
    command.add_argument("--seeds", type=whole_number(1000), default=4, help=text)
    add_sampling(command, "each entry at its own strength, no sweep")
    command.add_argument("--strength", type=float, default=1.0, help="of the library's entries without an adapter_strength")
    command.add_argument("--out", type=Path, required=True, help="folder for strip.png, sweep.json and the pictures")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    strengths = parse_strengths(args.strengths)
    distinct = len({label(s) for s in strengths}) == len(strengths)
    need(distinct, f'Strengths "{args.strengths}" hold the same number twice: name each once.', "sweep.strengths_twice")
    request = sampling_request(args)
    slider = load_slider(args.slider, args.strict)
    seeds = tuple(range(request.seed, request.seed + args.seeds))
    with opened(args) as host:
        slider = host.place(slider.cut())
        say_left_out(slider)
        settings = request.settings.for_model(host.likes)
        spec = SweepSpec(strengths, seeds, prompt=request.prompt, steps=settings.steps, cfg=settings.cfg)
        names = ("strip.png", "sweep.json")
        if request.library is not None:
            say(request.library.summary(args.strength))
            names = ("prompts.png", "prompts.json")
        check_writable(args.out, *names)
        if isinstance(host, TinyHost):
            return _on_tiny(args, spec, slider, request.library)
        return _on_model(args, host, spec, slider, request)


def _on_tiny(args: argparse.Namespace, spec: SweepSpec, slider: Slider, library: PromptLibrary | None) -> dict[str, Any]:
    backend = TinyBackend()
    info = None if args.raw else slider.info
    if library is not None:
        pictures = draw_prompts(library, args.strength, backend, slider, spec, info)
        return _write_library(args, library, pictures, slider)
    adapter = Adapter.from_weights(backend.module, slider.weights)
    result, curve = measured_sweep(backend, adapter, spec, info)
    lines = table(spec.strengths, curve.mean, curve.kept)
    return _write(args, result, {"mean": curve.mean, "kept": curve.kept}, lines, _useful(args, slider))


def _on_model(args: argparse.Namespace, host: Host, spec: SweepSpec, slider: Slider, request: SamplingRequest) -> dict[str, Any]:
    units = Units.RAW if args.raw else Units.CALIBRATED
    drawing = host.drawing(request, args.picture_size)
    if request.library is not None:
        images = host.library(slider, request.library, drawing, args.strength, units)
        pictures = [(place, drawing.sampling.seed, image) for place, image in enumerate(images)]
        return _write_library(args, request.library, pictures, slider, drawing.sampling.fps)
    result, summary = host.sweep(slider, drawing, spec, units)
    lines = figures(result)
    how = drawing.sampling
    drawn = {"steps": how.steps, "cfg": how.cfg, "sampler": how.sampler, "scheduler": how.scheduler}
    said = "\n".join([summary, *sweep_table(result, lines)])
    return _write(args, result, {"figures": lines, "drawn": drawn}, said, _useful(args, slider))


def _useful(args: argparse.Namespace, slider: Slider) -> Span | None:
    return useful_range(slider.info, Units.RAW if args.raw else Units.CALIBRATED)


def _write(
    args: argparse.Namespace, result: SweepResult, measures: dict[str, Any], lines: str, useful: Span | None
) -> dict[str, Any]:
    """A PNG for each seed and strength, the strip, sweep.json and what is said; of clips a WebP for each, and of the strip."""
    spec = result.spec
    report = {"slider": str(args.slider), "strengths": list(spec.strengths), "seeds": list(spec.seeds), **measures}
    clips = result.clips
    for row, seed in enumerate(spec.seeds):
        for column, strength in enumerate(spec.strengths):
            picture = result.images[row, column] if clips is None else clips.frames[row, column]
            write_picture(args.out / f"seed{seed}_strength{label(strength)}", picture, clips.fps if clips else FPS)
    legend = Legend(spec.strengths, result.names(), args.slider.stem, useful)
    if clips is None:
        cell = max(LEAST_CELL, min(256, result.images.shape[-1]))
        strip = Strip(draw_strip(result.images, legend, cell))
    else:
        strip = strip_of(clips, legend)
    name = write_strip(args.out / "strip", strip)
    atomic_write(args.out / "sweep.json", as_json(report, indent=1).encode(), overwrite=True)
    say("\n".join(filter(None, [lines, beyond_note(spec.strengths, useful)])))
    what = "images" if clips is None else "clips"
    say(f"Wrote {args.out / name}, sweep.json and {len(spec.strengths) * len(spec.seeds)} {what}.")
    return report


def _write_library(
    args: argparse.Namespace,
    library: PromptLibrary,
    pictures: Sequence[tuple[int, int, torch.Tensor]],
    slider: Slider,
    fps: float = FPS,
) -> dict[str, Any]:
    """A PNG of each (place in the library, seed, picture), prompts.png and prompts.json; of clips WebPs too."""
    files = []
    labels = []
    images = torch.stack([picture for _, _, picture in pictures])
    length = length_of(images)
    for (place, seed, _), picture in zip(pictures, images if length == 1 else as_bytes(images), strict=True):
        entry = library.entries[place]
        plain = re.sub(r"[^\w-]+", "_", entry.name)[:60]
        files.append(write_picture(args.out / f"{place + 1:03}_{plain}_seed{seed}", picture, fps))
        labels.append((f"{entry.name} {seed}", entry.at(args.strength)))
    useful = _useful(args, slider)

    def draw(at: Callable[[torch.Tensor], torch.Tensor]) -> Image.Image:
        return draw_entries(at(images), labels, slider.info.name, LEAST_CELL, useful=useful)

    strip = over_time(draw, length, fps)
    name = write_strip(args.out / "prompts", strip)
    entries = {entry.name: {"prompt": entry.prompt, "strength": entry.at(args.strength)} for entry in library.entries}
    report = {"entries": entries, "images": files}
    atomic_write(args.out / "prompts.json", as_json(report, indent=1).encode(), overwrite=True)
    if note := beyond_note([strength for _, strength in labels], useful):
        say(note)
    say(f"Wrote {args.out / name} and {len(files)} {'images' if length == 1 else 'clips'}.")
    return report
