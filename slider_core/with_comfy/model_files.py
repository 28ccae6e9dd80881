"""A model out of its files, as ComfyUI's own loaders make it: one checkpoint, or diffusion model, text encoders and VAE.

In: paths, or names as ComfyUI's menus have them. Out: MODEL, CLIP and VAE. Call under the inference mode in which graphs run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import comfy.sd
import comfy.utils
import folder_paths

from ..config.checks import SliderError, nearest, need, reason
from .assumptions import Feature, need_feature
from .layer_names import architecture

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """What a training borrows. `files`: the names of its model's file and of the LoRAs on it; `control`: a CONDITIONING that
    carries a ControlNet, or None."""

    model: Any
    clip: Any
    vae: Any
    files: tuple[str, ...] = ()
    control: Any = None

    def summary(self) -> str:
        return f"{architecture(self.model)}: {', '.join(self.files)}"


def model_path(kind: str, name: str) -> Path:
    """A file by its path, or by its name in ComfyUI's folder of that kind. SliderError when there is none."""
    if Path(name).is_file():
        return Path(name).resolve()
    known = folder_paths.get_full_path(kind, name)
    if known is None:
        names = folder_paths.get_filename_list(kind)
        hint = nearest(name, names) if names else f"ComfyUI's folder of {kind} is empty."
        raise SliderError(f"Model file not found: {name}, neither here nor among ComfyUI's {kind}; {hint}", "model.missing")
    return Path(known)


def _load(path: Path, what: str, load: Callable[[], T]) -> T:
    """What `load` gives. SliderError that names the file where ComfyUI finds no such thing in it."""
    need_feature(Feature.FILES)
    try:
        loaded = load()
    except SliderError:
        raise
    except Exception as fault:  # ComfyUI and safetensors raise what they like
        logging.getLogger(__name__).debug("loading %s", path, exc_info=True)
        advice = "choose the right file for this option, or update ComfyUI"
        raise SliderError(
            f"{path} holds no {what} that this ComfyUI knows ({reason(fault)}): {advice}.", "model.unknown"
        ) from fault
    return loaded


def clip_type(name: str) -> Any:
    """ComfyUI's kind of text encoder, by the name that its loader node shows. SliderError for another."""
    kinds = {kind.name.lower(): kind for kind in comfy.sd.CLIPType} | {"sdxl": comfy.sd.CLIPType.STABLE_DIFFUSION}
    need(name.lower() in kinds, f'--clip-type "{name}" is not known; {nearest(name, sorted(kinds))}', "model.clip_type")
    return kinds[name.lower()]


def load_clip(names: Sequence[str], kind: str) -> Any:
    """A CLIP from one text encoder or several."""
    paths = [model_path("text_encoders", name) for name in names]
    embeddings = folder_paths.get_folder_paths("embeddings")
    chosen = clip_type(kind)
    return _load(paths[0], "text encoder", lambda: comfy.sd.load_clip(list(map(str, paths)), embeddings, chosen))


def load_vae(name: str) -> Any:
    """A VAE from its file, or one of those that ComfyUI's loader node makes by name (pixel_space, taesd)."""
    loader = import_module("nodes").VAELoader  # by its name: a checker of types would take it for the pack's own folder
    if not Path(name).is_file() and name in loader.vae_list(loader):
        return loader().load_vae(name)[0]
    path = model_path("vae", name)

    def load() -> Any:
        state, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
        vae = comfy.sd.VAE(sd=state, metadata=metadata)
        vae.throw_exception_if_invalid()
        return vae

    return _load(path, "VAE", load)


def from_checkpoint(name: str) -> Loaded:
    """MODEL, CLIP and VAE of one checkpoint; CLIP and VAE are None where it has none."""
    path = model_path("checkpoints", name)
    embeddings = folder_paths.get_folder_paths("embeddings")
    load = comfy.sd.load_checkpoint_guess_config
    model, clip, vae = _load(path, "checkpoint", lambda: load(str(path), embedding_directory=embeddings))[:3]
    need(model is not None, f"{path} holds no diffusion model: give the file with --model, --clip and --vae.", "model.unknown")
    if vae is not None and getattr(vae, "first_stage_model", None) is None:
        vae = None
    return Loaded(model, clip, vae, (path.name,))


def from_diffusion_model(name: str) -> Loaded:
    """The MODEL of a file that holds no text encoder and no VAE."""
    path = model_path("diffusion_models", name)
    model = _load(path, "diffusion model", lambda: comfy.sd.load_diffusion_model(str(path)))
    return Loaded(model, None, None, (path.name,))


def with_loras(loaded: Loaded, loras: Sequence[tuple[str, float]]) -> Loaded:
    """The MODEL with LoRAs on it that stay while a slider trains, such as a distilled model's assistant."""
    model = loaded.model
    files = list(loaded.files)
    for name, strength in loras:
        path = model_path("loras", name)
        state = _load(path, "LoRA", lambda path=path: comfy.utils.load_torch_file(str(path), safe_load=True))  # type: ignore[misc]
        model, _ = comfy.sd.load_lora_for_models(model, None, state, strength, 0.0)
        files.append(path.name)
    return replace(loaded, model=model, files=tuple(files))


def need_complete(loaded: Loaded) -> Loaded:
    """SliderError where text encoder or VAE are missing."""
    for part, option, what in ((loaded.clip, "--clip", "text encoder"), (loaded.vae, "--vae", "VAE")):
        message = f"{loaded.files[0]} comes without a {what}: give its file with {option}."
        need(part is not None, message, f"model.no_{option.strip('-')}")
    return loaded
