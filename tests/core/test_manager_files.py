"""What ComfyUI-Lora-Manager finds beside a slider. Its reader's rules (py/utils/models.py, constants.py) are written out here."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from slider_core.lora.calibration import CalibrationInfo
from slider_core.lora.info import SliderInfo
from slider_core.lora.manager_files import manager_files
from slider_core.lora.thumbnail import thumbnail

REQUIRED = {  # the fields without a default of its dataclass, and their kinds
    **dict.fromkeys(("file_name", "model_name", "file_path", "sha256", "base_model", "preview_url", "usage_tips"), str),
    **{"size": int, "modified": float, "tags": list, "civitai": dict},
}
PREVIEWS = (".webp", ".preview.webp", ".preview.png", ".preview.jpeg", ".preview.jpg", ".png", ".jpeg", ".jpg")


def test_the_manager_reads_base_model_strengths_words_and_picture(tmp_path: Path) -> None:
    file = tmp_path / "smile_00001_.safetensors"
    file.write_bytes(b"slider")
    picture = thumbnail(Image.new("RGB", (8, 8), "red"))
    info = SliderInfo(
        "smile", minus="sad", plus="glad", trigger="ohwx", architecture="SD15", range=(-2.0, 1.5), thumbnail=picture
    )
    files = manager_files(file, info)
    metadata = json.loads(files[tmp_path / "smile_00001_.metadata.json"])
    for name, kind in REQUIRED.items():
        assert isinstance(metadata[name], kind), name
    assert (metadata["file_name"], metadata["model_name"], metadata["base_model"]) == ("smile_00001_", "smile", "SD 1.5")
    assert (metadata["sha256"], metadata["size"]) == (hashlib.sha256(b"slider").hexdigest(), 6)
    assert metadata["civitai"]["trainedWords"] == ["ohwx"]
    assert json.loads(metadata["usage_tips"]) == {"strength_min": -2.0, "strength_max": 1.5, "strength": 1.0}
    preview = Path(metadata["preview_url"])
    assert preview.name.removeprefix(file.stem) in PREVIEWS
    assert files[preview] == base64.b64decode(picture.partition(",")[2])
    for odd in ("data:image/jpeg;base64,***", "data:text/html;base64,PGh0bWw+", "nothing", "data:,\u00fc"):
        assert list(manager_files(file, SliderInfo("smile", thumbnail=odd))) == [tmp_path / "smile_00001_.metadata.json"]


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 1.0), (0.5, 0.5)])
def test_strengths_are_those_of_a_lora_loader(tmp_path: Path, weight: float, expected: float) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    info = SliderInfo("a", calibration=CalibrationInfo(True, unit=weight))
    (content,) = manager_files(tmp_path / "a.safetensors", info).values()
    metadata = json.loads(content)
    assert json.loads(metadata["usage_tips"]) == {"strength_min": -expected, "strength_max": expected, "strength": expected}
    assert (metadata["base_model"], metadata["preview_url"]) == ("Unknown", "")
