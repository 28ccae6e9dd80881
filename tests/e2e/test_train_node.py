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
def test_finish_now_ends_the_training_and_the_graph_goes_on(page: Page) -> None:
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name="ended", steps=MORE_STEPS, total_steps=MORE_STEPS))
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
    assert harness.page_errors(page) == []


@pytest.mark.e2e
def test_a_preset_fills_the_widgets_in_and_an_edit_by_hand_makes_it_custom(page: Page) -> None:
    harness.lay(page, harness.small_graph("1", "2", "5", "6"))
    get = """names => { const node = window.app.graph._nodes.find(n => n.type === 'SliderTrainStep');
        return Object.fromEntries(node.widgets.filter(w => names.includes(w.name)).map(w => [w.name, w.value])); }"""
    choose = """([name, value]) => { const node = window.app.graph._nodes.find(n => n.type === 'SliderTrainStep');
        const widget = node.widgets.find(w => w.name === name);
        widget.value = value; widget.callback(value, window.app.canvas, node); }"""  # as the canvas and Vue nodes both do it
    table = page.evaluate(
        """async () => (await (await window.app.api.fetchApi('/object_info/SliderTrainStep')).json())
            .SliderTrainStep.input.optional.preset[1].presets"""
    )
    rate = page.evaluate(get, ["learning_rate"])
    for preset in ("careful", "quick"):
        page.evaluate(choose, ["preset", preset])
        assert page.evaluate(get, list(table[preset])) == table[preset]
        assert page.evaluate(get, ["preset", "learning_rate"]) == {"preset": preset} | rate
    page.evaluate(choose, ["steps", table["quick"]["steps"]])
    assert page.evaluate(get, ["preset"]) == {"preset": "quick"}, "the value that it has already"
    page.evaluate(choose, ["training_seed", 5])
    assert page.evaluate(get, ["preset"]) == {"preset": "quick"}, "a preset says nothing of the seed"
    page.evaluate(choose, ["batch", 8])
    assert page.evaluate(get, ["preset", "batch", "steps"]) == {"preset": "custom", "batch": 8, "steps": table["quick"]["steps"]}
