"""ComfyUI as a library in a process of its own: found, checked, put on the path, before anything imports it. No server.

In: a folder, or none. Out: `comfy`, `folder_paths` and `nodes` can be imported, on the device of this process.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from ..config.checks import SliderError, need
from ..lora.safe_files import temporary_folder
from ..ranks import choose_device

LEAST = (0, 33)  # what pyproject.toml asks for
BESIDE = Path(__file__).resolve().parents[4]  # the ComfyUI whose custom_nodes folder holds the pack
PARTS = ("nodes.py", "folder_paths.py", "comfy/sd.py")
HERS = ("comfy", "folder_paths", "nodes", "execution", "comfy_extras")  # modules that only ComfyUI may have imported
_STARTED: list[Path] = []  # by this process
HOW = "Name its folder with --comfyui, or set COMFYUI_PATH."


def is_comfyui(folder: Path) -> bool:
    return all((folder / part).is_file() for part in PARTS)


def find_comfyui(named: Path | None = None) -> Path:
    """The folder of ComfyUI: `named`, else COMFYUI_PATH, else ~/comfy/ComfyUI, else the one that holds the pack.

    SliderError when it is none, or too old.
    """
    places = [Path.home() / "comfy" / "ComfyUI", BESIDE]
    chosen = named or os.environ.get("COMFYUI_PATH")
    if chosen:
        places = [Path(chosen).expanduser()]
    for place in places:
        if is_comfyui(place):
            root = place.resolve()
            _check_version(root)
            return root
    looked = " and ".join(map(str, places))
    raise SliderError(f"ComfyUI not found: looked at {looked}, where no {', '.join(PARTS)} lie. {HOW}", "comfyui.missing")


def _check_version(root: Path) -> None:
    file = root / "comfyui_version.py"
    version = (0, 0)
    if file.is_file():
        match = re.search(r'__version__ *= *"(\d+)\.(\d+)', file.read_text(encoding="utf-8"))
        if match:
            version = (int(match[1]), int(match[2]))
    message = f"{root} is ComfyUI {version[0]}.{version[1]}; {LEAST[0]}.{LEAST[1]} or newer is needed: update it. {HOW}"
    need(version >= LEAST, message, "comfyui.too_old")


def start(root: Path, options: str = "") -> None:
    """Make that ComfyUI importable. `options`: its own command-line options, such as "--lowvram".

    SliderError when it is imported already, when its packages are missing, or when it does not know an option.
    """
    if root in _STARTED:
        return
    imported = [name for name in HERS if name in sys.modules]
    already = f"{', '.join(imported)} is imported already in this process: run this command in a process of its own."
    need(not imported, already, "comfyui.imported")
    choose_device()
    sys.path.insert(0, str(root))  # first: the pack has a folder nodes/, ComfyUI a file nodes.py
    words = shlex.split(options)
    accelerators = getattr(torch, "accelerator", torch.cuda)  # older ones know CUDA alone
    if not accelerators.is_available() and "--cpu" not in words:
        words.append("--cpu")
    try:
        _parse(words)
        _folders(root)
        import_module("comfy.sd")
        _STARTED.append(root)
    except ModuleNotFoundError as fault:
        advice = "run this command with ComfyUI's own Python, or install its requirements.txt into this one"
        raise SliderError(f"ComfyUI at {root} needs the package {fault.name}: {advice}.", "comfyui.packages") from None


def _parse(words: Sequence[str]) -> None:
    """ComfyUI reads its options while it is imported, from the command line."""
    before = sys.argv
    sys.argv = ["ComfyUI", *words]
    try:
        import_module("comfy.options").enable_args_parsing()
        import_module("comfy.cli_args")
    except SystemExit:
        message = f'ComfyUI does not take "{shlex.join(words)}" (see its line above): correct --comfy-options.'
        raise SliderError(message, "comfyui.options") from None
    finally:
        sys.argv = before


def _folders(root: Path) -> None:
    """Further model folders and another output folder, as ComfyUI's own start sets them; a temporary folder of this process."""
    paths = import_module("folder_paths")
    args = import_module("comfy.cli_args").args
    extra = [root / "extra_model_paths.yaml"]
    for files in args.extra_model_paths_config or ():
        extra += map(Path, files)
    for file in extra:
        if file.is_file():
            import_module("utils.extra_config").load_extra_path_config(str(file))
    for name in ("output", "input", "user"):
        folder = getattr(args, f"{name}_directory")
        if folder:
            getattr(paths, f"set_{name}_directory")(os.path.abspath(folder))  # noqa: PTH100 (as ComfyUI has it: links stay)
    paths.set_temp_directory(temporary_folder())
