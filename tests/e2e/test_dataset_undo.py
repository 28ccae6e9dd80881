"""What is half done on Load Slider Dataset, and what can be taken back, stays when ComfyUI makes the node anew: after an undo,
a redo, in another tab and back, in both canvases. A place that lacks its image takes one by a click."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import harness
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from rings import find_chromium
from test_apps import opened
from test_dataset_node import GIVE, SEEN, VALUE, images
from test_dataset_notes import command

COLOURS = ("red", "blue", "green", "navy", "gold", "pink")
BOX = """() => { const {graph, canvas} = window.app, node = graph.getNodeById(2), {scale, offset} = canvas.ds;
    const rect = canvas.canvas.getBoundingClientRect();
    return [rect.x + (node.pos[0] + offset[0] + 60) * scale, rect.y + (node.pos[1] + offset[1] - 14) * scale]; }"""
X = "() => window.app.graph.getNodeById(2).pos[0]"
LINE = 20  # pixels, of what the doctor says above the rows
SCROLLED = "() => document.querySelector('.slider-dataset .list').scrollTop"
SAME = "node => window.app.graph.getNodeById(2) === node"


def workflow(folder: str) -> dict[str, Any]:
    """One node, in a workflow that has an id as those that people open."""
    node = {"id": 2, "type": "LoadSliderDataset", "pos": [500, 60], "size": [360, 640], "widgets_values": [folder, ""]}
    graph = {"id": str(uuid4()), "version": 0.4, "last_node_id": 2, "last_link_id": 0, "links": [], "groups": []}
    return graph | {"nodes": [node | {"flags": {}, "order": 0, "mode": 0, "inputs": [], "outputs": [], "properties": {}}]}


def laid(page: Page, folder: str) -> Locator:
    """The panel of a node with that folder."""
    command(page, "Comfy.RefreshNodeDefinitions")  # that the folder is listed
    harness.load_workflow(page, workflow(folder), folder)
    return page.locator(".slider-dataset")


def a_set(server: harness.Server, tmp_path: Path, name: str, more: int, less: int) -> Path:
    home = server.base / "input" / name
    for side, count in (("positive", more), ("negative", less)):
        (home / side).mkdir(parents=True)
        for n, file in enumerate(images(tmp_path, side, COLOURS[:count])):
            file.rename(home / side / f"{n}.png")
    return home


def drag_node(page: Page) -> None:
    """A change of the graph, which an undo takes back."""
    x, y = page.evaluate(BOX)
    before = page.evaluate(X)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y + 20, steps=4)
    page.mouse.up()
    page.wait_for_function(f"before => ({X})() !== before", arg=before, timeout=10_000)
    harness.settle(page)


def press_on_canvas(page: Page, keys: str) -> None:
    """Keys with the mouse on the empty canvas; the node is another after them."""
    node = page.evaluate_handle("() => window.app.graph.getNodeById(2)")
    page.mouse.click(1200, 700)
    page.keyboard.press(keys)
    page.wait_for_function(f"node => !({SAME})(node)", arg=node, timeout=10_000)
    harness.settle(page)
    page.wait_for_timeout(250)


def other_tab_and_back(page: Page, name: str) -> None:
    command(page, "Comfy.NewBlankWorkflow")
    expect(page.locator(".slider-dataset")).to_have_count(0)
    page.get_by_text(name).first.click()
    expect(page.locator(".slider-dataset")).to_be_visible(timeout=15_000)
    harness.settle(page)


def close_other_tabs(page: Page) -> None:
    page.evaluate("""async () => { const {workflow} = window.app.extensionManager, others = [...workflow.openWorkflows];
        for (const one of others) if (one !== workflow.activeWorkflow) await workflow.closeWorkflow(one); }""")


@pytest.mark.e2e
def test_a_change_of_the_images_can_be_taken_back_after_the_node_was_made_anew(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path
) -> None:
    page, kind = canvas
    name = f"back_{kind}"
    home = a_set(server, tmp_path, name, 3, 3)
    panel = laid(page, name)
    title, status = panel.locator(".title"), panel.locator(".status")
    undo = panel.get_by_role("button", name="undo", exact=True)
    expect(title).to_have_text(f"{name}: 3 pairs")
    drag_node(page)
    page.get_by_label("Remove pair 2").click()
    expect(title).to_have_text(f"{name}: 2 pairs")
    for again in ("Control+z", "Control+y"):
        press_on_canvas(page, again)
        expect(status).to_contain_text(f"{name}/removed")
        expect(undo).to_be_visible()
    other_tab_and_back(page, name)
    expect(status).to_contain_text(f"{name}/removed")
    harness.screenshot(page, f"undo-again-{kind}")
    undo.click()
    expect(title).to_have_text(f"{name}: 3 pairs")
    assert (home / "positive" / "1.png").is_file()
    assert (home / "negative" / "1.png").is_file()
    drag_node(page)
    press_on_canvas(page, "Control+z")
    expect(title).to_have_text(f"{name}: 3 pairs")
    expect(undo).to_be_hidden()  # it was used

    page.get_by_label("Swap pair 1").click()
    expect(status).to_contain_text("Pair 1 swapped.")
    page.get_by_label("Pair 1 down").click()
    expect(status).to_contain_text("Pair 1 is pair 2 now.")
    press_on_canvas(page, "Control+y")
    expect(status).to_contain_text("Pair 1 is pair 2 now.")
    (home / "positive" / "2.png").unlink()  # a change of somebody else
    press_on_canvas(page, "Control+z")
    expect(title).to_contain_text("1 without a partner")
    expect(undo).to_be_hidden()
    expect(status).to_be_hidden()
    close_other_tabs(page)


@pytest.mark.e2e
def test_what_is_half_done_stays_when_the_node_is_made_anew(vue: Page, server: harness.Server, tmp_path: Path) -> None:
    page, name = vue, "half"
    a_set(server, tmp_path, name, 6, 6)
    panel = laid(page, name)
    field = panel.locator(".head input")
    expect(panel.locator(".row")).to_have_count(6)
    drag_node(page)
    expect(panel.locator(".doctor .summary")).to_be_visible(timeout=20_000)
    panel.locator(".doctor .summary").click()  # Nodes 2.0 leaves the wheel to a list that has the focus
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"({SCROLLED})() > 150", timeout=10_000)
    place = page.evaluate(SCROLLED)
    for again in (lambda: press_on_canvas(page, "Control+z"), lambda: other_tab_and_back(page, name)):
        again()
        expect(panel.locator(".doctor .summary")).to_be_visible(timeout=20_000)
        page.wait_for_function(f"place => Math.abs(({SCROLLED})() - place) <= {LINE}", arg=place, timeout=10_000)
    drag_node(page)
    panel.get_by_role("button", name="rename").click()
    field.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("half a na")
    press_on_canvas(page, "Control+z")
    expect(field).to_have_value("half a na")
    panel.get_by_role("button", name="back").click()
    panel.get_by_role("button", name="new set").click()
    field.fill("fresh")
    press_on_canvas(page, "Control+y")
    expect(field).to_have_value("fresh")
    expect(panel.locator(".row")).to_have_count(0)
    waiting: list[Route] = []
    page.route("**/upload/image", lambda route: waiting.append(route))
    panel.locator(".zone.positive input").set_input_files(images(tmp_path, "positive", COLOURS[:1]))
    expect(panel.locator(".status")).to_contain_text("1 of 1")
    press_on_canvas(page, "Control+z")
    expect(panel.locator(".status")).to_contain_text("1 of 1")
    command(page, "Comfy.NewBlankWorkflow")
    expect(panel).to_have_count(0)
    waiting[0].continue_()
    page.unroute("**/upload/image")
    page.wait_for_timeout(800)
    page.get_by_text(name).first.click()
    expect(panel.locator(".title")).to_contain_text("fresh: 0 pairs", timeout=15_000)
    expect(panel.locator(".status")).to_contain_text("1 file added.")
    assert page.evaluate(VALUE) == "fresh"
    close_other_tabs(page)


@pytest.mark.e2e
@pytest.mark.parametrize(("canvas", "by"), harness.in_turn("click", "Enter", "Space", "drop", "paste"), indirect=["canvas"])
def test_an_empty_place_takes_its_image(canvas: tuple[Page, str], server: harness.Server, tmp_path: Path, by: str) -> None:
    """Into that very place, though another waits before it and though the file has another pair's name."""
    page, kind = canvas
    name = f"place_{kind}_{by}"
    home = a_set(server, tmp_path, name, 3, 1)
    panel = laid(page, name)
    cell = panel.locator('[data-key="negative 2"]')
    expect(panel.locator(".title")).to_contain_text("2 without a partner")
    expect(cell).to_have_text("drop or click")
    cell.hover()
    harness.screenshot(page, f"empty-place-{kind}")
    if by in ("drop", "paste"):
        page.evaluate(GIVE, ['[data-key="negative 2"]', by, "1.png"])
    else:
        with page.expect_file_chooser() as chooser:
            if by == "click":
                cell.click()
            else:
                cell.focus()
                page.keyboard.press(by)
        assert not chooser.value.is_multiple()
        chosen = tmp_path / "1.png"
        images(tmp_path, "lilac", ("violet",))[0].rename(chosen)
        chooser.value.set_files(chosen)
    expect(panel.locator(".title")).to_have_text(f"{name}: 2 pairs, 1 without a partner", timeout=20_000)
    expect(panel.locator(".status")).to_contain_text("1 file added.")
    assert sorted(file.name for file in (home / "negative").iterdir()) == ["0.png", "2.png"]
    panel.locator('[data-key="positive 0"]').click()
    expect(panel.locator('[data-key="negative 1"]')).to_have_text("put it here")
    panel.locator('[data-key="negative 1"]').click()
    expect(panel.locator(".status")).to_contain_text("moved", timeout=20_000)


