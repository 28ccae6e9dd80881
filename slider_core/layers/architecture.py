r"""What a row of the table of architectures says: how a diffusion model names its layers, and which a slider may touch.

The rows stand in architectures_image.py and architectures_video.py. The rule behind every row is the slider guide of SimpleTuner
(Concept Sliders' "leave text alone"): the self-attention projections of blocks that carry image (or joint) tokens, the model's
own input and output projection where the guide's `proj_in`, `proj_out`, `conv_in`, `conv_out` point at them, and the time
embedding where it is a plain MLP. Nothing that carries only text: no cross-attention, no text refiner, no caption projection,
no text encoder inside the model.

Expressions are for `re.search` on a module's path inside the diffusion model, in ComfyUI's spelling. To add an architecture, add
a row to one of the two tables:

    Architecture(
        "krea2",  # the preset's name
        "Krea 2",
        recognised_by=(r"^blocks\.0\.attn\.wq$", r"^txtfusion\.projector$"),
        patterns=(r"^blocks\.\d+\.attn\.w[qkvo]$", r"^tmlp\.[02]$"),
        text=(r"^txtfusion\.", r"^txtmlp\."),
    ),

and an entry to tests/zoo, which builds the full-size model and compares it with the row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One naming scheme.

    Each expression of `recognised_by` must match some module path; the first row of which all do is taken.
    `patterns` name the layers that may move, `text` the layers that carry only text (reported, and never touched).
    `fused` are those among `patterns` whose output stacks q, k and v, each as tall as the input, and then something else:
    only the q, k, v rows move. `reference` is what the guide's own list, by its diffusers names, reaches in this
    architecture: None where just the `patterns`, empty where nothing or the architecture has no diffusers twin.
    """

    name: str
    title: str
    recognised_by: tuple[str, ...]
    patterns: tuple[str, ...]
    text: tuple[str, ...]
    fused: tuple[str, ...] = ()
    reference: tuple[str, ...] | None = ()

    def reference_patterns(self) -> tuple[str, ...]:
        """The expressions of `reference`, spelt out."""
        return self.patterns if self.reference is None else self.reference
