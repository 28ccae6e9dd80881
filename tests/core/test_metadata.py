"""A file says of itself what a slider needs said, in strings that any viewer reads, with no path of anyone's machine in it."""

import base64
import hashlib
import io
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from slider_core.config.lora import AdapterSpec, FileDtype, FileFormat
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.layers.layer import Target
from slider_core.lora.info import FORMAT, THUMBNAIL, THUMBNAIL_BYTES, TOOL, summary, thumbnail
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_WEIGHTS, Slider, load_slider, save_slider
from slider_core.train.training_run import Run
from slider_core.with_tiny.faces_pairs import SHIPPED_PAIRS
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.smile_demo import train_tiny

STEPS = 2
SPEC = AdapterSpec(rank=3, alpha=1.5, preset="custom", patterns=(r"^blocks\.0\.attn1\.to_[qk]$", "^proj_in$"))
OURS = {
    "slider_name",
    "slider_minus",
    "slider_plus",
    "slider_range",
    "slider_calibration",
    "slider_model",
    "slider_targets",
    "slider_rows",
    "slider_adapter",
    "slider_algorithm",
    "slider_training",
    "slider_step",
    "slider_images",
    "slider_trained_strengths",
    "slider_dataset",
    "slider_explained",
    "slider_verdict",
    "slider_tool",
    "slider_file",
    "slider_file_format",
}
STANDARD = {
    "modelspec.sai_model_spec",
    "modelspec.architecture",
    "modelspec.implementation",
    "modelspec.title",
    "modelspec.description",
    "modelspec.date",
    "modelspec.hash_sha256",
    "modelspec.thumbnail",
}
KOHYA = {
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
    "ss_learning_rate",
    "ss_max_train_steps",
    "ss_steps",
    "ss_seed",
    "ss_num_train_images",
    "ss_output_name",
    "ss_base_model_version",
    "ss_mixed_precision",
    "sshs_model_hash",
    "sshs_legacy_hash",
}
PATHS = re.compile(r"(?:^|[\s\"'=(:])(?:/(?:home|root|tmp|work|Users|var|mnt|usr)\b|[A-Za-z]:\\|~/|\\\\)")


@pytest.fixture(scope="module")
def run(backend: TinyBackend) -> Run:
    return train_tiny(backend, "smile", read_dataset(bucket_folders(SHIPPED_PAIRS)), SPEC, TrainSpec(steps=STEPS, seed=7))


@pytest.fixture
def slider(run: Run) -> Slider:
    told = {"slider_minus": "sad", "slider_plus": "smiling", "modelspec.thumbnail": thumbnail(noise(200, 80))}
    return Slider(run.slider().weights, run.slider().metadata | told)


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 200).convert("RGB")


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def saved(tmp_path: Path, slider: Slider, form: FileFormat = FileFormat.NATIVE, dtype: FileDtype = FileDtype.FP32) -> Path:
    path = tmp_path / f"{form.value} {dtype.value}.safetensors"
    save_slider(path, slider, dtype, form=form)
    return path / PEFT_WEIGHTS if form is FileFormat.PEFT else path


def bytes_after_the_header(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.parametrize("form", [FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS, FileFormat.PEFT])
def test_a_header_tells_all_that_a_slider_needs_told(tmp_path: Path, slider: Slider, form: FileFormat) -> None:
    told = header(saved(tmp_path, slider, form))
    assert not {key for key in OURS | STANDARD | KOHYA if not told.get(key)}
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in told.items())


