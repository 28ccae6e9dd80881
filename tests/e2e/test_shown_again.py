"""What the nodes showed last is in them again: in another tab, after an undo, after a reload, in both canvases; and in no other
workflow."""

from __future__ import annotations

from collections.abc import Iterator

import harness
import pytest
from playwright.sync_api import Page, expect
from rings import find_chromium

LIMIT_S = 300.0
MOVE = """() => { const {graph, extensionManager} = window.app, node = graph._nodes[0];
    node.pos = [node.pos[0] + 50, node.pos[1]];
    extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }"""
OTHER = """async (name) => {
    const answer = await window.app.api.fetchApi('/workflow_templates/slider-lora/quickstart.json');
    await window.app.loadGraphData(await answer.json(), true, true, name); }"""
STRIP = """() => { const node = window.app.graph._nodes.find(n => n.type === 'SliderStrengthSweep');
    return node.imgs?.[0]?.naturalWidth > 600; }"""  # a picture of the scrubber is 64 pixels wide


@pytest.fixture(params=[False, True], ids=["canvas", "vue"])
def page(request: pytest.FixtureRequest, server: harness.Server) -> Iterator[Page]:
    settings = {"Comfy.VueNodes.Enabled": request.param, "Comfy.Workflow.Persist": True}
    with harness.browse(server, find_chromium(), settings) as opened:
        yield opened
        errors = harness.page_errors(opened)
    assert not errors, "uncaught errors in the page:\n" + "\n".join(errors)


def all_is_shown(page: Page, slider: str) -> None:
    expect(page.locator(".slider-report")).to_contain_text(f"sliders/{slider}.safetensors", timeout=30_000)
    expect(page.locator(".slider-scrubber .scene img")).to_have_count(3, timeout=30_000)
    expect(page.locator(".slider-live .verdict")).to_contain_text(f"{slider}: step", timeout=30_000)
    page.wait_for_function(STRIP, timeout=30_000)


def handle(page: Page) -> str | None:
    return page.locator(".slider-scrubber").get_by_role("slider").get_attribute("aria-valuenow")


def nothing_is_shown(page: Page) -> None:
    """Another graph of the same nodes shows nothing of this one's run, neither while it runs nor later."""
    page.wait_for_timeout(1000)
    assert page.locator(".slider-report").inner_text() == ""
    assert page.locator(".slider-scrubber .scene img").count() == 0
    assert not page.evaluate(STRIP)
    expect(page.locator(".slider-live .words")).to_contain_text("A training shows here")


@pytest.mark.e2e
def test_strip_handle_and_report_are_there_again(page: Page, server: harness.Server, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    harness.load_template(page, harness.PACK, "quickstart")
    slider = harness.shorten(page, server)
    result = harness.run_and_wait(page, LIMIT_S, meanwhile=lambda: page.evaluate(OTHER, "looks_on"))
    assert result.ok, str(result)
    nothing_is_shown(page)
    page.get_by_text("quickstart").first.click()
    all_is_shown(page, slider)

    page.locator(".slider-scrubber").get_by_role("slider").press("End")
    highest = handle(page)
    before = page.evaluate("() => window.app.graph._nodes[0].pos[0]")
    page.evaluate(MOVE)
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.Undo')")
    page.wait_for_function("x => Math.abs(window.app.graph._nodes[0].pos[0] - x) < 1", arg=before, timeout=20_000)
    all_is_shown(page, slider)
    assert float(handle(page)) > 0
    assert handle(page) == highest, "where it was left"

    harness.settle(page)
    page.wait_for_timeout(1000)  # the page keeps its draft a moment after a change
    page.reload(wait_until="domcontentloaded")
    harness.await_ready(page)
    all_is_shown(page, slider)
    harness.screenshot(page, f"shown-again-{kind}")

    page.evaluate(OTHER, "another")
    nothing_is_shown(page)
