"""python -m slider_core demo | demo-data | doctor | train | sweep | export: all of it on the embedded model, without ComfyUI.

Bad input ends with one clear line and exit code 2; nothing is half-written. `--json` prints one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .config import (
    AdapterSpec,
    Algorithm,
    FileDtype,
    FileFormat,
    Objective,
    Schedule,
    SliderError,
    SweepSpec,
    Timesteps,
    TrainSpec,
    choice,
    parse_strengths,
)

if TYPE_CHECKING:
    from .dataset import Dataset
    from .store import Slider

BAR = 24


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(report: Any) -> None:
    """A bar with gain and time left: redrawn in place on a terminal, a line every tenth of the way elsewhere."""
    done = report.step * BAR // report.total
    line = f"[{'#' * done}{'.' * (BAR - done)}] {report.words()}"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line:<110}" + ("\n" if report.step == report.total else ""))
    elif report.step % max(1, report.total // 10) == 0 or report.step == report.total:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def command_demo(args: argparse.Namespace) -> dict[str, Any]:
    from .demo import run_demo, table

    spec = TrainSpec(steps=args.steps, seed=args.seed)
    say(f"Training a smile slider on the shipped pairs: {spec.steps} steps of {spec.objective.value} ...")
    report = run_demo(args.out, spec, seeds=16, on_step=progress)
    say(table(report["strengths"], report["mean"], report["kept"]))
    say(f"mouth moves by {report['effect']:+.2f} from -1 to +1; {report['verdict']} ({report['seconds']:.0f} s)")
    say(f"Look at {args.out / 'strip.png'} and {args.out / 'curve.png'}; the slider is {args.out / 'slider.safetensors'}.")
    return report


def command_demo_data(args: argparse.Namespace) -> dict[str, Any]:
    from .demo import make_pairs, write_pairs

    write_pairs(args.out, make_pairs(args.attribute, args.pairs, args.seed, args.unpaired))
    say(f"Wrote {args.pairs} positive and {args.pairs} negative images to {args.out}.")
    return {"out": str(args.out), "attribute": args.attribute, "pairs": args.pairs, "unpaired": args.unpaired}


def _adapter_spec(args: argparse.Namespace) -> AdapterSpec:
    """The adapter that the options ask for, or the LyCORIS configuration in their place."""
    spec = AdapterSpec(
        rank=args.rank,
        alpha=float(args.rank) if args.alpha is None else args.alpha,
        algorithm=choice(Algorithm, args.algorithm, "Algorithm"),
        dropout=args.dropout,
        factor=args.factor,
    )
    if args.lycoris_config is None:
        return spec
    from .lycoris_preset import read_lycoris

    try:
        text = args.lycoris_config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SliderError(f"Cannot read {args.lycoris_config} ({fault}).") from None
    spec, notes = read_lycoris(text, spec)
    for note in notes:
        say(f"Note: {note}.")
    return spec


def _refuse_existing(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.overwrite:
        raise SliderError(f"File exists: {args.out}. Choose another name, or add --overwrite.")


def _need_ending(path: Path, ending: str) -> None:
    if path.suffix.lower() != ending:
        raise SliderError(f"{path} does not end in {ending}: name it {path.name}{ending}.")


def _dataset(args: argparse.Namespace) -> Dataset:
    """The folder or dataset file of the options."""
    from .dataset import bucket_folders, read_dataset
    from .dataset_file import read_dataset_file
    from .dataset_spec import DatasetSpec

    spec = DatasetSpec(args.pairing, args.unequal, args.flip)
    if args.dataset.suffix.lower() == ".json" and args.dataset.is_file():
        buckets, notes = read_dataset_file(args.dataset)
        return read_dataset(buckets, spec, notes=notes)
    told = {"captions": args.caption_from, "trigger": args.trigger, "crop": args.crop}
    return read_dataset(bucket_folders(args.dataset, **told), spec)


def command_doctor(args: argparse.Namespace) -> dict[str, Any]:
    from .demo import png
    from .examine import examined
    from .store import atomic_write

    if args.out:
        _need_ending(args.out, ".png")
        _refuse_existing(args)
    dataset = _dataset(args)
    picture, lines = examined(dataset)
    say("\n".join([str(dataset.report), *lines]))
    if args.out:
        atomic_write(args.out, png(picture), args.overwrite)
        say(f"Wrote {args.out}.")
    return {"dataset": str(args.dataset), "pairs": len(dataset.pairs), "findings": lines}


def command_train(args: argparse.Namespace) -> dict[str, Any]:
    from .demo import check_writable, train_tiny
    from .metadata import kinds
    from .options import with_words
    from .store import load_slider, lost_to, save_slider
    from .tiny import TinyBackend

    spec = TrainSpec(
        steps=args.steps,
        seed=args.seed,
        objective=choice(Objective, args.objective, "Objective"),
        lr=args.lr,
        batch=args.batch,
        timesteps=choice(Timesteps, args.timesteps, "Timesteps"),
        schedule=choice(Schedule, args.schedule, "Schedule"),
        neutral_weight=args.neutral_weight,
    )
    _need_ending(args.out, ".safetensors")
    adapter_spec, dtype = _adapter_spec(args), choice(FileDtype, args.dtype, "Number format")
    start = load_slider(args.start_from) if args.start_from else None
    dataset = with_words(args, _dataset(args) if args.dataset else None)
    check_writable(args.out.parent, args.out.name)
    _refuse_existing(args)
    say(str(dataset.report))
    run = train_tiny(TinyBackend(), args.out.stem, dataset, adapter_spec, spec, progress, start, not args.no_calibration)
    trainer, slider = run.trainer, run.slider()
    save_slider(args.out, slider, dtype, overwrite=args.overwrite)
    lost = lost_to(slider, dtype)
    say(f"{run.verdict()} Saved {args.out}." + (f" As {dtype.value} its effect is rounded by {lost:.2%}." if lost else ""))
    say(run.calibrated)
    plus, minus = trainer.readings[-1].gain
    return {
        "out": str(args.out),
        "steps": trainer.step,
        "algorithm": adapter_spec.algorithm.value if start is None else "/".join(kinds(slider.weights)),
        "objective": spec.objective.value,
        "loss": trainer.losses[-1],
        "gain": {"positive": plus, "negative": minus},
        "verdict": run.verdict(),
        "calibration": json.loads(slider.metadata.get("slider_calibration", "null")),
        "rounding": lost,
    }


def _on_tiny(slider: Slider) -> Slider:
    """The slider with what the built-in model adds to it, where it is for that one; another must name its layers itself."""
    from .names import placed, with_ratio
    from .tiny import TinyBackend

    module = TinyBackend().module
    try:
        return dataclasses.replace(slider, weights=with_ratio(placed(slider.weights, module), module), placed=True)
    except SliderError:
        if not slider.placed:
            raise
        return slider


def command_export(args: argparse.Namespace) -> dict[str, Any]:
    from .demo import check_writable
    from .metadata import summary
    from .store import load_slider, lost_to, save_slider

    form, dtype = choice(FileFormat, args.format, "File format"), choice(FileDtype, args.dtype, "Number format")
    folder = form is FileFormat.PEFT
    if not folder:
        _need_ending(args.out, ".safetensors")
    slider = _on_tiny(load_slider(args.slider))
    _refuse_existing(args)
    check_writable(args.out.parent, *([] if folder else [args.out.name]))
    save_slider(args.out, slider, dtype, args.overwrite, form)
    lost = lost_to(slider, dtype)
    say(summary(slider.metadata, slider.weights, slider.left_out))
    say(f"Wrote {args.out} as {form.value}." + (f" As {dtype.value} its effect is rounded by {lost:.2%}." if lost else ""))
    return {"out": str(args.out), "format": form.value, "layers": len(slider.weights), "rounding": lost}


def command_sweep(args: argparse.Namespace) -> dict[str, Any]:
    from .adapter import Adapter
    from .demo import as_json, check_writable, draw_prompts, measured_sweep, png, table
    from .prompt_library import read_prompts
    from .store import atomic_write, load_slider
    from .sweep import draw_strip, label, to_pil
    from .tiny import TinyBackend

    strengths = parse_strengths(args.strengths)
    spec = SweepSpec(strengths, tuple(range(args.seeds)), prompt=args.prompt, steps=args.sample_steps, cfg=args.cfg)
    if len({label(s) for s in strengths}) < len(strengths):
        raise SliderError(f'Strengths "{args.strengths}" hold the same number twice.')
    library = read_prompts(args.prompts) if args.prompts else None
    slider, backend = load_slider(args.slider), TinyBackend()
    if library:
        say(library.words(args.strength))
        spec = dataclasses.replace(spec, strengths=(args.strength,))
        return draw_prompts(library, args.strength, backend, slider, spec, {} if args.raw else slider.metadata, args.out)
    adapter = Adapter.from_weights(backend.module, slider.weights)
    check_writable(args.out, "strip.png", "sweep.json")
    result, curve = measured_sweep(backend, adapter, spec, {} if args.raw else slider.metadata)
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One clear line, as for every other fault."""
        if "--strengths: expected one argument" in message:  # a leading minus reads as an option
            message += '; write --strengths="-2,0,2"'
        self.exit(2, f"Error: {message}. See {self.prog} --help.\n")


