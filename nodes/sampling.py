"""SliderSampling: how pictures of a slider are drawn, for the strip of a training and for a sweep alike."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.families.distilled import Distilled
from ..slider_core.use.prompt_library import PromptLibrary
from ..slider_core.use.sampling import SamplerSettings, SamplingRequest
from .inputs import seed_input, settings_input
from .sockets import USE_MENU, PromptsSocket, SamplingSocket, flattened, option

PROMPT = "What is drawn, where positive is not connected."
CLIP = "Encodes the prompt and prompts. Slider Train Step has one of its own."
DISTILLED = (
    "Whether the model is distilled to few steps, then drawn in few and trained at their noise levels. auto: as its files are "
    "named: yes with turbo, lightning, schnell ...; no with de-distill, de-turbo, undistilled, or a training adapter on it."
)


class SliderSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderSampling",
            display_name="Slider Sampling",
            category=USE_MENU,
            description="How pictures of a slider are drawn: one node for the strip of Slider Train Step and for Slider Strength "
            "Sweep. At auto the model is drawn as its family likes it.",
            search_aliases=["slider preview", "sampler settings", "live preview", "sample while training"],
            inputs=[
                io.Conditioning.Input("positive", optional=True, tooltip="The prompt, as for KSampler, in place of prompt."),
                io.Conditioning.Input("negative", optional=True, tooltip="The negative prompt; without it an empty one."),
                io.Latent.Input("latent_image", optional=True, tooltip="Size of the pictures; without it the family's."),
                io.Clip.Input("clip", optional=True, tooltip=CLIP),
                PromptsSocket.Input("prompts", optional=True, tooltip="In place of positive, from Slider Prompt Library."),
                io.String.Input("prompt", default="", multiline=True, tooltip=PROMPT),
                # the browser puts a new number into whatever is called seed
                seed_input("picture_seed", "Noise of the pictures: they differ by the slider alone.", counts=False),
                settings_input(),
                option("distilled", io.Combo, Distilled.AUTO, DISTILLED, options=Distilled),
            ],
            outputs=[SamplingSocket.Output(display_name="sampling", tooltip="For Slider Train Step and Slider Strength Sweep.")],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        picture_seed: int,
        positive: Any = None,
        negative: Any = None,
        latent_image: dict[str, Any] | None = None,
        clip: Any = None,
        prompts: PromptLibrary | None = None,
        distilled: str = Distilled.AUTO.value,
        **sampler: Any,
    ) -> io.NodeOutput:
        chosen = flattened(sampler)
        chosen.pop("settings", None)  # which only shows the others
        settings = SamplerSettings(**chosen)
        conditioning = positive, negative, latent_image, clip
        return io.NodeOutput(SamplingRequest(settings, prompt, picture_seed, *conditioning, prompts, Distilled(distilled)))


NODES = [SliderSampling]
