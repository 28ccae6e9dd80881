"""python -m slider_core demo | demo-data | doctor | train | sweep | export: all of it on the embedded model, without ComfyUI.

Bad input ends with one clear line and exit code 2; nothing is half-written. `--json` prints one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands.line import Parser, add_dataset, dataset_of, need_ending, progress, refuse_existing, say, seed_number, whole_number
from .commands.train import add_train
from .config.checks import SliderError, choice
from .config.lora import FileDtype, FileFormat
from .config.sweep import SweepSpec, parse_strengths
from .config.training import TrainSpec

if TYPE_CHECKING:
    from .lora.slider_file import Slider


def command_demo(args: argparse.Namespace) -> dict[str, Any]:
    from .with_tiny.model_sweep import table
    from .with_tiny.smile_demo import run_demo

    spec = TrainSpec(steps=args.steps, seed=args.seed)
    say(f"Training a smile slider on the shipped pairs: {spec.steps} steps of {spec.objective.value} ...")
    report = run_demo(args.out, spec, seeds=16, on_step=progress)
    say(table(report["strengths"], report["mean"], report["kept"]))
    say(f"mouth moves by {report['effect']:+.2f} from -1 to +1; {report['verdict']} ({report['seconds']:.0f} s)")
    say(f"Look at {args.out / 'strip.png'} and {args.out / 'curve.png'}; the slider is {args.out / 'slider.safetensors'}.")
    return report


def command_demo_data(args: argparse.Namespace) -> dict[str, Any]:
    from .with_tiny.faces_pairs import make_pairs, write_pairs

    write_pairs(args.out, make_pairs(args.attribute, args.pairs, args.seed, args.unpaired))
    say(f"Wrote {args.pairs} positive and {args.pairs} negative images to {args.out}.")
    return {"out": str(args.out), "attribute": args.attribute, "pairs": args.pairs, "unpaired": args.unpaired}


def command_doctor(args: argparse.Namespace) -> dict[str, Any]:
    from .data.pairs_report import examine_dataset
    from .lora.safe_files import atomic_write
    from .use.sweep_export import png

    if args.out:
        need_ending(args.out, ".png")
        refuse_existing(args)
    dataset = dataset_of(args)
    picture, lines = examine_dataset(dataset)
    say("\n".join([dataset.report, *lines]))
    if args.out:
        atomic_write(args.out, png(picture), args.overwrite)
        say(f"Wrote {args.out}.")
    return {"dataset": str(args.dataset), "pairs": len(dataset.pairs), "findings": lines}


def _on_tiny(slider: Slider) -> Slider:
    """The slider with what the built-in model adds to it, where it is for that one; another must name its layers itself."""
    from .lora.keys import placed, with_ratio
    from .with_tiny.model import TinyBackend

    module = TinyBackend().module
    try:
        return dataclasses.replace(slider, weights=with_ratio(placed(slider.weights, module), module), placed=True)
    except SliderError:
        if not slider.placed:
            raise
        return slider


def command_export(args: argparse.Namespace) -> dict[str, Any]:
    from .lora.safe_files import check_writable
    from .lora.slider_file import load_slider, lost_to, save_slider

    form, dtype = choice(FileFormat, args.format, "File format"), choice(FileDtype, args.dtype, "Number format")
    folder = form is FileFormat.PEFT
    if not folder:
        need_ending(args.out, ".safetensors")
    slider = _on_tiny(load_slider(args.slider))
    refuse_existing(args)
    check_writable(args.out.parent, *([] if folder else [args.out.name]))
    save_slider(args.out, slider, dtype, args.overwrite, form)
    lost = lost_to(slider, dtype)
    say(slider.summary())
    say(f"Wrote {args.out} as {form.value}." + (f" As {dtype.value} its effect is rounded by {lost:.2%}." if lost else ""))
    return {"out": str(args.out), "format": form.value, "layers": len(slider.weights), "rounding": lost}


def command_sweep(args: argparse.Namespace) -> dict[str, Any]:
    from .lora.safe_files import atomic_write, check_writable
    from .lora.slider_adapter import Adapter
    from .lora.slider_file import load_slider
    from .use.plot_curves import label
    from .use.plot_grids import draw_strip, to_pil
    from .use.prompt_library import read_prompts
    from .use.sweep_export import as_json, png
    from .with_tiny.model import TinyBackend
    from .with_tiny.model_sweep import draw_prompts, measured_sweep, table

    strengths = parse_strengths(args.strengths)
    spec = SweepSpec(strengths, tuple(range(args.seeds)), prompt=args.prompt, steps=args.sample_steps, cfg=args.cfg)
    if len({label(s) for s in strengths}) < len(strengths):
        raise SliderError(f'Strengths "{args.strengths}" hold the same number twice.')
    library = read_prompts(args.prompts) if args.prompts else None
    slider, backend = load_slider(args.slider), TinyBackend()
    if library:
        say(library.summary(args.strength))
        spec = dataclasses.replace(spec, strengths=(args.strength,))
        return draw_prompts(library, args.strength, backend, slider, spec, None if args.raw else slider.info, args.out)
    adapter = Adapter.from_weights(backend.module, slider.weights)
    check_writable(args.out, "strip.png", "sweep.json")
    result, curve = measured_sweep(backend, adapter, spec, None if args.raw else slider.info)
    found = {
        "slider": str(args.slider),
        "strengths": list(strengths),
        "seeds": list(spec.seeds),
        "mean": curve.mean,
        "kept": curve.kept,
    }
    for row, seed in enumerate(spec.seeds):
        for column, strength in enumerate(strengths):
            name = f"seed{seed}_strength{label(strength)}.png"
            atomic_write(args.out / name, png(to_pil(result.images[row, column])), overwrite=True)
    strip = draw_strip(result.images, strengths, result.names(), args.slider.stem, cell=128)
    atomic_write(args.out / "strip.png", png(strip), overwrite=True)
    atomic_write(args.out / "sweep.json", as_json(found, indent=1).encode(), overwrite=True)
    say(table(strengths, curve.mean, curve.kept))
    say(f"Wrote {args.out / 'strip.png'}, sweep.json and {len(strengths) * len(spec.seeds)} images.")
    return found


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python -m slider_core", description="Slider LoRA without ComfyUI, on the embedded model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    demo = commands.add_parser("demo", parents=[shared], help="train a slider on the shipped pairs and prove it")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="files of an earlier demo there are replaced")
    demo.add_argument("--steps", type=whole_number(10**6), default=TrainSpec.steps)
    demo.add_argument("--seed", type=seed_number, default=0)
    demo.set_defaults(run=command_demo)

    data = commands.add_parser("demo-data", parents=[shared], help="write positive/ and negative/ images of the world")
    data.add_argument("--attribute", required=True, help="mouth, eyes, size, x, y, skin or background")
    data.add_argument("--pairs", type=whole_number(10**4), default=6)
    data.add_argument("--seed", type=seed_number, default=0)
    data.add_argument("--unpaired", action="store_true", help="the two sides share nothing but the world")
    data.add_argument("--out", type=Path, required=True)
    data.set_defaults(run=command_demo_data)

    add_train(commands, shared)

    doctor = commands.add_parser("doctor", parents=[shared], help="check the pairs of a dataset and say what would hurt")
    add_dataset(doctor, "dataset")
    doctor.add_argument("--out", type=Path, help="a PNG to write the contact sheet to")
    doctor.add_argument("--overwrite", action="store_true")
    doctor.set_defaults(run=command_doctor)

    export = commands.add_parser("export", parents=[shared], help="write a slider in another format or number format")
    export.add_argument("--slider", type=Path, required=True, help="a slider, any LoRA, or a PEFT folder")
    export.add_argument("--format", default=FileFormat.NATIVE.value, help=", ".join(f.value for f in FileFormat))
    export.add_argument("--dtype", default=FileDtype.FP32.value, help=", ".join(d.value for d in FileDtype))
    export.add_argument("--out", type=Path, required=True, help="the file to write; a folder with the format peft")
    export.add_argument("--overwrite", action="store_true")
    export.set_defaults(run=command_export)

    sweep = commands.add_parser("sweep", parents=[shared], help="images over strengths and seeds, measured")
    sweep.add_argument("--slider", type=Path, required=True)
    sweep.add_argument("--strengths", default="-2,-1,0,1,2", help="-2,-1,0,1,2 or start:stop:step (write --strengths=-2,...)")
    sweep.add_argument("--raw", action="store_true", help="strengths of the file, not calibrated ones")
    sweep.add_argument("--seeds", type=whole_number(1000), default=4, help="how many held-out seeds")
    sweep.add_argument("--prompt", default="", help="one prompt for all; without it every seed has its own")
    sweep.add_argument("--prompts", type=Path, help="a prompt library (JSON): each entry at its own strength, no sweep")
    sweep.add_argument("--strength", type=float, default=1.0, help="of the library's entries without an adapter_strength")
    sweep.add_argument("--sample-steps", type=whole_number(1000), default=SweepSpec.steps)
    sweep.add_argument("--cfg", type=float, default=SweepSpec.cfg)
    sweep.add_argument("--out", type=Path, required=True)
    sweep.set_defaults(run=command_sweep)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        found = args.run(args)
    except (SliderError, OSError) as fault:  # an OSError names its file: a name too long, a disk that went away
        sys.stderr.write(f"Error: {fault}\n")
        return 2
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"\n{stop or 'Stopped; nothing was written.'}\n")
        return 130
    if args.json:
        from .use.sweep_export import as_json

        say(as_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
