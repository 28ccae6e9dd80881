"""What ComfyUI-Lora-Manager reads beside a LoRA file: NAME.metadata.json and a preview picture. It does not read headers.

Its reader wants file_name, model_name, file_path, size, modified, sha256, base_model and preview_url; strengths stand as JSON
text in usage_tips, trigger words in civitai.trainedWords. Where the file is moved it mends the paths itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from .info import SliderInfo

BASES = {  # ComfyUI's class in supported_models -> the base model as that manager and Civitai spell it
    "SD15": "SD 1.5",
    "SD20": "SD 2.1",
    "SDXL": "SDXL 1.0",
    "SD3": "SD 3",
    "Flux": "Flux.1 D",
    "FluxSchnell": "Flux.1 S",
    "Flux2": "Flux.2 D",
    "AuraFlow": "AuraFlow",
    "Chroma": "Chroma",
    "PixArtAlpha": "PixArt a",
    "PixArtSigma": "PixArt E",
    "HunyuanDiT": "Hunyuan 1",
    "HunyuanVideo": "Hunyuan Video",
    "Lumina2": "Lumina",
    "ZImage": "ZImageBase",
    "QwenImage": "Qwen",
    "HiDream": "HiDream",
    "SVD_img2vid": "SVD",
    "LTXV": "LTXV",
    "LTXAV": "LTXV2",
    "CogVideoX_T2V": "CogVideoX",
    "GenmoMochi": "Mochi",
    "WAN21_T2V": "Wan Video",
    "WAN21_I2V": "Wan Video",
    "WAN22_T2V": "Wan Video 2.2 TI2V-5B",
    "Anima": "Anima",
}
UNKNOWN = "Unknown"
JPEG = b"\xff\xd8\xff"  # its first bytes


def manager_files(path: Path, info: SliderInfo) -> dict[Path, bytes]:
    """The files to put beside the slider saved at `path`, by place. The picture is there where the slider has a thumbnail."""
    files = {}
    preview = ""
    content = _picture(info.thumbnail)
    if content:
        picture = path.with_name(f"{path.stem}.preview.jpg")
        files[picture] = content
        preview = picture.as_posix()
    files[path.with_name(f"{path.stem}.metadata.json")] = json.dumps(_metadata(path, info, preview), indent=2).encode()
    return files


def _picture(thumbnail: str) -> bytes:
    """The JPEG of a thumbnail; nothing where another program's header holds something else."""
    try:
        content = base64.b64decode(thumbnail.partition(",")[2], validate=True)
    except ValueError:
        return b""
    return content if content.startswith(JPEG) else b""


def _metadata(path: Path, info: SliderInfo, preview: str) -> dict[str, object]:
    content = path.read_bytes()
    return {
        "file_name": path.stem,
        "model_name": info.title or info.name or path.stem,
        "file_path": path.as_posix(),
        "size": len(content),
        "modified": path.stat().st_mtime,
        "sha256": hashlib.sha256(content).hexdigest(),
        "base_model": BASES.get(info.architecture, UNKNOWN),
        "preview_url": preview,
        "preview_nsfw_level": 0,
        "notes": info.verdict,
        "from_civitai": False,
        "civitai": {"trainedWords": [info.trigger] if info.trigger else []},
        "tags": ["slider", *(end for end in (info.minus, info.plus) if end)],
        "modelDescription": f"{info.ends()} The strengths are those of a LoRA loader.",
        "usage_tips": json.dumps(_strengths(info)),
    }


def _strengths(info: SliderInfo) -> dict[str, float]:
    """The useful range and the strength that shows what the images show, as a LoRA loader is given them."""
    low, high = info.range or (-1.0, 1.0)
    strengths = {"strength_min": low, "strength_max": high, "strength": 1.0}
    return {name: round(info.lora_weight(value), 4) for name, value in strengths.items()}
