"""Slider Train Step in the browser: the button that ends a training lets the graph go on."""

from __future__ import annotations

import harness
import pytest
from playwright.sync_api import Page, expect
from test_new_user import choose
from test_panel_state import ERROR

MORE_STEPS, LIMIT_S = 100_000, 300.0
LATE = """() => window.app.api.fetchApi('/slider_lora/finish', {method: 'POST', body: JSON.stringify({node: '6'})})
    .then(answer => answer.status)"""


@pytest.mark.e2e
def test_finish_now_ends_the_training_and_the_graph_goes_on(canvas: tuple[Page, str]) -> None:
    page, kind = canvas
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name=f"ended_{kind}", steps=MORE_STEPS))
    harness.count_steps(page)
    button = page.locator(".slider-live .finish")
    expect(button).to_be_hidden()
    assert page.evaluate(LATE) == 409, "nothing trains yet"

    def press_when_it_trains() -> None:
        expect(page.locator(".slider-live .verdict")).to_contain_text("the first one comes with step 30", timeout=LIMIT_S * 1000)
        page.wait_for_function("() => window.trained > 30", timeout=LIMIT_S * 1000)
        expect(page.locator(".slider-live .verdict")).to_contain_text("Still settling", timeout=10_000)
        harness.screenshot(page, f"finish-now-{kind}")
        button.click()

    result = harness.run_and_wait(page, LIMIT_S, meanwhile=press_when_it_trains)
    harness.settle(page)
    assert result.ok, str(result)
    assert 30 < page.evaluate("() => window.trained") < MORE_STEPS
    expect(button).to_be_hidden()
    expect(page.locator(".slider-live .words")).to_contain_text("finished early")
    expect(page.locator(".slider-live .more")).to_have_text(f"train on ended_{kind}")


@pytest.mark.e2e
def test_a_slider_that_is_not_saved_can_be_saved_once_all_the_same(classic: Page) -> None:
    """With a button: an App shows no `force`. It is saved as it is, also where its training is not at its end; the button goes
    when the node would train another slider."""
    page, name = classic, "nothing"
    harness.lay(page, harness.small_graph("1", "2", "5", "6", "19", name=name, steps=9, steps_per_run=1, learning_rate=1e-7))
    force = "() => window.app.graph._nodes.find(n => n.type === 'SaveSliderLoRA').widgets.find(w => w.name === 'force')"
    page.evaluate(f"() => {{ ({force})().value = false; }}")
    words = page.locator(".slider-live .words")
    assert harness.run_and_wait(page, LIMIT_S).event == "execution_error"
    expect(words).to_have_text("step 1, done")
    button = page.locator(".slider-error button", has_text="save anyway")
    button.click()
    saved = page.locator(".slider-report", has_text=f"{name}.safetensors")
    expect(saved).to_have_count(1, timeout=LIMIT_S * 1000)
    expect(words).to_have_text("step 1, done")
    assert page.evaluate(f"() => ({force})().value") is False
    page.evaluate(ERROR, ["SaveSliderLoRA", f'The slider "{name}" was not saved. To save it all the same, switch force on.'])
    expect(button).to_be_visible()
    choose(page, "SliderTrainStep", name="another")
    page.evaluate("() => window.app.api.dispatchCustomEvent('graphChanged', {})")
    expect(button).to_have_count(0)
