"""What the core tests share: the repo on the path, the embedded model, and a one-layer model that a hand can calculate."""

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

torch.set_num_threads(1)  # tests run beside each other, a process for each core

from slider_core.backend import (  # noqa: E402
    Conditioning,
    Memory,
    per_sample,
)
from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.training import TrainSpec  # noqa: E402
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset  # noqa: E402
from slider_core.encode.encoder import Sample, encode  # noqa: E402
from slider_core.layers.layer import Target  # noqa: E402
from slider_core.train.training_run import Run  # noqa: E402
from slider_core.train.trainings_driver import TrainingRequest, trained  # noqa: E402
from slider_core.with_tiny.faces_pairs import SHIPPED_PAIRS  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

CHANNELS, SMILE_STEPS = 3, 100

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background, and tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Mix(nn.Module):
    """y = W x over the channels of every pixel; squared when `even`, so that a slider moves it the same way at +s and -s."""

    def __init__(self, symmetric: bool) -> None:
        super().__init__()
        self.mix, self.symmetric = nn.Linear(CHANNELS, CHANNELS, bias=False), symmetric
        self.mix.weight = nn.Parameter(0.1 * torch.arange(1.0, 10.0).reshape(CHANNELS, CHANNELS), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mix(x.movedim(1, -1)).movedim(-1, 1)
        return y.square() if self.symmetric else y


class LinearBackend:
    """The smallest Backend: flow matching around `Mix`, whose loss is a polynomial of the slider's factors."""

    name, device, image_step, resolution, dtype = "linear", torch.device("cpu"), 1, 4, torch.float32
    memory = Memory(device)
    few_steps = 0

    def __init__(self, symmetric: bool = False) -> None:
        self.module = Mix(symmetric)

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return image_BCHW

    def encode_prompt(self, text: str) -> Conditioning:
        return Conditioning(text, None)

    def encoder_fingerprints(self) -> tuple[str, str]:
        return "pixels", "nothing"

    def drawn_by(self) -> str:
        return "linear"

    def borrowed(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self, _targets: Sequence[Target], _latent_CHW: torch.Tensor, _cond: Conditioning) -> None:
        """Rows are samples here."""

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        return u_B

    even_sigmas = sigmas

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return latent_BCHW + per_sample(sigma_B, latent_BCHW) * (noise_BCHW - latent_BCHW)

    def target(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, _sigma_B: torch.Tensor) -> torch.Tensor:
        return noise_BCHW - latent_BCHW

    def predict(self, x_BCHW: torch.Tensor, _sigma_B: torch.Tensor, _cond: Sequence[Conditioning]) -> torch.Tensor:
        return self.module(x_BCHW)


@pytest.fixture
def linear_backend() -> Callable[..., LinearBackend]:
    return LinearBackend


def samples_of(pairs: int, neutral: int = 0) -> list[Sample]:
    """That many pairs and neutral samples with random 4 x 4 latents, from a fixed seed."""
    latents = iter(torch.randn(2 * pairs + neutral, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(9)))
    nothing = Conditioning("", None)
    signed = [Sample(next(latents), nothing, sign, n) for sign in (1.0, -1.0) for n in range(pairs)]
    return signed + [Sample(next(latents), nothing, 0.0, None) for _ in range(neutral)]


@pytest.fixture
def make_samples() -> Callable[..., list[Sample]]:
    return samples_of


@pytest.fixture(scope="session")
def backend() -> TinyBackend:
    return TinyBackend()


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return read_dataset(bucket_folders(SHIPPED_PAIRS))


@pytest.fixture(scope="session")
def smile_run(backend: TinyBackend, dataset: Dataset) -> Run:
    """A short training on the shipped pairs, calibrated. Nobody trains it further."""
    return trained(backend, TrainingRequest("smile", dataset, AdapterSpec(), TrainSpec(steps=SMILE_STEPS, lr=4e-3)))


@pytest.fixture(scope="session")
def samples(backend: TinyBackend, dataset: Dataset) -> list[Sample]:
    return encode(dataset, backend)