def first_goes_and_comes_back(page: Page, home: Path) -> None:
    """A file that is dropped on an image replaces it, whatever its name; the undo brings the old one back."""
    panel = page.locator(".slider-dataset")
    first = home / "positive" / "0_positive.png"
    before, others = first.read_bytes(), sorted(home.glob("*tive/*.*"))
    page.evaluate(GIVE, ['[data-key="positive 0"]', "drop", "1_positive.png"])  # as another is called
    expect(panel.locator(".status")).to_contain_text("place_app/removed", timeout=20_000)
    expect(panel.locator(".title")).to_have_text("place_app: 2 pairs")
    page.wait_for_function(f"() => ({SEEN})('positive 0')?.join() === '136,68,34'", timeout=10_000)
    assert first.read_bytes() != before
    assert (home / "removed" / "positive 0_positive.png").read_bytes() == before
    harness.screenshot(page, "replaced-app")
    panel.get_by_role("button", name="undo", exact=True).click()
    expect(panel.locator(".status")).to_contain_text("Undone.")
    assert first.read_bytes() == before
    assert sorted(home.glob("*tive/*.*")) == others
    assert len([*(home / "removed").iterdir()]) == 1, "the new one"


@pytest.mark.e2e
def test_an_empty_place_takes_its_image_in_an_app(server: harness.Server, tmp_path: Path) -> None:
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": True}) as page:
        opened(page, "slider_train.app")
        panel = page.locator(".slider-dataset")
        panel.get_by_label("Name of a new set").fill("place_app")
        for side, count in (("positive", 2), ("negative", 1)):
            panel.locator(f".zone.{side} input").set_input_files(images(tmp_path, side, COLOURS[:count]))
            expect(panel.locator(".status")).to_contain_text("added", timeout=30_000)
        cell = panel.locator('[data-key="negative 1"]')
        expect(cell).to_have_text("drop or click")
        expect(panel.locator(".doctor .summary")).to_be_visible(timeout=20_000)  # with it the rows are drawn anew
        page.evaluate("""() => document.querySelector('[data-key="negative 1"]').scrollIntoView({block: 'nearest'})""")
        harness.screenshot(page, "empty-place-app")
        with page.expect_file_chooser() as chooser:
            cell.click()
        chooser.value.set_files(images(tmp_path, "negative", COLOURS[:2])[1])
        expect(panel.locator(".title")).to_have_text("place_app: 2 pairs", timeout=20_000)
        first_goes_and_comes_back(page, server.base / "input" / "place_app")
        panel.get_by_label("Remove pair 2").click()
        expect(panel.locator(".status")).to_contain_text("place_app/removed")
        harness.screenshot(page, "undo-app")
        assert harness.page_errors(page) == []


