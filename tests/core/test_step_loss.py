"""The losses are the formulas, by finite differences and by hand, on a model small enough for both."""

from dataclasses import replace

import pytest
import torch

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, Sides, TrainSpec
from slider_core.encode.noised import at_levels
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective.batch import Batch
from slider_core.objective.batch_plan import plan
from slider_core.objective.formulas import displacement, teacher_difference, training_target
from slider_core.objective.noising import draw_noise, loss_weight, noised
from slider_core.objective.one_way import on_sides
from slider_core.objective.step_loss import StepTarget, step_target

RANK, PAIRS, NEUTRAL, BATCH = 2, 3, 2, 4
PAIRED = TrainSpec(batch=BATCH, seed=7, objective=Objective.DENOISE_PAIRED)
DISPLACEMENT = TrainSpec(batch=BATCH, seed=7, jitter=0.25)
TEACHER = TrainSpec(batch=BATCH, seed=7, objective=Objective.TEACHER_DIFFERENCE)
ROTATING = TrainSpec(batch=BATCH, seed=7, objective=Objective.DENOISE_ROTATING)
KINDS = {"paired": (PAIRED, 0), "rotating": (ROTATING, 1), "neutral": (PAIRED, 2)}
WITH_BASE = KINDS | {"displacement": (DISPLACEMENT, 0), "teacher": (TEACHER, 0), "neutral from the base": (DISPLACEMENT, 2)}
OF_EACH_KIND = pytest.mark.parametrize(("spec", "step"), KINDS.values(), ids=KINDS)


def adapter_on(module: torch.nn.Module) -> Adapter:
    """Random factors on `mix`, small enough that curvature does not blur a difference quotient."""
    adapter = Adapter.create(module, [Target("mix")], AdapterSpec(rank=RANK, alpha=float(RANK)))
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(0.6 * torch.randn(part.shape, generator=torch.Generator().manual_seed(number)))
    return adapter


@pytest.mark.parametrize(("spec", "step"), WITH_BASE.values(), ids=WITH_BASE)
def test_the_gradient_is_that_of_finite_differences(linear_backend, make_samples, spec: TrainSpec, step: int) -> None:
    model = linear_backend(symmetric=step == 2)
    adapter = adapter_on(model.module)
    batch = plan(make_samples(PAIRS, NEUTRAL), spec).batch(step)

    def loss() -> torch.Tensor:
        return step_target(model, batch, spec).loss(model, adapter).mean()

    loss().backward()
    epsilon = 1e-2
    for part in adapter.parameters():
        assert part.grad.abs().max() > 1e-2
        numeric = torch.zeros_like(part)
        for index in range(part.numel()):
            flat = part.data.view(-1)
            old = float(flat[index])
            around = []
            for shift in (epsilon, -epsilon):
                flat[index] = old + shift
                around.append(loss().item())
            flat[index] = old
            numeric.view(-1)[index] = (around[0] - around[1]) / (2 * epsilon)
        torch.testing.assert_close(part.grad, numeric, rtol=2e-3, atol=2e-3 * float(part.grad.abs().max()))


def test_a_one_way_step_runs_the_acting_rows_alone_to_the_same_gradient(linear_backend, make_samples) -> None:
    model = linear_backend()
    spec = TrainSpec(batch=BATCH, seed=7, sides=Sides.PLUS)
    batch = plan(on_sides(make_samples(PAIRS, 0), Sides.PLUS), spec).batch(0)
    asked = step_target(model, batch, spec)
    assert (len(batch.strengths), len(asked.strengths)) == (BATCH, BATCH // 2)
    target = training_target(model, noised(model, batch, spec), batch, spec)
    whole = StepTarget(target.at, target.prediction, loss_weight(target.at, batch, spec), batch.strengths)
    gradients = []
    for one in (whole, asked):
        adapter = adapter_on(model.module)
        one.loss(model, adapter).mean().backward()
        gradients.append([p.grad for p in adapter.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@OF_EACH_KIND
def test_the_loss_is_the_formula(linear_backend, make_samples, spec: TrainSpec, step: int) -> None:
    model = linear_backend(symmetric=step == 2)
    adapter = adapter_on(model.module)
    batch = plan(make_samples(PAIRS, NEUTRAL), spec).batch(step)
    A, B = adapter.parameters()
    u, noise = draw_noise(batch, spec)
    losses = step_target(model, batch, spec).loss(model, adapter)
    assert losses.shape == (BATCH,)
    losses = losses.reshape(2, -1).mean(dim=0) if batch.neutral else losses
    for number, loss in enumerate(losses):
        clean, t, eps = batch.samples[number].latent, u[number], noise[number]
        x = ((1 - t) * clean + t * eps).flatten(1)  # (C, HW)
        if batch.neutral:  # y = (W x)^2, so its displacement has the even part (s B A x)^2 and the odd part 2 (W x)(s B A x)
            change = batch.strengths[number] * B @ A @ x
            odd = 2 * (model.module.mix.weight @ x) * change
            by_hand = (change.pow(4) + odd.square()).mean()
        else:
            weight = model.module.mix.weight + batch.strengths[number] * B @ A
            by_hand = (weight @ x - (eps - clean).flatten(1)).square().mean()
        torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)


def test_a_pair_shares_noise_and_timestep_and_nobody_else_does(make_samples) -> None:
    batch = plan(make_samples(PAIRS), PAIRED).batch(0)
    u, noise = draw_noise(batch, PAIRED)
    for one, other in ((0, 2), (1, 3)):
        assert batch.samples[one].pair == batch.samples[other].pair
        assert u[one] == u[other]
        assert torch.equal(noise[one], noise[other])
    assert u[0] != u[1]
    assert not torch.equal(noise[0], noise[1])


def test_noise_depends_on_seed_and_step_alone(make_samples) -> None:
    samples = make_samples(PAIRS)

    def draw(seed: int, step: int) -> list[float]:
        spec = TrainSpec(seed=seed)
        u, noise = draw_noise(plan(samples, spec).batch(step), spec)
        return [*u.tolist(), *noise.flatten().tolist()]

    first = draw(1, 2)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert draw(1, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(draw(seed, step)) for seed in (0, 1, 2) for step in (0, 1, 2)}) == 9


def test_every_usual_seed_draws(make_samples) -> None:
    for seed in (-1, 2**31):
        spec = TrainSpec(seed=seed)
        assert draw_noise(plan(make_samples(PAIRS), spec).batch(0), spec)[1].std() > 0.5


@pytest.mark.parametrize("symmetric", [False, True], ids=["odd", "even"])
def test_a_neutral_image_is_held_at_both_ends(linear_backend, make_samples, symmetric: bool) -> None:
    """Both ends the same way and each its own way: either costs, and nothing does where the slider does nothing."""
    model = linear_backend(symmetric)
    latent = torch.stack([s.latent for s in make_samples(1)]).repeat(2, 1, 1, 1)
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(6)).repeat(2, 1, 1, 1)
    batch = at_levels(model, latent, noise, torch.full((4,), 0.5), [None] * 4)
    adapter, weight = adapter_on(model.module), torch.ones(4, 1, 1, 1)
    base = model.predict(batch.x, batch.sigma_B, batch.cond)
    shifted, silent = (StepTarget(batch, base, weight, s).loss(model, adapter) for s in ((2.0, 2.0, -2.0, -2.0), (0.0,) * 4))
    assert (shifted.reshape(2, 2).mean(dim=0) > 0.01).all()
    assert (silent < 1e-10).all()


