"""A slider goes through a file unchanged; a write that fails leaves everything as it was; a bad file is named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from slider_core.config.checks import SliderError
from slider_core.config.lora import FileDtype, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.algorithms.full import FullWeight
from slider_core.lora.algorithms.lora import LoraWeight
from slider_core.lora.info import SliderInfo
from slider_core.lora.safe_files import move_in
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider, lost_to, save_slider

RANK, ALPHA, ROWS, HEIGHT = 3, 6 + 2**-10, (4, 9), 12  # an alpha that only fp32 can hold
LAYER, STEM = "blocks.0.to_q", "diffusion_model.blocks.0.to_q"
TO_Q, CONV = Target(LAYER), Target("conv_in")
INFO = SliderInfo(name="smile", step=7)
ROUNDING = {FileDtype.FP32: 0.0, FileDtype.FP16: 2**-11, FileDtype.BF16: 2**-8}  # half a unit of the last place


def factors(rows: tuple[int, int] | None = None, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of a LoRA."""
    generator = torch.Generator().manual_seed(5)
    A = torch.randn(RANK, 8, generator=generator)
    return A, scale * torch.randn(rows[1] - rows[0] if rows else HEIGHT, RANK, generator=generator)


def weight_of(A: torch.Tensor, B: torch.Tensor, alpha: float | None, base: tuple[int, ...] | None = None) -> LoraWeight:
    return LoraWeight({"lora_down.weight": A, "lora_up.weight": B}, alpha, base)


def lora(rows: tuple[int, int] | None = None, scale: float = 1.0) -> LoraWeight:
    return weight_of(*factors(rows, scale), ALPHA, (HEIGHT, 8))


@pytest.fixture
def slider() -> Slider:
    generator = torch.Generator().manual_seed(6)
    conv = torch.randn(RANK, 4, 3, 3, generator=generator), torch.randn(6, RANK, 1, 1, generator=generator)
    return Slider({TO_Q: lora(), CONV: weight_of(*conv, 1.5, (6, 4, 3, 3))}, INFO)


def saved(tmp_path: Path, slider: Slider, dtype: FileDtype = FileDtype.FP32) -> Path:
    path = tmp_path / "new" / "slider.safetensors"
    save_slider(path, slider, dtype)
    return path


def test_a_slider_comes_back_bit_for_bit_with_its_metadata(tmp_path: Path, slider: Slider) -> None:
    back = load_slider(saved(tmp_path, slider))
    assert set(back.weights) == set(slider.weights)
    for target, weight in slider.weights.items():
        read = back.weights[target]
        assert read.kind is weight.kind
        assert read.tensors.keys() == weight.tensors.keys()
        assert all(torch.equal(read.tensors[name], value) for name, value in weight.tensors.items())
        assert read.alpha == weight.alpha
    assert (back.info.name, back.info.step) == (INFO.name, INFO.step)


def test_a_file_holds_comfyuis_native_keys(tmp_path: Path, slider: Slider) -> None:
    state = load_file(saved(tmp_path, slider))
    assert {k for k in state if "to_q" in k} == {f"{STEM}.lora_A.weight", f"{STEM}.lora_B.weight", f"{STEM}.alpha"}
    update = state[f"{STEM}.alpha"] / RANK * state[f"{STEM}.lora_B.weight"] @ state[f"{STEM}.lora_A.weight"]
    torch.testing.assert_close(update, slider.weights[TO_Q].delta())


@pytest.mark.parametrize("dtype", FileDtype)
def test_a_number_format_costs_its_own_rounding_and_no_more(tmp_path: Path, slider: Slider, dtype: FileDtype) -> None:
    path = saved(tmp_path, slider, dtype)
    kind = {FileDtype.FP32: torch.float32, FileDtype.FP16: torch.float16, FileDtype.BF16: torch.bfloat16}[dtype]
    assert {v.dtype for k, v in load_file(path).items() if "lora_" in k} == {kind}
    for layer, weight in load_slider(path).weights.items():
        was = slider.weights[layer]
        assert weight.alpha == was.alpha
        for name, value in weight.tensors.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, was.tensors[name], rtol=ROUNDING[dtype], atol=1e-7 if ROUNDING[dtype] else 0)


