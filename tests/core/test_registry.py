"""What the registry reads of the pack, and what it would refuse."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
IMAGES = ROOT / "docs" / "images"
SEMANTIC = r"\d+\.\d+\.\d+"
# as the publishing tool checks them: one unknown value and it publishes none of them
SYSTEMS = ("Microsoft", "POSIX", "MacOS", "OS Independent")
ACCELERATORS = ("GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "NPU :: Huawei Ascend", "GPU :: Apple Metal")
FORBIDDEN_MODULES = {"pip", "ensurepip", "subprocess", "pickle", "cPickle", "dill", "marshal", "shelve", "ctypes"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_OS = {"system", "popen", "execv", "execvp", "execve", "spawnv", "spawnl", "startfile"}


def tracked(*more: str) -> list[str]:
    """Paths under version control; with `more`, of those only the ones that git finds so."""
    listed = subprocess.run(["git", "ls-files", *more], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: what is shipped is told by git")
    return listed.stdout.splitlines()


def shipped() -> list[Path]:
    """The files that the registry packs: those under version control that .comfyignore does not name."""
    return [ROOT / p for p in sorted(set(tracked()) - set(tracked("-ci", "--exclude-from=.comfyignore")))]


def values(prefix: str) -> list[str]:
    return [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]


def test_name_version_and_fields_are_what_the_registry_takes() -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*", PROJECT["name"])
    assert len(PROJECT["name"]) < 100
    assert "comfy" not in PROJECT["name"]
    assert re.fullmatch(SEMANTIC, PROJECT["version"])
    assert re.fullmatch(rf">={SEMANTIC}", COMFY["requires-comfyui"])
    assert set(COMFY) == {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}  # `web` would load scripts twice
    assert PROJECT["description"]
    assert PROJECT["keywords"]


def test_classifiers_are_ones_that_are_known() -> None:
    systems, accelerators = values("Operating System :: "), values("Environment :: ")
    assert systems
    assert accelerators
    assert [s for s in systems if not s.startswith(SYSTEMS)] == []
    assert [a for a in accelerators if a not in ACCELERATORS] == []


def test_every_address_belongs_to_the_publisher() -> None:
    """One place to change: PublisherId and every address name the same account."""
    assert PROJECT["urls"]["Repository"].endswith(f"/{PROJECT['name']}")
    addresses = [*PROJECT["urls"].values(), COMFY["Icon"], COMFY["Banner"]]
    assert [a for a in addresses if f"/{COMFY['PublisherId']}/{PROJECT['name']}" not in a] == []


@pytest.mark.parametrize("field", ["Icon", "Banner"])
def test_icon_and_banner_have_the_size_that_is_asked_for(field: str) -> None:
    with Image.open(ROOT / COMFY[field].split("/main/")[1]) as picture:
        width, height = picture.size
    if field == "Icon":
        assert width == height <= 400
    else:
        assert width * 9 == height * 21


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(rf"^## \[({SEMANTIC}|Unreleased)\]", text, flags=re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1] == PROJECT["version"]
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_requirements_are_the_dependencies_but_torch() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert sorted(wanted) == sorted(d for d in PROJECT["dependencies"] if d != "torch")
    assert [line for line in wanted if re.match(r"torch|nvidia|triton|xformers", line)] == []
    assert [line for line in wanted if re.search(r"==|~=|<|https?:|git\+|^-", line)] == [], (
        "a pin may downgrade what ComfyUI brought"
    )


def test_what_is_shipped_is_what_the_pack_needs_and_no_more() -> None:
    names = {p.relative_to(ROOT).parts[0] for p in shipped()}
    assert {"__init__.py", "nodes", "slider_core", "web", "workflows", "locales", "demo_pairs"} <= names
    assert {"pyproject.toml", "requirements.txt", "LICENSE", "README.md"} <= names
    assert names & {"tests", "tools", "benchmarks", ".github", ".ci"} == set()


def faults(tree: ast.AST) -> list[str]:
    """Calls and imports that could run code that came with a file, or change the installation."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            found += call_faults(node)
    return found


def call_faults(call: ast.Call) -> list[str]:
    if isinstance(call.func, ast.Name):
        return [call.func.id] if call.func.id in FORBIDDEN_CALLS else []
    if not isinstance(call.func, ast.Attribute):
        return []
    owner = getattr(call.func.value, "id", "")
    safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in call.keywords)
    if owner == "torch" and call.func.attr == "load" and not safe:
        return ["torch.load without weights_only=True"]
    return [f"os.{call.func.attr}"] if owner == "os" and call.func.attr in FORBIDDEN_OS else []


def test_the_shipped_code_runs_no_code_of_a_file_and_installs_nothing() -> None:
    scripts = [p for p in shipped() if p.suffix == ".py"]
    assert len(scripts) > 40
    found = {str(p.relative_to(ROOT)): faults(ast.parse(p.read_text(encoding="utf-8"))) for p in scripts}
    assert {path: what for path, what in found.items() if what} == {}


def test_the_shipped_scripts_call_nothing_outside() -> None:
    scripts = [p for p in shipped() if p.suffix in (".js", ".mjs", ".css", ".html")]
    assert scripts
    forbidden = re.compile(r"\beval\s*\(|new Function\s*\(|https?://|import\s*\(\s*[`\"']https?:")
    assert [p.name for p in scripts if forbidden.search(p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "code",
    ["eval('1')", "exec(x)", "import subprocess", "from pip import main", "os.system('x')", "torch.load(f)", "import pickle.x"],
)
def test_the_look_finds_what_it_looks_for(code: str) -> None:
    assert faults(ast.parse(code))


@pytest.mark.parametrize("code", ["model.eval()", "re.compile('x')", "torch.load(f, weights_only=True)", "os.walk(x)"])
def test_the_look_leaves_the_harmless_alone(code: str) -> None:
    assert faults(ast.parse(code)) == []
