"""A slider goes through a file unchanged; a bad file is named; a file that is only applied is not taken apart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core.nets import CLOSE, VARIANTS, Net, live, make_net, slider_on
from core.nets import saved as saved_adapter
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from slider_core.config.checks import SliderError
from slider_core.config.lora import FileDtype, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.algorithms.lora import LoraWeight
from slider_core.lora.formats.native import Place, to_native
from slider_core.lora.info import SliderInfo
from slider_core.lora.keys import placed
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, load_slider, lost_to, save_slider

RANK, ALPHA, HEIGHT = 3, 6 + 2**-10, 12  # an alpha that only fp32 can hold
STEM = "diffusion_model.blocks.0.to_q"
TO_Q, CONV = Target("blocks.0.to_q"), Target("conv_in")
INFO = SliderInfo(name="smile", step=7)
ROUNDING = {FileDtype.FP32: 0.0, FileDtype.FP16: 2**-11, FileDtype.BF16: 2**-8}  # half a unit of the last place
COPIES = ("clone", "copy_", "_to_copy", "cat", "contiguous", "mul", "constant_pad_nd", "index_select", "stack")


def factors(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of a LoRA."""
    generator = torch.Generator().manual_seed(5)
    A = torch.randn(RANK, 8, generator=generator)
    return A, scale * torch.randn(HEIGHT, RANK, generator=generator)


def lora(A: torch.Tensor, B: torch.Tensor, alpha: float, base: tuple[int, ...]) -> LoraWeight:
    return LoraWeight({"lora_down.weight": A, "lora_up.weight": B}, alpha, base)


@pytest.fixture
def slider() -> Slider:
    generator = torch.Generator().manual_seed(6)
    conv = torch.randn(RANK, 4, 3, 3, generator=generator), torch.randn(6, RANK, 1, 1, generator=generator)
    return Slider({TO_Q: lora(*factors(), ALPHA, (HEIGHT, 8)), CONV: lora(*conv, 1.5, (6, 4, 3, 3))}, INFO)


def saved(tmp_path: Path, slider: Slider, dtype: FileDtype = FileDtype.FP32) -> Path:
    path = tmp_path / f"{dtype.value}.safetensors"
    save_slider(path, slider, dtype)
    return path


@pytest.mark.parametrize("dtype", FileDtype)
def test_a_number_format_costs_its_own_rounding_and_no_more(tmp_path: Path, slider: Slider, dtype: FileDtype) -> None:
    """In fp32 a slider comes back bit for bit; the rounding error is that of the file, multiplied out."""
    path = saved(tmp_path, slider, dtype)
    back = load_slider(path)
    assert (back.info.name, back.info.step) == (INFO.name, INFO.step)
    lost = total = 0.0
    for target, weight in back.cut().weights.items():
        before = slider.weights[target]
        assert (type(weight), weight.alpha) == (type(before), before.alpha)
        for name, tensor in weight.tensors.items():
            assert tensor.dtype == torch.float32
            assert back.weights[target].tensors[name].element_size() == (4 if dtype is FileDtype.FP32 else 2)
            torch.testing.assert_close(tensor, before.tensors[name], rtol=ROUNDING[dtype], atol=1e-7 if ROUNDING[dtype] else 0)
        lost += float((weight.delta() - before.delta()).square().sum())
        total += float(before.delta().square().sum())
    assert lost_to(slider, dtype) == pytest.approx((lost / total) ** 0.5, rel=1e-3, abs=1e-9)
    assert (lost_to(slider, dtype) > 0) == bool(ROUNDING[dtype])


def test_an_untrained_slider_has_nothing_to_lose() -> None:
    zero = lora(torch.ones(RANK, 8), torch.zeros(HEIGHT, RANK), 1.0, (HEIGHT, 8))
    assert lost_to(Slider({Target("a"): zero}), FileDtype.BF16) == 0


