"""The promise of the quick start: the template opens at full size in both canvases, Run, and the slider is seen and saved."""

from __future__ import annotations

from typing import Any

import harness
import pytest
from playwright.sync_api import Page

TEMPLATE, LIMIT_S = "quickstart", 400.0  # a training and a sweep on two slow cores
SEEN = """() => {
    const {ds, canvas} = window.app.canvas, {width, height} = canvas.getBoundingClientRect();
    const inside = node => { const [x, y, w, h] = node.getBounding(), at = (p, i) => (p + ds.offset[i]) * ds.scale;
        return at(x, 0) >= 0 && at(y, 1) >= 0 && at(x + w, 0) <= width && at(y + h, 1) <= height; };
    return {scale: ds.scale, outside: window.app.graph._nodes.filter(n => !inside(n)).map(n => n.title)};
}"""

SAVED_AS = """async () => {
    const node = window.app.graph._nodes.find(n => n.type === 'SaveSliderLoRA'), {output} = await window.app.graphToPrompt();
    return [node.widgets.find(w => w.name === 'name')._displayValue, output[node.id].inputs.name]; }"""
LISTED = """file => [...window.LiteGraph.createNode('LoraLoaderModelOnly')
    .widgets.find(w => w.name === 'lora_name').options.values]
    .includes(file)"""
HIDDEN = "verdict => verdict.scrollHeight - verdict.clientHeight"


@pytest.mark.e2e
def test_the_quickstart_is_seen_whole_and_runs(canvas: tuple[Page, str], server: harness.Server) -> None:
    page, kind = canvas
    harness.load_template(page, harness.PACK, TEMPLATE)
    assert harness.unknown_nodes(page) == []
    view: dict[str, Any] = page.evaluate(SEEN)
    assert view["scale"] > 0.97
    assert view["outside"] == []
    assert harness.node_pictures(page, "SliderStrengthSweep")[0]["imgs"] == 0, "no pictures of a run that was not here"
    assert page.evaluate(SAVED_AS) == ["as trained", ""], "an empty field says what it stands for, and stays empty"
    assert page.get_by_placeholder("as trained").count() == (kind == "vue")
    slider = harness.shorten(page, server)  # test_new_user.py trains as long as it takes
    result = harness.run_and_wait(page, LIMIT_S)
    assert result.ok, str(result)
    shown = harness.await_pictures(page, "SliderStrengthSweep")
    harness.screenshot(page, f"{TEMPLATE}-{kind}-after")
    assert all(node["imgs"] or node["elements"] for node in shown)
    assert (server.base / "models" / "loras" / "sliders" / f"{slider}.safetensors").is_file()
    page.wait_for_function(LISTED, arg=f"sliders/{slider}.safetensors", timeout=20_000)  # without a key pressed
    assert page.locator(".slider-live .verdict").evaluate(HIDDEN) <= 1, "the whole verdict is seen where there is room"
    assert page.evaluate(SEEN)["outside"] == [], "nothing has grown out of the window"
    for event, pale in (("execution_start", 3), ("execution_success", 0)):  # a strip, a live strip and the file's report
        page.evaluate("event => window.app.api.dispatchCustomEvent(event, {})", event)
        dimmed = page.locator(".slider-scrubber.waiting, .slider-live.waiting, .slider-report.waiting")
        assert dimmed.count() == pale, "what the run before has shown is dimmed in a run"
