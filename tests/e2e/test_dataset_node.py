"""Load Slider Dataset in both canvases: images chosen, pasted and dropped on it, arranged by keys, examined."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

SIZE = (96, 96)
VALUE = "() => window.app.graph._nodes.find(n => n.type === 'LoadSliderDataset').widgets.find(w => w.name === 'folder').value"
GIVE = """async ([selector, kind, name]) => {
    const picture = new OffscreenCanvas(32, 32), brush = picture.getContext('2d');
    brush.fillStyle = kind === 'paste' ? '#248' : '#842';
    brush.fillRect(0, 0, 32, 32);
    const given = new DataTransfer();
    given.items.add(new File([await picture.convertToBlob()], name, {type: 'image/png'}));
    const place = document.querySelector(selector);  // only now: rows are drawn anew when the doctor has answered
    const way = {bubbles: true, cancelable: true};
    place.focus();
    if (kind === 'drop') place.dispatchEvent(new DragEvent('drop', {dataTransfer: given, ...way}));
    else place.dispatchEvent(new ClipboardEvent('paste', {clipboardData: given, ...way}));
}"""


SEEN = """key => { const image = document.querySelector(`.slider-dataset [data-key="${key}"] img`);
    if (!image?.complete) return null;
    const brush = new OffscreenCanvas(1, 1).getContext('2d');
    brush.drawImage(image, 0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data.slice(0, 3)]; }"""


def images(folder: Path, side: str, colours: tuple[str, ...]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{n}_{side}.png" for n in range(len(colours))]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", SIZE, colour).save(path)
    return paths


@pytest.mark.e2e
def test_images_are_given_to_the_node_arranged_and_examined(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path
) -> None:
    page, kind = canvas
    name = f"faces/grin_{kind}"  # in a folder that is made
    home = server.base / "input" / name
    harness.lay(page, harness.small_graph("2"))
    panel = page.locator(".slider-dataset")
    panel.get_by_text("6 pairs").wait_for(timeout=30_000)  # the shipped pairs, examined by themselves
    expect(panel.locator(".sheet")).to_have_count(6)
    begin_and_leave(page, "Name of a new set")
    panel.get_by_label("Name of a new set").fill(name)
    for side, colours in (("positive", ("red", "blue")), ("negative", ("red", "navy"))):
        panel.locator(f".zone.{side} input").set_input_files(images(tmp_path, side, colours))
        panel.get_by_text("2 files added.").wait_for(timeout=30_000)
    assert page.evaluate(VALUE) == name
    expect(panel.locator(".title")).to_have_text(f"{name}: 2 pairs")
    panel.get_by_role("button", name="new set").click()
    begin_and_leave(page, "Name of a new set")
    expect(panel.locator(".title")).to_have_text(f"{name}: 2 pairs")
    expect(panel.locator(".list")).to_contain_text("Paired in the order of their names.")
    assert (home / "negative" / "1_negative.png").is_file(), "files keep their own names"
    expect(panel.locator(".row").first.locator(".words")).to_contain_text("0.00%", timeout=30_000)
    expect(panel.locator(".doctor .summary.finding")).to_contain_text("2 pairs need a look: 1, 2.")
    harness.screenshot(page, f"dataset-grin_{kind}")
    panel.locator(".zone.negative input").set_input_files(images(tmp_path, "negative", ("red", "navy")))
    expect(panel.locator(".status")).to_contain_text("2 files were there already", timeout=30_000)
    expect(panel.locator(".title")).to_have_text(f"{name}: 2 pairs")
    refuse(page, tmp_path)
    arrange(page, home)
    page.evaluate(GIVE, [".zone.positive", "drop", "face.png"])
    expect(panel.locator(".title")).to_contain_text("1 without a partner", timeout=30_000)
    page.evaluate(GIVE, [".zone.negative", "paste", "image.png"])
    expect(panel.locator(".title")).to_have_text(f"{name}: 3 pairs", timeout=30_000)
    assert (home / "negative" / "pasted 1.png").is_file()
    page.evaluate(GIVE, [".zone.positive", "drop", "zebra.png"])
    expect(panel.locator(".title")).to_contain_text("1 without a partner", timeout=30_000)
    page.evaluate(GIVE, [".zone.negative", "drop", "ape.png"])
    expect(panel.locator(".status")).to_contain_text("So that pairs stay together", timeout=30_000)
    assert (home / "negative" / "zebra.png").is_file(), "by its own name it would have come to another partner"
    assert (home / "negative" / "face.png").is_file()
    rename(page, server, name)
    assert page.evaluate("() => window.app.graph._nodes.length") == 1, "neither a key nor a paste has changed the graph"


def flowers(folder: Path, kind: str, numbers: tuple[int, ...]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"flower {n} {kind}.png" for n in numbers]
    for n, path in zip(numbers, paths, strict=True):
        Image.new("RGB", SIZE, (40 * n, 90 if kind == "open" else 20, 60)).save(path)
    return paths


@pytest.mark.e2e
@pytest.mark.parametrize(("canvas", "way"), harness.in_turn("drop", "choose", "cell"), indirect=["canvas"])
def test_a_forgotten_image_pairs_the_set_anew(canvas: tuple[Page, str], server: harness.Server, tmp_path: Path, way: str) -> None:
    """On its side it comes to its partner, and no file is renamed; in the empty place of a row it comes there."""
    page, kind = canvas
    name = f"flowers_{kind}_{way}"
    home = server.base / "input" / name
    harness.lay(page, harness.small_graph("2"))
    panel = page.locator(".slider-dataset")
    title, status = panel.locator(".title"), panel.locator(".status")
    panel.get_by_label("Name of a new set").fill(name)
    for side, files in (
        ("positive", flowers(tmp_path, "open", (1, 2, 3, 4, 5))),
        ("negative", flowers(tmp_path, "closed", (1, 2, 4, 5))),
    ):
        panel.locator(f".zone.{side} input").set_input_files(files)
        expect(status).to_contain_text(f"{len(files)} files added.", timeout=30_000)
        expect(status).not_to_contain_text("anew")
    expect(title).to_have_text(f"{name}: 4 pairs, 1 without a partner")
    forgotten = "flower 3 closed.png"
    if way == "choose":
        panel.locator(".zone.negative input").set_input_files(flowers(tmp_path, "closed", (3,)))
    else:
        page.evaluate(GIVE, [".zone.negative" if way == "drop" else '[data-key="negative 4"]', "drop", forgotten])
    expect(title).to_have_text(f"{name}: 5 pairs", timeout=30_000)
    harness.screenshot(page, f"dataset-{name}")
    kept = {f"flower {n} closed.png" for n in range(1, 6)}
    if way == "cell":
        expect(status).to_contain_text("So that pairs stay together")
        assert {file.name for file in (home / "negative").iterdir()} == {f"flower {n} open.png" for n in range(1, 6)}
        return
    expect(status).to_contain_text("1 file added. Paired anew")
    assert {file.name for file in (home / "negative").iterdir()} == kept
    for row in range(5):
        for side, word in (("positive", "open"), ("negative", "closed")):
            picture = panel.locator(f'[data-key="{side} {row}"]')
            expect(picture).to_have_attribute("title", f"flower {row + 1} {word}.png")


def begin_and_leave(page: Page, label: str) -> None:
    """A set that is named is seen empty, its name stands after Enter, and Escape shows the set before."""
    panel = page.locator(".slider-dataset")
    before, field = page.evaluate(VALUE), panel.get_by_label(label)
    field.fill("laughing")
    for image in (panel.locator(".row"), panel.locator(".sheet")):
        expect(image).to_have_count(0)
    expect(panel.locator(".list")).to_contain_text('"laughing"')
    page.keyboard.press("Enter")
    expect(panel.locator(".title")).to_have_text("laughing: no images yet")
    expect(panel.locator(".zone.positive")).to_be_focused()
    harness.screenshot(page, "dataset-new-set")
    page.keyboard.press("Escape")
    expect(panel.locator(".list")).not_to_contain_text("laughing")
    expect(panel.locator(".sheet").or_(panel.locator(".row"))).not_to_have_count(0)
    assert page.evaluate(VALUE) == before


def rename(page: Page, server: harness.Server, name: str) -> None:
    """Another name, by its button and Enter: files, node and list follow."""
    panel = page.locator(".slider-dataset")
    panel.get_by_role("button", name="rename").click()
    field = panel.get_by_label("New name of")
    own = Path(name).name  # the folder above stays
    assert field.input_value() == own
    field.fill("demo: no")
    page.keyboard.press("Enter")
    expect(panel.locator(".faults")).to_contain_text("demo: no", timeout=20_000)
    field.fill(f"{own} 2")
    page.keyboard.press("Enter")
    expect(panel.locator(".title")).to_contain_text(f"{name} 2: ", timeout=20_000)
    assert page.evaluate(VALUE) == f"{name} 2"
    assert (server.base / "input" / f"{name} 2" / "positive").is_dir()
    assert not (server.base / "input" / name).exists()
    values = "() => window.app.graph._nodes[0].widgets.find(w => w.name === 'folder').options.values"
    assert {name, f"{name} 2"} & set(page.evaluate(values)) == {f"{name} 2"}


def refuse(page: Page, folder: Path) -> None:
    for name, content in (("clip.mp4", b"film"), ("notes.txt", b"text"), ("broken.png", b"nonsense")):
        (folder / name).write_bytes(content)
        page.locator(".zone.neutral input").set_input_files(folder / name)
        expect(page.locator(".slider-dataset .faults")).to_contain_text(name, timeout=20_000)


def seen_as_they_are(page: Page, home: Path, names: tuple[str, ...]) -> None:
    """Each thumbnail shows its file as it is now, though its address was another picture's before."""
    for row, name in enumerate(names):
        for side in ("positive", "negative"):
            colour = list(Image.open(home / side / name).getpixel((0, 0)))
            page.wait_for_function(
                f"([key, colour]) => String(({SEEN})(key)) === String(colour)", arg=[f"{side} {row}", colour], timeout=10_000
            )


