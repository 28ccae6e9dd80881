"""What ComfyUI-Lora-Manager reads beside a LoRA file: NAME.metadata.json and a preview picture. It does not read headers.

Its reader wants file_name, model_name, file_path, size, modified, sha256, base_model and preview_url; strengths stand as JSON
text in usage_tips, trigger words in civitai.trainedWords. Where the file is moved it corrects the paths itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from .info import SliderInfo

_BASES = {  # the base model as that manager and Civitai spell it <- ComfyUI's classes in supported_models
    "SD 1.5": "SD15 SD15_instructpix2pix",
    "SD 2.1": "SD20 SD21UnclipL SD21UnclipH",
    "SDXL 1.0": "SDXL SDXLRefiner SDXL_instructpix2pix SSD1B Segmind_Vega KOALA_700M KOALA_1B",
    "SD 3": "SD3",
    "SVD": "SVD_img2vid",
    "Flux.1 D": "Flux FluxInpaint",
    "Flux.1 S": "FluxSchnell",
    "Flux.2 D": "Flux2",
    "Chroma": "Chroma ChromaRadiance",
    "AuraFlow": "AuraFlow",
    "PixArt a": "PixArtAlpha",
    "PixArt E": "PixArtSigma",
    "Hunyuan 1": "HunyuanDiT HunyuanDiT1",
    "Hunyuan Video": "HunyuanVideo HunyuanVideoI2V HunyuanVideoSkyreelsI2V HunyuanVideo15",
    "Lumina": "Lumina2",
    "ZImageBase": "ZImage",
    "Qwen": "QwenImage",
    "HiDream": "HiDream",
    "HiDream-O1": "HiDreamO1",
    "Krea 2": "Krea2",
    "Ernie": "ErnieImage",
    "Ideogram 4.0": "Ideogram4",
    "Boogu": "Boogu",
    "Lens": "Lens",
    "Anima": "Anima",
    "LTXV": "LTXV",
    "LTXV2": "LTXAV",
    "CogVideoX": "CogVideoX_T2V CogVideoX_I2V CogVideoX_Inpaint",
    "Mochi": "GenmoMochi",
    "Wan Video": "WAN21_T2V WAN21_I2V WAN21_Vace WAN21_Camera WAN21_FunControl2V WAN22_Camera WAN22_S2V WAN22_Animate",
    "Wan Video 2.2 TI2V-5B": "WAN22_T2V",
    "ACE Audio": "ACEStep ACEStep15",
}
BASES = {kind: base for base, kinds in _BASES.items() for kind in kinds.split()}
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
    ends = filter(None, (info.minus, info.plus))
    words = [info.trigger] if info.trigger else []
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
        "civitai": {"trainedWords": words},
        "tags": ["slider", *ends],
        "modelDescription": f"{info.ends()} The strengths are those of a LoRA loader.",
        "usage_tips": json.dumps(_strengths(info)),
    }


def _strengths(info: SliderInfo) -> dict[str, float]:
    """The useful range and the strength that shows what the images show, as a LoRA loader is given them."""
    low, high = info.range or (-1.0, 1.0)
    strengths = {"strength_min": low, "strength_max": high, "strength": 1.0}
    return {name: round(info.lora_weight(value), 4) for name, value in strengths.items()}
