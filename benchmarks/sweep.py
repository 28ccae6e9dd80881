"""A sweep of 7 strengths in one sampling call, against ComfyUI's own LoRA loader and sampler seven times.

    python benchmarks/sweep.py                          (needs ComfyUI; the built-in model, and SD 1.5 at 32x32, CPU or GPU)
    python benchmarks/sweep.py --model SD15 --latent 64 --steps 4

Both sides run in turn in one process, on the same slider with random factors, `--repeat` times; medians are given. The stock side
is what Load LoRA and KSampler do: patch the model for one strength, load it, sample one picture. The pictures are compared.
The bare side is one KSampler call of as many pictures without a slider: what the one call costs beyond it is the slider's own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from full_size import loaded, prompt, seconds

STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
SAMPLER = ("euler", "simple")


def demo(_side: int) -> tuple[Any, Any, Any]:
    """(MODEL, CONDITIONING, latent) of the built-in model."""
    import torch
    from make_architectures import core

    model, clip, _vae = core("with_tiny.model_in_comfy").load_demo(core("with_tiny.model").load_weights())
    return model, clip.encode_from_tokens_scheduled(clip.tokenize("a face")), torch.zeros(1, 3, 64, 64)


def full(name: str) -> Callable[[int], tuple[Any, Any, Any]]:
    """The same of a full-size model with random weights."""

    def make(side: int) -> tuple[Any, Any, Any]:
        import torch

        entry, model = loaded(name)
        return model, prompt(entry), torch.zeros(1, 4, side, side)

    return make


def measured(make: Callable[[int], tuple[Any, Any, Any]], side: int, steps: int, repeat: int) -> dict[str, float]:
    """Median seconds of both sides, and the largest difference of their pictures as a share of the slider's effect."""
    import comfy.sample
    import comfy.sd
    import torch
    from make_architectures import core
    from zoo.measure import shaken

    with torch.inference_mode():
        model, positive, latent = make(side)
        adapter = shaken(
            core, model.model.diffusion_model, core("layers.select").select(model.model.diffusion_model), torch.float32
        )
        state = core("lora.formats.native").to_native(adapter.weights())
        noise = comfy.sample.prepare_noise(latent, 0)
        backend = core("with_comfy.model_backend").ComfyBackend(model)
        described = core("use.sampling").Sampling
        sampling = described(positive, positive, {"samples": latent}, 0, steps, 1.0, *SAMPLER, most_at_once=len(STRENGTHS))

        def ours() -> torch.Tensor:
            return core("with_comfy.sampling").sample_latents(backend, adapter, sampling, STRENGTHS).latents

        def stock() -> torch.Tensor:
            pictures = []
            for strength in STRENGTHS:
                patched = comfy.sd.load_lora_for_models(model, None, dict(state), strength, 0)[0] if strength else model
                pictures.append(
                    comfy.sample.sample(
                        patched, noise, steps, 1.0, *SAMPLER, positive, positive, latent, seed=0, disable_pbar=True
                    )
                )
            return torch.cat(pictures)

        def bare() -> torch.Tensor:
            rows = [one.repeat(len(STRENGTHS), *[1] * (one.ndim - 1)) for one in (noise, latent)]
            return comfy.sample.sample(
                model, rows[0], steps, 1.0, *SAMPLER, positive, positive, rows[1], seed=0, disable_pbar=True
            )

        sides = {"ours": ours, "stock": stock, "bare": bare}
        ours(), stock(), bare()  # what is made once
        spent: dict[str, list[float]] = {name: [] for name in sides}
        drawn: dict[str, torch.Tensor] = {}
        for _ in range(repeat):
            for name, work in sides.items():
                taken, drawn[name] = seconds(work, model.load_device)
                spent[name].append(taken)
        effect = (drawn["stock"] - drawn["stock"][STRENGTHS.index(0.0)]).abs().max()
        apart = float((drawn["ours"] - drawn["stock"]).abs().max() / effect)
        return {name: statistics.median(some) for name, some in spent.items()} | {"apart": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["demo", "SD15"], help="demo, or titles of full-size entries of tests/zoo")
    parser.add_argument("--latent", type=int, default=32, help="side of a full-size model's latent")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    from make_architectures import start

    start(cpu=False)
    print("| model | sampler steps | one call, s | seven runs, s | ratio | over bare | largest difference, share of the effect |")
    print("|---|---|---|---|---|---|---|")
    for name in args.model:
        found = measured(demo if name == "demo" else full(name), args.latent, args.steps, args.repeat)
        ratios = [found["ours"] / found[side] for side in ("stock", "bare")]
        cells = [name, args.steps, *(f"{found[side]:.2f}" for side in ("ours", "stock")), *(f"{ratio:.2f}" for ratio in ratios)]
        print("| " + " | ".join(map(str, cells)) + f" | {found['apart']:.1e} |", flush=True)


if __name__ == "__main__":
    main()
