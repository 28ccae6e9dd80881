"""The gpu ring: a real ComfyUI on its GPU, with models of random weights that are small enough for seconds.

It brings the host ring's fixtures. SLIDER_GPU_RING_DEVICE=cpu runs the bodies of the tests on the CPU, for whoever writes them
without a GPU: what only a GPU can show is then skipped, and says so.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import pytest
import torch
from host.conftest import comfy as comfy
from host.conftest import forget as forget
from host.conftest import load_pack as load_pack
from host.conftest import nothing_learned as nothing_learned
from host.conftest import pack as pack
from host.conftest import run_graph as run_graph
from host.conftest import server as server
from rings import GPU_RING_DEVICE, obstacle_gpu

OBSTACLE = obstacle_gpu()
ON_CPU = os.environ.get(GPU_RING_DEVICE) == "cpu"
if ON_CPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is asked for: ComfyUI then takes the CPU


def pytest_terminal_summary(terminalreporter: object) -> None:
    if OBSTACLE or ON_CPU:
        told = f"GPU TESTS SKIPPED. {OBSTACLE}" if OBSTACLE else "GPU RING ON THE CPU: nothing here says anything about a GPU."
        terminalreporter.write_line(told, red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    if OBSTACLE:
        pytest.skip(OBSTACLE)


@pytest.fixture
def device(possible: None, comfy: object) -> Iterator[torch.device]:
    """ComfyUI's device, computing in full float32 where a test asks for float32."""
    from comfy import model_management

    found = model_management.get_torch_device()
    assert found.type == ("cpu" if ON_CPU else "cuda"), f"ComfyUI has taken {found}"
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield found
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    model_management.unload_all_models()


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """For what only a GPU can show."""
    if device.type != "cuda":
        pytest.skip("only a GPU can show this")
    return device


@pytest.fixture
def held(device: torch.device) -> Callable[[], int]:
    """Bytes in use: what torch has allocated on the GPU; on a CPU the memory of every tensor that Python still knows."""

    def count() -> int:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated(device)
        tensors = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
        memory = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.layout is torch.strided}
        return sum(memory.values())

    return count
