"""A dataset's folder or dataset file, read as a person chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .bucket_spec import Alpha, CaptionFrom, Crop, DatasetSpec, Pairing, Reference, Unequal
from .dataset import Dataset, OnImage, bucket_folders, read_dataset
from .folder_leftovers import leftovers
from .simpletuner import read_dataset_file

OF_FOLDERS = ("caption", "strength", "caption_from", "trigger_word", "crop", "positive_folder", "negative_folder")


@dataclass(frozen=True, kw_only=True)
class DatasetChoices:
    """The inputs of Load Slider Dataset and Slider Dataset Options, by name. A dataset file has its own OF_FOLDERS."""

    caption: str = ""
    strength: float = 1.0
    caption_from: str = CaptionFrom.TEXTFILE.value
    positive_folder: str = ""
    negative_folder: str = ""
    trigger_word: str = ""
    pairing: str = Pairing.AUTO.value
    unequal: str = Unequal.STOP.value
    crop: str = Crop.CENTER.value
    flip: bool = False
    alpha: str = Alpha.COLOR.value
    background: str = "#ffffff"
    frames: int = 1
    reference: str = Reference.NONE.value

    def read(self, place: Path, roots: Sequence[Path] | None = None, on_image: OnImage | None = None) -> Dataset:
        """The dataset of a folder, or of a dataset file (.json). SliderError as `read_dataset`; `roots` as there."""
        choices = self.pairing, self.unequal, self.flip, self.alpha, self.background, self.frames
        spec = DatasetSpec(*choices, reference=self.reference)  # type: ignore[arg-type]
        if place.suffix.lower() == ".json" and place.is_file():
            buckets, notes = read_dataset_file(place)
            return read_dataset(buckets, spec, roots, on_image, [*notes, *self._unused()])
        sides = self.positive_folder.strip(), self.negative_folder.strip()
        fields = {"captions": self.caption_from, "trigger": self.trigger_word.strip(), "crop": self.crop}
        buckets = bucket_folders(place, self.strength, self.caption.strip() or None, *sides, **fields)
        return read_dataset(buckets, spec, roots, on_image, beside=leftovers(place, buckets))

    def _unused(self) -> list[str]:
        """A line about the choices that a dataset file takes the place of."""
        changed = [name for name in OF_FOLDERS if getattr(self, name) != getattr(DatasetChoices, name)]
        return [f"Not used, because the dataset file has its own: {', '.join(changed)}."] if changed else []
