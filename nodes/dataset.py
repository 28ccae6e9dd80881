"""LoadSliderDataset and SliderBucket: images with their strengths, from folders, from a dataset file, out of the graph."""

from collections.abc import Sequence
from dataclasses import replace

import comfy.utils
import torch
from comfy_api.latest import io

from ..slider_core.config.checks import need
from ..slider_core.data.bucket_sizes import common_ratio, nearest_size
from ..slider_core.data.bucket_spec import BucketSpec, DatasetSpec, Pairing, Unequal
from ..slider_core.data.buckets import graph_bucket
from ..slider_core.data.buckets_paired import sides_of
from ..slider_core.data.dataset import Dataset, assembled
from ..slider_core.data.fitting import Fitted, small_image
from ..slider_core.data.pairs_report import Examination, examined
from ..slider_core.data.source import DatasetChoices
from .dataset_options import unequal_input
from .dataset_places import (
    DEMO,
    NO_FOLDER,
    choices,
    folder_bucket,
    image_folders,
    locate,
    name_of,
    note_reading,
    roots,
    stamps,
    state_of,
)
from .frames import as_image
from .pair_findings import findings_shown, keep_findings
from .sockets import DATASET_MENU, DatasetOptionsSocket, DatasetSocket, option

STRENGTH = "Above 0: more of the concept. Below: less. 0: neutral, stay as you are."
CAPTION = "One for all images. Empty: text files beside them, if any."
FOLDER = "A folder of images in ComfyUI's input or datasets folder, instead of images from the graph."
PREVIEW = 512
MOST_PREVIEWS = 64  # images of each side; a large dataset shows its first


def previews(dataset: Dataset, side: int) -> torch.Tensor:
    """(N, H, W, 3) the positive (side 0) or negative (side 1) images, all at one size."""
    image_samples = [pair[side] for pair in dataset.pairs] or sides_of(dataset.buckets)[side]
    image_samples = image_samples[:MOST_PREVIEWS]
    longest = max(max(s.width, s.height) for s in dataset.image_samples)
    size = nearest_size(common_ratio([s.ratio for s in dataset.image_samples]), min(PREVIEW, longest), 8)
    spec = BucketSpec("preview", 0.0)
    images = [small_image(Fitted(s, spec, None, *size), dataset.spec) for s in image_samples]
    return torch.stack(images).movedim(1, -1)


def sheet(dataset: Dataset, examination: Examination) -> tuple[str, torch.Tensor]:
    """(the report with what the pair doctor says, (1, H, W, 3) the contact sheet)."""
    return "\n".join([dataset.report, *examination.report]), as_image(examination.sheet)


def shown_whole(dataset: Dataset, folder: str, before: Sequence[str] = ()) -> io.NodeOutput:
    """The outputs of a node that gives a dataset of that choice, its images, what the pair doctor says; `before`: first lines of
    the report."""
    examination = examined(dataset)
    report, contact_sheet = sheet(dataset, examination)
    shown = {"slider_dataset": [findings_shown(folder, dataset, examination)]}
    report = "\n".join([*before, report])
    return io.NodeOutput(dataset, previews(dataset, 0), previews(dataset, 1), report, contact_sheet, ui=shown)


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
            has_intermediate_output=True,  # what the node shows comes again when it is not run anew
            inputs=[
                io.Combo.Input("folder", options=choices(), tooltip="A folder with positive/ and negative/, or a dataset file."),
                io.String.Input("caption", default="", placeholder="from text files, if any", tooltip=CAPTION),
                DatasetOptionsSocket.Input("options", optional=True, tooltip="From Slider Dataset Options."),
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
    def fingerprint_inputs(cls, folder: str | None, **_choices: object) -> str:
        """Changes when a file of the folder, or of a folder that the dataset file names, changes."""
        return state_of(folder or NO_FOLDER)

    @classmethod
    def execute(cls, folder: str, caption: str, options: DatasetChoices | None = None) -> io.NodeOutput:
        chosen = replace(options or DatasetChoices(), caption=caption)
        bar = comfy.utils.ProgressBar(1)
        state = note_reading(folder)
        dataset = chosen.read(locate(folder), [*roots(), DEMO], bar.update_absolute)
        output = shown_whole(replace(dataset, name=name_of(folder)), folder)
        keep_findings(folder, state, chosen, output.ui["slider_dataset"][0])
        return output


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
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.05, round=0.001, tooltip=STRENGTH),
                io.String.Input("captions", default="", multiline=True, tooltip="One for all images, or one line for each."),
                option("folder", io.Combo, NO_FOLDER, FOLDER, options=image_folders()),
                io.Mask.Input("mask", optional=True, tooltip="Where to learn: 1 counts, 0 does not. One, or one for each image."),
                DatasetSocket.Input("dataset", optional=True, tooltip="The buckets before this one."),
                option("pairing", io.Combo, Pairing.AUTO, "The last bucket of a chain decides.", options=Pairing, advanced=True),
                unequal_input(advanced=True),
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
        return "" if folder in (None, NO_FOLDER) else stamps(root / folder for root in roots())

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
        one = (images is None) != (folder == NO_FOLDER)
        need(one, "Slider Bucket: connect images, or choose a folder and connect none.", "bucket.source")
        fits = mask is None or images is not None
        need(fits, "Slider Bucket: a mask goes with images from the graph, not with a folder.", "bucket.mask")
        lines = [line.strip() for line in captions.splitlines() if line.strip()]
        bucket = folder_bucket(folder, strength, lines) if images is None else graph_bucket(images, strength, lines, mask)
        before = dataset.buckets if dataset else ()
        spec = replace(dataset.spec if dataset else DatasetSpec(), pairing=Pairing(pairing), unequal=Unequal(unequal))
        name = (dataset.name if dataset else "") or ("" if folder == NO_FOLDER else name_of(folder))
        whole = replace(assembled([*before, bucket], spec), text_sliders=dataset.text_sliders if dataset else (), name=name)
        return io.NodeOutput(whole, *sheet(whole, examined(whole)))


NODES = [LoadSliderDataset, SliderBucket]
