"""A file from a stranger is either a LoRA that fits, or one clear error that names it: nothing in it runs, nothing is applied."""

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
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.ia3 import IA3Module
from safetensors.torch import load_file, save_file
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import Algorithm, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, load_slider

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of odd pickles before it refuses them

STEM, CUTS = "diffusion_model.plain", 40
NO_SIGN = {
    "oft_blocks": "rotation",
    "oft_diag": "rotation",
    "on_input": "no place in ComfyUI's loaders",
    "w_norm": "norm layers",
    "set_weight": "no strength",
    "reshape_weight": "shape of the model's layers",
    "bm.weight": "core tensor",
}


@pytest.fixture
def net() -> Net:
    return make_net()


def lora() -> dict[str, torch.Tensor]:
    return {f"{STEM}.lora_A.weight": torch.ones(2, 16), f"{STEM}.lora_B.weight": torch.ones(24, 2)}


def outcome(path: Path) -> str:
    """Whether a file is read or refused; any other way to end is a failure."""
    try:
        slider = load_slider(path)
    except SliderError as fault:
        return "refused by its name" if str(path) in str(fault) else f"refused without its name: {fault}"
    kinds = {t.dtype for w in slider.weights.values() for t in w.tensors.values()}
    return "read" if kinds == {torch.float32} else f"read as {kinds}"


def refused(path: Path, message: str = "") -> str:
    with pytest.raises(SliderError, match=re.escape(str(path))) as fault:
        load_slider(path)
    text = str(fault.value)
    assert "\n" not in text
    assert message in text
    return text


# --- safetensors