def test_a_missing_alpha_is_read_as_the_stock_loader_does(tmp_path: Path) -> None:
    A, B = factors()
    save_file({f"{STEM}.lora_down.weight": A, f"{STEM}.lora_up.weight": B}, tmp_path / "other.safetensors")
    torch.testing.assert_close(load_slider(tmp_path / "other.safetensors").weights[TO_Q].delta(), B @ A)


class Copies(TorchDispatchMode):
    """Counts the operations that make a new tensor of numbers out of another."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        name = func.overloadpacket.__name__
        if name in COPIES and any(isinstance(arg, torch.Tensor) and arg.numel() > 1 for arg in args):
            self.names.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(("name", "dtype"), [("lora", FileDtype.BF16), ("dora", FileDtype.FP32), ("lokr", FileDtype.FP16)])
def test_a_native_file_that_is_applied_is_not_copied(tmp_path: Path, name: str, dtype: FileDtype) -> None:
    """What patches a model are the file's own tensors, slices of a fused layer included; training and writing cut them."""
    net: Net = make_net()
    path = saved_adapter(tmp_path, slider_on(net, VARIANTS[name], "two slices"), FileFormat.NATIVE, dtype=dtype)
    slider = load_slider(path)
    with Copies() as copies:
        applied = to_native(placed(slider.weights, net))
    assert copies.names == []
    on_disk = load_file(path)
    assert applied.keys() == on_disk.keys()
    for key, tensor in on_disk.items():
        assert applied[key].dtype == tensor.dtype
        assert torch.equal(applied[key], tensor)
    with Copies() as copies:
        apart = to_native(placed(slider.cut().weights, net))
    assert copies.names
    for key, tensor in apart.items():
        assert torch.equal(tensor, applied[key].to(tensor.dtype)), "the same numbers as put together again"


def test_a_cut_slider_is_in_float32_and_cut_once(tmp_path: Path) -> None:
    net: Net = make_net()
    adapter = slider_on(net, VARIANTS["lora"], "two slices")
    slider = load_slider(saved_adapter(tmp_path, adapter, FileFormat.NATIVE)).cut()
    assert slider.cut().weights.keys() == slider.weights.keys() == set(adapter.targets)
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(live(net, Adapter.from_weights(net, slider.weights), x), live(net, adapter, x), **CLOSE)


@pytest.mark.parametrize("value", [float("nan"), 1e38])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, slider: Slider, value: float) -> None:
    slider.weights[CONV].tensors["lora_up.weight"][1, 2] = value
    with pytest.raises(SliderError, match=r"conv_in\.lora_B\.weight .* fp16") as fault:
        saved(tmp_path, slider, FileDtype.FP16)
    assert fault.value.code == "slider.not_finite"
    assert not list(tmp_path.iterdir())


def test_a_slider_for_a_controlnet_goes_into_a_native_file_alone(tmp_path: Path, slider: Slider) -> None:
    path = saved(tmp_path, replace(slider, info=SliderInfo(place=Place.CONTROLNET)))
    assert all(key.startswith("control_model.") for key in load_file(path))
    back = load_slider(path)
    assert back.info.in_controlnet
    assert set(back.weights) == {TO_Q, CONV}
    with pytest.raises(SliderError, match="kohya") as fault:
        save_slider(tmp_path / "no.safetensors", back, form=FileFormat.KOHYA)
    assert fault.value.code == "format.controlnet"


# --- bad files


