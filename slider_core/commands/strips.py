"""The strip of a training on the command line: a picture beside the run, drawn now and then and at the end."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..config.checks import reason
from ..data.dataset import Dataset
from ..families.distilled import Distilled
from ..lora.slider_file import Slider
from ..train.training_run import Run
from ..train.training_saves import Autosave
from ..use.plot_video import Strip as Picture
from ..use.prompt_library import read_prompts
from ..use.sampling import SamplerSettings, SamplingRequest
from .choices import add_flags, chosen
from .datasets import some_prompt
from .hosts import Host
from .options import number_or_0, say
from .pictures import write_strip


class Strip:
    """`file`: where the last one lies, of clips its still sheet, and beside it as a WebP what moves. What goes wrong is in
    `trouble`, and costs no training."""

    def __init__(self, draw: Callable[[Slider], Picture], run: Run, file: Path, every: int) -> None:
        self.run = run
        self.file = file
        self.trouble = ""
        self._draw = draw
        self._every = every

    def due(self, step: int, until: int) -> bool:
        """Whether the training is to pause for a strip after `step`; that of the end is drawn when all is done."""
        return not self.trouble and self._every > 0 and step < until and step % self._every == 0

    def draw(self) -> None:
        """Draw the slider as it stands, in the place of the strip before."""
        if self.trouble:
            return
        try:
            write_strip(self.file.with_suffix(""), self._draw(self.run.slider()))
        except Exception as fault:  # whatever a sampler, a VAE or a disk objects to
            logging.getLogger(__name__).debug("strip at step %d", self.run.step, exc_info=True)
            self.trouble = reason(fault)
            say(f"No strip: {self.trouble}")


def add_sampling(command: argparse.ArgumentParser, library: str) -> None:
    """The options of what is drawn, and how. `library`: what a prompt library is for."""
    pictures = command.add_argument_group("how pictures are drawn")
    add_flags(pictures, "sampling")
    text = "pixels, the side of a square; 0: as the family is drawn"
    pictures.add_argument("--picture-size", type=number_or_0, default=0, help=text)
    command.add_argument("--prompts", type=Path, help=f"a prompt library, a JSON file: {library}")


def sampling_request(args: argparse.Namespace) -> SamplingRequest:
    """How pictures are drawn, as Slider Sampling would say it."""
    values = chosen(args, "sampling")
    settings = SamplerSettings(values["steps"], values["cfg"], values["sampler_name"], values["scheduler"])
    library = read_prompts(args.prompts) if args.prompts else None
    return SamplingRequest(
        settings, values["prompt"], values["picture_seed"], library=library, distilled=Distilled(values["distilled"])
    )


def strip_of(args: argparse.Namespace, host: Host, dataset: Dataset, run: Run, autosave: Autosave) -> Strip | None:
    """The strip that the options ask for, or None."""
    request = sampling_request(args)
    if not (request.prompt or request.library or args.strip):
        return None
    if not request.prompt:
        request = replace(request, prompt=some_prompt(dataset))
    draw = host.strip(request, getattr(args, "training.strip_strengths"), args.picture_size)
    file = autosave.folder / f"{autosave.stem}_strip.png"
    return Strip(draw, run, file, getattr(args, "training.strip_every"))