@pytest.mark.e2e
def test_an_undo_brings_back_no_name_that_a_set_had_before(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path
) -> None:
    page, kind = canvas
    name = f"called_{kind}"
    a_set(server, tmp_path, name, 3, 3)
    panel = laid(page, name)
    expect(panel.locator(".row")).to_have_count(3)
    drag_node(page)
    panel.get_by_role("button", name="rename").click()
    panel.locator(".head input").fill(f"{name} 2")
    page.keyboard.press("Enter")
    expect(panel.locator(".title")).to_contain_text(f"{name} 2: 3 pairs", timeout=20_000)
    for keys in ("Control+z", "Control+y"):  # the drag
        press_on_canvas(page, keys)
        assert page.evaluate(VALUE) == f"{name} 2"
        expect(panel.locator(".title")).to_contain_text(f"{name} 2: 3 pairs", timeout=20_000)
        expect(panel.locator(".row")).to_have_count(3)


HISTORY = "() => window.app.extensionManager.workflow.activeWorkflow.changeTracker"
MOVE = "() => { const node = window.app.graph._nodes[0]; node.pos = [node.pos[0] - 50, node.pos[1]]; }"
WITH_A_MENU = "window.app.graph._nodes.find(node => node.type === 'SliderSampling')"
HIGHER = f"() => {{ const node = {WITH_A_MENU}; node.setSize([node.size[0], node.size[1] + 150]); return node.size[1]; }}"


