"""What a file says of itself: true, readable in any viewer, the same after another save, and no path of anyone's machine."""

import base64
import hashlib
import io
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, FileDtype, FileFormat
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.layers.layer import Target
from slider_core.lora.calibration import CalibrationInfo
from slider_core.lora.even_steps import EvenSteps
from slider_core.lora.file_left_out import LeftOut, Reason
from slider_core.lora.formats.native import Place
from slider_core.lora.info import FORMAT, TOOL, SliderInfo
from slider_core.lora.same_slider import Holds, holds
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_WEIGHTS, Slider, load_slider, save_slider
from slider_core.lora.thumbnail import MOST_BYTES, SIZE, thumbnail
from slider_core.train.training_run import Run
from slider_core.train.trainings import Session
from slider_core.train.trainings_driver import TrainingRequest, begin, train
from slider_core.with_tiny.faces_pairs import SHIPPED_PAIRS
from slider_core.with_tiny.model import TinyBackend

STEPS = 2
SPEC = AdapterSpec(rank=3, alpha=1.5, preset="custom", patterns=(r"^blocks\.0\.attn1\.to_[qk]$", "^proj_in$"))
FORMS = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS, FileFormat.PEFT)
PATHS = re.compile(r"(?:^|[\s\"'=(:])(?:/(?:home|root|tmp|work|Users|var|mnt|usr)\b|[A-Za-z]:\\|~/|\\\\)")
MEASURED = CalibrationInfo(True, "what the images show", 1.25, 90, 1.0, 1.5, ((1.0, 0.5),), ((1.5, 0.4), (3.0, 0.1)), 1.5)


@pytest.fixture(scope="module")
def run(backend: TinyBackend) -> Run:
    dataset = read_dataset(bucket_folders(SHIPPED_PAIRS))
    run = begin(Session(), backend, TrainingRequest("smile", dataset, SPEC, TrainSpec(steps=STEPS, seed=7)))
    train(run, backend, STEPS)
    return run


@pytest.fixture
def slider(run: Run) -> Slider:
    slider = run.slider()
    return replace(slider, info=replace(slider.info, minus="sad", plus="smiling", thumbnail=thumbnail(noise(200, 80))))


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 200).convert("RGB")


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def saved(tmp_path: Path, slider: Slider, form: FileFormat = FileFormat.NATIVE, dtype: FileDtype = FileDtype.FP32) -> Path:
    path = tmp_path / f"{form.value} {dtype.value}.safetensors"
    save_slider(path, slider, dtype, form=form, overwrite=True)
    return path / PEFT_WEIGHTS if form is FileFormat.PEFT else path


@pytest.mark.parametrize(("form", "dtype"), list(zip(FORMS, [*FileDtype, FileDtype.FP32], strict=True)))
def test_a_header_is_true_and_holds_no_path(
    tmp_path: Path, slider: Slider, run: Run, backend: TinyBackend, form: FileFormat, dtype: FileDtype
) -> None:
    path = saved(tmp_path, slider, form, dtype)
    fields, dataset = header(path), read_dataset(bucket_folders(SHIPPED_PAIRS))
    pairs = len(dataset.pairs)
    expected = {
        "slider_name": "smile",
        "slider_minus": "sad",
        "slider_plus": "smiling",
        "slider_model": backend.name,
        "slider_adapter": SPEC.to_json(),
        "slider_training": TrainSpec(steps=STEPS, seed=7, jitter=1 / 16, timesteps="model").to_json(),  # as they were found
        "slider_algorithm": "lora",
        "slider_step": str(STEPS),
        "slider_dataset": dataset.digest,
        "slider_tool": TOOL,
        "slider_file": FORMAT,
        "slider_file_format": form.value,
        "modelspec.title": "smile",
        "modelspec.architecture": "tiny/lora",
        "modelspec.thumbnail": slider.info.thumbnail,
        "ss_output_name": "smile",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "3",
        "ss_network_alpha": "1.5",
        "ss_steps": str(STEPS),
        "ss_max_train_steps": str(STEPS),
        "ss_num_train_images": str(2 * pairs),
        "ss_seed": "7",
        "ss_mixed_precision": dtype.value,
        "ss_loss/average": f"{sum(run.trainer.losses) / STEPS:.6f}",
    }
    assert {key: fields.get(key) for key in expected} == expected
    assert json.loads(fields["slider_range"]) == json.loads(fields["slider_trained_strengths"]) == [-1.0, 1.0]
    assert json.loads(fields["slider_calibration"])["calibrated"] is False
    assert json.loads(fields["slider_targets"]) == ["proj_in", "blocks.0.attn1.to_q", "blocks.0.attn1.to_k"]
    assert json.loads(fields["slider_images"]) == {"positive": pairs, "negative": pairs, "neutral": 0}
    assert set(json.loads(fields["slider_explained"])) == {"positive", "negative"}
    assert "sad" in fields["modelspec.description"]
    for key, value in fields.items():
        assert not PATHS.search(value), f"{key}: {value[:80]}"
    content = path.read_bytes()
    digest = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert fields["sshs_model_hash"] == digest
    assert fields["modelspec.hash_sha256"] == f"0x{digest}"
    assert "sshs_legacy_hash" not in fields, "kohya's depends on the header itself"


