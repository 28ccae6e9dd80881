"""A strength per sample, by hooks: the model is left as it was, bit for bit; dropout is a function of seed and step."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from core.faults import refused
from core.nets import VARIANTS, images, randn, slider_on
from core.nets import make_net as every_layer
from core.nets import trained as shaken
from torch import nn

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.layers.checkpointing import checkpointed
from slider_core.layers.layer import Target
from slider_core.layers.sample_rows import SAMPLES
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength, attached, attachments, part_of_batch, remember
from slider_core.train.trainer import Trainer
from slider_core.with_tiny.model import TinyBackend

WIDTH, HEIGHT = 8, 12
STRENGTHS = (-2.0, 0.0, 0.5)
EXACT = {"rtol": 1e-4, "atol": 1e-5}  # the same formula, summed in another order
SPEC = AdapterSpec(rank=3, alpha=6.0)
TARGETS = (Target("first"), Target("last"))
SHARE, WIDE, DRAWS, STEPS = 0.4, 64, 400, 3
HERE, ELSEWHERE = (7, "dropout 3"), (7, "dropout 4")


class Net(nn.Module):
    """Two layers and a nonlinearity; `frames` > 1 folds that many frames of a sample into the rows, as video models do."""

    def __init__(self, frames: int = 1) -> None:
        super().__init__()
        self.first, self.last, self.norm, self.frames = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 12), nn.LayerNorm(WIDTH), frames

    def forward(self, x: torch.Tensor, **_options: dict) -> torch.Tensor:
        folded = x.reshape(len(x) * self.frames, -1, WIDTH)
        return self.last(torch.tanh(self.first(folded))).reshape(len(x), -1, HEIGHT)


def trained(adapter: Adapter, seed: int = 0) -> Adapter:
    """Random factors in place of a training."""
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(randn(*part.shape, seed=seed + number))
    return adapter


def run(
    net: nn.Module, adapter: Adapter, x: torch.Tensor, strengths: object, draw: tuple[int, str] | None = None
) -> torch.Tensor:
    with at_strength(adapter, net, strengths, draw):
        return net(x)


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.fixture
def net() -> Net:
    return Net().requires_grad_(False)


@pytest.fixture
def slider(net: Net) -> Adapter:
    return trained(Adapter.create(net, TARGETS, SPEC))


# --- strengths


@pytest.mark.parametrize(("copies", "frames"), [(1, 1), (2, 1), (2, 4)])
def test_each_row_gets_the_strength_of_its_sample(copies: int, frames: int) -> None:
    net = Net(frames).requires_grad_(False)
    slider = trained(Adapter.create(net, TARGETS, SPEC))
    x = randn(copies * len(STRENGTHS), 2 * frames, WIDTH)
    together = run(net, slider, x, STRENGTHS)
    for row, image in enumerate(x):
        alone = run(net, slider, image[None], [STRENGTHS[row % len(STRENGTHS)]])
        torch.testing.assert_close(together[row], alone[0], **EXACT)
    assert not torch.allclose(together[0], run(net, slider, x[:1], STRENGTHS[2:])[0], **EXACT)
    same = [torch.equal(a, b) for a, b in zip(net(x), together, strict=True)]
    assert same == [False, True, False] * copies, "at strength 0 a row is the model's own"


def test_a_call_with_a_part_of_the_samples_says_which(net: Net, slider: Adapter) -> None:
    x = randn(3, 5, WIDTH)
    with at_strength(slider, net, STRENGTHS):
        part = net(x[:1], transformer_options={SAMPLES: [2]})
    torch.testing.assert_close(part, run(net, slider, x[:1], [STRENGTHS[2]]), **EXACT)
    with at_strength(slider, net, STRENGTHS, by_row=True):
        torch.testing.assert_close(net(x, transformer_options={SAMPLES: [2]}), run(net, slider, x, STRENGTHS), **EXACT)


def test_rows_that_fit_no_sample_are_refused(net: Net, slider: Adapter) -> None:
    with refused("rows.model", 4, 3):
        run(net, slider, randn(4, 5, WIDTH), STRENGTHS)
    mixing = nn.Sequential(OrderedDict(flat=nn.Flatten(0, 1), pool=nn.Unflatten(0, (2, 6)), first=nn.Linear(WIDTH, WIDTH)))
    adapter = trained(Adapter.create(mixing, [Target("first")], SPEC))
    with refused("rows.layer", "first", 2, 3):
        run(mixing, adapter, randn(3, 4, WIDTH), STRENGTHS)
    run(mixing, adapter, randn(3, 4, WIDTH), [1.0] * 3)  # one strength for all needs no rows


# --- what is attached


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt])
def test_no_hook_stays(net: Net, slider: Adapter, fault: type[BaseException] | None) -> None:
    x = randn(3, 5, WIDTH)
    base = net(x)
    with pytest.raises(fault) if fault else nullcontext(), attached(slider, net), at_strength(slider, net, STRENGTHS):
        assert hooks(net) == 4 + 2 * len(
            TARGETS
        )  # entry and exit of the model, for the strengths and for the count, and of each layer
        assert [a.adapter for a in attachments(net)] == [slider]
        net(x)
        if fault:
            raise fault
    assert (hooks(net), attachments(net)) == (0, [])
    assert torch.equal(net(x), base)


def test_no_hook_stays_when_a_later_layer_is_missing(net: Net, slider: Adapter) -> None:
    del net.last
    with refused("slider.layer_missing", "last"), at_strength(slider, net, STRENGTHS):
        pass
    assert hooks(net) == 0


def test_the_base_model_keeps_its_bits_flags_and_memory(net: Net, slider: Adapter) -> None:
    net.norm.requires_grad_(True)  # flags of every kind

    def look() -> dict[str, tuple]:
        return {n: (p.data_ptr(), p.requires_grad, p._version, p.grad, p.tolist()) for n, p in net.named_parameters()}

    before = look()
    run(net, slider, randn(3, 5, WIDTH), STRENGTHS).square().sum().backward()
    assert all(p.grad is not None for p in slider.parameters())
    assert look() == before
    assert {type(m) for m in net.modules()} == {Net, nn.Linear, nn.LayerNorm}


def test_sliders_on_one_model_add_up_and_inner_strengths_give_way_to_outer_ones(net: Net, slider: Adapter) -> None:
    x, other = randn(3, 5, WIDTH), trained(Adapter.create(net, TARGETS, SPEC), seed=20)
    delta = {t: slider.weights()[t].delta() + 0.5 * other.weights()[t].delta() for t in TARGETS}
    hand = copy.deepcopy(net)
    for target in TARGETS:
        hand.get_submodule(target.path).weight += delta[target]
    with at_strength(slider, net, [1.0]), at_strength(other, net, [0.5]):
        assert [a.adapter for a in attachments(net)] == [slider, other]
        torch.testing.assert_close(net(x), hand(x), **EXACT)
        with at_strength(slider, net, [-3.0]):
            assert not torch.allclose(net(x), hand(x), **EXACT)
        torch.testing.assert_close(net(x), hand(x), **EXACT)
    base = net(x)
    with at_strength(slider, net, [1.0]), at_strength(slider.twin(), net, [-1.0]):
        torch.testing.assert_close(net(x), base, **EXACT)


@torch.no_grad()
def test_a_dora_scales_the_models_own_output_and_not_another_sliders() -> None:
    single, x = nn.Sequential(OrderedDict(layer=nn.Linear(WIDE, 8))), randn(2, WIDE)
    lora, dora = (shaken(Adapter.create(single, [Target("layer")], AdapterSpec(algorithm=a)), single) for a in ("lora", "dora"))
    with at_strength(lora, single, [1.0]), at_strength(dora, single, [0.5]):
        both = single(x)
    torch.testing.assert_close(both - run(single, lora, x, [1.0]), run(single, dora, x, [0.5]) - single(x), **EXACT)


def test_what_is_in_force_can_be_brought_back_and_given_to_a_part_of_the_batch(net: Net, slider: Adapter) -> None:
    x, other = randn(3, 5, WIDTH), trained(Adapter.create(net, TARGETS, SPEC), seed=20)
    slider.dropout = SHARE
    with at_strength(slider, net, STRENGTHS, HERE), at_strength(other, net, [0.5]):
        wanted, again = net(x), remember(net)
        part = part_of_batch(slider, net, slice(1, 3), 3)
        with part():
            torch.testing.assert_close(net(x[1:]), wanted[1:], **EXACT)
        with pytest.raises(ValueError, match="3 strengths are in force for a batch of 4"):
            part_of_batch(slider, net, slice(1, 3), 4)
    with again():
        assert [a.adapter for a in attachments(net)] == [slider, other]
    with attached(slider, net), part_of_batch(slider, net, slice(0, 1), 4)(), remember(net)():
        assert torch.equal(net(x), net(x)), "nothing is in force"
    assert attachments(net) == []


# --- dropout


def dropping(name: str) -> tuple[nn.Module, Adapter]:
    net = every_layer()
    adapter = slider_on(net, VARIANTS[name], "one slice")
    adapter.dropout = SHARE
    return net, adapter


@pytest.mark.parametrize("name", ["lora", "dora", "loha", "glora"])
@torch.no_grad()
def test_a_step_drops_the_same_whenever_it_is_computed_for_all_samples_alike(name: str) -> None:
    (net, adapter), x, ones = dropping(name), images(), [1.0] * 3
    state = torch.get_rng_state()
    one, same, other, seed = (run(net, adapter, x, ones, draw) for draw in (HERE, HERE, ELSEWHERE, (8, HERE[1])))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, seed)
    plain = slider_on(net, VARIANTS[name], "one slice")
    assert torch.equal(run(net, adapter, x, ones), run(net, plain, x, ones)), "without a step nothing is dropped"
    twice = run(net, adapter, x[:1].repeat(2, 1, 1, 1), [1.0, 1.0], HERE)
    torch.testing.assert_close(twice[0], twice[1])
    torch.testing.assert_close(run(net, adapter, x[:1], [1.0], HERE)[0], twice[0])


def identities(count: int, share: float) -> tuple[nn.Module, Adapter]:
    """Layers of zeros whose change is what the adapter sees of their input."""
    net = nn.Sequential(*(nn.Linear(WIDE, WIDE, bias=False).requires_grad_(False) for _ in range(count)))
    for layer in net:
        layer.weight.zero_()
    targets = [Target(str(number)) for number in range(count)]
    adapter = Adapter.create(net, targets, AdapterSpec(algorithm="full", dropout=share))
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(torch.eye(WIDE))
    return net, adapter


@pytest.mark.parametrize("share", [0.1, 0.9])
@torch.no_grad()
def test_a_share_of_the_input_is_silent_and_the_mean_stays(share: float) -> None:
    net, adapter = identities(1, share)
    seen = torch.stack([run(net, adapter, torch.ones(1, 3, WIDE), [1.0], (0, f"dropout {n}")) for n in range(DRAWS)])
    silent = seen.abs() < 1e-5
    assert float(silent.float().mean()) == pytest.approx(share, abs=0.02)
    rest = seen[~silent]
    torch.testing.assert_close(rest, torch.full_like(rest, 1 / (1 - share)), rtol=1e-4, atol=1e-4)
    spread = (share / (1 - share) / DRAWS) ** 0.5  # of the mean of DRAWS draws
    assert (seen.mean(dim=0) - 1).abs().max() < 5 * spread, "each number is silent about as often"


@torch.no_grad()
def test_layers_lose_different_numbers() -> None:
    net, adapter = identities(2, SHARE)
    both = float((run(net, adapter, torch.ones(1, WIDE), [1.0], HERE) == 0).float().mean())
    assert both == pytest.approx(1 - (1 - SHARE) ** 2, abs=0.2)
    assert both > SHARE


@pytest.mark.parametrize("name", ["lora", "dora", "glora"])
def test_a_block_computed_twice_loses_the_same_and_has_the_same_gradient(backend: TinyBackend, name: str) -> None:
    """With a second slider in force, which is not trained."""
    module, spec = backend.module, AdapterSpec(algorithm=name, dropout=SHARE)
    adapter = shaken(Adapter.create(module, select(module), spec), module)
    other = shaken(Adapter.create(module, select(module)[::2], SPEC), module)
    x, sigma = randn(2, 3, 64, 64), torch.full((2,), 500.0)
    context = backend.encode_prompt("a face").value.repeat(2, 1, 1)

    def gradient(twice: bool) -> list[torch.Tensor]:
        with checkpointed(module, adapter.factors, remember) if twice else nullcontext():
            with at_strength(other, module, [0.5]), at_strength(adapter, module, [1.0, -1.0], HERE):
                out = module(x, sigma, context)
            return list(torch.autograd.grad(out.square().mean(), adapter.parameters()))

    for once, again in zip(gradient(False), gradient(True), strict=True):
        torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-7)


def test_dropout_acts_in_training_and_its_progress_is_read_without(linear_backend: Callable, make_samples: Callable) -> None:
    def trainer_with(share: float) -> Trainer:
        trainer = Trainer(
            Adapter.create(model.module, [Target("mix")], AdapterSpec(dropout=share)), make_samples(2), TrainSpec(seed=2)
        )
        trainer.run(model, STEPS)
        return trainer

    def predict(*args: object) -> torch.Tensor:
        draws.update(attachment.dropout_draw for attachment in attachments(model.module) if attachment.rows is not None)
        return model.module(args[0])

    model, draws = linear_backend(), set()
    model.predict = predict
    dropped, whole = trainer_with(SHARE), trainer_with(0.0)
    assert draws == {None, *((2, f"dropout {step}") for step in range(STEPS))}, "each step has its own"
    assert dropped.losses[0] == whole.losses[0], "silent at first"
    assert dropped.losses[1:] != whole.losses[1:]
    whole.adapter.load_state(dropped.adapter.state())
    assert dropped.probe.read(model, dropped.adapter) == whole.probe.read(model, whole.adapter)


def test_an_adapter_that_found_no_room_on_the_device_is_brought_back(monkeypatch) -> None:
    net = Net()
    adapter = Adapter.create(net, TARGETS, SPEC)
    moves: list[torch.device] = []

    def move(device: torch.device) -> None:
        moves.append(device)
        if len(moves) == 1:
            raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(adapter, "to", move)
    with pytest.raises(torch.OutOfMemoryError):
        run(net, adapter, randn(1, 4, WIDTH), [1.0])
    assert moves == [torch.device("cpu")] * 2
