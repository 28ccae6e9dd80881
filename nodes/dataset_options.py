"""SliderDatasetOptions: how the images of a folder are paired, cropped and captioned."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.data.bucket_spec import Alpha, CaptionFrom, Crop, Pairing, Reference, Unequal
from ..slider_core.data.source import DatasetChoices
from .sockets import DATASET_MENU, DatasetOptionsSocket, chooser, flattened, option

UNEQUAL = "When one side has fewer images: stop; or balance: keep the pairs of one name, else show the fewer more often."
PAIRING = "auto: by file name, else by order, and whether they line up is checked. name, order: they do. random: unpaired sets."
CROP = "What is kept of an image of another shape than its bucket, the same for both of a pair. none: every shape is a bucket."
ALPHA = "Transparent parts: the background colour shows through, or they are masked out of the training."
STRENGTH = "What positive/ and negative/ stand for. Folders named strength_+0.5 and dataset files have their own."
FRAMES = "Frames of a clip (mp4, gif, folder of frames), for video models. 1: its first frame."
CAPTIONS = "textfile: 01.txt beside 01.png. textlines: each line is one, a step draws one. filename: the image's name."
CAPTION_KINDS = [kind.value for kind in CaptionFrom if kind is not CaptionFrom.INSTANCEPROMPT]
REFERENCE = "For an edit model: the image of the pair that it is shown as the one to edit. other: beside each image its partner."
SIDE = "The folder of the {} images, where its name does not say so."


def unequal_input(advanced: bool = False) -> io.Combo.Input:
    """The choice that Slider Bucket offers too."""
    return option("unequal", io.Combo, Unequal.STOP, UNEQUAL, options=Unequal, advanced=advanced)


class SliderDatasetOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        background = option("background", io.Color, "#ffffff", "Behind transparency.")
        see_through = {kind.value: [background] if kind is Alpha.COLOR else [] for kind in Alpha}
        return io.Schema(
            node_id="SliderDatasetOptions",
            display_name="Slider Dataset Options",
            category=DATASET_MENU,
            description="How the images of Load Slider Dataset are paired, cropped, mirrored and captioned.",
            search_aliases=["pairing", "crop", "flip", "trigger word"],
            inputs=[
                option("strength", io.Float, 1.0, STRENGTH, min=0.05, max=10.0, step=0.05),
                option("caption_from", io.Combo, CaptionFrom.TEXTFILE, CAPTIONS, options=CAPTION_KINDS),
                option("trigger_word", io.String, "", "Put before every caption of the folders."),
                option("pairing", io.Combo, Pairing.AUTO, PAIRING, options=Pairing),
                unequal_input(),
                option("crop", io.Combo, Crop.CENTER, CROP, options=Crop),
                option("flip", io.Boolean, False, "Show every pair mirrored as well."),
                chooser("alpha", ALPHA, see_through, optional=True),
                option("frames", io.Int, 1, FRAMES, min=1, max=257),
                option("reference", io.Combo, Reference.NONE, REFERENCE, options=Reference),
                option("positive_folder", io.String, "", SIDE.format("positive"), placeholder="positive"),
                option("negative_folder", io.String, "", SIDE.format("negative"), placeholder="negative"),
            ],
            outputs=[DatasetOptionsSocket.Output(display_name="options", tooltip="For Load Slider Dataset.")],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(DatasetChoices(**flattened(inputs)))


NODES = [SliderDatasetOptions]
