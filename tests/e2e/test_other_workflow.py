"""A run of another workflow, whose nodes have the same ids, shows nothing in the open one; back in its own it is there."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import harness
import pytest
from playwright.sync_api import Page, expect

LIMIT_S = 60.0
GRAPH = "() => JSON.parse(JSON.stringify(window.app.graph.serialize()))"
LISTED = """file => [...window.app.graph._nodes.find(n => n.type === 'LoraLoaderModelOnly')
    .widgets.find(w => w.name === 'lora_name').options.values].includes(file)"""
FAIL = """async prompt => {  // as another program queues it, which names no workflow
    const {api} = window.app, asked = await api.fetchApi('/prompt', {method: 'POST', body: JSON.stringify({prompt})})
    const {prompt_id: id} = await asked.json()
    while (!(id in await (await api.fetchApi('/history')).json())) await new Promise(done => setTimeout(done, 50))
}"""
SEND = "([event, detail]) => window.app.api.dispatchCustomEvent(event, detail)"


def opened(page: Page, graph: dict[str, Any], name: str) -> str:
    """A workflow of its own with those nodes; its id."""
    workflow = graph | {"id": str(uuid4())}
    harness.load_workflow(page, workflow, name)
    return str(workflow["id"])


@pytest.mark.e2e
def test_an_error_and_a_message_of_another_workflow_are_not_shown(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    empty = {"class_type": "SliderBucket", "inputs": {"strength": 1.0, "captions": kind}}
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}}
    harness.lay(page, {"1": empty, "2": preview})
    graph = page.evaluate(GRAPH)
    note = page.locator(".slider-error, .slider-warning")
    failing = {"class_type": "SliderBucket", "inputs": {"strength": 1.0, "captions": "of a program"}}
    page.evaluate(FAIL, {"1": failing, "2": preview})
    opened(page, graph, f"new_{kind}")
    page.wait_for_timeout(600)
    expect(note).to_have_count(0)
    own = opened(page, graph, f"runs_{kind}")
    result = harness.run_and_wait(page, LIMIT_S, meanwhile=lambda: opened(page, graph, f"looks_on_{kind}"))
    assert result.event == "execution_error"
    page.evaluate(SEND, ["slider_lora.message", {"node": "1", "graph": own, "text": "of the other"}])
    page.wait_for_timeout(600)
    expect(note).to_have_count(0)
    here = page.evaluate("() => window.app.graph.id")
    page.evaluate(SEND, ["slider_lora.message", {"node": "1", "graph": here, "text": "of this one"}])
    expect(note).to_have_text("of this one\u2715")
    page.get_by_text(f"runs_{kind}").first.click()
    expect(note).to_contain_text("connect images", timeout=15_000)


@pytest.mark.e2e
def test_a_slider_that_another_workflow_saves_is_listed_in_the_open_one(canvas: tuple[Page, str], server: harness.Server) -> None:
    page, kind = canvas
    name = f"saved_elsewhere_{kind}"
    harness.lay(page, harness.small_graph("1", "2", "6", "19", name=name))
    graph = page.evaluate(GRAPH)
    opened(page, graph, f"saves_{kind}")
    loader = {"id": 1, "type": "LoraLoaderModelOnly", "pos": [500, 60], "size": [300, 90], "flags": {}, "order": 0, "mode": 0}
    loader |= {"inputs": [], "outputs": [], "properties": {}, "widgets_values": ["", 1.0]}
    stock = {"version": 0.4, "last_node_id": 1, "last_link_id": 0, "links": [], "groups": [], "nodes": [loader]}
    result = harness.run_and_wait(page, LIMIT_S, meanwhile=lambda: opened(page, stock, f"loads_{kind}"))
    assert result.ok, str(result)
    assert (server.base / "models" / "loras" / "sliders" / f"{name}.safetensors").is_file()
    page.wait_for_function(LISTED, arg=f"sliders/{name}.safetensors", timeout=20_000)
