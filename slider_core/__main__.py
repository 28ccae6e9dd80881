"""python -m slider_core demo | demo-data | doctor | train | calibrate | sweep | export | queue: the built-in model, or ComfyUI's.

Bad input ends with one clear line and exit code 2; nothing is half-written. `--json` prints one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .commands import calibrate, demo, demo_data, doctor, export, queue, sweep, train
from .commands.config_file import with_config
from .commands.options import Parser, say
from .config.checks import SliderError, in_words
from .ranks import is_first
from .use.sweep_export import as_json


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="python -m slider_core",
        description="Slider LoRA on the command line: on the built-in model, or on one that ComfyUI loads.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    for command in (demo, demo_data, train, doctor, calibrate, export, sweep, queue):
        command.add(commands, [shared])
    return top


def main(argv: Sequence[str] | None = None) -> int:
    try:
        if argv is None:
            argv = sys.argv[1:]
        words = with_config(list(argv))
        top = parser()
        args, further = top.parse_known_args(words)
        if further and args.command != "queue":
            top.error(f"unrecognized arguments: {' '.join(further)}")
        args.common = further  # of a queue: options of each of its trainings
        report = args.run(args)
    except (SliderError, OSError) as fault:  # an OSError: a name too long, a disk that went away
        message = in_words(fault) if isinstance(fault, OSError) else fault
        sys.stderr.write(f"Error: {message}\n")
        return 2
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"\n{stop or 'Stopped; nothing was written.'}\n")
        return 130
    if args.json and is_first():
        say(as_json(report))
    return int(report.get("exit_code", 0))


if __name__ == "__main__":
    sys.exit(main())
