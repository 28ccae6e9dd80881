"""Images fitted to the sizes of their buckets, both of a pair alike. Oracles: ImageOps, numpy, pixels that name their place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core.faults import refused
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from slider_core.data.bucket_spec import Alpha, Crop, DatasetSpec, Pairing
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.data.fitting import decode, enlarged_note, fit, fittings, sizes_report, to_pil, to_tensor

SIDES = st.integers(8, 300)
SIDE, STEP = 64, 8
steady = settings(deadline=None, derandomize=True, database=None, max_examples=40)


def ramp() -> np.ndarray:
    """(24, 40, 3): red grows to the right, green downwards, blue is constant."""
    y, x = np.mgrid[:24, :40]
    return np.stack([x * 6, y * 10, np.full_like(x, 77)], -1).astype(np.uint8)


def put(path: Path, size: tuple[int, int]) -> None:
    """A gradient, of another colour on either side of a dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = Image.linear_gradient("L").resize(size)
    blue = Image.new("L", size, 9 if "positive" in path.parts else 200)
    Image.merge("RGB", [levels, levels, blue]).save(path)


def pairs(root: Path, sizes: list[tuple[int, int]], spec: DatasetSpec | None = None, **choices: object) -> Dataset:
    for number, size in enumerate(sizes):
        put(root / "positive" / f"{number}.png", size)
        put(root / "negative" / f"{number}.png", size)
    return read_dataset(bucket_folders(root, **choices), spec)


# --- one image


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**31))
@example(119, 14, 69, 8, 0)  # where rounding puts the edge of the crop outside the image
@steady
def test_the_centre_crop_is_that_of_image_ops(wide: int, high: int, width: int, height: int, seed: int) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8))
    ours = np.asarray(fit(image, width, height, Crop.CENTER, (0.9, 0.1)), dtype=int)
    theirs = np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS), dtype=int)
    assert np.abs(ours - theirs).max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0, 1), st.floats(0, 1))
@steady
def test_a_fitted_image_is_scaled_alike_both_ways_and_lies_where_it_should(
    wide: int, high: int, width: int, height: int, x: float, y: float
) -> None:
    """The picture says of each pixel where it was: across in one, down in the other. Float images are resized linearly."""
    scale = min(wide / width, high / height)  # pixels of the image to one of the result
    for axis, size, sides, place in ((1, wide, (width, height), x), (0, high, (height, width), y)):
        at = np.broadcast_to(np.expand_dims(np.arange(size, dtype=np.float32) + 0.5, 1 - axis), (high, wide))
        fitted = np.asarray(fit(Image.fromarray(at.copy()), width, height, Crop.RANDOM, (x, y)))
        expected = place * (size - sides[0] * scale) + (np.arange(sides[0]) + 0.5) * scale
        inside = slice(*np.searchsorted(expected, [4 * max(1, scale), size - 4 * max(1, scale)]))  # the edge has no neighbours
        line = fitted.mean(axis=1 - axis)
        assert np.abs(line - expected)[inside].max(initial=0) < max(0.05, 0.02 * scale)


def test_only_a_random_crop_looks_at_the_place() -> None:
    image = Image.fromarray(ramp())
    for crop in (Crop.CENTER, Crop.NONE):
        centre = np.asarray(fit(image, 16, 24, crop, (0.0, 1.0)))
        assert np.array_equal(centre, np.asarray(fit(image, 16, 24, Crop.RANDOM, (0.5, 0.5))))
    left, right = (np.asarray(fit(image, 16, 24, Crop.RANDOM, (x, 0.3))) for x in (0.0, 1.0))
    assert np.array_equal(left, ramp()[:, :16])
    assert np.array_equal(right, ramp()[:, -16:])
    for place in ((-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
        with refused("crop.place", place):
            fit(image, 16, 16, Crop.RANDOM, place)


def test_a_mask_is_scaled_bilinearly_and_a_very_long_image_costs_no_more_than_another() -> None:
    mask = Image.fromarray(np.where(ramp()[..., 0] > 120, 255, 0).astype(np.uint8))
    fitted = fit(mask, 20, 12, Crop.CENTER)
    assert fitted.mode == "L"
    assert np.array_equal(np.asarray(fitted), np.asarray(mask.resize((20, 12), Image.Resampling.BILINEAR)))
    long = Image.new("RGB", (100_000, 8))
    assert fit(long, 512, 512, Crop.CENTER).size == (512, 512)  # scaled as a whole, it would have 3,277 million pixels


def test_tensors_hold_the_levels_from_0_to_1_and_go_back() -> None:
    for pixels in (ramp(), ramp()[..., 0]):
        tensor = to_tensor(Image.fromarray(pixels))
        assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
        assert torch.equal(tensor, torch.from_numpy(pixels.reshape(24, 40, -1)).permute(2, 0, 1).float() / 255)
        assert np.array_equal(np.asarray(to_pil(tensor)), pixels)


# --- a dataset


def test_images_of_different_shapes_go_into_different_sizes(tmp_path: Path) -> None:
    fitted = fittings(pairs(tmp_path, [(64, 64), (96, 48), (48, 96), (100, 50)]), SIDE, STEP)
    sizes = [(f.width, f.height) for f in fitted]
    assert sizes[::2] == sizes[1::2], "both of a pair alike"
    assert [w > h for w, h in sizes[::2]] == [False, True, False, True]
    assert len(set(sizes)) == 3


def test_a_pair_of_two_shapes_meets_in_the_middle(tmp_path: Path) -> None:
    put(tmp_path / "positive" / "1.png", (128, 64))
    put(tmp_path / "negative" / "1.png", (64, 64))
    plus, minus = fittings(read_dataset(bucket_folders(tmp_path)), SIDE, STEP)
    assert (plus.width, plus.height) == (minus.width, minus.height)
    assert 1.0 < plus.width / plus.height < 2.0


def test_a_random_crop_is_the_same_for_both_of_a_pair_and_in_every_run(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64), (120, 64), (128, 64)], crop=Crop.RANDOM)
    places = [f.place for f in fittings(dataset, SIDE, STEP)]
    assert places[::2] == places[1::2]
    assert len(set(places)) == 3
    assert places == [f.place for f in fittings(dataset, SIDE, STEP)]