def test_the_search_for_paths_finds_one() -> None:
    assert PATHS.search('{"folder": "/home/me/pictures"}')


@pytest.mark.parametrize(
    ("algorithm", "module", "arguments"),
    [("rslora", "networks.lora", {}), ("dora", "lycoris.kohya", {"algo": "lora", "dora_wd": True})],
)
def test_kohyas_fields_name_the_kind_of_network(
    backend: TinyBackend, tmp_path: Path, algorithm: str, module: str, arguments: dict
) -> None:
    spec = AdapterSpec(preset="custom", patterns=("^proj_out$",), algorithm=algorithm)
    adapter = Adapter.create(backend.module, [Target("proj_out")], spec)
    adapter.read_base(backend.module)
    fields = header(saved(tmp_path, Slider(adapter.weights())))
    assert (fields["ss_network_module"], json.loads(fields["ss_network_args"])) == (module, arguments)


def test_every_field_comes_back_from_a_header(slider: Slider) -> None:
    info = replace(
        slider.info,
        calibration=MEASURED,
        range=(-2.5, 1.0),
        place=Place.CONTROLNET,
        architecture="ZImage",
        encoders="v t",
        resolution="512",
        assistant="a",
        control="c",
        start="f00",
        prompts="p",
        other={"modelspec.author": "me", "slider_future": "1"},
    )
    fields = info.header(slider.weights, "0" * 64, FileFormat.NATIVE, FileDtype.FP32)
    back = SliderInfo.from_header(fields | {"sshs_legacy_hash": "328ae42b"})
    written = ("modelspec.date", "modelspec.description")
    assert {key: back.other.pop(key) for key in written} == {key: fields[key] for key in written}
    assert back == replace(info, base_names=("z-image", "z_image"), file_format=FileFormat.NATIVE)


def test_a_damaged_field_is_named_and_left_out(slider: Slider) -> None:
    cases = [
        *(("calibration", text) for text in ("{", "[]", "3", '{"calibrated": true, "unit": "x"}', "[" * 9999)),
        *(("calibration", f'{{"calibrated": true, "unit": {unit}}}') for unit in ("-1", "1e999", "1e9")),
        *(("range", text) for text in ("[1]", "{}", '["a", 1]')),
        ("slices", '{"plain": [[4, 2]]}'),
        ("step", "many"),
        ("place", "text_encoder"),
        ("explained", "[0.5]"),
    ]
    for name, text in cases:
        info = SliderInfo.from_header({f"slider_{name}": text, "slider_name": "smile"})
        assert info == SliderInfo(name="smile", damaged=(name,))
        assert name in info.summary(slider.weights)
        with pytest.raises(SliderError, match=f"slider_{name}") as fault:
            info.check(name, "")
        assert fault.value.code == "slider_info.damaged"
        assert info.lora_weight(1.5, "raw") == 1.5
        if name == "calibration":
            with pytest.raises(SliderError):
                info.lora_weight(1.5)


