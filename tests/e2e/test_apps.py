"""Both Apps: opened from Templates, a slider is trained in the one and used in the other."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page, expect
from rings import find_chromium
from test_new_user import FACE, choose, give_images

LIMIT_S, MORE_STEPS, RUN = 300.0, 100_000, "linear-run-button"


def opened(page: Page, name: str) -> None:
    """The App of that name."""
    harness.open_template(page, harness.PACK, name)
    page.get_by_test_id("linear-widgets").wait_for(timeout=20_000)
    choose(page, "CheckpointLoaderSimple", ckpt_name="tiny.safetensors")
    choose(page, "SliderSampling", prompt=FACE)


@pytest.mark.e2e
def test_a_slider_is_trained_in_one_app_and_used_in_the_other(server: harness.Server) -> None:
    with harness.browse(server, find_chromium(), {"Comfy.VueNodes.Enabled": True}) as page:
        opened(page, "slider_train.app")
        assert page.get_by_test_id("app-mode-widget-item").get_by_text("folder", exact=True).count() == 1, (
            "an own folder is chosen"
        )
        note = page.locator(".slider-note")
        assert not harness.run_and_wait(page, LIMIT_S, button=RUN).ok, "there are no images yet"
        expect(note).to_contain_text("images", timeout=10_000)
        expect(note).to_be_visible()
        give_images(page, "in_an_app", 2)
        expect(note).to_have_count(0)
        rows = page.locator(".slider-dataset .row")
        seen = page.locator(".slider-dataset .list").bounding_box()
        last = rows.last.bounding_box()
        assert last["y"] + last["height"] <= seen["y"] + seen["height"], "two pairs are seen whole"
        choose(page, "SaveSliderLoRA", force=True)
        choose(page, "SliderTrainStep", steps=MORE_STEPS)
        finish = page.locator(".slider-live .finish")
        result = harness.run_and_wait(page, LIMIT_S, button=RUN, meanwhile=lambda: finish.click(timeout=LIMIT_S * 1000))
        assert result.ok, str(result)
        verdict = page.locator(".slider-live .verdict")
        expect(verdict).to_contain_text("Finished early, as you asked", timeout=15_000)
        expect(page.locator(".slider-report")).to_contain_text("in_an_app.safetensors")
        harness.screenshot(page, "app-train")

        opened(page, "slider_use.app")
        choose(page, "LoadSliderLoRA", file="sliders/in_an_app.safetensors")
        result = harness.run_and_wait(page, LIMIT_S, button=RUN)
        assert result.ok, str(result)
        handle = page.locator(".slider-scrubber").get_by_role("slider")
        handle.focus()
        page.keyboard.press("End")
        assert handle.get_attribute("aria-valuenow") == "2"
        harness.screenshot(page, "app-use")
        assert harness.page_errors(page) == []
