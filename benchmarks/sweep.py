"""A sweep of 7 strengths in one sampling call, against ComfyUI's own LoRA loader and sampler seven times.

    python benchmarks/sweep.py                          (needs ComfyUI; the built-in model, and SD 1.5 at 32x32, CPU or GPU)
    python benchmarks/sweep.py --model SD15 --latent 64 --steps 4

Both sides run in turn in one process, on the same slider with random factors, `--repeat` times; medians are given. The stock side
is what Load LoRA and KSampler do: patch the model for one strength, load it, sample one picture. The pictures are compared.
The bare side is one KSampler call of as many pictures without a slider: what the one call costs beyond it is the slider's own.
The hook side is that call with the same factors in a hook of five lines on every layer: the least that a slider can cost.
On a CPU the seconds are this process's own, so that others on the machine matter little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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


def factor_of(layer: Any, part: Any) -> Callable[..., Any]:
    """The hook of five lines."""
    import torch

    strengths = part.scaling * torch.tensor(STRENGTHS)

    def hook(_layer: Any, args: tuple[Any, ...], out: Any) -> Any:
        rows = strengths.to(out).reshape(-1, *[1] * (out.ndim - 1))
        if part.down.weight.ndim == 2:
            return out + torch.nn.functional.linear(torch.nn.functional.linear(args[0], part.down.weight) * rows, part.up.weight)
        between = torch.nn.functional.conv2d(args[0], part.down.weight, None, layer.stride, layer.padding)
        return out + torch.nn.functional.conv2d(between * rows, part.up.weight)

    return hook


@contextmanager
def hooks(module: Any, adapter: Any, find_layer: Callable[..., Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for target in adapter.targets:
            layer = find_layer(module, target)
            stack.callback(layer.register_forward_hook(factor_of(layer, adapter.part(target))).remove)
        yield


def spent_by(work: Callable[[], Any], device: Any) -> tuple[float, Any]:
    """(seconds, what it gave)."""
    if device.type != "cpu":
        return seconds(work, device)
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def measured(
    make: Callable[[int], tuple[Any, Any, Any]], side: int, steps: int, repeat: int, left_out: list[str]
) -> dict[str, float]:
    """Median seconds of each side, and the largest difference of one call's pictures from the stock side's, as a share of the
    slider's effect."""
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

        def hook() -> torch.Tensor:
            with hooks(model.model.diffusion_model, adapter, core("layers.layer").find_layer):
                return bare()

        sides = {
            name: work
            for name, work in (("ours", ours), ("hook", hook), ("bare", bare), ("stock", stock))
            if name not in left_out
        }
        for work in sides.values():
            work()  # what is made once
        spent: dict[str, list[float]] = {name: [] for name in sides}
        drawn: dict[str, torch.Tensor] = {}
        for _ in range(repeat):
            for name, work in sides.items():
                taken, drawn[name] = spent_by(work, model.load_device)
                spent[name].append(taken)
        right = drawn.get("stock", drawn["hook"])
        effect = (right - right[STRENGTHS.index(0.0)]).abs().max()
        found = {name: statistics.median(some) for name, some in spent.items()}
        for other in set(sides) - {"ours"}:
            found[f"over {other}"] = statistics.median(a / b for a, b in zip(spent["ours"], spent[other], strict=True))
        return found | {"apart": float((drawn["ours"] - right).abs().max() / effect)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["demo", "SD15"], help="demo, or titles of full-size entries of tests/zoo")
    parser.add_argument("--latent", type=int, default=32, help="side of a full-size model's latent")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=["stock", "bare"], help="sides to leave out")
    args = parser.parse_args()
    from make_architectures import start

    start(cpu=False)
    print("| model | sampler steps | one call, s | over seven runs | over bare | over the hook | apart, of the effect |")
    print("|---" * 7 + "|")
    for name in args.model:
        found = measured(demo if name == "demo" else full(name), args.latent, args.steps, args.repeat, args.without)
        ratios = [f"{found[over]:.3f}" if over in found else "" for over in ("over stock", "over bare", "over hook")]
        cells = [name, args.steps, f"{found['ours']:.2f}", *ratios, f"{found['apart']:.1e}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
