"""The losses are the formulas, by finite differences and by hand, on a model small enough for both."""

import pytest
import torch

from slider_core.adapter import Adapter
from slider_core.config import AdapterSpec, Objective, Timesteps, TrainSpec
from slider_core.cycle import Batch, next_batch
from slider_core.objective import draw_noise, draw_u, neutral_error, prediction_error, step_loss
from slider_core.targets import Target

RANK, PAIRS, NEUTRAL, BATCH = 2, 3, 2, 4
PAIRED = TrainSpec(batch=BATCH, seed=7)
ROTATING = TrainSpec(batch=BATCH, seed=7, objective=Objective.DENOISE_ROTATING)
KINDS = {"paired": (PAIRED, 0), "rotating": (ROTATING, 1), "neutral": (PAIRED, 2)}
OF_EACH_KIND = pytest.mark.parametrize(("spec", "step"), KINDS.values(), ids=KINDS)


def adapter_on(module: torch.nn.Module) -> Adapter:
    """Random factors on `mix`, small enough that curvature does not blur a difference quotient."""
    adapter = Adapter.create(module, [Target("mix")], AdapterSpec(rank=RANK, alpha=float(RANK)))
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(0.6 * torch.randn(part.shape, generator=torch.Generator().manual_seed(number)))
    return adapter


@OF_EACH_KIND
def test_the_gradient_is_that_of_finite_differences(linear_backend, make_samples, spec: TrainSpec, step: int) -> None:
    model = linear_backend(even=step == 2)
    adapter = adapter_on(model.module)
    batch = next_batch(make_samples(PAIRS, NEUTRAL), spec, step)

    def loss() -> torch.Tensor:
        return step_loss(model, adapter, batch, spec).loss_B.mean()

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


@OF_EACH_KIND
def test_the_loss_is_the_formula(linear_backend, make_samples, spec: TrainSpec, step: int) -> None:
    model = linear_backend(even=step == 2)
    adapter = adapter_on(model.module)
    batch = next_batch(make_samples(PAIRS, NEUTRAL), spec, step)
    A, B = adapter.parameters()
    u, noise = draw_noise(batch, spec)
    for number, loss in enumerate(step_loss(model, adapter, batch, spec).loss_B):
        clean, t, eps = batch.samples[number].latent, u[number], noise[number]
        x = ((1 - t) * clean + t * eps).flatten(1)  # (C, HW)
        if batch.neutral:  # y = (W x)^2, so the even part of its displacement is (B A x)^2
            by_hand = (B @ A @ x).pow(4).mean()
        else:
            weight = model.module.mix.weight + batch.strengths[number] * B @ A
            by_hand = (weight @ x - (eps - clean).flatten(1)).square().mean()
        torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)


@OF_EACH_KIND
def test_the_loss_is_per_sample(linear_backend, make_samples, spec: TrainSpec, step: int) -> None:
    model = linear_backend(even=True)
    result = step_loss(model, adapter_on(model.module), next_batch(make_samples(PAIRS, NEUTRAL), spec, step), spec)
    assert result.loss_B.shape == (BATCH // 2 if step == 2 else BATCH,)
    assert len(set(result.loss_B.tolist())) == len(result.loss_B)


def test_prediction_error_is_zero_for_the_right_answer(linear_backend) -> None:
    model = linear_backend()
    x, noise, sigma = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.8])
    model.predict = lambda _x, _sigma, _cond: (noise - x) + torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1)
    assert prediction_error(model, x, noise, sigma, [None] * 2).tolist() == pytest.approx([0, 9], abs=1e-4)


def test_a_pair_shares_noise_and_timestep_and_nobody_else_does(make_samples) -> None:
    batch = next_batch(make_samples(PAIRS), PAIRED, 0)
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
        u, noise = draw_noise(next_batch(samples, spec, step), spec)
        return [*u.tolist(), *noise.flatten().tolist()]

    first = draw(1, 2)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert draw(1, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(draw(seed, step)) for seed in (0, 1, 2) for step in (0, 1, 2)}) == 9


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_every_usual_seed_draws(make_samples, seed: int) -> None:
    spec = TrainSpec(seed=seed)
    assert draw_noise(next_batch(make_samples(PAIRS), spec, 0), spec)[1].std() > 0.5


@pytest.mark.parametrize("kind", Timesteps)
def test_timesteps_stay_inside_the_schedule(kind: Timesteps) -> None:
    u = draw_u(1000, kind, torch.Generator().manual_seed(0))
    assert 0 < u.min() < 0.1
    assert 0.9 < u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.03)


def test_uniform_timesteps_fall_one_into_each_part() -> None:
    u = draw_u(8, Timesteps.UNIFORM, torch.Generator().manual_seed(0))
    assert sorted((u * 8).int().tolist()) == list(range(8))
    assert (u * 8).int().tolist() != list(range(8))  # in random order


@pytest.mark.parametrize("even", [False, True], ids=["odd", "even"])
def test_only_the_even_part_of_a_displacement_costs(linear_backend, make_samples, even: bool) -> None:
    model = linear_backend(even)
    x = torch.stack([s.latent for s in make_samples(1)]).repeat(2, 1, 1, 1)
    loss = neutral_error(model, adapter_on(model.module), x, torch.full((4,), 0.5), [None] * 4, (2.0, 2.0, -2.0, -2.0))
    assert loss.shape == (2,)
    assert (loss > 0.01).all() if even else (loss < 1e-10).all()


def test_a_batch_runs_both_signs_in_one_forward(linear_backend, make_samples) -> None:
    model, calls = linear_backend(), []
    model.module.register_forward_hook(lambda _module, args, _output: calls.append(len(args[0])))
    batch: Batch = next_batch(make_samples(PAIRS), PAIRED, 0)
    step_loss(model, adapter_on(model.module), batch, PAIRED)
    assert calls == [BATCH]
