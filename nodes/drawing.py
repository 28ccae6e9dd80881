"""How a live strip is drawn: prompts, size and sampler settings, by the same calls as Slider Strength Sweep."""

from dataclasses import dataclass
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..slider_core.comfy_sweep import Drawer
from ..slider_core.config import SweepSpec
from ..slider_core.store import Slider
from ..slider_core.sweep import SweepResult, sweep


@dataclass(frozen=True)
class Drawing:
    """Everything that a strip needs besides the model, its VAE and the slider."""

    spec: SweepSpec
    positive: Any
    negative: Any
    latent: dict[str, Any]
    sampler: str
    scheduler: str

    def draw(self, model: Any, vae: Any, slider: Slider) -> SweepResult:
        """All strengths of a seed in one sampling call, where the model and the sampler allow that."""
        drawer = Drawer(model, vae, self.latent, self.negative, self.spec.steps, self.spec.cfg, self.sampler, self.scheduler)
        return sweep(self.spec, lambda strengths, seed: drawer.draw(slider, strengths, seed, self.positive)[0])


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
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler"),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple"),
    ]
