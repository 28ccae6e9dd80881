"""Slider Stack in the browser: an input more whenever the last one is taken, in both canvases, and in the prompt by number."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page

BUILD = """() => {
    const graph = window.app.graph;
    graph.clear();
    const add = (kind, x, y) => {
        const node = window.LiteGraph.createNode(kind);
        node.pos = [x, y];
        graph.add(node);
        return node;
    };
    window.model = add('SliderDemoModel', 50, 50);
    window.stack = add('SliderStack', 800, 50);
    window.sliders = [0, 1, 2].map(n => add('LoadSliderLoRA', 400, 50 + 220 * n));
    window.join = (from, name) => from.connect(0, window.stack, window.stack.inputs.findIndex(i => i.name === name));
    window.join(window.model, 'model');
}"""
GROWN = "() => window.stack.inputs.map(i => i.name).filter(n => n.startsWith('sliders.'))"


@pytest.mark.e2e
def test_the_stack_grows_with_its_sliders(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    page.evaluate(BUILD)
    harness.settle(page)
    for number in (1, 2, 3):
        page.evaluate(f"() => window.join(window.sliders[{number - 1}], 'sliders.slider_{number}')")
        harness.settle(page)
        assert page.evaluate(GROWN) == [f"sliders.slider_{n}" for n in range(1, number + 2)]
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output[window.stack.id].inputs")
    assert [sent[f"sliders.slider_{n}"][1] for n in (1, 2, 3)] == [0, 0, 0]
    assert "sliders.slider_4" not in sent
    harness.fit_view(page)
    harness.screenshot(page, f"slider-stack-{kind}")
