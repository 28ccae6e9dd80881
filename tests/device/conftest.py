"""The device ring: the product on an accelerator that is none (device.cpp), under ComfyUI's own memory management."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rings import obstacle_device

OBSTACLE = obstacle_device()
if not OBSTACLE:
    from device import accelerator

    EXTENSION = accelerator.install()  # before anything imports comfy

from host.conftest import comfy as comfy  # noqa: E402
from host.conftest import load_pack as load_pack  # noqa: E402
from host.conftest import pack as pack  # noqa: E402
from host.conftest import server as server  # noqa: E402


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if OBSTACLE:
        terminalreporter.write_line(f"DEVICE TESTS SKIPPED. {OBSTACLE}", red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    if OBSTACLE:
        pytest.skip(OBSTACLE)


@pytest.fixture
def device(possible: None, comfy: object, pack: object) -> Iterator[torch.device]:
    """The device, empty; as ComfyUI has taken it."""
    from comfy import model_management

    if not hasattr(accelerator.Pages, "installed"):
        accelerator.install_dynamic_vram()
        accelerator.Pages.installed = True
    found = torch.device(accelerator.NAME, 0)
    assert model_management.get_torch_device() == found
    accelerator.Pages.policy = accelerator.EVICT
    yield found
    EXTENSION.set_limit(0)
    model_management.unload_all_models()


@pytest.fixture
def extension() -> Any:
    return EXTENSION


@pytest.fixture(scope="session")
def ways(pack: Any) -> Any:
    from device.ways import Ways

    return Ways(pack)
