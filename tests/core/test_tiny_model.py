"""The embedded model is a small ComfyUI-like diffusion model: named layers, flow matching, guidance, one noise per call."""

import hashlib
from pathlib import Path

import pytest
import torch
from core.faults import refused
from safetensors.torch import load_file

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import layers
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.with_tiny.faces import PHRASES, measure
from slider_core.with_tiny.model import (
    PATCH,
    PLAIN,
    SAID,
    TEXT_LENGTH,
    TEXT_WIDTH,
    VOCABULARY,
    WEIGHTS,
    WINDOW,
    TinyBackend,
    blend,
    load_weights,
    tokenize,
)

MAX_BYTES, STEPS, SEED = 5_000_000, 3, 11
STRENGTHS = (-1.0, 0.0, 1.0)
CAPTION = "a face with light skin on a blue background"
EXACT = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def slider(backend: TinyBackend) -> Adapter:
    adapter = Adapter.create(backend.module, select(backend.module), AdapterSpec())
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(0.05 * torch.randn(part.shape, generator=torch.Generator().manual_seed(number)))
    return adapter


def euler(backend: TinyBackend, velocity: object) -> torch.Tensor:
    """A sampler of five lines: from pure noise down to 0 in equal steps."""
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(SEED))
    for step in range(STEPS):
        x = x - velocity(x, torch.tensor([1 - step / STEPS])) / STEPS
    return (x / 2 + 0.5).clamp(0, 1)


def test_the_shipped_weights_are_small_and_finite() -> None:
    assert WEIGHTS.stat().st_size <= MAX_BYTES
    assert all(value.isfinite().all() for value in load_weights().values())


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    for path in (tmp_path / "tiny.safetensors", tmp_path / "none.safetensors"):
        with refused("tiny.weights", path):
            load_weights(path)


def test_words_become_their_numbers_and_the_rest_is_padding() -> None:
    ids = tokenize("A Face, with BLUE zebras!")
    assert len(ids) == TEXT_LENGTH
    assert [VOCABULARY[i] for i in ids[:5]] == ["a", "face", "with", "blue", "<unknown>"]
    assert not any(ids[5:])
    assert tokenize("") == [0] * TEXT_LENGTH
    assert tokenize("face " * 50) == [VOCABULARY.index("face")] * TEXT_LENGTH
    assert 1 not in tokenize(CAPTION), "captions of the world need no unknown word"


def test_layers_carry_the_names_of_the_field(backend: TinyBackend) -> None:
    paths = set(layers(backend.module))
    kinds = ("attn1.to_q", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
    assert {f"blocks.{block}.{kind}" for block in range(4) for kind in kinds} < paths
    assert {"proj_in", "proj_out", "time_embedding.linear_1", "time_embedding.linear_2"} < paths


def test_the_text_layers_read_the_text(backend: TinyBackend) -> None:
    assert {backend.module.get_submodule(f"blocks.0.attn2.to_{n}").in_features for n in "kv"} == {TEXT_WIDTH}
    x, sigma = torch.randn(1, 3, 64, 64), torch.tensor([0.8])
    answers = [backend.predict(x, sigma, [backend.encode_prompt(t)]) for t in (CAPTION, CAPTION.replace("blue", "green"))]
    assert not torch.allclose(*answers, **EXACT)


def test_a_host_may_pass_more_than_the_model_needs(backend: TinyBackend) -> None:
    x, t, context = torch.randn(2, 3, 64, 64), torch.tensor([900.0, 300.0]), torch.randn(2, TEXT_LENGTH, TEXT_WIDTH)
    bare = backend.module(x, t, context)
    assert torch.equal(backend.module(x, t, context=context, control=None, transformer_options={}, y=None), bare)
    assert bare.shape == x.shape


def test_noise_and_target_are_flow_matching(backend: TinyBackend) -> None:
    clean, noise = torch.randn(2, 3, 3, 8, 8)
    sigma = torch.tensor([0.0, 0.4, 1.0])
    x, v, s = backend.add_noise(clean, noise, sigma), backend.target(clean, noise, sigma), sigma[:, None, None, None]
    assert torch.equal(x[0], clean[0])
    assert torch.equal(x[2], noise[2])
    torch.testing.assert_close(x - s * v, clean, **EXACT)
    torch.testing.assert_close(x + (1 - s) * v, noise, **EXACT)


def test_predict_is_that_velocity_and_reads_sigma_per_sample(backend: TinyBackend, samples: list) -> None:
    clean, sigma = torch.stack([s.latent for s in samples[:3]]), torch.tensor([0.3, 0.5, 0.7])
    noise, cond = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)), [s.cond for s in samples[:3]]
    x, v = backend.add_noise(clean, noise, sigma), backend.target(clean, noise, sigma)
    answer = backend.predict(x, sigma, cond)
    assert ((answer - v).square().mean(dim=(1, 2, 3)) < 0.5 * v.square().mean(dim=(1, 2, 3))).all()
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(backend.predict(x[one], sigma[one], cond[one]), answer[one], **EXACT)


def test_borrowing_leaves_the_model_frozen_and_the_same(backend: TinyBackend, slider: Adapter) -> None:
    before = {n: (p.data_ptr(), p.requires_grad, p.tolist()) for n, p in backend.module.named_parameters()}
    assert not any(flag for _, flag, _ in before.values())
    with backend.borrowed(), at_strength(slider, backend.module, [1.0]):
        backend.predict(torch.randn(1, 3, 64, 64), torch.tensor([0.5]), [backend.encode_prompt("")]).sum().backward()
    assert {n: (p.data_ptr(), p.requires_grad, p.tolist()) for n, p in backend.module.named_parameters()} == before
    assert all(p.grad is None for p in backend.module.parameters())


