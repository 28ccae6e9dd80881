"""What the registry reads of the pack, and what it would refuse."""

import ast
import re
import runpy
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from slider_core.lora.info import TOOL

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
SEMANTIC = r"\d+\.\d+\.\d+"
FORBIDDEN_MODULES = {"pip", "ensurepip", "subprocess", "pickle", "cPickle", "dill", "marshal", "shelve", "ctypes"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_OS = {"system", "popen", "execv", "execvp", "execve", "spawnv", "spawnl", "startfile"}


def tracked(*options: str) -> list[str]:
    """Paths under version control; with `options`, only those that git finds so."""
    listed = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: git tells what is shipped")
    return listed.stdout.splitlines()


def shipped() -> list[Path]:
    """The files that the registry packs: those under version control that .comfyignore does not name."""
    ignored = tracked("-ci", "--exclude-from=.comfyignore")
    paths = [ROOT / path for path in sorted(set(tracked()) - set(ignored))]
    return [path for path in paths if path.exists()]  # one may just have been deleted


def only_unpicklers(tree: ast.AST) -> bool:
    """Whether `pickle` serves as the base of classes that decide themselves which names a file may use, and for nothing else."""
    bases = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(getattr(part, "name", "") == "find_class" for part in node.body):
            bases += node.bases
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "pickle"]
    return all(use in bases for use in uses)


def faults(tree: ast.AST) -> list[str]:
    """Calls and imports that could run code that came with a file, or change the installation."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and [alias.name for alias in node.names] == ["pickle"] and only_unpicklers(tree):
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            names.append(f"from {node.module}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            names.append(node.func.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
            if (owner == "torch" and node.func.attr == "load" and not safe) or (owner == "os" and node.func.attr in FORBIDDEN_OS):
                names.append(f"{owner}.{node.func.attr}")
    return names


def test_the_fields_are_what_the_registry_takes() -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*", PROJECT["name"])
    assert re.fullmatch(SEMANTIC, PROJECT["version"])
    assert TOOL.split()[-1] == PROJECT["version"]
    assert re.fullmatch(rf">={SEMANTIC}", COMFY["requires-comfyui"])
    assert set(COMFY) == {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}  # `web` would load scripts twice
    filled = runpy.run_path(str(ROOT / "tools" / "name_publisher.py"))["filled"]
    page = filled((ROOT / "README.md").read_text(encoding="utf-8"), "somebody", "some-id")
    account, *second = re.findall(r"git clone https://github\.com/([\w-]+)/slider-lora ", page)
    assert second == [account]
    named = tomllib.loads(filled((ROOT / "pyproject.toml").read_text(encoding="utf-8"), account, "some-id"))
    assert "PLACEHOLDER" not in named["tool"]["comfy"]["PublisherId"]
    addresses = [*named["project"]["urls"].values(), named["tool"]["comfy"]["Icon"], named["tool"]["comfy"]["Banner"]]
    assert [a for a in addresses if f"/{account}/{PROJECT['name']}" not in a] == []
    for field, shape in (("Icon", (1, 1)), ("Banner", (21, 9))):
        with Image.open(ROOT / COMFY[field].split("/main/")[1]) as picture:
            assert picture.width * shape[1] == picture.height * shape[0], field


def test_requirements_are_the_dependencies_but_torch_and_pin_nothing() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert sorted(wanted) == sorted(d for d in PROJECT["dependencies"] if d != "torch")
    assert [line for line in wanted if re.search(r"^(torch|nvidia|triton|xformers)|==|~=|<|https?:|git\+|^-", line)] == []


def test_what_is_shipped_is_what_the_pack_needs_and_no_more() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in shipped()}
    assert {"__init__.py", "nodes", "slider_core", "web", "workflows", "locales", "demo_pairs", "requirements.txt"} <= names
    assert names & {"tests", "tools", "benchmarks", ".github", ".ci"} == set()


def test_the_shipped_code_runs_no_code_of_a_file_and_calls_nothing_outside() -> None:
    scripts = [path for path in shipped() if path.suffix == ".py"]
    pages = [path for path in shipped() if path.suffix in (".js", ".mjs", ".css", ".html")]
    assert len(scripts) > 40
    assert pages
    assert {str(p): names for p in scripts if (names := faults(ast.parse(p.read_text(encoding="utf-8"))))} == {}
    forbidden = re.compile(r"\beval\s*\(|new Function\s*\(|https?://|import\s*\(\s*[`\"']https?:")
    assert [p.name for p in pages if forbidden.search(p.read_text(encoding="utf-8"))] == []
    for code in (
        "eval('1')",
        "import subprocess",
        "from pip import main",
        "os.system('x')",
        "torch.load(f)",
        "import pickle; pickle.load(f)",
    ):
        assert faults(ast.parse(code)), code  # the look finds what it looks for
    for code in ("model.eval()", "re.compile('x')", "torch.load(f, weights_only=True)"):
        assert faults(ast.parse(code)) == [], code
