"""A real ComfyUI in a process of its own and a real browser on its page: shared by the e2e tests and tools/make_workflow.py.

`serve` gives ComfyUI a base directory of its own, so that models, outputs, settings and database lie there and nothing is written
into the ComfyUI tree; the packs under test are linked into that base's custom_nodes. `browse` opens the page on the system's
Chromium, with everything outside 127.0.0.1 refused and every uncaught error of the page collected.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from graphs import demo_graph, spelled_out
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
SCREENS = BUILD / "screens"
KEEP_SCREENS = (
    os.environ.get("SLIDER_SCREENS") == "1"
)  # of every look; without it only of what failed: a picture costs half a second
PACK = "slider-lora"
BOOT_S = 180.0
FEW_STEPS = 6
PATIENCE_S = 90.0  # of a click, on a machine that does much else
MODEL_FOLDERS = ("loras", "checkpoints", "diffusion_models", "text_encoders", "vae")
# without the last four, Chromium calls its maker at every start
# outside addresses are refused by the resolver: a route would switch the browser's cache off, and every page would load anew
BROWSER_FLAGS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
)  # fmt: skip
# the first visit's tour covers the page, a restored workflow replaces the loaded one
SETTINGS: dict[str, Any] = {
    "Comfy.TutorialCompleted": True,
    "Comfy.OnboardingCoachmarks.Seen": ["appMode", "firstRun"],
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
}
# resolves when no node, text or attribute of the page has changed for the first number of milliseconds, at last after the second
AT_REST = """([quiet, limit]) => new Promise(done => {
    const end = () => { watcher.disconnect(); done(); };
    setTimeout(end, limit);
    let timer = setTimeout(end, quiet);
    const watcher = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(end, quiet); });
    watcher.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
})"""
QUIET_MS = 150
# nothing moves by itself: without a graphics card a turning circle costs a quarter of a core
STILL = """addEventListener('DOMContentLoaded', () => { const style = document.createElement('style');
    style.textContent = '*, *::before, *::after { animation: none !important; transition: none !important; }';
    document.head.append(style); })"""
# an empty graph at its first place, no panel, no error
CLEAR = """() => { const {graph, canvas, extensionManager} = window.app, {sidebarTab} = extensionManager;
    const stores = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s;
    stores.get('rightSidePanel').closePanel();
    stores.get('executionError').clearAllErrors();
    if (sidebarTab.activeSidebarTabId) sidebarTab.toggleSidebarTab(sidebarTab.activeSidebarTabId);
    graph.clear();
    Object.assign(canvas.ds, {scale: 1, offset: [0, 0]}); }"""
RUN_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass
class Server:
    """A running ComfyUI: its address, its base directory, its log and its process."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def get(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def set(self, setting: str, value: Any) -> None:
        headers = {"Content-Type": "application/json"}
        urlopen(Request(f"{self.url}/api/settings/{setting}", json.dumps(value).encode(), headers), timeout=30).close()


@dataclass(frozen=True)
class RunResult:
    """How a queued graph ended: one of RUN_EVENTS, "rejected" (prompt refused) or "timeout"; with the event's own details."""

    event: str
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.event == "execution_success"

    def __str__(self) -> str:
        text = f"{self.event} after {self.seconds:.1f} s"
        return text if self.ok else f"{text}: {json.dumps(self.detail, indent=1, default=str)[:4000]}"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def lay_out(base: Path, packs: dict[str, Path]) -> None:
    """The folders that ComfyUI wants in its base directory, and the packs, linked under custom_nodes by name."""
    for name in ("user", "output", "temp", "input", "custom_nodes", *(f"models/{m}" for m in MODEL_FOLDERS)):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, folder in packs.items():
        (base / "custom_nodes" / name).symlink_to(folder.resolve(), target_is_directory=True)


def command(comfy: Path, base: Path, port: int, packs: dict[str, Path], cpu: bool = True) -> list[str]:
    return [
        sys.executable, str(comfy / "main.py"), *(["--cpu"] if cpu else []),
        "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base),
        "--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}",
        "--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes",
        *(["--whitelist-custom-nodes", *packs] if packs else []),
    ]  # fmt: skip


