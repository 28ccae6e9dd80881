"""Make benchmarks/worlds/heads.safetensors: the regressor and the model of the second world. About 25 minutes of one core.

    OMP_NUM_THREADS=1 python benchmarks/worlds/make_heads.py

The same command gives the same numbers on the same machine and thread count; elsewhere rounding leads to a sibling.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from descent import descend, flow_loss  # noqa: E402
from heads import WEIGHTS, Heads, caption, heads, render, tokens  # noqa: E402

RENDERS, BATCH = 20_000, 20


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

    def loss() -> torch.Tensor:
        return flow_loss(model, images, ids, BATCH, generator)

    shown, done = descend(parameters, 1.5e-3, steps, loss, seconds)
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
