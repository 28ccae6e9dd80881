"""Training through every architecture: exact gradients, checkpointing that changes nothing, strengths that keep to their sample.

Each tiny model is ComfyUI's own class in float64 where it can be; the oracle is the finite difference of the loss.
"""

from itertools import product

import pytest
import torch
from products import FULL, in_turn
from zoo.animals import LAST_OF_FAMILY, ONE_PER_BEHAVIOUR, ONE_PER_FAMILY, TINY, tiny
from zoo.measure import measure_gradients, strengths_deviate
from zoo.model import Tiny

EXACT, EXACT_WIDE = 1e-3, 1e-6  # relative; the second where the model computes in float64 throughout
CHECKPOINTED = 1e-6
STRENGTHS = 1e-5
DIRECTIONS = 3 if FULL else 1  # of the finite differences
OTHER_ALGORITHMS = ("SD15", "Flux", "WAN21_T2V", "CosmosT2V")
# each class is trained on here, or sampled on here or in test_sweeping.py
TRAINED = TINY if FULL else ONE_PER_BEHAVIOUR
TRIED = (*ONE_PER_BEHAVIOUR, *LAST_OF_FAMILY)
SAMPLED = TINY if FULL else [entry for entry in TINY if entry not in TRIED or not entry.batched]
# `all` has the layers of `auto` among its own
PRESETS = product(TINY, ("auto", "all")) if FULL else [(e, "all" if e in ONE_PER_FAMILY else "auto") for e in TRAINED]


@pytest.mark.parametrize(
    ("entry", "preset"), PRESETS, ids=lambda value: value if isinstance(value, str) else getattr(value, "title", None)
)
def test_gradients_are_exact(entry: Tiny, preset: str, pack) -> None:
    found = measure_gradients(pack.core, entry, preset, enough=EXACT_WIDE if entry.wide else EXACT, directions=DIRECTIONS)
    assert found.exact < (EXACT_WIDE if entry.wide and not entry.kinked else EXACT)
    assert found.checkpointed < CHECKPOINTED
    assert found.only_lent, "no weight is copied, and the very objects are back"
    assert (found.once, found.idle) == (entry.once, entry.idle), "checkpointing takes every block that it can"
    if preset == "auto":
        assert found.apart is entry.batched, "mixing of samples is found out"


@pytest.mark.parametrize(
    ("entry", "cfg"),
    in_turn(SAMPLED, (3.0, 1.0)),
    ids=lambda value: value if isinstance(value, str) else getattr(value, "title", None),
)
def test_strengths_in_one_batch_equal_separate_runs(entry: Tiny, cfg: float, pack) -> None:
    assert strengths_deviate(pack.core, entry, cfg) < STRENGTHS


@pytest.mark.parametrize(
    ("algorithm", "title"), in_turn(("rslora", "locon", "loha", "lokr", "full", "glora"), OTHER_ALGORITHMS, each=2)
)
def test_every_algorithm_has_exact_gradients(title: str, algorithm: str, pack) -> None:
    """On models with convolutions, fused rows, in-place residuals and a batch that must run one by one."""
    enough = EXACT_WIDE if tiny(title).wide else EXACT
    found = measure_gradients(pack.core, tiny(title), "auto", algorithm, enough, DIRECTIONS)
    assert found.exact < enough
    assert found.checkpointed < CHECKPOINTED


@pytest.mark.parametrize("title", OTHER_ALGORITHMS if FULL else OTHER_ALGORITHMS[::2])
def test_a_doras_gradients_are_the_same_computed_twice(title: str, pack) -> None:
    """PEFT takes the norm of the changed weight for a constant (the DoRA paper, 4.3), so finite differences are no oracle."""
    assert measure_gradients(pack.core, tiny(title), "auto", "dora", directions=0).checkpointed < CHECKPOINTED


@pytest.mark.parametrize(("algorithm", "title"), in_turn(("dora", "loha", "lokr", "full", "glora"), OTHER_ALGORITHMS, each=2))
def test_every_algorithm_has_a_strength_per_sample(title: str, algorithm: str, pack) -> None:
    assert strengths_deviate(pack.core, tiny(title), 3.0, algorithm=algorithm) < STRENGTHS


@pytest.mark.parametrize("name", ["SD15", "ZImage", "Flux"])
def test_the_rule_holds_when_prompts_differ_in_length(name: str, pack) -> None:
    """Conditional and unconditional then come in separate calls."""
    entry = tiny(name)
    assert strengths_deviate(pack.core, entry, 3.0, tokens=entry.text[0] * 2) < STRENGTHS


@pytest.mark.parametrize("name", ["HiDream", "PixArtSigma"])
def test_layers_that_mix_samples_fall_back_by_themselves(name: str, pack) -> None:
    """Experts, and prompts packed into one sequence: reached by the preset `all` only."""
    entry = tiny(name)
    assert not measure_gradients(pack.core, entry, "all", directions=0).apart
    assert strengths_deviate(pack.core, entry, 3.0, "all") < STRENGTHS


def test_hidream_o1_forgets_the_prompt_between_strengths(pack) -> None:
    """It keeps the prompt's keys and values between calls: at another strength they would be another slider's."""
    from zoo.measure import shaken
    from zoo.model import build_tiny, conditioning

    entry = tiny("HiDreamO1")
    patcher = build_tiny(entry)
    host, module = pack.core("with_comfy.sampling"), patcher.model.diffusion_model
    adapter = shaken(pack.core, module, pack.core("layers.select").select(module), torch.float32)
    latent = {"samples": torch.zeros(1, *entry.latent)}
    backend = pack.core("with_comfy.model_backend").ComfyBackend(patcher)

    @torch.inference_mode()
    def at(strength: float) -> torch.Tensor:
        prompts = conditioning(entry, 0), conditioning(entry, 1)
        sampling = pack.core("use.sampling").Sampling(*prompts, latent, seed=7, steps=2)
        return host.sample_latents(backend, adapter, sampling, [strength]).latents

    cold = at(1.0)
    at(-1.0)
    assert torch.equal(at(1.0), cold)
    assert not torch.allclose(at(-1.0), cold)

    import comfy.sample

    slider = pack.core("lora.slider_file").Slider(adapter.weights())

    @torch.inference_mode()
    def applied(strength: float) -> torch.Tensor:
        model = pack.core("with_comfy.slider_apply").apply(slider, strength, patcher)[0]
        noise = comfy.sample.prepare_noise(latent["samples"], 7)
        prompts = conditioning(entry, 0), conditioning(entry, 1)
        return comfy.sample.sample(
            model, noise, 2, 1.0, "euler", "simple", *prompts, latent["samples"], seed=7, disable_pbar=True
        )

    base = applied(0.0)
    assert torch.allclose(applied(1.0), cold, atol=1e-4)
    assert torch.equal(applied(0.0), base), "the base model after a slider is the base model"
