"""LoadSliderDataset and SliderBucket: images with their strengths, from folders, from a dataset file, out of the graph."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.data.bitmap import CLIP_ENDINGS, IMAGE_ENDINGS
from ..slider_core.data.bucket_sizes import common_ratio, nearest_size
from ..slider_core.data.bucket_spec import Alpha, BucketSpec, CaptionFrom, Crop, DatasetSpec, Pairing, Unequal
from ..slider_core.data.buckets import Bucket, graph_bucket, joined, read_bucket
from ..slider_core.data.dataset import Dataset, assembled, bucket_folders, read_dataset, sides_named
from ..slider_core.data.fitting import Fitted, small_image
from ..slider_core.data.pairs_report import examine_dataset
from ..slider_core.data.simpletuner import is_dataset_file, read_dataset_file
from .frames import as_image
from .sockets import DATASET_MENU, DatasetSocket

DEMO = Path(__file__).resolve().parent.parent / "demo_pairs"
DEMO_PREFIX = "demo: "
DEPTH = 3  # how deep below a root a dataset is looked for
PREVIEW = 512
MOST_PREVIEWS = 64  # images of each side; a large dataset shows its first
NO_FOLDER = "none"


def roots() -> list[Path]:
    """Where the user's datasets may lie: ComfyUI's own dataset folders, then the input folder."""
    names = folder_paths.folder_names_and_paths
    own = folder_paths.get_folder_paths("datasets") if "datasets" in names else []
    return [Path(p) for p in (*own, folder_paths.get_input_directory())]


def walked(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(relative path, folders, files) from `root` on, DEPTH deep. Folders that the caller clears are skipped."""
    for folder, inner, files in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        yield here, inner, files
        if len(here.parts) >= DEPTH:
            inner.clear()


def datasets(root: Path) -> list[str]:
    """Folders under `root` that name a side, and dataset files, as relative paths with forward slashes.

    A folder that lacks the other side is listed too: who looks for it gets the error that says what is missing."""
    found = []
    for here, inner, files in walked(root):
        found += [(here / name).as_posix() for name in files if is_dataset_file(root / here / name)]
        if sides := sides_named(inner):
            found.append(here.as_posix())
        if sides == 2:
            inner.clear()
    return sorted(name for name in found if name != ".")


def image_folders() -> list[str]:
    """Every folder under the roots that holds images, whatever its name."""
    endings = (*IMAGE_ENDINGS, *CLIP_ENDINGS)
    found = {
        here.as_posix()
        for root in roots()
        for here, _, files in walked(root)
        if here.parts and any(Path(name).suffix.lower() in endings for name in files)
    }
    return [NO_FOLDER, *sorted(found)]


