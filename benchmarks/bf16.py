"""What does it cost to round a slider's factors to the bfloat16 of the model's layers? Gradients, and the slider that comes out.

    python benchmarks/bf16.py             # docs/benchmarks-speed.md quotes it

Both measurable worlds' models in bfloat16. `float32 factors` computes the change in float32 and rounds it once, when it is added;
`bfloat16 factors` is the product. The reference is the same model (its bfloat16 weights) computed in float32.

cosine, error   of each layer's gradient with the reference's, over eight batches, after 60 steps: median and worst layer
learned, effect of a slider of 150 steps: on noise that no step has, and drawn by the float32 model, share of the images' gap
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import stages
import torch
import verdicts

from slider_core.config.training import TrainSpec
from slider_core.layers.select import survey
from slider_core.lora.algorithms.lora import LoraPart
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import attached
from slider_core.objective.step_loss import step_target
from slider_core.train.trainer import Trainer

TASKS = (("faces", "eyes"), ("heads", "size"))
BEFORE, BATCHES, STEPS = 60, 8, 150
SIDES = ("float32 model", "float32 factors", "bfloat16 factors")


def rounded(model: Any) -> Any:
    """The model with the numbers that bfloat16 leaves of its weights, computed in float32."""
    for p in model.module.parameters():
        p.data = p.data.bfloat16().float()
    return model


def in_bfloat16(model: Any) -> Any:
    """The model as ComfyUI loads it: weights, and what goes through the layers, in bfloat16."""
    model.module.to(torch.bfloat16)

    def cast(_layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(a.bfloat16() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args)

    for part in model.module.modules():
        if not list(part.children()):
            part.register_forward_pre_hook(cast)

    def predict(x: torch.Tensor, sigma: torch.Tensor, cond: Sequence[Any]) -> torch.Tensor:
        text = torch.cat([c.value for c in cond]).bfloat16()
        return model.module(x.bfloat16(), sigma * 1000, text).float()

    model.predict = predict
    return model


def side(name: str, world: str) -> tuple[Any, AbstractContextManager[Any]]:
    """The model, and what is in force while it trains."""
    model = rounded(verdicts.world(world))
    if name == SIDES[0]:
        return model, nullcontext()
    whole = patch.object(LoraPart, "input_format", lambda part, _given: part.down.weight.dtype)
    return in_bfloat16(model), whole if name == SIDES[1] else nullcontext()


def trainer_on(model: Any, samples: Sequence[Any], steps: int) -> Trainer:
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=0)
    return Trainer(adapter, samples, TrainSpec(steps=steps, lr=0.0))


def gradients(name: str, world: str, trainer: Trainer, asked: Sequence[Any]) -> list[torch.Tensor]:
    """(layers) the gradients of both factors of each layer, over the batches in a row."""
    model, within = side(name, world)
    adapter = Adapter.create(model.module, trainer.adapter.targets, verdicts.LORA)
    adapter.load_state(trainer.adapter.state())
    rows: list[list[torch.Tensor]] = [[] for _ in adapter.targets]
    with within, attached(adapter, model.module), torch.enable_grad():
        for target in asked:
            found = torch.autograd.grad(target.loss(model, adapter).mean(), adapter.parameters())
            for number, row in enumerate(rows):
                row += [part.flatten() for part in found[2 * number : 2 * number + 2]]
    return [torch.cat(row) for row in rows]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| world, attribute | computed | cosine, median and worst | error, median and worst | learned | effect |")
    print("|---" * 6 + "|")
    for world, attribute in TASKS:
        model = side(SIDES[0], world)[0]
        samples = stages.samples_of(model, world, attribute, "ends", 0)
        first = trainer_on(model, samples, BEFORE)
        first.run(model, BEFORE, read_every=10**6)
        asked = [step_target(model, first._plan.batch(BEFORE + n), first.spec) for n in range(BATCHES)]
        right = gradients(SIDES[0], world, first, asked)
        for name in SIDES:
            found = gradients(name, world, first, asked)
            pairs = list(zip(found, right, strict=True))
            cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs]
            errors = [float((a - b).norm() / b.norm()) for a, b in pairs]
            trained_on, within = side(name, world)
            trainer = trainer_on(trained_on, samples, STEPS)
            with within:
                trainer.run(trained_on, STEPS, read_every=10**6)
            ends = [stages.values(model, world, trainer.adapter, strength)[attribute] for strength in (1.0, -1.0)]
            extreme = stages.FACE_EXTREME if world == "faces" else stages.EXTREME
            effect = stages._change(*ends) / (2 * extreme)
            cells = [
                f"{statistics.median(cosines):.4f}, {min(cosines):.4f}",
                f"{statistics.median(errors):.3f}, {max(errors):.3f}",
            ]
            cells += [f"{trainer.readings[-1].mean:.1%}", f"{effect:.2f}"]
            print(f"| {world}, {attribute} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