def _count(most: int) -> Callable[[str], int]:
    """A whole number from 1 to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to {most}')
        return value

    return read


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 to 2^63 - 1')
    return value


def _add_dataset(command: argparse.ArgumentParser, name: str = "--dataset") -> None:
    """The options that choose a dataset."""
    from .dataset_spec import CaptionFrom, Crop, DatasetSpec, Pairing, Unequal

    command.add_argument(name, type=Path, help="a folder with positive/ and negative/, or a dataset file")
    for option, default, kinds in (
        ("--pairing", DatasetSpec.pairing, Pairing),
        ("--unequal", DatasetSpec.unequal, Unequal),
        ("--crop", Crop.CENTER, Crop),
        ("--caption-from", CaptionFrom.TEXTFILE, CaptionFrom),
    ):
        names = [kind.value for kind in kinds if kind is not CaptionFrom.INSTANCEPROMPT]
        command.add_argument(option, default=default.value, choices=names, help=", ".join(names))
    command.add_argument("--trigger", default="", help="a word before every caption")
    command.add_argument("--flip", action="store_true", help="every pair mirrored as well")


def parser() -> argparse.ArgumentParser:
    from .options import add_word_options

    top = _Parser(prog="python -m slider_core", description="Slider LoRA without ComfyUI, on the embedded model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    demo = commands.add_parser("demo", parents=[shared], help="train a slider on the shipped pairs and prove it")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="files of an earlier demo there are replaced")
    demo.add_argument("--steps", type=_count(10**6), default=TrainSpec.steps)
    demo.add_argument("--seed", type=_seed, default=0)
    demo.set_defaults(run=command_demo)

    data = commands.add_parser("demo-data", parents=[shared], help="write positive/ and negative/ images of the world")
    data.add_argument("--attribute", required=True, help="mouth, eyes, size, x, y, skin or background")
    data.add_argument("--pairs", type=_count(10**4), default=6)
    data.add_argument("--seed", type=_seed, default=0)
    data.add_argument("--unpaired", action="store_true", help="the two sides share nothing but the world")
    data.add_argument("--out", type=Path, required=True)
    data.set_defaults(run=command_demo_data)

    train = commands.add_parser(
        "train", parents=[shared], help="train a slider from positive/ and negative/ folders, or from words"
    )
    _add_dataset(train)
    add_word_options(train)
    train.add_argument("--backend", choices=["tiny"], default="tiny")
    train.add_argument("--steps", type=_count(10**6), default=TrainSpec.steps)
    train.add_argument("--seed", type=_seed, default=0)
    train.add_argument("--objective", default=TrainSpec.objective.value, help=", ".join(o.value for o in Objective))
    train.add_argument("--lr", type=float, default=TrainSpec.lr)
    train.add_argument("--timesteps", default=TrainSpec.timesteps.value, help=", ".join(t.value for t in Timesteps))
    train.add_argument("--schedule", default=TrainSpec.schedule.value, help=", ".join(s.value for s in Schedule))
    train.add_argument("--neutral-weight", type=float, default=TrainSpec.neutral_weight)
    train.add_argument("--no-calibration", action="store_true", help="leave the strengths as they were trained")
    train.add_argument("--batch", type=_count(1024), default=TrainSpec.batch)
    train.add_argument("--algorithm", default=AdapterSpec.algorithm.value, help=", ".join(a.value for a in Algorithm))
    train.add_argument("--rank", type=_count(1024), default=AdapterSpec.rank)
    train.add_argument("--alpha", type=float, help="the update is scaled by alpha / rank; the rank unless given")
    train.add_argument("--dropout", type=float, default=AdapterSpec.dropout)
    train.add_argument("--factor", type=int, default=AdapterSpec.factor, help="of lokr")
    train.add_argument("--lycoris-config", type=Path, help="a LyCORIS configuration (JSON) in place of these five")
    train.add_argument("--start-from", type=Path, help="a slider or LoRA to go on from, with its own layers and algorithm")
    train.add_argument("--dtype", default=FileDtype.FP32.value, help=", ".join(d.value for d in FileDtype))
    train.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    train.add_argument("--overwrite", action="store_true")
    train.set_defaults(run=command_train)

    doctor = commands.add_parser("doctor", parents=[shared], help="check the pairs of a dataset and say what would hurt")
    _add_dataset(doctor, "dataset")
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
    sweep.add_argument("--seeds", type=_count(1000), default=4, help="how many held-out seeds")
    sweep.add_argument("--prompt", default="", help="one prompt for all; without it every seed has its own")
    sweep.add_argument("--prompts", type=Path, help="a prompt library (JSON): each entry at its own strength, no sweep")
    sweep.add_argument("--strength", type=float, default=1.0, help="of the library's entries without an adapter_strength")
    sweep.add_argument("--sample-steps", type=_count(1000), default=SweepSpec.steps)
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
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; nothing was written.\n")
        return 130
    if args.json:
        from .demo import as_json

        say(as_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
