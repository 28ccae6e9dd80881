"""What the pair doctor says of a dataset, as the browser shows it: text for each pair, and the contact sheet as a file."""

from typing import Any

from ..slider_core.data.dataset import Dataset
from ..slider_core.data.pairs_report import Examination
from ..slider_core.use.plot_video import Strip
from .frames import as_file


def findings_shown(folder: str, dataset: Dataset, examination: Examination) -> dict[str, Any]:
    """Plain JSON: the choice it is about, the report in lines, the findings of each pair by the names of its files, the sheet."""
    pairs = []
    for (positive, negative), texts in examination.of_pairs:
        pairs.append({"positive": positive.name, "negative": negative.name, "words": texts})
    return {
        "folder": folder,
        "summary": examination.summary,
        "of_all": examination.of_all,
        "lines": examination.lines,
        "pairs": pairs,
        "sheet": as_file(Strip(examination.sheet), f"slider_pairs_{dataset.digest}"),
    }
