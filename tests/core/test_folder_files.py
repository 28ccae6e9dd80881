"""Rows of a dataset's folder, and its images moved between them: nothing lost, nothing written over, nothing outside touched."""

import os
from pathlib import Path

import pytest
from core.faults import refused
from core.test_dataset import BLUE, RED, put, sides

from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.data.folder_files import file_stamps, folder_rows, move_files, need_flat, put_back, rename_folder
from slider_core.data.pairs_report import examined


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_rows_are_the_pairs_that_a_training_makes(tmp_path: Path) -> None:
    cases = (
        (["2.png", "10.png"], ["10.PNG", "2.jpg"], [("2.png", "2.jpg"), ("10.png", "10.PNG")], True),
        (["a.png", "b.png"], ["x.png", "y.png"], [("a.png", "x.png"), ("b.png", "y.png")], False),
        (["a.png", "b.png", "c.png"], ["c.png"], [("a.png", None), ("b.png", None), ("c.png", "c.png")], True),
        (["a.png", "b.png"], ["x.png"], [("a.png", "x.png"), ("b.png", None)], False),
        ([], ["x.png"], [(None, "x.png")], True),
        (["1.png", "1.jpg"], ["1.png", "2.png"], [("1.jpg", "1.png"), ("1.png", "2.png")], False),
    )
    for n, (positive, negative, rows, by_name) in enumerate(cases):
        root = sides(tmp_path / str(n), positive, negative)
        found = folder_rows(root)
        assert (list(found.rows), found.by_name) == (rows, by_name)
        if all(all(row) for row in rows):
            pairs = read_dataset(bucket_folders(root)).pairs
            assert {(plus.path.name, minus.path.name) for plus, minus in pairs} == set(rows)
    assert folder_rows(tmp_path / "none").rows == ()


def test_images_change_places_with_their_captions_and_nothing_is_lost(tmp_path: Path) -> None:
    put(tmp_path / "Positive/01.png", RED, caption="a face")
    put(tmp_path / "Positive/02.png", BLUE)
    put(tmp_path / "negative/01.jpg", BLUE, caption="another")
    (tmp_path / "Positive/01.json").write_text('{"caption": "beside the text"}', encoding="utf-8")
    before = contents(tmp_path)
    swap = [("positive/01.png", "negative/01.png"), ("negative/01.jpg", "positive/01.jpg")]
    done = move_files(tmp_path, swap)
    after = contents(tmp_path)
    assert done == swap
    assert after["negative/01.png"] == before["Positive/01.png"]
    assert (after["negative/01.txt"], after["Positive/01.txt"]) == (before["Positive/01.txt"], before["negative/01.txt"])
    assert after["negative/01.json"] == before["Positive/01.json"]
    move_files(tmp_path, [(target, source) for source, target in done])
    assert contents(tmp_path) == before
    for _ in range(2):  # removed twice under one name
        gone = move_files(tmp_path, [("positive/01.png", "removed")])
        assert "positive/01.png" not in contents(tmp_path)
        put(tmp_path / "Positive/01.png", BLUE)
    assert gone == [("positive/01.png", "removed/Positive 01 (2).png")]
    assert contents(tmp_path)["removed/Positive 01.txt"] == b"a face"
    assert folder_rows(tmp_path).rows[0] == ("01.png", "01.jpg")
    two = move_files(tmp_path, [("positive/01.png", "positive/02.png"), ("positive/02.png", "positive/01.png")])
    assert len(two) == 2


def test_an_image_is_replaced_by_one_in_removed_and_comes_back(tmp_path: Path) -> None:
    root = sides(tmp_path, ["1.png", "2.png"], ["1.png", "2.png"])
    put(root / "positive/1.png", RED, caption="the old one")
    put(root / "removed/new 17.jpg", BLUE, caption="the new one")
    before = contents(root)
    done = move_files(root, [("positive/1.png", "removed"), ("removed/new 17.jpg", "positive/1.jpg")])
    after = contents(root)
    assert folder_rows(root).rows == (("1.jpg", "1.png"), ("2.png", "2.png"))
    assert after["positive/1.jpg"] == before["removed/new 17.jpg"]
    assert (after["positive/1.txt"], after["removed/positive 1.txt"]) == (b"the new one", b"the old one")
    assert sorted(after.values()) == sorted(before.values()), "nothing is lost"
    (old, gone), (_, new) = done
    _, (_, away) = move_files(root, [(gone, old), (new, "removed")])
    back = contents(root)
    used = {name for name in before if not name.startswith("removed/")}
    assert {name for name in back if not name.startswith("removed/")} == used
    assert all(back[name] == before[name] for name in used)
    assert back[away] == before["removed/new 17.jpg"]
    assert sorted(back.values()) == sorted(before.values())


