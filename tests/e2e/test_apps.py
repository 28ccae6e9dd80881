"""Both Apps: opened from Templates, a slider is trained in the one and used in the other."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Locator, Page, expect
from rings import find_chromium
from test_new_user import FACE, choose, give_images

PANELS = (".slider-dataset", ".slider-live", ".slider-report", ".slider-scrubber")
FIRST = "() => window.app.graph._nodes[0]"
LIMIT_S, STEPS, RUN = 300.0, 6, "linear-run-button"
SMALL = {"width": 1280, "height": 800}
LOW, PRESS_MS = 170, 90


def opened(page: Page, name: str) -> None:
    """The App of that name."""
    harness.open_template(page, harness.PACK, name)
    page.get_by_test_id("linear-widgets").wait_for(timeout=20_000)
    choose(page, "CheckpointLoaderSimple", ckpt_name="tiny.safetensors")
    choose(page, "SliderSampling", prompt=FACE)


def sees_how_it_ended(page: Page) -> None:
    """Nobody has to scroll to the verdict, the strip, or what lets it train on."""
    for part in (".slider-live .verdict", ".slider-live img.strip", ".slider-live .more"):
        expect(page.locator(part)).to_be_in_viewport(ratio=0.99, timeout=15_000)


def says_what_the_app_does_not_show(page: Page) -> None:
    """A verdict that advises inputs says that they are in the graph."""
    states = page.evaluate("async () => (await (await window.app.api.fetchApi('/slider_lora/progress')).json()).nodes")
    state = states[-1] | {"verdict": "Little effect. Look at the pairs, raise the rank, or add layers."}
    page.evaluate("state => window.app.api.dispatchCustomEvent('slider_lora.progress', state)", state)
    expect(page.locator(".slider-live .elsewhere")).to_have_text("Open the graph, at the top left, to change: rank, layers.")
    expect(page.locator(".slider-live .elsewhere")).to_be_visible()
    harness.screenshot(page, "app-advice")


def moves_the_handle(page: Page) -> None:
    """The sweep's, which stands in both Apps."""
    handle = page.locator(".slider-scrubber").get_by_role("slider")
    handle.focus()
    page.keyboard.press("End")
    assert handle.get_attribute("aria-valuenow") == "2"


def press(page: Page, button: Locator) -> None:
    """As a hand does it: the button is held for a moment."""
    button.hover()
    page.mouse.down()
    page.wait_for_timeout(PRESS_MS)
    page.mouse.up()


def does_the_first_click_in_the_folded_panel(page: Page) -> None:
    """The panel of the images unfolds only with the click, and says what was done."""
    panel = page.locator(".slider-dataset")
    expect(panel.locator(".doctor .summary")).to_be_visible(timeout=20_000)
    assert panel.bounding_box()["height"] == LOW
    press(page, panel.get_by_label("Swap pair 1"))
    expect(panel.locator(".status")).to_contain_text("Pair 1 swapped.")
    assert panel.bounding_box()["height"] > LOW
    press(page, panel.get_by_role("button", name="undo", exact=True))
    expect(panel.locator(".status")).to_contain_text("Undone.")


@pytest.mark.e2e
def test_a_slider_is_trained_in_one_app_and_used_in_the_other(server: harness.Server) -> None:
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": True}) as page:
        opened(page, "slider_train.app")
        for label in ("checkpoint", "folder"):
            expect(page.get_by_test_id("app-mode-widget-item").get_by_text(label, exact=True)).to_have_count(1)
        note = page.locator(".slider-note")
        assert not harness.run_and_wait(page, LIMIT_S, button=RUN).ok, "there are no images yet"
        expect(note).to_contain_text("images", timeout=10_000)
        expect(note).to_be_visible()
        give_images(page, "in_an_app", 2)
        expect(note).to_have_count(0)
        rows = page.locator(".slider-dataset .row")
        expect(rows).to_have_count(2)
        expect(page.locator(".slider-dataset .doctor .summary")).to_be_visible(timeout=20_000)  # with it the rows are drawn anew
        seen = page.locator(".slider-dataset .list").bounding_box()
        last = rows.last.bounding_box()
        assert last["y"] + last["height"] <= seen["y"] + seen["height"], "two pairs are seen whole"
        choose(page, "SaveSliderLoRA", force=True)
        choose(page, "SliderTrainStep", steps=STEPS)
        result = harness.run_and_wait(page, LIMIT_S, button=RUN)
        assert result.ok, str(result)
        verdict = page.locator(".slider-live .verdict")
        expect(verdict).to_contain_text(f"step {STEPS} of {STEPS}.", timeout=15_000)
        sees_how_it_ended(page)
        listed, first = page.locator(".slider-dataset .list").bounding_box(), rows.first.locator(".cell").first.bounding_box()
        assert listed["y"] <= first["y"]
        assert first["y"] + first["height"] <= listed["y"] + listed["height"], "one pair is still seen"
        harness.screenshot(page, "app-train")
        moves_the_handle(page)

        page.set_viewport_size(SMALL)
        does_the_first_click_in_the_folded_panel(page)
        harness.count_steps(page)
        page.locator(".slider-live .more").click()
        page.wait_for_function(f"() => window.trained > {STEPS}", timeout=LIMIT_S * 1000)
        page.locator(".slider-live .finish").click()
        expect(verdict).to_contain_text("Finished early, as you asked", timeout=LIMIT_S * 1000)
        report = page.locator(".slider-report")
        expect(report).to_contain_text("Saved models/loras/sliders/in_an_app.safetensors", timeout=LIMIT_S * 1000)
        expect(report).to_be_in_viewport(ratio=0.99, timeout=15_000)
        sees_how_it_ended(page)
        harness.screenshot(page, "app-train-on")
        says_what_the_app_does_not_show(page)
        opened(page, "slider_use.app")
        choose(page, "LoadSliderLoRA", file="sliders/in_an_app.safetensors")
        result = harness.run_and_wait(page, LIMIT_S, button=RUN)
        assert result.ok, str(result)
        moves_the_handle(page)
        harness.screenshot(page, "app-use")
        assert harness.page_errors(page) == []


def stand_in(page: Page, place: str) -> None:
    """All panels are seen, there."""
    for panel in PANELS:
        expect(page.locator(f"{place} {panel}")).to_be_visible(timeout=10_000)


@pytest.mark.e2e
def test_an_undo_leaves_the_panels_in_the_app(classic: Page) -> None:
    """A redo too; and each is in its node when the graph is shown again."""
    harness.load_template(classic, harness.PACK, "slider_train.app")
    listed, prompt = classic.get_by_test_id("linear-widgets"), classic.get_by_test_id("linear-widgets").locator("textarea")
    listed.wait_for(timeout=20_000)
    before = prompt.input_value()
    choose(classic, "SliderSampling", prompt="another prompt")  # what is typed Chromium undoes too, by itself
    for keys, value in (("Control+z", before), ("Control+y", "another prompt")):
        classic.mouse.click(500, 400)
        classic.wait_for_timeout(500)
        node = classic.evaluate_handle(FIRST)
        classic.keyboard.press(keys)
        classic.wait_for_function(f"node => node !== ({FIRST})()", arg=node, timeout=10_000)
        harness.settle(classic)
        expect(prompt).to_have_value(value)
        stand_in(classic, '[data-testid="linear-widgets"]')
        harness.screenshot(classic, f"app-classic-{keys}")
    classic.evaluate("() => window.app.extensionManager.command.execute('Comfy.ToggleLinear')")
    listed.wait_for(state="hidden", timeout=20_000)
    harness.fit_view(classic)
    stand_in(classic, ".dom-widget")
