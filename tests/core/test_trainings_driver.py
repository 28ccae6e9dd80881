"""One driver for every host: what it begins, how it pauses and stops, and that none of it changes the numbers."""

from pathlib import Path

import pytest
from core.faults import refused

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Optimizer, SaveSpec, TrainSpec
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.data.dataset_parts import parts_of
from slider_core.data.pair_diagnosis import NONE_DIFFERS
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.train.training_file import load_run
from slider_core.train.training_saves import Autosave, run_file
from slider_core.train.trainings import Session
from slider_core.train.trainings_driver import Observer, TrainingRequest, begin, calibrate_run, train
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs
from slider_core.with_tiny.model import TinyBackend

STEPS, STOP = 5, 3
ONE_LAYER = (Target("blocks.0.attn1.to_q"),)
NEVER = SaveSpec(seconds=1e9)


class Recorder(Observer):
    """Pauses after each step, or requests a stop after step `stop`."""

    def __init__(self, pauses: bool = False, stop: int = 0) -> None:
        self.pauses, self.stop, self.events = pauses, stop, []

    def after_step(self, report) -> None:
        self.events.append(report.step)

    def stop_requested(self) -> bool:
        return self.stop in self.events

    def pause_due(self, _report) -> bool:
        return self.pauses

    def pause(self) -> None:
        self.events.append("pause")

    def calibration_begins(self) -> None:
        self.events.append("calibration")


@pytest.fixture
def request_of(dataset: Dataset):
    def make(**choices) -> TrainingRequest:
        spec = TrainSpec(steps=STEPS, lr=4e-3)
        return TrainingRequest(**{"name": "smile", "dataset": dataset, "adapter": AdapterSpec(rank=1), "spec": spec} | choices)

    return make


def test_what_a_run_is_begun_with_is_its_fingerprint(backend: TinyBackend, request_of) -> None:
    run = begin(Session(), backend, request_of())
    assert run.fingerprint == {
        "model": "tiny",
        "dataset": request_of().dataset.digest,
        "adapter": AdapterSpec(rank=1).to_json(),
        **parts_of(request_of().dataset),
    }
    start = run.slider()
    other = begin(Session(), backend, request_of(start=start, resolution=0, targets=ONE_LAYER, adapter=AdapterSpec(rank=7)))
    assert set(other.fingerprint) - set(run.fingerprint) == {"start", "resolution"}
    assert other.trainer.adapter.targets == run.trainer.adapter.targets, "a slider to go on from keeps its own layers"
    assert other.slider().info.adapter == ""
    assert begin(Session(), backend, request_of(targets=ONE_LAYER)).trainer.adapter.targets == ONE_LAYER


def test_pairs_are_examined_before_they_are_trained_on(backend: TinyBackend, request_of, tmp_path: Path) -> None:
    assert begin(Session(), backend, request_of()).evidence().contradiction == ""
    pairs = make_pairs("mouth", 6, seed=0)
    write_pairs(tmp_path, [pair[::-1] if number % 2 else pair for number, pair in enumerate(pairs)])
    halved = read_dataset(bucket_folders(tmp_path))
    assert "half" in begin(Session(), backend, request_of(dataset=halved)).evidence().contradiction


def test_a_training_hears_of_pairs_in_which_nothing_differs(backend: TinyBackend, request_of, tmp_path: Path) -> None:
    assert begin(Session(), backend, request_of()).evidence().alike == ""
    write_pairs(tmp_path, [(positive, positive) for positive, _ in make_pairs("mouth", 4, seed=0)])
    run = begin(Session(), backend, request_of(dataset=read_dataset(bucket_folders(tmp_path))))
    assert run.evidence().alike == NONE_DIFFERS


def test_the_last_reading_is_judged_by_what_was_measured_at_its_step(backend: TinyBackend, request_of) -> None:
    run = begin(Session(), backend, request_of())
    train(run, backend, 2)
    run.calibrate(backend)
    measured = run.verdict()
    run.trainer.step += 1
    assert run.measured_before
    assert run.evidence().explained is None
    assert run.verdict_read() == measured


def test_a_host_may_encode_in_its_own_way(backend: TinyBackend, samples: list[Sample], request_of) -> None:
    assert begin(Session(), backend, request_of(), encode=lambda: samples[:2]).trainer.samples == tuple(samples[:2])


def test_pauses_stops_and_files_change_no_number(backend: TinyBackend, samples: list[Sample], request_of, tmp_path: Path) -> None:
    request, two_pairs = request_of(targets=ONE_LAYER), lambda: samples[:4]
    straight = begin(Session(), backend, request, encode=two_pairs)
    train(straight, backend, STEPS)
    stopped = begin(Session(), backend, request, encode=two_pairs)
    observer = Recorder(stop=STOP)
    train(stopped, backend, STEPS, Autosave(stopped, tmp_path, NEVER), observer)
    assert observer.events == list(range(1, STOP + 1))
    assert load_run(run_file(tmp_path, "smile")).step == stopped.step == STOP
    resumed = begin(Session(), backend, request, run_file(tmp_path, "smile"), two_pairs)
    observer = Recorder(pauses=True)
    autosave = Autosave(resumed, tmp_path, NEVER)
    train(resumed, backend, STEPS, autosave, observer)
    assert observer.events == [4, "pause", 5]
    for one, other in zip(straight.trainer.adapter.parameters(), resumed.trainer.adapter.parameters(), strict=True):
        assert one.equal(other)
    calibrate_run(resumed, backend, autosave, observer)
    calibrate_run(resumed, backend, autosave, observer)
    assert observer.events[3:] == ["calibration"], "once a step"
    assert resumed.calibrated_now


def test_new_choices_hold_from_there_unless_the_training_is_finished(backend: TinyBackend, request_of) -> None:
    session = Session()
    run = begin(session, backend, request_of(targets=ONE_LAYER))
    train(run, backend, 2)
    assert begin(session, backend, request_of(spec=TrainSpec(steps=2, seed=9))).trainer.spec.steps == STEPS
    assert begin(session, backend, request_of(spec=TrainSpec(steps=9))).trainer.spec.steps == 9


def test_a_refused_rate_leaves_the_optimizer_of_a_training_that_goes_on(backend: TinyBackend, request_of) -> None:
    session = Session()
    run = begin(session, backend, request_of(spec=TrainSpec(steps=4)))
    train(run, backend, 2)
    before, optimizer = run.trainer.spec, run.trainer.optimizer
    run.trainer.probed = 1e-4
    with refused("training.rate_far_beyond", 0.1):
        begin(session, backend, request_of(spec=TrainSpec(steps=4, lr=0.1, optimizer=Optimizer.ADAFACTOR)))
    assert (run.trainer.spec, run.trainer.optimizer) == (before, optimizer)
    begin(session, backend, request_of(spec=TrainSpec(steps=4, lr=1.0, optimizer=Optimizer.PRODIGY)))
    assert run.trainer.optimizer is not optimizer
