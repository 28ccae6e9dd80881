"""Every image is decoded and encoded once, both of a pair alike; from the disk the second time; masks count."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from core.faults import refused
from PIL import Image, ImageFile

from slider_core.backend import Conditioning
from slider_core.config.checks import SliderError
from slider_core.config.training import TrainSpec
from slider_core.data.bucket_spec import Alpha, DatasetSpec, Pairing, Reference, Unequal
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.data.fitting import Fitted, small_image
from slider_core.data.pairs_report import examined
from slider_core.encode.disk_cache import DiskCache
from slider_core.encode.encoder import encode
from slider_core.encode.latent_direction import pair_direction
from slider_core.objective.batch_plan import plan
from slider_core.objective.noising import noised
from slider_core.objective.step_loss import masked_mean
from slider_core.with_tiny.model import TinyBackend

SIDE = 64


def picture(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randint(0, 256, (size[1] // 4, size[0] // 4, 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(noise.to(torch.uint8).numpy()).resize(size, Image.Resampling.BICUBIC).save(path)


def pairs(root: Path, sizes: list[tuple[int, int]], spec: DatasetSpec | None = None) -> Dataset:
    for number, size in enumerate(sizes):
        for sign, side in enumerate(("positive", "negative")):
            picture(root / side / f"{number}.png", size, 2 * number + sign)
    return read_dataset(bucket_folders(root), spec)


class Counting(TinyBackend):
    """The embedded model's encoders, counted; `fingerprints` stands for another VAE or CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.images = self.prompts = 0
        self.fingerprints = ("vae", "clip")

    def encode_images(self, image: torch.Tensor) -> torch.Tensor:
        self.images += len(image)
        return super().encode_images(image)

    def encode_prompt(self, text: str):
        self.prompts += 1
        return super().encode_prompt(text)

    def encoder_fingerprints(self) -> tuple[str, str]:
        return self.fingerprints


# --- decoding


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often the pixels of each file were decoded, by its name and its folder's: Pillow itself is counted."""
    count: Counter[str] = Counter()
    load = ImageFile.ImageFile.load

    def counted(self: ImageFile.ImageFile) -> object:
        name = getattr(self.fp, "name", None)
        if self.tile and name is not None:
            path = Path(f"/proc/self/fd/{name}").readlink() if isinstance(name, int) else name
            count["/".join(Path(path).parts[-2:])] += 1
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    return count


def previews(dataset: Dataset) -> list[torch.Tensor]:
    """As nodes/dataset.py makes them."""
    return [small_image(Fitted(s, dataset.buckets[0].spec, None, 512, 512), dataset.spec) for s in dataset.image_samples]


@pytest.mark.parametrize(
    "spec", [DatasetSpec(), DatasetSpec(flip=True), DatasetSpec(pairing=Pairing.RANDOM)], ids=["plain", "flip", "random"]
)
def test_each_image_is_decoded_once_to_look_at_and_once_to_encode(
    tmp_path: Path, spec: DatasetSpec, decoded: Counter[str]
) -> None:
    dataset = pairs(tmp_path, [(64, 64), (700, 560), (96, 48)], spec)
    files = {"/".join(sample.path.parts[-2:]) for sample in dataset.image_samples}
    assert decoded == dict.fromkeys(files, 1), "read"
    examined(dataset)
    previews(dataset)
    assert decoded == dict.fromkeys(files, 1), "the doctor, its sheet and previews look at the small copies"
    encode(dataset, TinyBackend(), SIDE)
    assert decoded == dict.fromkeys(files, 2)


def test_an_image_with_several_partners_and_the_frames_of_a_clip_are_decoded_twice_too(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    for number in range(3):
        picture(tmp_path / "positive" / "clip" / f"{number}.png", (64, 64), number)
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "negative" / name, (64, 64), 9)
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(unequal=Unequal.BALANCE))
    assert len(dataset.pairs) == 3
    examined(dataset)
    previews(dataset)
    encode(dataset, TinyBackend(), SIDE)
    assert max(decoded.values()) == 2


