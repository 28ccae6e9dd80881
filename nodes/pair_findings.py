"""What the pair doctor says of a dataset, as the browser shows it: text for each pair, and the pairs' pictures as a file."""

from typing import Any

from ..slider_core.data.dataset import Dataset
from ..slider_core.data.pairs_report import Examination
from ..slider_core.use.plot_video import Strip
from .frames import as_file


def findings_shown(folder: str, dataset: Dataset, examination: Examination) -> dict[str, Any]:
    """Plain JSON: the choice it is about, what is said of the whole set, the findings of each pair by the names of its files, the
    pictures without words as a file of `size` [width, height], and each pair's `band` [top, height] in them."""
    picture = examination.bare.picture
    pairs = []
    for ((positive, negative), texts), band in zip(examination.of_pairs, examination.bare.bands, strict=True):
        pairs.append({"positive": positive.name, "negative": negative.name, "words": texts, "band": band})
    return {
        "folder": folder,
        "summary": examination.summary,
        "of_all": examination.of_all,
        "pairs": pairs,
        "size": picture.size,
        "sheet": as_file(Strip(picture), f"slider_pairs_{dataset.digest}"),
    }