def states() -> dict[str, dict[str, torch.Tensor]]:
    """Tensors that are no LoRA, by the code of the error."""
    A, B = factors()
    whole = {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B}
    loha = {f"{STEM}.hada_w{n}_{x}": torch.ones(3, 3) for n in (1, 2) for x in "ab"}
    w1 = {f"{STEM}.lokr_w1": torch.ones(3, 3)}
    w2_a = {f"{STEM}.lokr_w2_a": torch.ones(4, 2)}
    return {
        "lora.no_layer model.weight": {"model.weight": A},
        "lora.no_layer alpha": {f"{STEM}.alpha": torch.tensor(1.0)},
        "lora.lacks lora_up": {f"{STEM}.lora_A.weight": A},
        "lora.lacks lora_down": {f"{STEM}.lora_B.weight": B},
        "lora.alpha two": whole | {f"{STEM}.alpha": torch.ones(2)},
        "lora.alpha nan": whole | {f"{STEM}.alpha": torch.tensor(float("nan"))},
        "lora.factors no matrix": whole | {f"{STEM}.lora_A.weight": torch.tensor(1.0)},
        "lora.factors ranks": whole | {f"{STEM}.lora_B.weight": B[:, :1].contiguous()},
        "lora.factors rank 0": {f"{STEM}.lora_A.weight": A[:0], f"{STEM}.lora_B.weight": B[:, :0]},
        "lora.twice": whole | {f"{STEM}.lora_down.weight": A.clone()},
        "file.no_weight int32": {key: tensor.to(torch.int32) for key, tensor in whole.items()},
        "file.no_weight complex64": {key: tensor.to(torch.complex64) for key, tensor in whole.items()},
        "lora.unknown hada_w1_a": whole | {f"{STEM}.hada_w1_a": B.clone()},
        "lora.factors bias": whole | {f"{STEM}.diff_b": torch.ones(5)},
        "lora.twice bias": whole | {f"{STEM}.diff_b": torch.ones(12), f"{STEM}.lora_B.bias": torch.ones(12)},
        "lora.factors loha": loha | {f"{STEM}.hada_w1_a": torch.ones(3, 2)},
        "lora.lacks hada_w2_a": {key: loha[key] for key in loha if "w1" in key},
        "lora.lacks lokr_w2": w1,
        "lora.lacks lokr_w2 half": w1 | w2_a,
        "lora.factors lokr": w1 | w2_a | {f"{STEM}.lokr_w2_b": torch.ones(3, 4)},
        "lora.lacks a2.weight": {f"{STEM}.{name}.weight": torch.ones(3, 3) for name in ("a1", "b1", "b2")},
        "lora.factors diff": {f"{STEM}.diff": torch.tensor(1.0)},
        "lora.size": {f"{STEM}.lora_A.weight": torch.ones(1, 2**16), f"{STEM}.lora_B.weight": torch.ones(2**16, 1)},
        "lora.no_layer": {},
    }


def file_of(header: str) -> bytes:
    """A safetensors file with that header and 16 bytes of numbers."""
    return len(header).to_bytes(8, "little") + header.encode() + bytes(16)


def claiming(size: int) -> str:
    """The header of a tensor of 10^12 numbers that ends at that byte."""
    return json.dumps({f"{STEM}.diff": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, size]}})


def refused(path: Path, code: str) -> str:
    with pytest.raises(SliderError) as fault:
        load_slider(path)
    message = str(fault.value)
    assert str(path) in message
    assert "\n" not in message
    assert fault.value.code == code, message
    return message


def test_tensors_that_are_no_lora_are_refused_with_the_layer(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    for what, state in states().items():
        code, _, named = what.partition(" ")
        save_file(state, path)
        message = refused(path, code)
        if code in ("lora.lacks", "lora.unknown"):
            assert named.split(" ")[0] in message


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path, slider: Slider) -> None:
    path = tmp_path / "bad.safetensors"
    refused(path, "file.missing")
    path.mkdir()
    refused(path, "file.no_weights")
    path.rmdir()
    whole = saved(tmp_path, slider).read_bytes()
    for content in (
        b"this is no slider\n" * 20,
        b"",
        whole[:-40],
        (2**40).to_bytes(8, "little") + b"{}" * 40,
        file_of(claiming(4 * 10**12)),
        file_of(claiming(16)),
        file_of("{" * 64),
    ):
        path.write_bytes(content)
        refused(path, "file.not_safetensors")