def test_the_stamp_of_an_image_goes_where_it_goes_and_no_other_has_it(tmp_path: Path) -> None:
    root = sides(tmp_path, ["1.png", "2.png"], ["1.png", "2.png"])
    for path in root.glob("*/*.png"):
        os.utime(path, ns=(10**18, 10**18))
    before = file_stamps(root, folder_rows(root))
    assert len(set(before.values())) == 4, "files of one time, some of one size"
    move_files(root, [("positive/1.png", "negative/1.png"), ("negative/1.png", "positive/1.png")])
    after = file_stamps(root, folder_rows(root))
    assert (after["positive/1.png"], after["negative/1.png"]) == (before["negative/1.png"], before["positive/1.png"])


MOVES = (
    ([("positive/01.png", "positive/02.png")], "move.taken"),
    ([("positive/01.png", "positive/03.png"), ("positive/02.png", "positive/03.PNG")], "move.taken"),
    ([("positive/01.png", "negative/01.png"), ("positive/01.png", "negative/09.png")], "move.twice"),
    ([("positive/01.png", "positive/01.jpg")], "move.ending"),
    ([("positive/09.png", "positive/08.png")], "move.missing"),
    ([("positive/../../secret.png", "positive/08.png")], "move.missing"),
    ([("positive/01.png", "positive/../../08.png")], "file.name"),
    ([("positive/01.png", "positive/.png")], "move.name"),
    ([("positive/01.png", "positive/a:b.png")], "file.name"),
    ([("positive/01.png", "../positive/08.png")], "move.place"),
    ([("../secret.png", "positive/08.png")], "move.place"),
    ([("linked/01.png", "positive/08.png")], "move.place"),
    ([("neutral/secret.png", "positive/08.png")], "move.outside"),
    ([("positive/01.png", "neutral/01.png")], "move.outside"),
    ([("positive/01.png", "positive/03.png")] * 2001, "move.many"),
)


def test_a_move_that_would_lose_a_file_or_reach_outside_changes_nothing(tmp_path: Path) -> None:
    for number, (moves, code) in enumerate(MOVES):
        folder = tmp_path / str(number)
        folder.mkdir()
        root = sides(folder / "set", ["01.png", "02.png"], ["05.png"])
        put(folder / "secret.png")
        put(folder / "elsewhere" / "secret.png")
        (root / "neutral").symlink_to(folder / "elsewhere", target_is_directory=True)
        before = contents(folder)
        with refused(code):
            move_files(root, moves)
        assert contents(folder) == before


def test_masks_and_subfolders_are_left_to_the_hand(tmp_path: Path) -> None:
    need_flat(sides(tmp_path / "flat", ["01.png"], ["01.png"]))
    for name in ("01_mask.png", "inner/02.png"):
        root = sides(tmp_path / name.replace("/", "_"), ["01.png"], ["01.png"])
        put(root / "positive" / name)
        with refused("move.nested", "positive"):
            need_flat(root)


def test_a_disk_that_fails_in_the_middle_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sides(tmp_path, ["01.png", "02.png"], ["05.png"])
    before, rename, count = contents(root), Path.rename, 0

    def failing(file: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(13, "no", str(file))
        return rename(file, target)

    monkeypatch.setattr(Path, "rename", failing)
    swap = [("positive/01.png", "positive/02.png"), ("positive/02.png", "positive/01.png")]
    with refused("move.refused"):
        move_files(root, swap)
    assert contents(root) == before
    monkeypatch.setattr(
        Path, "rename", lambda file, target: killed() if file.name == ".moving 1 02.png" else rename(file, target)
    )
    with pytest.raises(KeyboardInterrupt):
        move_files(root, swap)
    monkeypatch.undo()
    put_back(root)
    assert sorted(contents(root).values()) == sorted(before.values()), "no image is lost"
    assert not any(".moving" in name for name in contents(root))


def test_a_set_gets_another_name_and_takes_no_others(tmp_path: Path) -> None:
    root = tmp_path / "smiel"
    sides(root, ["1.png"], ["1.png"])
    (tmp_path / "taken").mkdir()
    before = contents(root)
    for name, code in (
        ("taken", "rename.taken"),
        ("positive", "rename.name"),
        ("removed", "rename.name"),
        (".hidden", "rename.name"),
        ("a/b", "file.name"),
        (" ", "file.no_name"),
        ("con", "file.reserved"),
    ):
        with refused(code):
            rename_folder(root, name)
    assert rename_folder(root, "smile") == tmp_path / "smile"
    assert contents(tmp_path / "smile") == before
    assert not root.exists()
    assert rename_folder(tmp_path / "smile", "Smile").name == "Smile"


def killed() -> None:
    raise KeyboardInterrupt


def test_the_examination_names_the_pair_of_each_finding(tmp_path: Path) -> None:
    for name, colours in (("01", (RED, RED)), ("02", (RED, BLUE))):
        for side, colour in zip(("positive", "negative"), colours, strict=True):
            put(tmp_path / side / f"{name}.png", colour, (64, 64))
    found = {files[0].name: " ".join(lines) for files, lines in examined(read_dataset(bucket_folders(tmp_path))).of_pairs}
    assert list(found) == ["01.png", "02.png"]
    assert "(0.00%)" in found["01.png"]
    assert "(0.00%)" not in found["02.png"]
    assert "01.png" not in found["01.png"]
