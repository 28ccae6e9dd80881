"""Teach the embedded model to end in whole mouths, without a new layer: slider_core/with_tiny/tiny.safetensors.

    export OMP_NUM_THREADS=1 first=benchmarks/worlds/first_faces.safetensors
    python tools/make_tiny_whole.py --out build/whole-1.safetensors
    python tools/make_tiny_whole.py --init build/whole-1.safetensors --steps 500 --seed 1 \\
        --drawings 1000 --drawings-seed 78 --worst 0.4 --out build/whole-2.safetensors
    python tools/make_tiny_whole.py --init build/whole-1.safetensors --steps 800 --seed 1 --lr 6e-4 \\
        --before $first --out build/whole-3.safetensors
    python tools/make_tiny_whole.py --mean build/whole-[123].safetensors --out build/whole-mean.safetensors
    python tools/make_tiny_whole.py --init build/whole-mean.safetensors --moved 0.5 --steps 500 --seed 5 --drawings 400 \\
        --before $first --out slider_core/with_tiny/tiny.safetensors
    python tools/make_tiny_whole.py --measure --init slider_core/with_tiny/tiny.safetensors

It begins with what make_tiny.py and make_tiny_words.py made (SHA-256 from 364c4b21a180). Drawn from noise, that model breaks
some mouths: one side smiles, the other does not. No rendered picture has such a mouth, so no training on renders says what to do
with it. Here the model sees its own drawings at low noise, and is asked for the nearest whole
face. Half of each batch are renders: below TEACH as make_tiny.py has them, above it with the answer of the model as it was
(`--before`), so that what high noise decides, which is where a slider acts, stays. `--moved` renders keep known to it what a
training moves. Words and what reads them are frozen.

`--measure` draws held-out seeds, those of the README's strip first, and tells how far each mouth lies from the nearest whole one.
About half an hour of one core that is free. The same commands give the same numbers on the same machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.objective.noising import shifted  # noqa: E402
from slider_core.with_tiny.faces import Face, measure, mouth_place, render, sample_faces  # noqa: E402
from slider_core.with_tiny.model import MIN_SIGMA, TinyBackend, load_weights, tokenize  # noqa: E402
from slider_core.with_tiny.model_sweep import held_out_caption  # noqa: E402

FOCUS, CENTRE, SPREAD = 0.25, 0.2, 1.1  # of the loss and the noise levels of renders: see make_tiny.py
TOP, TEACH = 0.45, 0.45  # own drawings are noised up to here; above, renders are answered as by the model as it was
OWN_STEPS = (16, 16, 8, 6)  # Euler steps that the own drawings are made in, a part of them each
MOUTHS = [bend / 40 for bend in range(-52, 53)]  # of the whole faces that a drawing is compared with
PART, WHOLE, HELD_OUT = 8, 0.06, 64  # pictures drawn in one call; root mean square that a whole mouth lies within; seeds
FIRST = ROOT / "benchmarks" / "worlds" / "first_faces.safetensors"
FAR = 4  # pixels, a sixteenth of the side
FROZEN = ("said", "attn2.to_k", "attn2.to_v")  # what hears words


@torch.no_grad()
def drawn(model: TinyBackend, captions: Sequence[str], noise: torch.Tensor, steps: int = 16) -> torch.Tensor:
    """A picture for each caption and noise (N, 3, 64, 64), by Euler steps even over sigma: (N, 3, 64, 64) in [0, 1]."""
    conds, x = [model.encode_prompt(caption) for caption in captions], noise
    for now, following in itertools.pairwise(torch.linspace(1, 0, steps + 1)):
        x = x + (following - now) * model.predict(x, now.expand(len(x)), conds)
    return ((x + 1) / 2).clamp(0, 1)


def nearest_whole(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each picture with a face (N, 3, 64, 64): the whole face, drawn, whose mouth comes nearest, and the root mean square
    between the two where a mouth can be; infinity, and the picture itself, where there is no face."""
    faces, distances = [], []
    for image, face in zip(images, measure(images), strict=True):
        if math.isnan(face.size):
            faces.append(image)
            distances.append(math.inf)
            continue
        rest = dataclasses.replace(face, eyes=max(-1.3, min(1.3, face.eyes)))
        whole = render([dataclasses.replace(rest, mouth=bend) for bend in MOUTHS])
        apart = (whole - image)[:, :, mouth_place(face)].square().mean(dim=(1, 2)).sqrt()
        nearest = int(apart.argmin())
        faces.append(whole[nearest])
        distances.append(float(apart[nearest]))
    return torch.stack(faces), torch.tensor(distances)


