"""Every bundled workflow that needs no download: found in the Templates dialog and opened in both canvases, run in
one."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page

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
    "slider_probe": ("SliderProbe",),
}
BUNDLED = sorted(path.stem for path in (harness.ROOT / "workflows").glob("*.json"))
DOWNLOADED = (
    "slider_assistant_adapter",
    "slider_controlnet",
    "slider_edit_model",
    "slider_flux",
    "slider_qwen_image",
    "slider_sd15_folders",
    "slider_sdxl_folders",
    "slider_wan_video",
)
CONTINUED = "slider_continue_training"
ACTIVE = "() => window.app.graph._nodes.filter(n => n.mode === 0 && n.type !== 'MarkdownNote').length"
# Vue nodes that lie over each other on the page
OVERLAPPING = """() => {
    const boxes = [...document.querySelectorAll('.lg-node')].map(n => [n.dataset.nodeId, n.getBoundingClientRect()]);
    const over = ([, a], [, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => over(a, b)).map(b => `${a[0]} and ${b[0]}`));
}"""
# a long error on each node of the pack, with a button where errors have one; then the nodes that lie over the one below, or over
# its title of 30 pixels
NOTED = """async pack => {
    const {noteOn} = await import(`/extensions/${pack}/node_note.mjs`);
    const {nodes} = window.app.graph, text = 'What went wrong, and what to do about it. '.repeat(12);
    for (const node of nodes)
        if (node.constructor.category?.startsWith('Slider/'))
            noteOn(document, node, text, {actions: node.type === 'SliderTrainStep' ? [['restart', () => {}]] : []});
    const aside = (a, b) => a.pos[0] >= b.pos[0] + b.size[0] || b.pos[0] >= a.pos[0] + a.size[0];
    const isOver = (a, b) => a.pos[1] < b.pos[1] && !aside(a, b) && a.pos[1] + a.size[1] > b.pos[1] - 30;
    let over = [];
    for (let tries = 0; tries < 8 && (!tries || over.length); tries++) {  // Vue nodes find their height in steps
        await new Promise(done => setTimeout(done, 300));
        over = nodes.flatMap(a => nodes.filter(b => isOver(a, b))
            .map(b => `${a.id} ${a.type} of ${a.size[1]}, wants ${a.computeSize()[1]}, over ${b.id} ${b.type}`));
    }
    return over;
}"""
SWITCH_ON = """() => { for (const node of window.app.graph._nodes) node.mode = 0; }"""


def run(page: Page, server: harness.Server, name: str, picture: str) -> None:
    """Run the open workflow with short trainings; every node that shows pictures must show one."""
    harness.shorten(page, server)
    result = harness.run_and_wait(page, LIMIT_S)
    shown = {kind: harness.await_pictures(page, kind) for kind in SHOWN[name]} if result.ok else {}
    harness.screenshot(page, picture)
    assert result.ok, str(result)
    for kind, nodes in shown.items():
        assert nodes, f"the workflow has no {kind} node"
        for node in nodes:
            assert node["imgs"] or node["elements"], f"{kind} {node['id']} shows no picture: {node}"


@pytest.mark.e2e
def test_every_workflow_opens(canvas: tuple[Page, str]) -> None:
    """The first by the dialog, which shows every workflow of the pack."""
    page, kind = canvas
    first, *others = [name for name in BUNDLED if ".app" not in name]
    assert sorted(harness.open_template(page, harness.PACK, first)) == BUNDLED
    look(page, first, kind)
    for name in others:
        harness.load_template(page, harness.PACK, name)
        look(page, name, kind)


def look(page: Page, name: str, kind: str) -> None:
    harness.fit_view(page)
    harness.screenshot(page, f"{name}-opened-{kind}")
    assert harness.unknown_nodes(page) == [], name
    assert page.evaluate(ACTIVE) > (5 if name in DOWNLOADED else 0), name
    assert harness.page_errors(page) == [], name
    if kind == "vue":
        assert page.locator(".lg-node").count() == page.evaluate("() => window.app.graph._nodes.length"), name
        assert page.evaluate(OVERLAPPING) == [], name
    assert page.evaluate(NOTED, harness.PACK) == [], name


@pytest.mark.e2e
@pytest.mark.parametrize(("canvas", "name"), harness.in_turn(*(name for name in SHOWN if name != CONTINUED)), indirect=["canvas"])
def test_a_workflow_runs(canvas: tuple[Page, str], name: str, server: harness.Server) -> None:
    page, _ = canvas
    harness.load_template(page, harness.PACK, name)
    harness.fit_view(page)
    run(page, server, name, f"{name}-run")


@pytest.mark.e2e
def test_a_training_goes_on_from_its_file_when_the_second_group_is_switched_on(classic: Page, server: harness.Server) -> None:
    """The first group saves the file that the second one loads; the group's menu sets the mode of its nodes, as here."""
    harness.load_template(classic, harness.PACK, CONTINUED)
    assert classic.evaluate("() => window.app.graph._nodes.filter(n => n.mode === 2).length") == 3
    run(classic, server, CONTINUED, f"{CONTINUED}-run")
    classic.evaluate(SWITCH_ON)
    classic.evaluate("() => window.app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    harness.settle(classic)
    run(classic, server, CONTINUED, f"{CONTINUED}-from-file")
