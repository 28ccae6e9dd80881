"""A file from anyone is either a LoRA that fits, or one clear error that names it: nothing in it runs, nothing is applied."""

import io
import json
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from core.nets import VARIANTS, Net, make_net, saved, slider_on
from safetensors.torch import load_file, save_file
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import Algorithm, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.from_state import NO_SIGN, READABLE
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import MOST_TENSORS, PEFT_CONFIG, PEFT_WEIGHTS, load_slider

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of odd pickles before it refuses them

STEM, CUTS = "diffusion_model.plain", 40
FORMS = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS)
CONFIGS = (
    *("{", "[]", "3", "null", "{}", '{"lora_alpha": "many"}', '{"lora_alpha": null}', '{"lora_alpha": NaN}'),
    *(f'{{"lora_alpha": 1, "alpha_pattern": {text}}}' for text in ("3", "[[1, 2]]", '{"(a+)+$": 1}', '{"plain": "x"}')),
    b"\xff\xfe\x00",
)
SLICES = (
    *("{", "[]", "3", "null", '{"plain": 3}', '{"plain": []}', '{"plain": [1]}', '{"plain": [[1]]}', '{"plain": [[4, 2]]}'),
    *('{"plain": [[-4, 2]]}', '{"plain": [["a", "b"]]}', '{"plain": [[0, 8], [4, 12]]}', '{"plain": [[0, NaN]]}'),
)


@pytest.fixture
def net() -> Net:
    return make_net()


def lora() -> dict[str, torch.Tensor]:
    return {f"{STEM}.lora_A.weight": torch.ones(2, 16), f"{STEM}.lora_B.weight": torch.ones(24, 2)}


def outcome(path: Path) -> str:
    """Whether a file is read or refused; any other way to end is a failure."""
    try:
        slider = load_slider(path).cut()
    except SliderError as fault:
        return "refused by its name" if str(path) in str(fault) and fault.code else f"refused without: {fault}"
    kinds = {tensor.dtype for weight in slider.weights.values() for tensor in weight.tensors.values()}
    return "read" if kinds == {torch.float32} else f"read as {kinds}"


def refused(path: Path, code: str = "", *named: str) -> None:
    """The file is refused with that code, and its name and others stand in the message of one line."""
    with pytest.raises(SliderError, match=re.escape(str(path))) as fault:
        load_slider(path)
    assert "\n" not in str(fault.value)
    assert fault.value.code == code or (fault.value.code and not code)
    for name in named:
        assert name in str(fault.value)


# --- safetensors


