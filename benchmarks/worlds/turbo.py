"""The faces, distilled to four steps at cfg 1, with a training adapter that undoes the distillation: Z-Image Turbo's case.

The student draws in four steps what the model that was the built-in one (29 November 2026) draws in twelve at cfg 3. It is asked
at four noise levels alone, and what it answers there is no velocity any more: the guided one, and its mean until the next level.
The assistant is a LoRA on the student that denoises as an ordinary model does; it acts while a slider trains, and is gone when
the slider is used. Both are made by make_turbo.py.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from safetensors.torch import load_file

from slider_core.layers.layer import find_layer
from slider_core.lora.slider_file import load_slider
from slider_core.with_tiny.model import TinyBackend, TinyTransformer

WEIGHTS = Path(__file__).with_name("turbo.safetensors")
ASSISTANT = Path(__file__).with_name("turbo_assistant.safetensors")
FEW = 4


def whole(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """In float32. Parts that the built-in model's class got later are 0: they end in a sum, which they leave as it is."""
    later = {f"diffusion_model.{key}": torch.zeros_like(value) for key, value in TinyTransformer().state_dict().items()}
    return later | {key: value.float() for key, value in weights.items()}


class TurboBackend(TinyBackend):
    """The student as a Backend; for training, with its `assistant` patched into the weights as a host's LoRA loader does."""

    name = "turbo faces"

    def __init__(self, weights: dict[str, torch.Tensor] | None = None, assistant: bool = False) -> None:
        super().__init__(whole(weights or load_file(WEIGHTS)))
        self.few_steps = 0 if assistant else FEW
        if assistant:
            self.patch(ASSISTANT)

    def patch(self, lora: Path) -> None:
        for target, weight in load_slider(lora).weights.items():
            layer = find_layer(self.module, target)
            layer.weight += weight.delta().float().view_as(layer.weight)


@torch.no_grad()
def trajectory(model: TinyBackend, noise: torch.Tensor, words: torch.Tensor, steps: int = 1, cfg: float = 1.0) -> torch.Tensor:
    """(FEW + 1, N, 3, 64, 64): where Euler's steps, `steps` in each of FEW parts, go by from the noise to the picture."""
    x, passed = noise, [noise]
    empty = model.encode_prompt("").value.expand_as(words)
    for done, (now, following) in enumerate(itertools.pairwise(torch.linspace(1, 0, FEW * steps + 1)), 1):
        velocity = model.module(x, now.expand(len(x)) * 1000, words)
        if cfg != 1:
            velocity = velocity + (cfg - 1) * (velocity - model.module(x, now.expand(len(x)) * 1000, empty))
        x = x + (following - now) * velocity
        if done % steps == 0:
            passed.append(x)
    return torch.stack(passed)
