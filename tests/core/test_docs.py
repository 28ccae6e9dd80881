"""The documents say what the code does: every node, input, default, command and option is there, and every link leads somewhere.

The schemas are read from the source with `ast`, so this ring needs no ComfyUI.
"""

import ast
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
HELP = ROOT / "web" / "docs"
GUIDES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *GUIDES, *sorted(HELP.glob("*.md"))]
NODE_COUNT = 16
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Node:
    """What a schema says: inputs by name with their default (None when there is none), names of the outputs."""

    id: str
    title: str
    inputs: dict[str, str | None]
    outputs: tuple[str, ...]


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in call.keywords if k.arg}


def spelled(default: ast.expr | None) -> str | None:
    """A default as a help page writes it: `true`, `empty`, `4.0`; an Enum member in lower case; None when it cannot be read."""
    if isinstance(default, ast.Constant):
        return {"": "empty", "True": "true", "False": "false"}.get(str(default.value), str(default.value))
    if isinstance(default, ast.Attribute):
        return spelled(default.value) if default.attr == "value" else default.attr.lower()
    return None


def schemas() -> list[Node]:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "nodes").glob("*.py"))]
    shared = {node.name: node.body[-1].value for tree in trees for node in tree.body if returns_only(node)}
    calls = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "Schema"]
    return [node_of(keywords(call), shared) for call in calls]


def returns_only(node: ast.AST) -> bool:
    """Whether this is a function that ends in a `return`: inputs that nodes share are written as one."""
    return isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return)


def node_of(schema: dict[str, ast.expr], shared: dict[str, ast.expr]) -> Node:
    given = [i.value if isinstance(i, ast.Starred) else i for i in getattr(schema.get("inputs"), "elts", [])]
    found = [shared.get(getattr(i.func, "id", ""), i) for i in given]
    inputs = [i for some in found for i in getattr(some, "elts", [some])]
    outputs = [spelled(keywords(output).get("display_name")) for output in getattr(schema.get("outputs"), "elts", [])]
    return Node(
        id=ast.literal_eval(schema["node_id"]),
        title=ast.literal_eval(schema["display_name"]),
        inputs={ast.literal_eval(i.args[0]): spelled(keywords(i).get("default")) for i in inputs},
        outputs=tuple(name for name in outputs if name),
    )


NODES = schemas()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def help_page(node: Node) -> str:
    return text_of(HELP / f"{node.id}.md")


ENTRY = r"^- `(\w+)` \(([^,)]+)(?:, default (.*?))?\): "  # of a help page's list; a table is wider than ComfyUI's panel


def entries(node: Node) -> dict[str, str]:
    """Input or output -> its default, empty where it has none, as the help page has them."""
    return {found[1]: found[3] or "" for found in re.finditer(ENTRY, help_page(node), flags=re.MULTILINE)}


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def calls_of(method: str) -> list[ast.Call]:
    """Every call of that method in the files of the command line."""
    core = ROOT / "slider_core"
    trees = [ast.parse(text_of(file)) for file in (core / "__main__.py", *core.glob("command_*.py"))]
    return [c for t in trees for c in ast.walk(t) if isinstance(c, ast.Call) and getattr(c.func, "attr", "") == method]


def options() -> set[str]:
    """Every `--option` that the command line defines."""
    calls = calls_of("add_argument")
    return {a.value for c in calls for a in c.args if isinstance(a, ast.Constant) and str(a.value).startswith("--")}


def commands() -> set[str]:
    calls = calls_of("add_parser")
    return {ast.literal_eval(c.args[0]) for c in calls}


def test_the_schemas_were_found() -> None:
    assert len(NODES) == NODE_COUNT
    assert sum(len(node.inputs) for node in NODES) > 3 * NODE_COUNT
    assert len(commands()) > 1
    assert len(options()) > len(commands())


def test_there_is_a_help_page_for_each_node_and_no_other() -> None:
    assert {page.stem for page in HELP.glob("*.md")} == {node.id for node in NODES}


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.id)
def test_a_help_page_names_every_input_with_its_default_and_every_output(node: Node) -> None:
    assert help_page(node).startswith(f"# {node.title}\n")
    told = entries(node)
    for name, default in node.inputs.items():
        assert name in told, f"{node.id}.md does not list the input {name}"
        assert default in (None, told[name]), f"{node.id}.md: {name} has the default {default}, the page says {told[name]}"
    assert not set(node.outputs) - set(told), f"{node.id}.md does not list {set(node.outputs) - set(told)}"


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.id)
def test_a_help_page_names_no_input_that_is_gone(node: Node) -> None:
    assert set(entries(node)) <= {*node.inputs, *node.outputs}
    assert "\n|---" not in help_page(node), "a table is wider than the panel"


def test_the_readme_names_every_node_by_id_and_title() -> None:
    readme = text_of(README)
    assert [n.id for n in NODES if f"| `{n.id}` | {n.title} |" not in readme] == []


def test_the_readme_names_both_make_commands_and_every_command_and_option() -> None:
    readme = text_of(README)
    words = ["make demo", "make test", *commands(), *options()]
    assert [w for w in words if not re.search(rf"`{re.escape(w)}`", readme)] == []


def test_the_architecture_names_every_file_in_import_order() -> None:
    order = runpy.run_path(str(Path(__file__).with_name("test_architecture.py")))["ORDER"]
    rows = re.findall(r"^\| `(\w+)\.py` \|", text_of(ROOT / "docs" / "architecture.md"), flags=re.MULTILINE)
    assert rows == list(order)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    prose = FENCE.sub("", text_of(document))
    for link in (a or b for a, b in LINK.findall(prose)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name}: {link} leads nowhere"
        headings = [slug(h) for h in re.findall(r"^#+ (.+)$", text_of(target), flags=re.MULTILINE)] if anchor else [""]
        assert anchor in headings, f"{document.name}: {link} names no heading"