def test_saving_again_keeps_what_is_said_and_nothing_stale(tmp_path: Path, slider: Slider) -> None:
    first = saved(tmp_path, slider)
    again = load_slider(first)
    before, after = header(first), header(saved(tmp_path, again, FileFormat.KOHYA, FileDtype.FP16))
    changed = {key for key in before if after.get(key) != before[key]}
    hashes = {"modelspec.hash_sha256", "sshs_model_hash"}
    assert changed - {"slider_targets"} == {"slider_file_format", "ss_mixed_precision", *hashes}, (
        "targets may be in another order"
    )
    assert after.keys() == before.keys()
    fewer = dict(list(again.weights.items())[:1])
    third = header(saved(tmp_path, Slider(fewer, again.info), FileFormat.LYCORIS))
    assert json.loads(third["slider_targets"]) == [str(target) for target in fewer]
    assert third["sshs_model_hash"] not in (before["sshs_model_hash"], after["sshs_model_hash"])


def test_the_hash_depends_on_the_weights_alone(tmp_path: Path, slider: Slider) -> None:
    digest = header(saved(tmp_path, slider))["sshs_model_hash"]
    renamed = Slider(dict(reversed(slider.weights.items())), SliderInfo(name="other"))
    assert header(saved(tmp_path, renamed))["sshs_model_hash"] == digest


def test_another_programs_header_does_not_speak_for_our_file(tmp_path: Path, slider: Slider) -> None:
    stale = {
        "ss_network_dim": "999",
        "ss_network_module": "networks.other",
        "sshs_model_hash": "old",
        "modelspec.hash_sha256": "0xold",
        "slider_slices": '{"proj_in": [[0, 1]]}',
        "ss_dataset_dirs": '{"/home/them/pictures": {"n_repeats": 1}}',
        "ss_sd_model_name": "C:\\\\models\\\\theirs.safetensors",
    }
    info = SliderInfo.from_header(stale | {"modelspec.title": "theirs", "ss_output_name": "t", "modelspec.author": "them"})
    fields = header(saved(tmp_path, Slider(slider.weights, replace(info, slices={}))))
    assert (fields["modelspec.title"], fields["slider_name"], fields["modelspec.author"]) == ("theirs", "t", "them")
    assert not {key for key, value in stale.items() if fields.get(key) == value}
    assert not any(PATHS.search(value) for value in fields.values())


@pytest.mark.parametrize(("size", "mode"), [((2000, 900), "RGB"), ((900, 2000), "CMYK"), ((1, 1), "P"), ((640, 256), "RGBA")])
def test_a_thumbnail_is_a_small_jpeg(size: tuple[int, int], mode: str) -> None:
    start, _, data = thumbnail(noise(*size).convert(mode)).partition(",")
    content = base64.b64decode(data, validate=True)
    assert start == "data:image/jpeg;base64"
    assert len(content) <= MOST_BYTES == 64 * 1024
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert picture.width <= SIZE[0]
        assert picture.height <= SIZE[1]


def test_a_file_in_a_few_lines(tmp_path: Path, slider: Slider) -> None:
    back = load_slider(saved(tmp_path, slider))
    summary = replace(
        back,
        left_out=(LeftOut("te1", Reason.TEXT_ENCODER), LeftOut("te2", Reason.TEXT_ENCODER)),
        info=replace(back.info, calibration=MEASURED),
    ).summary()
    for part in (
        "smile: lora on 3 layers, rank 3, alpha 1.5.",
        "-1: sad; +1: smiling.",
        "for: tiny",
        "strength 1.25",
        "2 parts of a text encoder",
    ):
        assert part in summary
    assert Slider(back.weights).summary() == "LoRA: lora on 3 layers, rank 3, alpha 1.5."


def test_labels_replace_what_was_there_unless_empty() -> None:
    info = SliderInfo(minus="sad", plus="smiling").labelled(" ", "laughing ")
    assert (info.minus, info.plus) == ("sad", "laughing")