def await_boot(server: Server, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"ComfyUI exited with {server.process.returncode} while starting:\n{server.tail()}")
        try:
            server.get("/system_stats")
        except (URLError, OSError):
            time.sleep(0.3)
        else:
            return
    raise RuntimeError(f"ComfyUI did not answer within {limit_s:.0f} s:\n{server.tail()}")


def check_imports(server: Server) -> None:
    """ComfyUI only warns when a pack cannot be imported; here it is an error."""
    text = server.log.read_text(encoding="utf-8", errors="replace")
    signs = ("(IMPORT FAILED)", "Error while calling comfy_entrypoint", "Cannot import ")
    # built-in nodes are checked by nobody: only lines that name our base directory count
    bad = [line for line in text.splitlines() if str(server.base) in line and any(s in line for s in signs)]
    if bad:
        raise RuntimeError("\n".join(["ComfyUI could not load the pack:", *bad, f"full log: {server.log}", server.tail(60)]))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: it is the head of its own process group, where there are groups."""
    if os.name != "posix":
        process.kill()
        process.wait(10)
        return
    for sign, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def serve(comfy: Path, base: Path, packs: dict[str, Path], log: Path, cpu: bool = True) -> Iterator[Server]:
    """ComfyUI on a free port with only `packs` (name -> folder) beside its own nodes; ended on leaving."""
    base = base.resolve()
    lay_out(base, packs)
    log.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command(comfy, base, port, packs, cpu),
            cwd=base, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        server = Server(f"http://127.0.0.1:{port}", base, log, process)
        try:
            await_boot(server, BOOT_S)
            check_imports(server)
            yield server
        finally:
            stop(process)


def of_the_pack(said: ConsoleMessage) -> bool:
    """An error that one of the pack's own scripts put into the console; the frontend asks for help in other languages in vain."""
    address = said.location.get("url", "")
    return said.type == "error" and f"/extensions/{PACK}/" in address and not address.endswith(".md")


OPEN: list[BrowserContext] = []  # Playwright allows one browser a process, and the pages of one context share its cache


@contextmanager
def driver(chromium: str) -> Iterator[BrowserContext]:
    """The browser that an outer block has opened, or else a new one, and its one context."""
    if OPEN:
        yield OPEN[0]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(BROWSER_FLAGS))
        OPEN.append(browser.new_context(service_workers="block"))
        OPEN[0].add_init_script(STILL)
        try:
            yield OPEN[0]
        finally:
            OPEN.clear()
            browser.close()


@contextmanager
def browse(
    server: Server, chromium: str, settings: dict[str, Any] | None = None, size: tuple[int, int] = (1600, 1000)
) -> Iterator[Page]:
    """The page of `server`, loaded and ready. Its uncaught errors, and those of the pack, are in `page_errors(page)`."""
    for name, value in (SETTINGS | (settings or {})).items():
        server.set(name, value)
    with driver(chromium) as context:
        page = context.new_page()
        try:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.set_default_timeout(PATIENCE_S * 1000)
            page.slider_errors = []  # type: ignore[attr-defined]
            page.on("pageerror", lambda error: page_errors(page).append(f"{error.message}\n{error.stack or ''}"))
            page.on("console", lambda said: page_errors(page).append(f"console: {said.text}") if of_the_pack(said) else None)
            page.goto(server.url, wait_until="domcontentloaded")
            await_ready(page)
            yield page
        finally:
            page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")  # nothing is left for the next page
            page.close()


def page_errors(page: Page) -> list[str]:
    return page.slider_errors  # type: ignore[attr-defined, no-any-return]


def clear(page: Page) -> None:
    """A page as it was when it was loaded, for the next test."""
    page.mouse.move(0, 0)
    page.evaluate(CLEAR)
    settle(page)
    page_errors(page).clear()


def await_ready(page: Page, limit_s: float = 90.0) -> None:
    """The frontend is up: nodes are registered, extensions have run, the first graph is laid."""
    page.wait_for_function(
        "() => window.app?.extensionManager && window.app.graph && window.LiteGraph?.registered_node_types?.KSampler"
        " && document.querySelector('[data-testid=\"queue-button\"]')",
        timeout=limit_s * 1000,
    )
    settle(page)


