"""The house keeps its order: imports run to the left, comfy stays behind its border, no file becomes a god file."""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "slider_core"
ORDER = [
    "config",
    "train_presets",
    "family",
    "families_video",
    "families_image",
    "dataset_spec",
    "lycoris_preset",
    "targets",
    "weights",
    "fits",
    "names",
    "formats",
    "pictures",
    "sizes",
    "dataset_file",
    "dataset",
    "checkup",
    "doctor",
    "fonts",
    "contact_sheet",
    "alignment",
    "memory",
    "backend",
    "disk_cache",
    "cache",
    "examine",
    "cycle",
    "rows",
    "trainable",
    "peft_parts",
    "lycoris_parts",
    "algorithms",
    "adapter",
    "gradients",
    "preflight",
    "ladder",
    "noising",
    "words",
    "objective",
    "gain",
    "verdict",
    "optimizers",
    "trainer",
    "calibrate",
    "metadata",
    "store",
    "resume",
    "window",
    "interference",
    "axes",
    "drawing",
    "direction",
    "prompt_library",
    "sweep",
    "sweep_files",
    "session",
    "autosave",
    "chart",
    "world",
    "tiny",
    "demo",
    "options",
    "command_line",
    "command_train",
    "comfy_frozen",
    "comfy_training",
    "comfy_marks",
    "comfy_control",
    "comfy_host",
    "comfy_files",
    "comfy_controlnet",
    "comfy_live",
    "comfy_sweep",
    "comfy_tiny",
    "__main__",
]
HOST_FILES = {name for name in ORDER if name.startswith("comfy_")}
LEAVES = {"world", "tiny", "demo", "command_train"} | HOST_FILES
HEAVY = {"peft", "lycoris", "transformers", "bitsandbytes", "prodigyopt", "schedulefree"}
FILES = sorted(p.stem for p in CORE.glob("*.py") if p.stem != "__init__")


def imports(name: str, *, top_level: bool = False) -> list[tuple[int, str]]:
    """(relative level, module) of every import in a core file."""
    tree = ast.parse((CORE / f"{name}.py").read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]  # from . import adapter
            found += [(node.level, name.split(".")[0]) for name in names]
    return found


def test_every_file_has_its_place_in_the_order() -> None:
    assert set(FILES) == set(ORDER)


@pytest.mark.parametrize("name", FILES)
def test_imports_run_to_the_left(name: str) -> None:
    for level, module in imports(name):
        if level:
            assert ORDER.index(module) < ORDER.index(name), f"{name} imports {module}, which stands to its right"


@pytest.mark.parametrize("name", [n for n in FILES if n not in HOST_FILES])
def test_only_the_host_files_know_comfy(name: str) -> None:
    assert not {m for _, m in imports(name)} & {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"}


@pytest.mark.parametrize("name", [n for n in FILES if n not in LEAVES | {"__main__"}])
def test_nothing_in_the_core_imports_a_leaf(name: str) -> None:
    assert not {m for level, m in imports(name) if level} & LEAVES


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_imported_late(name: str) -> None:
    assert not {m for _, m in imports(name, top_level=True)} & HEAVY


@pytest.mark.parametrize("name", FILES)
def test_no_file_outgrows_its_room(name: str) -> None:
    assert len((CORE / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 400
