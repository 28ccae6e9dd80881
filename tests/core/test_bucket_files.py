"""Nothing in a bucket's folder is passed over in silence: it is an image, a mask, a caption, or a line of the report."""

import os
import socket
from pathlib import Path

import pytest
from core.faults import refused
from PIL import Image

from slider_core.data.bitmap import plugin_endings
from slider_core.data.bucket_files import bucket_files
from slider_core.data.bucket_spec import BucketSpec, DatasetSpec
from slider_core.data.buckets import read_bucket
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.data.fitting import decode
from slider_core.data.pairs_report import examined

SIDE = 16


def put(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {".jfif": "JPEG", ".tif": "TIFF"}.get(path.suffix)
    picture = Image.linear_gradient("L").resize((SIDE, SIDE)).point(lambda v: (v + value) % 256)
    picture.convert("RGB").save(path, form)
    return path


def test_other_endings_of_images_are_decoded_and_those_without_a_decoder_named(tmp_path: Path) -> None:
    for name in ("1.tif", "2.jfif", "3.png"):
        put(tmp_path / "b" / name)
    for name in ("4.jxl", "5.heic", "6.psd", "7.png.part", "8"):
        (tmp_path / "b" / name).write_bytes(b"x")
    found = bucket_files(tmp_path / "b")
    readable = [name for name in ("4.jxl", "5.heic") if name[1:] in plugin_endings()]
    assert [path.name for path in found.images] == ["1.tif", "2.jfif", "3.png", *readable]
    report = "\n".join(found.unused)
    for name in {"4.jxl", "5.heic", "6.psd", "7.png.part", "b/8"} - set(readable):
        assert name in report


CAPTIONS = [
    ("1.caption", "a  face", "a face"),
    ("1.TXT", "a face", "a face"),
    ("1.json", '{"caption": "a face", "score": 3}', "a face"),
    ("1.json", '{"tags": ["a", "face"]}', "a, face"),
    ("1.json", '"a face"', "a face"),
    ("1.json", '{"score": 3}', ""),
]


def test_captions_of_other_endings_are_read(tmp_path: Path) -> None:
    for number, (name, content, caption) in enumerate(CAPTIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder / "1.png")
        (folder / name).write_text(content, encoding="utf-8")
        bucket, faults = read_bucket(BucketSpec(str(folder), 1.0))
        assert ([sample.caption for sample in bucket.image_samples], faults, bucket.unused) == ([caption], [], ())


def test_a_caption_that_is_none_is_named(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    for content in ("{", "[1]", '{"caption": 3}'):
        (tmp_path / "1.json").write_text(content, encoding="utf-8")
        _, (fault,) = read_bucket(BucketSpec(str(tmp_path), 1.0))
        assert (fault.code, "1.json" in str(fault)) == ("caption.json", True)
    (tmp_path / "1.txt").write_text("first", encoding="utf-8")
    bucket, faults = read_bucket(BucketSpec(str(tmp_path), 1.0))
    assert (bucket.image_samples[0].caption, faults) == ("first", [])
    assert "1.json" in bucket.unused[0]


def test_subfolders_are_walked_and_are_clips_only_where_those_are_asked_for(tmp_path: Path) -> None:
    for name in ("1.png", "set/2.png", "set/deeper/3.png"):
        put(tmp_path / "b" / name)
    (tmp_path / "b" / "set" / "2.txt").write_text("two", encoding="utf-8")
    (tmp_path / "b" / "empty").mkdir()
    (tmp_path / "b" / "set" / "again").symlink_to(tmp_path / "b")
    bucket, _ = read_bucket(BucketSpec(str(tmp_path / "b"), 1.0))
    assert [(s.name, s.caption) for s in bucket.image_samples] == [("1", ""), ("set/2", "two"), ("set/deeper/3", "")]
    assert sorted(line.split(":")[0] for line in bucket.unused) == ["b/empty", "b/set/again"]
    assert [path.name for path in bucket_files(tmp_path / "b", clips=True).images] == ["1.png", "set"]


@pytest.mark.parametrize("place", ["1-masklabel.png", "1_mask.png", "1.mask.PNG", "masks/1.png", "../positive_mask/1.jpg"])
def test_a_mask_beside_an_image_is_its_mask(place: str, tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        put(tmp_path / side / "1.png")
    mask = tmp_path / "positive" / place
    mask.parent.mkdir(exist_ok=True)
    Image.new("L", (8, 8), 255).save(mask, "PNG")
    dataset = read_dataset(bucket_folders(tmp_path))
    ((positive, negative),) = dataset.pairs
    assert positive.mask_file is not None
    assert positive.mask_file.resolve() == mask.resolve()
    assert decode(positive, DatasetSpec()).mask.getextrema() == (255, 255)
    assert decode(negative, DatasetSpec()).mask is None
    before = dataset.digest
    Image.new("L", (8, 8), 9).save(mask, "PNG")
    assert read_dataset(bucket_folders(tmp_path)).digest != before
    assert mask.name in dataset.report


def test_what_is_only_named_like_a_mask_is_an_image_and_a_line_says_so(tmp_path: Path) -> None:
    put(tmp_path / "b" / "iron_mask.png")
    found = bucket_files(tmp_path / "b")
    assert ([path.name for path in found.images], "iron_mask.png" in found.unused[0]) == (["iron_mask.png"], True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_sockets_are_named_and_not_opened(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "3.txt"))
        report = "\n".join(bucket_files(tmp_path).unused)
    assert all(part in report for part in ("2.png", "pipe", "3.txt", "socket"))


def test_the_doctor_does_not_praise_what_was_passed_over(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / "positive" / f"{number}.png", 20 * number)
        put(tmp_path / "negative" / f"{number}.png", 20 * number + 7)
        (tmp_path / "positive" / f"{number}.txt").write_text("x", encoding="utf-8")
    (tmp_path / "positive" / ".part").write_bytes(b"x")
    (tmp_path / "positive" / "a.doc").write_bytes(b"x")
    dataset = read_dataset(bucket_folders(tmp_path))
    assert len(dataset.unused) == 2
    assert "4 positive" in dataset.report
    assert not any(line.startswith("Nothing found") for line in examined(dataset).lines)


def test_a_folder_with_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path / "negative" / "1.png")
    (tmp_path / "positive").mkdir()
    (tmp_path / "positive" / "1.psd").write_bytes(b"x")
    with refused("folder.empty", "1.psd"):
        read_dataset(bucket_folders(tmp_path))
