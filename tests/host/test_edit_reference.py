"""Edit models are trained on what ComfyUI's ReferenceLatent node and sampler give them; the oracle is that call of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from zoo.animals import tiny
from zoo.measure import strengths_deviate
from zoo.model import build_tiny, conditioning

MODELS = ("Flux", "Flux2 dev", "QwenImage", "Omnigen2")
SAME = 1e-5


def reference(entry: Any, seed: int) -> torch.Tensor:
    return torch.randn(1, *entry.latent, generator=torch.Generator().manual_seed(seed))


def sampler_call(model: Any, entry: Any, latent: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(x, sigma, denoised) of the first call that KSampler makes with the node's conditioning."""
    import comfy.sample
    from comfy_extras.nodes_edit_model import ReferenceLatent

    calls = []

    def keep(apply: Any, call: dict) -> torch.Tensor:
        out = apply(call["input"], call["timestep"], **call["c"])
        calls.append((call["input"].clone(), call["timestep"].clone(), out.clone()))
        return out

    watched = model.clone()
    watched.set_model_unet_function_wrapper(keep)
    positive = ReferenceLatent.execute(conditioning(entry, 0), {"samples": latent}).args[0]
    empty = torch.zeros(1, *entry.latent)
    noise = comfy.sample.prepare_noise(empty, 7)
    comfy.sample.sample(watched, noise, 1, 1.0, "euler", "simple", positive, positive, empty, seed=7, disable_pbar=True)
    return calls[0]


@pytest.mark.parametrize("title", MODELS)
def test_a_training_call_with_references_is_the_samplers(title: str, pack) -> None:
    """Each sample of a batch has its own."""
    entry = tiny(title)
    with torch.inference_mode():
        model = build_tiny(entry)
        latents = [reference(entry, seed) for seed in (3, 4)]
        calls = [sampler_call(model, entry, latent) for latent in latents]
    backend = pack.core("with_comfy.model_backend").ComfyBackend(model)
    prompt = pack.core("backend").Conditioning("a prompt", conditioning(entry, 0))
    own = [model.model.process_latent_in(latent)[0].clone() for latent in latents]  # as a sample's latent is kept
    conds = [backend.with_reference(prompt, latent) for latent in own]
    x, sigma = (torch.cat([call[place] for call in calls]).clone() for place in (0, 1))
    with backend.borrowed(), torch.no_grad():
        backend.prepare([], own[0], conds[0])
        a, b = backend._affine(x, sigma)
        denoised = a + b * backend.predict(x, sigma, conds)
        without = a + b * backend.predict(x, sigma, [prompt, prompt])
    wanted = torch.cat([call[2] for call in calls])
    effect = (wanted - without).norm()
    assert effect > 1e-3 * wanted.norm()
    assert (denoised - wanted).norm() < SAME * wanted.norm()
    assert (denoised.flip(0) - wanted).norm() > 0.1 * effect, "no sample has the other's"


@pytest.mark.parametrize("title", MODELS)
def test_a_sweep_with_a_reference_is_separate_runs(title: str, pack) -> None:
    entry = tiny(title)
    edit = replace(entry, cond={**entry.cond, "reference_latents": [reference(entry, 5)]})
    assert strengths_deviate(pack.core, edit, 3.0) < SAME


def test_a_model_without_references_refuses_them(pack) -> None:
    entry = tiny("SD15")
    backend = pack.core("with_comfy.model_backend").ComfyBackend(build_tiny(entry))
    latent = reference(entry, 3)[0]
    cond = backend.with_reference(pack.core("backend").Conditioning("a prompt", conditioning(entry, 0)), latent)
    with pytest.raises(pack.core("config.checks").SliderError) as fault, backend.borrowed():
        backend.prepare([], latent, cond)
    assert fault.value.code == "reference.not_taken"


def test_prompts_of_a_library_get_the_reference_of_positive(pack) -> None:
    latent = torch.ones(1, 4, 8, 8)
    positive = [[torch.zeros(1, 5, 16), {"reference_latents": [latent], "pooled_output": torch.zeros(1, 16)}]]
    prompts = pack.core("with_comfy.sampling_request").carrying(positive, {"a": [[torch.ones(1, 5, 16), {}]]})
    assert prompts["a"][0][1].keys() == {"reference_latents"}
    assert prompts["a"][0][1]["reference_latents"][0] is latent
