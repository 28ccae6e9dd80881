"""A slider from words learns what its prompts set apart, from the frozen model alone, in whatever space that predicts.

Oracles: the formula written out by hand, models whose right answer is known in closed form, TinyBackend's own sampler.
"""

from dataclasses import replace

import pytest
import torch
from core.faults import refused

from slider_core.__main__ import main, parser
from slider_core.backend import Conditioning, per_sample
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.data.bucket_spec import DatasetSpec, TextSliderSpec
from slider_core.data.buckets import graph_bucket
from slider_core.data.dataset import Dataset, add_text_slider, assembled, origin
from slider_core.encode.encoder import PromptPair, Sample
from slider_core.encode.noised import at_levels
from slider_core.encode.text_latents import encode_all
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import load_slider
from slider_core.objective.batch_plan import plan
from slider_core.objective.prompt_targets import limit_contrast, measured_on, prompt_targets, with_prompt_targets
from slider_core.objective.step_loss import step_target
from slider_core.train.calibration_search import calibrate
from slider_core.train.displacement import Wanted
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run
from slider_core.train.trainings import Session
from slider_core.with_tiny.model import TinyBackend

FACE, UP, DOWN = "a face with tan skin on a blue background", "open eyes", "closed eyes"
WORDS = TextSliderSpec(FACE, f"{FACE}, {UP}", f"{FACE}, {DOWN}", count=2, steps=2)
G, STEPS = 3.0, 24


def exact(samples: list, steps: int = 4, **choices) -> Trainer:
    adapter = Adapter.create(TinyBackend().module, select(TinyBackend().module), AdapterSpec())
    return Trainer(adapter, samples, TrainSpec(steps=steps, lr=4e-3, warmup=2, **choices))


@pytest.fixture
def told(backend: TinyBackend) -> list[Sample]:
    return encode_all(add_text_slider(WORDS), backend)


@pytest.fixture
def wordy(linear_backend):
    """The one-layer model, whose prediction moves by the number that a prompt is; it counts what it is asked."""
    made = linear_backend()
    made.prompt_targets = []

    def predict(x: torch.Tensor, _sigma: torch.Tensor, cond: list) -> torch.Tensor:
        made.prompt_targets.append(len(x))
        return made.module(x) + per_sample(torch.tensor([float(c.text or 0) for c in cond]), x)

    made.predict = predict
    return made


def numbered(count: int, target: str = "1", positive: str = "5", negative: str = "2", weight: float = 1.0) -> list[Sample]:
    latents = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    prompt_pair = PromptPair(Conditioning(positive, None), Conditioning(negative, None), G, weight)
    made = [(n, latent, sign) for n, latent in enumerate(latents) for sign in (1.0, -1.0)]
    return [Sample(latent, Conditioning(target, None), sign, n, "words", prompt_pair=prompt_pair) for n, latent, sign in made]


def test_what_is_asked_is_the_formula(wordy) -> None:
    rows = numbered(2)
    latent, sigma = torch.stack([s.latent for s in rows]), torch.tensor([0.2, 0.2, 0.7, 0.7])
    batch = at_levels(wordy, latent, torch.ones_like(latent), sigma, [s.cond for s in rows])
    plus, minus = prompt_targets(wordy, batch, [s.prompt_pair for s in rows])
    base = wordy.module(batch.x) + 1  # the target prompt is 1
    torch.testing.assert_close(plus, base + G * (5 - 2))
    torch.testing.assert_close(minus, base - G * (5 - 2))
    assert wordy.prompt_targets == [12], "three prompts, one forward pass"
    own = with_prompt_targets(wordy, batch, rows).right
    torch.testing.assert_close(own, torch.stack([(plus if s.strength > 0 else minus)[i] for i, s in enumerate(rows)]))


def test_no_picture_is_asked_for_beyond_the_contrast_of_the_three_prompts() -> None:
    picture = (
        torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1) + 3
    )
    got = limit_contrast(picture, torch.tensor([2.0, 2.0]))
    assert torch.equal(got[0], picture[0]) or torch.allclose(got[0], picture[0], atol=1e-6)
    torch.testing.assert_close(got[1].std(), torch.tensor(2.0))
    torch.testing.assert_close(got[1].mean(), picture[1].mean())
    torch.testing.assert_close(torch.corrcoef(torch.stack([got[1].flatten(), picture[1].flatten()]))[0, 1], torch.tensor(1.0))


