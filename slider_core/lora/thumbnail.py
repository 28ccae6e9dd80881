"""A slider's picture in its header, as LoRA managers show it."""

from __future__ import annotations

import base64
import io

from PIL import Image

SIZE = 640, 256  # a strip is fitted into this, pixels
MOST_BYTES = 64 * 1024


def thumbnail(image: Image.Image) -> str:
    """A small JPEG as a data URL, at most 64 KiB: for `modelspec.thumbnail`."""
    small = image.convert("RGB")
    small.thumbnail(SIZE, Image.Resampling.LANCZOS)
    for quality in (85, 70, 50, 30):
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if len(buffer.getvalue()) <= MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
