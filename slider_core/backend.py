"""The interface to a diffusion model, and the memory that it runs in: how much is free, the peak, which faults mean too little.

On a GPU the figures are torch's own. On a CPU they are the process's resident set (RSS): from /proc where there is one (Linux),
else from `resource` (macOS), else from psutil where it is installed (Windows). A figure that cannot be had is None.
"""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

STATUS = Path("/proc/self/status")
MEMINFO = Path("/proc/meminfo")
RESET = Path("/proc/self/clear_refs")
# in the text of a RuntimeError: torch's CPU and MPS allocators, NVIDIA's libraries, ComfyUI's dynamic VRAM
OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "vram grow failed",
)


def batch_slices(count: int, most: int) -> list[slice]:
    """The parts of a batch of `count`, of at most `most` samples each."""
    return [slice(at, min(at + most, count)) for at in range(0, count, most)]


def format_bytes(size: float) -> str:
    """Bytes for a reader: 1.5 GB, 12 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _line(file: Path, name: str) -> int | None:
    """The bytes in a line `name:  123 kB` of a /proc file."""
    with suppress(OSError):
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _psutil() -> ModuleType | None:
    try:
        import psutil  # comes with ComfyUI
    except ImportError:
        return None
    return psutil


def free_ram() -> int | None:
    """Bytes of main memory that can be had without swapping."""
    available = _line(MEMINFO, "MemAvailable")
    psutil = _psutil()
    if available is None and psutil is not None:
        available = int(psutil.virtual_memory().available)
    return available


def peak_rss() -> int | None:
    """The largest resident set of this process, in bytes, since it began or since `forget_peak_rss`."""
    high_water = _line(STATUS, "VmHWM")
    if high_water is not None:
        return high_water
    try:
        import resource
    except ImportError:  # Windows
        psutil = _psutil()
        return None if psutil is None else int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_rss() -> None:
    """Let Linux count the peak from now on. Elsewhere it is that of the process's whole life."""
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")


class Memory:
    """The memory of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.gpu = device.type == "cuda"
        self.latent: torch.Size | None = None  # of the largest sample of the run to come
        self.needs: list[int] = []  # bytes that its step needs on each level of memory_fallback.py, the highest first
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

    def summary(self) -> str:
        """The peak, for a reader; empty where it is not known."""
        peak = self.peak()
        if not peak:
            return ""
        kind = "GPU" if self.gpu else "RSS"
        return f"{format_bytes(peak)} ({kind})"

    def is_short(self, fault: BaseException) -> bool:
        """Whether this fault means that memory ran out."""
        if isinstance(fault, (torch.OutOfMemoryError, MemoryError)):
            return True
        return isinstance(fault, RuntimeError) and any(phrase in str(fault).lower() for phrase in OUT_OF_MEMORY)

    def tidy(self) -> None:
        """Give back what nobody uses any more."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Conditioning:
    """An encoded prompt. `value` belongs to the backend that made it."""

    text: str
    value: Any