def test_a_step_asks_the_frozen_model_once_for_both_signs(wordy) -> None:
    adapter = Adapter.create(wordy.module, [Target("mix")], AdapterSpec())
    spec = TrainSpec(batch=4, weighting="none")
    batch = plan(numbered(3), spec).batch(0)
    assert (batch.strengths, batch.noise, batch.text_slider) == ((1.0, 1.0, -1.0, -1.0), (0, 1, 0, 1), True)
    assert batch.samples[:2] == tuple(replace(s, strength=1.0) for s in batch.samples[2:])
    loss = step_target(wordy, batch, spec).loss(wordy, adapter)
    assert wordy.prompt_targets == [6, 4]
    torch.testing.assert_close(loss, torch.full((4,), (G * 3) ** 2))  # an adapter that does nothing misses all of it


def test_the_weight_counts_words(wordy) -> None:
    adapter, spec = Adapter.create(wordy.module, [Target("mix")], AdapterSpec()), TrainSpec(batch=2)
    one, three = (step_target(wordy, plan(numbered(1, weight=w), spec).batch(0), spec).loss(wordy, adapter) for w in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one)


def pictures() -> Dataset:
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(6))
    return assembled([graph_bucket(images, sign, [FACE], None) for sign in (1.0, -1.0)], DatasetSpec())


def test_words_come_after_every_step_of_images(backend: TinyBackend) -> None:
    samples = encode_all(add_text_slider(WORDS, pictures()), backend)
    for objective in ("displacement", "denoise_paired"):
        assert [plan(samples, TrainSpec(objective=objective)).batch(n).text_slider for n in range(6)] == [False, True] * 3
    assert all(s.prompt_pair is None for s in measured_on(samples)), "judged by the images"


def test_one_side_of_images_is_refused_beside_prompts_too(backend: TinyBackend) -> None:
    half = replace(pictures(), pairs=())
    half = replace(half, buckets=half.buckets[:1])
    with refused("batches.one_side", 2, 0):
        exact(encode_all(add_text_slider(WORDS, half), backend))


def test_a_slider_from_words_learns_and_is_calibrated_on_the_words(backend: TinyBackend, told: list) -> None:
    before = {n: p.clone() for n, p in backend.module.named_parameters()}
    trainer = exact(told, STEPS)
    trainer.run(backend, STEPS)
    assert min(trainer.readings[-1].explained) > 0.1, "of what the words ask for"
    found = calibrate(backend, trainer.adapter, told)
    assert found.summary().startswith("Strength 1 = the prompts")
    assert trainer.wanted is Wanted.PROMPTS
    assert found.plus.explained > 0.1
    assert found.minus.explained > 0.1
    assert all(torch.equal(p, before[n]) for n, p in backend.module.named_parameters())


def test_a_run_from_words_in_parts_is_the_same_run(backend: TinyBackend, told: list) -> None:
    straight, first, second = exact(told), exact(told), exact(told)
    straight.run(backend, 4)
    first.run(backend, 2)
    second.load_state_dict(first.state_dict())
    second.run(backend, 4)
    assert all(torch.equal(a, b) for a, b in zip(straight.adapter.parameters(), second.adapter.parameters(), strict=True))


def test_a_run_remembers_its_words(told: list) -> None:
    session, dataset = Session(), add_text_slider(WORDS)
    session.begin("eyes", origin(dataset), lambda: exact(told))
    with refused("training.differs", "prompts", FACE):
        session.begin("eyes", origin(add_text_slider(replace(WORDS, guidance=2.0))), lambda: exact(told))
    run = Run("eyes", origin(dataset), exact(told), AdapterSpec())
    info = run.slider().info
    assert (info.prompts, info.other["ss_num_train_images"]) == (str(WORDS), "0")
    assert f"prompts: {WORDS}" in run.slider().summary()
    assert "prompts" not in origin(pictures())


def test_the_command_line_trains_from_prompts(tmp_path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "eyes.safetensors"
    prompts = ["--target", FACE, "--positive", f"{FACE}, {UP}", "--negative", f"{FACE}, {DOWN}", "--hold", "large, small"]
    assert main(["train", *prompts, "--latents", "2", "--steps", "2", "--no-calibration", "--out", str(out)]) == 0
    assert "hold large, small" in load_slider(out).info.prompts
    args = parser().parse_args(["train", *prompts[:2], "--out", str(out)])
    with refused("train.prompts_missing", "--positive", "--negative"):
        args.run(args)
    args = parser().parse_args(["train", "--out", str(out)])
    with refused("train.no_dataset", "--dataset"):
        args.run(args)
    assert sorted(tmp_path.iterdir()) == [out, tmp_path / "runs"]
