"""The pair doctor finds what was done to pairs on purpose, names that pair alone, and stays silent about clean ones."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from core.faults import refused
from PIL import Image, ImageFilter

from slider_core.data.pair_check import NOTHING, PairImages, check, difference_mask, find_shift, image_figures, luma
from slider_core.data.pair_diagnosis import Kind, PairsReport
from slider_core.data.pair_doctor import examine
from slider_core.data.pair_sheet import RED, TEXT, bare_sheet, contact_sheet
from slider_core.with_tiny.faces import CLASSES, render, sample_faces

SHIPPED = Path(__file__).resolve().parents[2] / "demo_pairs" / "smile"
WHITE, SEEDS = (255, 255, 255), range(2)


def pair(name: str, positive: torch.Tensor, negative: torch.Tensor) -> PairImages:
    size = (positive.shape[2], positive.shape[1])
    return PairImages(name, positive, negative, "a face", "a face", size, size)


def smiles(count: int = 8, seed: int = 0, attribute: str = "mouth", unpaired: bool = False) -> list[PairImages]:
    """Pairs of the world that differ in one attribute alone; unpaired ones share nothing."""
    ends = (CLASSES[attribute][0], CLASSES[attribute][-1]) if attribute in CLASSES else (0.95, -0.95)
    faces = sample_faces(2 * count, torch.Generator().manual_seed(seed))
    sides = faces[:count], faces[count:] if unpaired else faces[:count]
    drawn = [render([replace(f, **{attribute: end}) for f in side]) for side, end in zip(sides, ends, strict=True)]
    return [pair(f"{i:02}", p, n) for i, (p, n) in enumerate(zip(*drawn, strict=True), 1)]


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)


def jpeg(image: torch.Tensor, quality: int = 80) -> torch.Tensor:
    buffer = io.BytesIO()
    pil(image).save(buffer, "JPEG", quality=quality)
    return tensor(Image.open(buffer))


def blurred(image: torch.Tensor, radius: float = 1.5) -> torch.Tensor:
    return tensor(pil(image).filter(ImageFilter.GaussianBlur(radius)))


def texture(seed: int, side: int = 128) -> torch.Tensor:
    """Squares, more of light than of colour: as full of sharp detail as a photo, and nowhere the same."""
    noise = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    noise = 0.7 * noise[:, :1] + 0.3 * noise
    return F.interpolate(noise, (side, side), mode="nearest")[0]


def kinds(report: PairsReport) -> set[tuple[Kind, str | None]]:
    return {(f.kind, f.pair) for f in report.findings}


def swapped(p: PairImages) -> PairImages:
    return replace(p, positive=p.negative, negative=p.positive)


# clean


@pytest.mark.parametrize("attribute", ["mouth", "eyes", "skin"])
def test_clean_pairs_give_no_finding(attribute: str) -> None:
    for seed in SEEDS:
        report = examine(smiles(seed=seed, attribute=attribute))
        assert report.findings == ()
        assert all(NOTHING < c.share < 0.6 and c.shift is None for c in report.pairs)


def test_the_shipped_pairs_are_clean() -> None:
    def load(side: str, name: str) -> torch.Tensor:
        return tensor(Image.open(SHIPPED / side / name))

    names = sorted(p.name for p in (SHIPPED / "positive").glob("*.png"))
    assert examine([pair(n, load("positive", n), load("negative", n)) for n in names]).findings == ()


# what differs


def test_the_mask_covers_what_was_painted_and_nothing_else() -> None:
    plain = texture(1)
    painted = plain.clone()
    painted[:, 40:60, 30:70] = 1 - painted[:, 40:60, 30:70].round()
    found = difference_mask(painted, plain)
    assert found[42:58, 32:68].float().mean() > 0.95
    found[38:62, 28:72] = False
    assert not found.any()


def test_a_recompressed_twin_is_no_difference() -> None:
    for p in smiles(count=8):
        assert check(replace(p, negative=jpeg(p.positive, 75))).share <= NOTHING
    big = texture(2, 256)
    assert check(pair("x", big, jpeg(big, 60))).share <= NOTHING


def test_grain_is_no_difference() -> None:
    plain, noise = texture(3), torch.Generator().manual_seed(0)
    grainy = [(plain + 0.15 * torch.randn(plain.shape, generator=noise)).clamp(0, 1) for _ in range(2)]
    assert float(difference_mask(*grainy).float().mean()) < 0.01


def test_identical_images_are_named() -> None:
    pairs = smiles()
    pairs[2] = replace(pairs[2], negative=pairs[2].positive)
    pairs[5] = replace(pairs[5], negative=jpeg(pairs[5].positive))
    assert kinds(examine(pairs)) == {(Kind.IDENTICAL, "03"), (Kind.IDENTICAL, "06")}


# the wrong way round


@pytest.mark.parametrize("attribute", ["mouth", "skin", "background"])
def test_a_swapped_pair_is_named_and_no_other(attribute: str) -> None:
    for seed in SEEDS:
        pairs = smiles(count=6, seed=seed, attribute=attribute)
        pairs[seed] = swapped(pairs[seed])
        wrong = {f.pair for f in examine(pairs).findings if f.kind is Kind.WRONG_WAY}
        assert wrong == {pairs[seed].name}, seed


@pytest.mark.parametrize(("wrong", "words"), [((), ()), ((2,), ("03",)), ((0, 2, 4), ("half",))])
def test_pairs_that_contradict_each_other_are_said_to(wrong: tuple[int, ...], words: tuple[str, ...]) -> None:
    pairs = [swapped(p) if i in wrong else p for i, p in enumerate(smiles(count=6))]
    said = examine(pairs).contradiction
    assert bool(said) == bool(wrong)
    assert all(word in said for word in words)


@pytest.mark.parametrize("seed", [0, 26])
def test_pairs_that_do_not_agree_accuse_nobody(seed: int) -> None:
    draw, pairs = torch.Generator().manual_seed(seed), []
    for i in range(8):
        plain = texture(seed * 50 + i, 64)
        patched = plain.clone()
        y, x = torch.randint(0, 44, (2,), generator=draw).tolist()
        patched[:, y : y + 20, x : x + 20] = torch.rand(3, 1, 1, generator=draw)
        pairs.append(pair(str(i), patched, plain))
    assert examine(pairs).findings == ()


# shifts


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shifted_pair_is_reported_with_its_shift(seed: int) -> None:
    pairs = smiles(seed=seed)
    pairs[4] = replace(pairs[4], negative=torch.roll(pairs[4].negative, (-3, 5), (1, 2)))
    report = examine(pairs)
    assert kinds(report) == {(Kind.SHIFTED, "05")}
    assert report.pairs[4].shift == (5, -3)
    assert "5 px right and 3 px up" in report.lines()[0]


@pytest.mark.parametrize("right_down", [(5, -3), (0, 9), (-20, -11)])
def test_a_shift_is_found_in_texture_under_other_light_a_repainted_part_and_jpeg(right_down: tuple[int, int]) -> None:
    right, down = right_down
    scene = texture(5, 192)
    changed = scene.clone()
    changed[:, 80:110, 80:110] = texture(6, 32)[:, :30, :30]
    cut = jpeg(changed * 0.7, 75)[:, 32 - down : 160 - down, 32 - right : 160 - right]
    assert find_shift(scene[:, 32:160, 32:160], cut)[0] == right_down


def test_no_shift_is_made_up() -> None:
    for seed in range(4):
        assert find_shift(texture(seed), texture(seed + 100))[0] is None
        assert find_shift(texture(seed), blurred(texture(seed)) * 0.6)[0] is None
        soft = blurred(texture(seed), 3)
        assert find_shift(soft, 0.46 * soft + 0.54 * soft.roll(1, 2))[0] is None  # half a pixel


# light, sharpness, size: one pair, or a whole side

WORSE: dict[str, tuple[Kind, Kind, Callable[[PairImages], PairImages], str]] = {
    "darker": (Kind.LIGHT, Kind.SIDES_LIGHT, lambda p: replace(p, negative=p.negative * 0.75), "1.3"),
    "blurred": (Kind.SHARP, Kind.SIDES_SHARP, lambda p: replace(p, negative=blurred(p.negative)), "blurrier"),
    "larger": (Kind.SIZE, Kind.SIDES_SIZE, lambda p: replace(p, positive_size=(128, 128)), "x 2.00"),
}


@pytest.mark.parametrize("what", list(WORSE))
def test_a_pair_or_a_whole_side_that_differs_is_one_finding(what: str) -> None:
    kind, side_kind, worsen, number = WORSE[what]
    pairs = smiles()
    pairs[3] = worsen(pairs[3])
    one, all_of_them = examine(pairs).findings, examine([worsen(p) for p in smiles(seed=1)]).findings
    assert [(f.kind, f.pair) for f in (*one, *all_of_them)] == [(kind, "04"), (side_kind, None)]
    for finding in (*one, *all_of_them):
        assert number in finding.text
        first = min(("positive", "negative"), key=finding.text.index)
        assert first == ("negative" if what == "blurred" else "positive"), "which side has more of it"


def test_the_figures_of_a_picture_are_those_of_a_hand_calculation() -> None:
    half = torch.zeros(3, 40, 40)
    half[:, :, 20:] = 0.5
    found = image_figures(half, (40, 20), "x")
    assert found.brightness == pytest.approx(0.25)
    assert found.contrast == pytest.approx(0.25)
    assert found.enlarged == 2
    assert found.sharpness == pytest.approx(2 * 40 * 0.5**2 / 1600)  # +0.5 in one column, -0.5 in the next
    for sigma in (1.0, 2.0, 3.0):
        places = (torch.arange(60) - 30) / sigma
        step = torch.special.ndtr(places).expand(3, 60, 60)
        assert image_figures(step, (60, 60), "x").edges == pytest.approx(sigma, rel=0.05)


def test_a_bright_object_is_no_other_light() -> None:
    images = pair("x", texture(1), texture(1) * 0.97)
    images.positive[:, :50] = 1.0
    assert check(images).ratio("brightness") > 1.25
    assert check(images).light < 1.05


def mixed(pairs: list[PairImages], order: list[int]) -> list[PairImages]:
    """Pairs whose negatives stand in another order; of two names."""
    return [
        replace(p, name=f"a{i}.png / b{i}.png", negative=pairs[n].negative)
        for i, (p, n) in enumerate(zip(pairs, order, strict=True))
    ]


def test_pairs_that_were_mixed_up_are_told_who_belongs_to_whom() -> None:
    told = 0
    for seed in range(10):
        order = [[1, 2, 3, 4, 0], [4, 3, 2, 1, 0]][seed % 2]
        report = examine(mixed(smiles(5, seed), order))
        text = "".join(f.text for f in report.findings if f.kind is Kind.UNPAIRED)
        named = {f"a{i}.png to negative b{order.index(i)}.png" for i in range(5) if order.index(i) != i}
        said = {part.split(":")[0] for part in text.split("positive ") if " to negative b" in part}
        assert {part.strip(", ") for part in said} in (named, set())
        told += bool(said)
    assert told >= 5


def test_two_partners_that_were_exchanged_are_told_and_strangers_are_not() -> None:
    report = examine(mixed(smiles(8), [1, 0, 2, 3, 4, 5, 6, 7]))
    texts = {f.pair: f.text for f in report.findings if f.kind is Kind.UNRELATED}
    assert set(texts) == {"a0.png / b0.png", "a1.png / b1.png"}
    assert "a0.png to negative b1.png" in texts["a0.png / b0.png"]
    for seed in range(20):
        for count in (3, 4, 6):
            assert not any(" to negative " in f.text for f in examine(smiles(count, seed, unpaired=True)).findings)


# single pictures, captions, duplicates, counts


def test_a_tiny_a_blurred_a_flat_picture_are_named_with_their_side() -> None:
    pairs = smiles(seed=2)
    pairs[0] = replace(pairs[0], positive_size=(40, 40), negative_size=(40, 40))
    pairs[1] = replace(pairs[1], positive=blurred(pairs[1].positive, 2), negative=blurred(pairs[1].negative, 2))
    pairs[2] = replace(pairs[2], negative=torch.full_like(pairs[2].negative, 0.5))
    report = examine(pairs)
    assert kinds(report) == {(Kind.TINY, "01"), (Kind.BLURRED, "02"), (Kind.FLAT, "03")}
    text = "\n".join(report.lines())
    assert "01: its positive is only 40 x 40, enlarged 1.6 times. " in text
    assert "03: its negative is one flat colour (contrast 0.000). " in text


def test_a_picture_of_one_brightness_and_many_colours_is_not_flat() -> None:
    pairs = smiles(seed=2)
    side = pairs[2].negative.shape[1]
    red = torch.linspace(0.45, 0.6, side).expand(side, side)  # a gradient to another colour, of one brightness
    even = torch.stack([red, (0.5 - 0.299 * red) / 0.587, torch.zeros_like(red)])
    assert float(luma(even).std()) < 1e-4
    for picture, flat in ((even, False), (even.mean((1, 2), keepdim=True).expand_as(even), True)):
        pairs[2] = replace(pairs[2], negative=picture)
        assert ((Kind.FLAT, "03") in kinds(examine(pairs))) == flat
    assert image_figures(jpeg(picture, 30), (side, side), "x").contrast < 0.01, "what compression leaves of one colour"


def test_captions_that_differ_are_quoted() -> None:
    pairs = smiles()
    pairs[6] = replace(pairs[6], positive_caption="a smiling face", negative_caption="a sad face")
    pairs[7] = replace(pairs[7], positive_caption="a  face\n")
    report = examine(pairs)
    assert kinds(report) == {(Kind.CAPTIONS, "07")}
    assert '"a smiling face" and "a sad face"' in report.lines()[0]


@pytest.mark.parametrize(
    ("captions", "there", "lacking"), [(("a face", ""), "positive", "negative"), (("", "a face"), "negative", "positive")]
)
def test_captions_on_one_side_only_are_wanted_on_both(captions: tuple[str, str], there: str, lacking: str) -> None:
    pairs = smiles()
    pairs[6] = replace(pairs[6], positive_caption=captions[0], negative_caption=captions[1])
    report = examine(pairs)
    assert kinds(report) == {(Kind.CAPTIONS, "07")}
    said = report.lines()[0]
    assert f'its {there} has a caption, "a face", and its {lacking} none' in said
    assert "both sides the same caption file" in said


def test_two_shapes_within_a_pair_are_named() -> None:
    pairs = smiles()
    pairs[0] = replace(pairs[0], negative_size=(64, 80))
    report = examine(pairs)
    assert kinds(report) == {(Kind.SIZE, "01")}
    assert "64 x 64 and 64 x 80" in report.lines()[0]


def test_duplicates_are_named_once_each_with_the_first() -> None:
    pairs = smiles()
    pairs[5] = replace(pairs[1], name="06", positive=jpeg(pairs[1].positive, 90))
    texts = [f.text for f in examine(pairs).findings]
    assert [t.split(". ")[0] for t in texts] == [
        "06: its negative is the same picture as that of 02",
        "06: its positive is the same picture as that of 02",
    ]


def test_too_few_pairs_are_advised_against() -> None:
    for count in (1, 3):
        report = examine(smiles(count, seed=1)[:count])
        assert kinds(report) == {(Kind.TOO_FEW, None)}
        assert f"{count} pair" in report.lines()[0]


def test_pairs_that_share_nothing_are_called_unpaired_and_nothing_else() -> None:
    for seed in SEEDS:
        assert kinds(examine(smiles(12, seed, unpaired=True))) == {(Kind.UNPAIRED, None)}
    assert kinds(examine([pair(str(i), texture(i), texture(i + 50)) for i in range(6)])) == {(Kind.UNPAIRED, None)}


# the report


def broken() -> list[PairImages]:
    pairs = smiles(12, seed=3)
    pairs[1] = swapped(pairs[1])
    pairs[2] = replace(pairs[2], negative=torch.roll(pairs[2].negative, (-3, 5), (1, 2)))
    pairs[3] = replace(pairs[3], negative=pairs[3].positive)
    pairs[4] = replace(pairs[4], positive_caption="smile")
    pairs[5] = replace(pairs[5], positive=blurred(pairs[5].positive))
    pairs[7] = replace(pairs[0], name="08")
    return pairs


def test_findings_do_not_depend_on_the_order_of_pairs() -> None:
    pairs = broken()
    expected = examine(pairs)
    for seed in range(2):
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
        report = examine([pairs[i] for i in order])
        assert report.findings == expected.findings
        assert [c.name for c in report.pairs] == [pairs[i].name for i in order]


def test_the_worst_comes_first_each_on_one_line_and_a_flood_is_folded() -> None:
    kinds = [f.kind for f in examine(broken()).findings]
    assert kinds == sorted(kinds, key=list(Kind).index)
    lines = examine(broken()).lines()
    assert [line[:2] for line in lines] == ["02", "04", "03", "06", "05", "08", "08"]
    many = [replace(p, name=f"a\nb {p.name}", positive_caption="other") for p in smiles(9, seed=3)]
    folded = examine(many).lines(most=2)
    assert folded[2] == f"Captions differ, 7 more: {', '.join(f'a b {i:02}' for i in range(3, 10))}."
    assert not any("\n" in line for line in folded)


def test_the_headline_says_in_which_pairs_something_was_found() -> None:
    pairs = smiles(count=6)
    assert examine(pairs).headline.startswith("6 pairs, ")
    pairs[2] = swapped(pairs[2])
    assert examine(pairs).headline.startswith("1 pair needs a look: 03. 6 pairs, ")
    many = examine([replace(p, positive_caption="other") for p in smiles(count=6)])
    assert many.headline.startswith("6 pairs need a look: 01, 02, 03 and 3 more. ")
    assert examine(smiles(count=2)).headline.startswith("1 finding about the whole set. 2 pairs, ")


def test_hostile_input_is_an_error_of_one_line_or_a_finding() -> None:
    good = smiles(1)[0]
    for bad in (torch.zeros(1, 64, 64), torch.zeros(4, 64, 65), torch.zeros(3, 0, 0)):
        with refused("pair.shapes", "01"):
            examine([replace(good, positive=bad)])
        with refused("pair.image", "01"):
            examine([replace(good, positive=bad, negative=bad)])
    for height, width in ((1, 1), (1, 9), (4, 4), (5, 200)):
        image = texture(1)[:, :height, :1].expand(3, height, width) if width > 128 else texture(1)[:, :height, :width]
        odd = PairImages("\udcff 图", image, image.flip(0), "", "", (0, 0), (1, 1))
        report = examine([odd])
        "\n".join(report.lines()).encode()
        assert contact_sheet([odd], report).width > 0


def test_nothing_reads_a_global_generator_or_changes_the_pictures() -> None:
    pairs = broken()
    before, images = torch.get_rng_state(), [p.positive.clone() for p in pairs]
    contact_sheet(pairs, examine(pairs))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p.positive, image) for p, image in zip(pairs, images, strict=True))


# the contact sheet


def red(sheet: Image.Image) -> int:
    """Pixels of the red in which findings are written; no drawn face has it."""
    return int((np.asarray(sheet) == RED).all(-1).sum())


def test_the_sheet_shows_positive_negative_and_what_differs() -> None:
    cell, gap = 128, 10
    plain, painted = torch.full((3, 64, 64), 0.2), torch.full((3, 64, 64), 0.2)
    painted[0, 16:48, 16:48] = 1.0
    pairs = [pair("one", painted, plain)]
    sheet = contact_sheet(pairs, examine(pairs), cell=cell)
    assert sheet.mode == "RGB"
    assert sheet.getpixel((0, 0)) == sheet.getpixel((sheet.width - 1, sheet.height - 1)) == WHITE
    left = [2 * gap + i * (cell + gap) for i in range(3)]
    negative = [y for y in range(sheet.height) if sheet.getpixel((left[1] + cell // 2, y)) == (51, 51, 51)]
    middle = negative[cell // 2]
    assert [sheet.getpixel((x + cell // 2, middle)) for x in left] == [(255, 51, 51), (51, 51, 51), (255, 51, 51)]
    assert [min(sheet.getpixel((x + 6, middle))) for x in left[:2]] == [51, 51]
    assert min(sheet.getpixel((left[2] + 6, middle))) > 200


def test_of_many_pairs_those_with_findings_are_shown() -> None:
    pairs = [replace(p, name=str(i)) for i, p in enumerate(smiles(20, attribute="skin"))]
    pairs[18:] = [replace(p, positive_caption="other") for p in pairs[18:]]
    report = examine(pairs)
    sheet = contact_sheet(pairs, report, most=4)
    assert sheet.height < 6 * 300
    assert red(sheet) > 100
    assert not red(contact_sheet(pairs[:4], examine(pairs[:4])))


def test_the_sheet_beside_a_program_s_own_words_has_none_and_says_where_each_pair_is() -> None:
    pairs = broken()
    report = examine(pairs)
    assert red(contact_sheet(pairs, report)) > 100
    sheet = bare_sheet(pairs, report)
    assert not red(sheet.picture)
    tops = [band[0] for band in sheet.bands if band]
    assert len(tops) == len(pairs)
    assert tops == sorted(tops)
    cell = 2 * 10
    for images, (top, height) in zip(pairs, sheet.bands, strict=True):
        assert height > 170
        first = torch.tensor(sheet.picture.getpixel((cell, top))) / 255
        assert (first - images.negative[:, 0, 0]).abs().max() < 0.1, images.name
    few = bare_sheet(pairs, report, most=2)
    assert sum(band is not None for band in few.bands) == 2
    assert all(band is None or report.of(pair.name) for band, pair in zip(few.bands, pairs, strict=True))


def test_the_letters_can_be_read_in_a_node() -> None:
    """In the 250 pixels that a list in a node is wide."""
    pairs = smiles(2)
    assert TEXT * 250 / contact_sheet(pairs, examine(pairs)).width > 10
