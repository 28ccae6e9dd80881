"""The scrubber in the browser: drag the handle and the picture follows, by keys too, after a reload too, in both canvases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
import torch
from graphs import spelled_out, sweep_nodes
from playwright.sync_api import Locator, Page
from rings import ROOT, find_chromium

from slider_core.config.lora import AdapterSpec
from slider_core.config.sweep import SweepSpec
from slider_core.layers.select import select
from slider_core.lora.info import SliderInfo
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, save_slider
from slider_core.use.plot_video import Clips
from slider_core.use.sweep import SweepResult
from slider_core.use.sweep_export import ShownSweep
from slider_core.use.sweep_export import page as saved_page
from slider_core.with_tiny.model import TinyBackend

FILE, STRENGTHS, LIMIT_S = "shaken.safetensors", (-2, -0.5, 0, 1), 240.0
FRAMES, GREEN = 6, 40  # of a clip, and how much greener each frame is than the one before
SAMPLED = {"steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
GRAPH = spelled_out({
    "1": {"class_type": "SliderDemoModel", "inputs": {}},
    "2": {"class_type": "LoadSliderLoRA", "inputs": {"file": FILE}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a face with tan skin on a blue background"}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    **sweep_nodes({
        "model": ["1", 0], "slider": ["2", 0], "positive": ["3", 0], "negative": ["4", 0], "vae": ["1", 2],
        "latent_image": ["5", 0], "strengths": "1, -2, 0, -0.5", "seed": 7, "rows": 2, **SAMPLED,
    }, "6", "9"),
    "7": {"class_type": "SliderLoRAApply", "inputs": {"model": ["1", 0], "slider": ["2", 0], "strength": 0.3, "file": "none"}},
    "8": {
        "class_type": "SaveSliderSweep",
        "inputs": {"sweep": ["6", 4], "filename_prefix": "swept", "webp": True, "page": True, "frame_ms": 150, "quality": 90},
    },
})  # fmt: skip
APPLIED = "() => window.app.graph._nodes.find(n => n.type === 'SliderLoRAApply').widgets.find(w => w.name === 'strength').value"
CALLS = """async () => {
    let calls = 0;
    const kept = Object.fromEntries(['requestAnimationFrame', 'setTimeout', 'setInterval'].map(name => [name, window[name]]));
    for (const [name, real] of Object.entries(kept)) window[name] = (...asked) => { calls++; return real(...asked); };
    const later = kept.setTimeout;
    await new Promise(done => later(done, 1200));
    Object.assign(window, kept);
    return calls;
}"""
SHOWN = "root => [...root.querySelectorAll('.scene img')].map(i => Number(i.style.opacity))"


@pytest.fixture(scope="module")
def slider_file(server: harness.Server) -> Path:
    """A slider with random weights among the server's LoRAs, and words for both its ends."""
    module = TinyBackend().module
    adapter = Adapter.create(module, select(module), AdapterSpec(rank=2, alpha=2.0))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.12)
    info = SliderInfo(name="shaken", minus="frown", plus="smile")
    path = server.base / "models" / "loras" / FILE
    save_slider(path, Slider(adapter.weights(), info), overwrite=True)
    return path


@pytest.fixture(params=[False, True], ids=["canvas", "vue"])
def page(request: pytest.FixtureRequest, server: harness.Server, slider_file: Path) -> Iterator[Page]:
    settings = {"Comfy.VueNodes.Enabled": request.param, "Comfy.Workflow.Persist": True}
    with harness.browse(server, find_chromium(), settings) as opened:
        yield opened
        errors = harness.page_errors(opened)
    assert not errors, "uncaught errors in the page:\n" + "\n".join(errors)


@pytest.fixture
def phone() -> Iterator[Page]:
    """A small page with touch and without a network."""
    with harness.driver(find_chromium()) as shared:
        context = shared.browser.new_context(offline=True, has_touch=True, viewport={"width": 420, "height": 760})
        yield context.new_page()
        context.close()


def scrubber(page: Page) -> Locator:
    return page.locator(".slider-scrubber")


def track(page: Page) -> Locator:
    return scrubber(page).get_by_role("slider")