def by_teacher(backend, batch, factor: float) -> torch.Tensor:
    """x0 of the frozen model on the other image's noised latent, moved `factor` of the way to this image, as a prediction."""
    other = batch.latent.roll(len(batch.latent) // 2, dims=0)
    x = backend.add_noise(other, batch.noise, batch.sigma_B)
    sigma = batch.sigma_B.reshape(-1, 1, 1, 1)
    clean = x - sigma * backend.predict(x, batch.sigma_B, None)  # flow: x0 = x - sigma v
    return (x - (clean + factor * (batch.latent - other))) / sigma


def pair_batch(model, spec: TrainSpec, samples):
    drawn = plan(samples, spec).batch(0)
    return drawn, noised(model, drawn, spec)


def test_the_teacher_asks_for_the_whole_way_to_this_image(linear_backend, make_samples) -> None:
    model = linear_backend()
    _, batch = pair_batch(model, TEACHER, make_samples(PAIRS))
    wanted = teacher_difference(model, batch, torch.ones(1))
    assert torch.allclose(wanted.prediction, by_teacher(model, batch, 1.0), atol=1e-3)
    assert torch.equal(wanted.at.x, batch.x.roll(2, dims=0))


@pytest.mark.parametrize(("sees", "way"), [(0.0, 0.5), (0.5, 0.4375), (1.5, 0.0), (-0.5, 0.5)])
def test_displacement_asks_for_half_of_what_the_model_does_not_see_yet(
    linear_backend, make_samples, sees: float, way: float
) -> None:
    """A frozen model that takes `sees` of the noised latent's clean part for granted and nothing of the noise."""
    model = linear_backend()
    samples = make_samples(PAIRS)
    _, batch = pair_batch(model, DISPLACEMENT, samples)
    sigma = batch.sigma_B.reshape(-1, 1, 1, 1)

    def predict(x, sigma_B, _cond):
        level = sigma_B.reshape(-1, 1, 1, 1)
        clean = (x - level * batch.noise) / (1 - level)  # both images of a pair share their noise
        return (x - sees * clean) / level

    model.predict = predict
    wanted = displacement(model, batch, torch.ones(1))
    assert torch.allclose(sigma * (wanted.prediction - by_teacher(model, batch, way)), torch.zeros(1), atol=1e-4)


def test_strengths_share_the_way_by_their_size(linear_backend, make_samples) -> None:
    """Images at +3 and -1: three quarters of the whole displacement belong to the positive side."""
    model = linear_backend()
    samples = [replace(s, strength=3.0 if s.strength > 0 else -1.0) for s in make_samples(PAIRS)]
    drawn = plan(samples, TEACHER).batch(0)
    batch = noised(model, drawn, TEACHER)
    wanted = training_target(model, batch, drawn, TEACHER)
    share = torch.tensor([1.5, 1.5, 0.5, 0.5]).reshape(-1, 1, 1, 1)
    base = by_teacher(model, batch, 0.0)
    assert torch.allclose(wanted.prediction - base, share * (by_teacher(model, batch, 1.0) - base), atol=1e-3)


def test_the_weight_of_neutral_images_scales_their_loss(linear_backend, make_samples) -> None:
    model = linear_backend(symmetric=True)
    adapter, batch = adapter_on(model.module), plan(make_samples(PAIRS, NEUTRAL), PAIRED).batch(2)
    one, three = (step_target(model, batch, replace(PAIRED, neutral_weight=w)).loss(model, adapter) for w in (1.0, 3.0))
    assert torch.allclose(3 * one, three)
    assert (one > 0).all()


def test_a_batch_runs_both_signs_in_one_forward(linear_backend, make_samples) -> None:
    model, calls = linear_backend(), []
    model.module.register_forward_hook(lambda _module, args, _output: calls.append(len(args[0])))
    batch: Batch = plan(make_samples(PAIRS), PAIRED).batch(0)
    step_target(model, batch, PAIRED).loss(model, adapter_on(model.module))
    assert calls == [BATCH]