def test_a_file_cut_anywhere_is_refused(net: Net, tmp_path: Path) -> None:
    content = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.NATIVE).read_bytes()
    path = tmp_path / "cut.safetensors"
    for part in range(CUTS):
        path.write_bytes(content[: part * (len(content) - 1) // (CUTS - 1)])
        refused(path)


def test_a_file_with_more_behind_its_end_is_refused(net: Net, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.NATIVE)
    path.write_bytes(path.read_bytes() + bytes(8))
    refused(path)


def test_a_header_with_any_byte_changed_is_read_or_refused_and_never_breaks(net: Net, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS["lora"], "one slice"), FileFormat.NATIVE)
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    outcomes = set()
    for at in range(0, length, max(1, length // 200)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        outcomes.add(outcome(path))
    assert outcomes == {"read", "refused by its name"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_numbers_that_are_not_finite_are_refused(net: Net, algorithm: Algorithm, value: float, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS[algorithm.value]), FileFormat.NATIVE)
    state = load_file(path)
    key = next(k for k in reversed(state) if state[k].numel() > 1)
    state[key].view(-1)[3] = value
    save_file(state, path)
    refused(path, f"{key} holds numbers that are not finite")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "BOOL", "U16", "I8", "C64", "XYZ"])
def test_an_odd_number_format_is_read_or_refused_and_never_breaks(dtype: str, tmp_path: Path) -> None:
    path, header = tmp_path / "odd.safetensors", {}
    for number, name in enumerate(("lora_A", "lora_B")):
        header[f"{STEM}.{name}.weight"] = {"dtype": dtype, "shape": [4, 4], "data_offsets": [16 * number, 16 * number + 16]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
    assert outcome(path) in ("read", "refused by its name")


@pytest.mark.parametrize("word", NO_SIGN)
def test_what_has_no_meaning_with_a_sign_is_refused_with_its_reason(word: str, tmp_path: Path) -> None:
    save_file(lora() | {f"diffusion_model.bare.{word}": torch.ones(2, 2)}, tmp_path / "theirs.safetensors")
    text = refused(tmp_path / "theirs.safetensors", f"diffusion_model.bare.{word} cannot be part of a slider")
    assert NO_SIGN[word] in text


@pytest.mark.parametrize("made", [IA3Module, DiagOFTModule, ButterflyOFTModule])
def test_what_lycoris_makes_without_a_sign_is_refused_with_its_reason(made: type, tmp_path: Path) -> None:
    state = made("x", nn.Linear(16, 16), lora_dim=4).state_dict()
    path = tmp_path / "theirs.safetensors"
    save_file({f"lycoris_plain.{k}": v.clone().contiguous() for k, v in state.items() if k in made.weight_list}, path)
    refused(path, "cannot be part of a slider")


# --- another model


class Other(nn.Module):
    """A net of another architecture: layers of the same names, of another size, one of them lacking."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("form", [FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS])
def test_a_file_for_another_architecture_is_refused_and_leaves_no_hook(
    net: Net, algorithm: Algorithm, form: FileFormat, tmp_path: Path
) -> None:
    slider = load_slider(saved(tmp_path, slider_on(net, VARIANTS[algorithm.value]), form))
    layers = {"conv3": nn.Conv2d(4, 16, 3), "conv1": nn.Conv2d(16, 16, 1), "plain": nn.Linear(16, 24), "bare": nn.Linear(16, 10)}
    wider = Other(**layers, fused=nn.Linear(28, 48))
    with pytest.raises(SliderError, match=r'layer "fused" has shape \(48, 28\) here'):
        Adapter.from_weights(wider, slider.weights)
    with pytest.raises(SliderError, match=r"needs 1 of its 5 layers that this model lacks .*fused.* for another model"):
        Adapter.from_weights(Other(**layers), slider.weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in wider.modules())


def test_a_slice_beyond_the_layer_is_refused(net: Net, tmp_path: Path) -> None:
    slider = load_slider(saved(tmp_path, slider_on(net, VARIANTS["lora"], "one slice"), FileFormat.NATIVE))
    weights = {Target("fused", (20, 52)): slider.weights[Target("fused", (0, 32))]}
    with pytest.raises(SliderError, match="trained on another model"):
        Adapter.from_weights(net, weights)


# --- our own header


DAMAGED_ROWS = [
    "{",
    "[]",
    "3",
    "null",
    '{"plain": 3}',
    '{"plain": []}',
    '{"plain": [1]}',
    '{"plain": [[1]]}',
    '{"plain": [[4, 2]]}',
    '{"plain": [[-4, 2]]}',
    '{"plain": [["a", "b"]]}',
    '{"plain": [[0, 8], [4, 12]]}',
    '{"plain": [[0, NaN]]}',
    '{"plain": [[0, Infinity]]}',
]


@pytest.mark.parametrize("rows", DAMAGED_ROWS)
def test_damaged_rows_in_the_header_are_named(rows: str, tmp_path: Path) -> None:
    save_file(lora(), tmp_path / "s.safetensors", metadata={"slider_slices": rows})
    refused(tmp_path / "s.safetensors", "slider_slices in the slider")


@pytest.mark.parametrize("rows", ["[[0, 8]]", "[[0, 4], [8, 24]]", "[[0, 400]]"])
def test_rows_in_the_header_that_the_tensors_contradict_are_refused(rows: str, tmp_path: Path) -> None:
    save_file(lora(), tmp_path / "s.safetensors", metadata={"slider_slices": f'{{"plain": {rows}}}'})
    refused(tmp_path / "s.safetensors", "plain")


def test_rows_of_a_layer_that_is_not_there_change_nothing(tmp_path: Path) -> None:
    save_file(lora(), tmp_path / "s.safetensors", metadata={"slider_slices": '{"gone": [[0, 8]]}'})
    assert list(load_slider(tmp_path / "s.safetensors").weights) == [Target("plain")]


# --- PEFT's configuration


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"lora_alpha": "many"}',
        '{"lora_alpha": null}',
        '{"lora_alpha": NaN}',
        '{"lora_alpha": 1, "alpha_pattern": 3}',
        '{"lora_alpha": 1, "alpha_pattern": {"(": 1}}',
        '{"lora_alpha": 1, "alpha_pattern": {"plain": "x"}}',
        b"\xff\xfe\x00",
    ],
    ids=str,
)
def test_a_damaged_configuration_beside_the_tensors_is_named(net: Net, config: str | bytes, tmp_path: Path) -> None:
    folder = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.PEFT)
    (folder / PEFT_CONFIG).write_bytes(config if isinstance(config, bytes) else config.encode())
    refused(folder)


def test_a_folder_without_its_tensors_is_named(net: Net, tmp_path: Path) -> None:
    folder = saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.PEFT)
    (folder / PEFT_WEIGHTS).unlink()
    refused(folder, "holds no adapter_model.safetensors")


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


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".PT"])
@pytest.mark.parametrize("where", ["beside a LoRA", "as the whole", "as a key", "deep inside"])
@pytest.mark.parametrize("old_style", [False, True], ids=["zip", "legacy"])
def test_code_in_a_pickle_does_not_run(where: str, suffix: str, old_style: bool, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / f"theirs{suffix}"
    torch.save(bombs(mark)[where], path, _use_new_zipfile_serialization=not old_style)
    refused(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # it would have
    assert mark.exists()


def test_a_bare_pickle_with_code_does_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "theirs.pt"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    refused(path)
    assert not mark.exists()


def test_a_pickle_by_the_name_of_a_safe_file_does_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "theirs.safetensors"
    torch.save(bombs(mark)["beside a LoRA"], path)
    refused(path)
    assert not mark.exists()


def test_a_pickle_of_tensors_is_a_lora_like_any_other(tmp_path: Path) -> None:
    torch.save(lora(), tmp_path / "theirs.pt")
    slider = load_slider(tmp_path / "theirs.pt")
    assert list(slider.weights) == [Target("plain")]
    torch.testing.assert_close(slider.weights[Target("plain")].delta(), torch.full((24, 16), 2.0))


def test_a_tensor_that_claims_more_numbers_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    huge = {f"{STEM}.lora_A.weight": torch.ones(1).expand(2, 2**40), f"{STEM}.lora_B.weight": torch.ones(24, 2)}
    torch.save(huge, tmp_path / "huge.pt")
    assert (tmp_path / "huge.pt").stat().st_size < 10_000
    refused(tmp_path / "huge.pt", "lora_A.weight claims (2, 1099511627776)")


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(2)],
        torch.ones(2),
        3,
        {"state_dict": lora()},
        lora() | {"step": 3},
        {0: torch.ones(2, 2)},
        lora() | {"sparse": torch.ones(2, 2).to_sparse()},
        lora() | {"object": Unknown()},
        OrderedDict(),
    ],
    ids=["list", "tensor", "number", "nested", "number beside", "number as a key", "sparse", "object", "empty"],
)
def test_a_pickle_of_anything_else_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "theirs.pt")
    refused(tmp_path / "theirs.pt")


def test_tensors_that_are_only_shapes_are_refused(tmp_path: Path) -> None:
    torch.save({k: v.to("meta") for k, v in lora().items()}, tmp_path / "meta.pt")
    refused(tmp_path / "meta.pt")


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
    for program in (
        b"",
        b".",
        b"0.",
        b"\x80\x02.",
        b"\x80\x02K\x01R.",
        b"\x80\x02}q\x01.",
        b"\x80\x02h\x09.",
        b"\x80\x02tu.",
        b"\x80\x02(e.",
    ):
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        other = tmp_path / "other.pt"
        with zipfile.ZipFile(other, "w", zipfile.ZIP_STORED) as archive:
            for name, data in entries.items():
                archive.writestr(name, program if name.endswith("data.pkl") else data)
        refused(other)


def test_code_in_a_peft_folder_does_not_run(tmp_path: Path) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "folder"
    folder.mkdir()
    torch.save(bombs(mark)["as the whole"], folder / "adapter_model.bin")
    refused(folder)
    shutil.copy(folder / "adapter_model.bin", folder / PEFT_WEIGHTS)
    refused(folder)
    assert not mark.exists()
