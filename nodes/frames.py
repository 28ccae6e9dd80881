"""Pictures on their way to the browser: a drawing as an IMAGE or a file, a sweep's frames as files in ComfyUI's temp folder."""

import uuid
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..slider_core.lora.safe_files import atomic_write
from ..slider_core.use.plot_video import Strip
from ..slider_core.use.sweep_export import ShownSweep

QUALITY = 90  # of a JPEG or WebP


def as_image(drawing: Image.Image) -> torch.Tensor:
    """A PIL image as ComfyUI's IMAGE, (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.asarray(drawing.convert("RGB"), dtype=np.float32) / 255)[None]


def as_images(drawings: Sequence[Image.Image]) -> torch.Tensor:
    """Equally large PIL images as ComfyUI's IMAGE, (N, H, W, 3)."""
    return torch.cat(list(map(as_image, drawings)))


def frames_of(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) images, or clips (N, T, 3, H, W) with all frames of each, as ComfyUI's IMAGE."""
    return (images.flatten(0, 1) if images.ndim == 5 else images).movedim(-3, -1)


def in_temp(name: str, content: bytes) -> dict[str, str]:
    """A file of ComfyUI's temporary folder, written whole or not at all: a reference for /view."""
    atomic_write(Path(folder_paths.get_temp_directory(), name), content, overwrite=True)
    return {"filename": name, "subfolder": "", "type": "temp"}


def as_file(strip: Strip, stem: str) -> dict[str, str]:
    """A strip as a JPEG, of clips as an animated WebP."""
    if strip.moving:
        return in_temp(f"{stem}.webp", strip.webp(QUALITY))
    content = BytesIO()
    strip.still.save(content, "JPEG", quality=QUALITY)
    return in_temp(f"{stem}.jpg", content.getvalue())


def moving_preview(strip: Strip) -> dict[str, Any]:
    """A strip of clips as a node shows it: an animated WebP."""
    file = as_file(strip, f"slider_clips_{uuid.uuid4().hex[:12]}")
    return {"images": [file], "animated": (True,)}


def scrubber_frames(sweep: ShownSweep) -> dict[str, Any]:
    """What the scrubber in the node reads: strengths, words, and for each frame a reference to its file, no pixels. Of clips a
    frame is a film (use/plot_video.py)."""
    prefix = f"slider_sweep_{uuid.uuid4().hex[:12]}"
    if sweep.film is not None:
        files = []
        for row, films in enumerate(sweep.films(QUALITY)):
            files.append([in_temp(f"{prefix}_{row}_{column}.webp", film) for column, film in enumerate(films)])
        return sweep.description(files)
    frames = sweep.frames()
    flat = frames.flatten(0, 1).movedim(1, -1)
    saved = ui.ImageSaveHelper.save_images(flat, prefix, io.FolderType.temp, cls=None, compress_level=1)
    files = list(map(dict, saved))
    columns = frames.shape[1]
    return sweep.description([files[first : first + columns] for first in range(0, len(files), columns)])
