"""python -m slider_core: the whole way works, and bad input ends in one clear line, exit code 2 and nothing written."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import ones

from slider_core.__main__ import main, parser
from slider_core.config.checks import SliderError
from slider_core.lora.calibration import CalibrationInfo
from slider_core.lora.slider_file import load_slider, save_slider
from slider_core.with_tiny.faces import ATTRIBUTES
from slider_core.with_tiny.model import WIDTH

ROOT = Path(__file__).resolve().parents[2]
PAIRS, SIZE = 2, (64, 64)
FAST = ["--steps", "2", "--rank", "1", "--no-calibration"]
DATA, HUGE = ["demo-data", "--attribute", "mouth", "--out", "{new}"], str(10**30)
LONG = "x" * 300  # longer than a file system takes


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden files too."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def command(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "slider_core", *map(str, args)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset as demo-data writes it."""
    out = tmp_path_factory.mktemp("data") / "smile"
    assert run("demo-data", "--attribute", "mouth", "--pairs", PAIRS, "--out", out) == 0
    return out


@pytest.fixture
def data(tmp_path: Path, shipped: Path) -> Path:
    """That dataset, to be spoilt."""
    for path in shipped.rglob("*.*"):
        copy = tmp_path / "data" / path.relative_to(shipped)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "data"