def test_a_pair_is_cut_as_the_positives_bucket_says(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(128, 64), (64, 64)])
    first = replace(dataset.buckets[0], spec=replace(dataset.buckets[0].spec, crop=Crop.RANDOM))
    fitted = fittings(replace(dataset, buckets=(first, *dataset.buckets[1:])), SIDE, STEP)
    assert [(f.crop, f.place) for f in fitted[::2]] == [(f.crop, f.place) for f in fitted[1::2]]
    assert fitted[0].crop is Crop.RANDOM


def test_sizes_follow_the_choices(tmp_path: Path) -> None:
    whole = fittings(pairs(tmp_path / "a", [(170, 100)], crop=Crop.NONE), 512, 8)[0]
    assert whole.width / whole.height == pytest.approx(1.7, rel=0.02)
    own = fittings(pairs(tmp_path / "b", [(64, 64)], resolution=32), SIDE, STEP)
    assert {(f.width, f.height) for f in own} == {(32, 32)}
    random = pairs(tmp_path / "c", [(64, 64), (96, 48)], DatasetSpec(pairing=Pairing.RANDOM))
    assert len({(f.width, f.height) for f in fittings(random, SIDE, STEP)}) == 1, "whoever may meet is of one size"


def test_what_a_crop_loses_is_reported(tmp_path: Path) -> None:
    lines = sizes_report(fittings(pairs(tmp_path, [(64, 64), (600, 40)]), SIDE, STEP))
    assert "64 x 64 (2)" in lines[0]
    assert "20% of 2 images: 1.png" in lines[1]


def test_alpha_is_a_mask_or_shows_the_background(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (200, 20, 20, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    for side in ("positive", "negative"):
        (tmp_path / side).mkdir()
        image.save(tmp_path / side / "1.png")
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(background="#0000ff"))
    at, sample = fittings(dataset, SIDE, STEP)[0], dataset.image_samples[0]
    pixels, mask = decode(sample, replace(dataset.spec, alpha=Alpha.MASK)).fitted(at)
    assert torch.allclose(pixels[:, 0, 0], torch.tensor([0.0, 0.0, 1.0]), atol=0.01), "the background shows through"
    assert (mask.shape, mask[..., :30].max(), mask[..., 34:].min()) == ((1, 64, 64), 0, 1)
    mirrored, mirrored_mask = decode(sample, replace(dataset.spec, alpha=Alpha.MASK)).fitted(replace(at, flip=True))
    assert torch.equal(mirrored, pixels.flip(-1))
    assert torch.equal(mirrored_mask, mask.flip(-1))
    assert decode(sample, dataset.spec).mask is None


def test_a_folder_of_frames_is_a_clip(tmp_path: Path) -> None:
    for side in ("positive", "negative"):
        for number in range(4):
            put(tmp_path / side / "dance" / f"{number}.png", (64, 64))
    dataset = read_dataset(bucket_folders(tmp_path), DatasetSpec(frames=3))
    at = fittings(dataset, SIDE, STEP)[0]
    clip, _ = decode(at.image_sample, dataset.spec).fitted(at)
    still, _ = decode(at.image_sample, DatasetSpec()).fitted(at)
    assert clip.shape == (3, 3, 64, 64)
    assert torch.equal(still, clip[0])
    with refused("clip.too_short", "dance", 4, 5):
        read_dataset(bucket_folders(tmp_path), DatasetSpec(frames=5))


def test_images_much_smaller_than_the_size_of_a_training_are_counted(tmp_path: Path) -> None:
    dataset = pairs(tmp_path, [(64, 64), (64, 64), (100, 200)], DatasetSpec(flip=True))
    assert enlarged_note(dataset, 64, STEP, "size") == enlarged_note(dataset, 96, STEP, "size") == ""
    four, six = enlarged_note(dataset, 104, STEP, "--resolution"), enlarged_note(dataset, 256, STEP, "--resolution")
    for note, *parts in ((four, "4 of 6", "104 x 104", "1.6 times"), (six, "6 of 6", "256 x 256", "4.0 times")):
        assert all(part in note for part in parts), note