def test_a_fused_slice_is_written_full_height_and_means_the_same(tmp_path: Path) -> None:
    weight, target = lora(ROWS), Target(LAYER, ROWS)
    path = saved(tmp_path, Slider({target: weight}))
    B = load_file(path)[f"{STEM}.lora_B.weight"]
    assert B.shape == (HEIGHT, RANK)
    assert B.any(dim=1).tolist() == [ROWS[0] <= row < ROWS[1] for row in range(HEIGHT)]
    back = load_slider(path)
    assert list(back.weights) == [target]
    torch.testing.assert_close(back.weights[target].delta(), weight.delta())


def test_lora_down_and_up_and_a_missing_alpha_are_read_as_the_stock_loader_does(tmp_path: Path) -> None:
    A, B = factors()
    save_file({f"{STEM}.lora_down.weight": A, f"{STEM}.lora_up.weight": B}, tmp_path / "other.safetensors")
    torch.testing.assert_close(load_slider(tmp_path / "other.safetensors").weights[TO_Q].delta(), B @ A)


def test_an_existing_file_is_left_alone_unless_asked(tmp_path: Path, slider: Slider) -> None:
    path = tmp_path / "taken.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(SliderError, match=f"File exists: {path}"):
        save_slider(path, slider)
    assert path.read_bytes() == b"precious"
    save_slider(path, slider, overwrite=True)
    assert load_slider(path).info.name == "smile"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_no_other(
    tmp_path: Path,
    slider: Slider,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"precious")

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if broken == "fsync" else Path, broken, fail)
    with pytest.raises(SliderError, match=f"Cannot write {path} .No space left on device"):
        save_slider(path, slider, overwrite=True)
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"precious")]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, slider: Slider) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SliderError, match=f"Cannot write to {tmp_path}/file"):
        save_slider(tmp_path / "file" / "slider.safetensors", slider)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, slider: Slider, value: float) -> None:
    slider.weights[CONV].tensors["lora_up.weight"][1, 2] = value
    with pytest.raises(SliderError, match=r"conv_in\.lora_B\.weight is not finite"):
        saved(tmp_path, slider)
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_fp16_are_not_written_as_fp16(tmp_path: Path) -> None:
    slider = Slider({TO_Q: lora(scale=1e5)})
    with pytest.raises(SliderError, match="not finite as fp16"):
        saved(tmp_path, slider, FileDtype.FP16)
    assert not list(tmp_path.iterdir())
    saved(tmp_path, slider, FileDtype.BF16)


def damaged(path: Path, kind: str, slider: Slider) -> None:
    """Put a file of that kind of damage at `path`; "missing" puts none."""
    A, B = factors()
    whole = {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B}
    states = {
        "no LoRA": {"model.weight": A},
        "a LoRA with more in it": whole | {"extra": A.clone()},
        "without B": {f"{STEM}.lora_A.weight": A},
        "without A": {f"{STEM}.lora_B.weight": B},
        "alpha no number": whole | {f"{STEM}.alpha": torch.ones(2)},
        "alpha not finite": whole | {f"{STEM}.alpha": torch.tensor(float("nan"))},
        "alpha alone": {f"{STEM}.alpha": torch.tensor(1.0)},
        "A no matrix": {f"{STEM}.lora_A.weight": torch.tensor(1.0), f"{STEM}.lora_B.weight": B},
        "ranks differ": {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B[:, :1].contiguous()},
        "rank 0": {f"{STEM}.lora_A.weight": A[:0], f"{STEM}.lora_B.weight": B[:, :0]},
        "whole numbers": {k: v.to(torch.int32) for k, v in whole.items()},
        "complex numbers": {k: v.to(torch.complex64) for k, v in whole.items()},
        "two kinds at once": whole | {f"{STEM}.hada_w1_a": B.clone()},
        "LoHa that does not multiply": {f"{STEM}.hada_w{n}_{x}": torch.ones(n + 1, 3) for n in (1, 2) for x in "ab"},
        "LoHa half": {f"{STEM}.hada_w1_{x}": torch.ones(3, 3) for x in "ab"},
        "LoKr with one factor": {f"{STEM}.lokr_w1": torch.ones(3, 3)},
        "LoKr half low-rank": {f"{STEM}.lokr_w1": torch.ones(3, 3), f"{STEM}.lokr_w2_a": torch.ones(4, 2)},
        "LoKr that does not multiply": {
            f"{STEM}.lokr_w1": torch.ones(3, 3),
            f"{STEM}.lokr_w2_a": torch.ones(4, 2),
            f"{STEM}.lokr_w2_b": torch.ones(3, 4),
        },
        "GLoRA half": {f"{STEM}.{x}.weight": torch.ones(3, 3) for x in ("a1", "b1", "b2")},
        "DoRA on a LoHa": {f"{STEM}.hada_w{n}_{x}": torch.ones(3, 3) for n in (1, 2) for x in "ab"}
        | {f"{STEM}.dora_scale": torch.ones(3, 1)},
        "difference no matrix": {f"{STEM}.diff": torch.tensor(1.0)},
        "empty": {},
    }
    contents = {
        "text": b"this is no slider\n" * 20,
        "zero bytes": b"",
        "header longer than the file": (2**40).to_bytes(8, "little") + b"{}" * 40,
        "sizes beyond the file": file_of(claiming(4 * 10**12)),
        "sizes that do not agree": file_of(claiming(16)),
        "header no JSON": file_of("{" * 64),
    }
    if kind in states:
        save_file(states[kind], path)
    elif kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "truncated":
        save_slider(path, slider)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pickle by that name":
        torch.save({f"{STEM}.lora_A.weight": A}, path)


