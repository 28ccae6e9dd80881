"""What the core tests share: the repo on the path, the embedded model, and a random one that costs nothing to load."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

torch.set_num_threads(2)

from slider_core.cache import Sample, encode  # noqa: E402
from slider_core.dataset import Dataset, bucket_folders, read_dataset  # noqa: E402
from slider_core.demo import SHIPPED_PAIRS  # noqa: E402
from slider_core.tiny import TinyBackend  # noqa: E402


@pytest.fixture(scope="session")
def backend() -> TinyBackend:
    return TinyBackend()


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return read_dataset(bucket_folders(SHIPPED_PAIRS))


@pytest.fixture(scope="session")
def samples(backend: TinyBackend, dataset: Dataset) -> list[Sample]:
    return encode(dataset, backend)
