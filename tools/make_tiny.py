"""Make benchmarks/worlds/first_faces.safetensors: train the embedded model on renders of the world. Reproducible on a CPU.

That file grew in three runs, about two hours of one core in all:

    more="--batch 32 --lr 1e-3 --sigma-centre 0.6 --focus 0.25"
    python tools/make_tiny.py --window 8 --out build/tiny-1.safetensors
    python tools/make_tiny.py --init build/tiny-1.safetensors --steps 10000 --stop 3001 --seed 1 $more \
        --out build/tiny-2.safetensors
    python tools/make_tiny.py --init build/tiny-2.safetensors --steps 9500 --seed 2 $more

The first learns from scratch on patches that do not overlap; the second widens them, with smaller batches and more noise.
The same commands give the same numbers on the same machine and thread count; elsewhere rounding leads to a sibling.
The loss is that of the velocity (error of x0 / sigma^2), held down below sigma = focus, where it would only polish pixels
that are already right.
The network sees captions that name skin and background only, so mouth, eyes, size and place are what sliders teach it to steer.
Words for some of those came later, by tools/make_tiny_words.py, and with them longer tables: the runs above now give a sibling.
Last, tools/make_tiny_whole.py taught it to end in whole mouths, into the slider_core/with_tiny/tiny.safetensors that is shipped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.with_tiny.faces import render, sample_faces  # noqa: E402
from slider_core.with_tiny.model import MIN_SIGMA, PATCH, WINDOW, TinyText, TinyTransformer, tokenize  # noqa: E402


class TinyModel(nn.Module):
    """Text and image part together, as they are trained and shipped."""

    def __init__(self, window: int = WINDOW) -> None:
        super().__init__()
        self.text, self.diffusion_model = TinyText(), TinyTransformer(window=window)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.diffusion_model(x, sigma * 1000, self.text(ids))


def initialise(model: TinyModel) -> None:
    """Zero what a residual branch ends in, so that training starts from the identity (DiT's adaLN-Zero)."""
    for table in (p for n, p in model.named_parameters() if n.endswith("scale_shift_table")):
        table.requires_grad_(True)
        nn.init.zeros_(table)
    nn.init.zeros_(model.diffusion_model.modulation.weight)
    nn.init.zeros_(model.diffusion_model.modulation.bias)
    for block in model.diffusion_model.blocks:
        nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(block.attn2.to_out[0].bias)
    nn.init.normal_(model.text.word.weight, std=0.5)
    nn.init.normal_(model.text.position.weight, std=0.1)


def widen(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of patches that do not overlap, for windows that do: the new border sees nothing and draws what its edge drew."""
    name_in, name_out = ("diffusion_model." + n for n in ("proj_in.weight", "proj_out."))
    if state[name_in].shape[-1] == WINDOW:
        return state
    edge = (WINDOW - PATCH) // 2
    nearest = (torch.arange(WINDOW) - edge).clamp(0, PATCH - 1)
    wide = dict(state)
    wide[name_in] = nn.functional.pad(state[name_in], (edge, edge, edge, edge))
    for name in (name_out + "weight", name_out + "bias"):
        rest = state[name].shape[1:]
        wide[name] = state[name].reshape(3, PATCH, PATCH, *rest)[:, nearest][:, :, nearest].reshape(-1, *rest)
    return wide


def train(args: argparse.Namespace) -> tuple[TinyModel, float]:
    """(average of the weights, running loss)."""
    steps, batch, renders, lr, seed = args.steps, args.batch, args.renders, args.lr, args.seed
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    faces = sample_faces(renders, generator)
    images = torch.cat([render(faces[i : i + 500]).mul(255).round().to(torch.uint8) for i in range(0, renders, 500)])
    ids = torch.tensor([tokenize(f.caption) for f in faces])
    model, mean = TinyModel(args.window), TinyModel(args.window)
    initialise(model)
    if args.init:
        model.load_state_dict(widen({k: v.float() for k, v in load_file(args.init).items()}))
    mean.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    start, shown = time.time(), 0.0
    for step in range(args.stop or steps):
        rate = lr * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / steps) * 0.98)
        optimizer.param_groups[0]["lr"] = rate
        pick = torch.randint(renders, (batch,), generator=generator)
        x0 = images[pick].float() / 127.5 - 1
        words = torch.where(torch.rand(batch, 1, generator=generator) < 0.1, torch.zeros_like(ids[pick]), ids[pick])
        sigma = torch.sigmoid(torch.randn(batch, generator=generator) * 1.1 + args.sigma_centre)
        noise = torch.randn(x0.shape, generator=generator)
        s = sigma[:, None, None, None]
        error = (model((1 - s) * x0 + s * noise, sigma, words) - (noise - x0)).square().mean(dim=(1, 2, 3))
        loss = (error * (sigma.clamp_min(MIN_SIGMA) / sigma.clamp_min(args.focus)).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(0.999, (step + 1) / (step + 20))
        with torch.no_grad():
            for m, p in zip(mean.parameters(), model.parameters(), strict=True):
                m.lerp_(p, 1 - decay)
        shown = loss.item() if step == 0 else 0.99 * shown + 0.01 * loss.item()
        if step % 100 == 0:
            sys.stderr.write(f"step {step}/{steps} loss {shown:.4f} {time.time() - start:.0f} s\n")
    return mean, shown


def save(model: TinyModel, path: Path, made: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    half = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(half, path, metadata={"made": json.dumps(made)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--renders", type=int, default=20000)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sigma-centre", type=float, default=0.2, help="sigma = sigmoid(1.1 normal + this)")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"side of a patch; {PATCH}: patches do not overlap")
    parser.add_argument("--stop", type=int, help="end at this step of the schedule")
    parser.add_argument("--focus", type=float, default=MIN_SIGMA, help="see above")
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "worlds" / "first_faces.safetensors")
    args = parser.parse_args()
    model, loss = train(args)
    chosen = {k: v for k, v in vars(args).items() if k not in ("out", "init")}
    made = chosen | {"init": bool(args.init), "loss": round(loss, 4), "torch": torch.__version__}
    save(model, args.out, made)
    sys.stderr.write(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), loss {loss:.4f}\n")


if __name__ == "__main__":
    main()
