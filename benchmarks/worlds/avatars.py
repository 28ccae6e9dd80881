"""A fourth measurable world, of pictures that nobody here drew: Avataaars by Pablo Stanley, as DiceBear has them, 32 pixels.

The package's own options are the truth: a pair differs in the mouth, the eyes, the glasses or the hair and in nothing else. The
model is the second world's flow transformer trained on them, the regressor a network of its own. Made by make_avatars.py. Nothing
was ever chosen on this world: it is the exam (exam.py).

The drawings (https://avataaars.com/, free for personal and commercial use) are not in this repository, only what was learned from
them: `draw` renders them where DiceBear is installed (doctor_avatars.mjs says how), and keeps them in build/.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heads import SIZE, WIDTH, HeadsBackend, HeadTransformer, Reader
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from slider_core.backend import Conditioning, Memory
from slider_core.encode.alignment import line_up
from slider_core.encode.encoder import Sample

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = Path(__file__).with_name("avatars.safetensors")
SKINS = {"dark": "614335", "brown": "ae5d29", "tan": "d08b5b", "light": "edb98a", "pale": "ffdbb4"}
COLOURS = {"black": "2c1b18", "brown": "724133", "red": "c93305", "blond": "d6b370", "silver": "e8e1e1"}
SHORT = ("shortFlat", "shortCurly", "theCaesar", "shortRound", "shortWaved", "sides")
LONG = ("straight01", "bob", "straight02", "longButNotTooLong", "curvy", "miaWallace")
BACKS, SHIRTS = ("b6e3f4", "c0aede", "ffd5dc", "d1d4f9"), ("262e33", "65c9ff", "ff5c5c", "e6e6e6")
# what a slider can be trained on: the positive end, the negative end, what else there is
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "mouth": ({"mouth": ["smile"]}, {"mouth": ["sad"]}, ({"mouth": ["twinkle"]}, {"mouth": ["serious"]}, {"mouth": ["default"]})),
    "eyes": ({"eyes": ["surprised"]}, {"eyes": ["closed"]}, ({"eyes": ["default"]}, {"eyes": ["happy"]})),
    "glasses": ({"accessoriesProbability": 100}, {"accessoriesProbability": 0}, ()),
    "hair": ({"top": LONG}, {"top": SHORT}, ()),
}
ATTRIBUTES = tuple(ENDS)
WORDS = ("<pad>", "an", "avatar", "with", "skin", "and", "hair", *dict.fromkeys((*SKINS, *COLOURS)))
LENGTH = 8
Avatar = dict[str, Any]  # DiceBear's options, every one decided


def avatars(count: int, seed: int) -> list[Avatar]:
    """`count` avatars drawn from the world: every third of an attribute lies at each end, or half where there is no middle."""
    draw = random.Random(seed)
    return [_avatar(draw) for _ in range(count)]


def _avatar(draw: random.Random) -> Avatar:
    skin, colour = draw.choice(list(SKINS)), draw.choice(list(COLOURS))
    options: Avatar = {"seed": "one", "scale": 150, "translateY": 2, "facialHairProbability": 0, "style": ["default"]}
    options |= {"clothing": ["shirtCrewNeck"], "clothesColor": [draw.choice(SHIRTS)], "eyebrows": ["default"]}
    options |= {"backgroundColor": [draw.choice(BACKS)], "skinColor": [SKINS[skin]], "hairColor": [COLOURS[colour]]}
    options |= {
        "accessories": ["wayfarers"],
        "accessoriesColor": ["262e33"],
        "words": (skin, colour),
        "hair": draw.randrange(len(LONG)),
    }
    for attribute, (plus, minus, others) in ENDS.items():
        ends: list[tuple[dict[str, Any], float | None]] = [(plus, 1.0), (minus, -1.0)]
        if others:
            ends.append((draw.choice(others), None))
        chosen, value = draw.choice(ends)
        options = _with(options, chosen) | {f"is {attribute}": value}
    return options


def _with(options: Avatar, end: dict[str, Any]) -> Avatar:
    if "top" in end:
        return options | {"top": [end["top"][options["hair"]]]}
    return options | end


def at_end(options: Avatar, attribute: str, sign: int) -> Avatar:
    """The same avatar at one end of an attribute."""
    return _with(options, ENDS[attribute][0 if sign > 0 else 1]) | {f"is {attribute}": float(sign)}


def caption(options: Avatar) -> str:
    skin, colour = options["words"]
    return f"an avatar with {skin} skin and {colour} hair"


def truth(options: Avatar) -> list[float]:
    """The attributes as the options have them; NaN for what is neither end."""
    return [float("nan") if options[f"is {name}"] is None else options[f"is {name}"] for name in ATTRIBUTES]


def draw(every: Sequence[Avatar]) -> torch.Tensor:
    """(N, 3, 32, 32) bytes, rendered by DiceBear in the folder DICEBEAR_PATH, once."""
    plain = [{k: v for k, v in one.items() if k not in ("words", "hair") and not k.startswith("is ")} for one in every]
    kept = ROOT / "build" / f"avatars-{hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]}.npy"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        np.save(kept, _rendered(plain))
    return torch.from_numpy(np.load(kept))


def _rendered(every: Sequence[Avatar]) -> np.ndarray[Any, Any]:
    folder = os.environ.get("DICEBEAR_PATH")
    if not folder:
        raise SystemExit("The avatars are drawn by DiceBear: set DICEBEAR_PATH to a folder made as doctor_avatars.mjs says.")
    script = Path(__file__).parents[1] / "doctor_avatars.mjs"
    with tempfile.TemporaryDirectory() as scratch:
        files = [f"{scratch}/{number}.png" for number in range(len(every))]
        jobs = [("avataaars", one, SIZE, file) for one, file in zip(every, files, strict=True)]
        subprocess.run(["node", str(script), "draw"], input=json.dumps(jobs), text=True, check=True, cwd=folder)
        return np.stack([np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files])


class Avatars(nn.Module):
    """All that is trained and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Embedding(len(WORDS), WIDTH)
        self.diffusion_model = HeadTransformer()
        self.reader = Reader(len(ATTRIBUTES))  # where between its two ends each attribute lies, -1 to 1