@pytest.mark.e2e
def test_what_was_undone_can_be_done_again_in_a_template(canvas: tuple[Page, str]) -> None:
    """Also after a click beside it, which has ComfyUI look whether anything has changed meanwhile."""
    page, _ = canvas
    harness.load_template(page, harness.PACK, "quickstart")
    capture = f"() => ({HISTORY})().captureCanvasState()"
    height = page.evaluate(HIGHER)
    harness.settle(page)
    page.evaluate(capture)
    page.evaluate(MOVE)
    page.evaluate(capture)
    press_on_canvas(page, "Control+z")
    harness.settle(page)
    assert page.evaluate(f"() => {WITH_A_MENU}.size[1]") == pytest.approx(height, abs=1)
    page.mouse.click(1200, 700)
    page.wait_for_timeout(500)
    assert page.evaluate(f"() => [({HISTORY})().undoQueue.length, ({HISTORY})().redoQueue.length]") == [1, 1]


SCALE = "() => window.app.canvas.ds.scale"


@pytest.mark.e2e
def test_the_wheel_over_a_panel_zooms_but_for_a_list_that_is_longer_than_its_place(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path
) -> None:
    page, kind = canvas
    harness.load_template(page, harness.PACK, "quickstart")
    harness.fit_view(page)
    for place in (".slider-dataset .zone.positive", ".slider-live .words"):
        before = page.evaluate(SCALE)
        page.locator(place).hover()
        page.mouse.wheel(0, -100)
        page.wait_for_function(f"before => ({SCALE})() > before", arg=before, timeout=5000)
    a_set(server, tmp_path, f"wheel_{kind}", 6, 6)
    panel = laid(page, f"wheel_{kind}")
    expect(panel.locator(".row")).to_have_count(6)
    panel.locator(".doctor .summary").click(timeout=20_000)  # Nodes 2.0 leaves the wheel to a list that has the focus
    before = page.evaluate(SCALE)
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"({SCROLLED})() > 150", timeout=10_000)
    assert page.evaluate(SCALE) == before
    close_other_tabs(page)
