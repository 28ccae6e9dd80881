"""How a live strip is drawn: prompts, size and sampler settings, by the same calls as Slider Strength Sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.samplers
import torch
from comfy_api.latest import io
from PIL import Image

from ..slider_core.config.checks import SliderError
from ..slider_core.config.sweep import SweepSpec
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.plot_grids import ROW_CELLS, WIDEST, draw_strip, draw_validation
from ..slider_core.use.prompt_library import PromptEntry, PromptLibrary
from ..slider_core.use.sweep import SweepResult, sweep, sweep_library
from ..slider_core.with_comfy.sweep import Drawer


@dataclass(frozen=True)
class Drawing:
    """Everything that a strip needs besides the model, its VAE and the slider. `texts`: the library's prompts, encoded."""

    spec: SweepSpec
    positive: Any
    negative: Any
    latent: dict[str, Any]
    sampler: str
    scheduler: str
    library: PromptLibrary | None = None
    texts: Mapping[str, Any] = field(default_factory=dict)

    def picture(self, model: Any, vae: Any, slider: Slider) -> Image.Image:
        """What is shown: a strip of the prompt, or the library."""
        if self.library is not None:
            return self._validation(self.library, self.draw_library(self.library, model, vae, slider))
        images, strengths = self.draw(model, vae, slider).images, self.spec.strengths
        least, most = ROW_CELLS
        return draw_strip(images, strengths, [], "", max(least, min(most, WIDEST // len(strengths))))

    def _validation(self, library: PromptLibrary, drawn: list[torch.Tensor]) -> Image.Image:
        both = list(zip(library.entries, drawn, strict=True))
        rows = {entry.name: images for entry, images in both if entry.strength is None}
        own = [(entry.name, entry.strength, images[0]) for entry, images in both if entry.strength is not None]
        return draw_validation(rows, self.spec.strengths, own)

    def _drawer(self, model: Any, vae: Any) -> Drawer:
        return Drawer(model, vae, self.latent, self.negative, self.spec.steps, self.spec.cfg, self.sampler, self.scheduler)

    def draw(self, model: Any, vae: Any, slider: Slider) -> SweepResult:
        """All strengths of a seed in one sampling call, where the model and the sampler allow that."""
        drawer = self._drawer(model, vae)
        return sweep(self.spec, lambda strengths, seed: drawer.draw(slider, strengths, seed, self.positive)[0])

    def draw_library(self, library: PromptLibrary, model: Any, vae: Any, slider: Slider) -> list[torch.Tensor]:
        """The pictures of each entry; one sampling call for each distinct prompt. SliderError that names the entry."""
        drawer, (seed,) = self._drawer(model, vae), self.spec.seeds

        def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
            try:
                return drawer.draw(slider, strengths, seed, self.texts[entry.prompt])[0]
            except Exception as fault:  # ComfyUI's stop is no Exception
                raise SliderError(f'entry "{entry.name}": {first_line(fault)}') from fault

        return sweep_library(library, self.spec.strengths, sample)


def first_line(fault: Exception) -> str:
    """An error of anything, in one line of bounded length."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:300]


def sampler_inputs() -> list[io.Input]:
    """The sampler settings, as a KSampler has them."""
    return [
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampler steps."),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance: 1 for the demo model and distilled models, 5 to 8 for SD and SDXL.",
        ),
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler", tooltip="As in KSampler."),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As in KSampler."),
    ]