def tokens(text: str) -> torch.Tensor:
    """(1, LENGTH) ids; an empty prompt is padding."""
    ids = [WORDS.index(word) for word in text.split() if word in WORDS][:LENGTH]
    return torch.tensor([ids + [0] * (LENGTH - len(ids))])


class AvatarsBackend(HeadsBackend):
    """The model as a Backend: pixels in [-1, 1], flow matching."""

    name = "avatars"

    def __init__(self, weights: dict[str, torch.Tensor] | None = None) -> None:
        weights = weights or {key: value.float() for key, value in load_file(WEIGHTS).items()}
        self.device = torch.device("cpu")
        self.memory = Memory(self.device)
        whole = Avatars().eval().requires_grad_(False)
        whole.load_state_dict(weights)
        self.module = whole.diffusion_model
        self._text = whole.text
        self.reader = whole.reader

    def encode_prompt(self, text: str) -> Conditioning:
        with torch.no_grad():
            return Conditioning(text, self._text(tokens(text)))

    def prompt(self, seed: int) -> str:
        return caption({"words": (list(SKINS)[seed % len(SKINS)], list(COLOURS)[seed // 2 % len(COLOURS)])})


def pairs(model: AvatarsBackend, attribute: str, count: int, seed: int, unpaired: bool = False) -> list[Sample]:
    """Encoded avatars with the attribute at both ends; unpaired ones share nothing else."""
    every = avatars(2 * count, 100 + seed)
    samples = []
    sides = [
        [at_end(one, attribute, sign) for one in (every[count:] if unpaired and sign < 0 else every[:count])] for sign in (1, -1)
    ]
    latents = [model.encode_images(draw(side).float() / 255) for side in sides]
    aligned = line_up(*latents)
    for sign, side, latent in zip((1.0, -1.0), sides, latents, strict=True):
        for number, (one, picture) in enumerate(zip(side, latent, strict=True)):
            samples.append(Sample(picture, model.encode_prompt(caption(one)), sign, number, aligned=aligned))
    return samples
