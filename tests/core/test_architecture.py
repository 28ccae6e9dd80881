"""The house keeps its order: `ls` order is import order, comfy stays in its own folders, no file becomes a god file."""

import ast
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "slider_core"
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"}
HEAVY = {"peft", "lycoris", "transformers", "bitsandbytes", "prodigyopt", "schedulefree"}
MOST_LINES = 350
MOST_FUNCTION_LINES = 45  # but for a node's schema
MOST_PARAMETERS = 8
CHECK_SIZES = True  # to be switched on when every folder keeps to these three limits
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


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the core, as `data.dataset.load_pairs`."""
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}.{node.name}", node


def test_a_module_imports_only_names_that_sort_before_its_own() -> None:
    wrong = []
    for name in FILES:
        if not name.startswith(("__main__", "commands.")):  # entrances
            later = [module for module in imports(name) if module in FILES and module.split(".") >= name.split(".")]
            wrong += [f"{name} imports {module}" for module in later]
    assert not wrong


def test_only_its_own_folders_know_comfy() -> None:
    outside = [name for name in FILES if not name.startswith("with_comfy.") and name != "with_tiny.model_in_comfy"]
    assert not [name for name in outside if HOST.intersection(imports(name))]


def test_heavy_packages_are_imported_late() -> None:
    assert not [name for name in FILES if HEAVY.intersection(imports(name, top_level=True))]


def test_every_folder_says_what_comes_in_and_what_goes_out() -> None:
    for folder in (path for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"):
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert "In:" in doc, folder.name
        assert "Out:" in doc, folder.name


def test_no_file_becomes_a_god_file() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    wrong = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not CHECK_SIZES or not wrong


def test_no_function_becomes_a_god_function() -> None:
    wrong = []
    for name, node in functions():
        length = node.end_lineno - node.lineno + 1
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
        if (length > MOST_FUNCTION_LINES and node.name != "define_schema") or count > MOST_PARAMETERS:
            wrong.append(f"{name}: {length} lines, {count} parameters")
    assert not CHECK_SIZES or not wrong
