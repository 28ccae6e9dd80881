"""Thumbnails of the templates: each has a label of its own, large enough to be read in the Templates dialog."""

import importlib.util
import json
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from rings import ROOT

SHOWN = 300  # pixels that a card of the dialog is wide


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_thumbnails", ROOT / "tools" / "make_thumbnails.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_template_has_a_label_of_its_own_that_can_be_read(tool: ModuleType) -> None:
    templates = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert tool.names() == templates
    labels = [json.loads((tool.SOURCES / f"{name}.layout.json").read_text())["label"] for name in templates]
    assert len(set(labels)) == len(labels)
    width = tool.SIZE[0] - 2 * tool.EDGE
    for label in labels:
        face = tool.fitting_font(label, width)
        assert face.getlength(label) <= width, label
        assert face.size * SHOWN / tool.SIZE[0] > 24, label
    assert tool.CAPTION * SHOWN / tool.SIZE[0] > 12
    for name in templates:
        assert Image.open(ROOT / "workflows" / f"{name}.jpg").size == tool.SIZE, name


def test_what_a_template_needs_is_its_colour_and_its_line(tool: ModuleType) -> None:
    kinds = {name: tool.kind_of(name, json.loads((tool.SOURCES / f"{name}.api.json").read_text())) for name in tool.names()}
    assert kinds["quickstart"] == tool.FREE
    assert kinds["slider_sdxl_folders"] == tool.MODEL
    assert kinds["slider_train.app"] == tool.APP
    picture = np.asarray(tool.thumbnail(Image.new("RGB", (50, 10), "red"), "x", "#00ff00", "below"))
    assert tuple(picture[5, 5]) == (0, 255, 0)
    assert (picture == (255, 0, 0)).all(-1).any()