def arrange(page: Page, home: Path) -> None:
    """Swap, move a pair, exchange by keys, remove, undo."""
    panel, file = page.locator(".slider-dataset"), home / "positive" / "0_positive.png"
    undo = panel.get_by_role("button", name="undo", exact=True)
    names = ("0_positive.png", "1_positive.png")
    for label, done in (("Swap pair 1", "Pair 1 swapped"), ("Pair 1 down", "Pair 1 is pair 2 now"), ("Swap pair 1", "swapped")):
        page.get_by_label(label).click()
        expect(panel.locator(".status")).to_contain_text(done, timeout=20_000)
        seen_as_they_are(page, home, names)
    undo.click()
    expect(panel.locator(".status")).to_contain_text("Undone", timeout=20_000)
    seen_as_they_are(page, home, names)
    page.get_by_label("Pair 1 down").click()
    expect(panel.locator(".status")).to_contain_text("Pair 1 is pair 2 now", timeout=20_000)
    seen_as_they_are(page, home, names)
    page.get_by_label("Swap pair 1").click()
    expect(panel.locator(".status")).to_contain_text("swapped", timeout=20_000)
    page.get_by_label("Swap pair 2").click()
    expect(panel.locator(".status")).to_contain_text("Pair 2 swapped", timeout=20_000)
    assert Image.open(home / "positive" / "1_positive.png").getpixel((0, 0)) == (0, 0, 128)
    for key in ("positive 0", "positive 1"):
        panel.locator(f'[data-key="{key}"]').focus()
        page.keyboard.press("Enter")
    expect(panel.locator(".status")).to_contain_text("moved", timeout=20_000)
    assert Image.open(file).getpixel((0, 0)) == (0, 0, 128)
    panel.locator('[data-key="positive 0"]').focus()
    page.keyboard.press("Delete")
    expect(panel.locator(".title")).to_contain_text("1 without a partner", timeout=20_000)
    assert (home / "removed" / "positive 0_positive.png").is_file()
    undo.click()
    expect(panel.locator(".title")).to_contain_text("2 pairs", timeout=20_000)
    seen_as_they_are(page, home, names)
    assert file.is_file()
