"""python -m slider_core: the whole way works, and bad input ends in one clear line, exit code 2 and nothing written."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import ones

from slider_core.__main__ import main
from slider_core.lora.slider_file import load_slider
from slider_core.with_tiny.faces import ATTRIBUTES
from slider_core.with_tiny.model import WIDTH

ROOT = Path(__file__).resolve().parents[2]
PAIRS, SIZE = 2, (64, 64)
FAST = ["--steps", "4", "--rank", "1"]
DATA, HUGE = ["demo-data", "--attribute", "mouth", "--out", "{new}"], str(10**30)
LONG = "x" * 300  # longer than a file system takes


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden files too."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def command(*args: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "slider_core", *map(str, args)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset as demo-data writes it."""
    out = tmp_path_factory.mktemp("data") / "smile"
    assert main(["demo-data", "--attribute", "mouth", "--pairs", str(PAIRS), "--out", str(out)]) == 0
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
    save_file(
        {f"{stem}.lora_A.weight": ones(1, WIDTH), f"{stem}.lora_B.weight": 0.01 * ones(WIDTH, 1)}, tmp_path / "s.safetensors"
    )
    return tmp_path / "s.safetensors"


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """(args, part of the message): checks exit code 2, one line on stderr with that part, and that nothing was written."""

    def check(args: list, message: object) -> None:
        before = tree(tmp_path)
        capsys.readouterr()
        assert main([str(a) for a in args]) == 2
        error = capsys.readouterr().err
        assert str(message) in error
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        assert tree(tmp_path) == before

    return check


def test_help_names_every_command() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("demo", "demo-data", "train", "sweep"))


def test_a_process_ends_with_code_two_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = command("train", "--dataset", tmp_path / "nowhere", "--out", tmp_path / "out" / "s.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: Dataset folder not found: {tmp_path}/nowhere.")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("unpaired", [False, True], ids=["aligned", "unpaired"])
def test_demo_data_writes_images_and_captions(tmp_path: Path, attribute: str, unpaired: bool) -> None:
    out = tmp_path / "deep" / "er"
    extra = ["--unpaired"] if unpaired else []
    assert main(["demo-data", "--attribute", attribute, "--pairs", str(PAIRS), "--out", str(out), *extra]) == 0
    files = {f"{side}/{n:02}.{end}" for side in ("positive", "negative") for n in range(1, PAIRS + 1) for end in ("png", "txt")}
    assert set(tree(tmp_path)) == {"deep", "deep/er", "deep/er/positive", "deep/er/negative", *(f"deep/er/{f}" for f in files)}
    for number in range(1, PAIRS + 1):
        images = [Image.open(out / side / f"{number:02}.png") for side in ("positive", "negative")]
        captions = [(out / side / f"{number:02}.txt").read_text() for side in ("positive", "negative")]
        assert {(i.size, i.mode) for i in images} == {(SIZE, "RGB")}
        assert images[0].tobytes() != images[1].tobytes()
        assert all(c.startswith("a face with ") for c in captions)
        if not unpaired and attribute not in ("skin", "background"):
            assert captions[0] == captions[1]


def test_demo_data_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["demo-data", "--attribute", "eyes", "--pairs", "1", "--seed", seed, "--out", str(tmp_path / name)]) == 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b") != tree(tmp_path / "c")


def test_unpaired_data_keeps_one_side_and_draws_the_other_anew(tmp_path: Path) -> None:
    for name, extra in (("a", []), ("u", ["--unpaired"])):
        assert main(["demo-data", "--attribute", "mouth", "--pairs", "1", "--out", str(tmp_path / name), *extra]) == 0
    aligned, unpaired = tree(tmp_path / "a"), tree(tmp_path / "u")
    assert aligned["positive/01.png"] == unpaired["positive/01.png"]
    assert aligned["negative/01.png"] != unpaired["negative/01.png"]


def test_demo_data_refuses_a_folder_that_is_not_empty(tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused(["demo-data", "--attribute", "mouth", "--out", tmp_path], f"Folder is not empty: {tmp_path}")


def test_demo_data_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["demo-data", "--attribute", "mouth", "--pairs", "1", "--out", str(tmp_path / "empty")]) == 0
    assert (tmp_path / "empty" / "positive" / "01.png").is_file()


