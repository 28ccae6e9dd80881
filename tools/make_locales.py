"""Write locales/<language>/: names, tooltips and descriptions of every node, as ComfyUI's frontend asks for them.

    python tools/make_locales.py              write locales/, and list what is not translated yet
    python tools/make_locales.py --check      write nothing; exit code 1 when anything would change or is missing
    python tools/make_locales.py --todo de    print the English texts that lack a German one, as JSON to fill in
    python tools/make_locales.py --add de todo.json    take up such a file, drop what is stale, then write as above

English comes from the node definitions. The other languages come from tools/locales/<language>.json, which says what each
English text is in that language: a text that stands at ten places is translated once, and when an English tooltip changes
it is found missing, not left stale. A key such as "SliderTrainStep.inputs.steps.name" there says it for one place alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ROOT / "locales"
TEXTS = Path(__file__).resolve().parent / "locales"
LANGUAGES = ("zh", "ja", "de", "fr")
SEEDS = "control after generate"  # the widget that the frontend adds below a seed
Tree = dict[str, Any]


def key(name: str) -> str:
    """A name as the frontend looks it up: a dot would lead one level deeper."""
    return name.replace(".", "_")


def said(name: str | None, tooltip: str | None) -> Tree:
    return {k: v for k, v in (("name", name), ("tooltip", tooltip)) if v}


def inputs_of(inputs: Iterable[Any], before: str = "") -> Iterator[tuple[str, Tree]]:
    """(key, texts) of inputs and of what the options of a dynamic choice bring along."""
    for one in inputs:
        name = before + one.id
        yield key(name), said(getattr(one, "display_name", None) or one.id, one.tooltip)
        if getattr(one, "control_after_generate", None):
            yield "control_after_generate", {"name": SEEDS}
        for option in getattr(one, "options", None) or ():
            yield from inputs_of(getattr(option, "inputs", None) or (), f"{name}.")


def node_texts(schema: Any) -> Tree:
    """What the frontend can translate of one node, in English."""
    outputs = {str(n): said(out.display_name, out.tooltip) for n, out in enumerate(schema.outputs)}
    texts = {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": dict(inputs_of(schema.inputs)),
        "outputs": {number: texts for number, texts in outputs.items() if texts},
    }
    return {name: value for name, value in texts.items() if value}


def english(nodes: Iterable[Any]) -> dict[str, Tree]:
    """The English files by name, from node classes."""
    schemas = [node.GET_SCHEMA() for node in nodes]
    sockets = {out.io_type for schema in schemas for out in schema.outputs if out.io_type.startswith("SLIDER")}
    main = {
        "nodeCategories": {part: part for schema in schemas for part in schema.category.split("/")},
        "dataTypes": {name: name for name in sorted(sockets)},
    }
    return {"nodeDefs": {key(schema.node_id): node_texts(schema) for schema in schemas}, "main": main}


def leaves(tree: Tree, before: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text in a tree."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def translated(tree: Tree, texts: dict[str, str], before: str = "") -> Tree:
    """The tree in another language, without what `texts` does not know."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found[name] = translated(value, texts, f"{before}{name}.")
        elif text := texts.get(before + name, texts.get(value)):
            found[name] = text
    return found


def missing(files: dict[str, Tree], texts: dict[str, str]) -> list[str]:
    """English texts without a translation, each once."""
    every = [leaf for tree in files.values() for leaf in leaves(tree)]
    return list(dict.fromkeys(value for name, value in every if not (texts.get(name) or texts.get(value))))


def surplus(files: dict[str, Tree], texts: dict[str, str]) -> list[str]:
    """Entries that translate nothing any more."""
    every = [leaf for tree in files.values() for leaf in leaves(tree)]
    known = {name for name, _ in every} | {value for _, value in every}
    return [text for text in texts if text not in known]


def read(language: str) -> dict[str, str]:
    file = TEXTS / f"{language}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def spelled(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False, indent=2) + "\n"


def files_to_write(files: dict[str, Tree]) -> dict[Path, str]:
    """Every file under locales/ with its text."""
    found = {LOCALES / "en" / f"{name}.json": spelled(tree) for name, tree in files.items()}
    for language in LANGUAGES:
        texts = read(language)
        found |= {LOCALES / language / f"{name}.json": spelled(translated(tree, texts)) for name, tree in files.items()}
    return found


def report(files: dict[str, Tree]) -> list[str]:
    """One line for each text that a language lacks or has too much."""
    lines = []
    for language in LANGUAGES:
        texts = read(language)
        lines += [f"{language} lacks: {text}" for text in missing(files, texts)]
        lines += [f"{language} has too much: {text}" for text in surplus(files, texts)]
    return lines


def outdated(files: dict[str, Tree]) -> list[Path]:
    """Files under locales/ that are not as they should be."""
    wanted = files_to_write(files)
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def load_nodes(checkout: Path = ROOT) -> list[Any]:
    """The node classes of a checkout, inside ComfyUI but without its server."""
    sys.path[:0] = [str(ROOT / "tests")]
    from rings import find_comfyui

    comfy = find_comfyui()
    if comfy is None:
        raise SystemExit("ComfyUI not found: set COMFYUI_PATH to a checkout.")
    sys.path.insert(0, str(comfy))
    from comfy.cli_args import args

    args.cpu = True
    pack = ModuleType("slider_pack")
    pack.__path__ = [str(checkout)]
    sys.modules["slider_pack"] = pack
    return importlib.import_module("slider_pack.nodes").NODES


def add(language: str, file: Path, files: dict[str, Tree]) -> None:
    """Take the filled-in texts of `file` into the language's own, and drop those whose English is gone."""
    filled = {text: own for text, own in json.loads(file.read_text(encoding="utf-8")).items() if own.strip()}
    texts = read(language)
    stale = set(surplus(files, texts))
    kept = {text: own for text, own in texts.items() if text not in stale}
    (TEXTS / f"{language}.json").write_text(spelled(kept | filled), encoding="utf-8")


def write(files: dict[str, Tree]) -> None:
    for path, text in files_to_write(files).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--todo", choices=LANGUAGES)
    parser.add_argument("--add", nargs=2, metavar=("LANGUAGE", "FILE"))
    options = parser.parse_args()
    files = english(load_nodes())
    if options.todo:
        sys.stdout.write(spelled(dict.fromkeys(missing(files, read(options.todo)), "")))
        return 0
    if options.add:
        add(options.add[0], Path(options.add[1]), files)
    lines = [f"{path.relative_to(ROOT)} is out of date" for path in outdated(files)] if options.check else []
    if not options.check:
        write(files)
    lines += report(files)
    sys.stdout.write("\n".join([*lines, f"{len(lines)} to mend"]) + "\n")
    return int(options.check and bool(lines))


if __name__ == "__main__":
    sys.exit(main())