def settle(page: Page, limit_ms: int = 500) -> None:
    """Let pending draws and watchers of the page come to rest: until nothing has changed in it for a while, or the limit."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.evaluate(AT_REST, [QUIET_MS, limit_ms])


def open_template(page: Page, pack: str, name: str) -> set[str]:
    """Load the workflow `name` of `pack` as a user does: Templates, the pack's section, the card. Returns the section's names.

    The section is chosen while the pictures of all templates are still coming in: a click of the mouse would wait for the page to
    come to rest, which takes up to half a minute without a graphics card.
    """
    page.evaluate("() => window.app.graph.clear()")
    page.get_by_role("button", name="Templates").first.click()
    page.get_by_text(pack, exact=True).first.dispatch_event("click")
    card = page.get_by_test_id(f"template-workflow-{name}")
    try:
        card.wait_for(timeout=15_000)
    except PlaywrightTimeout as error:
        shown = page.locator('[data-testid^="template-workflow-"]').evaluate_all("cards => cards.map(c => c.dataset.testid)")
        raise AssertionError(f"the Templates dialog shows no {name!r} for the pack {pack!r}; it shows {shown[:20]}") from error
    cards = page.locator('[data-testid^="template-workflow-"]').evaluate_all("cards => cards.map(c => c.dataset.testid)")
    card.click()
    card.wait_for(state="hidden", timeout=30_000)
    page.wait_for_function("() => window.app.graph._nodes.length > 0", timeout=30_000)
    settle(page)
    return {each.removeprefix("template-workflow-") for each in cards}


def load_template(page: Page, pack: str, name: str) -> None:
    """What the card of a template does when it is clicked, without the dialog, which takes the most of the time."""
    page.evaluate(
        """async ([pack, name]) => {
            const answer = await window.app.api.fetchApi(`/workflow_templates/${pack}/${name}.json`);
            await window.app.loadGraphData(await answer.json(), true, true, name);
        }""",
        [pack, name],
    )
    settle(page)


def two_pairs(server: Server) -> str:
    """Two of the shipped six pairs, as a choice of Load Slider Dataset: a third of the time that a calibration takes."""
    home = server.base / "input" / "two_pairs"
    for side in ("positive", "negative"):
        (home / side).mkdir(parents=True, exist_ok=True)
        for file in sorted((ROOT / "demo_pairs" / "smile" / side).glob("*.png"))[:2]:
            shutil.copy(file, home / side)
    return home.name


def shorten(page: Page, server: Server) -> str:
    """Trainings of the open workflow become short, by its own widgets: few steps, few pairs; and what is learned in so few
    steps is saved all the same. Returns the name of the dataset."""
    pairs = two_pairs(server)
    few = {
        "SliderTrainStep": {"steps": FEW_STEPS},
        "LoadSliderDataset": {"folder": pairs},
        "SaveSliderLoRA": {"force": True},
        "SliderPairMaker": {"pairs": 2},
        "SliderStrengthSweep": {"strengths": "-1, 0, 1"},
        "KSampler": {"steps": 4},
    }
    page.evaluate(
        """few => { for (const node of window.app.graph._nodes) for (const w of node.widgets ?? [])
            if (w.name in (few[node.type] ?? {})) w.value = few[node.type][w.name]; }""",
        few,
    )
    return pairs


def small_graph(*nodes: str, **training: Any) -> dict[str, Any]:
    """Some nodes of the quickstart in API format, with a training of a few steps unless `training` says otherwise."""
    graph = demo_graph()
    graph["6"]["inputs"] = {k: v for k, v in graph["6"]["inputs"].items() if k != "sampling"}
    inputs = graph["6"]["inputs"]
    inputs |= {"steps": 4, "calibrate": False} | training
    graph["19"]["inputs"]["force"] = True  # after a few steps there is little to save
    return spelled_out({key: graph[key] for key in nodes})


def lay(page: Page, graph: dict[str, Any]) -> None:
    """Load a graph in API format and bring it into view."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'graph')", graph)
    settle(page, 300)
    fit_view(page)