def claiming(size: int) -> str:
    """The header of a tensor of 10^12 numbers that ends at that byte."""
    return json.dumps({f"{STEM}.diff": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, size]}})


def file_of(header: str) -> bytes:
    """A safetensors file with that header and 16 bytes of numbers."""
    return len(header).to_bytes(8, "little") + header.encode() + bytes(16)


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "text",
        "zero bytes",
        "truncated",
        "no LoRA",
        "a LoRA with more in it",
        "without B",
        "without A",
        "alpha no number",
        "alpha not finite",
        "alpha alone",
        "A no matrix",
        "ranks differ",
        "rank 0",
        "whole numbers",
        "complex numbers",
        "two kinds at once",
        "LoHa that does not multiply",
        "LoHa half",
        "LoKr with one factor",
        "LoKr half low-rank",
        "LoKr that does not multiply",
        "GLoRA half",
        "DoRA on a LoHa",
        "difference no matrix",
        "empty",
        "header longer than the file",
        "sizes beyond the file",
        "sizes that do not agree",
        "header no JSON",
        "pickle by that name",
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path: Path, slider: Slider, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    damaged(path, kind, slider)
    with pytest.raises(SliderError, match=str(path)) as fault:
        load_slider(path)
    assert "\n" not in str(fault.value)


def test_metadata_is_readable_by_anyone(tmp_path: Path, slider: Slider) -> None:
    with safe_open(saved(tmp_path, slider), framework="pt") as file:
        assert file.metadata()["slider_name"] == "smile"


def test_the_rounding_error_is_the_change_of_the_update(tmp_path: Path, slider: Slider) -> None:
    """Against the file itself: what was written, read back and multiplied out."""
    exact = {target: weight.delta() for target, weight in slider.weights.items()}
    for dtype in FileDtype:
        path = tmp_path / f"{dtype.value}.safetensors"
        save_slider(path, slider, dtype)
        read = load_slider(path).weights
        lost = sum(float((read[t].delta() - exact[t]).square().sum()) for t in exact)
        expected = (lost / sum(float(d.square().sum()) for d in exact.values())) ** 0.5
        assert lost_to(slider, dtype) == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert lost_to(slider, FileDtype.FP32) == 0
    assert 0 < lost_to(slider, FileDtype.FP16) < lost_to(slider, FileDtype.BF16) < 0.02
    zero = weight_of(torch.ones(RANK, 8), torch.zeros(HEIGHT, RANK), 1.0)
    assert lost_to(Slider({Target("a"): zero}), FileDtype.BF16) == 0, "an untrained slider has nothing to lose"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path, slider: Slider) -> None:
    before = os.umask(0o027)
    try:
        path = saved(tmp_path, slider)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path, slider: Slider) -> None:
    real, link = tmp_path / "elsewhere.safetensors", tmp_path / "slider.safetensors"
    save_slider(real, slider)
    link.symlink_to(real)
    other = Slider({CONV: slider.weights[CONV]}, INFO)
    save_slider(link, other, overwrite=True)
    assert link.is_symlink()
    assert set(load_slider(real).weights) == {CONV}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere.safetensors", "slider.safetensors"]


