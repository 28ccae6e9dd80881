"""Pictures on their way to the browser: a drawing as an IMAGE or a file, a sweep's frames as files in ComfyUI's temp folder."""

import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..slider_core.lora.safe_files import atomic_write
from ..slider_core.use.sweep_export import ShownSweep

QUALITY = 90  # of a JPEG


def as_image(drawing: Image.Image) -> torch.Tensor:
    """A PIL image as ComfyUI's IMAGE, (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.asarray(drawing.convert("RGB"), dtype=np.float32) / 255)[None]


def as_file(drawing: Image.Image, name: str) -> dict[str, str]:
    """A PIL image as the JPEG `name` of ComfyUI's temporary folder, written whole or not at all: a reference for /view."""
    content = BytesIO()
    drawing.save(content, "JPEG", quality=QUALITY)
    atomic_write(Path(folder_paths.get_temp_directory(), name), content.getvalue(), overwrite=True)
    return {"filename": name, "subfolder": "", "type": "temp"}


def scrubber_frames(sweep: ShownSweep) -> dict[str, Any]:
    """What the scrubber in the node reads: strengths, words, and for each frame a reference to its file, no pixels."""
    frames = sweep.frames()
    flat = frames.flatten(0, 1).movedim(1, -1)
    prefix = f"slider_sweep_{uuid.uuid4().hex[:12]}"
    saved = ui.ImageSaveHelper.save_images(flat, prefix, io.FolderType.temp, cls=None, compress_level=1)
    files = list(map(dict, saved))
    columns = frames.shape[1]
    return sweep.description([files[first : first + columns] for first in range(0, len(files), columns)])
