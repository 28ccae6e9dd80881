"""Which row is whose, and models that mix samples found out by trying."""

import pytest
import torch
from core.faults import refused
from torch import nn

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.layers.sample_rows import Rows, samples_apart
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength

WIDE = 4


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDE, WIDE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x))


class Packed(Plain):
    """All samples in one sequence, as packed attention has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(1, -1, WIDE)).reshape(x.shape)


class Sorted(Plain):
    """Rows in another order inside, as experts have them: divides, and is wrong all the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flip(0)).flip(0)


class Tokens(Plain):
    """Tokens folded into the rows, each sample's beside each other: right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(-1, WIDE)).reshape(x.shape)


class Normed(Packed):
    """Queries and keys are normed: a mere factor on them is nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y / y.norm(dim=-1, keepdim=True)


class Shared(Plain):
    """One number of the batch enters every sample, slider or not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x) + x.max())


class Idle(Plain):
    """The layer has no effect: the trial tells nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.layer(x)
        return x.clone()


class OneOnly(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            raise ValueError("supports batch size 1")
        return super().forward(x)


KEPT_APART = {Plain: True, Tokens: True, Packed: False, Sorted: False, Normed: False, Shared: False, Idle: False, OneOnly: False}


def test_mixing_is_found_by_trying() -> None:
    for kind in KEPT_APART:
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            module, x = kind().to(dtype), torch.randn(2, 3, WIDE).to(dtype)
            assert samples_apart(module, ["layer"], lambda samples: module(x[samples])) is KEPT_APART[kind]  # noqa: B023
            assert not module._forward_hooks
            assert not module.layer._forward_hooks


def test_other_faults_are_not_taken_for_mixing() -> None:
    module = Plain()

    def out_of_memory(_some: list[int]) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        samples_apart(module, ["layer"], out_of_memory)


def test_a_part_used_outside_a_model_call_is_left_alone() -> None:
    module = Plain().requires_grad_(False)
    adapter = Adapter.create(module, [Target("layer")], AdapterSpec())
    for p in adapter.parameters():
        nn.init.ones_(p.data)
    x = torch.randn(3, WIDE)
    with at_strength(adapter, module, [1.0, 2.0, -1.0]):
        before = module.layer(x[:1])
        shifted = module(x)
        after = module.layer(x[:1])
    assert torch.equal(before, module.layer(x[:1]))
    assert torch.equal(after, before)
    assert not torch.allclose(shifted, module(x))


def test_several_streams_in_a_list_count_the_first() -> None:
    rows = Rows([1.0, -1.0])
    rows.see(Plain(), ([torch.zeros(4, 2), torch.zeros(4, 7)],), {})
    assert rows.for_layer(4, "any").tolist() == [1.0, -1.0, 1.0, -1.0]


def test_frozen_rows_outlive_the_call() -> None:
    rows = Rows([1.0, -1.0])
    rows.see(Plain(), (torch.zeros(2, 2),), {})
    kept = rows.frozen()
    rows.row = None
    assert kept.for_layer(2, "any").tolist() == [1.0, -1.0]


def test_rows_that_no_sample_can_be_given_to_are_an_error() -> None:
    rows = Rows([1.0, -1.0])
    with refused("rows.model", 3, 2):
        rows.see(Plain(), (torch.zeros(3, 2),), {})
    rows.see(Plain(), (torch.zeros(2, 2),), {})
    assert rows.for_layer(4, "any").tolist() == [1.0, 1.0, -1.0, -1.0]
    with refused("rows.layer", "any", 5):
        rows.for_layer(5, "any")
