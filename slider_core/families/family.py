"""What a row of the table of families says. The rows stand in rows_image.py and rows_video.py; table.py finds one.

To add a family, add a row:

    Family("krea2", "Krea 2", "krea2", Drawing(8, 1.0, source="image_krea2_turbo_t2i"), Training(512, GUESS), host=("Krea2",)),

whose third entry is its architecture (layers/architectures_*.py), and whose `host` is needed only where one architecture has
several families; and write docs/settings.md again: python tools/make_settings.py.
"""

from __future__ import annotations

from dataclasses import dataclass

# Sources. A name alone is a workflow template of ComfyUI 0.33, whose sampler node has the numbers.
GUESS = "no template: a place to start"
MEASURED = "measured on the built-in model"


@dataclass(frozen=True)
class Drawing:
    """Sampler settings. `guidance`: what FluxGuidance sets on the prompt; 0: nothing. `shift`: of the noise levels, where the
    host's own is another; 0: the host's. `source`: where the numbers come from."""

    steps: int
    cfg: float
    sampler: str = "euler"
    scheduler: str = "simple"
    guidance: float = 0.0
    shift: float = 0.0
    source: str = GUESS


@dataclass(frozen=True)
class Training:
    """Images of `resolution` pixels (the side of a square of the same area), `batch` of them in a step, clips of `frames`."""

    resolution: int
    source: str = GUESS
    batch: int = 4
    frames: int = 1


@dataclass(frozen=True)
class Variant:
    """A model of the family that is drawn otherwise, recognised by a file name in lower case. `name`: its title."""

    name: str
    pattern: str
    drawing: Drawing
    few_step: bool = True  # distilled: it is trained at its sampler's levels
    size: int = 0  # of a picture; 0: the family's
    resolution: int = 0  # of training; 0: the family's


@dataclass(frozen=True)
class Family:
    """Models of one architecture that are drawn alike.

    `host`: the classes of comfy.supported_models; empty: any. `has` and `lacks`: expressions that match some, or no, module path.
    `size`: the side of a picture, pixels. `few_step`: every model of the family is distilled. `fps`: frames a second of a video,
    as the template of `drawing` saves it; 0: not known.
    """

    name: str
    title: str
    architecture: str
    drawing: Drawing
    training: Training
    host: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    size: int = 1024
    few_step: bool = False
    variants: tuple[Variant, ...] = ()
    fps: int = 0