def test_what_it_tells_is_true(tmp_path: Path, slider: Slider, run: Run, backend: TinyBackend) -> None:
    told = header(saved(tmp_path, slider, dtype=FileDtype.BF16))
    dataset = read_dataset(bucket_folders(SHIPPED_PAIRS))
    pairs = len(dataset.pairs)
    assert (told["slider_name"], told["slider_minus"], told["slider_plus"]) == ("smile", "sad", "smiling")
    assert told["modelspec.title"] == told["ss_output_name"] == "smile"
    assert "sad" in told["modelspec.description"]
    assert "smiling" in told["modelspec.description"]
    assert json.loads(told["slider_range"]) == [-1.0, 1.0]
    assert json.loads(told["slider_calibration"])["calibrated"] is False
    assert told["slider_model"] == backend.name
    assert json.loads(told["slider_targets"]) == ["proj_in", "blocks.0.attn1.to_q", "blocks.0.attn1.to_k"]
    assert AdapterSpec.from_json(told["slider_adapter"]) == SPEC
    assert TrainSpec.from_json(told["slider_training"]) == TrainSpec(steps=STEPS, seed=7)
    assert told["slider_algorithm"] == "lora"
    assert told["slider_step"] == told["ss_steps"] == told["ss_max_train_steps"] == str(STEPS)
    assert json.loads(told["slider_images"]) == {"positive": pairs, "negative": pairs, "neutral": 0}
    assert json.loads(told["slider_trained_strengths"]) == [-1.0, 1.0]
    assert int(told["ss_num_train_images"]) == 2 * pairs
    assert told["slider_dataset"] == dataset.digest
    assert told["slider_tool"] == TOOL
    assert told["slider_file"] == FORMAT
    assert (told["ss_network_dim"], told["ss_network_alpha"], told["ss_network_module"]) == ("3", "1.5", "networks.lora")
    assert (told["ss_seed"], told["ss_mixed_precision"]) == ("7", "bf16")
    assert abs(time.mktime(time.strptime(told["modelspec.date"], "%Y-%m-%d")) - time.time()) < 3 * 24 * 3600
    assert float(told["ss_loss/average"]) == pytest.approx(sum(run.trainer.losses) / STEPS, abs=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "module", "arguments"),
    [
        ("rslora", "networks.lora", {}),
        ("dora", "lycoris.kohya", {"algo": "lora", "dora_wd": True}),
        ("lokr", "lycoris.kohya", {"algo": "lokr"}),
        ("full", "lycoris.kohya", {"algo": "full"}),
    ],
)
def test_kohyas_fields_name_the_kind_of_network(
    backend: TinyBackend, tmp_path: Path, algorithm: str, module: str, arguments: dict
) -> None:
    spec = AdapterSpec(preset="custom", patterns=("^proj_out$",), algorithm=algorithm)
    run = train_tiny(backend, "x", read_dataset(bucket_folders(SHIPPED_PAIRS)), spec, TrainSpec(steps=1))
    told = header(saved(tmp_path, run.slider()))
    assert (told["ss_network_module"], json.loads(told["ss_network_args"])) == (module, arguments)
    assert told["slider_algorithm"] == algorithm


def test_no_value_holds_a_path_of_this_machine(tmp_path: Path, slider: Slider) -> None:
    told = header(saved(tmp_path, slider))
    for key, value in told.items():
        assert str(tmp_path) not in value, key
        assert str(SHIPPED_PAIRS) not in value, key
        assert not PATHS.search(value), f"{key}: {value[:80]}"
    assert PATHS.search('{"folder": "/home/me/pictures"}'), "the search finds one"


@pytest.mark.parametrize("dtype", FileDtype)
@pytest.mark.parametrize("form", [FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS, FileFormat.PEFT])
def test_the_hash_is_that_of_the_files_own_bytes(tmp_path: Path, slider: Slider, form: FileFormat, dtype: FileDtype) -> None:
    path = saved(tmp_path, slider, form, dtype)
    told, digest = header(path), hashlib.sha256(bytes_after_the_header(path)).hexdigest()
    assert told["sshs_model_hash"] == digest
    assert told["modelspec.hash_sha256"] == f"0x{digest}"
    assert told["sshs_legacy_hash"] == digest[:8]


def test_the_hash_depends_on_the_weights_alone(tmp_path: Path, slider: Slider) -> None:
    one = header(saved(tmp_path, slider))["sshs_model_hash"]
    renamed = Slider(dict(reversed(slider.weights.items())), {"slider_name": "other"})
    (tmp_path / "again").mkdir()
    assert header(saved(tmp_path / "again", renamed))["sshs_model_hash"] == one
    next(iter(slider.weights.values())).tensors["lora_up.weight"][0, 0] += 1
    (tmp_path / "moved").mkdir()
    assert header(saved(tmp_path / "moved", slider))["sshs_model_hash"] != one


