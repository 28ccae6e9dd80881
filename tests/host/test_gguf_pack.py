"""With the real ComfyUI-GGUF, where it can be had: SLIDER_GGUF_PACK names its folder, and the gguf package is installed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpu.trial import trainer_of
from zoo.animals import tiny
from zoo.every_way import measure_every_way
from zoo.model import Tiny, build_tiny

PACK = os.environ.get("SLIDER_GGUF_PACK")
gguf = pytest.importorskip("gguf", reason="the gguf package is not installed") if PACK else None
pytestmark = pytest.mark.skipif(not PACK, reason="SLIDER_GGUF_PACK names no checkout of ComfyUI-GGUF")
WIDE = {"hidden_size": 128, "context_in_dim": 64, "axes_dim": [8, 12, 12], "num_heads": 4, "vec_in_dim": 64}
ENTRIES = {
    "flux": replace(tiny("Flux"), config=tiny("Flux").config | WIDE, text=(5, 64), cond={"pooled_output": (64,)}),
    "lumina2": replace(tiny("ZImage"), config=tiny("ZImage").config | {"cap_feat_dim": 64}, text=(5, 64)),
}
PLAIN = ("img_in", "time_in.", "vector_in", "final_layer")  # what converters leave in float32


def write(entry: Tiny, architecture: str, path: Path, kind: str) -> None:
    """A GGUF file of the tiny model: large weights of that kind, others float16 or float32."""
    kinds = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(None, arch=architecture)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, tensor in build_tiny(entry).model.diffusion_model.state_dict().items():
        numbers = tensor.detach().float().numpy()
        chosen = kinds.F32
        if numbers.ndim == 2 and numbers.shape[0] > 1:
            chosen = kinds.F16
            if numbers.shape[1] % 32 == 0 and not any(part in name for part in PLAIN):
                chosen = kinds[kind]
        writer.add_tensor(name, gguf.quants.quantize(numbers, chosen), raw_dtype=chosen)
    writer.write_header_to_file(path=str(path))
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("architecture", ENTRIES)
def test_a_gguf_model_trains_and_every_way_answers_alike(
    architecture: str, kind: str, pack, load_pack, comfy: Path, monkeypatch
) -> None:
    import comfy.model_detection as detection

    import nodes

    load_pack(Path(PACK))
    entry = ENTRIES[architecture]
    folder = comfy / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(detection, "detect_unet_config", lambda *_args, **_kwargs: dict(entry.config))
    with torch.inference_mode():
        write(entry, architecture, folder / f"{architecture}-{kind}.gguf", kind)
        (patcher,) = nodes.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]().load_unet(f"{architecture}-{kind}.gguf")
        patcher.model.latent_format.latent_channels = entry.latent[0]
        trainer, backend = trainer_of(pack, patcher, entry)
        trainer.run(backend, 8, read_every=8)
    assert sum(trainer.readings[-1].explained) > 0
    outcome = measure_every_way(pack.core, entry, "GGUF", "all", patcher)
    assert max(outcome.sweep, outcome.live, outcome.merged) < 0.02 + outcome.rounding
