"""A name leads to the run that is waiting under it, and to no other; memory has a budget, the run in use has none."""

import pytest
import torch
from core.faults import refused

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.calibration import Calibration, Side
from slider_core.train.trainer import Trainer
from slider_core.train.trainings import Session

MADE_OF = {"model": "linear", "dataset": "abc123"}
PAIRS = 2


@pytest.fixture
def make(linear_backend, make_samples):
    def trainer() -> Trainer:
        adapter = Adapter.create(linear_backend().module, [Target("mix")], AdapterSpec())
        return Trainer(adapter, make_samples(PAIRS), TrainSpec())

    return trainer


def names(session: Session, of: str) -> str:
    """The names out of `of` that the session still holds, without touching their order."""
    return "".join(name for name in of if name in session._runs)


def refuse() -> Trainer:
    raise AssertionError("a run of that name is there already")


def test_the_same_name_goes_on(make, linear_backend) -> None:
    session = Session()
    run = session.begin("smile", MADE_OF, make)
    run.trainer.run(linear_backend(), 2)
    again = session.begin("smile", dict(MADE_OF), refuse)
    assert again is run is session.get("smile")
    assert session.step("smile") == 2


def test_another_origin_is_refused_and_the_difference_named(make) -> None:
    session = Session()
    run = session.begin("smile", MADE_OF, make)
    for key, value in MADE_OF.items():
        with refused("training.differs", "smile", f"{key}: {value} then, other now"):
            session.begin("smile", MADE_OF | {key: "other"}, refuse)
    with refused("training.differs", "smile", "control: none then, canny now"):
        session.begin("smile", MADE_OF | {"control": "canny"}, refuse)
    assert session.get("smile") is run
    session.begin("ranked", {"adapter": AdapterSpec(rank=4, alpha=4).to_json()}, make)
    with refused("training.differs", "another adapter: alpha 4 then, 8 now; rank 4 then, 8 now. Give"):
        session.begin("ranked", {"adapter": AdapterSpec(rank=8, alpha=8).to_json()}, refuse)
    session.begin("long", {"adapter": "x" * 500}, make)
    with refused("training.differs", "adapter") as fault:
        session.begin("long", {"adapter": "y" * 500}, refuse)
    assert "--overwrite" in str(fault.value)
    assert "old_name" not in str(fault.value)
    assert len(str(fault.value)) < 400


def test_a_run_that_cannot_be_made_leaves_nothing(make) -> None:
    session = Session()
    with pytest.raises(AssertionError):
        session.begin("smile", MADE_OF, refuse)
    assert session.get("smile") is None


def test_the_budget_drops_the_least_recently_used(make) -> None:
    one = Session().begin("a", MADE_OF, make).bytes()
    session = Session(budget=2 * one)
    for name in "ab":
        session.begin(name, MADE_OF, make)
    session.get("a")
    session.begin("c", MADE_OF, make)
    assert names(session, "abc") == "ac"
    session.begin("a", MADE_OF, refuse)
    session.begin("d", MADE_OF, make)
    assert names(session, "abcd") == "ad"


def test_the_run_in_use_stays_however_small_the_budget(make) -> None:
    session = Session(budget=0)
    for name in "abc":
        session.begin(name, MADE_OF, make)
        assert names(session, "abc") == name


def test_the_bytes_of_a_run_are_its_factors_moments_and_latents(make) -> None:
    run = Session().begin("a", MADE_OF, make)
    factors = sum(p.numel() for p in run.trainer.adapter.parameters())
    assert run.bytes() == 4 * (4 * factors + 2 * PAIRS * 3 * 4 * 4)


def test_drop_forgets(make) -> None:
    session = Session()
    first = session.begin("smile", MADE_OF, make)
    session.drop("smile")
    session.drop("never there")
    assert session.get("smile") is None
    assert session.begin("smile", MADE_OF | {"model": "other"}, make) is not first


def test_a_snapshot_tells_its_origin_and_stays_as_it_was(make, linear_backend) -> None:
    run = Session().begin("smile", MADE_OF, make)
    assert run.slider().info.explained == {}
    run.trainer.run(linear_backend(), 2)
    slider = run.slider()
    up = slider.weights[Target("mix")].tensors["lora_up.weight"]
    kept = up.clone()
    run.measured = 2, Calibration(Side(best=2.0, end=4.0, curve=((2.0, 0.5),)), None, passes=1)
    assert run.slider().info.calibration.unit == 1.0
    run.trainer.run(linear_backend(), 4)
    assert run.slider().info.calibration is None, "it was measured at another step"
    assert "range" not in run.strength_note()
    assert torch.equal(up, kept)
    assert not torch.equal(run.slider().weights[Target("mix")].tensors["lora_up.weight"], kept)
    assert (slider.info.name, slider.info.step, slider.info.model) == ("smile", 2, "linear")
    assert set(slider.info.explained) == {"positive", "negative"}
    assert TrainSpec.from_json(slider.info.training) == TrainSpec()
