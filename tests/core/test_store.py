"""A slider goes through a file unchanged; a write that fails leaves everything as it was; a bad file is named."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from slider_core.adapter import LoraWeight
from slider_core.config import FileDtype, SliderError
from slider_core.store import Slider, load_slider, rounding_error, save_slider

RANK, ALPHA, ROWS, HEIGHT = 3, 6 + 2**-10, (4, 9), 12  # an alpha that only fp32 can hold
STEM = "diffusion_model.blocks.0.to_q"
METADATA = {"slider_name": "smile", "slider_step": "7"}
ROUNDING = {FileDtype.FP32: 0.0, FileDtype.FP16: 2**-11, FileDtype.BF16: 2**-8}  # half a unit of the last place


def lora(rows: tuple[int, int] | None = None, scale: float = 1.0) -> LoraWeight:
    generator = torch.Generator().manual_seed(5)
    A = torch.randn(RANK, 8, generator=generator)
    B = scale * torch.randn(rows[1] - rows[0] if rows else HEIGHT, RANK, generator=generator)
    return LoraWeight(A, B, ALPHA, rows, HEIGHT)


@pytest.fixture
def slider() -> Slider:
    conv = LoraWeight(torch.randn(RANK, 4, 3, 3), torch.randn(6, RANK, 1, 1), 1.5)
    return Slider({"blocks.0.to_q": lora(), "conv_in": conv}, METADATA)


def saved(tmp_path: Path, slider: Slider, dtype: FileDtype = FileDtype.FP32) -> Path:
    path = tmp_path / "new" / "slider.safetensors"
    save_slider(path, slider, dtype)
    return path


def test_a_slider_comes_back_bit_for_bit_with_its_metadata(tmp_path: Path, slider: Slider) -> None:
    back = load_slider(saved(tmp_path, slider))
    assert list(back.weights) == list(slider.weights)
    for path, weight in slider.weights.items():
        assert torch.equal(back.weights[path].A, weight.A)
        assert torch.equal(back.weights[path].B, weight.B)
        assert back.weights[path].alpha == weight.alpha
    assert METADATA.items() <= back.metadata.items()


def test_a_file_holds_comfyuis_native_keys(tmp_path: Path, slider: Slider) -> None:
    state = load_file(saved(tmp_path, slider))
    assert {k for k in state if "to_q" in k} == {f"{STEM}.lora_A.weight", f"{STEM}.lora_B.weight", f"{STEM}.alpha"}
    update = state[f"{STEM}.alpha"] / RANK * state[f"{STEM}.lora_B.weight"] @ state[f"{STEM}.lora_A.weight"]
    torch.testing.assert_close(update, slider.weights["blocks.0.to_q"].delta())


@pytest.mark.parametrize("dtype", FileDtype)
def test_a_number_format_costs_its_own_rounding_and_no_more(tmp_path: Path, slider: Slider, dtype: FileDtype) -> None:
    path = saved(tmp_path, slider, dtype)
    kind = {FileDtype.FP32: torch.float32, FileDtype.FP16: torch.float16, FileDtype.BF16: torch.bfloat16}[dtype]
    assert {v.dtype for k, v in load_file(path).items() if "lora_" in k} == {kind}
    for layer, weight in load_slider(path).weights.items():
        was = slider.weights[layer]
        assert weight.A.dtype == torch.float32
        assert weight.alpha == was.alpha
        torch.testing.assert_close(weight.A, was.A, rtol=ROUNDING[dtype], atol=1e-7 if ROUNDING[dtype] else 0)


def test_a_fused_slice_is_written_full_height_and_means_the_same(tmp_path: Path) -> None:
    weight = lora(ROWS)
    path = saved(tmp_path, Slider({"blocks.0.to_q": weight}))
    B = load_file(path)[f"{STEM}.lora_B.weight"]
    assert B.shape == (HEIGHT, RANK)
    assert B.any(dim=1).tolist() == [ROWS[0] <= row < ROWS[1] for row in range(HEIGHT)]
    delta = load_slider(path).weights["blocks.0.to_q"].delta()
    torch.testing.assert_close(delta[ROWS[0] : ROWS[1]], weight.delta())
    assert not delta[: ROWS[0]].any()
    assert not delta[ROWS[1] :].any()


def test_lora_down_and_up_and_a_missing_alpha_are_read_as_the_stock_loader_does(tmp_path: Path) -> None:
    A, B = lora().A, lora().B
    save_file({f"{STEM}.lora_down.weight": A, f"{STEM}.lora_up.weight": B}, tmp_path / "other.safetensors")
    torch.testing.assert_close(load_slider(tmp_path / "other.safetensors").weights["blocks.0.to_q"].delta(), B @ A)


def test_an_existing_file_is_left_alone_unless_asked(tmp_path: Path, slider: Slider) -> None:
    path = tmp_path / "taken.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(SliderError, match=f"File exists: {path}"):
        save_slider(path, slider)
    assert path.read_bytes() == b"precious"
    save_slider(path, slider, overwrite=True)
    assert load_slider(path).metadata["slider_name"] == "smile"


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
    slider.weights["conv_in"].B[1, 2] = value
    with pytest.raises(SliderError, match=r"conv_in\.lora_B\.weight is not finite"):
        saved(tmp_path, slider)
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_fp16_are_not_written_as_fp16(tmp_path: Path) -> None:
    slider = Slider({"blocks.0.to_q": lora(scale=1e5)})
    with pytest.raises(SliderError, match="not finite as fp16"):
        saved(tmp_path, slider, FileDtype.FP16)
    assert not list(tmp_path.iterdir())
    saved(tmp_path, slider, FileDtype.BF16)


def damaged(path: Path, kind: str, slider: Slider) -> None:
    """Put a file of that kind of damage at `path`; "missing" puts none."""
    A, B = lora().A, lora().B
    states = {
        "no LoRA": {"model.weight": A},
        "a LoRA with more in it": {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B, "extra": A.clone()},
        "without B": {f"{STEM}.lora_A.weight": A},
        "without A": {f"{STEM}.lora_B.weight": B},
        "foreign prefix": {"unet.to_q.lora_A.weight": A, "unet.to_q.lora_B.weight": B},
        "alpha no number": {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B, f"{STEM}.alpha": torch.ones(2)},
        "A no matrix": {f"{STEM}.lora_A.weight": torch.tensor(1.0), f"{STEM}.lora_B.weight": B},
        "ranks differ": {f"{STEM}.lora_A.weight": A, f"{STEM}.lora_B.weight": B[:, :1].contiguous()},
        "rank 0": {f"{STEM}.lora_A.weight": A[:0], f"{STEM}.lora_B.weight": B[:, :0]},
        "empty": {},
    }
    if kind in states:
        save_file(states[kind], path)
    elif kind == "text":
        path.write_text("this is no slider\n" * 20)
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "truncated":
        save_slider(path, slider)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "folder":
        path.mkdir()


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
        "foreign prefix",
        "alpha no number",
        "A no matrix",
        "ranks differ",
        "rank 0",
        "empty",
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
    exact = {path: weight.delta() for path, weight in slider.weights.items()}
    for dtype in FileDtype:
        path = tmp_path / f"{dtype.value}.safetensors"
        save_slider(path, slider, dtype)
        read = load_slider(path).weights
        lost = sum(float((read[p].delta() - exact[p]).square().sum()) for p in exact)
        expected = (lost / sum(float(d.square().sum()) for d in exact.values())) ** 0.5
        assert rounding_error(slider, dtype) == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert rounding_error(slider, FileDtype.FP32) == 0
    assert 0 < rounding_error(slider, FileDtype.FP16) < rounding_error(slider, FileDtype.BF16) < 0.02
    zero = LoraWeight(torch.ones(RANK, 8), torch.zeros(HEIGHT, RANK), 1.0)
    assert rounding_error(Slider({"a": zero}), FileDtype.BF16) == 0, "an untrained slider has nothing to lose"


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
    other = Slider({"conv_in": slider.weights["conv_in"]}, METADATA)
    save_slider(link, other, overwrite=True)
    assert link.is_symlink()
    assert set(load_slider(real).weights) == {"conv_in"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere.safetensors", "slider.safetensors"]