def stamps(places: Iterable[Path]) -> str:
    """Changes when one of the places, or anything in a folder among them, changes."""
    found = sorted({p for place in places for p in (place, *place.rglob("*")) if p.exists()})
    return str([(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in found])


def folder_bucket(name: str, strength: float, captions: list[str]) -> Bucket:
    """The images of a listed folder at a strength. SliderError that lists every fault."""
    place = next((root / name for root in roots() if name != NO_FOLDER and (root / name).is_dir()), None)
    if place is None or name not in image_folders():
        raise SliderError(f'Folder "{name}" not found under {", ".join(map(str, roots()))}. Press R to refresh the list.')
    if len(captions) > 1:
        raise SliderError("One caption for all images of a folder; others belong into text files beside the images.")
    bucket, faults = read_bucket(BucketSpec(str(place), strength, captions[0] if captions else None, name=name), roots())
    if faults:
        raise joined(faults)
    return bucket


def choices() -> list[str]:
    names = {name: None for root in roots() for name in datasets(root)}
    return [*(DEMO_PREFIX + name for name in datasets(DEMO)), *names]


def locate(name: str) -> Path:
    """The folder or dataset file of a choice: what the list shows and nothing else. SliderError when it is gone."""
    own = name.removeprefix(DEMO_PREFIX)
    for root in [DEMO] if own != name else roots():
        if own in datasets(root):
            return root / own
    places = ", ".join(str(root) for root in roots())
    raise SliderError(f'Dataset folder "{name}" not found under {places}. Press R to refresh the list.')


def previews(dataset: Dataset, side: int) -> torch.Tensor:
    """(N, H, W, 3) the positive (side 0) or negative (side 1) images, all at one size."""
    image_samples = [pair[side] for pair in dataset.pairs] or [
        s for s in dataset.image_samples if s.strength * (1 - 2 * side) > 0
    ]
    image_samples = image_samples[:MOST_PREVIEWS]
    longest = max(max(s.width, s.height) for s in dataset.image_samples)
    size = nearest_size(common_ratio([s.ratio for s in dataset.image_samples]), min(PREVIEW, longest), 8)
    spec = BucketSpec("preview", 0.0)
    images = [small_image(Fitted(s, spec, None, *size), dataset.spec) for s in image_samples]
    return torch.stack(images).movedim(1, -1)


def sheet(dataset: Dataset) -> tuple[torch.Tensor, str]:
    """((1, H, W, 3) the contact sheet, the report with what the pair doctor says)."""
    picture, lines = examine_dataset(dataset)
    return as_image(picture), "\n".join([dataset.report, *lines])


def unequal_input() -> io.Combo.Input:
    """The choice that both nodes offer."""
    return io.Combo.Input(
        "unequal",
        options=Unequal,
        default=Unequal.STOP,
        advanced=True,
        optional=True,
        tooltip="When one side has fewer images: stop; or balance: keep the pairs of one name, else show the fewer more often.",
    )


class LoadSliderDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadSliderDataset",
            display_name="Load Slider Dataset",
            category=DATASET_MENU,
            description="Before/after images for a slider: a folder with positive/ (more of the concept) and negative/ "
            "(less of it), and optionally neutral/; or a dataset file (SimpleTuner's dataloader JSON). Put it into ComfyUI's "
            "input or datasets folder and press R. 4 to 6 pairs are enough to start.",
            search_aliases=["concept slider images", "image pairs", "before after", "dataloader json"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=choices(),
                    tooltip="A folder with positive/ and negative/, or a dataset file, in ComfyUI's input or datasets folder.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.05,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="The strength that positive/ and negative/ stand for: +strength and -strength. Folders named "
                    "strength_+0.5 and dataset files say it themselves.",
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    tooltip="One caption for all images. Empty: as caption_from says.",
                ),
                io.Combo.Input(
                    "caption_from",
                    options=[CaptionFrom.TEXTFILE.value, CaptionFrom.FILENAME.value, CaptionFrom.NONE.value],
                    default=CaptionFrom.TEXTFILE,
                    advanced=True,
                    optional=True,
                    tooltip="textfile: 01.txt beside 01.png. filename: the name of the image. none: no caption.",
                ),
                io.String.Input(
                    "trigger_word", default="", advanced=True, optional=True, tooltip="Put before every caption of the folders."
                ),
                io.Combo.Input(
                    "pairing",
                    options=Pairing,
                    default=Pairing.AUTO,
                    advanced=True,
                    optional=True,
                    tooltip="auto: by file name, or by order where names differ, and a look whether they line up. name, order: "
                    "they do. random: drawn anew every time, for images that do not belong together.",
                ),
                unequal_input(),
                io.Combo.Input(
                    "crop",
                    options=Crop,
                    default=Crop.CENTER,
                    advanced=True,
                    optional=True,
                    tooltip="Images go into buckets by shape. center and random: what is kept of an image whose shape is not the "
                    "bucket's, the same for both of a pair. none: every shape is a bucket of its own.",
                ),
                io.Boolean.Input(
                    "flip", default=False, advanced=True, optional=True, tooltip="Show every pair mirrored as well."
                ),
                io.Combo.Input(
                    "alpha",
                    options=Alpha,
                    default=Alpha.COLOR,
                    advanced=True,
                    optional=True,
                    tooltip="Transparent parts: the background colour shows through, or they are masked out of the training.",
                ),
                io.Color.Input("background", default="#ffffff", advanced=True, optional=True, tooltip="Behind transparency."),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=257,
                    advanced=True,
                    optional=True,
                    tooltip="Frames of a clip (mp4, gif, folder of frames), for video models. 1: its first frame.",
                ),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset", tooltip="For Slider Train Step, or to go on with Slider Bucket."),
                io.Image.Output(display_name="positive", tooltip="The positive images, pair by pair."),
                io.Image.Output(display_name="negative", tooltip="The negative images in the same order."),
                io.String.Output(display_name="report", tooltip="What was read, and what the pair doctor says."),
                io.Image.Output(display_name="contact_sheet", tooltip="Every pair, what differs in it, what is wrong."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_choices: object) -> str:
        """Changes when a file of the folder, or of a folder that the dataset file names, changes."""
        place = locate(folder)
        return stamps([place] if place.is_dir() else [place, *(Path(s.folder) for s in read_dataset_file(place)[0])])

    @classmethod
    def execute(
        cls,
        folder: str,
        strength: float,
        caption: str,
        caption_from: str = CaptionFrom.TEXTFILE.value,
        trigger_word: str = "",
        pairing: str = Pairing.AUTO.value,
        unequal: str = Unequal.STOP.value,
        crop: str = Crop.CENTER.value,
        flip: bool = False,
        alpha: str = Alpha.COLOR.value,
        background: str = "#ffffff",
        frames: int = 1,
    ) -> io.NodeOutput:
        spec = DatasetSpec(pairing, unequal, flip, alpha, background, frames)
        place, notes = locate(folder), []
        if place.is_dir():
            told = {"captions": caption_from, "trigger": trigger_word.strip(), "crop": crop}
            buckets = bucket_folders(place, strength, caption.strip() or None, **told)
        else:
            buckets, notes = read_dataset_file(place)
        bar = comfy.utils.ProgressBar(1)
        dataset = read_dataset(buckets, spec, [*roots(), DEMO], bar.update_absolute, notes)
        picture, report = sheet(dataset)
        return io.NodeOutput(dataset, previews(dataset, 0), previews(dataset, 1), report, picture)


