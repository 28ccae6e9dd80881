"""The documents lead somewhere: every relative link, and a help page for each node that lists its inputs and outputs."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(HELP.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^- `(\w+)` \(", re.MULTILINE)  # of a help page's list; a table is wider than ComfyUI's panel


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def headings(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text_of(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def node_ids() -> dict[str, set[str]]:
    """Node id -> the names of the inputs that its own schema spells out; read with `ast`, so that no ComfyUI is needed."""
    nodes = {}
    for file in (ROOT / "nodes").glob("*.py"):
        for call in ast.walk(ast.parse(text_of(file))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Schema":
                fields = {keyword.arg: keyword.value for keyword in call.keywords}
                inputs = [item for item in getattr(fields.get("inputs"), "elts", []) if isinstance(item, ast.Call) and item.args]
                nodes[ast.literal_eval(fields["node_id"])] = {ast.literal_eval(item.args[0]) for item in inputs}
    return nodes


def test_relative_links_lead_to_files_and_headings() -> None:
    broken = []
    for document in DOCUMENTS:
        for link in (first or second for first, second in LINK.findall(FENCE.sub("", text_of(document)))):
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            if re.match(r"[a-z]+:", link):
                continue
            if not target.exists() or (anchor and anchor not in headings(target)):
                broken.append(f"{document.name}: {link}")
    assert broken == []


def test_each_node_has_a_help_page_that_lists_its_inputs() -> None:
    nodes = node_ids()
    assert len(nodes) > 10
    assert {page.stem for page in HELP.glob("*.md")} == set(nodes)
    missing = {node: sorted(inputs - set(ENTRY.findall(text_of(HELP / f"{node}.md")))) for node, inputs in nodes.items()}
    assert {node: names for node, names in missing.items() if names} == {}
