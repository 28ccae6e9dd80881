"""The promise of the quick start: open the template, press Run, see the slider work."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page

TEMPLATE = "slider_quickstart"
LIMIT_S = 400.0  # a training and a sweep on two slow cores
PICTURED = ("SliderStrengthSweep", "PreviewImage")


@pytest.mark.e2e
def test_quickstart_template_runs_and_shows_its_pictures(page: Page) -> None:
    file = harness.ROOT / "workflows" / f"{TEMPLATE}.json"
    assert file.is_file(), f"{file} is missing: the quick start has no workflow to open"

    harness.open_template(page, harness.PACK, TEMPLATE)
    harness.fit_view(page)
    harness.screenshot(page, f"{TEMPLATE}-before")
    assert harness.unknown_nodes(page) == [], "the workflow uses node types that the pack does not register"

    result = harness.run_and_wait(page, LIMIT_S)
    harness.settle(page)
    pictures = {kind: harness.await_pictures(page, kind) for kind in PICTURED} if result.ok else {}
    harness.fit_view(page)
    harness.screenshot(page, f"{TEMPLATE}-after")

    assert result.ok, str(result)
    for kind, nodes in pictures.items():
        assert nodes, f"the workflow has no {kind} node"
        for node in nodes:
            assert node["imgs"] or node["elements"], f"{kind} {node['id']} shows no picture after the run: {node}"
