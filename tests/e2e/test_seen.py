"""What a person sees beside the pictures: reports on the nodes, the help page, errors, and what a cancel leaves behind."""

from __future__ import annotations

import re

import harness
import pytest
from playwright.sync_api import Page, expect

from slider_core.train.training_file import load_run

LIMIT_S, MORE_STEPS = 120.0, 100_000
HEIGHT = "() => window.app.graph._nodes.find(n => n.type === 'SliderBucket').size[1]"
PICTURE = """() => [...document.querySelectorAll('.node-help-content img')]
    .map(i => ({loaded: i.complete && i.naturalWidth > 0, width: i.getBoundingClientRect().width, alt: i.alt}))"""


@pytest.mark.e2e
def test_reports_of_the_injector_the_training_and_the_saving_stand_on_their_nodes(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    graph = harness.small_graph("1", "2", "5", "6", "19", name=f"told_{kind}")
    graph["5"]["inputs"]["rank"] = rank = {"classic": 2, "vue": 3}[kind]  # what ran before says nothing again
    harness.lay(page, graph)
    result = harness.run_and_wait(page, LIMIT_S)
    harness.fit_view(page)
    harness.screenshot(page, f"reports-{kind}")
    assert result.ok, str(result)
    for words in (
        "20 layers (general), lora",
        f"at rank {rank};",
        f"told_{kind}: step 4 of 4.",
        f"Saved models/loras/sliders/told_{kind}.safetensors",
    ):
        page.get_by_text(words).first.wait_for(state="visible", timeout=10_000)


@pytest.mark.e2e
def test_a_dataset_that_is_gone_and_an_input_without_a_link_are_named(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    graph = harness.small_graph("1", "2", "5", "6", "19")
    graph["2"]["inputs"]["folder"] = "no_such_folder"
    harness.lay(page, graph)
    assert harness.run_and_wait(page, LIMIT_S).event == "rejected"
    page.get_by_test_id("error-overlay-see-errors").click()
    page.get_by_text("Load Slider Dataset - folder").wait_for(state="visible", timeout=10_000)
    harness.screenshot(page, f"error-folder-{kind}")
    assert page.evaluate("() => window.app.graph._nodes.filter(n => n.has_errors).map(n => n.type)") == ["LoadSliderDataset"]
    if kind == "vue":
        return  # the second fault takes the same way to the page
    graph = harness.small_graph("1", "2", "5", "6", "19")
    del graph["6"]["inputs"]["dataset"]
    harness.lay(page, graph)
    assert harness.run_and_wait(page, LIMIT_S).event == "rejected"
    page.get_by_test_id("error-overlay-see-errors").click()
    page.get_by_text("Slider Train Step - dataset").wait_for(state="visible", timeout=10_000)
    harness.screenshot(page, f"error-link-{kind}")


@pytest.mark.e2e
def test_what_went_wrong_while_it_ran_is_said_in_the_packs_own_words(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    empty = {"class_type": "SliderBucket", "inputs": {"strength": 1.0, "captions": "a face"}}
    harness.lay(page, {"1": empty, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}}})
    low = page.evaluate(HEIGHT)
    assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
    said = page.locator(".slider-error").filter(has_text="connect images, or choose a folder and connect none.")
    said.wait_for(state="visible", timeout=10_000)
    high = page.evaluate(HEIGHT)
    harness.fit_view(page)
    harness.screenshot(page, f"error-run-{kind}")
    page.get_by_test_id("error-overlay-see-errors").click()
    page.get_by_text("connect images, or choose a folder and connect none.").last.wait_for(state="visible", timeout=10_000)
    harness.run_and_wait(page, LIMIT_S)
    expect(said).to_have_count(1, timeout=10_000)  # however often it is run
    assert kind == "vue" or page.evaluate(HEIGHT) == high  # Vue nodes are laid out anew by the page
    page.evaluate("() => window.app.api.dispatchCustomEvent('execution_start', { prompt_id: 'of another graph' })")
    page.wait_for_timeout(500)
    expect(said).to_have_count(1)
    page.evaluate("() => window.app.api.dispatchCustomEvent('executing', '1')")
    expect(said).to_have_count(0, timeout=10_000)
    assert kind == "vue" or page.evaluate(HEIGHT) == low


@pytest.mark.e2e
def test_a_help_page_opens_for_every_node_with_its_text_and_pictures(classic: Page) -> None:
    for page in sorted((harness.ROOT / "web" / "docs").glob("*.md")):
        look_up(page.stem, page.read_text(encoding="utf-8"), classic)


def look_up(node: str, text: str, desk: Page) -> None:
    """The info button above the node; the pictures are those that the page names."""
    desk.evaluate(
        """kind => {
            const {canvas, graph} = window.app, node = window.LiteGraph.createNode(kind);
            graph.clear();
            node.pos = [300, 200]; // in view
            graph.add(node);
            canvas.selectNode(node);
        }""",
        node,
    )
    desk.get_by_test_id("info-button").click()
    desk.locator(".node-help-content h1").get_by_text(text.splitlines()[0].removeprefix("# ")).wait_for(timeout=10_000)
    named = re.findall(r"!\[([^\]]*)\]", text)
    desk.wait_for_function(
        f"count => {{ const shown = ({PICTURE})(); return shown.length === count && shown.every(p => p.loaded); }}",
        arg=len(named),
    )
    harness.settle(desk, 100)
    harness.screenshot(desk, f"help-{node}")
    pictures = desk.evaluate(PICTURE)
    assert [p["alt"] for p in pictures] == named, node
    assert all(p["width"] > 200 for p in pictures), node
    listed = desk.evaluate("""() => [...document.querySelectorAll('.node-help-content li')]
        .filter(item => item.firstChild?.nodeName === 'CODE' && item.childNodes[1]?.data?.startsWith(' (')).length""")
    assert listed == len(re.findall(r"^- `\w+` \(", text, flags=re.MULTILINE))
    assert desk.evaluate("""() => { const page = document.querySelector('.node-help-content');
        return page.scrollWidth <= page.clientWidth + 1; }"""), f"{node}: wider than the panel"


@pytest.mark.e2e
def test_a_cancel_in_the_middle_leaves_a_run_that_can_be_read_and_no_error(classic: Page, server: harness.Server) -> None:
    page = classic
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name="cancelled", steps=MORE_STEPS))
    harness.count_steps(page)

    def cancel_when_it_trains() -> None:
        page.wait_for_function("() => window.trained > 5", timeout=LIMIT_S * 1000)
        page.get_by_role("button", name="Cancel current run").click()

    result = harness.run_and_wait(page, LIMIT_S, meanwhile=cancel_when_it_trains)
    harness.settle(page)
    harness.screenshot(page, "cancelled")
    assert result.event == "execution_interrupted"
    assert page.get_by_test_id("error-overlay").count() == 0, "a cancel is no error"
    run = load_run(server.base / "output" / "sliders" / "cancelled" / "cancelled.run.safetensors")
    assert 5 < run.step < MORE_STEPS
