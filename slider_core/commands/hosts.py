"""Which model a command works on: the built-in one, or one that ComfyUI loads in this process, without its server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..config.checks import need
from .tiny_host import TinyHost

Host = Any  # a TinyHost, or a ComfyHost, which only a process with ComfyUI can name
FROM = ("checkpoint", "model", "graph")  # where a model comes from: one of these
MODEL = ("backend", "comfyui", "comfy_options", *FROM, "clip", "clip_type", "vae", "lora", "sampling.distilled")
_LAST: dict[tuple[str, ...], Host] = {}  # the model of the command before, for a queue of them


def add_host(command: argparse.ArgumentParser) -> None:
    """The options that choose a model."""
    model = command.add_argument_group("which model")
    model.add_argument("--backend", choices=["tiny", "comfy"], help="tiny: the built-in model. comfy: one that ComfyUI loads")
    model.add_argument("--checkpoint", help="a checkpoint: its file, or its name in ComfyUI's folder")
    model.add_argument("--model", help="a diffusion model without text encoder and VAE: its file, or its name in ComfyUI")
    model.add_argument("--graph", type=Path, help="a graph that loads the model, exported from ComfyUI in API format")
    model.add_argument("--clip", action="append", default=[], help="a text encoder; again for more")
    model.add_argument("--clip-type", default="stable_diffusion", help="as ComfyUI's loader has it: flux, sd3, qwen_image ...")
    model.add_argument("--vae", help="a VAE")
    text = "FILE or FILE:STRENGTH, on the model all the while: an assistant of a distilled one; again for more"
    model.add_argument("--lora", action="append", default=[], help=text)
    text = "ComfyUI's folder; else COMFYUI_PATH, ~/comfy/ComfyUI, or the one whose custom_nodes holds this pack"
    model.add_argument("--comfyui", type=Path, help=text)
    model.add_argument("--comfy-options", default="", help="ComfyUI's own options, such as --lowvram")


def wants_comfy(args: argparse.Namespace) -> bool:
    """Whether a model of ComfyUI is meant. SliderError where it is not clear which."""
    named = [f"--{name}" for name in FROM if getattr(args, name)]
    need(len(named) < 2, f"{' and '.join(named)} each name a model: give one of them.", "host.two_models")
    if args.backend != "comfy" and not named:
        return False
    need(args.backend != "tiny", f"{''.join(named)} goes with --backend comfy.", "host.tiny")
    need(
        bool(named), "--backend comfy needs a model: --checkpoint, or --model with --clip and --vae, or --graph.", "host.no_model"
    )
    return True


def _lora(text: str) -> tuple[str, float]:
    """FILE or FILE:STRENGTH; a colon of a drive is none of ours."""
    name, _, strength = text.rpartition(":")
    try:
        return (name, float(strength)) if name else (text, 1.0)
    except ValueError:
        return text, 1.0


def _load(args: argparse.Namespace) -> Host:
    """ComfyUI started, and the model of the options loaded."""
    from ..with_comfy.start import find_comfyui, start

    start(find_comfyui(args.comfyui), args.comfy_options)
    from ..with_comfy import model_files
    from ..with_comfy.trainings_host import ComfyHost

    if args.graph:
        from ..with_comfy.model_graph import from_graph

        loaded = from_graph(args.graph)
    elif args.checkpoint:
        loaded = model_files.from_checkpoint(args.checkpoint)
    else:
        loaded = model_files.from_diffusion_model(args.model)
    if args.clip:
        loaded = replace(loaded, clip=model_files.load_clip(args.clip, args.clip_type))
    if args.vae:
        loaded = replace(loaded, vae=model_files.load_vae(args.vae))
    loaded = model_files.with_loras(model_files.need_complete(loaded), list(map(_lora, args.lora)))
    return ComfyHost(loaded, getattr(args, "sampling.distilled", "auto"))


def _key(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(str(getattr(args, name, "")) for name in MODEL)


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Host]:
    """The model of the options. A command after another one of the same model finds it loaded."""
    if not wants_comfy(args):
        yield TinyHost()
        return
    with torch.inference_mode():  # as ComfyUI's executor runs a graph
        if _key(args) not in _LAST:
            _LAST.clear()  # one model at a time
            _LAST[_key(args)] = _load(args)
        yield _LAST[_key(args)]
