"""While it trains, Slider Train Step shows a strip, the gain curve and words: on the canvas, in Vue nodes, after a reload."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import harness
import pytest
from graphs import spelled_out
from playwright.sync_api import Page
from rings import find_chromium

MORE_STEPS, LIMIT_S = 100_000, 200.0
SHOWN = """() => {
    const panel = document.querySelector('.slider-live'), picture = panel?.querySelector('img');
    if (!panel || !panel.getBoundingClientRect().height) return null;
    return {
        strip: picture.naturalWidth, of: picture.dataset.path ?? '', words: panel.querySelector('.words').textContent,
        curves: panel.querySelectorAll('circle').length, verdict: panel.querySelector('.verdict').textContent,
        cut: panel.scrollHeight - panel.clientHeight, height: panel.clientHeight,
    };
}"""
ALL_IS_SHOWN = f"() => {{ const s = ({SHOWN})(); return s && s.strip > 0 && s.curves === 2 && s.verdict ? s : null; }}"
EARLY = r"/^step \d+ of 100000, finished early$/"
ALL_IS_DONE = f"() => {{ const s = ({SHOWN})(); return s && {EARLY}.test(s.words) && s.strip > 0 ? s : null; }}"
NODE_SIZE = "() => [...window.app.graph._nodes.find(n => n.type === 'SliderTrainStep').size]"


def watched_graph() -> dict[str, Any]:
    """The quickstart's training with a live preview, and the picture of its curve."""
    graph = harness.small_graph("1", "2", "5", "6", "7", "8", "9", name="watched", steps=MORE_STEPS, strip_every=8)
    graph["6"]["inputs"]["sampling"] = ["20", 0]
    prompts = {"positive": ["7", 0], "negative": ["8", 0], "latent_image": ["9", 0], "prompt": ""}
    sampler = {"steps": 8, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "picture_seed": 7}
    graph["20"] = {"class_type": "SliderSampling", "inputs": prompts | sampler}
    graph["21"] = {"class_type": "PreviewImage", "inputs": {"images": ["6", 4]}}
    return spelled_out(graph)


def look(page: Page, name: str) -> None:
    """A picture of the training node, as large as it goes."""
    page.evaluate(
        """() => { const {canvas, graph} = window.app, node = graph._nodes.find(n => n.type === 'SliderTrainStep');
            canvas.ds.scale = 1; canvas.ds.offset = [60 - node.pos[0], innerHeight - 60 - node.pos[1] - node.size[1]];
            canvas.setDirty(true, true); }"""
    )
    harness.settle(page)
    harness.screenshot(page, name)


def finish(server: harness.Server) -> None:
    body, headers = json.dumps({"node": "6"}).encode(), {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/slider_lora/finish", body, headers), timeout=30).close()


@pytest.mark.e2e
def test_a_training_is_seen_on_the_canvas_after_a_reload_and_in_a_second_tab_of_vue_nodes(server: harness.Server) -> None:
    with harness.browse(server, find_chromium(), {"Comfy.Workflow.Persist": True}) as page:
        page.evaluate("prompt => window.app.loadApiJson(prompt, 'workflow')", watched_graph())
        harness.settle(page)
        low = page.evaluate(NODE_SIZE)
        look(page, "live-before")
        page.evaluate("() => window.app.queuePrompt(0, 1)")
        shown = page.wait_for_function(ALL_IS_SHOWN, timeout=LIMIT_S * 1000).json_value()
        assert re.fullmatch(r"step \d+ of 100000, (.+ left|drawing the strip)", shown["words"])
        assert shown["cut"] <= 0
        size = page.evaluate(NODE_SIZE)
        assert size[0] == low[0]
        assert low[1] < size[1] < low[1] + 400
        look(page, "live-canvas")

        page.reload(wait_until="domcontentloaded")
        harness.await_ready(page)
        look(page, "live-reloading")
        again = page.wait_for_function(ALL_IS_SHOWN, timeout=20_000).json_value()
        assert int(again["words"].split()[1]) > int(shown["words"].split()[1])
        look(page, "live-reloaded")

        server.set("Comfy.VueNodes.Enabled", True)
        tab = page.context.new_page()
        tab.slider_errors = []
        tab.on("pageerror", lambda error: tab.slider_errors.append(str(error)))
        tab.goto(server.url, wait_until="domcontentloaded")
        harness.await_ready(tab)
        harness.load_workflow(tab, page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))"))
        look(tab, "live-vue-opened")
        shown = tab.wait_for_function(ALL_IS_SHOWN, timeout=20_000).json_value()
        assert shown["cut"] <= 0
        assert tab.locator(".lg-node .slider-live").count() == 1, "a Vue node holds it"
        look(tab, "live-vue")
        step = int(shown["words"].split()[1])
        tab.wait_for_function(f"() => parseInt(({SHOWN})().words.split(' ')[1]) > {step}", timeout=60_000)

        finish(server)
        for opened in (page, tab):
            # a picture whose address just changed is 0 pixels wide until it is there
            told = opened.wait_for_function(ALL_IS_DONE, timeout=LIMIT_S * 1000).json_value()
            assert told["of"] != shown["of"], "the last strip"
            assert told["verdict"].endswith(".")
        harness.fit_view(page)
        harness.screenshot(page, "live-done")
        look(tab, "live-vue-done")
        assert harness.page_errors(page) + harness.page_errors(tab) == []
        tab.close()
