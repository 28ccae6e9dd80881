"""The memory that training happens in: how much is free, the most that was in use, and which faults mean that it ran out.

On a GPU the figures are torch's own. On a CPU they are the process's resident set (RSS): from /proc where there is one (Linux),
else from `resource` (macOS), else from psutil where it is installed (Windows). A figure that cannot be had is None.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType

import torch

STATUS, MEMINFO, RESET = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/proc/self/clear_refs")
SHORT = ("out of memory", "not enough memory", "can't allocate memory")  # in a RuntimeError of torch's CPU and MPS allocators


def in_words(size: float) -> str:
    """Bytes for a reader: 1.5 GB, 12 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _line(file: Path, name: str) -> int | None:
    """The bytes that a line `name:  123 kB` of a /proc file tells."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _psutil() -> ModuleType | None:
    try:
        import psutil  # comes with ComfyUI
    except ImportError:
        return None
    return psutil


def free_ram() -> int | None:
    """Bytes of main memory that can be had without swapping."""
    told, psutil = _line(MEMINFO, "MemAvailable"), _psutil()
    return told if told is not None or psutil is None else int(psutil.virtual_memory().available)


def peak_rss() -> int | None:
    """The largest resident set of this process, in bytes, since it began or since `forget_peak_rss`."""
    told = _line(STATUS, "VmHWM")
    if told is not None:
        return told
    try:
        import resource
    except ImportError:  # Windows
        psutil = _psutil()
        return None if psutil is None else int(psutil.Process().memory_info().peak_wset)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def forget_peak_rss() -> None:
    """Let Linux count the peak from now on. Elsewhere it is that of the process's whole life."""
    try:
        RESET.write_text("5", encoding="ascii")
    except OSError:
        return


class Memory:
    """The memory of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.gpu = device.type == "cuda"
        self._counting = False

    def free(self) -> int | None:
        """Bytes that training may still take, what torch holds unused among them."""
        if not self.gpu:
            return free_ram()
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + unused

    def begin(self) -> None:
        """Count the peak from now on, the first time; a run in parts has one peak."""
        if self._counting:
            return
        self._counting = True
        if self.gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            forget_peak_rss()

    def peak(self) -> int | None:
        """The most that was in use since `begin`: allocated by torch on a GPU, the process's resident set on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.gpu else peak_rss()

    def words(self) -> str:
        """The peak, for a reader; empty where it is not known."""
        peak = self.peak()
        return f"{in_words(peak)} ({'GPU' if self.gpu else 'RSS'})" if peak else ""

    def is_short(self, fault: BaseException) -> bool:
        """Whether this fault means that memory ran out."""
        if isinstance(fault, (torch.OutOfMemoryError, MemoryError)):
            return True
        return isinstance(fault, RuntimeError) and any(words in str(fault).lower() for words in SHORT)

    def tidy(self) -> None:
        """Give back what nobody uses any more."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
