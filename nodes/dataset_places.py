"""Where datasets lie: ComfyUI's dataset folders, its input folder, the shipped pairs; and what of them is listed."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import folder_paths

from ..slider_core.config.checks import SliderError, need
from ..slider_core.config.regular_files import inside, is_folder
from ..slider_core.data.bucket_files import TABLES, endings
from ..slider_core.data.bucket_spec import BucketSpec
from ..slider_core.data.buckets import Bucket, joined, read_bucket
from ..slider_core.data.dataset import sides_named
from ..slider_core.data.simpletuner import read_dataset_file

DEMO = Path(__file__).resolve().parent.parent / "demo_pairs"
DEMO_PREFIX = "demo: "
DEPTH = 3  # how deep below a root a dataset is looked for
NO_FOLDER = "none"
RUNS_READ: dict[str, str] = {}  # choice -> the state of its files when a run began to read them last
NOTHING = (
    "No images yet: drop images that show more of the concept on the zone 'more', and images that show less of it on 'less'; "
    "or choose a folder that holds positive/ and negative/."
)


def roots() -> list[Path]:
    """Where the user's datasets may lie: ComfyUI's own dataset folders, then the input folder."""
    names = folder_paths.folder_names_and_paths
    folders = folder_paths.get_folder_paths("datasets") if "datasets" in names else []
    return [Path(p) for p in (*folders, folder_paths.get_input_directory())]


def walked(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(relative path, folders, files) from `root` on, DEPTH deep. Folders that the caller clears are skipped."""
    for folder, inner, files in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        yield here, inner, files
        if len(here.parts) >= DEPTH:
            inner.clear()


def datasets(root: Path) -> list[str]:
    """Folders under `root` that name a side, and JSON files that are no captions, as relative paths with forward slashes.

    Nothing is opened: a folder that lacks a side, or a file that is no dataset file, gets the error that says so when chosen. A
    folder of two folders of images, whose sides can be chosen, is listed too; so is one whose images may have strengths."""
    found = []
    for here, inner, files in walked(root):
        found += [(here / name).as_posix() for name in json_files(files)]
        sides = sides_named(inner)
        if sides or may_have_strengths(files) or (len(inner) == 2 and all(map(holds_images, (root / here / n for n in inner)))):
            found.append(here.as_posix())
        if sides == 2:
            inner.clear()
    return sorted(name for name in found if name != ".")


def holds_images(folder: Path) -> bool:
    """Whether an image or a clip lies right in a folder."""
    try:
        return any(path.suffix.lower() in endings() for path in folder.iterdir())
    except OSError:
        return False


def may_have_strengths(names: Iterable[str]) -> bool:
    """Whether there are tables, or JSON files beside images, among the files of a folder: what may say the images' strengths."""
    files = list(names)
    return any(name.lower() in TABLES for name in files) or len(json_files(files)) < sum(_is_json(name) for name in files)


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def json_files(names: Iterable[str]) -> list[str]:
    """The JSON files among those of a folder, but for captions, which are named as an image beside them."""
    files = [Path(name) for name in names]
    images = {file.stem for file in files if file.suffix.lower() in endings()}
    return [file.name for file in files if _is_json(file.name) and file.stem not in images]


def image_folders() -> list[str]:
    """Every folder under the roots that holds images, whatever its name."""
    found = set()
    for root in roots():
        for here, _, files in walked(root):
            if here.parts and any(Path(name).suffix.lower() in endings() for name in files):
                found.add(here.as_posix())
    return [NO_FOLDER, *sorted(found)]


def stamps(places: Iterable[Path]) -> str:
    """Changes when one of the places, or anything in a folder among them, changes. Places outside the roots are not looked at."""
    found: dict[str, tuple[int, int]] = {}
    for place in places:
        if not inside(place, [*roots(), DEMO]):
            continue
        _stamp(found, [place])
        for folder, inner, files in os.walk(place):
            _stamp(found, [Path(folder, name) for name in (*inner, *files)])
    return str(sorted(found.items()))


def _stamp(found: dict[str, tuple[int, int]], paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # gone since
            status = path.stat()
            found[str(path)] = status.st_mtime_ns, status.st_size


def state_of(choice: str) -> str:
    """Changes when a file of a choice changes, or of a folder that its dataset file names. SliderError when it is gone."""
    if choice == NO_FOLDER:
        return NO_FOLDER
    place = locate(choice)
    return stamps([place] if place.is_dir() else [place, *(Path(s.folder) for s in read_dataset_file(place)[0])])


def _state_or_fault(choice: str) -> str:
    try:
        return state_of(choice)
    except SliderError as fault:
        return str(fault)


def note_reading(choice: str) -> str:
    """A run reads a choice now. Gives the state of its files."""
    RUNS_READ[choice] = _state_or_fault(choice)
    return RUNS_READ[choice]


def is_as_read(choice: str) -> bool:
    """Whether a choice is as a run read it last, so that a run would say the same again."""
    return RUNS_READ.get(choice) == _state_or_fault(choice)


def folder_bucket(name: str, strength: float, captions: list[str]) -> Bucket:
    """The images of a listed folder at a strength. SliderError that lists every fault."""
    place = next((root / name for root in roots() if name != NO_FOLDER and is_folder(root / name)), None)
    if place is None or name not in image_folders():
        raise SliderError(
            f'Folder "{name}" not found under {", ".join(map(str, roots()))}. Press R to refresh the list.', "dataset.not_found"
        )
    if len(captions) > 1:
        raise SliderError(
            "One caption for all images of a folder; others belong into text files beside the images.", "bucket.captions"
        )
    bucket, faults = read_bucket(BucketSpec(str(place), strength, captions[0] if captions else None, name=name), roots())
    if faults:
        raise joined(faults)
    return bucket


def choices() -> list[str]:
    """What Load Slider Dataset lists: nothing chosen, the shipped pairs, the user's own."""
    names = {name: None for root in roots() for name in datasets(root)}
    return [NO_FOLDER, *(DEMO_PREFIX + name for name in datasets(DEMO)), *names]


def name_of(choice: str) -> str:
    """What a slider of that dataset is called unless its user says otherwise."""
    return Path(choice.removeprefix(DEMO_PREFIX)).stem


def locate(name: str) -> Path:
    """The folder or dataset file of a choice: what the list shows and nothing else. SliderError when it is gone."""
    need(name != NO_FOLDER, NOTHING, "dataset.none")
    relative = name.removeprefix(DEMO_PREFIX)
    for root in [DEMO] if relative != name else roots():
        if relative in datasets(root):
            message = f'Dataset "{name}" leads outside the folders for datasets. Copy it there.'
            need(relative != name or inside(root / relative, roots()), message, "dataset.outside")
            return root / relative
    places = ", ".join(str(root) for root in roots())
    raise SliderError(f'Dataset folder "{name}" not found under {places}. Press R to refresh the list.', "dataset.not_found")
