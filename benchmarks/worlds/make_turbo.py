"""Make benchmarks/worlds/turbo.safetensors and turbo_assistant.safetensors. About five minutes of one core.

    OMP_NUM_THREADS=1 python benchmarks/worlds/make_turbo.py

The teacher, a model of the faces, draws from noise in twelve Euler steps at cfg 3. The student begins as a copy of it and learns,
at the four levels of a sampler of four steps, the mean guided velocity until the next, with no negative prompt. The assistant is
a LoRA on the frozen student, trained by flow matching on renders. The same command gives the same numbers of the same teacher on
the same machine and thread count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from descent import descend, flow_loss  # noqa: E402
from turbo import ASSISTANT, FEW, WEIGHTS, TurboBackend, trajectory, whole  # noqa: E402

from slider_core.config.lora import AdapterSpec, FileDtype, Preset  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.info import SliderInfo  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.lora.slider_file import Slider, save_slider  # noqa: E402
from slider_core.lora.strength import at_strength  # noqa: E402
from slider_core.with_tiny import model as tiny  # noqa: E402
from slider_core.with_tiny.faces import CONTINUOUS, SIZE, measure, render, sample_faces  # noqa: E402

STEPS_BETWEEN = 3  # the teacher's, from one of the student's levels to the next
CFG = 3.0  # the teacher's
PART, BATCH, RENDERS, UNSEEN = 50, 12, 6_000, 40


class Student(nn.Module):
    """All that is trained and kept."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.text = tiny.TinyText()
        self.diffusion_model = tiny.TinyTransformer()
        self.load_state_dict(whole(weights))
        self.requires_grad_(False)


def captions(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, 16) word ids: skin and background, a tenth without words."""
    ids = torch.tensor([tiny.tokenize(face.caption) for face in sample_faces(count, generator)])
    return torch.where(torch.rand(count, 1, generator=generator) < 0.1, torch.zeros_like(ids), ids)


def noises(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=generator)


def passed_by(teacher: TurboBackend, text: nn.Module, ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(FEW + 1, len(ids), 3, 64, 64) half floats: the teacher's trajectories at the student's levels."""
    found = torch.empty(FEW + 1, len(ids), 3, SIZE, SIZE, dtype=torch.half)
    for first in range(0, len(ids), PART):
        words = text(ids[first : first + PART])
        found[:, first : first + PART] = trajectory(teacher, noises(len(words), generator), words, STEPS_BETWEEN, CFG).half()
        if first % 500 == 0:
            sys.stderr.write(f"trajectory {first} of {len(ids)}\n")
    return found


def distil(teacher: TurboBackend, student: Student, args: argparse.Namespace, generator: torch.Generator) -> tuple[float, int]:
    """(running loss, steps) of the mean velocity between two levels, on the teacher's own trajectories."""
    ids = captions(args.trajectories, generator)
    if not args.passed.exists():
        args.passed.parent.mkdir(exist_ok=True)
        save_file({"passed": passed_by(teacher, student.text, ids, torch.Generator().manual_seed(args.seed + 2))}, args.passed)
    passed = load_file(args.passed)["passed"]
    if args.only_pass:
        raise SystemExit(0)
    levels = torch.linspace(1, 0, FEW + 1)
    trained = [p for name, p in student.diffusion_model.named_parameters() if not name.startswith("said_")]
    for p in trained:
        p.requires_grad_(True)

    def loss() -> torch.Tensor:
        pick = torch.randint(args.trajectories, (BATCH,), generator=generator)
        level = torch.randint(FEW, (BATCH,), generator=generator)
        here, there = passed[level, pick].float(), passed[level + 1, pick].float()
        velocity = student.diffusion_model(here, levels[level] * 1000, student.text(ids[pick]))
        return (velocity - FEW * (here - there)).square().mean()

    found = descend(trained, args.lr, args.steps, loss, args.seconds)
    student.requires_grad_(False)
    return found


