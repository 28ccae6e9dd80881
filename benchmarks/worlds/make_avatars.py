"""Make benchmarks/worlds/avatars.safetensors: the regressor and the model of the fourth world.

    DICEBEAR_PATH=<folder> OMP_NUM_THREADS=1 python benchmarks/worlds/make_avatars.py

Every avatar is drawn as it is and at both ends of each attribute. The regressor learns from these pairs and from blends of their
two pictures, which lie as far between the ends as they are blended; its error on unseen avatars is printed and kept. The same
command gives the same numbers on the same machine and thread count, unless `--seconds` ends the training.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from avatars import ATTRIBUTES, WEIGHTS, Avatar, Avatars, at_end, avatars, caption, draw, tokens, truth  # noqa: E402
from descent import descend, flow_loss  # noqa: E402

UNSEEN = 150  # avatars that nothing is trained on


def every_way(some: list[Avatar]) -> list[Avatar]:
    """Each avatar, then its pair of each attribute: 1 + 2 len(ATTRIBUTES) in a row."""
    return [way for one in some for way in (one, *(at_end(one, name, sign) for name in ATTRIBUTES for sign in (1, -1)))]


def blends(
    images: torch.Tensor, known: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(pictures in [0, 1], what they show, the attribute that is blended) of `count` pairs. `images`: (N, 9, 3, 32, 32)."""
    avatar = torch.randint(len(images), (count,), generator=generator)
    name = torch.randint(len(ATTRIBUTES), (count,), generator=generator)
    share = torch.rand(count, generator=generator)
    share = torch.where(torch.rand(count, generator=generator) < 0.4, share.round(), share)
    plus, minus = (images[avatar, 1 + 2 * name + side].float() / 255 for side in (0, 1))
    shown = known[avatar].clone()
    shown[torch.arange(count), name] = 2 * share - 1
    return minus + share[:, None, None, None] * (plus - minus), shown, name


def train_reader(model: Avatars, images: torch.Tensor, known: torch.Tensor, steps: int, generator: torch.Generator) -> None:
    def loss() -> torch.Tensor:
        image, shown, _ = blends(images, known, 48, generator)
        image = image + 0.05 * torch.rand(48, 1, 1, 1, generator=generator) * torch.randn(image.shape, generator=generator)
        return (model.reader(image) - shown)[shown.isfinite()].square().mean()

    descend(model.reader.parameters(), 2e-3, steps, loss)


def reader_errors(model: Avatars, images: torch.Tensor, known: torch.Tensor, generator: torch.Generator) -> dict[str, float]:
    """Mean absolute error on blends of unseen pairs, ends among them, on a range of 2."""
    image, shown, name = blends(images, known, 1200, generator)
    with torch.no_grad():
        error = (model.reader(image) - shown).abs()
    return {what: round(float(error[name == place, place].mean()), 4) for place, what in enumerate(ATTRIBUTES)}


def train_model(
    model: Avatars, images: torch.Tensor, ids: torch.Tensor, args: argparse.Namespace, generator: torch.Generator
) -> tuple[float, int]:
    def loss() -> torch.Tensor:
        return flow_loss(model, images, ids, args.batch, generator)

    return descend([*model.text.parameters(), *model.diffusion_model.parameters()], args.lr, args.steps, loss, args.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatars", type=int, default=1500)
    parser.add_argument("--reader-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=math.inf, help="the model's training ends here at the latest")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    some = avatars(args.avatars + UNSEEN, args.seed)
    images = draw(every_way(some)).unflatten(0, (len(some), -1))
    known = torch.tensor([truth(one) for one in some])
    model = Avatars()
    train_reader(model, images[UNSEEN:], known[UNSEEN:], args.reader_steps, generator)
    errors = reader_errors(model, images[:UNSEEN], known[:UNSEEN], generator)
    sys.stderr.write(f"reader's mean error {errors}\n")
    ids = torch.cat([tokens(caption(one)) for one in some])[UNSEEN:].repeat_interleave(images.shape[1], dim=0)
    loss, done = train_model(model, images[UNSEEN:].flatten(0, 1), ids, args, generator)
    made = {"seed": args.seed, "steps": done, "loss": round(loss, 4), "reader": errors, "torch": torch.__version__}
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, args.out, {"made": json.dumps(made)})
    sys.stderr.write(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), loss {loss:.4f}, {done} steps\n")


if __name__ == "__main__":
    main()
