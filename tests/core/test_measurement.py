"""What strength 1 becomes, and what is drawn there, on a model whose answers can be calculated."""

import math
from dataclasses import replace

import pytest
from core.faults import refused
from core.test_progress import CONCEPT, constant_model

from slider_core.backend import Conditioning
from slider_core.config.lora import FileDtype, FileFormat
from slider_core.config.training import Objective, Sides, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.lora.info import SliderInfo
from slider_core.objective.one_way import on_sides
from slider_core.train import measurement
from slider_core.train.calibration import Calibration
from slider_core.train.displacement import DisplacementMeter
from slider_core.train.drawn import OWN, Drawn
from slider_core.train.drawn_unit import turned_to_images, useful_end
from slider_core.train.measurement import measure, measure_any
from slider_core.train.progress import Probe
from slider_core.train.progress_verdict import Evidence, Verdict, judge

# what the slider answers for its strength, in images; the LoRA weight of strength 1; the share that is drawn there
SCALES = {
    "as_trained": (1.05, 1.0, 1.05),  # the best is 0.95, and strength 1 nearly as good
    "weak": (0.5, 2.0, 1.0),
    "loud": (3.0, 1 / 3, 1.0),  # 1.4 times the best would overshoot the images
    "far_too_loud": (40.0, 1 / 40, 1.0),
    "far_too_weak": (0.1, 8.0, 0.8),  # no file's strength 1 is more than 8 times what was trained
    "wrong_way": (-1.0, 1.0, -1.0),
}


def images(aligned: bool = True, strength: float = 1.0) -> list[Sample]:
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    return [Sample(sign * flat, Conditioning("", None), sign * strength, 0, aligned=aligned) for sign in (1.0, -1.0)]


@pytest.mark.parametrize(("scale", "unit", "share"), SCALES.values(), ids=SCALES)
def test_strength_1_and_what_it_draws(linear_backend, scale: float, unit: float, share: float) -> None:
    model, adapter = constant_model(linear_backend, scale)
    passes = []
    meter = DisplacementMeter(images(), Objective.DENOISE_PAIRED, 0)
    calibration, drawn = measure(model, adapter, images(), meter, lambda *pass_of: passes.append(pass_of))
    assert calibration.unit == pytest.approx(unit, rel=1e-3)
    assert (drawn.share, drawn.distance) == pytest.approx((share, abs(share)), rel=1e-3)
    assert [done for done, _ in passes] == list(range(1, calibration.passes + 1))
    assert all(done <= expected <= max(20, done) for done, expected in passes)
    end = 1.5 if share < 0.9 else 1.0  # times strength 1: beyond it the pictures have more than 1.4 times the images' contrast
    if scale > 0:
        assert (calibration.plus.best, calibration.minus.end) == pytest.approx((1 / scale, end * unit), rel=1e-3)
    else:
        assert (calibration.plus, calibration.minus) == (None, None)


def test_strength_1_is_said_to_be_what_shows_of_the_images_and_not_how_far_pictures_move() -> None:
    drawn = Drawn(0.45, 1.4, 1.0, length=0.97)
    found = measurement._with_drawn(Calibration(None, None, 9), drawn)
    assert found.drawn == 0.45
    assert measurement._with_drawn(found, replace(drawn, in_place=False)).drawn is None


def test_images_of_another_strength_become_1_all_the_same(linear_backend) -> None:
    model, adapter = constant_model(linear_backend, 0.4)
    samples = images(strength=2.0)
    calibration, drawn = measure(model, adapter, samples, DisplacementMeter(samples, Objective.DENOISE_PAIRED, 0))
    assert (calibration.unit, calibration.plus.best) == pytest.approx((2.5, 2.5), rel=1e-3)
    assert drawn.share == pytest.approx(1.0, rel=1e-3)


def test_without_pairs_nothing_can_be_laid_along(linear_backend) -> None:
    model, adapter = constant_model(linear_backend, 1.0)
    samples = images(aligned=False)
    calibration, drawn = measure(model, adapter, samples, DisplacementMeter(samples, Objective.DISPLACEMENT, 0, draws=2))
    assert calibration.unit == pytest.approx(1.0, rel=1e-3)
    assert (drawn.share, drawn.distance) == (None, None)


def test_pictures_that_are_not_finite_are_burnt_ones(linear_backend) -> None:
    model, adapter = constant_model(linear_backend, math.inf)
    meter = DisplacementMeter(images(), Objective.DENOISE_PAIRED, 0)
    _, drawn = measure(model, adapter, images(), meter)
    assert (drawn.share, drawn.contrast) == (0.0, math.inf)


