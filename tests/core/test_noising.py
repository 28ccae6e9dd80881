"""Noise levels, moved images, and the scales that let an objective speak of clean latents in any prediction space."""

from dataclasses import replace

import pytest
import torch
from core.faults import refused

from slider_core.config.training import Objective, Timesteps, TrainSpec, Weighting
from slider_core.encode.noised import at_levels
from slider_core.objective.batch_plan import plan
from slider_core.objective.noising import draw_noise, draw_shifts, draw_u, loss_weight, noised, shifted

PAIRS, NEUTRAL, MANY = 3, 2, 4000
SIGMA = torch.tensor([0.2, 0.5, 0.9])


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", [k for k in Timesteps if k is not Timesteps.FEW_STEP])
def test_timesteps_stay_inside_the_schedule_and_the_window(kind: Timesteps) -> None:
    u = draw_u(MANY, TrainSpec(timesteps=kind), gen())
    assert 0 < u.min() < 0.1
    assert 0.9 < u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.03)
    u = draw_u(MANY, TrainSpec(timesteps=kind, window=(0.4, 0.6)), gen())
    assert 0.4 <= u.min() < u.max() <= 0.6


def test_uniform_timesteps_fall_one_into_each_part() -> None:
    u = draw_u(8, TrainSpec(timesteps=Timesteps.UNIFORM), gen())
    assert sorted((u * 8).int().tolist()) == list(range(8))
    assert (u * 8).int().tolist() != list(range(8))  # in random order


def test_a_few_step_model_is_asked_only_where_its_sampler_asks() -> None:
    u = draw_u(MANY, TrainSpec(timesteps=Timesteps.FEW_STEP, few_steps=4), gen())
    assert sorted({round(v, 3) for v in u.tolist()}) == [0.25, 0.5, 0.75, 0.999]
    shares = torch.stack([(u - level).abs() < 0.01 for level in (0.25, 0.5, 0.75, 1.0)]).float().mean(dim=1)
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.03)
    inside = draw_u(MANY, TrainSpec(timesteps=Timesteps.FEW_STEP, few_steps=4, window=(0.4, 0.8)), gen())
    assert sorted({round(v, 3) for v in inside.tolist()}) == [0.5, 0.75]
    with refused("training.empty_window", (0.55, 0.6), 4):
        draw_u(1, TrainSpec(timesteps=Timesteps.FEW_STEP, few_steps=4, window=(0.55, 0.6)), gen())


def test_uniform_levels_leave_out_the_models_own_shift(linear_backend, make_samples) -> None:
    model = linear_backend()
    model.sigmas = lambda u: 3 * u / (1 + 2 * u)  # a flow model with shift 3
    batch = plan(make_samples(PAIRS), TrainSpec()).batch(0)
    own, symmetric = (noised(model, batch, TrainSpec(timesteps=kind)).sigma_B for kind in (Timesteps.MODEL, Timesteps.UNIFORM))
    assert torch.allclose(own, 3 * symmetric / (1 + 2 * symmetric))
    assert (own > symmetric).all()


@pytest.mark.parametrize("by", [(0, 0), (2, -1), (-3, 3)])
def test_an_image_moves_and_its_edge_is_repeated(by: tuple[int, int]) -> None:
    picture = torch.arange(2 * 4 * 5.0).reshape(2, 4, 5)
    rows = (torch.arange(4) - by[0]).clamp(0, 3)
    columns = (torch.arange(5) - by[1]).clamp(0, 4)
    assert torch.equal(shifted(picture, by), picture[:, rows][:, :, columns])
    clip = picture.reshape(1, 2, 4, 5)
    assert torch.equal(shifted(clip, by)[0], shifted(picture, by))


def test_a_pair_moves_together_and_pairs_move_on_their_own(make_samples) -> None:
    spec = TrainSpec(jitter=0.5)
    moves = [draw_shifts(plan(make_samples(PAIRS), spec).batch(step), spec) for step in range(50)]
    assert all(m[:2] == m[2:] for m in moves)
    assert {v for m in moves for way in m for v in way} == {-2, -1, 0, 1, 2}  # half of a side of 4
    assert any(m[0] != m[1] for m in moves)


def test_only_displacement_moves_images_by_itself(make_samples) -> None:
    for objective in Objective:
        spec, samples = TrainSpec(objective=objective), [replace(s, latent=s.latent.repeat(1, 8, 8)) for s in make_samples(PAIRS)]
        still = all(set(draw_shifts(plan(samples, spec).batch(step), spec)) == {(0, 0)} for step in range(4))
        assert still is (objective is not Objective.DISPLACEMENT)


def test_the_mask_moves_with_its_image(linear_backend, make_samples) -> None:
    spec = TrainSpec(jitter=0.5)
    samples = [replace(s, mask=s.latent[:1]) for s in make_samples(PAIRS)]
    batch = noised(linear_backend(), plan(samples, spec).batch(1), spec)
    assert any(not torch.equal(m, s.mask) for m, s in zip(batch.masks, plan(samples, spec).batch(1).samples, strict=True))
    assert all(torch.equal(mask, latent[:1]) for mask, latent in zip(batch.masks, batch.latent, strict=True))


