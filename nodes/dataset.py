"""LoadSliderDataset: positive/ and negative/ folders from ComfyUI's dataset and input folders, or the pack's demo pairs."""

import os
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..slider_core.config import SliderError
from ..slider_core.dataset import Dataset, bucket_folders, common_size, load_image, read_dataset
from .sockets import CATEGORY, DatasetSocket

DEMO = Path(__file__).resolve().parent.parent / "demo_pairs"
DEMO_PREFIX = "demo: "
DEPTH = 3  # how deep below a root a dataset folder is looked for
PREVIEW = 512


def roots() -> list[Path]:
    """Where the user's datasets may lie: ComfyUI's own dataset folders, then the input folder."""
    names = folder_paths.folder_names_and_paths
    own = folder_paths.get_folder_paths("datasets") if "datasets" in names else []
    return [Path(p) for p in (*own, folder_paths.get_input_directory())]


def dataset_folders(root: Path) -> list[str]:
    """Folders under `root` that hold positive/ and negative/, as relative paths with forward slashes."""
    found = []
    for folder, inner, _ in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        if {"positive", "negative"} <= {name.lower() for name in inner}:
            found.append(here.as_posix())
            inner.clear()
        elif len(here.parts) >= DEPTH:
            inner.clear()
    return sorted(name for name in found if name != ".")


def choices() -> list[str]:
    names = {name: None for root in roots() for name in dataset_folders(root)}
    return [*(DEMO_PREFIX + name for name in dataset_folders(DEMO)), *names]


def locate(name: str) -> Path:
    """The folder of a choice: what the list shows and nothing else. SliderError when it is gone."""
    own = name.removeprefix(DEMO_PREFIX)
    for root in [DEMO] if own != name else roots():
        if own in dataset_folders(root):
            return root / own
    places = ", ".join(str(root) for root in roots())
    raise SliderError(f'Dataset folder "{name}" not found under {places}. Press R to refresh the list.')


def previews(dataset: Dataset, side: int) -> torch.Tensor:
    """(N, H, W, 3) the positive (side 0) or negative (side 1) images of the pairs."""
    longest = max(max(s.width, s.height) for s in dataset.shots)
    width, height = common_size(dataset, min(PREVIEW, longest), 8)
    return torch.stack([load_image(pair[side].path, width, height).movedim(0, -1) for pair in dataset.pairs])


class LoadSliderDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadSliderDataset",
            display_name="Load Slider Dataset",
            category=CATEGORY,
            description="Before/after images for a slider: a folder with positive/ (more of the concept) and negative/ "
            "(less of it), and optionally neutral/. Put it into ComfyUI's input or datasets folder and press R. "
            "4 to 6 pairs are enough to start.",
            search_aliases=["concept slider images", "image pairs", "before after"],
            inputs=[
                io.Combo.Input("folder", options=choices(), tooltip="A folder that holds positive/ and negative/."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.05,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="The strength the images stand for: positive at +strength, negative at -strength.",
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    tooltip="One caption for all images. Empty: the text file beside each image, or no caption.",
                ),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset"),
                io.Image.Output(display_name="positive"),
                io.Image.Output(display_name="negative"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_choices: object) -> str:
        """Changes when a file of the folder changes, so that edited images are read again."""
        files = sorted(p for p in locate(folder).rglob("*") if p.is_file())
        return str([(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files])

    @classmethod
    def execute(cls, folder: str, strength: float, caption: str) -> io.NodeOutput:
        dataset = read_dataset(bucket_folders(locate(folder), strength, caption.strip() or None))
        return io.NodeOutput(dataset, previews(dataset, 0), previews(dataset, 1), str(dataset.report))


NODES = [LoadSliderDataset]