class Backend(Protocol):
    """What training and sweeping need from a diffusion model."""

    name: str  # names the model in files and resume checks
    device: torch.device
    image_step: int  # image width and height must be multiples of this
    resolution: int  # the side the model likes best, pixels
    dtype: torch.dtype  # what the model computes in
    few_steps: int  # the sampler's steps of a distilled model, which answers at their noise levels alone; 0: at any

    @property
    def module(self) -> nn.Module:
        """The diffusion model: adapters attach to its layers, and its weights are only borrowed."""

    @property
    def memory(self) -> Memory:
        """The memory of `device`."""

    def load(self) -> None:
        """Bring the model to its device, without what an earlier use has left on it."""

    def training_fingerprint(self) -> dict[str, str]:
        """What a training on this model must keep, by name: "model", and what else shapes its training."""

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1], or clips (B, T, 3, H, W) -> latents in the space the model is trained in."""

    def encode_prompt(self, text: str) -> Conditioning: ...

    def with_reference(self, cond: Conditioning, latent_CHW: torch.Tensor) -> Conditioning:
        """The prompt with an image for an edit model to edit, encoded. SliderError, here or in `prepare`, where the model takes
        none."""

    def encoder_fingerprints(self) -> tuple[str, str]:
        """Short hashes of what encodes images and what encodes prompts: another encoder has another hash."""

    def drawn_by(self) -> str:
        """A short hash of what draws a picture: the diffusion model and its patches."""

    def borrowed(self) -> AbstractContextManager[None]:
        """Inside, autograd can run through `module`; afterwards every weight, flag and hook is as it was."""

    def prepare(self, paths: Sequence[str], latent_CHW: torch.Tensor, cond: Conditioning) -> None:
        """Before a run, inside `borrowed`: find out whether samples of one batch keep their own strength at the layers `paths`,
        on a latent and a prompt as they will come. Where they do not, `predict` runs them one by one from now on."""

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        """Noise levels for u in (0, 1): 0 the cleanest, 1 pure noise, spaced as the model's own schedule."""

    def even_sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        """The same without the shift that a flow model has of its own; where it has none, the same as `sigmas`."""

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        """The model's forward process: the noised latent at sigma."""

    def target(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        """What `predict` should return for the noised latent, in the model's own prediction space (eps, v or flow)."""

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        """The model's raw prediction, one conditioning per sample. Differentiable inside `borrowed`."""


def per_sample(value_B: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, ..., 1) on the device of `like` and with its number of dimensions."""
    return value_B.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def few_numbers(tensor: torch.Tensor) -> bytes:
    """Eight numbers of a tensor, spread over it; of a quantised one, eight of each tensor that it is made of."""
    if tensor.is_meta:  # not loaded
        return b""
    if is_traceable_wrapper_subclass(tensor):
        return b"".join(few_numbers(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    spread = tensor.detach().flatten()[:: max(1, tensor.numel() // 8)][:8]
    return spread.float().cpu().numpy().tobytes()


def module_fingerprint(module: nn.Module) -> str:
    """A short hash of some numbers of every weight: tells two checkpoints of one architecture apart, loaded or not."""
    digest = hashlib.sha256()
    seen: set[int] = set()  # a shared weight counts once
    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                digest.update(few_numbers(as_computed(part, name, tensor)))
    return digest.hexdigest()[:16]


def as_computed(part: nn.Module, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A few numbers of a weight in the format that the model computes in, where its host keeps another one while it is not
    loaded (ComfyUI's dynamic VRAM); else the weight itself."""
    wanted = getattr(part, f"{name}_comfy_model_dtype", None)
    if wanted is None or tensor.dtype == wanted or is_traceable_wrapper_subclass(tensor):
        return tensor
    return tensor.detach().flatten()[:: max(1, tensor.numel() // 8)][:8].to(wanted)


def seeded(seed: int, place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one place of a run. torch's keeps 32 bits of a seed, so both are hashed, not shifted, into them."""
    digest = hashlib.sha256(f"{seed}/{place}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "big"))


Result = TypeVar("Result")


def in_parts(
    items: Sequence[float], most: int, run: Callable[[Sequence[float]], Result], ran_out: Callable[[Exception], bool]
) -> list[tuple[int, Result]]:
    """`run` on parts of at most `most` items: (size, result) of each. A part that runs out of memory is halved, and so are
    those after it; one item alone that does is an error."""
    parts: list[tuple[int, Result]] = []
    done = 0
    most = max(1, most)
    while done < len(items):
        group = items[done : done + most]
        # the error is let go of before the next try: its frames hold what filled the memory
        try:
            parts.append((len(group), run(group)))
            done += len(group)
        except Exception as fault:
            if len(group) == 1 or not ran_out(fault):
                raise
            most = len(group) // 2
    return parts