# --- PEFT folders


def folder_of(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_folder_holds_the_two_files_and_no_third(tmp_path: Path, slider: Slider) -> None:
    save_slider(tmp_path / "smile", slider, form=FileFormat.PEFT)
    assert set(folder_of(tmp_path)) == {f"smile/{PEFT_CONFIG}", f"smile/{PEFT_WEIGHTS}"}


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path, slider: Slider) -> None:
    path = tmp_path / "smile"
    save_slider(path, slider, form=FileFormat.PEFT)
    before = folder_of(path)
    other = Slider({CONV: slider.weights[CONV]}, INFO)
    with pytest.raises(SliderError, match=f"File exists: {path}"):
        save_slider(path, other, form=FileFormat.PEFT)
    assert folder_of(path) == before
    save_slider(path, other, form=FileFormat.PEFT, overwrite=True)
    assert [t.path for t in load_slider(path).weights] == ["base_model.model.conv_in"]
    assert set(folder_of(tmp_path)) == {f"smile/{PEFT_CONFIG}", f"smile/{PEFT_WEIGHTS}"}


@pytest.mark.parametrize("kind", ["file beside", "folder beside", "file", "other folder"])
def test_what_is_no_slider_is_never_replaced_by_a_folder(tmp_path: Path, slider: Slider, kind: str) -> None:
    path = tmp_path / "smile"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "other folder":
        path.mkdir()
        (path / "precious.txt").write_bytes(b"precious")
    else:
        save_slider(path, slider, form=FileFormat.PEFT)
        inside = path / "precious"
        inside.write_bytes(b"precious") if kind == "file beside" else inside.mkdir()
    before = {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}
    with pytest.raises(SliderError, match=f"{path} holds other things than a slider"):
        save_slider(path, slider, form=FileFormat.PEFT, overwrite=True)
    assert {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")} == before


BREAKS = {"first file": (os, "fsync", 0), "second file": (os, "fsync", 1), "moving it in": (Path, "rename", 0)}


@pytest.mark.parametrize("there", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("moment", BREAKS)
def test_a_fault_while_a_folder_is_written_leaves_what_was_there(
    tmp_path: Path, slider: Slider, moment: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "smile"
    if there:
        save_slider(path, slider, form=FileFormat.PEFT)
    before = folder_of(tmp_path)
    owner, name, good = BREAKS[moment]
    original, calls = getattr(owner, name), []

    def fail(*args: object) -> object:
        calls.append(args)
        if len(calls) > good:
            raise OSError(28, "No space left on device")
        return original(*args)

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(SliderError, match=r"Cannot write .*No space left on device"):
        save_slider(path, Slider({CONV: slider.weights[CONV]}), form=FileFormat.PEFT, overwrite=True)
    monkeypatch.undo()
    assert folder_of(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == (["smile"] if there else [])


def test_a_slider_that_a_folder_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    full = FullWeight({"diff": torch.ones(4, 4)}, None, (4, 4))
    with pytest.raises(SliderError, match="PEFT folder reads LoRA only"):
        save_slider(tmp_path / "smile", Slider({TO_Q: full}), form=FileFormat.PEFT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", [FileFormat.NATIVE, FileFormat.PEFT])
def test_what_was_saved_on_trial_is_moved_in_whole(tmp_path: Path, slider: Slider, form: FileFormat) -> None:
    trial, path = tmp_path / "trial", tmp_path / "loras" / "sliders" / "smile"
    save_slider(trial, slider, form=form)
    content = trial.read_bytes() if trial.is_file() else folder_of(trial)
    move_in(trial, path)
    assert (path.read_bytes() if path.is_file() else folder_of(path)) == content
    with pytest.raises(SliderError, match=f"File exists: {path}"):
        move_in(trial, path)
    move_in(trial, path, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == ["smile"]


def test_a_folder_of_a_name_that_is_taken_by_another_kind_stays(tmp_path: Path, slider: Slider) -> None:
    (tmp_path / "smile.safetensors").mkdir()
    with pytest.raises(SliderError, match=r"smile\.safetensors"):
        save_slider(tmp_path / "smile.safetensors", slider, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["smile.safetensors"]
    shutil.rmtree(tmp_path / "smile.safetensors")