def test_the_slices_of_a_header_are_those_of_the_weights(tmp_path: Path, backend: TinyBackend) -> None:
    targets = [Target("modulation", (0, 128)), Target("modulation", (256, 384)), Target("proj_in")]
    path = saved(tmp_path, Slider(Adapter.create(backend.module, targets, AdapterSpec()).weights()))
    back = load_slider(path)
    assert back.info.slices == {"modulation": [(0, 128), (256, 384)]}
    assert back.summary() == "slider: lora on 3 layers, rank 4, alpha 4.", "of strengths nothing is known"
    assert set(back.cut().weights) == set(targets)


def test_ten_lines_of_any_program_read_what_shows_a_slider(slider: Slider, tmp_path: Path) -> None:
    """The reader is that of docs/sharing.md, which knows nothing of this pack."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")
    script = tmp_path / "reader.py"
    script.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    reader = runpy.run_path(str(script))
    info = replace(slider.info, trigger="a smiler", calibration=MEASURED, range=(-2.0, 3.0))
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_slider(first, replace(slider, info=info))
    card = reader["slider_card"](first)
    assert (card["name"], card["minus"], card["plus"], card["trigger"]) == ("smile", "sad", "smiling", "a smiler")
    assert (card["range"], card["at_1"], card["unit"]) == ([-2.5, 3.75], 1.25, "what the images show")
    image = Image.open(io.BytesIO(base64.b64decode(card["preview"].partition(",")[2])))
    assert image.size == (200, 80)
    save_slider(second, load_slider(first))
    assert reader["slider_card"](second) == card
    assert [reader["strength_at"](card, place) for place in (-2.0, 0.0, 1.0)] == [-2.5, 0.0, 1.25], "no dial was measured"
    even = replace(info, even_steps=EvenSteps(((-1.0, -1.0), (0.0, 0.0), (0.75, 0.5), (1.0, 1.0), (1.5, 2.0))))
    for place in (-1.5, -1.0, 0.0, 0.375, 0.75, 0.9, 1.0, 1.25, 2.0):
        assert reader["strength_at"](even.card(), place) == pytest.approx(even.lora_weight(place, "even_steps"))
    one_way = replace(info, sides="plus", minus="", calibration=None, range=None)
    assert one_way.card()["range"] == [0.0, 1.0]


def test_a_file_is_known_as_the_slider_or_an_earlier_state_of_it(slider: Slider, tmp_path: Path) -> None:
    for form in FORMS:
        path = tmp_path / form.value
        save_slider(path, slider, form=form)
        info = slider.info
        later, another = replace(info, step=info.step + 1), replace(info, dataset="other")
        cases = [(info, FileDtype.FP32, Holds.THE_SAME), (later, FileDtype.FP32, Holds.EARLIER)]
        cases += [(info, FileDtype.FP16, Holds.EARLIER), (another, FileDtype.FP32, Holds.ANOTHER)]
        cases += [(replace(info, even_steps=EvenSteps(((0.0, 0.0), (1.0, 1.0)))), FileDtype.FP32, Holds.EARLIER)]
        cases += [(replace(info, step=info.step - 1), FileDtype.FP32, Holds.ANOTHER)]
        for known, dtype, found in cases:
            assert holds(path, known, form, dtype) is found, (form, known.step, dtype)
    path = tmp_path / "of b"
    save_slider(path, replace(slider, info=replace(slider.info, training_id="b", replaces="a")))
    for training_id, replaces, found in (("b", "a", Holds.EARLIER), ("c", "", Holds.ANOTHER), ("c", "a b", Holds.REPLACED)):
        known = replace(slider.info, step=slider.info.step + 1, training_id=training_id, replaces=replaces)
        assert holds(path, known, FileFormat.NATIVE, FileDtype.FP32) is found, (training_id, replaces)
    (tmp_path / "damaged").write_bytes(b"no weights")
    assert holds(tmp_path / "damaged", slider.info, FileFormat.NATIVE, FileDtype.FP32) is Holds.ANOTHER
