"""SliderPairMaker: before/after images of a concept, drawn by the loaded model or out of the graph, saved as a dataset."""

from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io

from ..slider_core.config.checks import need, shown
from ..slider_core.config.names import check_file_name
from ..slider_core.data.dataset import bucket_folders, read_dataset
from ..slider_core.data.pair_prompts import PairPrompts, read_concept, shipped_concepts
from ..slider_core.use.pair_folder import write_pairs
from ..slider_core.use.sampling import SamplingRequest
from ..slider_core.with_comfy.two_prompts import DrawnPairs, PairDrawer, draw_pairs, given_pairs
from .checked_inputs import refusal
from .dataset import shown_whole
from .dataset_places import roots
from .graph_files import model_files
from .inputs import seed_input
from .sockets import DATASET_MENU, DatasetSocket, PairPromptsSocket, SamplingSocket

OWN_FILES, OWN_PREFIX = "slider_pair_prompts", "own: "  # a folder of ComfyUI's user folder, and its files in the list
NAME = "Name of the folder; empty: the concept's."
CONCEPT = "A shipped concept, or a file of your own in user/slider_pair_prompts; not used while prompts is connected."
PROMPTS = "A concept in your own words, from Slider Pair Prompts, in place of the one that is chosen."
FOLDER = "The folder's name"
MISSING = "Slider Pair Maker draws with model, clip and vae: connect all three. Or connect positive_images and negative_images."


def own_files() -> dict[str, Path]:
    """The user's concepts, by the names in the list. None is opened for it."""
    folder = Path(folder_paths.get_user_directory()) / OWN_FILES
    return {f"{OWN_PREFIX}{path.stem}": path for path in sorted(folder.glob("*.json"))} if folder.is_dir() else {}


def names() -> list[str]:
    return [*own_files(), *shipped_concepts()]


class SliderPairMaker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderPairMaker",
            display_name="Slider Pair Maker",
            category=DATASET_MENU,
            description="Makes the image pairs of a slider: the loaded model draws two prompts from the same noise, for several "
            "subjects; or an edit model's images come out of the graph. Pairs that differ in more than the concept are left "
            "out. The rest is saved as a folder of ComfyUI's input folder, which Load Slider Dataset lists.",
            search_aliases=["make pairs", "generate dataset", "before after images", "concept slider images"],
            is_output_node=True,
            inputs=[
                io.Combo.Input("concept", options=names(), default="smile", tooltip=CONCEPT),
                io.String.Input("name", default="", placeholder="the concept's name", tooltip=NAME),
                io.Int.Input("pairs", default=6, min=1, max=200, tooltip="How many to make."),
                seed_input("seed", "Of the first pair; the next pair has the next.", counts=False),
                io.Model.Input("model", optional=True, tooltip="Draws the images."),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts."),
                io.Vae.Input("vae", optional=True, tooltip="Decodes the images."),
                SamplingSocket.Input("sampling", optional=True, tooltip="How they are drawn; without it as the family is drawn."),
                io.Image.Input("positive_images", optional=True, tooltip="From an edit model: more of the concept."),
                io.Image.Input("negative_images", optional=True, tooltip="And less of it, in the same order."),
                PairPromptsSocket.Input("prompts", optional=True, tooltip=PROMPTS),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset", tooltip="For Slider Train Step."),
                io.Image.Output(display_name="positive", tooltip="The positive images, pair by pair."),
                io.Image.Output(display_name="negative", tooltip="The negative images in the same order."),
                io.String.Output(display_name="report", tooltip="What was drawn, left out and saved."),
                io.Image.Output(display_name="contact_sheet", tooltip="Every pair, and what differs in it."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return refusal(check_file_name, (name or "").strip() or None, FOLDER)

    @classmethod
    def execute(
        cls,
        concept: str,
        name: str,
        pairs: int,
        seed: int,
        model: Any = None,
        clip: Any = None,
        vae: Any = None,
        sampling: SamplingRequest | None = None,
        positive_images: torch.Tensor | None = None,
        negative_images: torch.Tensor | None = None,
        prompts: PairPrompts | None = None,
    ) -> io.NodeOutput:
        chosen = prompts or _concept(concept)
        folder = name.strip() or chosen.name
        check_file_name(folder, FOLDER)
        if positive_images is not None or negative_images is not None:
            need(positive_images is not None and negative_images is not None, MISSING, "pairs.one_side")
            made = given_pairs(positive_images, negative_images, chosen)
        else:
            need(None not in (model, clip, vae), MISSING, "pairs.no_model")
            files = tuple(model_files(cls.hidden.prompt))
            drawer = PairDrawer(sampling or SamplingRequest(), model, vae, clip, files)
            bar = comfy.utils.ProgressBar(pairs)
            made = draw_pairs(drawer, chosen, pairs, seed, bar.update_absolute)
        return _saved(folder, made, {"concept": chosen.name})


def _concept(concept: str) -> PairPrompts:
    own_concepts = own_files()
    if concept in own_concepts:
        return read_concept(own_concepts[concept])
    shipped = shipped_concepts()
    message = f'Slider Pair Maker: no concept is named "{shown(concept)}". Press R to refresh the list.'
    need(concept in shipped, message, "pair_prompts.not_found")
    return shipped[concept]


def _saved(folder: str, made: DrawnPairs, drawn_by: dict[str, Any]) -> io.NodeOutput:
    """The pairs as a folder of the input folder, read as Load Slider Dataset reads it."""
    lines = "\n".join(made.left_out)
    message = f"No pair was of use to a slider, and nothing was saved. Other prompts, subjects or seeds may do better.\n{lines}"
    need(bool(made.kept), message, "pairs.none")
    root = Path(folder_paths.get_input_directory())
    place = write_pairs(root, folder, made.kept, drawn_by)
    dataset = read_dataset(bucket_folders(place), roots=roots())
    saved = f"{len(made.kept)} pairs saved in {place}; Load Slider Dataset lists it after R is pressed."
    return shown_whole(dataset, place.name, [saved, *made.left_out])


NODES = [SliderPairMaker]
