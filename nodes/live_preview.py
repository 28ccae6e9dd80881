"""The strips that Slider Train Step shows while it trains, as Slider Sampling says (with_comfy/training_strip.py draws them)."""

import logging
import time
import uuid
from typing import Any

from ..slider_core.lora.slider_file import Slider
from ..slider_core.with_comfy.sampling_request import first_line
from ..slider_core.with_comfy.sweep import SliderSampler
from ..slider_core.with_comfy.training_strip import LivePreview
from .frames import as_file


class Strips:
    """The live strips of one training, kept as one file of ComfyUI's temporary folder: nodes of two workflows may have one id."""

    def __init__(self, preview: LivePreview | None, vae: Any) -> None:
        self.preview = preview
        self._vae = vae
        self._stem = f"slider_live_{uuid.uuid4().hex[:12]}"
        self.shown: dict[str, Any] | None = None  # as ComfyUI's /view wants it, and the step
        self.trouble = ""
        self.drawn = 0
        self.seconds = 0.0

    def due(self, step: int, until: int) -> bool:
        """Whether the training is to pause for a strip after `step`; that of the end is drawn when all is done."""
        return self._wanted and self.preview.every > 0 and step < until and step % self.preview.every == 0

    @property
    def _wanted(self) -> bool:
        return self.preview is not None and not self.trouble

    def left(self, step: int, until: int) -> int:
        """How many strips are drawn from now, the one of `step` included, to the end."""
        if not self._wanted:
            return 0
        every = self.preview.every or until
        return (until - 1) // every - (step - 1) // every + 1

    def pace(self) -> float:
        """Seconds that a strip took."""
        return self.seconds / self.drawn if self.drawn else 0.0

    def summary(self) -> str:
        """For the status: why there is no strip, if that went wrong."""
        return f" {self.trouble}" if self.trouble else ""

    def draw(self, slider: Slider, step: int) -> None:
        """Draw and keep a strip. Whatever a sampler, a VAE or a disk objects to is put in `trouble`, and no other is tried."""
        if not self._wanted:
            return
        start = time.monotonic()
        try:
            self.shown = self._file(slider, step)
            self.drawn += 1
        except Exception as fault:  # the training is worth more than any picture of it; ComfyUI's stop is no Exception
            logging.getLogger(__name__).warning("live strip at step %d", step, exc_info=True)
            self.trouble = f"No live strip: {first_line(fault)}"
        self.seconds += time.monotonic() - start

    def _file(self, slider: Slider, step: int) -> dict[str, Any]:
        strip = self.preview.strip(SliderSampler(self.preview.drawing.model, self._vae, slider))
        return as_file(strip, self._stem) | {"step": step}
