"""Every image is encoded once, at the size of its bucket, both of a pair alike; from the disk the second time; masks count."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from slider_core.config.training import TrainSpec
from slider_core.data.bucket_spec import Alpha, Crop, DatasetSpec, Pairing
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.data.fitting import fittings, load, sizes_report
from slider_core.encode.disk_cache import DiskCache
from slider_core.encode.encoder import encode
from slider_core.objective.batches import next_batch
from slider_core.objective.step_loss import masked_mean
from slider_core.with_tiny.model import TinyBackend

SIDE, STEP = 64, 8


def picture(path: Path, size: tuple[int, int], seed: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randint(0, 256, (size[1] // 4, size[0] // 4, len(mode)), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(noise.to(torch.uint8).numpy(), mode).resize(size, Image.Resampling.BICUBIC).save(path)


def pairs(root: Path, sizes: list[tuple[int, int]], spec: DatasetSpec | None = None, **choices: object) -> Dataset:
    for number, size in enumerate(sizes):
        for sign, side in enumerate(("positive", "negative")):
            picture(root / side / f"{number}.png", size, 2 * number + sign)
    return read_dataset(bucket_folders(root, **choices), spec)


class Counting(TinyBackend):
    """The embedded model's encoders, counted; `mark` stands for another VAE or CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.images = self.prompts = 0
        self.mark = ("vae", "clip")

    def encode_images(self, image: torch.Tensor) -> torch.Tensor:
        self.images += len(image)
        return super().encode_images(image)

    def encode_prompt(self, text: str):
        self.prompts += 1
        return super().encode_prompt(text)

    def encoder_fingerprints(self) -> tuple[str, str]:
        return self.mark


def test_images_of_different_shapes_go_into_different_sizes(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64), (96, 48), (48, 96), (100, 50)])
    sizes = [(f.width, f.height) for f in fittings(dataset, SIDE, STEP) if f.pair is not None]
    assert sizes[::2] == sizes[1::2], "both of a pair alike"
    assert [w > h for w, h in sizes[::2]] == [False, True, False, True]
    assert len(set(sizes)) == 3
    samples = encode(dataset, TinyBackend(), SIDE)
    for step in range(8):
        assert len({s.latent.shape for s in next_batch(samples, TrainSpec(batch=4), step).samples}) == 1


def test_a_pair_of_two_shapes_meets_in_the_middle(tmp_path: Path) -> None:
    picture(tmp_path / "positive" / "1.png", (128, 64))
    picture(tmp_path / "negative" / "1.png", (64, 64))
    plus, minus = fittings(read_dataset(bucket_folders(tmp_path)), SIDE, STEP)
    assert (plus.width, plus.height) == (minus.width, minus.height)
    assert 1.0 < plus.width / plus.height < 2.0


def test_a_random_crop_is_the_same_for_both_of_a_pair_and_in_every_run(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64), (120, 64), (128, 64)], crop=Crop.RANDOM)
    found = [f.place for f in fittings(dataset, SIDE, STEP)]
    assert found[::2] == found[1::2]
    assert len(set(found)) == 3
    assert found == [f.place for f in fittings(dataset, SIDE, STEP)]


def test_without_crop_the_shape_is_kept(tmp_path: Path) -> None:
    fitted = fittings(pairs(tmp_path, [(170, 100)], crop=Crop.NONE), 512, 8)[0]
    assert fitted.width / fitted.height == pytest.approx(1.7, rel=0.02)


def test_a_flip_shows_every_pair_mirrored_too(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64)], DatasetSpec(flip=True))
    samples = encode(dataset, TinyBackend(), SIDE)
    assert [s.pair for s in samples] == [0, 0, 1, 1]
    assert torch.equal(samples[2].latent, samples[0].latent.flip(-1))
    assert samples[3].strength == samples[1].strength == -1.0


def test_random_pairs_are_all_of_one_size(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64), (96, 48)], DatasetSpec(pairing=Pairing.RANDOM))
    assert len({(f.width, f.height) for f in fittings(dataset, SIDE, STEP)}) == 1
    samples = encode(dataset, TinyBackend(), SIDE)
    assert {s.pair for s in samples} == {None}
    assert next_batch(samples, TrainSpec(batch=2), 0).strengths == (1.0, -1.0)


def test_a_bucket_may_have_a_resolution_of_its_own(tmp_path: Path) -> None:
    fitted = fittings(pairs(tmp_path, [(64, 64)], resolution=32), SIDE, STEP)
    assert {(f.width, f.height) for f in fitted} == {(32, 32)}


def test_what_a_crop_loses_is_said(tmp_path: Path) -> None:
    lines = sizes_report(fittings(pairs(tmp_path, [(64, 64), (600, 40)]), SIDE, STEP))
    assert lines[0].startswith("Sizes: 64 x 64 (2)")
    assert "loses more than 20% of 2 images: 1.png" in lines[1]


# --- the disk


