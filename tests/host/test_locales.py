"""Names and tooltips in other languages: the server hands them out, and no text breaks the frontend.

What is out of date is told by `python tools/make_locales.py --check`, and by no test: English changes first.
"""

import json
import re
from pathlib import Path

import pytest
from rings import ROOT

LANGUAGES = {"en", "zh", "ja", "de", "fr"}
COMMANDS = re.compile(r"[{}@|]")  # what vue-i18n reads as placeholders, linked messages, plurals


def texts(tree: object) -> list[str]:
    if isinstance(tree, dict):
        return [text for part in tree.values() for text in texts(part)]
    return [str(tree)]


def test_the_server_hands_out_every_language_and_no_text_is_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import folder_paths
    from app.custom_node_manager import CustomNodeManager

    (tmp_path / "slider-lora").symlink_to(ROOT, target_is_directory=True)
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda _name: [str(tmp_path)])
    served = CustomNodeManager().build_translations()
    assert set(served) == LANGUAGES
    assert served["ja"]["nodeDefs"]["SliderTrainStep"]["inputs"]["learning_rate"]["name"] == "学習率"
    assert [text for text in texts(served) if COMMANDS.search(text)] == []
    for file in (ROOT / "locales").glob("*/*.json"):
        assert json.loads(file.read_text(encoding="utf-8")), file