def assist(student: Student, args: argparse.Namespace, generator: torch.Generator) -> tuple[Adapter, float]:
    """The LoRA on every layer with which the frozen student denoises renders, and its running loss."""
    faces = sample_faces(RENDERS, generator)
    images = torch.cat([render(faces[i : i + 500]) for i in range(0, RENDERS, 500)]).mul(255).round().to(torch.uint8)
    ids = torch.tensor([tiny.tokenize(face.caption) for face in faces])
    module = student.diffusion_model
    spec = AdapterSpec(rank=args.rank, alpha=args.rank, preset=Preset.ALL)
    adapter = Adapter.create(module, survey(module, spec).targets, spec, seed=args.seed)

    def loss() -> torch.Tensor:
        with at_strength(adapter, module, [1.0] * BATCH):
            return flow_loss(student, images, ids, BATCH, generator)

    return adapter, descend(adapter.parameters(), args.assistant_lr, args.assistant_steps, loss)[0]


@torch.no_grad()
def missed(teacher: TurboBackend, drawn: TurboBackend, cfg: float, text: nn.Module, seed: int) -> dict[str, float]:
    """How far four steps of `drawn` end from the teacher's twelve, from unseen noise: in pixels (root mean square, of a range
    of 1) and in what is read (mean absolute, of a range of 2)."""
    generator = torch.Generator().manual_seed(seed + 1)
    words, noise = text(captions(UNSEEN, generator)), noises(UNSEEN, generator)
    ends = [trajectory(teacher, noise, words, STEPS_BETWEEN, CFG)[-1], trajectory(drawn, noise, words, 1, cfg)[-1]]
    wanted, found = (((end + 1) / 2).clamp(0, 1) for end in ends)
    read = [torch.tensor([[getattr(face, name) for name in CONTINUOUS] for face in measure(some)]) for some in (found, wanted)]
    apart = (read[0] - read[1]).abs().nanmean(dim=0).tolist()
    errors = {"pixels": float((found - wanted).square().mean().sqrt())} | dict(zip(CONTINUOUS, apart, strict=True))
    return {name: round(value, 4) for name, value in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, default=tiny.WEIGHTS)
    parser.add_argument("--trajectories", type=int, default=500)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seconds", type=float, default=math.inf, help="the distillation ends here at the latest")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--assistant-steps", type=int, default=500, help="0: no assistant")
    parser.add_argument("--assistant-lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passed", type=Path, default=ROOT / "build" / "turbo_passed.safetensors", help="kept between runs")
    parser.add_argument("--only-pass", action="store_true", help="end when the teacher's trajectories are there")
    parser.add_argument("--init", type=Path, help="a student to take as it is: the assistant alone is made")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--assistant", type=Path, default=ASSISTANT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    weights = load_file(args.teacher)
    teacher, student = TurboBackend(weights), Student(load_file(args.init) if args.init else weights)
    if not args.init:
        loss, done = distil(teacher, student, args, generator)
        made = {"teacher": f"{args.teacher.name} {hashlib.sha256(args.teacher.read_bytes()).hexdigest()[:12]}", "steps": done}
        made |= {"seed": args.seed, "trajectories": args.trajectories, "loss": round(loss, 5), "torch": torch.__version__}
        rounded = {key: value.half().contiguous() for key, value in student.state_dict().items()}
        save_file(rounded, args.out, {"made": json.dumps(made)})
        student.load_state_dict(whole(rounded))
    drawn = TurboBackend(student.state_dict())
    sys.stderr.write(
        f"the teacher's four steps end from its twelve by {missed(teacher, teacher, CFG, student.text, args.seed)}\n"
    )
    sys.stderr.write(f"the student's by {missed(teacher, drawn, 1.0, student.text, args.seed)}\n")
    if not args.assistant_steps:
        return
    adapter, loss = assist(student, args, torch.Generator().manual_seed(args.seed + 3))
    slider = Slider(adapter.weights(), SliderInfo(name="training adapter of the distilled faces"))
    save_slider(args.assistant, slider, FileDtype.FP16, overwrite=True)
    sys.stderr.write(f"assistant: loss {loss:.4f}, {args.assistant.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
