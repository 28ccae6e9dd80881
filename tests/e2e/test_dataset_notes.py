"""The red sentence on Load Slider Dataset: it stays until its images have changed, covers nothing, and is there again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness
import pytest
from playwright.sync_api import Page, Route, expect
from rings import find_chromium
from test_dataset_node import images
from test_new_user import choose

LIMIT_S = 60.0
COLOURS = ("red", "blue", "green", "navy")
UNEQUAL = "Unequal counts"
LISTINGS, FINDINGS = "**/slider_lora/dataset*", "**/slider_lora/dataset/findings*"
PANELS = """() => window.app.graph._nodes.flatMap(node => (node.widgets ?? []))
    .filter(widget => widget.element?.className.includes('slider-'))
    .map(widget => [widget.name, widget.element.getBoundingClientRect().width > 0])"""
MOVE = """() => { const {graph, extensionManager} = window.app, node = graph._nodes.find(n => n.type === 'PreviewImage');
    node.pos = [node.pos[0] + 50, node.pos[1]];
    extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }"""


def looked_at(folder: str = "none", node: str = "2") -> dict[str, Any]:
    """A dataset whose contact sheet is looked at: the smallest graph that runs."""
    inputs = {"folder": folder, "caption": ""}
    shown = str(int(node) + 1)
    return {
        node: {"class_type": "LoadSliderDataset", "inputs": inputs},
        shown: {"class_type": "PreviewImage", "inputs": {"images": [node, 4]}},
    }


def give(page: Page, side: str, files: list[Path], done: str) -> None:
    panel = page.locator(".slider-dataset")
    panel.locator(f".zone.{side} input").set_input_files(files)
    expect(panel.locator(".status")).to_contain_text(done, timeout=30_000)


def two_pairs(page: Page, tmp_path: Path, name: str) -> None:
    page.locator(".slider-dataset").get_by_label("Name of a new set").fill(name)
    for side in ("positive", "negative"):
        give(page, side, images(tmp_path, side, COLOURS[:2]), "2 files added.")


def one_more(folder: Path, side: str) -> Path:
    return images(folder, side, COLOURS[:3])[2]


@contextmanager
def held(page: Page, file: Path, answered: bool, address: str = LISTINGS) -> Iterator[None]:
    """What the server says of folders once that file is there comes only at the end: `answered` where it has said it before, else
    it is asked then."""
    waiting: list[tuple[Route, Any]] = []

    def hold(route: Route) -> None:
        if file.is_file():
            waiting.append((route, route.fetch() if answered else None))
        else:
            route.continue_()

    page.route(address, hold)
    yield
    end = time.monotonic() + 20
    while not waiting and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert waiting
    for route, answer in waiting:
        if answer is None:
            route.continue_()
        else:
            route.fulfill(response=answer)
    page.unroute(address)


def await_file(page: Page, path: Path) -> None:
    end = time.monotonic() + 20
    while not path.is_file():
        assert time.monotonic() < end, path
        page.wait_for_timeout(100)


@pytest.mark.e2e
@pytest.mark.parametrize(("canvas", "answered"), harness.in_turn(False, True), indirect=["canvas"])
def test_a_note_stays_when_the_panel_hears_late_of_the_images_that_its_run_read(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path, answered: bool
) -> None:
    """Run is pressed while the panel still waits to hear of the last drop."""
    page, kind = canvas
    name = f"late_{kind}_{answered}"
    harness.lay(page, looked_at())
    two_pairs(page, tmp_path, name)
    note = page.locator(".slider-error span")
    file = server.base / "input" / name / "positive" / "2_positive.png"
    with held(page, file, answered):
        page.locator(".zone.positive input").set_input_files(one_more(tmp_path, "positive"))
        await_file(page, file)
        page.wait_for_timeout(500)
        assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
        expect(note).to_contain_text(UNEQUAL)
    expect(page.locator(".slider-dataset .title")).to_contain_text("1 without a partner", timeout=20_000)
    page.wait_for_timeout(800)
    expect(note).to_contain_text(UNEQUAL)
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    page.wait_for_timeout(800)
    expect(note).to_contain_text(UNEQUAL)
    give(page, "negative", [one_more(tmp_path, "negative")], "1 file added.")
    expect(note).to_have_count(0)
    assert harness.run_and_wait(page, LIMIT_S).ok


def command(page: Page, name: str) -> None:
    page.evaluate("name => window.app.extensionManager.command.execute(name)", name)


def unequal(server: harness.Server, tmp_path: Path, name: str) -> str:
    """A choice of three images and two."""
    for side, count in (("positive", 3), ("negative", 2)):
        home = server.base / "input" / name / side
        home.mkdir(parents=True)
        for file in images(tmp_path, side, COLOURS[:count]):
            file.rename(home / file.name)
    return name


@pytest.mark.e2e
def test_a_note_is_there_again_after_an_undo_a_reload_and_in_another_tab_and_not_once_it_was_closed(
    server: harness.Server, tmp_path: Path
) -> None:
    name = unequal(server, tmp_path, "again")
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": True, "Comfy.Workflow.Persist": True}) as page:
        note = page.locator(".slider-error .sentence")
        harness.lay(page, looked_at(name) | looked_at("demo: smile", "4"))
        command(page, "Comfy.RefreshNodeDefinitions")
        harness.settle(page)
        assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
        expect(note).to_contain_text(UNEQUAL)

        def undo() -> None:
            page.evaluate(MOVE)
            command(page, "Comfy.Undo")
            page.wait_for_timeout(800)
            assert all(seen for _, seen in page.evaluate(PANELS)), "a panel that is seen is that of a node of the graph"

        undo()
        expect(note).to_be_visible()
        command(page, "Comfy.NewBlankWorkflow")
        expect(note).to_have_count(0)
        page.get_by_text("graph").first.click()
        expect(note).to_be_visible(timeout=15_000)
        page.wait_for_timeout(1000)  # the page keeps its draft a moment after a change
        page.reload(wait_until="domcontentloaded")
        harness.await_ready(page)
        expect(note).to_be_visible(timeout=15_000)
        page.locator(".slider-error .close").click()
        expect(note).to_have_count(0)
        undo()
        expect(note).to_have_count(0)
        page.wait_for_timeout(1000)
        page.reload(wait_until="domcontentloaded")
        harness.await_ready(page)
        page.locator(".slider-dataset .row").first.wait_for()
        page.wait_for_timeout(1000)
        expect(note).to_have_count(0)
        assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
        expect(note).to_be_visible()
        page.evaluate("() => window.app.graph.remove(window.app.graph.getNodeById(2))")
        expect(note).to_have_count(0)
        assert harness.page_errors(page) == []


@pytest.mark.e2e
def test_a_note_in_a_closed_subgraph_is_said_beside_the_graph(
    canvas: tuple[Page, str], server: harness.Server, tmp_path: Path
) -> None:
    page, kind = canvas
    harness.lay(page, looked_at(unequal(server, tmp_path, f"inside_{kind}")))
    page.evaluate("() => window.app.graph.convertToSubgraph(new Set([window.app.graph.getNodeById(2)]))")
    harness.settle(page)
    assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
    expect(page.locator(".p-toast-message").filter(has_text=UNEQUAL)).to_be_visible()
    page.evaluate("""() => { const {graph, canvas} = window.app, outer = graph._nodes.find(node => node.subgraph);
        canvas.openSubgraph(outer.subgraph, outer); }""")
    expect(page.locator(".slider-error .sentence")).to_be_visible()


@pytest.mark.e2e
def test_a_note_covers_nothing_and_can_be_read_whole(canvas: tuple[Page, str], server: harness.Server, tmp_path: Path) -> None:
    page, kind = canvas
    harness.lay(page, looked_at(unequal(server, tmp_path, f"whole_{kind}")))
    page.evaluate("() => { window.app.canvas.ds.scale = 1; window.app.graph.getNodeById(2).setSize([340, 620]); }")
    harness.settle(page)
    page.locator(".slider-dataset .row").first.wait_for()
    assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
    note = page.locator(".slider-error")
    expect(note).to_be_visible()
    inside = page.locator(".slider-dataset").bounding_box()
    box = note.bounding_box()
    assert box["y"] + box["height"] <= inside["y"] + inside["height"] + 1, "it ends in its node"
    for place in (".head", ".zones", ".list"):
        other = page.locator(f".slider-dataset {place}").bounding_box()
        assert other["y"] + other["height"] <= box["y"] + 1 or box["y"] + box["height"] <= other["y"] + 1, place
    sentence = note.locator(".sentence")
    end = sentence.evaluate(
        "text => { text.scrollTop = text.scrollHeight; return text.scrollTop + text.clientHeight - text.scrollHeight; }"
    )
    assert abs(end) <= 1, "it scrolls to its end"
    command(page, "Comfy.Canvas.FitView")
    harness.screenshot(page, f"note-{kind}")


@pytest.mark.e2e
def test_the_panel_shows_the_folder_that_is_chosen_however_late_the_server_answers(
    classic: Page, server: harness.Server, tmp_path: Path
) -> None:
    page, panel = classic, classic.locator(".slider-dataset")
    name = unequal(server, tmp_path, "chosen_late")
    harness.lay(page, looked_at("demo: smile"))
    panel.get_by_text("6 pairs").wait_for(timeout=30_000)
    with held(page, server.base / "input" / name / "positive" / "0_positive.png", answered=True):
        choose(page, "LoadSliderDataset", folder=name)
        choose(page, "LoadSliderDataset", folder="demo: smile")
        page.wait_for_timeout(500)
    page.wait_for_timeout(800)
    expect(panel.locator(".row")).to_have_count(0)
    expect(panel).to_contain_text("These pairs come with the pack.")


@pytest.mark.e2e
@pytest.mark.parametrize("folder", ["none", "chosen_while_it_uploads"], ids=["a_new_set", "more_images"])
def test_a_set_that_is_chosen_while_images_come_in_stays_chosen(
    classic: Page, server: harness.Server, tmp_path: Path, folder: str
) -> None:
    page, panel, name = classic, classic.locator(".slider-dataset"), "chosen_while_it_uploads"
    harness.lay(page, looked_at(folder))
    if folder == "none":
        panel.get_by_label("Name of a new set").fill(name)
    waiting: list[Route] = []
    page.route("**/upload/image", lambda route: waiting.append(route))
    panel.locator(".zone.positive input").set_input_files(images(tmp_path, folder, COLOURS[:1]))
    panel.locator(".status", has_text="1 of 1").wait_for()
    choose(page, "LoadSliderDataset", folder="demo: smile")
    expect(panel).to_contain_text("These pairs come with the pack.", timeout=30_000)
    waiting[0].continue_()
    page.unroute("**/upload/image")
    expect(panel.locator(".status")).to_contain_text(f"{name}: 1 file added.", timeout=20_000)
    assert (server.base / "input" / name / "positive" / f"0_{folder}.png").is_file()
    expect(panel).to_contain_text("These pairs come with the pack.")
    assert page.evaluate("() => window.app.graph.getNodeById(2).widgets.find(w => w.name === 'folder').value") == "demo: smile"


@pytest.mark.e2e
def test_what_the_doctor_says_late_of_images_that_have_changed_is_not_shown(
    classic: Page, server: harness.Server, tmp_path: Path
) -> None:
    page, panel, name = classic, classic.locator(".slider-dataset"), "examined_late"
    harness.lay(page, looked_at())
    file = server.base / "input" / name / "positive" / "0_positive.png"
    with held(page, file, answered=True, address=FINDINGS):
        panel.get_by_label("Name of a new set").fill(name)
        for side in ("positive", "negative"):
            give(page, side, images(tmp_path, side, COLOURS[:1]), "1 file added.")
        page.wait_for_timeout(800)
        panel.locator('[data-key="positive 0"]').click()
        panel.get_by_role("button", name="remove it").click()
        expect(panel.locator(".title")).to_contain_text("1 without a partner", timeout=20_000)
    page.wait_for_timeout(1000)
    expect(panel.locator(".doctor")).to_have_count(0)


@pytest.mark.e2e
def test_the_doctor_says_of_captions_what_a_run_would_say(classic: Page, server: harness.Server, tmp_path: Path) -> None:
    page = classic
    name, words = "captions", page.locator(".slider-dataset .words", has_text="caption")
    for side in ("positive", "negative"):
        home = server.base / "input" / name / side
        home.mkdir(parents=True)
        for file in images(tmp_path, side, COLOURS[:3]):
            file.rename(home / file.name.replace(f"_{side}", ""))
    (server.base / "input" / name / "positive" / "1.txt").write_text("a face", encoding="utf-8")
    graph = looked_at(name)
    graph["9"] = {"class_type": "SliderDatasetOptions", "inputs": {"caption_from": "textfile"}}
    graph["2"]["inputs"]["options"] = ["9", 0]
    harness.lay(page, graph)
    command(page, "Comfy.RefreshNodeDefinitions")  # that the folder is listed
    expect(words).to_have_count(1, timeout=30_000)
    choose(page, "LoadSliderDataset", caption="a face")
    expect(words).to_have_count(0, timeout=20_000)
    harness.screenshot(page, "captions")
    command(page, "Comfy.RefreshNodeDefinitions")
    page.wait_for_timeout(800)
    expect(words).to_have_count(0)
    assert harness.run_and_wait(page, LIMIT_S).ok
    command(page, "Comfy.RefreshNodeDefinitions")
    page.wait_for_timeout(800)
    expect(words).to_have_count(0)
    choose(page, "LoadSliderDataset", caption="")
    expect(words).to_have_count(1, timeout=20_000)
    choose(page, "SliderDatasetOptions", caption_from="none")
    page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    expect(words).to_have_count(0, timeout=20_000)
