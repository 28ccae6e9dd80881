"""python -m slider_core demo | demo-data | doctor | train | sweep | export: all of it on the embedded model, without ComfyUI.

Bad input ends with one clear line and exit code 2; nothing is half-written. `--json` prints one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .commands import demo, demo_data, doctor, export, sweep, train
from .commands.options import Parser, say
from .config.checks import SliderError, in_words
from .use.sweep_export import as_json


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python -m slider_core", description="Slider LoRA without ComfyUI, on the embedded model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    for command in (demo, demo_data, train, doctor, export, sweep):
        command.add(commands, [shared])
    return top


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        report = args.run(args)
    except (SliderError, OSError) as fault:  # an OSError: a name too long, a disk that went away
        sys.stderr.write(f"Error: {in_words(fault) if isinstance(fault, OSError) else fault}\n")
        return 2
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"\n{stop or 'Stopped; nothing was written.'}\n")
        return 130
    if args.json:
        say(as_json(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