def test_a_second_run_encodes_nothing_and_gets_the_same(tmp_path: Path) -> None:
    dataset, backend = pairs(tmp_path / "data", [(64, 64), (96, 48)]), Counting()
    first = encode(dataset, backend, SIDE, DiskCache(tmp_path / "cache"))
    assert (backend.images, backend.prompts) == (4, 1)
    again = Counting()
    second = encode(dataset, again, SIDE, DiskCache(tmp_path / "cache"))
    assert (again.images, again.prompts) == (0, 0)
    assert all(torch.equal(a.latent, b.latent) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[0].cond.value, second[0].cond.value)


@pytest.mark.parametrize(
    ("change", "images", "prompts"),
    [("one image", 1, 0), ("one caption", 0, 1), ("vae", 4, 0), ("clip", 0, 1), ("size", 4, 0), ("background", 4, 0)],
)
def test_a_change_invalidates_just_itself(change: str, images: int, prompts: int, tmp_path: Path) -> None:
    data, disk = tmp_path / "data", tmp_path / "cache"
    dataset = pairs(data, [(64, 64), (64, 64)])
    encode(dataset, Counting(), SIDE, DiskCache(disk))
    backend, spec, side = Counting(), DatasetSpec(), SIDE
    if change == "one image":
        picture(data / "positive" / "0.png", (64, 64), seed=77)
    elif change == "one caption":
        (data / "negative" / "1.txt").write_text("another caption", encoding="utf-8")
    elif change in ("vae", "clip"):
        backend.mark = ("new", "clip") if change == "vae" else ("vae", "new")
    elif change == "size":
        side = 32
    else:
        spec = DatasetSpec(background="#102030")
    encode(read_dataset(bucket_folders(data), spec), backend, side, DiskCache(disk))
    assert (backend.images, backend.prompts) == (images, prompts)


def test_a_damaged_entry_is_built_again(tmp_path: Path) -> None:
    dataset = pairs(tmp_path / "data", [(64, 64)])
    first = encode(dataset, Counting(), SIDE, DiskCache(tmp_path / "cache"))
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-5])
    backend = Counting()
    second = encode(dataset, backend, SIDE, DiskCache(tmp_path / "cache"))
    assert (backend.images, backend.prompts) == (2, 1)
    assert all(torch.equal(a.latent, b.latent) for a, b in zip(first, second, strict=True))


def test_progress_goes_to_the_last_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    encode(pairs(tmp_path, [(64, 64)] * 3), TinyBackend(), SIDE, on_image=lambda *at: seen.append(at))
    assert seen == [(n, 6) for n in range(1, 7)]


# --- masks


def test_alpha_as_a_mask(tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        image = Image.new("RGBA", (64, 64), (200, 20, 20, 255))
        image.paste((0, 0, 0, 0), (0, 0, 32, 64))
        (tmp_path / side).mkdir()
        image.save(tmp_path / side / "1.png")
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(alpha=Alpha.MASK, background="#0000ff"))
    (sample, _) = encode(dataset, TinyBackend(), SIDE)
    assert sample.mask.shape == (1, 64, 64)
    assert (sample.mask[..., :30].max(), sample.mask[..., 34:].min()) == (0, 1)
    image, _ = load(fittings(dataset, SIDE, STEP)[0], dataset.spec)
    assert torch.allclose(image[:, 0, 0], torch.tensor([0.0, 0.0, 1.0]), atol=0.01), "the background shows through"
    plain = read_dataset(bucket_folders(tmp_path), DatasetSpec(alpha=Alpha.COLOR))
    assert encode(plain, TinyBackend(), SIDE)[0].mask is None


def test_a_mask_weighs_the_loss() -> None:
    error = torch.tensor([[[[1.0, 3.0]]], [[[1.0, 3.0]]]])
    left = torch.tensor([[[1.0, 0.0]]])
    assert masked_mean(error, [None, None]).tolist() == [2.0, 2.0]
    assert masked_mean(error, [left, None]).tolist() == [1.0, 2.0]
    assert masked_mean(error.unsqueeze(2), [left, None]).tolist() == [1.0, 2.0], "and in a video, in every frame"
    assert masked_mean(error, [torch.zeros(1, 1, 2), None]).isfinite().all()


def test_a_pair_is_cut_at_one_place_whatever_its_buckets_say(tmp_path: Path) -> None:
    """The positive's crop counts for both."""
    from dataclasses import replace

    dataset = pairs(tmp_path, [(128, 64), (64, 64)])
    first = replace(dataset.buckets[0], spec=replace(dataset.buckets[0].spec, crop=Crop.RANDOM))
    found = fittings(replace(dataset, buckets=(first, *dataset.buckets[1:])), SIDE, STEP)
    assert [(f.crop, f.place) for f in found[::2]] == [(f.crop, f.place) for f in found[1::2]]
    assert found[0].crop is Crop.RANDOM


def test_a_folder_of_frames_is_a_clip(tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        for number in range(4):
            picture(tmp_path / side / "dance" / f"{number}.png", (64, 64), number)
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(frames=3))
    image, _ = load(fittings(dataset, SIDE, STEP)[0], dataset.spec)
    assert image.shape == (3, 3, 64, 64)
    still, _ = load(fittings(dataset, SIDE, STEP)[0], DatasetSpec())
    assert torch.equal(still, image[0])
