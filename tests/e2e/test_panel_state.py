"""A training's panel shows the states of its own workflow, and none of an earlier run while a new one begins."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page, expect

SEND = """([event, detail]) => window.app.api.dispatchCustomEvent(event, detail)"""
GRAPH = "() => window.app.rootGraph.id"
SET = """([name, value]) => {
    const node = window.app.graph._nodes.find((n) => n.type === 'SliderTrainStep')
    node.widgets.find((w) => w.name === name).value = value
    window.app.api.dispatchCustomEvent('graphChanged', {})
}"""


def state(graph: str) -> dict[str, object]:
    done = {"node": "6", "graph": graph, "run": 901, "name": "light two", "phase": "done", "step": 90, "until": 90}
    return done | {
        "at_most": False,
        "seconds": 0,
        "explained": [[90, 0.2, 0.2]],
        "verdict": "Works.",
        "more": 90,
        "strip": None,
        "trouble": "",
    }


def executed(page: Page, shown: dict[str, object]) -> None:
    """As ComfyUI sends it to every page of a client, whatever workflow is open there."""
    output = {"slider_train": [shown]}
    page.evaluate(SEND, ["executed", {"node": "6", "display_node": "6", "prompt_id": "of another tab", "output": output}])


@pytest.mark.e2e
def test_a_panel_shows_its_own_workflow_and_offers_what_it_would_train(classic: Page) -> None:
    page = classic
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name=""))
    words, more = page.locator(".slider-live .words"), page.locator(".slider-live .more")
    executed(page, state("another workflow"))
    expect(words).to_contain_text("A training shows here")
    page.evaluate(SET, ["name", "light two"])
    executed(page, state(page.evaluate(GRAPH)))
    expect(words).to_have_text("step 90, done")
    expect(more).to_have_text("train on light two: 90 steps")
    page.evaluate(SET, ["name", "age"])
    expect(more).to_be_hidden()
    page.evaluate(SET, ["name", "light two"])
    expect(more).to_be_visible()
    page.evaluate(SEND, ["execution_start", {"prompt_id": "next"}])
    expect(words).to_have_text("a new run begins")
    expect(more).to_be_hidden()
    page.evaluate(SEND, ["execution_success", {"prompt_id": "next"}])
    expect(words).to_have_text("step 90, done")
    expect(more).to_be_visible()