def test_a_one_way_slider_is_asked_for_all_of_the_difference_and_has_no_minus_side(linear_backend) -> None:
    """The images lie 2 CONCEPT apart: all of it is wanted at +1."""
    model, adapter = constant_model(linear_backend, 1.0)
    one_way = on_sides(images(), Sides.PLUS)
    assert [sample.strength for sample in one_way] == [1.0, 0.0]
    meter = DisplacementMeter(one_way, Objective.DISPLACEMENT, 0)
    calibration, drawn = measure(model, adapter, one_way, meter)
    assert (calibration.unit, calibration.plus.best, drawn.share) == pytest.approx((2.0, 2.0, 1.0), rel=1e-3)
    info = calibration.described(SliderInfo(sides="plus"), 1.0)
    assert (info.range, info.lora_weight(0.5), info.lora_weight(-1.0)) == ((0.0, 2.0), 1.0, 0.0)
    assert SliderInfo.from_header(info.header({}, "", FileFormat.NATIVE, FileDtype.FP32)).one_way
    reading = Probe(one_way, 0).read(model, adapter)
    assert (reading.positive, reading.mean, reading.strength) == pytest.approx((0.75, 0.75, 2.0), rel=1e-3)
    assert judge(Evidence([replace(reading, step=300)], explained=(True, True), drawn=drawn)) is Verdict.WORKS


@pytest.mark.parametrize("apart", [{"pair": None}, {"aligned": False}])
def test_one_way_needs_pairs_that_line_up_and_the_displacement(apart: dict) -> None:
    with refused("one_way.no_pairs", "2 images"):
        on_sides([replace(sample, **apart) for sample in images()], Sides.PLUS)
    with refused("train_spec.one_way", "teacher_difference"):
        TrainSpec(sides="plus", objective="teacher_difference")
    neutral = replace(images()[0], strength=0.0, pair=None)
    assert on_sides([*images(), neutral], Sides.PLUS)[2] == neutral


class Pictures:
    """A Drawing whose pictures are known: `length(strength)` apart where the images differ, a part of it along the pair."""

    def __init__(self, length, along: float = 1.0, apart: float = 1.0) -> None:
        self.length, self.along, self.apart = length, along, apart

    def of_first(self, _pairs: int) -> "Pictures":
        return self

    def at(self, strength: float) -> Drawn:
        length = self.length(strength)
        return Drawn(self.along * length, self.apart * length, 1.0, strength, length)


@pytest.mark.parametrize(
    ("pictures", "strength", "end"),
    [
        (Pictures(lambda s: 0.2 * s, along=0.5), 5.0, 3.0),
        (Pictures(lambda s: 0.05 * s), 8.0, 3.0),  # the most
        (Pictures(lambda s: 2.0 * s), 0.5, 3.0),
        (Pictures(lambda s: 0.2 * s, along=0.1), 1.0, 3.0),  # a change that leads nowhere is not turned up
        (Pictures(lambda s: min(0.29, 0.2 * s)), 1.0, 1.5),  # nor is one that pictures do not answer to any more
        (Pictures(lambda s: 0.2 * s, apart=4.0), 2.5, 3.0),  # the whole pictures lie twice as far apart as the images
        (Pictures(lambda s: 1 - 0.5**s), 8 / 3, 1.0),
    ],
)
def test_strength_1_is_where_pictures_lie_as_far_apart_as_the_images(pictures: Pictures, strength: float, end: float) -> None:
    found = turned_to_images(pictures, pictures.at(1.0), 8.0)
    assert found.strength == pytest.approx(strength, rel=0.01)
    assert useful_end(pictures, found) == pytest.approx(end * found.strength)
    assert found.shows == (found.length if pictures.along > OWN else found.share)


@pytest.mark.parametrize(("length", "unit"), [(lambda s: 0.1 * s, 10.0), (lambda s: 0.5 * s, 2.0), (None, 4.0)])
def test_any_slider_is_measured_by_pictures_too(linear_backend, monkeypatch, length, unit: float) -> None:
    """What explains the images best is 4 times the slider; what draws them may lie elsewhere."""
    model, adapter = constant_model(linear_backend, 0.25)
    if length is None:  # images that do not line up
        samples = images(aligned=False)
    else:
        samples = images()
        monkeypatch.setattr("slider_core.train.measurement.Drawing", lambda *_: Pictures(length))
    found = measure_any(model, adapter, samples)
    assert found.unit == pytest.approx(unit, rel=0.02)
    assert found.plus.best == pytest.approx(4.0, rel=0.02)
    if length is not None:
        assert (found.drawn, found.minus.end) == pytest.approx((1.0, 3 * unit), rel=0.02)
    one_way = measure_any(model, adapter, samples, one_way=True)
    assert (one_way.unit, one_way.minus) == (pytest.approx(4.0, rel=0.02), None)


class Recorded:
    """A `Drawing` whose pictures are as long as their strength, at most 1, and as hard as `contrast` says."""

    def __init__(self, contrast) -> None:
        self.contrast = contrast

    def at(self, strength: float) -> Drawn:
        length = min(1.0, strength)
        return Drawn(length, length, self.contrast(strength), strength, length)


@pytest.mark.parametrize(
    ("contrast", "unit"),
    [
        (lambda strength: 0.7 + 0.05 * strength, 0.5),  # something has faded away, and more strength does not bring it back
        (lambda _strength: 0.9, 1.0),
        (lambda strength: strength, 1.0),  # the two ends are all the contrast there is
        (lambda strength: 3 * strength, 0.5),
    ],
)
def test_no_strength_is_turned_up_to_pictures_that_are_harder_or_softer_than_the_images(contrast, unit: float) -> None:
    drawing = Recorded(contrast)
    assert turned_to_images(drawing, drawing.at(0.5), 8.0).strength == pytest.approx(unit)