def count_steps(page: Page) -> None:
    """Keep the last step that a training told the page in `window.trained`."""
    page.evaluate(
        """() => { window.trained = 0;
            window.app.api.addEventListener('slider_lora.progress', ({detail}) => { window.trained = detail.step; }); }"""
    )


def load_workflow(page: Page, workflow: dict[str, Any], name: str = "workflow") -> None:
    """Load a UI-format workflow without the dialog."""
    page.evaluate("([graph, name]) => window.app.loadGraphData(graph, true, true, name)", [workflow, name])
    settle(page)


def unknown_nodes(page: Page) -> list[str]:
    """Types in the open graph that no pack has registered."""
    return page.evaluate("() => window.app.graph._nodes.map(n => n.type).filter(t => !window.LiteGraph.registered_node_types[t])")


def node_pictures(page: Page, kind: str) -> list[dict[str, Any]]:
    """For every node of type `kind` that runs: its id, and how many pictures it draws, and its widgets or its Vue node hold."""
    return page.evaluate(
        """kind => window.app.graph._nodes.filter(n => n.type === kind && n.mode === 0).map(n => ({
            id: String(n.id),
            imgs: (n.imgs ?? []).filter(i => i.complete && i.naturalWidth > 0).length,
            elements: (n.widgets ?? []).flatMap(w => [...(w.element?.querySelectorAll?.('img, canvas, svg') ?? [])]).length
                + [...document.querySelectorAll(`.lg-node[data-node-id="${n.id}"] img`)].filter(i => i.naturalWidth > 0).length,
        }))""",
        kind,
    )


def await_pictures(page: Page, kind: str, limit_s: float = 20.0) -> list[dict[str, Any]]:
    """node_pictures, once every node of that type shows something, or as they are when the time is over."""
    end = time.monotonic() + limit_s
    while True:
        found = node_pictures(page, kind)
        if (found and all(f["imgs"] or f["elements"] for f in found)) or time.monotonic() > end:
            return found
        page.wait_for_timeout(250)


def run_and_wait(
    page: Page, timeout: float = 120.0, meanwhile: Callable[[], None] | None = None, button: str = "queue-button"
) -> RunResult:
    """Press Run, do what is to be done `meanwhile`, wait until the graph ends in one way or another. `timeout` in seconds."""
    page.evaluate(
        """events => {
            if (window.sliderEnds) return;
            window.sliderEnds = {};  // prompt id -> how it ended
            for (const event of events) window.app.api.addEventListener(
                event, ({detail}) => { window.sliderEnds[detail?.prompt_id] = {event, detail}; });
        }""",
        list(RUN_EVENTS),
    )
    start = time.monotonic()
    try:
        with page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/prompt"), timeout=30_000) as answer:
            page.get_by_test_id(button).first.locator("xpath=descendant-or-self::button").last.click()  # an App warns beside it
        reply = answer.value.json()
        if not answer.value.ok:
            return RunResult("rejected", reply, time.monotonic() - start)
        if meanwhile:
            meanwhile()
        ended = page.wait_for_function("id => window.sliderEnds[id]", arg=reply["prompt_id"], timeout=timeout * 1000).json_value()
    except PlaywrightTimeout as error:
        return RunResult("timeout", {"limit_s": timeout, "playwright": str(error)[:300]}, time.monotonic() - start)
    return RunResult(ended["event"], ended["detail"], time.monotonic() - start)


def in_turn(*values: Any) -> list[tuple[str, Any]]:
    """(canvas, value): the canvases take turns, where the value and not the canvas is tested."""
    return list(zip(cycle(("classic", "vue")), values, strict=False))


def fit_view(page: Page) -> None:
    """Bring the whole graph into view, as the command Fit View does but at once: its way there takes half a second each time."""
    page.evaluate("() => window.app.canvas.fitViewToSelectionAnimated({duration: 1})")
    settle(page)


def screenshot(page: Page, name: str, keep: bool = KEEP_SCREENS) -> None:
    if keep:
        SCREENS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENS / f"{name}.png")
