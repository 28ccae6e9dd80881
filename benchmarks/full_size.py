"""Full-size models with random weights, loaded from a file through ComfyUI, and the memory that work on them adds."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]
WEIGHTS = ROOT / "build" / "full-size"  # random weights, some GB each; may be removed at any time
GIB = 2**30


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def in_use(device: Any) -> int:
    """Bytes in memory: the process's on a CPU, the allocator's on a GPU."""
    import torch

    gc.collect()
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident()


def settle(device: Any) -> None:
    """Wait until the device has done what it was told."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: Any) -> tuple[float, Any]:
    """(how long it took, what it gave)."""
    begun = time.perf_counter()
    found = work()
    settle(device)
    return time.perf_counter() - begun, found


class Peak:
    """The highest `resident()` while it is entered, sampled every few milliseconds; on a GPU the allocator's own peak."""

    def __init__(self, device: Any) -> None:
        self.device, self.highest, self.stop = device, 0, threading.Event()

    def _watch(self) -> None:
        while not self.stop.is_set():
            self.highest = max(self.highest, resident())
            time.sleep(0.004)

    def __enter__(self) -> Peak:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        import torch

        self.stop.set()
        self.thread.join()
        if self.device.type == "cuda":
            self.highest = torch.cuda.max_memory_allocated(self.device)


def written(name: str) -> Path:
    """The file of the random weights of an entry of tests/zoo; made once."""
    import torch
    from safetensors.torch import save_file
    from zoo.animals import FULL
    from zoo.model import model_config

    file = WEIGHTS / f"{name}.safetensors"
    if not file.is_file():
        entry = next(e for e in FULL if e.title == name)
        description = model_config(entry.name, entry.config)
        description.set_inference_dtype(torch.bfloat16 if torch.cuda.is_available() else torch.float32, None)
        with torch.inference_mode():
            module = description.get_model({}, prefix="", device="cpu").diffusion_model
            for p in module.parameters():
                p.normal_(0, 0.02)
        WEIGHTS.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
    return file


def loaded(name: str) -> tuple[Any, Any]:
    """(entry, ModelPatcher) of a full-size model that ComfyUI's own loader read from a file; every weight is in memory.

    ComfyUI maps a file into memory, and a machine may drop such pages and read them again at any time; so it is told not to.
    """
    import comfy.model_management
    import comfy.sd
    import comfy.utils
    import torch
    from zoo.animals import FULL

    entry = next(e for e in FULL if e.title == name)
    comfy.utils.DISABLE_MMAP = True  # what --disable-mmap sets
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model(str(written(name)))
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    return entry, patcher


def prompt(entry: Any) -> list[Any]:
    """A conditioning of noise for that entry."""
    import torch

    return [[torch.randn(1, 77, entry.config["context_dim"]), {"pooled_output": torch.randn(1, 1280)}]]


GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc then returns what is freed, and a process is as large as what it uses


def in_a_process_of_its_own(script: str, arguments: Sequence[str], environment: Mapping[str, str] = {}) -> dict[str, float]:
    """What `script` prints as JSON in its last line."""
    env = os.environ | environment
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
