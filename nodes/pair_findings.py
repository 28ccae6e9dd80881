"""What the pair doctor says of a dataset, as the browser shows it: text for each pair, and the contact sheet as a file."""

from pathlib import Path
from typing import Any

import folder_paths
from PIL import Image

from ..slider_core.data.dataset import Dataset
from ..slider_core.data.pairs_report import Examination

QUALITY = 90


def _sheet_file(sheet: Image.Image, digest: str) -> dict[str, str]:
    """A reference to the sheet in ComfyUI's temporary folder, as /view wants it."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"slider_pairs_{digest}.jpg"
    part = folder / f"{name}.part"
    sheet.save(part, "JPEG", quality=QUALITY)
    part.replace(folder / name)
    return {"filename": name, "subfolder": "", "type": "temp"}


def findings_shown(folder: str, dataset: Dataset, examination: Examination) -> dict[str, Any]:
    """Plain JSON: the choice it is about, the report in lines, the findings of each pair by the names of its files, the sheet."""
    pairs = []
    for (positive, negative), words in examination.of_pairs:
        pairs.append({"positive": positive.name, "negative": negative.name, "words": words})
    return {
        "folder": folder,
        "summary": examination.summary,
        "of_all": examination.of_all,
        "lines": examination.lines,
        "pairs": pairs,
        "sheet": _sheet_file(examination.sheet, dataset.digest),
    }
