"""The pack as the registry ships it: without the files of .comfyignore it loads; its requirements leave ComfyUI as it is."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rings import ROOT, find_comfyui


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout: what is shipped is told by git")
    return done.stdout.splitlines()


@pytest.fixture
def as_shipped(tmp_path: Path) -> Path:
    """A copy of the checkout without what .comfyignore names."""
    folder = tmp_path / "slider-lora-shipped"
    for name in set(git()) - set(git("-ci", "--exclude-from=.comfyignore")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def nodes_put_back() -> Iterator[None]:
    """ComfyUI's table of nodes as it was: the copy has nodes of the same names."""
    import nodes

    before, titles = dict(nodes.NODE_CLASS_MAPPINGS), dict(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    yield
    for table, old in ((nodes.NODE_CLASS_MAPPINGS, before), (nodes.NODE_DISPLAY_NAME_MAPPINGS, titles)):
        table.clear()
        table.update(old)


def test_the_shipped_pack_loads_all_its_nodes_and_what_they_read(
    pack: Any, as_shipped: Path, nodes_put_back: None, load_pack: Callable[[Path], Any], run_graph: Any
) -> None:
    import nodes

    for name in pack.node_ids:
        del nodes.NODE_CLASS_MAPPINGS[name]
    loaded = load_pack(as_shipped)
    assert loaded.node_ids == pack.node_ids
    run = run_graph(
        {
            "1": {"class_type": "SliderDemoModel", "inputs": {}},
            "2": {"class_type": "LoadSliderDataset", "inputs": {"folder": "demo: smile", "caption": ""}},
        },
        model=("1", 0),
        report=("2", 3),
    )
    assert "6 pairs" in run["report"]
    assert run["model"].model.diffusion_model is not None
    assert {page.stem for page in (as_shipped / "web" / "docs").glob("*.md")} == loaded.node_ids
    assert (as_shipped / "locales" / "ja" / "nodeDefs.json").is_file()


def test_installing_the_requirements_beside_comfyui_installs_nothing() -> None:
    """pip itself, offline: in an environment that has both, the two lists agree on every package that is there."""
    lists = [word for file in (find_comfyui() / "requirements.txt", ROOT / "requirements.txt") for word in ("-r", str(file))]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet", "--report", "-", *lists]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [one["metadata"]["name"] for one in json.loads(done.stdout)["install"]] == []


def names_of(file: Path) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return {canonicalize_name(r.name): r for r in (Requirement(line) for line in lines if line)}


def needs(name: str) -> list[Requirement]:
    """What an installed distribution asks for here, extras left out."""
    found = [Requirement(text) for text in metadata.requires(name) or ()]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def closure(names: set[str]) -> set[str]:
    """These distributions and all that they ask for."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [canonicalize_name(r.name) for r in needs(name)]
    return found


def test_nothing_that_the_pack_brings_holds_back_what_comfyui_brings() -> None:
    """Whatever versions ComfyUI chooses now or later: no package of ours sets an upper bound or a pin on one of ComfyUI's."""
    hosts = closure(set(names_of(find_comfyui() / "requirements.txt")))
    wanted = names_of(ROOT / "requirements.txt")
    own = closure(set(wanted)) - hosts
    assert {"peft", "lycoris-lora"} <= own
    asked = [*wanted.values(), *(r for name in own for r in needs(name))]
    bound = [
        f"{r}"
        for r in asked
        if canonicalize_name(r.name) in hosts and re.search(r"<|==|~=|===|@", str(r.specifier) + str(r.url or ""))
    ]
    assert bound == []
    assert [name for name in wanted if name.startswith("torch")] == []