@pytest.fixture
def slider(tmp_path: Path) -> Path:
    """A slider file for the embedded model, one layer large."""
    stem = "diffusion_model.blocks.0.attn1.to_q"
    factors = {f"{stem}.lora_A.weight": ones(1, WIDTH), f"{stem}.lora_B.weight": 0.01 * ones(WIDTH, 1)}
    save_file(factors, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """(args, code if the error has one, value): checks exit code 2, one line on stderr with the value, and nothing written."""

    def check(args: list, code: str, value: object) -> None:
        line = [str(a) for a in args]
        before = tree(tmp_path)
        chosen = parser().parse_args(line)
        with pytest.raises((SliderError, OSError)) as fault:
            chosen.run(chosen)
        assert not code or fault.value.code == code
        capsys.readouterr()
        assert main(line) == 2
        error = capsys.readouterr().err
        assert str(value) in error
        assert error.startswith("Error: ")
        assert error.endswith("\n")
        assert error.count("\n") == 1
        assert tree(tmp_path) == before

    return check


def test_a_process_ends_with_code_two_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = command("train", "--dataset", tmp_path / "nowhere", "--out", tmp_path / "out" / "s.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert f"{tmp_path}/nowhere" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_wrong_option_is_named_and_ends_with_code_two(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cases = [
        [*DATA, "--pairs", "x"],
        [*DATA, "--pairs", "0"],
        [*DATA, "--seed", HUGE],
        [*DATA, "--seed", "-1"],
        ["sweep", "--slider", "{new}", "--out", "{new}", "--seeds", "two"],
        ["train"],
        ["paint"],
        [],
    ]
    for args in cases:
        try:
            code = main([a.format(new=tmp_path / "new") for a in args])
        except SystemExit as end:  # argparse's own way out
            code = end.code
        error = capsys.readouterr().err
        assert code == 2, args
        assert not args or args[-1] in error
        assert "Traceback" not in error
        assert not list(tmp_path.iterdir())


# --- demo-data


@pytest.mark.parametrize(("attribute", "unpaired"), [*((a, False) for a in ATTRIBUTES), ("mouth", True)])
def test_demo_data_writes_images_and_captions(tmp_path: Path, attribute: str, unpaired: bool) -> None:
    out = tmp_path / "deep" / "er"
    extra = ["--unpaired"] if unpaired else []
    assert run("demo-data", "--attribute", attribute, "--pairs", PAIRS, "--out", out, *extra) == 0
    files = {f"{side}/{n:02}.{end}" for side in ("positive", "negative") for n in range(1, PAIRS + 1) for end in ("png", "txt")}
    assert set(tree(tmp_path)) == {"deep", "deep/er", "deep/er/positive", "deep/er/negative", *(f"deep/er/{f}" for f in files)}
    for number in range(1, PAIRS + 1):
        images = [Image.open(out / side / f"{number:02}.png") for side in ("positive", "negative")]
        captions = [(out / side / f"{number:02}.txt").read_text() for side in ("positive", "negative")]
        assert {(i.size, i.mode) for i in images} == {(SIZE, "RGB")}
        assert images[0].tobytes() != images[1].tobytes()
        if not unpaired and attribute not in ("skin", "background"):
            assert captions[0] == captions[1]


def test_demo_data_depends_on_its_seed_and_pairing_alone(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()  # an empty folder is filled
    for name, *extra in (("a", "--seed", 1), ("b", "--seed", 1), ("c", "--seed", 2), ("u", "--seed", 1, "--unpaired")):
        assert run("demo-data", "--attribute", "eyes", "--pairs", 1, "--out", tmp_path / name, *extra) == 0
    first, same, other, unpaired = (tree(tmp_path / name) for name in "abcu")
    assert first == same != other
    assert first["positive/01.png"] == unpaired["positive/01.png"]
    assert first["negative/01.png"] != unpaired["negative/01.png"]


def test_demo_data_refuses_what_it_cannot_write_or_draw(tmp_path: Path, refused: Callable) -> None:
    refused(["demo-data", "--attribute", "mouht", "--out", tmp_path / "new"], "faces.attribute", '"mouth"')
    (tmp_path / "file").write_text("no folder")
    refused(["demo-data", "--attribute", "mouth", "--out", tmp_path], "file.folder_not_empty", tmp_path)
    for out, code in (("file/far/below", "file.unwritable"), (LONG, "")):
        refused(["demo-data", "--attribute", "mouth", "--out", tmp_path / out], code, tmp_path / out)


# --- train


def spoil(data: Path, fault: str) -> Path:
    """Break the dataset; returns the path that the message must name."""
    negative = data / "negative"
    if fault == "bucket empty":
        for path in negative.glob("*.png"):
            path.unlink()
        return negative
    if fault == "caption":
        (negative / "02.txt").write_bytes(b"\xff\xfe\xff")
        return negative / "02.txt"
    whole = (negative / "02.png").read_bytes()
    (negative / "02.png").write_bytes(whole[: len(whole) // 2])
    return negative / "02.png"


@pytest.mark.parametrize("fault", ["bucket empty", "truncated", "caption"])
def test_train_refuses_a_spoilt_dataset_by_path(
    tmp_path: Path, data: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = spoil(data, fault)
    before = tree(tmp_path)
    assert run("train", "--dataset", data, "--out", tmp_path / "out" / "s.safetensors", *FAST) == 2
    assert str(named) in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_train_refuses_a_choice_by_its_value(data: Path, refused: Callable) -> None:
    cases = [
        ("--objective", "denoise_pared", "objective.unknown", '"denoise_paired"'),
        ("--lr", "nan", "train_spec.lr", "nan"),
        ("--batch", "3", "train_spec.batch", "3"),
    ]
    for option, value, code, named in cases:
        refused(["train", "--dataset", data, "--out", data / "s.safetensors", *FAST, option, value], code, named)


def test_train_refuses_a_place_before_it_trains(tmp_path: Path, data: Path, refused: Callable) -> None:
    (tmp_path / "file.safetensors").write_text("precious")
    train = ["train", "--dataset", data, *FAST, "--out"]
    refused([*train, tmp_path / "file.safetensors"], "file.exists", tmp_path / "file.safetensors")
    refused([*train, tmp_path / "s"], "file.ending", tmp_path / "s")
    refused([*train, tmp_path / "file.safetensors/far/s.safetensors"], "", tmp_path / "file.safetensors/far")
    refused([*train, tmp_path / f"{LONG}.safetensors"], "file.name_too_long", LONG[:60])


def test_train_and_sweep_end_to_end(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "made" / "s.safetensors", tmp_path / "proof"
    assert run("train", "--dataset", data, "--out", file, "--json", "--steps", 3, "--rank", 1) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (trained["steps"], trained["out"], set(trained["explained"])) == (3, str(file), {"positive", "negative"})
    assert trained["calibration"]["passes"] > 0
    with safe_open(file, framework="pt") as opened:
        assert all(key.startswith("diffusion_model.") for key in opened.keys())  # noqa: SIM118 (safe_open is no dict)
        assert opened.metadata()["slider_step"] == "3"
    sweep = ["sweep", "--slider", file, "--seeds", 1, "--strengths=-1,0,1", "--sample-steps", 2, "--json", "--out", out]
    assert run(*sweep) == 0
    swept = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert swept["strengths"] == [-1, 0, 1]
    assert len(swept["mean"]["mouth"]) == 3
    assert set(tree(out)) == {"strip.png", "sweep.json", *(f"seed0_strength{s}.png" for s in ("-1", "0", "+1"))}
    assert json.loads((out / "sweep.json").read_text()) == swept
    assert {Image.open(p).size for p in out.glob("seed0*")} == {SIZE}


def test_train_takes_a_dataset_file_and_its_choices(tmp_path: Path, data: Path) -> None:
    backends = []
    for side, strength in (("positive", 0.5), ("negative", -0.5)):
        backends.append({"id": side, "instance_data_dir": f"data/{side}", "slider_strength": strength})
    (tmp_path / "data.json").write_text(json.dumps(backends), encoding="utf-8")
    out = tmp_path / "s.safetensors"
    assert run("train", "--dataset", tmp_path / "data.json", "--out", out, *FAST) == 0
    assert load_slider(out).info.trained_strengths == (-0.5, 0.5)
    choices = ["--flip", "--pairing", "random", "--crop", "random", "--trigger", "sks"]
    assert run("train", "--dataset", data, "--out", tmp_path / "t.safetensors", *FAST, *choices) == 0


# --- sweep


def test_a_sweep_names_the_strengths_beyond_the_useful_range(
    tmp_path: Path, slider: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_slider(slider)
    info = replace(found.info, range=(-1.0, 1.02), judged="works", calibration=CalibrationInfo(calibrated=True, unit=1.0))
    file, out = tmp_path / "works.safetensors", tmp_path / "out"
    save_slider(file, replace(found, info=info))
    sweep = ["sweep", "--seeds", 1, "--strengths=-2,-1,0,1,2", "--sample-steps", 1, "--out", out]
    said = []
    for options in (["--slider", file], ["--slider", file, "--raw"], ["--slider", slider]):
        assert run(*sweep, *options) == 0
        said.append(capsys.readouterr().out)
    assert "Strengths -2 and +2: beyond the useful range -1.0 to +1.0." in said[0]
    assert ["beyond" in text for text in said] == [True, False, False]
    library = tmp_path / "prompts.json"
    library.write_text(json.dumps({"near": "a face", "far": {"prompt": "a face", "adapter_strength": 1.5}}), encoding="utf-8")
    assert run(*sweep, "--slider", file, "--prompts", library) == 0
    assert "Strength +1.5: beyond the useful range -1.0 to +1.0." in capsys.readouterr().out


def test_sweep_refuses_a_choice_by_its_value(tmp_path: Path, slider: Path, refused: Callable) -> None:
    cases = [
        ("--strengths", "1,two", "strengths.not_a_number", '"two"'),
        ("--strengths", "1,1", "sweep.strengths_twice", "1,1"),
        ("--cfg", "nan", "sweep_spec.cfg", "nan"),
    ]
    for option, value, code, named in cases:
        refused(["sweep", "--slider", slider, "--out", tmp_path / "new", option, value], code, named)


def test_sweep_refuses_what_it_cannot_read_place_or_write(
    tmp_path: Path, slider: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slider_core.commands.sweep.measured_sweep", None)
    (tmp_path / "file.safetensors").write_text("no slider")
    other = tmp_path / "other.safetensors"
    save_file({f"diffusion_model.input_blocks.0.0.lora_{n}.weight": ones(1, 1) for n in "AB"}, other)
    for source, out, named in (
        (tmp_path / "file.safetensors", "new", "file.safetensors"),
        (tmp_path / "none.safetensors", "new", "none.safetensors"),
        (other, "new", "input_blocks.0.0"),
        (slider, "file.safetensors", "file.safetensors"),
        (slider, "file.safetensors/below", "file.safetensors"),
    ):
        assert run("sweep", "--slider", source, "--out", tmp_path / out) == 2
        assert named in capsys.readouterr().err
    assert len(tree(tmp_path)) == 3


def test_a_prompt_library_is_drawn_at_each_entrys_strength(
    tmp_path: Path, slider: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, out = tmp_path / "prompts.json", tmp_path / "out"
    entries = {
        "plain": "a face",
        "to/minus": {"prompt": "a face", "adapter_strength": -2},
        "base": {"prompt": "a face", "adapter_strength": 0},
    }
    library.write_text(json.dumps(entries), encoding="utf-8")
    options = ["--prompts", library, "--strength", 0, "--seeds", 1, "--sample-steps", 1, "--out", out, "--json"]
    assert run("sweep", "--slider", slider, *options) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [entry["strength"] for entry in report["entries"].values()] == [0, -2, 0]
    names = ["001_plain_seed0.png", "002_to_minus_seed0.png", "003_base_seed0.png"]
    assert set(tree(out)) == {"prompts.png", "prompts.json", *names}
    plain, minus, base = (Image.open(out / name).tobytes() for name in names)
    assert plain == base != minus


# --- export, doctor


@pytest.mark.parametrize("form", ["peft", "lycoris", "kohya"])
def test_export_to_every_format_and_back(tmp_path: Path, slider: Path, form: str) -> None:
    out = tmp_path / ("folder" if form == "peft" else "out.safetensors")
    export = ["export", "--slider", slider, "--format", form, "--out", out]
    assert [run(*export), run(*export), run(*export, "--overwrite")] == [0, 2, 0]
    back = tmp_path / "back.safetensors"
    assert run("export", "--slider", out, "--out", back) == 0
    before, after = load_slider(slider).weights, load_slider(back).weights
    assert before.keys() == after.keys()
    assert all(after[target].delta().allclose(weight.delta()) for target, weight in before.items())


def test_doctor_names_what_is_wrong_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable) -> None:
    faces = tmp_path / "data"
    assert run("demo-data", "--attribute", "mouth", "--pairs", 5, "--out", faces) == 0
    assert run("doctor", faces, "--out", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 300
    for side, other in (("positive", "aside"), ("negative", "positive"), ("aside", "negative")):
        (faces / other).mkdir(exist_ok=True)
        (faces / side / "03.png").rename(faces / other / "03.png")
    (faces / "aside").rmdir()
    capsys.readouterr()
    assert run("doctor", faces, "--json") == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["pairs"] == 5
    assert any("03" in line for line in report["findings"])
    assert run("doctor", faces) == 0
    assert "\nPair doctor: 1 pair needs a look: 03.png. 5 pairs, " in capsys.readouterr().out
    refused(["doctor", faces, "--out", tmp_path / "sheet"], "file.ending", tmp_path / "sheet")