@pytest.mark.parametrize("space", ["flow", "eps", "v"])
def test_another_clean_image_changes_the_right_answer_by_its_scale(linear_backend, space: str) -> None:
    """With the noised latent held fixed: the noise that leads from the other clean image to the same x, asked of the backend."""
    model = linear_backend()
    wide = SIGMA.reshape(-1, 1, 1, 1)
    if space == "eps":
        model.add_noise = lambda latent, noise, sigma: latent + sigma.reshape(-1, 1, 1, 1) * noise
        model.target = lambda _latent, noise, _sigma: noise
    if space == "v":  # angles: x = cos t x0 + sin t noise, v = cos t noise - sin t x0
        model.add_noise = lambda x, n, s: s.cos().reshape(-1, 1, 1, 1) * x + s.sin().reshape(-1, 1, 1, 1) * n
        model.target = lambda x, n, s: s.cos().reshape(-1, 1, 1, 1) * n - s.sin().reshape(-1, 1, 1, 1) * x
    latent, noise, other = torch.randn(3, 3, 3, 4, 4, generator=gen())
    batch = at_levels(model, latent, noise, SIGMA, [None] * 3)
    same_x = noise + batch.ratio * (latent - other)
    assert torch.allclose(model.add_noise(other, same_x, SIGMA), batch.x, atol=1e-5)
    assert torch.allclose(model.target(other, same_x, SIGMA), batch.right + batch.scale * (other - latent), atol=1e-4)
    snr = batch.ratio.square()
    drawn = None  # only a weighting of `auto` asks for it
    for kind, clean in ((Weighting.CLEAN, 1.0), (Weighting.MIN_SNR, snr.clamp_max(5.0)), (Weighting.NONE, batch.scale.square())):
        weight = loss_weight(batch, drawn, TrainSpec(weighting=kind))
        assert torch.allclose(weight * batch.scale.square(), clean * torch.ones_like(wide), rtol=1e-5)
    if space == "eps":  # Hang et al.: min(SNR, gamma) / SNR on the error of the noise
        assert torch.allclose(loss_weight(batch, drawn, TrainSpec(weighting=Weighting.MIN_SNR)), snr.clamp_max(5.0) / snr)
    if space == "v":  # ... and / (SNR + 1) on that of v
        expected = snr.clamp_max(5.0) / (snr + 1)
        assert torch.allclose(loss_weight(batch, drawn, TrainSpec(weighting=Weighting.MIN_SNR)), expected, rtol=1e-5)


def test_an_objective_brings_its_own_weighting(linear_backend, make_samples) -> None:
    for objective in Objective:
        spec = TrainSpec(objective=objective)
        drawn = plan(make_samples(PAIRS, NEUTRAL), spec).batch(0)
        batch = noised(linear_backend(), drawn, spec)
        from_base = objective in (Objective.DISPLACEMENT, Objective.TEACHER_DIFFERENCE)
        kind = Weighting.CLEAN if from_base else Weighting.NONE
        assert torch.equal(loss_weight(batch, drawn, spec), loss_weight(batch, drawn, TrainSpec(weighting=kind)))


def test_what_does_not_line_up_is_denoised_without_being_moved(linear_backend, make_samples) -> None:
    samples = [replace(s, aligned=False) for s in make_samples(PAIRS)]
    spec = TrainSpec()
    drawn = plan(samples, spec).batch(0)
    batch = noised(linear_backend(), drawn, spec)
    assert torch.equal(batch.latent, torch.stack([s.latent for s in drawn.samples]))
    assert (loss_weight(batch, drawn, spec) == 1).all()


def test_swapped_puts_each_partner_in_the_others_place(linear_backend, make_samples) -> None:
    drawn = plan(make_samples(PAIRS), TrainSpec()).batch(0)
    batch = noised(linear_backend(), drawn, TrainSpec())
    assert torch.equal(batch.swapped().x, batch.x.roll(2, dims=0))
    assert batch.swapped().swapped().latent.tolist() == batch.latent.tolist()
    assert torch.equal(draw_noise(drawn, TrainSpec())[1][:2], batch.swapped().noise[2:])


@pytest.mark.parametrize(
    ("objective", "aligned", "kind", "wanted"),
    [
        (Objective.DISPLACEMENT, False, Timesteps.MODEL, Timesteps.LOGIT_NORMAL),
        (Objective.DISPLACEMENT, False, Timesteps.UNIFORM, Timesteps.UNIFORM),
        (Objective.DISPLACEMENT, True, Timesteps.MODEL, Timesteps.MODEL),
        (Objective.DENOISE_PAIRED, False, Timesteps.MODEL, Timesteps.MODEL),
    ],
)
def test_unaligned_pairs_of_the_default_objective_are_denoised_in_the_middle(
    make_samples, objective: Objective, aligned: bool, kind: Timesteps, wanted: Timesteps
) -> None:
    spec = TrainSpec(objective=objective, timesteps=kind)
    drawn = plan([replace(s, aligned=aligned) for s in make_samples(2)], spec).batch(0)
    u = draw_noise(drawn, spec)[0]
    assert torch.equal(u, draw_noise(drawn, replace(spec, timesteps=wanted))[0])
    other = Timesteps.LOGIT_NORMAL if wanted is not Timesteps.LOGIT_NORMAL else Timesteps.UNIFORM
    assert not torch.equal(u, draw_noise(drawn, replace(spec, timesteps=other))[0])
