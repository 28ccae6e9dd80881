"""Folders in, buckets and pairs out; every fault named at once."""

import tracemalloc
from pathlib import Path

import pytest
import torch
from core.faults import refused
from PIL import Image

from slider_core.data.bucket_spec import BucketSpec, CaptionFrom, DatasetSpec, Pairing, Unequal
from slider_core.data.buckets import graph_bucket
from slider_core.data.dataset import assembled, bucket_folders, read_dataset, sides_named

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
    assert [(p.path.stem.lower(), n.path.stem.lower()) for p, n in dataset.pairs] == [("a", "a"), ("b", "b")]
    assert "matched by file name" in dataset.report


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png"], ["1.png"])
    (tmp_path / "positive" / "3.png").write_bytes((tmp_path / "positive" / "1.png").read_bytes()[:40])
    (tmp_path / "negative" / "2.jpg").write_text("no image")
    with refused("image.format", f"{tmp_path}/positive/3.png", f"{tmp_path}/negative/2.jpg"):
        read_dataset(bucket_folders(tmp_path))


def test_empty_and_unequal_buckets_are_errors(tmp_path: Path) -> None:
    (sides(tmp_path, ["1.png", "2.png"], []) / "negative").mkdir()
    with refused("folder.empty", tmp_path / "negative"):
        read_dataset(bucket_folders(tmp_path))
    put(tmp_path / "negative" / "1.png")
    with refused("dataset.unequal", 2, 1, "positive/2.png", "--unequal", tmp_path / "negative"):
        read_dataset(bucket_folders(tmp_path))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with refused("dataset.missing", tmp_path / "nowhere"):
        bucket_folders(tmp_path / "nowhere")
    (tmp_path / "positive").mkdir()
    with refused("dataset.side", tmp_path / "negative"):
        bucket_folders(tmp_path)
    put(tmp_path / "only" / "1.png")
    with refused("dataset.side", "negative"):
        read_dataset([BucketSpec(str(tmp_path / "only"), 1.0)])
    with refused("dataset.no_folder", "1.png"):
        bucket_folders(tmp_path / "only" / "1.png")
    with refused("folder.missing", tmp_path / "gone"):
        read_dataset([BucketSpec(str(tmp_path / "gone"), 1.0), BucketSpec(str(tmp_path / "only"), -1.0)])


