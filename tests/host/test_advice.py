"""What a node advises names inputs of nodes, and nothing of the command line; and the other way round."""

import ast
import re
from collections.abc import Iterator

import pytest

OPTION = re.compile(r"(?<![\w-])--[a-z]")
OF_THE_COMMAND_LINE = ("commands", "ranks.py", "model_files.py", "start.py", "tests")  # never run for a node


def test_a_rate_that_burns_is_allowed_by_an_input(pack) -> None:
    training = pack.core("config.training")
    with pytest.raises(pack.core("config.checks").SliderError) as fault:
        pack.core("train.learning_rate").need_plausible(training.TrainSpec(lr=0.5), 0.001)
    said_of_a_node(str(fault.value), "any_rate")


def test_prompts_that_want_images_name_the_input(pack) -> None:
    specs = pack.core("data.bucket_spec")
    with pytest.raises(pack.core("config.checks").SliderError) as fault:
        pack.core("data.dataset").add_text_slider(specs.TextSliderSpec("a", "b", "c", latents=specs.Latents.IMAGES))
    said_of_a_node(str(fault.value), "latents")


def test_a_name_of_another_training_names_the_input(pack) -> None:
    session = pack.core("train.trainings")
    with pytest.raises(pack.core("config.checks").SliderError) as fault:
        session._same_origin("smile", 3, {"adapter": "a"}, {"adapter": "b"})
    said_of_a_node(str(fault.value), "old_name")


def test_pairing_is_said_to_be_in_the_options_of_the_dataset(pack) -> None:
    advised = pack.core("config.hosts").set_pairing("random")
    said_of_a_node(advised, "pairing")
    assert "Slider Dataset Options" in advised


def test_no_message_names_pairing_without_its_node(pack) -> None:
    found = []
    for folder in ("nodes", "slider_core"):
        for path in sorted((pack.root / folder).rglob("*.py")):
            texts = for_nodes(ast.parse(path.read_text(encoding="utf-8")))
            found += [f"{path.name}: {text}" for text in texts if re.search(r"set pairing to \w", text)]
    assert not found


def said_of_a_node(sentence: str, widget: str) -> None:
    assert widget in sentence
    assert not OPTION.search(sentence), sentence


def for_nodes(tree: ast.AST) -> Iterator[str]:
    """The texts of a module without its docstrings and what `advice` gives the command line."""
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.value
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.Call) and getattr(child.func, "id", "") == "advice":
            yield from for_nodes(child.args[0])
        else:
            yield from for_nodes(child)


def test_no_other_message_of_a_node_names_an_option(pack) -> None:
    found = []
    for folder in ("nodes", "slider_core"):
        for path in sorted((pack.root / folder).rglob("*.py")):
            if set(path.relative_to(pack.root).parts) & set(OF_THE_COMMAND_LINE):
                continue
            texts = for_nodes(ast.parse(path.read_text(encoding="utf-8")))
            found += [f"{path.name}: {text}" for text in texts if OPTION.match(text) is None and OPTION.search(text)]
    assert not found