def test_a_copy_is_bounded_and_what_has_none_is_decoded_again(
    tmp_path: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slider_core.data.buckets.COPY", 60 * 60)
    monkeypatch.setattr("slider_core.data.buckets.COPIES", 2 * (60 * 60 * 3 + 1))  # bytes of both buckets
    dataset = pairs(tmp_path, [(120, 120)] * 3)
    for side in (dataset.image_samples[:3], dataset.image_samples[3:]):
        assert [sample.copy and sample.copy.size for sample in side] == [(60, 60), (60, 60), None]
    examined(dataset)
    assert sorted(decoded.values()) == [1] * 4 + [2] * 2


# --- encoding


def test_a_flip_shows_every_pair_mirrored_too(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    dataset = pairs(tmp_path, [(64, 64)], DatasetSpec(flip=True))
    samples = encode(dataset, TinyBackend(), SIDE, DiskCache(tmp_path / "cache"), lambda *at: done.append(at))
    assert done == [(n, 4) for n in range(1, 5)]
    assert [s.pair for s in samples] == [0, 0, 1, 1]
    assert torch.equal(samples[2].latent, samples[0].latent.flip(-1))
    assert samples[3].strength == samples[1].strength == -1.0


def test_a_second_run_encodes_nothing_and_a_damaged_entry_is_built_again(tmp_path: Path) -> None:
    dataset, runs = pairs(tmp_path / "data", [(64, 64), (96, 48)]), []
    for counts in ((4, 1), (0, 0), (4, 1)):
        backend = Counting()
        runs.append(encode(dataset, backend, SIDE, DiskCache(tmp_path / "cache")))
        assert (backend.images, backend.prompts) == counts
        if len(runs) == 2:
            for file in (tmp_path / "cache").rglob("*.safetensors"):
                file.write_bytes(file.read_bytes()[:-5])
    for again in runs[1:]:
        assert all(torch.equal(a.latent, b.latent) for a, b in zip(runs[0], again, strict=True))
        assert torch.equal(runs[0][0].cond.value, again[0].cond.value)


@pytest.mark.parametrize(
    ("change", "images", "prompts"),
    [("one image", 1, 0), ("one caption", 0, 1), ("vae", 4, 0), ("clip", 0, 1), ("size", 4, 0), ("background", 4, 0)],
)
def test_a_change_invalidates_just_itself(change: str, images: int, prompts: int, tmp_path: Path) -> None:
    data, disk = tmp_path / "data", tmp_path / "cache"
    encode(pairs(data, [(64, 64), (64, 64)]), Counting(), SIDE, DiskCache(disk))
    backend, spec, side = Counting(), DatasetSpec(), SIDE
    if change == "one image":
        picture(data / "positive" / "0.png", (64, 64), seed=77)
    elif change == "one caption":
        (data / "negative" / "1.txt").write_text("another caption", encoding="utf-8")
    elif change in ("vae", "clip"):
        backend.fingerprints = ("new", "clip") if change == "vae" else ("vae", "new")
    elif change == "size":
        side = 32
    else:
        spec = DatasetSpec(background="#102030")
    encode(read_dataset(bucket_folders(data), spec), backend, side, DiskCache(disk))
    assert (backend.images, backend.prompts) == (images, prompts)


def test_alpha_as_a_mask_at_the_latents_size(tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        image = Image.new("RGBA", (64, 64), (200, 20, 20, 255))
        image.paste((0, 0, 0, 0), (0, 0, 32, 64))
        (tmp_path / side).mkdir()
        image.save(tmp_path / side / "1.png")
    sample, _ = encode(read_dataset(bucket_folders(tmp_path), DatasetSpec(alpha=Alpha.MASK)), TinyBackend(), SIDE)
    assert sample.mask.shape == (1, 64, 64)
    assert (sample.mask[..., :30].max(), sample.mask[..., 34:].min()) == (0, 1)
    assert encode(read_dataset(bucket_folders(tmp_path)), TinyBackend(), SIDE)[0].mask is None


class Editing(TinyBackend):
    """A prompt with a reference is worth that reference."""

    def with_reference(self, cond: Conditioning, latent: torch.Tensor) -> Conditioning:
        return Conditioning(cond.text, latent)


@pytest.mark.parametrize("which", [Reference.OTHER, Reference.NEGATIVE])
def test_an_edit_model_is_shown_the_image_to_set_out_from_and_not_the_one_to_arrive_at(which: Reference, tmp_path: Path) -> None:
    """`displacement` asks at the partner's latent, with the partner's caption."""
    for side in ("positive", "negative"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "0.txt").write_text(side)
    dataset = pairs(tmp_path, [(SIDE, SIDE)], DatasetSpec(pairing=Pairing.NAME, reference=which))
    samples = encode(dataset, Editing())
    spec = TrainSpec(batch=2)
    batch = noised(Editing(), plan(samples, spec).batch(0), spec)
    asked = batch.swapped()
    negative = samples[1].latent
    assert [cond.text for cond in asked.cond] == ["negative", "positive"]
    assert torch.equal(asked.cond[0].value, negative)
    assert torch.equal(asked.cond[1].value, negative if which is Reference.NEGATIVE else samples[0].latent)
    assert torch.equal(batch.cond[0].value, negative), "and so where it is not swapped"
    notes = [DatasetSpec(reference=one).reference_note(way, drawn) for one in (which, "none") for way, drawn in ((0, 1), (1, 0))]
    assert [bool(note) for note in notes] == [which is Reference.NEGATIVE, False, True, False]
    alone = read_dataset(bucket_folders(tmp_path), DatasetSpec(pairing=Pairing.RANDOM, reference=which))
    with refused("reference.no_pairs", "2 images"):
        encode(alone, Editing())


def test_a_mask_weighs_the_loss() -> None:
    error = torch.tensor([[[[1.0, 3.0]]], [[[1.0, 3.0]]]])
    left = torch.tensor([[[1.0, 0.0]]])
    assert masked_mean(error, [None, None]).tolist() == [2.0, 2.0]
    assert masked_mean(error, [left, None]).tolist() == [1.0, 2.0]
    assert masked_mean(error.unsqueeze(2), [left, None]).tolist() == [1.0, 2.0], "and in a video, in every frame"
    assert masked_mean(error, [torch.zeros(1, 1, 2), None]).isfinite().all()


def test_the_direction_of_a_dataset_is_its_sides_mean_change(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(SIDE, SIDE)] * 3)
    samples = encode(dataset, TinyBackend(), SIDE)
    plus, minus = (torch.stack([s.latent for s in samples if s.strength * sign > 0]).mean(0) for sign in (1, -1))
    shape = samples[0].latent.shape
    assert torch.allclose(pair_direction(dataset, TinyBackend(), shape, (SIDE, SIDE)), (plus - minus) / 2, atol=1e-5)
    with pytest.raises(SliderError, match="use the model's own VAE") as fault:
        pair_direction(dataset, TinyBackend(), (shape[0] + 1, *shape[1:]), (SIDE, SIDE))
    assert fault.value.code == "sweep.latent_shape"