def test_all_strengths_of_a_call_start_from_the_same_noise(backend: TinyBackend) -> None:
    images = backend.sample(backend.encode_prompt(CAPTION), SEED, STRENGTHS, steps=STEPS)
    assert images.shape == (3, 3, 64, 64)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    assert (images.min(), images.max()) >= (0, 0)
    assert images.max() <= 1
    assert not torch.equal(backend.sample(backend.encode_prompt(CAPTION), SEED + 1, (0.0,), steps=STEPS)[0], images[0])


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_strength_of_a_call_is_what_it_is_alone(backend: TinyBackend, slider: Adapter, cfg: float) -> None:
    cond = backend.encode_prompt(CAPTION)
    together = backend.sample(cond, SEED, STRENGTHS, slider, STEPS, cfg)
    for row, strength in enumerate(STRENGTHS):
        alone = backend.sample(cond, SEED, (strength,), slider, STEPS, cfg)[0]
        torch.testing.assert_close(together[row], alone, atol=1e-3, rtol=0)
    bare = backend.sample(cond, SEED, STRENGTHS, None, STEPS, cfg)
    assert torch.equal(together[1], bare[1])  # strength 0 is the model's own
    assert (together[0] - together[2]).abs().mean() > 1e-3


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_sampling_is_plain_euler_with_plain_guidance(backend: TinyBackend, cfg: float) -> None:
    cond, empty = backend.encode_prompt(CAPTION), backend.encode_prompt("")

    def velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with_text, without = backend.predict(x, sigma, [cond]), backend.predict(x, sigma, [empty])
        return with_text if cfg == 1 else without + cfg * (with_text - without)

    by_hand = euler(backend, velocity)
    torch.testing.assert_close(backend.sample(cond, SEED, (1.0,), steps=STEPS, cfg=cfg), by_hand, atol=1e-3, rtol=0)


def test_sampling_leaves_the_global_generator_alone(backend: TinyBackend) -> None:
    state = torch.get_rng_state()
    backend.sample(backend.encode_prompt(""), SEED, (0.0,), steps=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_patches_that_do_not_overlap_are_laid_side_by_side() -> None:
    """The first run of tools/make_tiny.py trains with window = PATCH: then blending is torch's own pixel shuffle."""
    patches = torch.randn(2, 3 * PATCH**2, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.pixel_shuffle(patches.unflatten(-1, (2, 3)), PATCH)
    assert torch.allclose(blend(patches, 2, 3, window=PATCH), expected, atol=1e-6)


def test_overlapping_patches_that_agree_are_drawn_unchanged() -> None:
    """Windows cut from one picture by torch's unfold must blend back into that picture."""
    picture = torch.randn(1, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    edge = (WINDOW - PATCH) // 2
    cut = torch.nn.functional.unfold(torch.nn.functional.pad(picture, (edge,) * 4), WINDOW, stride=PATCH)
    assert torch.allclose(blend(cut, 4, 3), picture, atol=1e-5)


def test_the_weights_are_those_that_the_pages_were_measured_with() -> None:
    """docs/benchmarks.md and the README's strip: new weights mean new tables."""
    weights = load_file(WEIGHTS)
    found = hashlib.sha256(b"".join(weights[key].numpy().tobytes() for key in sorted(weights)))
    assert found.hexdigest() == "da6f58c18ee991e0a9fb68ed55e483cfeb19f7a6ab8f41dc7a60023448ad4235"


def test_captions_without_a_word_of_an_attribute_are_answered_as_before(backend: TinyBackend) -> None:
    weights = load_weights()
    everywhere = weights["text.word.weight"][:PLAIN, None] + weights["text.position.weight"][None]  # every word at every place
    assert not backend.module.said(everywhere.flatten(0, 1)[:, None]).any(), "no unit lights up at all"
    silent = TinyBackend({k: torch.zeros_like(v) if k.endswith("said_steer") else v for k, v in weights.items()})
    x, sigma = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(SEED)), torch.tensor([0.8])
    for text in (CAPTION, "", "a portrait of the cartoon person"):
        assert torch.equal(*(b.predict(x, sigma, [b.encode_prompt(text)]) for b in (backend, silent)))
    said = f"{CAPTION}, smiling"
    assert not torch.equal(*(b.predict(x, sigma, [b.encode_prompt(said)]) for b in (backend, silent)))


def test_a_word_is_heard_once_wherever_it_stands(backend: TinyBackend) -> None:
    for phrase, units in (("smiling", [0]), ("closed eyes", [3]), ("sad, large", [1, 4])):
        wanted = torch.zeros(len(SAID))
        wanted[units] = 1
        for text in (phrase, f"a face, {phrase}", f"{CAPTION}, {phrase}"):
            said = backend.module.said(backend.encode_prompt(text).value)[0]
            torch.testing.assert_close(said, wanted, atol=0.1, rtol=0)


@pytest.mark.parametrize("attribute", ["eyes", "size"])
def test_what_is_said_of_an_attribute_is_drawn(backend: TinyBackend, attribute: str) -> None:
    """The mean over four seeds lies on the side that the words say. The mouth is barely heard (docs/words.md)."""
    drawn = [
        [backend.sample(backend.encode_prompt(f"{CAPTION}, {p}"), n, (0.0,), steps=6) for n in range(4)]
        for p in PHRASES[attribute]
    ]
    high, low = (sum(getattr(m, attribute) for m in measure(torch.cat(images))) / 4 for images in drawn)
    assert high > low + 0.2
