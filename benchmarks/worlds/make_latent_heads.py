"""Make benchmarks/worlds/latent_heads.safetensors: the VAE, the regressor and the UNet of the third world, in that order.

    OMP_NUM_THREADS=1 python benchmarks/worlds/make_latent_heads.py

The UNet of the kept weights was trained for about 4050 steps of 24 (16 minutes of one core) with `--init` on the VAE and
regressor of a run before, and ended by the clock. All of 16 noises give a whole head, at cfg 1, 3 and 4, and did so after about
1700 steps. A first one, with 32 group norms of one channel each, half as wide and with every level's error weighted alike, drew
six whole heads in 16 after 2147 steps; the others had wrong colours.
Prints what the VAE loses and how well the regressor reads unseen heads through it. The same command gives the same numbers on the
same machine and thread count, unless `--seconds` ends the training; elsewhere rounding leads to a sibling.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from descent import descend  # noqa: E402
from heads import ATTRIBUTES, OTHERS, heads, render  # noqa: E402
from latent_heads import WEIGHTS, LatentHeads, caption, noise_levels, tokens  # noqa: E402

UNSEEN = 400  # heads that nothing is trained on
HIGHEST_WEIGHT = 30.0  # of a noise level's error


def drawn(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(pictures in bytes, numbers, hair colours)."""
    numbers, hair = heads(count, generator)
    parts = [render(numbers[i : i + 250], hair[i : i + 250]).mul(255).round().to(torch.uint8) for i in range(0, count, 250)]
    return torch.cat(parts), numbers, hair


def in_parts(run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([run(part) for part in rows.split(250)])


def train_vae(model: LatentHeads, images: torch.Tensor, steps: int, generator: torch.Generator) -> None:
    def loss() -> torch.Tensor:
        image = images[torch.randint(len(images), (16,), generator=generator)].float() / 127.5 - 1
        mean, spread = model.vae.moments(image)
        seen = model.vae.decoder(mean + (spread / 2).exp() * torch.randn(mean.shape, generator=generator))
        kl = (mean.square() + spread.exp() - 1 - spread).mean() / 2
        return (seen - image).square().mean() + (seen - image).abs().mean() / 10 + 3e-4 * kl

    descend(model.vae.parameters(), 3e-3, steps, loss)
    with torch.no_grad():
        latents = model.encode(images[:1000].float() / 255)
        model.mean += latents.mean(dim=(0, 2, 3), keepdim=True)
        model.spread *= latents.std(dim=(0, 2, 3), keepdim=True)


def train_reader(
    model: LatentHeads, latents: torch.Tensor, numbers: torch.Tensor, steps: int, generator: torch.Generator
) -> None:
    """On what the VAE draws of latents with a little noise: what a sampler leaves is not clean."""

    def loss() -> torch.Tensor:
        pick = torch.randint(len(latents), (32,), generator=generator)
        noise = 0.1 * torch.rand(32, 1, 1, 1, generator=generator) * torch.randn(latents[pick].shape, generator=generator)
        with torch.no_grad():
            image = model.decode(latents[pick] + noise)
        return (model.read(image) - numbers[pick, :6]).square().mean()

    descend(model.reader.parameters(), 2e-3, steps, loss)


def reader_errors(model: LatentHeads, latents: torch.Tensor, numbers: torch.Tensor) -> dict[str, float]:
    """Mean absolute error of each attribute, on a range of 2."""
    read = in_parts(lambda part: model.read(model.decode(part)), latents)
    mean = (read - numbers[:, :6]).abs().mean(dim=0).tolist()
    return {name: round(error, 4) for name, error in zip((*ATTRIBUTES, *OTHERS), mean, strict=True)}


def train_unet(
    model: LatentHeads, latents: torch.Tensor, ids: torch.Tensor, args: argparse.Namespace, generator: torch.Generator
) -> tuple[float, int]:
    """Every level's error counts as that of a velocity: at high noise a small error of the noise is a wrong picture."""
    levels = noise_levels()
    batch = args.batch

    def loss() -> torch.Tensor:
        pick = torch.randint(len(latents), (batch,), generator=generator)
        words = torch.where(torch.rand(batch, 1, generator=generator) < 0.1, torch.zeros_like(ids[pick]), ids[pick])
        step = ((torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) * 1000 / batch).long()
        noise = torch.randn(latents[pick].shape, generator=generator)
        sigma = levels[step][:, None, None, None]
        x = (latents[pick] + sigma * noise) / (1 + sigma**2).sqrt()
        error = (model.diffusion_model(x, step.float(), model.text(words)) - noise).square()
        return (error * (1 + sigma**2).clamp_max(HIGHEST_WEIGHT)).mean()

    parameters = [*model.text.parameters(), *model.diffusion_model.parameters()]
    return descend(parameters, args.lr, args.steps, loss, args.seconds, lambda: save(model, args.out, {"steps": "unfinished"}))


def save(model: LatentHeads, path: Path, made: dict[str, object]) -> None:
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, path, {"made": json.dumps(made)})


def begin(model: LatentHeads) -> None:
    """ComfyUI's layers come without numbers: torch's own start, and zero where a residual branch ends."""
    for part in model.diffusion_model.modules():
        for kind in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm):
            if isinstance(part, kind):
                kind.reset_parameters(part)
    for name, p in model.diffusion_model.named_parameters():
        if name.startswith("out.2") or name.rpartition(".")[0].endswith(("out_layers.3", "proj_out")):
            nn.init.zeros_(p)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=12000)
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--reader-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seconds", type=float, default=math.inf, help="the UNet's training ends here at the latest")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="weights to go on from: of these the UNet alone is trained")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    model = LatentHeads()
    begin(model)
    images, numbers, hair = drawn(args.renders + UNSEEN, generator)
    ids = torch.cat([tokens(caption(row, int(colour))) for row, colour in zip(numbers, hair, strict=True)])
    seen = slice(UNSEEN, None)
    if args.init:
        model.load_state_dict({key: value.float() for key, value in load_file(args.init).items()})
    else:
        train_vae(model, images[seen], args.vae_steps, generator)
    latents = in_parts(lambda part: model.encode(part.float() / 255), images)
    lost = (in_parts(model.decode, latents[:UNSEEN]) - images[:UNSEEN].float() / 255).square().mean().sqrt()
    if not args.init:
        train_reader(model, latents[seen], numbers[seen], args.reader_steps, generator)
    errors = reader_errors(model, latents[:UNSEEN], numbers[:UNSEEN])
    sys.stderr.write(f"VAE: root mean square {lost:.4f}; reader's mean error {errors}\n")
    loss, done = train_unet(model, latents[seen], ids[seen], args, generator)
    made = {
        "seed": args.seed,
        "steps": done,
        "init": bool(args.init),
        "loss": round(loss, 4),
        "vae": round(float(lost), 4),
        "torch": torch.__version__,
    }
    made |= {"reader": errors}
    save(model, args.out, made)
    sys.stderr.write(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), loss {loss:.4f}, {done} steps\n")


if __name__ == "__main__":
    main()
