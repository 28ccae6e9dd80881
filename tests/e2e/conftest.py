"""Fixtures of the browser ring: one ComfyUI for each worker's whole run, one fresh page for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from playwright.sync_api import Page
from rings import find_chromium, find_comfyui, obstacle_e2e


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Server]:
    """ComfyUI with this checkout, and a checkpoint that ComfyUI's own loader reads."""
    if reason := obstacle_e2e():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("comfy")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    log = harness.BUILD / f"e2e-server{worker and '-' + worker}.log"
    packs = {harness.PACK: harness.ROOT, "tiny-checkpoint": Path(__file__).parent / "tiny_checkpoint"}
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(harness.ROOT / "slider_core" / "with_tiny" / "tiny.safetensors", checkpoints)
    with harness.serve(find_comfyui(), base, packs, log) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def browser() -> Iterator[None]:
    """One browser for the whole run."""
    if obstacle_e2e():
        yield
        return
    with harness.driver(find_chromium()):
        yield


@pytest.fixture
def page(server: harness.Server) -> Iterator[Page]:
    """A fresh page; a test also fails when the page threw an error that nobody caught."""
    with harness.browse(server, find_chromium()) as opened:
        yield opened
        errors = harness.page_errors(opened)
    assert not errors, "uncaught errors in the page:\n" + "\n".join(errors)
