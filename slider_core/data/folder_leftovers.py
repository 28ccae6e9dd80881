"""What lies in a dataset's folder beside the sides that are read: nothing of it is passed over in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config.checks import first_of
from .bucket_files import MASK_FOLDERS, NAMED, endings, is_hidden
from .bucket_spec import BucketSpec
from .folder_files import REMOVED


def leftovers(root: Path, buckets: Sequence[BucketSpec]) -> list[str]:
    """A line for other folders with images, and one for images right in the folder, unless they are its bucket.

    Folders of masks, what was removed in the node and what is hidden are left out. OSError where the folder cannot be listed.
    """
    read = {Path(bucket.folder) for bucket in buckets}
    if root in read:
        return []
    folders, files = [], []
    for path in sorted(root.iterdir()):
        if path in read or is_hidden(path) or path.name == REMOVED:
            continue
        if path.is_dir():
            if _has_images(path) and not _of_masks(path.name):
                folders.append(f"{path.name}/")
        elif path.suffix.lower() in endings():
            files.append(path.name)
    lines = []
    if folders:
        lines.append(
            f"Not used: {first_of(folders, NAMED)} in {root}, which are no side of it. Name a folder positive, negative, "
            "neutral or like strength_+0.5."
        )
    if files:
        lines.append(f"Not used: {first_of(files, NAMED)} in {root}. Put images into positive/, negative/ or neutral/.")
    return lines


def _has_images(folder: Path) -> bool:
    """Whether it holds any, or may: one that cannot be listed is named too, and stops nobody's training."""
    try:
        return any(path.suffix.lower() in endings() for path in folder.iterdir())
    except OSError:
        return True


def _of_masks(name: str) -> bool:
    """masks/, positive_mask/ and the like."""
    return name.lower().rpartition("_")[2].rpartition("-")[2] in MASK_FOLDERS
