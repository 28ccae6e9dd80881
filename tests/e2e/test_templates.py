"""Every bundled workflow that needs no download: found in the Templates dialog, opened, looked at and run, in both canvases."""

from __future__ import annotations

from collections.abc import Iterator

import harness
import pytest
from playwright.sync_api import Page
from rings import find_chromium

LIMIT_S = 600.0  # the quickstart is run whole, in a test of its own
# what each shows after a run
SHOWN = {
    "slider_from_words": ("SliderStrengthSweep",),
    "slider_dataset_in_graph": ("SliderStrengthSweep",),
    "slider_sweep_and_xy": ("SliderStrengthSweep", "PreviewImage", "SaveSliderSweep"),
    "slider_prompt_library": ("SliderStrengthSweep", "SliderPromptLibrary"),
    "slider_continue_training": (),
    "slider_several": ("PreviewImage",),
    "slider_pair_maker": ("SliderStrengthSweep", "PreviewImage"),
}
DOWNLOADED = (
    "slider_assistant_adapter",
    "slider_controlnet",
    "slider_edit_model",
    "slider_flux",
    "slider_qwen_image",
    "slider_sd15_folders",
    "slider_sdxl_folders",
)
CONTINUED = "slider_continue_training"
ACTIVE = "() => window.app.graph._nodes.filter(n => n.mode === 0 && n.type !== 'MarkdownNote').length"
# Vue nodes that lie over each other on the page
OVERLAPPING = """() => {
    const boxes = [...document.querySelectorAll('.lg-node')].map(n => [n.dataset.nodeId, n.getBoundingClientRect()]);
    const over = ([, a], [, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => over(a, b)).map(b => `${a[0]} and ${b[0]}`));
}"""
SWITCH_ON = """() => { for (const node of window.app.graph._nodes) node.mode = 0; }"""


@pytest.fixture(scope="module")
def classic(server: harness.Server) -> Iterator[Page]:
    with harness.browse(server, find_chromium()) as page:
        yield page


@pytest.fixture(scope="module")
def vue(server: harness.Server) -> Iterator[Page]:
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": True}) as page:
        yield page


def opened(page: Page, name: str) -> None:
    """The first time in a canvas by the dialog, which shows every workflow of the pack."""
    if hasattr(page, "slider_dialog"):
        harness.load_template(page, harness.PACK, name)
    else:
        bundled = {path.stem for path in (harness.ROOT / "workflows").glob("*.json")}
        assert harness.open_template(page, harness.PACK, name) == bundled
        page.slider_dialog = True
    assert harness.unknown_nodes(page) == []
    harness.fit_view(page)


def run(page: Page, server: harness.Server, name: str, picture: str) -> None:
    """Run the open workflow with short trainings; every node that shows pictures must show one."""
    harness.shorten(page, server)
    result = harness.run_and_wait(page, LIMIT_S)
    shown = {kind: harness.await_pictures(page, kind) for kind in SHOWN[name]} if result.ok else {}
    harness.fit_view(page)
    harness.screenshot(page, picture)
    assert result.ok, str(result)
    for kind, nodes in shown.items():
        assert nodes, f"the workflow has no {kind} node"
        for node in nodes:
            assert node["imgs"] or node["elements"] or node["outputs"], f"{kind} {node['id']} shows no picture: {node}"


@pytest.mark.e2e
@pytest.mark.parametrize("name", [name for name in SHOWN if name != CONTINUED])
def test_a_workflow_opens_in_both_canvases_and_runs_in_one(name: str, classic: Page, vue: Page, server: harness.Server) -> None:
    """They take turns: what runs in the classic canvas is opened in Vue nodes, and the other way round."""
    running, other = (classic, vue) if list(SHOWN).index(name) % 2 == 0 else (vue, classic)
    opened(running, name)
    run(running, server, name, f"{name}-run")
    beside(other, name)
    check(classic, vue)


@pytest.mark.e2e
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_workflow_of_a_model_that_is_absent_opens_in_both_canvases(name: str, classic: Page, vue: Page) -> None:
    beside(classic, name)
    beside(vue, name)
    assert all(page.evaluate(ACTIVE) > 5 for page in (classic, vue))
    check(classic, vue)


def beside(page: Page, name: str) -> None:
    harness.load_template(page, harness.PACK, name)
    assert harness.unknown_nodes(page) == []
    harness.fit_view(page)
    harness.screenshot(page, f"{name}-opened-{'vue' if page.locator('.lg-node').count() else 'classic'}")


def check(classic: Page, vue: Page) -> None:
    assert vue.locator(".lg-node").count() == vue.evaluate("() => window.app.graph._nodes.length")
    assert vue.evaluate(OVERLAPPING) == []
    assert harness.page_errors(classic) + harness.page_errors(vue) == []


@pytest.mark.e2e
def test_a_training_goes_on_from_its_file_when_the_second_group_is_switched_on(
    classic: Page, vue: Page, server: harness.Server
) -> None:
    """The first group saves the file that the second one loads; the group's menu sets the mode of its nodes, as here."""
    opened(classic, CONTINUED)
    assert classic.evaluate("() => window.app.graph._nodes.filter(n => n.mode === 2).length") == 3
    run(classic, server, CONTINUED, f"{CONTINUED}-run")
    beside(vue, CONTINUED)
    check(classic, vue)
    classic.evaluate(SWITCH_ON)
    classic.evaluate("() => window.app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    harness.settle(classic)
    run(classic, server, CONTINUED, f"{CONTINUED}-from-file")
    assert harness.page_errors(classic) == []