def test_demo_data_refuses_an_unknown_attribute(tmp_path: Path, refused: Callable) -> None:
    message = '"mouht" is not of this world; did you mean "mouth"?'
    refused(["demo-data", "--attribute", "mouht", "--out", tmp_path / "new"], message)


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below", LONG], ids=["file", "below", "far below", "long name"])
def test_demo_data_refuses_a_place_that_cannot_be_written(tmp_path: Path, refused: Callable, out: str) -> None:
    (tmp_path / "file").write_text("no folder")
    refused(["demo-data", "--attribute", "mouth", "--out", tmp_path / out], tmp_path / out)


def spoil(data: Path, fault: str) -> Path:
    """Break the dataset; returns the path that the message must name."""
    negative = data / "negative"
    if fault == "folder missing":
        for path in negative.iterdir():
            path.unlink()
        negative.rmdir()
        return negative
    if fault == "bucket empty":
        for path in negative.glob("*.png"):
            path.unlink()
        return negative
    if fault == "unequal":
        (negative / "02.png").unlink()
        return negative
    if fault == "truncated":
        whole = (negative / "02.png").read_bytes()
        (negative / "02.png").write_bytes(whole[: len(whole) // 2])
    elif fault == "no image":
        (negative / "02.png").write_text("no image at all")
    elif fault == "caption":
        (negative / "02.txt").write_bytes(b"\xff\xfe\xff")
        return negative / "02.txt"
    return negative / "02.png"


@pytest.mark.parametrize("fault", ["folder missing", "bucket empty", "unequal", "truncated", "no image", "caption"])
def test_train_refuses_a_spoilt_dataset_by_path(tmp_path: Path, data: Path, refused: Callable, fault: str) -> None:
    named = spoil(data, fault)
    refused(["train", "--dataset", data, "--out", tmp_path / "out" / "s.safetensors", *FAST], named)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--objective", "denoise_pared", '"denoise_pared" is not known; did you mean "denoise_paired"?'),
        ("--lr", "-1", "lr must be a positive number up to 10, got -1.0"),
        ("--lr", "nan", "got nan"),
        ("--lr", "1e38", "got 1e+38"),
        ("--batch", "3", "batch must be even"),
    ],
)
def test_train_refuses_a_choice_by_its_value(
    tmp_path: Path,
    data: Path,
    refused: Callable,
    option: str,
    value: str,
    message: str,
) -> None:
    refused(["train", "--dataset", data, "--out", tmp_path / "out" / "s.safetensors", *FAST, option, value], message)


