"""SimpleTuner's model families: those that ComfyUI has, with their text encoder's type, and why not the others."""

from __future__ import annotations

SUPPORTED = {  # the text encoder's type; empty where a checkpoint holds it, or several loaders serve
    "anima": "qwen_image",
    "auraflow": "",
    "boogu_image": "boogu",
    "chroma": "chroma",
    "cosmos": "cosmos",
    "ernie": "",
    "flux": "flux",
    "flux2": "flux2",
    "hidream": "hidream",
    "hunyuanvideo": "hunyuan_video",
    "ideogram": "ideogram4",
    "kandinsky5_image": "kandinsky5_image",
    "kandinsky5_video": "kandinsky5",
    "krea2": "krea2",
    "longcat_image": "longcat_image",
    "ltxvideo": "ltxv",
    "ltxvideo2": "ltxv",
    "lumina2": "lumina2",
    "mageflow": "mage",
    "minimaxh3": "minimax",
    "pixart": "pixart",
    "qwen_image": "qwen_image",
    "sd1x": "",
    "sd2x": "",
    "sd3": "sd3",
    "sdxl": "",
    "stable_cascade": "stable_cascade",
    "wan": "wan",
    "z_image": "lumina2",
}
SOUND = ("ace_step", "heartmula", "minimaxmusic")
_NOT_THERE = "ComfyUI 0.33 has no loader for it"
UNSUPPORTED = {
    "bria": _NOT_THERE,
    "cosmos3": _NOT_THERE,
    "deepfloyd": _NOT_THERE,
    "infinitetalk": "it needs speech beside its pictures",
    "kolors": _NOT_THERE,
    "longcat_video": _NOT_THERE,
    "omnigen": "ComfyUI has its successor, OmniGen2, alone",
    "sana": _NOT_THERE,
    "sanavideo": _NOT_THERE,
    "wan_s2v": "it needs speech beside its pictures",
    "z_image_omni": _NOT_THERE,
    "zlab_i1": _NOT_THERE,
}
