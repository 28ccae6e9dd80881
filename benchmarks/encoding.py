"""Encoding a dataset against the VAE alone, one image a call and all in one, and again from the cache on disk.

    python benchmarks/encoding.py               (needs ComfyUI; a full-size SD 1.5 VAE with random weights, CPU or GPU)

Four sides, in turn in one process, `--repeat` times, medians: the VAE on tensors that lie ready, by one and in one call; the
dataset from its folders (pictures read, fitted and encoded, latents written to the cache); the same dataset once more.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from full_size import seconds

DDCONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def vae() -> Any:
    """A VAE of SD 1.5's size that ComfyUI loaded from a state dict."""
    import comfy.sd
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    with torch.inference_mode():
        return comfy.sd.VAE(sd=AutoencoderKL(embed_dim=4, ddconfig=DDCONFIG).state_dict())


def folders(place: Path, pairs: int, width: int) -> None:
    """`pairs` positives and as many negatives: noise at a coarse grain, as PNG."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for side in ("positive", "negative"):
        (place / side).mkdir(parents=True)
        for number in range(pairs):
            coarse = draw.integers(0, 256, (width // 8, width // 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((width, width), Image.Resampling.BICUBIC).save(place / side / f"{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--side", type=int, default=512, help="of an image")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    from make_architectures import core, start

    start(cpu=False)
    import comfy.model_management
    import torch
    from zoo.animals import tiny
    from zoo.model import build_tiny

    found, clip = vae(), core("with_tiny.model_in_comfy").load_demo(core("with_tiny.model").load_weights())[1]
    model = build_tiny(tiny("SD15"))  # its latents are of the VAE's kind
    backend = core("with_comfy.model_backend").ComfyBackend(model, found, clip)
    count, spent = 2 * args.pairs, {"the VAE alone": [], "all in one call": [], "first run": [], "second run": []}
    ready = torch.rand(1, args.side, args.side, 3)
    with tempfile.TemporaryDirectory() as temp, torch.inference_mode():
        place, cache = Path(temp) / "images", Path(temp) / "cache"
        folders(place, args.pairs, args.side)

        def run() -> None:
            dataset = core("data.dataset").read_dataset(core("data.dataset").bucket_folders(place))
            core("encode.encoder").encode(dataset, backend, args.side, core("encode.disk_cache").DiskCache(cache))

        def alone() -> None:
            for _ in range(count):
                found.encode(ready)

        def at_once() -> torch.Tensor:
            return found.encode(ready.repeat(count, 1, 1, 1))

        device = comfy.model_management.get_torch_device()
        found.encode(ready)  # loads it
        for _ in range(args.repeat):
            shutil.rmtree(cache, ignore_errors=True)
            spent["the VAE alone"].append(seconds(alone, device)[0])
            spent["all in one call"].append(seconds(at_once, device)[0])
            spent["first run"].append(seconds(run, device)[0])
            spent["second run"].append(seconds(run, device)[0])
    median = {name: statistics.median(some) for name, some in spent.items()}
    print("| side | images | s | images/s | times the VAE alone |")
    print("|---|---|---|---|---|")
    for name, value in median.items():
        print(f"| {name} | {count} | {value:.2f} | {count / value:.2f} | {value / median['the VAE alone']:.3f} |")


if __name__ == "__main__":
    main()
