"""The promise of the quick start: the template opens at full size in both canvases, Run, and the slider is seen and saved."""

from __future__ import annotations

from typing import Any

import harness
import pytest
from rings import find_chromium

TEMPLATE, LIMIT_S = "quickstart", 400.0  # a training and a sweep on two slow cores
SEEN = """() => {
    const {ds, canvas} = window.app.canvas, {width, height} = canvas.getBoundingClientRect();
    const inside = node => { const [x, y, w, h] = node.getBounding(), at = (p, i) => (p + ds.offset[i]) * ds.scale;
        return at(x, 0) >= 0 && at(y, 1) >= 0 && at(x + w, 0) <= width && at(y + h, 1) <= height; };
    return {scale: ds.scale, outside: window.app.graph._nodes.filter(n => !inside(n)).map(n => n.title)};
}"""


@pytest.mark.e2e
@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_the_quickstart_is_seen_whole_and_runs(vue: bool, server: harness.Server) -> None:
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": vue}) as page:
        harness.open_template(page, harness.PACK, TEMPLATE)
        assert harness.unknown_nodes(page) == []
        view: dict[str, Any] = page.evaluate(SEEN)
        assert view["scale"] > 0.97
        assert view["outside"] == []
        assert harness.node_pictures(page, "SliderStrengthSweep")[0]["imgs"] == 0, "no pictures of a run that was not here"
        slider = "smile"
        if vue:  # the other canvas has it whole
            slider = harness.shorten(page, server)
        result = harness.run_and_wait(page, LIMIT_S)
        assert result.ok, str(result)
        shown = harness.await_pictures(page, "SliderStrengthSweep")
        harness.screenshot(page, f"{TEMPLATE}-{'vue' if vue else 'classic'}-after")
        assert all(node["imgs"] or node["elements"] for node in shown)
        assert (server.base / "models" / "loras" / "sliders" / f"{slider}.safetensors").is_file()
        assert page.evaluate(SEEN)["outside"] == [], "nothing has grown out of the window"
        assert harness.page_errors(page) == []
