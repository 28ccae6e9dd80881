"""Latents that the model makes for a text slider, in whatever space it predicts.

Oracles: models whose right answer is known in closed form, TinyBackend's own sampler.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core.faults import refused

from slider_core.backend import Conditioning, per_sample, seeded
from slider_core.data.bucket_spec import DatasetSpec, Latents, TextSliderSpec, held
from slider_core.data.buckets import graph_bucket
from slider_core.data.dataset import Dataset, add_text_slider, assembled
from slider_core.encode.disk_cache import DiskCache
from slider_core.encode.text_latents import encode_all, make_latents
from slider_core.with_tiny.model import TinyBackend

FACE = "a face with tan skin on a blue background"
TEXT = TextSliderSpec(FACE, f"{FACE}, open eyes", f"{FACE}, closed eyes", count=2, steps=2)


def point(space: str, mean: torch.Tensor):
    """The best possible model of data that is one point, in a prediction space: (add_noise, target, predict)."""

    def parts(sigma: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        s = per_sample(sigma, like)
        return (1 - s, s) if space == "flow" else (torch.ones_like(s), s)

    def add_noise(x0, noise, sigma):
        a, b = parts(sigma, x0)
        return a * x0 + b * noise

    def target(x0, noise, sigma):
        if space == "flow":
            return noise - x0
        alpha = 1 / (1 + per_sample(sigma, x0) ** 2).sqrt()
        return noise if space == "eps" else alpha * noise - per_sample(sigma, x0) * alpha * x0

    def predict(x, sigma, _cond):
        a, b = parts(sigma, x)
        return target(mean.expand_as(x), (x - a * mean) / b, sigma)

    return add_noise, target, predict


@pytest.mark.parametrize(("space", "steps"), [("eps", 5), ("v", 5), ("flow", 5), ("flow", 1)])
def test_the_model_makes_what_it_knows_in_every_prediction_space(space: str, steps: int, linear_backend) -> None:
    mean = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    model = linear_backend()
    model.add_noise, model.target, model.predict = point(space, mean)
    if space != "flow":
        model.sigmas = lambda u: 14 * u
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    drawn = make_latents(model, noise, Conditioning("", None), steps)
    torch.testing.assert_close(drawn, mean.repeat(2, 1, 1, 1), atol=1e-4, rtol=1e-4)


def test_the_loop_is_the_embedded_models_own_sampler(backend: TinyBackend) -> None:
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    for cfg in (1.0, 3.0):
        drawn = make_latents(backend, noise, backend.encode_prompt(FACE), 4, cfg, backend.encode_prompt(""))
        sampled = backend.sample(backend.encode_prompt(FACE), 5, (0.0,), steps=4, cfg=cfg)
        assert (((drawn + 1) / 2).clamp(0, 1) - sampled).abs().mean() < 0.01


def test_each_attribute_to_hold_is_said_beside_all_three() -> None:
    text = TextSliderSpec("a person", "a  person, smiling", "", held("man, woman\nold,, man"), count=4)
    assert text.hold == ("man", "woman", "old")
    assert text.prompts[0] == ("a person, man", "a person, smiling, man", "man")
    assert len(text.prompts) == 3
    assert TextSliderSpec("", "happy", "sad").prompts == [("", "happy", "sad")]


def test_prompts_that_cannot_be_trained_on_are_named() -> None:
    for field, value, code in (
        ("positive", "sad ", "same"),
        ("target", 3, "target"),
        ("guidance", 0.0, "guidance"),
        ("weight", float("nan"), "weight"),
        ("cfg", 0.5, "cfg"),
        ("steps", 0, "steps"),
        ("count", 0, "count"),
        ("width", 20000, "width"),
    ):
        with refused(f"text_slider.{code}", str(value).strip()):
            TextSliderSpec(**({"target": "a", "positive": "happy", "negative": "sad"} | {field: value}))
    with refused("text_slider.count", 1, 2):
        TextSliderSpec("a", "happy", "sad", ("old", "young"), count=1)


def test_latents_are_shared_by_both_signs_and_come_from_the_disk_the_second_time(backend: TinyBackend, tmp_path: Path) -> None:
    dataset, heard = add_text_slider(replace(TEXT, hold=("large", "small"), count=3)), []
    first = encode_all(dataset, backend, None, DiskCache(tmp_path), None, lambda done, total: heard.append((done, total)))
    again = encode_all(dataset, backend, None, DiskCache(tmp_path), None, lambda *_: pytest.fail("made anew"))
    assert heard[-1] == (3, 3)
    assert [s.cond.text for s in first[::2]] == [f"{FACE}, large"] * 2 + [f"{FACE}, small"]
    assert all(torch.equal(plus.latent, minus.latent) for plus, minus in zip(first[::2], first[1::2], strict=True))
    assert all(torch.equal(a.latent, b.latent) for a, b in zip(first, again, strict=True))
    assert len({float(s.latent.sum()) for s in first}) == 3, "no latent comes twice"
    noise = torch.randn(first[4].latent.shape, generator=seeded(TEXT.seed, "words 2"))[None]
    assert torch.allclose(make_latents(backend, noise, first[4].cond, 2)[0], first[4].latent, atol=1e-5), "the third of all"


def pictures() -> Dataset:
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(6))
    return assembled([graph_bucket(images, sign, [FACE], None) for sign in (1.0, -1.0)], DatasetSpec())


def test_images_may_lend_their_latents(backend: TinyBackend) -> None:
    lent = encode_all(add_text_slider(replace(TEXT, latents=Latents.IMAGES), pictures()), backend)
    assert len(lent) == 8, "four images, both signs"
    assert all(s.prompt_pair for s in lent)
    with refused("text_slider.no_images"):
        add_text_slider(replace(TEXT, latents=Latents.IMAGES))
