"""The nodes in another language, as the browser shows them."""

from __future__ import annotations

import json

import harness
import pytest
from rings import find_chromium

LANGUAGE = "ja"
SHOWN = """() => window.app.graph._nodes.filter(n => n.type === 'SliderTrainStep').map(n => ({
    title: n.title,
    widgets: Object.fromEntries((n.widgets ?? []).map(w => [w.name, w.label ?? w.name])),
    inputs: Object.fromEntries(n.inputs.map(i => [i.name, i.label ?? i.localized_name])),
    outputs: n.outputs.map(o => o.label ?? o.localized_name),
}))[0]"""


@pytest.mark.e2e
def test_titles_inputs_and_outputs_are_shown_in_the_language_of_the_user(server: harness.Server) -> None:
    own = json.loads((harness.ROOT / "locales" / LANGUAGE / "nodeDefs.json").read_text(encoding="utf-8"))["SliderTrainStep"]
    try:
        with harness.browse(server, find_chromium(), {"Comfy.Locale": LANGUAGE}) as page:
            page.evaluate("() => { const n = window.LiteGraph.createNode('SliderTrainStep'); window.app.graph.add(n); }")
            harness.fit_view(page)
            harness.screenshot(page, f"locale-{LANGUAGE}")
            shown, errors = page.evaluate(SHOWN), harness.page_errors(page)
    finally:
        server.set("Comfy.Locale", "en")
    assert errors == []
    assert shown["title"] == own["display_name"]
    for name, label in (shown["widgets"] | shown["inputs"]).items():
        if "name" in own["inputs"].get(name, {}):
            assert label == own["inputs"][name]["name"]
    assert shown["outputs"] == [own["outputs"][str(n)]["name"] for n in range(len(shown["outputs"]))]
