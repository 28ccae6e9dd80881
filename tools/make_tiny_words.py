"""Teach the embedded model words for attributes: smiling, sad, open and closed eyes, large, small. Nothing it had is changed.

    python tools/make_tiny_words.py

Everything that make_tiny.py made is frozen. What is learned is new: the embeddings of the new words (textual inversion,
Gal et al. 2022) and, because those alone could not bend a mouth (a gap of 0.0 after 1500 steps, and 0.35 on the eyes), what each
word adds to the modulation of every block (adaLN, Peebles and Xie 2023, "DiT"). A word is told from all others by a unit

    max(0, read . embedding - floor)

whose direction the text layers of the frozen model hardly read, and whose floor lies above every old word at every place. So
captions without a new word are answered by the same numbers, bit for bit: tests/core/test_tiny.py holds that.
Faces and noise come in twos, a face and its opposite in all that is said, so that gradients are of what the words set apart.
About a minute of one core that is free.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.with_tiny.faces import PHRASES, Face, render, sample_faces  # noqa: E402
from slider_core.with_tiny.model import DEPTH, MIN_SIGMA, PLAIN, SAID, TEXT_WIDTH, VOCABULARY, TinyBackend, tokenize  # noqa: E402

LOUD, MARGIN = 6.0, 1.0  # length of a new word along its own direction, and how far the floor lies above the old words
FOCUS, CENTRE = 0.25, 0.8  # of the loss and the noise levels: see make_tiny.py
LEAST = 0.6  # how far an attribute that is said lies from the middle, at least


def untaught(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with new words that are heard (their units light up) and do nothing yet."""
    state = {k: v.clone() for k, v in weights.items() if ".said_" not in k}
    state["text.word.weight"] = state["text.word.weight"][:PLAIN]
    names = [f"diffusion_model.blocks.{block}.attn2.to_{n}.weight" for block in range(DEPTH) for n in "kv"]
    quiet = torch.linalg.svd(torch.cat([state[n] for n in names])).Vh[-len(SAID) :].half().float()
    words = state["text.word.weight"][:, None] + state["text.position.weight"][None]
    floor = (words.flatten(0, 1) @ quiet.T).amax(dim=0) + MARGIN
    state["diffusion_model.said_read"] = quiet / (LOUD - floor)[:, None]
    state["diffusion_model.said_floor"] = floor / (LOUD - floor)
    state["diffusion_model.said_steer"] = torch.zeros(DEPTH, len(SAID), state["diffusion_model.modulation.bias"].numel())
    new = torch.cat([LOUD * quiet, torch.zeros(len(VOCABULARY) - PLAIN - len(SAID), TEXT_WIDTH)])
    state["text.word.weight"] = torch.cat([state["text.word.weight"], new])
    return state


def said_of(face: Face, draw: random.Random) -> tuple[tuple[Face, str], tuple[Face, str]]:
    """(a face, its caption) and its opposite in all that the captions say."""
    names = [name for name in PHRASES if draw.random() < 0.5] or [draw.choice(list(PHRASES))]
    draw.shuffle(names)
    plain = draw.choice(
        [face.caption] * 4 + ["a face", f"a face on a {face.background} background", f"a face with {face.skin} skin"]
    )
    value = {name: draw.choice((1, -1)) * draw.uniform(LEAST, 1) for name in names}
    found = []
    for sign in (1, -1):
        phrases = [PHRASES[name][0 if sign * value[name] > 0 else 1] for name in names]
        opposite = dataclasses.replace(face, **{name: sign * value[name] for name in names})
        found.append((opposite, ", ".join([plain, *phrases])))
    return found[0], found[1]


def batches(count: int, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(images, token ids, sigma, noise) of `count` faces and their opposites, which share noise and sigma."""
    generator, draw = torch.Generator().manual_seed(seed), random.Random(seed)
    for _ in range(steps):
        twos = [said_of(face, draw) for face in sample_faces(count, generator)]
        told = [two[side] for side in (0, 1) for two in twos]
        sigma = torch.sigmoid(torch.randn(count, generator=generator) + CENTRE).repeat(2)
        images = render([face for face, _ in told]) * 2 - 1
        noise = torch.randn(count, *images.shape[1:], generator=generator).repeat(2, 1, 1, 1)
        yield images, torch.tensor([tokenize(caption) for _, caption in told]), sigma, noise


def teach(state: dict[str, torch.Tensor], args: argparse.Namespace) -> float:
    """Train the new words' tensors in `state`; the running loss."""
    backend = TinyBackend(state)
    module, steer = backend.module, backend.module.said_steer.requires_grad_(True)
    table, position = state["text.word.weight"], state["text.position.weight"]
    quiet = nn.functional.normalize(state["diffusion_model.said_read"], dim=1)
    beside = torch.eye(TEXT_WIDTH) - quiet.T @ quiet  # what the units do not see
    own = nn.Parameter(torch.zeros(len(VOCABULARY) - PLAIN, TEXT_WIDTH))
    groups = [{"params": [steer], "rate": args.lr}, {"params": [own], "rate": 0.01}]
    optimizer, start, shown = torch.optim.Adam(groups, betas=(0.9, 0.99)), time.time(), 0.0
    for step, (x0, ids, sigma, noise) in enumerate(batches(args.faces, args.steps, args.seed)):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        words = torch.cat([table[:PLAIN], table[PLAIN:] + own @ beside])
        s = sigma[:, None, None, None]
        error = module((1 - s) * x0 + s * noise, sigma * 1000, words[ids] + position) - (noise - x0)
        weight = (sigma.clamp_min(MIN_SIGMA) / sigma.clamp_min(FOCUS)).square()
        loss = (error.square().mean(dim=(1, 2, 3)) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shown = loss.item() if step == 0 else 0.99 * shown + 0.01 * loss.item()
        if step % 100 == 0:
            sys.stderr.write(f"step {step}/{args.steps} loss {shown:.5f} {time.time() - start:.0f} s\n")
    state["text.word.weight"] = torch.cat([table[:PLAIN], (table[PLAIN:] + own @ beside).detach()])
    state["diffusion_model.said_steer"] = steer.detach()
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--faces", type=int, default=12, help="of a step, each with its opposite")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=ROOT / "benchmarks" / "worlds" / "first_faces.safetensors")
    parser.add_argument("--out", type=Path, help="the file of the weights unless given")
    args = parser.parse_args()
    out, known = args.out or args.weights, load_file(args.weights)
    with safe_open(args.weights, "pt") as file:
        metadata = file.metadata() or {}
    state = untaught({k: v.float() for k, v in known.items()})
    loss = teach(state, args)
    made = {k: v for k, v in vars(args).items() if k not in ("weights", "out")} | {
        "loss": round(loss, 5),
        "torch": torch.__version__,
    }
    save_file({k: v.half().contiguous() for k, v in state.items()}, out, metadata | {"words": json.dumps(made)})
    sys.stderr.write(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB), loss {loss:.5f}\n")


if __name__ == "__main__":
    main()
