"""What is typed wrong is said in its node when Run is pressed, in both canvases, and goes when it is mended."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page, expect
from test_new_user import choose

CHANGED = "() => window.app.api.dispatchCustomEvent('graphChanged', {})"  # as the canvas does after a hand's change
LAST = "async () => Object.keys(await (await window.app.api.fetchApi('/history?max_items=1')).json())[0] ?? ''"


@pytest.mark.e2e
def test_what_is_typed_wrong_is_refused_before_anything_is_trained(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    harness.load_template(page, harness.PACK, "quickstart")
    choose(page, "SliderStrengthSweep", strengths="-2 to 2")
    choose(page, "SaveSliderLoRA", name="a<b")
    before = page.evaluate(LAST)
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    notes = page.locator(".slider-note.error .sentence")
    expect(notes).to_have_count(2, timeout=15_000)
    said = " ".join(notes.all_inner_texts())
    assert '"-2 to 2" is not a number' in said
    assert 'name "a<b" holds a character that no file name can have' in said
    harness.screenshot(page, f"refused-{kind}")
    assert page.evaluate("async () => (await window.app.api.getQueue()).Running.length") == 0
    choose(page, "SliderStrengthSweep", strengths="-1, 1")
    page.evaluate(CHANGED)
    expect(notes).to_have_count(1, timeout=15_000)
    choose(page, "SaveSliderLoRA", name="")
    page.evaluate(CHANGED)
    expect(notes).to_have_count(0, timeout=15_000)
    assert page.evaluate(LAST) == before, "nothing was run"
    assert harness.page_errors(page) == []
