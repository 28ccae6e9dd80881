"""Slider Train Step in the browser: the button that ends a training lets the graph go on."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page

BUTTON, MORE_STEPS = "finish now", 100_000
LIMIT_S = 300.0
BUTTON_AT = """name => {
    const canvas = window.app.canvas;
    const node = window.app.graph._nodes.find(n => n.type === 'SliderTrainStep');
    const widget = node.widgets.find(w => w.name === name);
    const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10];
    const box = canvas.canvas.getBoundingClientRect();
    return at.map((v, i) => (v + canvas.ds.offset[i]) * canvas.ds.scale + [box.left, box.top][i]);
}"""


@pytest.mark.e2e
def test_finish_now_ends_the_training_and_the_graph_goes_on(classic: Page) -> None:
    page = classic
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name="ended", steps=MORE_STEPS))
    harness.count_steps(page)
    page.mouse.click(*page.evaluate(BUTTON_AT, BUTTON))
    page.get_by_text("This node is not training now.").wait_for(timeout=10_000)

    def press_when_it_trains() -> None:
        page.wait_for_function("() => window.trained > 5", timeout=LIMIT_S * 1000)
        page.mouse.click(*page.evaluate(BUTTON_AT, BUTTON))

    result = harness.run_and_wait(page, LIMIT_S, meanwhile=press_when_it_trains)
    harness.settle(page)
    harness.screenshot(page, "finish-now")
    assert result.ok, str(result)
    assert 5 < page.evaluate("() => window.trained") < MORE_STEPS
