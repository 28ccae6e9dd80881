"""Folders in, buckets and pairs out; every fault named at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slider_core.config import SliderError
from slider_core.dataset import bucket_folders, common_size, load_image, read_dataset
from slider_core.dataset_spec import BucketSpec

RED, BLUE = (200, 20, 20), (20, 20, 200)


def put(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (16, 16), caption: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def sides(root: Path, positive: list[str], negative: list[str]) -> Path:
    for side, names in (("positive", positive), ("negative", negative)):
        for name in names:
            put(root / side / name)
    return root


def test_pairs_are_matched_by_file_name(tmp_path: Path) -> None:
    sides(tmp_path, ["a.png", "B.jpg"], ["b.PNG", "A.bmp"])
    dataset = read_dataset(bucket_folders(tmp_path))
    assert [(p.path.stem.lower(), n.path.stem.lower()) for p, n in dataset.pairs] == [("b", "b"), ("a", "a")]
    assert "matched by file name" in str(dataset.report)


def test_pairs_without_common_names_go_by_order_and_say_so(tmp_path: Path) -> None:
    dataset = read_dataset(bucket_folders(sides(tmp_path, ["1.png", "2.png"], ["x.png", "y.png"])))
    assert [(p.path.stem, n.path.stem) for p, n in dataset.pairs] == [("1", "x"), ("2", "y")]
    assert "matched by order" in str(dataset.report)


def test_captions_come_from_the_file_beside_or_from_the_bucket(tmp_path: Path) -> None:
    put(tmp_path / "positive" / "1.png", caption="  a face\nsmiling ")
    put(tmp_path / "negative" / "1.png")
    assert [s.caption for s in read_dataset(bucket_folders(tmp_path)).shots] == ["a face smiling", ""]
    assert {s.caption for s in read_dataset(bucket_folders(tmp_path, caption="one")).shots} == {"one"}


def test_strengths_follow_the_folder(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    put(tmp_path / "neutral" / "9.png")
    dataset = read_dataset(bucket_folders(tmp_path, strength=0.5))
    assert sorted({s.strength for s in dataset.shots}) == [-0.5, 0.0, 0.5]
    assert len(dataset.pairs) == 1


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png"], ["1.png"])
    (tmp_path / "positive" / "3.png").write_bytes((tmp_path / "positive" / "1.png").read_bytes()[:40])
    (tmp_path / "negative" / "2.jpg").write_text("no image")
    with pytest.raises(SliderError) as fault:
        read_dataset(bucket_folders(tmp_path))
    assert f"{tmp_path}/positive/3.png" in str(fault.value)
    assert f"{tmp_path}/negative/2.jpg" in str(fault.value)


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [(["1.png"], [], "Bucket is empty: .*negative"), (["1.png", "2.png"], ["1.png"], "Unequal counts: 2 positive .* 1 negative")],
)
def test_empty_and_unequal_buckets_are_errors(tmp_path: Path, positive: list[str], negative: list[str], message: str) -> None:
    (tmp_path / "negative").mkdir()
    sides(tmp_path, positive, negative)
    with pytest.raises(SliderError, match=message):
        read_dataset(bucket_folders(tmp_path))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(SliderError, match=r"Dataset folder not found: .*nowhere"):
        bucket_folders(tmp_path / "nowhere")
    (tmp_path / "positive").mkdir()
    with pytest.raises(SliderError, match=r"Folder missing: .*negative"):
        bucket_folders(tmp_path)
    put(tmp_path / "only" / "1.png")
    with pytest.raises(SliderError, match="No negative bucket"):
        read_dataset([BucketSpec(str(tmp_path / "only"), 1.0)])


def test_the_digest_follows_content(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    before = read_dataset(bucket_folders(tmp_path)).digest
    assert read_dataset(bucket_folders(tmp_path)).digest == before
    put(tmp_path / "negative" / "1.png", BLUE)
    assert read_dataset(bucket_folders(tmp_path)).digest != before


def test_images_are_turned_cropped_and_never_stretched(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), RED)
    wide.paste(BLUE, (10, 0, 30, 20))
    exif = wide.getexif()
    exif[0x0112] = 6  # the camera was turned: stored on its side
    wide.save(tmp_path / "turned.png", exif=exif)
    image = load_image(tmp_path / "turned.png", 20, 20)
    assert image.shape == (3, 20, 20)
    assert torch.allclose(image[:, 10, 10], torch.tensor(BLUE) / 255, atol=0.02)  # the middle square is the blue one
    assert torch.allclose(image[:, 1, 10], torch.tensor(BLUE) / 255, atol=0.15)


def test_the_common_size_keeps_the_aspect_ratio_in_steps(tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        put(tmp_path / side / "1.png", size=(200, 100))
    assert common_size(read_dataset(bucket_folders(tmp_path)), 512, 64) == (704, 384)


def test_sixteen_bit_grey_is_scaled_and_transparency_lies_over_white(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert load_image(tmp_path / "deep.png", 16, 16).mean().item() == pytest.approx(0.5, abs=0.01)
    hidden = Image.new("RGBA", (16, 16), (*RED, 0))
    hidden.paste((*BLUE, 255), (0, 0, 8, 16))
    hidden.save(tmp_path / "clear.png")
    image = load_image(tmp_path / "clear.png", 16, 16)
    assert torch.allclose(image[:, 8, 14], torch.ones(3))
    assert torch.allclose(image[:, 8, 1], torch.tensor(BLUE) / 255, atol=0.01)


def test_an_image_too_large_to_be_true_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(SliderError, match=r"cannot be read: .*1\.png"):
        read_dataset(bucket_folders(tmp_path))


def test_clutter_is_passed_over_and_captions_may_shout(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    (tmp_path / "positive" / "._1.png").write_text("left by another system")
    (tmp_path / "positive" / "1.TXT").write_text("loud", encoding="utf-8")
    shots = read_dataset(bucket_folders(tmp_path)).shots
    assert [s.caption for s in shots] == ["loud", ""]


def test_two_folders_for_one_side_are_an_error(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    (tmp_path / "Positive").mkdir(exist_ok=True)
    if len(list(tmp_path.iterdir())) == 3:  # not on a file system that folds case
        with pytest.raises(SliderError, match="upper and lower case"):
            bucket_folders(tmp_path)
