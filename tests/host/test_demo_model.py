"""The embedded model is a model like any other to ComfyUI: stock nodes run it, and through them it gives its own numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

CAPTION = "a face with light skin on a blue background"
TEXTS = (CAPTION, "", "A FACE, with tan skin; on a zeppelin", "teal " * 40)
SIGMAS = (0.02, 0.3, 1.0)
LAYER = "diffusion_model.blocks.0.attn1.to_q"
NEGATIVE, POSITIVE = "", CAPTION


def random_weights(part: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Every tensor random, also those that are born as zeros, so that no wire can be crossed unseen; fp16 as in the file."""
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in part.state_dict().items()}
    return {prefix + name: (torch.randn(shape, generator=generator) * 0.08).half() for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tiny(pack: Any) -> Any:
    return pack.core("with_tiny.model")


@pytest.fixture(scope="module")
def demo(pack: Any) -> Any:
    return pack.core("with_tiny.model_in_comfy")


@pytest.fixture(scope="module")
def weights(tiny: Any) -> dict[str, torch.Tensor]:
    return random_weights(tiny.TinyText(), "text.") | random_weights(tiny.TinyTransformer(), "diffusion_model.")


@pytest.fixture(params=[False, True], ids=["normal mode", "inference mode"])
def loaded(request: pytest.FixtureRequest, demo: Any, weights: dict) -> tuple:
    with torch.inference_mode(request.param):
        return demo.load_demo(weights)


@pytest.fixture
def plain(tiny: Any, weights: dict) -> tuple[nn.Module, nn.Module]:
    """(TinyText, TinyTransformer) with the same weights, no ComfyUI involved."""
    text, image = tiny.TinyText(), tiny.TinyTransformer()
    for part, prefix in ((text, "text."), (image, "diffusion_model.")):
        part.load_state_dict({name.removeprefix(prefix): w.float() for name, w in weights.items() if name.startswith(prefix)})
        part.requires_grad_(False)
    return text, image


def embed(clip: Any, text: str) -> torch.Tensor:
    [[cond, extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    assert extra["pooled_output"] is None
    return cond


def text_to_image(run_graph: Any, parts: tuple, steps: int = 3, cfg: float = 2.0, seed: int = 5) -> dict[str, dict]:
    """A prompt of stock nodes: text to image. Node "image" gives the image, "latent" the sampled latent."""
    text = {"positive": POSITIVE, "negative": NEGATIVE}
    encode = {n: {"class_type": "CLIPTextEncode", "inputs": {"text": t, "clip": ["clip", 0]}} for n, t in text.items()}
    sampler = {"seed": seed, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    links = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["empty", 0]}
    return (
        encode
        | {n: run_graph.give(part) for n, part in zip(("model", "clip", "vae"), parts, strict=True)}
        | {
            "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "latent": {"class_type": "KSampler", "inputs": sampler | links},
            "image": {"class_type": "VAEDecode", "inputs": {"samples": ["latent", 0], "vae": ["vae", 0]}},
        }
    )


def euler(image: nn.Module, positive: torch.Tensor, negative: torch.Tensor, x: torch.Tensor, steps: int, cfg: float) -> Any:
    """Euler's method written out: x <- x + (next - sigma) v from noise x, with v guided from negative to positive."""
    for sigma, after in pairwise(torch.linspace(1, 0, steps + 1)):
        v = [image(x, sigma[None] * 1000, context) for context in (negative, positive)]
        x = x + (after - sigma) * (v[0] + cfg * (v[1] - v[0]))
    return x


def test_stock_graph_samples_what_eulers_method_gives(loaded: tuple, plain: tuple, tiny: Any, run_graph: Any) -> None:
    run = run_graph(text_to_image(run_graph, loaded, steps=5), image=("image", 0), latent=("latent", 0))
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    text, image = plain
    conds = [text(torch.tensor([tiny.tokenize(t)])) for t in (POSITIVE, NEGATIVE)]
    torch.testing.assert_close(run["latent"]["samples"], euler(image, *conds, noise, 5, 2.0), rtol=1e-3, atol=1e-3)
    assert run["image"].shape == (1, 64, 64, 3)
    assert 0 <= run["image"].min() < run["image"].max() <= 1


def test_image_survives_encode_and_decode(loaded: tuple, run_graph: Any) -> None:
    image = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    prompt = {
        "vae": run_graph.give(loaded[2]),
        "given": run_graph.give(image),
        "latent": {"class_type": "VAEEncode", "inputs": {"pixels": ["given", 0], "vae": ["vae", 0]}},
        "image": {"class_type": "VAEDecode", "inputs": {"samples": ["latent", 0], "vae": ["vae", 0]}},
    }
    run = run_graph(prompt, image=("image", 0), latent=("latent", 0))
    torch.testing.assert_close(run["image"], image, rtol=0, atol=1e-6)
    torch.testing.assert_close(run["latent"]["samples"], image.movedim(-1, 1) * 2 - 1, rtol=0, atol=1e-6)


def test_apply_model_is_the_network_itself(loaded: tuple, plain: tuple) -> None:
    from comfy import model_management

    model = loaded[0]
    model_management.load_models_gpu([model])
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(3, 3, 64, 64, generator=generator), torch.randn(3, 16, 64, generator=generator)
    sigma = torch.tensor(SIGMAS)
    to = model.load_device
    denoised = model.model.apply_model(x.to(to), sigma.to(to), c_crossattn=context.to(to)).cpu()
    velocity = plain[1](x, sigma * 1000, context)
    torch.testing.assert_close(denoised, x - sigma[:, None, None, None] * velocity, rtol=1e-5, atol=1e-5)
    noise = torch.randn(x.shape, generator=generator)
    noised = model.model.model_sampling.noise_scaling(sigma.to(to)[:, None, None, None], noise.to(to), x.to(to)).cpu()
    torch.testing.assert_close(noised, (1 - sigma)[:, None, None, None] * x + sigma[:, None, None, None] * noise)


@pytest.mark.parametrize("text", TEXTS)
def test_embedding_is_tiny_texts_own(loaded: tuple, plain: tuple, tiny: Any, text: str) -> None:
    assert torch.equal(embed(loaded[1], text), plain[0](torch.tensor([tiny.tokenize(text)])))


def test_word_weights_scale_away_from_the_empty_text(loaded: tuple, plain: tuple, tiny: Any) -> None:
    ids = tiny.tokenize("tan skin")
    word, empty = (plain[0](torch.tensor([i])) for i in (ids, tiny.tokenize("")))
    expected = word.clone()
    expected[:, 1] = empty[:, 1] + 1.3 * (word[:, 1] - empty[:, 1])
    torch.testing.assert_close(embed(loaded[1], "tan (skin:1.3)"), expected)
    numbered = loaded[1].tokenize("tan (skin:1.3)", return_word_ids=True)["tiny"]
    assert numbered[0][:3] == [(ids[0], 1.0, 1), (ids[1], 1.3, 2), (0, 1.0, 0)]
    assert [len(row) for row in loaded[1].tokenize("(teal:1.2) " * 40)["tiny"]] == [tiny.TEXT_LENGTH]


def test_stock_lora_changes_the_image_and_leaves_the_base_alone(loaded: tuple, run_graph: Any) -> None:
    from comfy import sd

    model, clip, vae = loaded
    generator = torch.Generator().manual_seed(1)
    lora = {f"{LAYER}.lora_up.weight": torch.randn(128, 4, generator=generator)}
    lora |= {f"{LAYER}.lora_down.weight": torch.randn(4, 128, generator=generator)}
    patched, patched_clip = sd.load_lora_for_models(model, clip, lora, 1.0, 1.0)
    assert set(patched.patches) == {f"{LAYER}.weight"}
    assert torch.equal(embed(patched_clip, CAPTION), embed(clip, CAPTION))
    images = [run_graph(text_to_image(run_graph, (m, clip, vae)), image=("image", 0))["image"] for m in (model, patched, model)]
    assert (images[1] - images[0]).abs().max() > 1e-3
    assert torch.equal(images[2], images[0])


def test_weights_of_the_caller_stay_its_own(demo: Any, weights: dict, run_graph: Any) -> None:
    before = {name: value.clone() for name, value in weights.items()}
    run_graph(text_to_image(run_graph, demo.load_demo(weights)), image=("image", 0))
    assert all(torch.equal(weights[name], before[name]) and weights[name].dtype == torch.float16 for name in before)


def test_second_copy_can_be_made_for_trainers_that_want_one(loaded: tuple) -> None:
    model, clip, _ = loaded
    copies = [model.clone(force_deepcopy=True), clip.patcher.clone(force_deepcopy=True)]
    for copy, origin in zip(copies, (model, clip.patcher), strict=True):
        assert copy.model is not origin.model
        ours, theirs = copy.model.state_dict(), origin.model.state_dict()
        assert all(torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in theirs)


def test_wrong_weights_are_named(pack: Any, demo: Any, weights: dict) -> None:
    short = {name: value for name, value in weights.items() if not name.startswith("text.word")}
    bent = weights | {f"{LAYER}.weight": torch.zeros(3, 3)}
    for wrong, name in ((short, "text.word.weight"), (bent, f"{LAYER}.weight")):
        with pytest.raises(pack.core("config.checks").SliderError) as fault:
            demo.load_demo(wrong)
        assert fault.value.code == "demo.weights"
        assert name in str(fault.value)


def test_shipped_model_draws_what_the_caption_says(pack: Any, tiny: Any, demo: Any, run_graph: Any) -> None:
    if not tiny.WEIGHTS.is_file():
        pytest.skip(f"{tiny.WEIGHTS} has not been made yet (tools/make_tiny.py)")
    run = run_graph(text_to_image(run_graph, demo.load_demo(tiny.load_weights()), steps=16), image=("image", 0))
    [face] = pack.core("with_tiny.faces").measure(run["image"].movedim(-1, 1))
    assert (face.skin, face.background) == ("light", "blue")