def test_a_file_cut_anywhere_or_longer_is_refused(net: Net, tmp_path: Path) -> None:
    content = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.NATIVE).read_bytes()
    path = tmp_path / "cut.safetensors"
    for part in range(CUTS):
        path.write_bytes(content[: part * (len(content) - 1) // (CUTS - 1)])
        refused(path, "file.not_safetensors")
    path.write_bytes(content + bytes(8))
    refused(path, "file.not_safetensors")
    for start, word in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
    ):
        path.write_bytes(start)
        refused(path, "file.no_weights", word)


def test_a_header_with_any_byte_changed_is_read_or_refused_and_never_breaks(net: Net, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS["lora"], "one slice"), FileFormat.NATIVE)
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    outcomes = set()
    for at in range(0, length, max(1, length // 200)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        outcomes.add(outcome(path))
    assert outcomes == {"read", "refused by its name"}


def test_numbers_that_are_not_finite_are_refused(net: Net, tmp_path: Path) -> None:
    for value in [float("nan"), float("inf"), float("-inf")]:
        for algorithm in Algorithm:
            path = saved(tmp_path, slider_on(net, VARIANTS[algorithm.value]), FileFormat.NATIVE, overwrite=True)
            state = load_file(path)
            key = next(key for key in reversed(state) if state[key].numel() > 1)
            state[key].view(-1)[3] = value
            save_file(state, path)
            refused(path, "file.not_finite", key)


def test_an_odd_number_format_is_read_or_refused_and_never_breaks(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    for dtype in ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "BOOL", "U16", "I8", "C64", "XYZ"):
        header = {}
        for number, name in enumerate(("lora_A", "lora_B")):
            header[f"{STEM}.{name}.weight"] = {"dtype": dtype, "shape": [4, 4], "data_offsets": [16 * number, 16 * number + 16]}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
        assert outcome(path) in ("read", "refused by its name"), dtype


def test_what_has_no_meaning_with_a_sign_is_refused_with_its_reason(tmp_path: Path) -> None:
    from lycoris.modules import boft, diag_oft, ia3

    path = tmp_path / "theirs.safetensors"
    for ending, reason in NO_SIGN.items():
        extra = {f"diffusion_model.bare.{ending}": torch.ones(2, 2)}
        save_file(extra, path)
        refused(path, "lora.no_sign", "diffusion_model.bare", reason)
        save_file(lora() | extra, path)
        slider = load_slider(path)
        assert list(slider.weights) == [Target("plain")]
        assert reason in slider.summary()
    for module in (ia3.IA3Module, diag_oft.DiagOFTModule, boft.ButterflyOFTModule):
        state = module("x", nn.Linear(16, 16), lora_dim=4).state_dict()
        theirs = {f"lycoris_plain.{key}": state[key].clone().contiguous() for key in state if key in module.weight_list}
        save_file(theirs, path)
        refused(path, "lora.no_sign")


def test_more_tensors_than_a_lora_has_are_refused_before_they_are_read(tmp_path: Path) -> None:
    state = {f"diffusion_model.{number}.lora_A.weight": torch.ones(1) for number in range(MOST_TENSORS + 1)}
    save_file(state, tmp_path / "many.safetensors")
    refused(tmp_path / "many.safetensors", "file.too_many", str(MOST_TENSORS))


# --- another model


class Other(nn.Module):
    """A net of another architecture: layers of the same names, of another size, one of them lacking."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


@pytest.mark.parametrize("number", range(len(Algorithm)), ids=[algorithm.value for algorithm in Algorithm])
def test_a_file_for_another_architecture_is_refused_and_leaves_no_hook(net: Net, number: int, tmp_path: Path) -> None:
    name = list(Algorithm)[number].value
    weights = load_slider(saved(tmp_path, slider_on(net, VARIANTS[name]), FORMS[number % len(FORMS)])).weights
    layers = {"conv3": nn.Conv2d(4, 16, 3), "conv1": nn.Conv2d(16, 16, 1), "plain": nn.Linear(16, 24), "bare": nn.Linear(16, 10)}
    wider = Other(**layers, fused=nn.Linear(28, 48))
    with pytest.raises(SliderError, match=r'"fused" has shape \(48, 28\)') as fault:
        Adapter.from_weights(wider, weights)
    assert fault.value.code == "lora.shape"
    with pytest.raises(SliderError, match=r"5 layers, .*conv1") as fault:
        Adapter.from_weights(Other(other=nn.Linear(16, 24)), weights)
    assert fault.value.code == "lora.other_model"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in wider.modules())


def test_a_slice_beyond_the_layer_is_refused(net: Net, tmp_path: Path) -> None:
    slider = load_slider(saved(tmp_path, slider_on(net, VARIANTS["lora"], "one slice"), FileFormat.NATIVE)).cut()
    with pytest.raises(SliderError) as fault:
        Adapter.from_weights(net, {Target("fused", (20, 52)): slider.weights[Target("fused", (0, 32))]})
    assert fault.value.code == "lora.rows"


# --- our own header, and PEFT's configuration


def test_damaged_slices_in_the_header_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    for text in SLICES:
        save_file(lora(), path, metadata={"slider_slices": text})
        refused(path, "slider_info.damaged", "slider_slices")
    for rows in ("[[0, 8]]", "[[0, 4], [8, 24]]", "[[0, 400]]"):  # which the tensors contradict
        save_file(lora(), path, metadata={"slider_slices": f'{{"plain": {rows}}}'})
        with pytest.raises(SliderError, match=re.escape(str(path))) as fault:
            load_slider(path).cut()
        assert fault.value.code == "lora.slice"
    save_file(lora(), path, metadata={"slider_slices": '{"gone": [[0, 8]]}'})
    assert list(load_slider(path).cut().weights) == [Target("plain")]


def test_a_damaged_configuration_beside_the_tensors_is_named(net: Net, tmp_path: Path) -> None:
    folder = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.PEFT)
    for config in CONFIGS:
        (folder / PEFT_CONFIG).write_bytes(config if isinstance(config, bytes) else config.encode())
        refused(folder, "", PEFT_CONFIG)
    (folder / PEFT_WEIGHTS).unlink()
    refused(folder, "file.no_weights", PEFT_WEIGHTS)


# --- pickles


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


class Unknown:
    """A class that no loader of tensors knows."""


def bombs(mark: Path) -> dict[str, object]:
    return {
        "beside a LoRA": lora() | {"note": Bomb(mark)},
        "as the whole": Bomb(mark),
        "as a key": {Bomb(mark): torch.ones(2, 2)},
        "deep inside": lora() | {"more": [{"x": (Bomb(mark),)}]},
    }


@pytest.mark.parametrize("old_style", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".PT", ".safetensors"])
def test_code_in_a_pickle_does_not_run(suffix: str, old_style: bool, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / f"theirs{suffix}"
    for content in bombs(mark).values():
        torch.save(content, path, _use_new_zipfile_serialization=not old_style)
        refused(path, "file.not_safetensors" if suffix == ".safetensors" else "file.pickle")
    path.write_bytes(pickle.dumps(Bomb(mark)))
    refused(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # it would have
    assert mark.exists()


def test_code_in_a_peft_folder_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    folder = tmp_path / "folder"
    folder.mkdir()
    torch.save(bombs(mark)["as the whole"], folder / "adapter_model.bin")
    refused(folder)
    shutil.copy(folder / "adapter_model.bin", folder / PEFT_WEIGHTS)
    refused(folder)
    assert not mark.exists()


def test_a_pickle_of_tensors_is_a_lora_like_any_other(tmp_path: Path) -> None:
    torch.save(lora(), tmp_path / "theirs.pt")
    slider = load_slider(tmp_path / "theirs.pt")
    assert list(slider.weights) == [Target("plain")]
    torch.testing.assert_close(slider.weights[Target("plain")].delta(), torch.full((24, 16), 2.0))


def test_a_tensor_that_claims_more_numbers_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    torch.save(lora() | {f"{STEM}.lora_A.weight": torch.ones(1).expand(2, 2**40)}, path)
    assert path.stat().st_size < 10_000
    refused(path, "file.odd_tensor", "lora_A.weight", "1099511627776")


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_file_that_holds_nothing_for_gigabytes_is_refused_before_it_is_read(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(30 << 30)
    refused(tmp_path / name)


def test_a_pickle_of_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    for content in (
        [torch.ones(2)],
        torch.ones(2),
        3,
        {"state_dict": lora()},
        lora() | {"step": 3},
        {0: torch.ones(2, 2)},
        lora() | {"sparse": torch.ones(2, 2).to_sparse()},
        lora() | {"object": Unknown()},
        {key: value.to("meta") for key, value in lora().items()},
        OrderedDict(),
    ):
        torch.save(content, path)
        refused(path)


@pytest.mark.parametrize("old_style", [False, True], ids=["zip", "legacy"])
def test_a_pickle_cut_or_changed_anywhere_is_read_or_refused_and_never_breaks(old_style: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(lora(), buffer, _use_new_zipfile_serialization=not old_style)
    content, path = buffer.getvalue(), tmp_path / "theirs.pt"
    for part in range(CUTS):
        path.write_bytes(content[: part * (len(content) - 1) // (CUTS - 1)])
        refused(path)
    for at in range(0, len(content), max(1, len(content) // 300)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x15]) + content[at + 1 :])
        assert outcome(path) in ("read", "refused by its name")


def test_a_pickle_whose_program_is_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(lora(), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for program in (b"", b".", b"0.", b"\x80\x02.", b"\x80\x02K\x01R.", b"\x80\x02}q\x01.", b"\x80\x02h\x09.", b"\x80\x02(e."):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in entries.items():
                archive.writestr(name, program if name.endswith("data.pkl") else content)
        refused(path)


def test_every_number_format_that_is_read_can_be_computed_with() -> None:
    for dtype in READABLE:
        assert bool(torch.ones(2).to(dtype).float().isfinite().all())
