"""Write the tables of docs/command-line.md out of the command line's own parser: python tools/make_commands.py."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.__main__ import parser  # noqa: E402

PAGE = ROOT / "docs" / "command-line.md"
BEGIN = "<!-- by tools/make_commands.py -->\n"
END = "<!-- end -->\n"
HEAD = "| option | default | |\n|---|---|---|\n"
OWN = ("positional arguments", "options")  # argparse's own groups: what one command alone has
NAME = re.compile(r"(?<![\w-])(--[a-z][a-z-]*(?:=[-\w:.]+)?|[\w.]+_[\w.]+|\w+(?:/\w+)*/)(?!\w)")  # in a help text
MORE = {
    "--optimizer": "training.md#optimizers",
    "--preset": "training.md#presets",
    "--layers": "architectures.md",
    "--config": "simpletuner.md",
    "--prompts": "sweeping.md#a-prompt-library",
    "--batch": "settings.md",
    "list": "headless.md#a-queue-of-sliders",
}


def default(action: argparse.Action) -> str:
    """What holds when the option is not given."""
    if isinstance(action.default, bool):
        return "off"
    if action.required:
        return "(needed)"
    if action.default in (None, [], ""):
        return "(none)"
    return f"{action.default:g}" if isinstance(action.default, (int, float)) else f"`{action.default}`"


def row(action: argparse.Action) -> str:
    names = action.option_strings or [action.dest]
    shown = ", ".join(f"`{name}`" for name in names)
    text = NAME.sub(r"`\1`", action.help or "")
    link = next((f" ([more]({MORE[name]}))" for name in names if name in MORE), "")
    return f"| {shown} | {default(action)} | {text}{link} |\n"


def options(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    return [a for a in group._group_actions if a.dest not in ("help", "json")]


def tables() -> str:
    """Each command with the options that it alone has, then each group of options that commands share."""
    top = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    shared: dict[str, argparse._ArgumentGroup] = {}
    text = "## Commands\n\n"
    for said in top._choices_actions:
        groups = [group for group in top.choices[said.dest]._action_groups if options(group)]
        own = [action for group in groups if group.title in OWN for action in options(group)]
        taken = {group.title: group for group in groups if group.title not in OWN}
        shared = {**shared, **taken}
        links = ", ".join(f"[{title}](#{re.sub(r'[^a-z ]', '', title).replace(' ', '-')})" for title in taken)
        also = f" It takes the options of: {links}." if links else ""
        text += f"**`{said.dest}`**: {said.help}.{also}\n\n{HEAD}{''.join(map(row, own))}\n"
    for title, group in shared.items():
        text += f"## {title.capitalize()}\n\n{HEAD}{''.join(map(row, options(group)))}\n"
    return text


def page(text: str) -> str:
    """The page with its tables anew."""
    return text[: text.index(BEGIN)] + BEGIN + "\n" + tables() + text[text.index(END) :]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
