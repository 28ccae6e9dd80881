"""Names and tooltips in other languages: English is what the nodes say, and every other language says all of it."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rings import ROOT

TOOL = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "make_locales.py")))
# what vue-i18n reads as a command: placeholders, linked messages, plurals
COMMANDS = re.compile(r"[{}@|]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
WRITTEN = re.compile(r"\b[a-z]+/(?:[a-z<>.]+)?|\b[a-z]+(?:_[a-z]+)*_(?![a-z])|\b[a-z]+(?:_[a-z]+)+\b")  # paths and names with _


@pytest.fixture(scope="module")
def nodes(pack: Any) -> list[Any]:
    return pack.part("nodes").NODES


@pytest.fixture(scope="module")
def english(nodes: list[Any]) -> dict[str, str]:
    """Every English text by its dotted key."""
    return {name: text for tree in TOOL.english(nodes).values() for name, text in TOOL.leaves(tree)}


def texts_of(language: str) -> dict[str, str]:
    files = sorted((ROOT / "locales" / language).glob("*.json"))
    return {name: text for file in files for name, text in TOOL.leaves(json.loads(file.read_text(encoding="utf-8")))}


def options_of(nodes: list[Any]) -> dict[str, list[str]]:
    """The choices of every combo, by the key of its tooltip."""
    return {
        f"{schema.node_id}.inputs.{one.id}.tooltip": [o for o in one.options if isinstance(o, str)]
        for schema in (node.GET_SCHEMA() for node in nodes)
        for one in schema.inputs
        if isinstance(getattr(one, "options", None), list)
    }


def test_locales_are_as_the_tool_writes_them(nodes: list[Any]) -> None:
    files = TOOL.english(nodes)
    mend = "run python tools/make_locales.py; --todo LANGUAGE lists what to translate"
    assert [str(p) for p in TOOL.outdated(files)] == [], mend
    assert TOOL.report(files) == [], mend


def test_english_says_what_the_nodes_say(nodes: list[Any], english: dict[str, str]) -> None:
    """Against the definitions that the server sends to the browser, not against the tool's own reading of them."""
    assert texts_of("en") == english
    for node in nodes:
        info, name = node.GET_NODE_INFO_V1(), node.GET_SCHEMA().node_id
        assert english[f"{name}.display_name"] == info["display_name"]
        assert english[f"{name}.description"] == info["description"]
        given = {key: value for group in ("required", "optional") for key, value in info["input"].get(group, {}).items()}
        for key, value in given.items():
            assert english[f"{name}.inputs.{key.replace('.', '_')}.name"]
            assert english.get(f"{name}.inputs.{key.replace('.', '_')}.tooltip", "") == (value[1].get("tooltip") or "")


@pytest.mark.parametrize("language", TOOL.LANGUAGES)
def test_a_language_has_every_key_and_no_other(language: str, english: dict[str, str]) -> None:
    own = texts_of(language)
    assert own.keys() == english.keys()
    assert [name for name, text in own.items() if not text.strip()] == []


@pytest.mark.parametrize("language", TOOL.LANGUAGES)
def test_numbers_paths_and_values_stay_as_they_are(language: str, english: dict[str, str], nodes: list[Any]) -> None:
    own, options, lost = texts_of(language), options_of(nodes), []
    inputs = {one.id for node in nodes for one in node.GET_SCHEMA().inputs}  # their labels are translated
    for name, text in english.items():
        if not name.endswith(("tooltip", "description")):
            continue
        values = [o for o in options.get(name, ()) if re.search(rf"\b{re.escape(o)}\b", text)]
        written = [w.rstrip(".") for w in WRITTEN.findall(text) if w not in inputs]
        lost += [f"{name}: {token}" for token in (*NUMBER.findall(text), *values, *written) if token not in own[name]]
    assert lost == []


@pytest.mark.parametrize("language", ["en", *TOOL.LANGUAGES])
def test_no_text_holds_what_the_frontend_takes_for_a_command(language: str) -> None:
    assert [name for name, text in texts_of(language).items() if COMMANDS.search(text)] == []


def test_most_of_a_language_is_not_english(english: dict[str, str]) -> None:
    prose = [name for name in english if name.endswith(("tooltip", "description"))]
    for language in TOOL.LANGUAGES:
        own = texts_of(language)
        assert [name for name in prose if own[name] == english[name]] == [], language


def test_the_server_hands_the_locales_to_the_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import folder_paths
    from app.custom_node_manager import CustomNodeManager

    (tmp_path / "slider-lora").symlink_to(ROOT, target_is_directory=True)
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda _name: [str(tmp_path)])
    served = CustomNodeManager().build_translations()
    assert set(served) == {"en", *TOOL.LANGUAGES}
    assert served["ja"]["nodeDefs"]["SliderTrainStep"]["inputs"]["learning_rate"]["name"] == "学習率"
    assert served["fr"]["nodeCategories"]["Slider"] == "Curseur"


def test_a_new_or_changed_text_is_reported_and_an_old_one_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write = TOOL.add.__globals__
    monkeypatch.setitem(write, "TEXTS", tmp_path)
    monkeypatch.setitem(write, "LANGUAGES", ("de",))
    (tmp_path / "de.json").write_text(
        '{"steps": "Schritte", "gone": "weg", "Node.inputs.steps.name": "Stufen"}', encoding="utf-8"
    )
    inputs = {"steps": {"name": "steps", "tooltip": "How many."}}
    files = {"nodeDefs": {"Node": {"inputs": inputs}, "Other": {"inputs": inputs}}}
    assert TOOL.report(files) == ["de lacks: How many.", "de has too much: gone"]
    filled = tmp_path / "todo.json"
    filled.write_text('{"How many.": "Wie viele."}', encoding="utf-8")
    TOOL.add("de", filled)
    assert TOOL.missing(files, TOOL.read("de")) == []
    both = TOOL.translated(files["nodeDefs"], TOOL.read("de"))
    assert both["Node"]["inputs"]["steps"] == {"name": "Stufen", "tooltip": "Wie viele."}
    assert both["Other"]["inputs"]["steps"] == {"name": "Schritte", "tooltip": "Wie viele."}