def test_train_refuses_an_existing_file_before_it_trains(
    tmp_path: Path, data: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slider_core.with_tiny.smile_demo.trained", None)
    (tmp_path / "s.safetensors").write_text("precious")
    refused(["train", "--dataset", data, "--out", tmp_path / "s.safetensors", *FAST], f"File exists: {tmp_path}/s.safetensors")


@pytest.mark.parametrize(
    "out",
    ["file/s.safetensors", "file/far/s.safetensors", f"{LONG}.safetensors", f"{LONG}/s.safetensors"],
    ids=["below a file", "far below a file", "long name", "long folder"],
)
def test_train_refuses_a_place_that_cannot_be_written_before_it_trains(
    tmp_path: Path,
    data: Path,
    refused: Callable,
    out: str,
) -> None:
    (tmp_path / "file").write_text("no folder")
    refused(["train", "--dataset", data, "--out", tmp_path / out, *FAST], tmp_path / out.split("/s.")[0])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--strengths", "1,two", 'Strength "two" is not a number'),
        ("--strengths", "", "No strengths were given"),
        ("--strengths", "0:1:0", '"0:1:0" never arrives'),
        ("--cfg", "nan", "cfg must be a number, got nan"),
    ],
)
def test_sweep_refuses_a_choice_by_its_value(
    tmp_path: Path,
    slider: Path,
    refused: Callable,
    option: str,
    value: str,
    message: str,
) -> None:
    refused(["sweep", "--slider", slider, "--out", tmp_path / "new", option, value], message)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_sweep_refuses_a_place_that_cannot_be_written_before_it_samples(
    tmp_path: Path, slider: Path, refused: Callable, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slider_core.with_tiny.model_sweep.measured_sweep", None)
    (tmp_path / "file").write_text("no folder")
    refused(["sweep", "--slider", slider, "--out", tmp_path / out], tmp_path / out)


def test_sweep_refuses_a_file_that_is_no_slider(tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "text.safetensors").write_text("no slider")
    for name in ("text.safetensors", "none.safetensors"):
        refused(["sweep", "--slider", tmp_path / name, "--out", tmp_path / "new"], tmp_path / name)


def test_sweep_refuses_a_slider_of_another_model_by_its_layer(tmp_path: Path, refused: Callable) -> None:
    state = {f"diffusion_model.input_blocks.0.0.lora_{n}.weight": ones(1, 1) for n in "AB"}
    save_file(state, tmp_path / "other.safetensors")
    refused(
        ["sweep", "--slider", tmp_path / "other.safetensors", "--out", tmp_path / "new"],
        "(input_blocks.0.0): it is for another model",
    )


@pytest.mark.parametrize(
    "args",
    [
        [*DATA, "--pairs", "x"],
        [*DATA, "--pairs", "0"],
        [*DATA, "--seed", HUGE],
        [*DATA, "--seed", "1.5"],
        [*DATA, "--seed", "-1"],
        ["demo", "--out", "{new}", "--seed", HUGE],
        ["demo", "--out", "{new}", "--steps", "-1"],
        ["train", "--dataset", "{new}", "--out", "{new}", "--rank", "0"],
        ["sweep", "--slider", "{new}", "--out", "{new}", "--seeds", "two"],
        ["train"],
        ["paint"],
        [],
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_named_and_ends_with_code_two(tmp_path: Path, capsys: pytest.CaptureFixture, args: list[str]) -> None:
    try:
        code = main([a.format(new=tmp_path / "new") for a in args])
    except SystemExit as end:  # argparse's own way out
        code = end.code
    error = capsys.readouterr().err
    assert code == 2
    assert not args or args[-1] in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_train_and_sweep_end_to_end(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "made" / "s.safetensors", tmp_path / "proof"
    assert main(["train", "--dataset", str(data), "--out", str(file), "--json", *FAST]) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (trained["steps"], trained["out"], set(trained["explained"])) == (4, str(file), {"positive", "negative"})
    with safe_open(file, framework="pt") as opened:
        assert all(key.startswith("diffusion_model.") for key in opened.keys())  # noqa: SIM118 (safe_open is no dict)
        assert opened.metadata()["slider_step"] == "4"
    sweep = ["sweep", "--slider", file, "--seeds", "1", "--strengths=-1,0,1", "--sample-steps", "2", "--json", "--out", out]
    assert main([str(word) for word in sweep]) == 0
    swept = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert swept["strengths"] == [-1, 0, 1]
    assert len(swept["mean"]["mouth"]) == 3
    assert set(tree(out)) == {"strip.png", "sweep.json", *(f"seed0_strength{s}.png" for s in ("-1", "0", "+1"))}
    assert json.loads((out / "sweep.json").read_text()) == swept
    assert {Image.open(p).size for p in out.glob("seed0*")} == {SIZE}


def test_a_prompt_library_is_drawn_at_each_entrys_strength(
    tmp_path: Path, slider: Path, refused: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    library, out = tmp_path / "prompts.json", tmp_path / "out"
    entries = {
        "plain": "a face",
        "to/minus": {"prompt": "a face", "adapter_strength": -2},
        "base": {"prompt": "a face", "adapter_strength": 0},
    }
    library.write_text(json.dumps(entries), encoding="utf-8")
    options = [
        "sweep",
        "--slider",
        slider,
        "--prompts",
        library,
        "--strength",
        "0",
        "--seeds",
        "1",
        "--sample-steps",
        "1",
        "--out",
        out,
    ]
    assert main([*map(str, options), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [entry["strength"] for entry in told["entries"].values()] == [0, -2, 0]
    names = ["001_plain_seed0.png", "002_to_minus_seed0.png", "003_base_seed0.png"]
    assert set(tree(out)) == {"prompts.png", "prompts.json", *names}
    plain, minus, base = (Image.open(out / name).tobytes() for name in names)
    assert plain == base != minus
    library.write_text('{"a": {"prompt": "x", "strength": 1}}', encoding="utf-8")
    refused([*options[:-1], tmp_path / "new"], f'{library}: entry "a" has no field "strength"')


def test_the_same_seed_trains_the_same_slider_and_another_another(tmp_path: Path, data: Path) -> None:
    sliders = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        file = tmp_path / name / "s.safetensors"
        assert main(["train", "--dataset", str(data), "--out", str(file), *FAST, "--seed", seed]) == 0
        sliders.append({key: value.tolist() for key, value in load_file(file).items()})
    assert sliders[0] == sliders[1] != sliders[2]


@pytest.mark.parametrize("algorithm", ["lora", "dora"])
@pytest.mark.parametrize("form", ["peft", "lycoris", "kohya"])
def test_export_to_every_format_again_and_again(tmp_path: Path, data: Path, algorithm: str, form: str) -> None:
    file = tmp_path / "s.safetensors"
    assert main(["train", "--dataset", str(data), "--out", str(file), *FAST, "--algorithm", algorithm]) == 0
    out = tmp_path / ("folder" if form == "peft" else "out.safetensors")
    export = ["export", "--slider", str(file), "--format", form, "--out", str(out)]
    assert [main(export), main(export), main([*export, "--overwrite"])] == [0, 2, 0]
    back = tmp_path / "back.safetensors"
    assert main(["export", "--slider", str(out), "--out", str(back)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["doctor", "{data}", "--out", "{new}/sheet"], "does not end in .png"),
        (["train", "--dataset", "{data}", "--out", "{new}/s"], "does not end in .safetensors"),
        (["export", "--slider", "{data}", "--out", "{new}/s.safetensors"], "holds no adapter_model.safetensors"),
        (["doctor", "{data}/none.json"], "Dataset file not found"),
        (["doctor", "{data}/positive/01.png"], "neither a folder nor a dataset file"),
    ],
)
def test_a_file_of_the_wrong_kind_is_told_before_the_work(
    tmp_path: Path, data: Path, refused: Callable[..., None], words: list[str], message: str
) -> None:
    refused([word.format(data=data, new=tmp_path) for word in words], message)


# --- datasets


def test_doctor_says_what_is_wrong_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = tmp_path / "data"
    assert main(["demo-data", "--attribute", "mouth", "--pairs", "5", "--out", str(faces)]) == 0
    assert main(["doctor", str(faces), "--out", str(tmp_path / "sheet.png")]) == 0
    assert "Nothing found that would hurt." in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 300
    for side, other in (("positive", "kept"), ("negative", "positive"), ("kept", "negative")):
        (faces / other).mkdir(exist_ok=True)
        (faces / side / "03.png").rename(faces / other / "03.png")
    (faces / "kept").rmdir()
    assert main(["doctor", str(faces), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["pairs"] == 5
    assert any("wrong way round" in line and "03" in line for line in found["findings"])


def test_train_takes_a_dataset_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo-data", "--attribute", "mouth", "--pairs", "4", "--out", str(tmp_path / "d")]) == 0
    backends = [
        {"id": side, "instance_data_dir": f"d/{side}", "slider_strength": s}
        for side, s in (("positive", 0.5), ("negative", -0.5))
    ]
    (tmp_path / "data.json").write_text(json.dumps(backends), encoding="utf-8")
    out = tmp_path / "s.safetensors"
    assert main(["train", "--dataset", str(tmp_path / "data.json"), "--steps", "2", "--out", str(out)]) == 0
    assert load_slider(out).info.trained_strengths == (-0.5, 0.5)


@pytest.mark.parametrize("options", [["--flip"], ["--pairing", "random"], ["--crop", "random"], ["--trigger", "sks"]])
def test_train_takes_the_choices_of_a_dataset(options: list[str], tmp_path: Path) -> None:
    assert main(["demo-data", "--attribute", "mouth", "--pairs", "4", "--out", str(tmp_path / "d")]) == 0
    out = tmp_path / "s.safetensors"
    assert main(["train", "--dataset", str(tmp_path / "d"), "--steps", "2", "--out", str(out), *options]) == 0
    assert out.is_file()