def value(page: Page) -> float:
    return float(track(page).get_attribute("aria-valuenow"))


def drag(page: Page, start: float, end: float) -> None:
    """Press on the track at a share of its width and drag to another."""
    box = track(page).bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


def await_frames(page: Page, count: int) -> None:
    page.wait_for_function(
        """count => { const found = [...document.querySelectorAll('.slider-scrubber .scene img')];
            return found.length === count && found.every(i => i.complete && i.naturalWidth > 0); }""",
        arg=count,
        timeout=30_000,
    )


def view_sweep(page: Page) -> None:
    """The sweep's node alone, large enough to be used."""
    page.evaluate(
        """() => { const {canvas, graph} = window.app; const node = graph._nodes.find(n => n.type === 'SliderStrengthSweep');
            canvas.deselectAll?.(); canvas.ds.scale = 0.8;
            canvas.ds.offset = [-node.pos[0] + 500, -node.pos[1] + 80]; canvas.setDirty(true, true); }"""
    )
    harness.settle(page)


def test_the_handle_the_keys_and_the_button(page: Page, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    page.evaluate("graph => window.app.loadApiJson(graph, 'sweep')", GRAPH)
    harness.settle(page)
    harness.screenshot(page, f"scrubber-{kind}-empty")
    assert scrubber(page).get_by_text("Run the graph").count() == 1
    result = harness.run_and_wait(page, LIMIT_S)
    assert result.ok, str(result)
    await_frames(page, len(STRENGTHS))
    view_sweep(page)
    harness.screenshot(page, f"scrubber-{kind}")

    limits = [track(page).get_attribute(f"aria-value{end}") for end in ("min", "max")]
    assert limits == ["-2", "1"]
    assert value(page) == 0
    assert scrubber(page).locator(".end").all_inner_texts() == ["frown", "smile"]
    drag(page, 2 / 3, 0.02)
    assert value(page) == -2
    assert scrubber(page).evaluate(SHOWN) == [1, 0, 0, 0]
    drag(page, 0.02, 0.97)
    assert value(page) == 1
    assert track(page).get_attribute("aria-valuetext") == "+1, towards smile"
    assert scrubber(page).evaluate(SHOWN) == [0, 0, 0, 1]
    harness.screenshot(page, f"scrubber-{kind}-dragged")

    track(page).focus()
    seen = []
    for key in ("ArrowLeft", "ArrowLeft", "Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        seen.append(value(page))
    assert seen == [0, -0.5, -2, -0.5, 1]

    scrubber(page).get_by_label("cross-fade").check()
    drag(page, 0.9, 5 / 6)
    assert value(page) == pytest.approx(0.5, abs=0.03)
    opacity = scrubber(page).evaluate(SHOWN)
    assert opacity[:3] == [0, 0, 1]
    assert opacity[3] == pytest.approx(value(page), abs=1e-6)
    shown = value(page)
    assert page.evaluate(APPLIED) == 0.3
    scrubber(page).get_by_role("button", name="copy strength").click()
    page.wait_for_function(f"{APPLIED.replace('() =>', '() => (')}) === {shown}", timeout=5000)
    scrubber(page).get_by_label("Row of the sweep").select_option(label="seed 8")
    await_frames(page, len(STRENGTHS))
    assert value(page) == shown, "another row, the same strength"
    harness.screenshot(page, f"scrubber-{kind}-faded")

    page.reload(wait_until="domcontentloaded")
    harness.await_ready(page)
    page.wait_for_function("() => window.app.graph._nodes.some(n => n.type === 'SliderStrengthSweep')", timeout=30_000)
    await_frames(page, len(STRENGTHS))
    view_sweep(page)
    drag(page, 0.5, 0.98)
    assert value(page) == 1
    assert page.evaluate("() => window.app.graphToPrompt().then(p => Object.keys(p.output['6'].inputs))").count("scrubber") == 0
    harness.screenshot(page, f"scrubber-{kind}-reloaded")


def test_the_saved_page_works_from_a_file_alone(phone: Page, server: harness.Server) -> None:
    """Touch and keys on the page that Save Slider Sweep wrote, opened from the disk with no network."""
    found = sorted((server.base / "output").glob("swept_*.html"))
    if not found:
        pytest.skip("the graph of the test above saves the page; it did not run")
    errors: list[str] = []
    phone.on("pageerror", lambda error: errors.append(str(error)))
    phone.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    phone.goto(found[-1].as_uri())
    await_frames(phone, len(STRENGTHS))
    assert value(phone) == 0
    box = track(phone).bounding_box()
    phone.touchscreen.tap(box["x"] + 0.99 * box["width"], box["y"] + box["height"] / 2)
    assert value(phone) == 1
    phone.keyboard.press("Home")
    assert value(phone) == -2
    harness.screenshot(phone, "scrubber-page")
    assert errors == []


def test_clips_play_in_a_saved_page_on_one_clock(phone: Page, tmp_path: Path) -> None:
    """Each strength is a grey of its own whose green tells the moment: whatever is shown is what the clock says."""
    frames = torch.zeros(1, 2, FRAMES, 3, 32, 32, dtype=torch.uint8)
    frames[:, 0, :, 0], frames[:, 1, :, 0] = 40, 200
    frames[:, :, :, 1] = torch.arange(FRAMES, dtype=torch.uint8)[:, None, None] * GREEN
    still = frames[:, :, 0].float() / 255
    result = SweepResult(SweepSpec((-1.0, 1.0), (0,)), still, clips=Clips(frames, 8.0))
    modules = [(ROOT / "web" / name).read_text(encoding="utf-8") for name in ("scrubber.mjs", "scrubber_view.mjs")]
    file = tmp_path / "clips.html"
    file.write_bytes(saved_page(ShownSweep(result, "clips"), modules))
    phone.goto(file.as_uri())

    def colour(strength: int) -> list[int]:
        script = (
            "root => [...root.querySelectorAll('.scene canvas')].map(c => [...c.getContext('2d').getImageData(9, 9, 1, 1).data])"
        )
        return scrubber(phone).evaluate(script)[strength]

    def moments(strength: int) -> set[int]:
        """Those that are seen in a second."""
        seen = set()
        for _ in range(20):
            seen.add(round(colour(strength)[1] / GREEN))
            phone.wait_for_timeout(50)
        return seen

    phone.wait_for_function("document.querySelectorAll('.scene canvas').length === 2")
    phone.wait_for_timeout(300)
    assert scrubber(phone).locator(".scene img").count() == 0
    assert scrubber(phone).evaluate("root => [...root.querySelectorAll('.scene canvas')].map(c => c.style.opacity)") == ["1", "0"]
    assert len(moments(0)) >= FRAMES - 1, "the clip plays to its end and again"
    assert abs(colour(0)[0] - 40) < 12
    phone.evaluate(
        """() => { window.place = document.querySelector('.slider-scrubber').parentElement;
            window.gone = place.firstElementChild; place.replaceChildren(); }"""
    )
    phone.wait_for_timeout(300)
    assert phone.evaluate(CALLS) == 0, "nothing is asked for while the scrubber is not on the page"
    phone.evaluate("() => { window.place.replaceChildren(window.gone); window.place.style.display = 'none'; }")
    phone.wait_for_timeout(300)
    assert phone.evaluate(CALLS) == 0, "nor while it is hidden, as in a node that is folded"
    phone.evaluate("() => { window.place.style.display = ''; }")
    phone.wait_for_timeout(300)
    assert len(moments(0)) >= FRAMES - 1, "and it plays again when it is back"
    phone.keyboard.press("Tab")
    phone.keyboard.press("End")
    assert len(moments(1)) >= FRAMES - 1
    assert abs(colour(1)[0] - 200) < 12
    phone.locator("label", has_text="cross-fade").click()
    both = "root => [...root.querySelectorAll('.scene canvas')].map(c => c.style.opacity)"
    track(phone).press("ArrowLeft")
    assert scrubber(phone).evaluate(both) == ["1", "0.9"]
    phone.wait_for_timeout(300)
    pair = [round(colour(strength)[1] / GREEN) for strength in (0, 1)]
    assert (pair[1] - pair[0]) % FRAMES in (0, 1), "two clips at one moment (read one after the other)"
