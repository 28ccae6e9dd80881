"""A measurable world of short clips: one ball moves evenly over a grey ground, 8 frames of 16 x 16 pixels.

The model is ComfyUI's own class for Wan at a tiny width, in pixels, trained by make_balls.py on clips and on single frames
together, as Wan was. In three things it is not Wan, because a model of this size learned no motion otherwise (figures in
make_balls.py): a token holds all frames of its 4 x 4 pixels; two further input channels, as Wan's image-to-video models have
some, say where a pixel lies, which the class alone learns from distances between tokens; and its answer is the clean clip, from
which the velocity follows. A single frame is repeated until it fills its tokens. What a clip shows is read back in closed form:
the ball's centre in every frame and the line through them.
Needs ComfyUI (COMFYUI_PATH, or where tests/rings.py looks).
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from rings import find_comfyui  # noqa: E402

COMFY = find_comfyui()
if COMFY is None:
    raise SystemExit("This world needs ComfyUI: set COMFYUI_PATH to its folder.")
sys.path.append(str(COMFY))

from comfy.cli_args import args as comfy_args  # noqa: E402

comfy_args.cpu = not torch.cuda.is_available()  # read when ComfyUI's memory management is imported
comfy_args.use_pytorch_cross_attention = True

from comfy import model_management, ops  # noqa: E402
from comfy.ldm.wan.model import WanModel  # noqa: E402

from slider_core.backend import Conditioning, Memory, per_sample  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.lora.strength import at_strength  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

SIZE, FRAMES, PATCH, WIDTH, TEXT_WIDTH, EXTREME, SHIFT, STEPS = 16, 8, 4, 128, 32, 0.9, 3.0, 16
CLEAREST = 0.05  # below this sigma the answer is divided by it
WEIGHTS = Path(__file__).with_name("balls.safetensors")
NUMBERS = ("speed", "heading", "size", "light", "x", "y")  # each U(-1, 1)
COLOURS = {"red": (0.85, 0.15, 0.15), "green": (0.15, 0.65, 0.25), "blue": (0.20, 0.30, 0.90), "yellow": (0.95, 0.85, 0.15)}
WAYS = {"right": 1.0, "left": -1.0}
WORDS = ("<pad>", "a", "ball", "moving", *COLOURS, *WAYS)
LENGTH = 8
PIXELS, PIXELS_PER_SPEED = 0.75, 0.6  # per frame
TILT = math.radians(55)  # at a heading of 1: downwards
RADIUS, RADIUS_PER_SIZE, OFFSET = 2.5, 0.5, 0.7
MOMENTS = torch.arange(FRAMES) - (FRAMES - 1) / 2  # frames from the middle of a clip
_along = torch.linspace(-1, 1, SIZE)
PLACE = torch.stack(torch.meshgrid(_along, _along, indexing="xy"))[None, :, None]  # (1, 2, 1, 16, 16): x and y of each pixel
WAN: dict[str, Any] = {
    "model_type": "t2v",
    "patch_size": (FRAMES, PATCH, PATCH),
    "in_dim": 5,
    "out_dim": 3,
    "dim": WIDTH,
    "ffn_dim": 4 * WIDTH,
    "freq_dim": 64,
    "text_dim": TEXT_WIDTH,
    "text_len": LENGTH,
    "num_heads": 4,
    "num_layers": 3,
    "qk_norm": True,
    "cross_attn_norm": True,
    "dtype": torch.float32,
    "device": "cpu",
    "operations": ops.disable_weight_init,
}
Balls = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (N, len(NUMBERS)) numbers, (N,) colours and (N,) ways by place


def balls(count: int, generator: torch.Generator) -> Balls:
    numbers = torch.rand(count, len(NUMBERS), generator=generator) * 2 - 1
    colour = torch.randint(len(COLOURS), (count,), generator=generator)
    return numbers, colour, torch.randint(len(WAYS), (count,), generator=generator)


def caption(colour: int, way: int) -> str:
    return f"a {list(COLOURS)[colour]} ball moving {list(WAYS)[way]}"


def tokens(text: str) -> torch.Tensor:
    """(1, LENGTH) ids; an empty prompt is padding."""
    ids = [WORDS.index(word) for word in text.split() if word in WORDS][:LENGTH]
    return torch.tensor([ids + [0] * (LENGTH - len(ids))])


def _axes() -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(SIZE) + 0.5
    return axis[None, :], axis[:, None]


def render(some: Balls, moments: torch.Tensor = MOMENTS) -> torch.Tensor:
    """(N, T, 3, 16, 16) in [0, 1] at `moments` (T,) or (N, T), in frames from the middle."""
    numbers, colour, way = some
    speed, heading, size, light, x, y = numbers[:, :, None].unbind(1)
    along = moments * (PIXELS + PIXELS_PER_SPEED * speed)  # (N, T) pixels from the middle of the path
    middle = SIZE / 2
    centre_x = middle + OFFSET * x + along * torch.cos(TILT * heading) * torch.tensor(list(WAYS.values()))[way][:, None]
    centre_y = middle + OFFSET * y + along * torch.sin(TILT * heading)
    px, py = _axes()
    distance = ((px - centre_x[:, :, None, None]) ** 2 + (py - centre_y[:, :, None, None]) ** 2).sqrt()
    cover = (RADIUS + RADIUS_PER_SIZE * size[:, :, None, None] - distance + 0.5).clamp(0, 1)[:, :, None]
    ground = (0.5 + 0.2 * light)[:, :, None, None, None]
    paint = torch.tensor(list(COLOURS.values()))[colour][:, None, :, None, None]
    return (ground + cover * (paint - ground)).clamp(0, 1)


def read(clips: torch.Tensor) -> dict[str, torch.Tensor]:
    """What clips (N, T, 3, 16, 16) in [0, 1] show, (N,) each: speed, heading, size and light in the world's units, `way`
    (1 right, -1 left), `colour` by place, and `wobble`, the ball's distance from its line in pixels. NaN without a ball."""
    rows = [_read(clip.float()) for clip in clips]
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def _read(clip: torch.Tensor) -> dict[str, float]:
    edge = torch.ones(SIZE, SIZE, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    ground = clip[:, :, edge].permute(1, 0, 2).flatten(1).median(dim=1).values
    palette = torch.tensor(list(COLOURS.values()))
    far = (clip - ground[:, None, None]).square().sum(1).flatten(1).topk(6, dim=1).indices  # the ball's inside, of each frame
    inside = clip.flatten(2).gather(2, far[:, None].expand(-1, 3, -1)).mean(dim=(0, 2))
    colour = int((palette - inside).norm(dim=1).argmin())
    way = palette[colour] - ground
    cover = ((clip - ground[:, None, None]) * way[:, None, None]).sum(1) / way.square().sum()
    cover = torch.where(cover > 0.1, cover.clamp(max=1), 0.0)
    area = cover.sum(dim=(1, 2))
    light = (float(ground.mean()) - 0.5) / 0.2
    if float(area.min()) < 4:
        return dict.fromkeys(("speed", "heading", "size", "way", "wobble"), math.nan) | {"light": light, "colour": colour}
    px, py = _axes()
    centres = torch.stack([(cover * at).sum(dim=(1, 2)) / area for at in (px, py)], dim=1)
    moments = torch.arange(len(clip)) - (len(clip) - 1) / 2
    step = (moments[:, None] * (centres - centres.mean(0))).sum(0) / moments.square().sum().clamp_min(1e-9)
    lost = centres - centres.mean(0) - moments[:, None] * step
    speed = float(step.norm())
    return {
        "speed": (speed - PIXELS) / PIXELS_PER_SPEED,
        "heading": math.asin(max(-1.0, min(1.0, float(step[1]) / max(speed, 1e-6)))) / TILT,
        "size": (float((area / math.pi).sqrt().mean()) - RADIUS) / RADIUS_PER_SIZE,
        "light": light,
        "way": math.copysign(1.0, float(step[0])),
        "colour": colour,
        "wobble": float(lost.square().sum(1).mean().sqrt()),
    }


class BallsModel(nn.Module):
    """All that is trained and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Embedding(len(WORDS), TEXT_WIDTH)
        self.diffusion_model = WanModel(**WAN)


def velocity(model: nn.Module, x: torch.Tensor, sigma_B: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """(noise - clip) for clips (B, 3, T, 16, 16) from the clean clip that the model answers; a single frame is a clip that
    stands still."""
    clips = x if x.shape[2] == FRAMES else x.repeat(1, 1, FRAMES, 1, 1)
    clean = model(torch.cat([clips, PLACE.expand(len(x), -1, FRAMES, -1, -1)], dim=1), sigma_B * 1000, context)
    if x.shape[2] != FRAMES:
        clean = clean.mean(dim=2, keepdim=True)
    return (x - clean) / per_sample(sigma_B.clamp_min(CLEAREST), x)


@contextmanager
def differentiable() -> Iterator[None]:
    """ComfyUI's rope has a gradient only under its own flag."""
    before = model_management.in_training
    model_management.in_training = True
    try:
        yield
    finally:
        model_management.in_training = before


class BallsBackend(TinyBackend):
    """The model as a Backend: pixels in [-1, 1] as latents (3, T, 16, 16), flow matching with a shift, as Wan has one."""

    name = "balls"
    image_step = PATCH
    resolution = SIZE

    def __init__(self, weights: dict[str, torch.Tensor] | None = None) -> None:
        weights = weights or {key: value.float() for key, value in load_file(WEIGHTS).items()}
        self.device = torch.device("cpu")
        self.memory = Memory(self.device)
        whole = BallsModel().eval().requires_grad_(False)
        whole.load_state_dict(weights)
        self.module: Any = whole.diffusion_model
        self._text: Any = whole.text

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Single images (B, 3, H, W) are clips of one frame."""
        clips = image_BCHW if image_BCHW.ndim == 5 else image_BCHW[:, None]
        return clips.movedim(1, 2) * 2 - 1

    def encode_prompt(self, text: str) -> Conditioning:
        with torch.no_grad():
            return Conditioning(text, self._text(tokens(text)))

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        return SHIFT * u_B / (1 + (SHIFT - 1) * u_B)

    def even_sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        return u_B

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        with differentiable():
            yield

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        return velocity(self.module, x_BCHW, sigma_B, torch.cat([c.value for c in cond]))

    def prompt(self, seed: int) -> str:
        """What is drawn from a seed's noise."""
        return caption(seed % len(COLOURS), seed // 2 % len(WAYS))

    @torch.no_grad()
    def draw(
        self, adapter: Adapter | None, weight: float, seeds: Sequence[int], steps: int = STEPS, frames: int = FRAMES
    ) -> torch.Tensor:
        """(len(seeds), frames, 3, 16, 16) in [0, 1] at one LoRA weight, every seed its own noise and prompt."""
        shape = (3, frames, SIZE, SIZE)
        x = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(50_000 + s)) for s in seeds])
        cond = [self.encode_prompt(self.prompt(s)) for s in seeds]
        for now, following in itertools.pairwise(self.sigmas(torch.linspace(1, 0, steps + 1))):
            sigma = now.clamp_max(0.999).expand(len(seeds))
            if adapter is None:
                velocity = self.predict(x, sigma, cond)
            else:
                with at_strength(adapter, self.module, [weight] * len(seeds)):
                    velocity = self.predict(x, sigma, cond)
            x = x + (following - now) * velocity
        return ((x + 1) / 2).clamp(0, 1).movedim(2, 1)


def pairs(model: BallsBackend, attribute: str, count: int, seed: int, frames: int = FRAMES, right: bool = False) -> list[Sample]:
    """Encoded balls with the attribute at both ends, all else the same; of one frame they are single images of one moment.
    `right`: all of them move that way."""
    generator = torch.Generator().manual_seed(100 + seed)
    numbers, colour, way = balls(count, generator)
    if right:
        way = torch.zeros_like(way)
    moments = MOMENTS if frames == FRAMES else MOMENTS[torch.randint(FRAMES, (count, 1), generator=generator)]
    samples = []
    for sign in (1.0, -1.0):
        ends = numbers.clone()
        ends[:, NUMBERS.index(attribute)] = sign * EXTREME
        latents = model.encode_images(render((ends, colour, way), moments))
        for number, latent in enumerate(latents):
            cond = model.encode_prompt(caption(int(colour[number]), int(way[number])))
            samples.append(Sample(latent, cond, sign, number))
    return samples