def held_out(model: TinyBackend) -> torch.Tensor:
    """(HELD_OUT,) how far the mouths of held-out seeds lie from whole ones."""
    distances = []
    for first in range(0, HELD_OUT, PART):
        seeds = range(first, first + PART)
        noise = torch.stack([torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(50_000 + seed)) for seed in seeds])
        distances.append(nearest_whole(drawn(model, [held_out_caption(seed) for seed in seeds], noise))[1])
    return torch.cat(distances)


class Drawings:
    """The model's own drawings with the nearest whole faces, as bytes, and their captions' word ids. Of `count` drawings the
    share `worst` is kept, whose mouths lie furthest from whole ones."""

    def __init__(self, model: TinyBackend, count: int, worst: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        faces, parts = sample_faces(count, generator), []
        for number, first in enumerate(range(0, count, PART)):
            captions = [face.caption for face in faces[first : first + PART]]
            noise = torch.randn(len(captions), 3, 64, 64, generator=generator)
            parts.append(drawn(model, captions, noise, OWN_STEPS[number % len(OWN_STEPS)]))
        own = torch.cat(parts)
        whole, distances = nearest_whole(own)
        kept = distances.isfinite() & (distances >= distances.quantile(1 - worst))
        self.own, self.whole, self.ids = as_bytes(own[kept]), as_bytes(whole[kept]), word_ids(faces)[kept]

    def batch(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(pictures, the whole faces wanted, word ids, sigma); half of the pictures are some way to the whole face already."""
        pick = torch.randint(len(self.own), (count,), generator=generator)
        own, whole = as_latent(self.own[pick]), as_latent(self.whole[pick])
        way = torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < 0.5)
        picture = own + way[:, None, None, None] * (whole - own)
        mirrored = torch.rand(count, generator=generator) < 0.5
        picture[mirrored], whole[mirrored] = picture[mirrored].flip(-1), whole[mirrored].flip(-1)
        return picture, whole, self.ids[pick], 0.02 + (TOP - 0.02) * torch.rand(count, generator=generator)


class Renders:
    """Faces of the world as make_tiny.py trains on them; the share `moved` of a batch is moved as a training moves pairs."""

    def __init__(self, count: int, moved: float, generator: torch.Generator) -> None:
        self.moved = moved
        faces = sample_faces(count, generator)
        self.images = torch.cat([as_bytes(render(faces[first : first + 500])) for first in range(0, count, 500)])
        self.ids = word_ids(faces)

    def batch(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(pictures, word ids, sigma)."""
        pick = torch.randint(len(self.images), (count,), generator=generator)
        sigma = torch.sigmoid(torch.randn(count, generator=generator) * SPREAD + CENTRE)
        unsaid = torch.rand(count, 1, generator=generator) < 0.1
        pictures = as_latent(self.images[pick])
        for place in range(round(self.moved * count)):
            down, right = torch.randint(-FAR, FAR + 1, (2,), generator=generator).tolist()
            pictures[place] = shifted(pictures[place], (down, right))
        return pictures, self.ids[pick].masked_fill(unsaid, 0), sigma


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    return images.mul(255).round().to(torch.uint8)


def as_latent(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1


def word_ids(faces: Sequence[Face]) -> torch.Tensor:
    return torch.tensor([tokenize(face.caption) for face in faces])


def teach(weights: dict[str, torch.Tensor], args: argparse.Namespace) -> float:
    """Train all of `weights` that hears no words; the running loss. They become the average over the last steps."""
    model, before = TinyBackend(weights), TinyBackend(load_weights(args.before or args.init))
    generator = torch.Generator().manual_seed(args.seed)
    drawings = Drawings(before, args.drawings, args.worst, args.drawings_seed)
    renders = Renders(args.renders, args.moved, generator)
    words, position = weights["text.word.weight"], weights["text.position.weight"]
    learning = {n: p.requires_grad_(True) for n, p in model.module.named_parameters() if not any(part in n for part in FROZEN)}
    mean = {name: p.detach().clone() for name, p in learning.items()}
    optimizer = torch.optim.AdamW(learning.values(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0)
    start, shown = time.time(), 0.0
    for step in range(args.steps):
        rate = args.lr * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps) * 0.98)
        optimizer.param_groups[0]["lr"] = rate
        batch = Batch(renders.batch(args.batch, generator), drawings.batch(args.batch, generator), generator)
        loss = batch.loss(model, before, words[batch.ids] + position)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning.values(), 1.0)
        optimizer.step()
        decay = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, p in learning.items():
                mean[name].lerp_(p, 1 - decay)
        shown = loss.item() if step == 0 else 0.99 * shown + 0.01 * loss.item()
        if step % 100 == 0:
            sys.stderr.write(f"step {step}/{args.steps} loss {shown:.5f} {time.time() - start:.0f} s\n")
    weights.update({f"diffusion_model.{name}": value for name, value in mean.items()})
    return shown


class Batch:
    """Renders, then own drawings, noised: x (N, 3, 64, 64) at sigma (N,), and the clean pictures wanted."""

    def __init__(self, rendered: Sequence[torch.Tensor], own: Sequence[torch.Tensor], generator: torch.Generator) -> None:
        pictures, ids, levels = rendered
        drawings, faces, own_ids, own_levels = own
        self.ids, self.sigma = torch.cat([ids, own_ids]), torch.cat([levels, own_levels])
        self.s = self.sigma[:, None, None, None]
        noise = torch.randn(len(self.sigma), 3, 64, 64, generator=generator)
        self.x = (1 - self.s) * torch.cat([pictures, drawings]) + self.s * noise
        self.wanted = torch.cat([pictures, faces])
        self.high = (levels > TEACH).nonzero().flatten()

    def loss(self, model: TinyBackend, before: TinyBackend, context: torch.Tensor) -> torch.Tensor:
        """The mean error of the clean picture, by the weight of make_tiny.py; `before` answers for renders above TEACH."""
        x, s, high = self.x, self.s, self.high
        with torch.no_grad():
            velocity = before.module(x[high], self.sigma[high] * 1000, context[high])
            self.wanted[high] = x[high] - s[high] * velocity
        clean = x - s.clamp_min(MIN_SIGMA) * model.module(x, self.sigma * 1000, context)
        return ((clean - self.wanted).square().mean(dim=(1, 2, 3)) / self.sigma.clamp_min(FOCUS).square()).mean()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=16, help="renders of a step, and as many own drawings")
    parser.add_argument("--drawings", type=int, default=1600)
    parser.add_argument("--drawings-seed", type=int, default=77)
    parser.add_argument("--worst", type=float, default=1.0, help="share of the drawings that is kept, the furthest from whole")
    parser.add_argument("--renders", type=int, default=6000)
    parser.add_argument("--moved", type=float, default=0.0, help="share of the renders that is moved by up to 4 pixels")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, default=FIRST)
    parser.add_argument("--before", type=Path, help="the model that makes the drawings and answers at high noise; else --init")
    parser.add_argument("--mean", type=Path, nargs="+", help="train nothing: write the mean of these weights")
    parser.add_argument("--measure", action="store_true", help="train nothing, write nothing: measure --init")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "whole.safetensors")
    return parser.parse_args()


def mean_of(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    every = [load_weights(path) for path in paths]
    return {name: torch.stack([weights[name] for weights in every]).mean(dim=0) for name in every[0]}


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    if args.measure:
        weights = load_weights(args.init)
    else:
        source = args.mean[0] if args.mean else args.init
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
        if args.mean:
            weights = mean_of(args.mean)
            metadata["mean of"] = str(len(args.mean))
        else:
            weights = load_weights(args.init)
            made = {name: value for name, value in vars(args).items() if type(value) in (int, float)}
            made |= {"loss": round(teach(weights, args), 5), "torch": torch.__version__}
            metadata["whole"] = json.dumps(made)
        save_file({name: value.half().contiguous() for name, value in weights.items()}, args.out, metadata)
        weights = load_weights(args.out)
    distances = held_out(TinyBackend(weights))
    count = int((distances < WHOLE).sum())
    sys.stdout.write(f"{count} of {HELD_OUT} mouths lie within {WHOLE} of a whole one, the worst at {distances.max():.3f}\n")


if __name__ == "__main__":
    main()
