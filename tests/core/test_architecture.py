"""The house keeps its order: `ls` order is import order, comfy stays in its own folders, no file becomes a god file."""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "slider_core"
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"}
HEAVY = {"peft", "lycoris", "transformers", "bitsandbytes", "prodigyopt", "schedulefree"}
FILES = {".".join(path.relative_to(CORE).with_suffix("").parts): path for path in sorted(CORE.rglob("*.py"))}


def imports(name: str, *, top_level: bool = False) -> list[str]:
    """Every module that a file imports: `data.dataset` for one of the core's, the package's name for another's."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    found = []
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = name.split(".")[: -node.level]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found += [".".join([*folder, module]) for module in modules]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_names_that_sort_before_its_own(name: str) -> None:
    if name.startswith(("__main__", "commands.")):
        return  # entrances
    later = [module for module in imports(name) if module in FILES and module.split(".") >= name.split(".")]
    assert not later


@pytest.mark.parametrize("name", FILES)
def test_only_its_own_folders_know_comfy(name: str) -> None:
    if not name.startswith("with_comfy.") and name != "with_tiny.model_in_comfy":
        assert not set(imports(name)) & HOST


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_imported_late(name: str) -> None:
    assert not set(imports(name, top_level=True)) & HEAVY


def test_every_folder_says_what_comes_in_and_what_goes_out() -> None:
    for folder in (path for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"):
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert "In:" in doc, folder.name
        assert "Out:" in doc, folder.name