class SliderBucket(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderBucket",
            display_name="Slider Bucket",
            category=DATASET_MENU,
            description="Images as a part of a dataset, at a strength: from the graph, or from any folder. Chain several: one "
            "above 0, one below, perhaps one at 0. Image 1 of each side make a pair, and so on: as from an edit model.",
            search_aliases=["dataset from images", "edit model pairs", "dataset folder"],
            inputs=[
                io.Image.Input("images", optional=True, tooltip="From the graph; or choose a folder."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Above 0: more of the concept. Below: less. 0: neutral, stay as you are.",
                ),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip="One for all images, or one line for each. Empty with a folder: the text files beside the images.",
                ),
                io.Combo.Input(
                    "folder",
                    options=image_folders(),
                    default=NO_FOLDER,
                    optional=True,
                    tooltip="A folder of images in ComfyUI's input or datasets folder, instead of images from the graph.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where to learn: 1 counts, 0 does not. One, or one for each image."),
                DatasetSocket.Input("dataset", optional=True, tooltip="The buckets before this one."),
                io.Combo.Input(
                    "pairing",
                    options=Pairing,
                    default=Pairing.AUTO,
                    advanced=True,
                    optional=True,
                    tooltip="auto: image 1 with image 1. random: drawn anew every time. The last bucket of a chain decides.",
                ),
                unequal_input(),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset", tooltip="For Slider Train Step, or for the next Slider Bucket."),
                io.String.Output(display_name="report", tooltip="What was read, and what the pair doctor says."),
                io.Image.Output(display_name="contact_sheet", tooltip="Every pair so far, what differs in it, what is wrong."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = NO_FOLDER, **_choices: object) -> str:
        """Changes when a file of the folder changes."""
        return stamps(root / folder for root in roots() if folder not in (None, NO_FOLDER))

    @classmethod
    def execute(
        cls,
        strength: float,
        captions: str,
        images: torch.Tensor | None = None,
        folder: str = NO_FOLDER,
        mask: torch.Tensor | None = None,
        dataset: Dataset | None = None,
        pairing: str = Pairing.AUTO.value,
        unequal: str = Unequal.STOP.value,
    ) -> io.NodeOutput:
        if (images is None) == (folder == NO_FOLDER):
            raise SliderError("Slider Bucket: connect images, or choose a folder and connect none.")
        if images is None and mask is not None:
            raise SliderError("Slider Bucket: a mask goes with images from the graph, not with a folder.")
        lines = [line.strip() for line in captions.splitlines() if line.strip()]
        bucket = folder_bucket(folder, strength, lines) if images is None else graph_bucket(images, strength, lines, mask)
        before = dataset.buckets if dataset else ()
        spec = replace(dataset.spec if dataset else DatasetSpec(), pairing=Pairing(pairing), unequal=Unequal(unequal))
        whole = replace(assembled([*before, bucket], spec), text_sliders=dataset.text_sliders if dataset else ())
        picture, report = sheet(whole)
        return io.NodeOutput(whole, report, picture)


NODES = [LoadSliderDataset, SliderBucket]