def test_clutter_is_passed_over_and_captions_may_shout(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    (tmp_path / "positive" / "._1.png").write_text("left by another system")
    (tmp_path / "positive" / "1.TXT").write_text("loud", encoding="utf-8-sig")  # with a byte order mark
    image_samples = read_dataset(bucket_folders(tmp_path)).image_samples
    assert [s.caption for s in image_samples] == ["loud", ""]


def test_two_folders_for_one_side_are_an_error(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    (tmp_path / "Positive").mkdir(exist_ok=True)
    if len(list(tmp_path.iterdir())) == 3:  # not on a file system that folds case
        with refused("dataset.letter_case", tmp_path):
            bucket_folders(tmp_path)


# --- strengths, captions, pairs


def test_folders_name_their_strength(tmp_path: Path) -> None:
    for name in ("strength_+1.5", "strength_-0.5", "Strength_0", "positive", "negative", "notes"):
        put(tmp_path / name / "1.png")
    found = {Path(s.folder).name: s.strength for s in bucket_folders(tmp_path, strength=2.0)}
    assert found == {"strength_+1.5": 1.5, "strength_-0.5": -0.5, "Strength_0": 0.0, "positive": 2.0, "negative": -2.0}
    assert [s.sign for s in bucket_folders(tmp_path)] == [1, 1, -1, -1, 0]


def test_what_names_a_dataset() -> None:
    for names, count in (
        (["positive", "negative"], 2),
        (["strength_0.5", "strength_-1"], 2),
        (["Positive", "neutral"], 1),
        (["strength_+1", "strength_2"], 1),
        (["neutral"], 0),
        (["strength_up", "strength_down"], 0),
        ([], 0),
    ):
        assert sides_named(names) == count


def test_captions_and_trigger_words(tmp_path: Path) -> None:
    cases = [
        ({}, "from the file"),
        ({"captions": CaptionFrom.FILENAME}, "a happy face 01"),
        ({"captions": CaptionFrom.NONE}, ""),
        ({"caption": "one"}, "one"),
        ({"trigger": "sks"}, "sks from the file"),
        ({"trigger": "sks", "captions": CaptionFrom.NONE}, "sks"),
    ]
    for number, (choices, caption) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        for side in ("positive", "negative"):
            put(folder / side / "a_happy-face_01.png", caption="from the file")
        assert {s.caption for s in read_dataset(bucket_folders(folder, **choices)).image_samples} == {caption}


def test_names_are_sorted_as_people_count(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png", "10.png"], ["x1.png", "x2.png", "x10.png"])
    pairs = read_dataset(bucket_folders(tmp_path)).pairs
    assert [(p.name, n.name) for p, n in pairs] == [("1", "x1"), ("2", "x2"), ("10", "x10")]


def test_the_smaller_side_can_go_round(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png", "3.png"], ["a.png", "b.png"])
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(unequal=Unequal.BALANCE))
    assert [(p.name, n.name) for p, n in dataset.pairs] == [("1", "a"), ("2", "b"), ("3", "a")]
    assert "the negative ones are shown more often" in dataset.report


def test_balanced_sides_stay_paired_by_name_where_names_match(tmp_path: Path) -> None:
    """An image that is missing on one side must not shift the partners of all that follow."""
    sides(tmp_path, ["1.png", "2.png", "3.png"], ["1.png", "3.png"])
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(unequal=Unequal.BALANCE))
    assert [(p.name, n.name) for p, n in dataset.pairs] == [("1", "1"), ("3", "3")]
    assert "without a partner, and left out of them: positive/2.png" in dataset.report
    assert "more often" not in dataset.report


def test_folders_that_mean_to_be_buckets_are_not_passed_over(tmp_path: Path) -> None:
    (sides(tmp_path, ["1.png"], ["1.png"]) / "backup").mkdir()
    assert len(bucket_folders(tmp_path)) == 2
    for folder, code in (("negativ", "folder.misspelt"), ("neutrals", "folder.misspelt"), ("strength_+1,5", "folder.strength")):
        (tmp_path / folder).mkdir()
        with refused(code, tmp_path / folder):
            bucket_folders(tmp_path)
        (tmp_path / folder).rmdir()


def test_pairs_by_name_insist_on_names(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png"], ["1.png", "3.png"])
    with refused("dataset.partner", "negative/3.png", "positive/2.png"):
        read_dataset(bucket_folders(tmp_path), DatasetSpec(pairing=Pairing.NAME))


def test_random_pairs_need_no_equal_counts(tmp_path: Path) -> None:
    sides(tmp_path, ["1.png", "2.png", "3.png"], ["1.png"])
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(pairing=Pairing.RANDOM))
    assert dataset.pairs == ()
    assert "drawn at random" in dataset.report


@pytest.mark.parametrize("change", ["pairing", "repeats", "caption", "background", "content", "caption file"])
def test_the_digest_follows_every_choice(change: str, tmp_path: Path) -> None:
    sides(tmp_path, ["1.png"], ["1.png"])
    before = read_dataset(bucket_folders(tmp_path)).digest
    choices = {change: {"repeats": 2, "caption": "x"}[change]} if change in ("repeats", "caption") else {}
    if change == "caption file":
        (tmp_path / "negative" / "1.txt").write_text("a face", encoding="utf-8")
    if change == "content":
        put(tmp_path / "negative" / "1.png", BLUE)
    spec = {"pairing": DatasetSpec(pairing=Pairing.RANDOM), "background": DatasetSpec(background="#000000")}.get(change)
    assert read_dataset(bucket_folders(tmp_path, **choices), spec).digest != before


# --- where files really lie


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    home, out = sides(tmp_path / "in", ["1.png"], ["1.png"]), tmp_path / "out"
    put(out / "secret.png")
    (home / "positive" / "2.png").symlink_to(out / "secret.png")
    (home / "positive" / "3.png").symlink_to(home / "positive" / "3.png")  # a loop
    (home / "positive" / "4.png").symlink_to(out / "gone.png")
    with refused("image.outside", *(home / "positive" / name for name in ("2.png", "3.png", "4.png"))):
        read_dataset(bucket_folders(home), roots=[home])
    (home / "negative2").symlink_to(out)
    with refused("folder.outside", "negative2"):
        read_dataset([BucketSpec(str(home / "negative"), 1.0), BucketSpec(str(home / "negative2"), -1.0)], roots=[home])


def test_links_inside_are_followed(tmp_path: Path) -> None:
    home = sides(tmp_path / "in", ["1.png"], ["1.png"])
    (home / "positive" / "1.png").rename(home / "kept.png")
    (home / "positive" / "1.png").symlink_to(home / "kept.png")
    assert len(read_dataset(bucket_folders(home), roots=[home]).image_samples) == 2


def test_many_images_are_read_one_at_a_time_and_counted(tmp_path: Path) -> None:
    """Progress to the last, and never more than a few of them in memory."""
    count, picture = 600, tmp_path / "one.png"
    Image.new("RGB", (16, 16), RED).save(picture)
    for side in ("positive", "negative"):
        (tmp_path / side).mkdir()
        for number in range(count // 2):
            (tmp_path / side / f"{number}.png").hardlink_to(picture)
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    dataset = read_dataset(bucket_folders(tmp_path), on_image=lambda done, total: seen.append((done, total)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(dataset.pairs) == count // 2
    assert seen[-1] == (count, count)
    assert [done for done, _ in seen] == list(range(1, count + 1))
    assert peak < 8 * 2**20


# --- out of a graph


def test_images_out_of_a_graph_make_pairs_by_number() -> None:
    images = torch.rand(2, 12, 20, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 12, 20)
    dataset = assembled([graph_bucket(images, 0.5, ["a face"], mask)], DatasetSpec())
    assert dataset.pairs == ()
    dataset = assembled([*dataset.buckets, graph_bucket(1 - images, -0.5, ["one", "two"], None)], DatasetSpec())
    assert [(p.name, n.name, p.caption, n.caption) for p, n in dataset.pairs] == [
        ("image 1", "image 1", "a face", "one"),
        ("image 2", "image 2", "a face", "two"),
    ]
    assert torch.equal(dataset.pairs[0][0].pixels, images[0].movedim(-1, 0))
    assert (dataset.image_samples[0].width, dataset.image_samples[0].height) == (20, 12)
    for captions, masks in ((["a", "b", "c"], None), ([], torch.ones(3, 8, 8))):
        with refused("bucket.counts", "3", "2 images"):
            graph_bucket(torch.rand(2, 8, 8, 3), 1.0, captions, masks)
    other = graph_bucket(images + 0.01, 0.5, ["a face"], mask)
    assert other.image_samples[0].digest != dataset.image_samples[0].digest


def test_every_hostile_file_of_a_bucket_is_named_in_one_report(tmp_path: Path) -> None:
    """Zero bytes, cut short, renamed text, 1 x 1, a link to itself, a name in every script, one as long as it may be."""
    sides(tmp_path, ["good.png"], ["good.png"])
    bucket = tmp_path / "positive"
    good = (bucket / "good.png").read_bytes()
    for name, content in (("zero.png", b""), ("cut.png", good[: len(good) // 2]), ("text.jpg", b"no image at all")):
        (bucket / name).write_bytes(content)
    Image.new("RGB", (1, 1)).save(bucket / "dot.webp")
    (bucket / "loop.png").symlink_to(bucket / "loop.png")
    names = ["zero.png", "cut.png", "text.jpg", "dot.webp", "loop.png", "笑顔 😀 ё.png", "x" * 251 + ".png"]
    for name in names[-2:]:
        (bucket / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with refused("image.unreadable") as fault:
        read_dataset(bucket_folders(tmp_path))
    lines = str(fault.value).splitlines()
    assert [name for name in names if not any(name in line for line in lines)] == []
    assert len(lines) == len(names)
    assert "good.png" not in str(fault.value)


def test_captions_and_frames_that_lead_outside_are_refused_too(tmp_path: Path) -> None:
    home, secret = sides(tmp_path / "in", ["1.png"], ["1.png"]), tmp_path / "secret"
    put(secret / "frame.png")
    (secret / "words.txt").write_text("a password", encoding="utf-8")
    (home / "positive" / "1.txt").symlink_to(secret / "words.txt")
    (home / "negative" / "clip").mkdir()
    (home / "negative" / "clip" / "1.png").symlink_to(secret / "frame.png")
    with refused("caption.outside", "1.txt", "clip/1.png") as fault:
        read_dataset(bucket_folders(home), roots=[home])
    assert "password" not in str(fault.value)


def test_unequal_sides_of_a_chain_stop_only_when_they_are_used() -> None:
    """More buckets may follow: the trouble is told, and is gone when they have come."""
    images = torch.rand(4, 8, 8, 3)
    plus, minus = graph_bucket(images, 1.0, [], None), [graph_bucket(images[:2], -1.0, [], None) for _ in range(2)]
    assert "4 positive" in assembled([plus, minus[0]], DatasetSpec()).trouble
    whole = assembled([plus, *minus], DatasetSpec())
    assert (whole.trouble, len(whole.pairs)) == ("", 4)


def test_an_image_and_a_clip_make_no_pair(tmp_path: Path) -> None:
    put(tmp_path / "positive" / "1.png")
    for number in range(3):
        put(tmp_path / "negative" / "1" / f"{number}.png")
    with refused("dataset.image_and_clip", "1.png"):
        read_dataset(bucket_folders(tmp_path), DatasetSpec(frames=3))
    whole = read_dataset(bucket_folders(tmp_path), DatasetSpec(unequal=Unequal.BALANCE))
    assert [sample.name for sample in whole.image_samples] == ["1", "1/0", "1/1", "1/2"]
