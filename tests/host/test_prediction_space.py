"""The loss is taken in the model's own prediction space: for each of ComfyUI's samplings, the textbook target.

Oracles: the definitions of eps, v and flow prediction, written out here; and ComfyUI's own tiny UNet, trained through.
"""

import pytest
import torch
from zoo.animals import tiny
from zoo.model import build_tiny, model_config

SHAPE, B = (3, 4, 8, 8), 3
SD15 = tiny("SD15")


class OnlySampling:
    """As much of a ModelPatcher as the mathematics needs."""

    def __init__(self, sampling: torch.nn.Module) -> None:
        self.sampling = sampling

    def get_model_object(self, name: str) -> torch.nn.Module:
        assert name == "model_sampling"
        return self.sampling


def sampling(kind: str) -> torch.nn.Module:
    import comfy.model_base

    return comfy.model_base.model_sampling(model_config(SD15.name, SD15.config), comfy.model_base.ModelType[kind])


def eps_target(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return noise


def v_target(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """v = alpha eps - sigma_vp x0 with alpha^2 + sigma_vp^2 = 1 and sigma = sigma_vp / alpha (Salimans and Ho 2022)."""
    alpha = 1 / (1 + sigma**2).sqrt()
    return alpha * noise - sigma * alpha * x0


def flow_target(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return noise - x0


@pytest.mark.parametrize(
    ("kind", "textbook"), [("EPS", eps_target), ("V_PREDICTION", v_target), ("FLOW", flow_target), ("FLUX", flow_target)]
)
def test_the_target_is_the_textbooks(kind: str, textbook, pack) -> None:
    backend = pack.core("with_comfy.model_backend").ComfyBackend.__new__(pack.core("with_comfy.model_backend").ComfyBackend)
    backend.patcher, backend.device = OnlySampling(sampling(kind)), torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    sigma = backend.sigmas(torch.tensor([0.2, 0.5, 0.9]))
    assert bool((sigma.diff() > 0).all()), "u runs from the cleanest to pure noise"
    expected = textbook(x0, noise, sigma.reshape(B, 1, 1, 1))
    assert torch.allclose(backend.target(x0, noise, sigma), expected, atol=2e-3)


@pytest.fixture
def unet(pack):
    """ComfyUI's own SD 1.x UNet, a thousandth of its size, in a ModelPatcher."""
    return build_tiny(SD15)


def a_step(pack, patcher, lengths: tuple[int, int]) -> tuple:
    """(loss per sample, gradients of the first factors) of one paired step with prompts of the given token counts."""
    core = pack.core
    backend = core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    spec = core("config.lora").AdapterSpec()
    chosen = core("layers.select").survey(backend.module)
    adapter = core("lora.slider_adapter").Adapter.create(backend.module, chosen.targets, spec)
    generator = torch.Generator().manual_seed(1)
    samples = []
    for pair, (strength, length) in enumerate(zip((1.0, -1.0), lengths, strict=True)):
        text = torch.randn(1, 5, 16, generator=generator).repeat(1, 1 + length // 5, 1)[:, :length]
        cond = core("backend").Conditioning(f"{pair}", [[text, {}]])
        samples.append(core("encode.encoder").Sample(torch.randn(4, 8, 8, generator=generator), cond, strength, 0))
    train = core("config.training").TrainSpec(batch=2)
    with backend.borrowed(), torch.enable_grad():
        with torch.no_grad():
            for p in adapter.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
        batch = core("objective.batch_plan").plan(samples, train).batch(0)
        loss = core("objective.step_loss").step_target(backend, batch, train).loss(backend, adapter)
        loss.sum().backward()
    return loss.detach(), [p.grad for p in adapter.parameters()], chosen


def test_a_unet_of_comfyui_is_trained_through_and_left_as_it_was(unet, pack) -> None:
    before = {k: (v.clone(), v.data_ptr(), v.is_inference()) for k, v in unet.model.diffusion_model.state_dict().items()}
    loss, grads, chosen = a_step(pack, unet, (5, 5))
    assert chosen.architecture == "unet"
    assert loss.shape == (2,)
    assert all(bool(g.isfinite().all()) and float(g.abs().max()) > 0 for g in grads), "every layer learns"
    for key, value in unet.model.diffusion_model.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert (value.data_ptr(), value.is_inference()) == before[key][1:]


def test_prompts_of_different_length_train_like_prompts_of_one(unet, pack) -> None:
    """A repeated token sequence means the same to cross-attention, so 5 and 35 tokens (one by one) must equal 5 and 5."""
    one, grads_one, _ = a_step(pack, unet, (5, 5))
    apart, grads_apart, _ = a_step(pack, unet, (5, 35))
    assert torch.allclose(one, apart, rtol=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-5) for a, b in zip(grads_one, grads_apart, strict=True))
