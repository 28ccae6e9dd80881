"""Fixtures of the browser ring: one ComfyUI for each worker's whole run, one page of each canvas."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import harness
import pytest
from playwright.sync_api import Page
from rings import find_chromium, find_comfyui, obstacle_e2e

LONGEST = (
    "test_three_decisions",
    "test_a_slider_is_trained",
    "test_ten_mistakes",
    "test_a_training_is_seen",
    "test_every_workflow",
    "test_a_training_goes_on",
    "test_a_help_page",
    "test_the_handle",
    "test_the_saved_page",  # by the same worker: it reads what the one before has saved
    "test_a_workflow_runs",
)
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slider-lora"
OWN_PAGE = ("test_a_slider_is_trained", "test_ten_mistakes", "test_a_training_is_seen", "test_titles", "test_a_note_is_there")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Server]:
    """ComfyUI with this checkout, and a checkpoint that ComfyUI's own loader reads."""
    if reason := obstacle_e2e():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("comfy")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    log = harness.BUILD / f"e2e-server{worker and '-' + worker}.log"
    packs = {harness.PACK: harness.ROOT, "tiny-checkpoint": HERE / "tiny_checkpoint", "tiny-sdxl": HERE / "tiny_sdxl"}
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(harness.ROOT / "slider_core" / "with_tiny" / "tiny.safetensors", checkpoints)
    with harness.serve(find_comfyui(), base, packs, log) as running:
        yield running


@pytest.fixture(scope="session")
def sdxl(server: harness.Server) -> str:
    """The name of a narrow SDXL in the server's folder of checkpoints; made once (a minute of a core), then kept in CACHE."""
    sources = sorted((HERE / "tiny_sdxl").glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    kept = CACHE / f"sdxl-{digest}.safetensors"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, HERE / "tiny_sdxl" / "make.py", kept], check=True)
    name = "sd_xl_turbo_tiny.safetensors"
    shutil.copy(kept, server.base / "models" / "checkpoints" / name)
    return name


@pytest.fixture(scope="session", autouse=True)
def browser() -> Iterator[None]:
    """One browser for the whole run."""
    if obstacle_e2e():
        yield
        return
    with harness.driver(find_chromium()):
        yield


class Pages:
    """One page of each canvas for the whole run, loaded when the first test wants it: that takes five seconds of a core."""

    def __init__(self, server: harness.Server) -> None:
        self.server = server
        self.opened: dict[bool, tuple[Page, ExitStack]] = {}

    def of(self, vue: bool) -> Page:
        if vue not in self.opened:
            stack = ExitStack()
            page = stack.enter_context(harness.browse(self.server, find_chromium(), {"Comfy.VueNodes.Enabled": vue}))
            self.opened[vue] = page, stack
        return self.opened[vue][0]

    def close(self, vue: bool) -> None:
        if vue in self.opened:
            self.opened.pop(vue)[1].close()


@pytest.fixture(scope="session")
def pages(server: harness.Server) -> Iterator[Pages]:
    pages = Pages(server)
    yield pages
    for vue in (False, True):
        pages.close(vue)


def lend(pages: Pages, vue: bool, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page as if it were fresh; a test also fails when the page threw an error that nobody caught. After a failure the next
    test gets a new page."""
    failed = request.session.testsfailed
    page = pages.of(vue)
    harness.clear(page)
    yield page
    errors = list(harness.page_errors(page))
    if errors or request.session.testsfailed > failed:
        harness.screenshot(page, f"failed-{request.node.name}".replace("/", "-"), keep=True)
        pages.close(vue)
    assert not errors, "uncaught errors in the page:\n" + "\n".join(errors)


@pytest.fixture
def classic(pages: Pages, request: pytest.FixtureRequest) -> Iterator[Page]:
    yield from lend(pages, False, request)


@pytest.fixture
def vue(pages: Pages, request: pytest.FixtureRequest) -> Iterator[Page]:
    yield from lend(pages, True, request)


@pytest.fixture(params=["classic", "vue"])
def canvas(request: pytest.FixtureRequest) -> tuple[Page, str]:
    """A page of each canvas, and the canvas' name."""
    return request.getfixturevalue(request.param), request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers begin with a half each: one canvas in each, and the longest first, since what a worker takes over from the
    other is the end of its half."""
    items.sort(key=place)


def place(item: pytest.Item) -> tuple[bool, bool, int]:
    if not item.path.is_relative_to(HERE):
        return False, False, 0
    rank = next((n for n, longest in enumerate(LONGEST) if item.name.startswith(longest)), len(LONGEST))
    vue = "vue" in item.name or "vue" in getattr(item, "fixturenames", ())  # a page of each canvas in one worker slows both
    return True, vue or item.name.startswith(OWN_PAGE), rank