def test_saving_again_in_another_format_keeps_what_is_said_and_nothing_stale(tmp_path: Path, slider: Slider) -> None:
    first = saved(tmp_path, slider)
    again = load_slider(first)
    second = saved(tmp_path, again, FileFormat.KOHYA, FileDtype.FP16)
    before, after = header(first), header(second)
    assert after["slider_file_format"] == "kohya"
    assert after["ss_mixed_precision"] == "fp16"
    assert after["sshs_model_hash"] == hashlib.sha256(bytes_after_the_header(second)).hexdigest() != before["sshs_model_hash"]
    kept = ("slider_name", "slider_minus", "slider_plus", "slider_training", "slider_dataset", "modelspec.thumbnail", "ss_seed")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    fewer = dict(list(again.weights.items())[:1])
    third = header(saved(tmp_path, Slider(fewer, again.metadata), FileFormat.LYCORIS))
    assert json.loads(third["slider_targets"]) == [str(t) for t in fewer]
    assert third["slider_file_format"] == "lycoris"


def test_a_lycoris_file_that_goes_native_again_is_not_taken_for_one(tmp_path: Path, backend: TinyBackend) -> None:
    """Its dora_scale is of another kind, and the header says which."""
    spec = AdapterSpec(preset="custom", patterns=("^proj_out$",), algorithm="dora")
    run = train_tiny(backend, "x", read_dataset(bucket_folders(SHIPPED_PAIRS)), spec, TrainSpec(steps=1))
    native = load_slider(saved(tmp_path, run.slider()))
    told = header(saved(tmp_path, Slider(run.slider().weights, native.metadata), FileFormat.LYCORIS))
    assert told["slider_file_format"] == "lycoris"
    assert native.metadata["slider_file_format"] == "native"


def test_a_strangers_header_does_not_speak_for_our_file(tmp_path: Path, slider: Slider) -> None:
    stale = {
        "ss_network_dim": "999",
        "ss_network_alpha": "999",
        "ss_network_module": "networks.other",
        "sshs_model_hash": "old",
        "modelspec.hash_sha256": "0xold",
        "slider_rows": '{"proj_in": [[0, 1]]}',
        "ss_dataset_dirs": '{"/home/them/pictures": {"n_repeats": 1}}',
        "ss_sd_model_name": "C:\\\\models\\\\theirs.safetensors",
    }
    told = header(saved(tmp_path, Slider(slider.weights, stale | {"modelspec.title": "theirs"})))
    assert told["modelspec.title"] == told["ss_output_name"] == "theirs", "its name stays"
    assert not {key for key, value in stale.items() if told.get(key) == value}
    assert not any(PATHS.search(value) for value in told.values())


@pytest.mark.parametrize("size", [(2000, 900), (900, 2000), (64, 64), (1, 1), (640, 256)], ids=str)
def test_a_thumbnail_is_a_small_jpeg(size: tuple[int, int]) -> None:
    start, _, data = thumbnail(noise(*size)).partition(",")
    content = base64.b64decode(data, validate=True)
    assert start == "data:image/jpeg;base64"
    assert len(content) <= THUMBNAIL_BYTES == 64 * 1024
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert picture.width <= THUMBNAIL[0]
        assert picture.height <= THUMBNAIL[1]


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "CMYK"])
def test_a_picture_of_any_mode_becomes_a_thumbnail(mode: str) -> None:
    assert thumbnail(Image.new(mode, (40, 30))).startswith("data:image/jpeg;base64,")


def test_a_file_in_a_few_lines(tmp_path: Path, slider: Slider) -> None:
    back = load_slider(saved(tmp_path, slider))
    text = summary(back.metadata, back.weights, ["te1", "te2"])
    assert "smile: lora on 3 layers, rank 3, alpha 1.5." in text
    assert "-1: sad; +1: smiling." in text
    assert "for: tiny" in text
    assert "2 layers of a text encoder were left out" in text
    assert summary({}, back.weights).startswith("LoRA: lora on 3 layers")


def test_the_slices_of_a_header_are_those_of_the_weights(tmp_path: Path, backend: TinyBackend) -> None:
    targets = [Target("modulation", (0, 128)), Target("modulation", (256, 384)), Target("proj_in")]
    path = saved(tmp_path, Slider(Adapter.create(backend.module, targets, AdapterSpec()).weights()))
    assert json.loads(header(path)["slider_rows"]) == {"modulation": [[0, 128], [256, 384]]}
    assert json.loads(header(path)["slider_targets"]) == ["modulation[0:128]", "modulation[256:384]", "proj_in"]
    assert set(load_slider(path).weights) == set(targets)
