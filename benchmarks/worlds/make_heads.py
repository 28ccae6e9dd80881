"""Make benchmarks/worlds/heads.safetensors: the regressor and the model of the second world. About 25 minutes of one core.

    OMP_NUM_THREADS=1 python benchmarks/worlds/make_heads.py

The same command gives the same numbers on the same machine and thread count; elsewhere rounding leads to a sibling.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from heads import WEIGHTS, Heads, caption, heads, render, tokens  # noqa: E402

RENDERS, BATCH, CENTRE = 20_000, 20, 0.4  # sigma = sigmoid(1.1 normal + CENTRE)


def train_reader(model: Heads, images: torch.Tensor, numbers: torch.Tensor, steps: int, generator: torch.Generator) -> float:
    """The regressor, on renders with a little noise and blur; the last error."""
    optimizer = torch.optim.AdamW(model.reader.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    error = torch.zeros(())
    for _ in range(steps):
        pick = torch.randint(len(images), (64,), generator=generator)
        image = images[pick].float() / 255
        image = image + 0.04 * torch.rand(64, 1, 1, 1, generator=generator) * torch.randn(image.shape, generator=generator)
        error = (model.reader(image) - numbers[pick, :6]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    return float(error.detach())


def train_model(
    model: Heads, images: torch.Tensor, hair: torch.Tensor, seconds: float, generator: torch.Generator, steps: int
) -> tuple[dict[str, torch.Tensor], float, int]:
    """(averaged weights, running loss, steps): `steps` of them, or fewer when `seconds` are over."""
    ids = torch.cat([tokens(caption(int(h))) for h in range(int(hair.max()) + 1)])[hair]
    parameters = [*model.text.parameters(), *model.diffusion_model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.99), weight_decay=0.01)
    mean = [p.detach().clone() for p in parameters]
    start = time.time()
    shown = 1.0
    done = 0
    way = 0.0
    while done < steps and way < 1:
        way = max(done / steps, (time.time() - start) / seconds)
        optimizer.param_groups[0]["lr"] = 1.5e-3 * min(1.0, (done + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * min(1.0, way)))
        pick = torch.randint(len(images), (BATCH,), generator=generator)
        x0 = images[pick].float() / 127.5 - 1
        words = torch.where(torch.rand(BATCH, 1, generator=generator) < 0.1, torch.zeros_like(ids[pick]), ids[pick])
        sigma = torch.sigmoid(1.1 * torch.randn(BATCH, generator=generator) + CENTRE)
        noise = torch.randn(x0.shape, generator=generator)
        s = sigma[:, None, None, None]
        velocity = model.diffusion_model((1 - s) * x0 + s * noise, sigma * 1000, model.text(words))
        loss = (velocity - (noise - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        done += 1
        with torch.no_grad():
            for average, p in zip(mean, parameters, strict=True):
                average.lerp_(p, 1 - min(0.998, done / (done + 20)))
        shown += 0.01 * (float(loss.detach()) - shown)
        if done % 100 == 0:
            sys.stderr.write(f"step {done}/{steps} loss {shown:.4f} {time.time() - start:.0f} s\n")
    with torch.no_grad():
        for average, p in zip(mean, parameters, strict=True):
            p.copy_(average)
    return model.state_dict(), shown, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=1200, help="the model's training ends here at the latest")
    parser.add_argument("--reader-steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    model = Heads()
    numbers, hair = heads(RENDERS, generator)
    images = torch.cat([render(numbers[i : i + 500], hair[i : i + 500]) for i in range(0, RENDERS, 500)])
    images = images.mul(255).round().to(torch.uint8)
    error = train_reader(model, images, numbers, args.reader_steps, generator)
    sys.stderr.write(f"reader: mean squared error {error:.4f}\n")
    weights, loss, done = train_model(model, images, hair, args.seconds, generator, args.steps)
    made = {"seed": args.seed, "steps": done, "loss": round(loss, 4), "reader": round(error, 4), "torch": torch.__version__}
    save_file({key: value.half().contiguous() for key, value in weights.items()}, args.out, {"made": json.dumps(made)})
    sys.stderr.write(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), loss {loss:.4f}, {done} steps\n")


if __name__ == "__main__":
    main()
