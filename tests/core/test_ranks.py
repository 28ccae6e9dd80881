"""Several processes train one slider: the same numbers as one process in as many parts, and they end together."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from core.several import STEPS, names, rank_main, trained
from safetensors.torch import load_file

from slider_core.__main__ import main
from slider_core.ranks import Group, Ranks
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs

LIMIT_S = 240  # of all processes together: whatever hangs is ended
CLOSE, CLOSE_WEIGHTS = 1e-4, 1e-3  # sums in another order; Adam makes more of it where a gradient is near 0
FAST = ["--rank", "1", "--no-calibration", "--lr", "0.002", "--any-rate", "--seed", "5", "--steps", "4"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked from one that has torch")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder / "smile", make_pairs("mouth", 2, 0))
    return folder / "smile"


def words(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--dataset", str(data), "--out", str(out), *FAST, *more]


def run_together(world: int, folder: Path, command: list[str]) -> list[dict[str, Any]]:
    """What each of so many processes came to."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.several"])  # torch is imported once
    port = free_port()
    processes = [context.Process(target=rank_main, args=(rank, world, folder, command, port)) for rank in range(world)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the server that forks would not find the tests
        for process in processes:
            process.start()
    for process in processes:
        process.join(LIMIT_S)
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging, "a process hangs"
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, list[dict]]:
    """(folder, what each rank came to): of three ranks one is idle in a step of two pairs."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    command = words(data, folder / "s.safetensors", "--run-steps", "2") if request.param == 2 else []
    return folder, run_together(request.param, folder, command)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    weights = zip(one["weights"], other["weights"], strict=True)
    told = ("losses", "readings", "step")
    return all(one[name] == other[name] for name in told) and all(torch.equal(a, b) for a, b in weights)


def test_ranks_are_one_process_in_parts_bit_for_bit_and_near_one_that_is_alone(together) -> None:
    _, results = together
    wrong = []
    for name in names(len(results)):
        in_parts = trained(name, Ranks(parts=len(results)))
        if not all(same(result[name], in_parts) for result in results):
            wrong.append(name)
        alone = trained(name, Ranks())
        assert in_parts["losses"][0] == pytest.approx(alone["losses"][0], rel=CLOSE), name
    assert not wrong


def test_a_fault_of_one_rank_ends_all_with_its_message(together) -> None:
    _, results = together
    assert {result["nan"]["code"] for result in results} == {"training.not_finite"}
    assert len({result["nan"]["step"] for result in results}) == 1
    assert all("this card is on fire" in result["broken"]["message"] for result in results)
    assert [result["broken"]["code"] for result in results[:-1]] == ["ranks.fault"] * (len(results) - 1)
    assert {result["stopped"]["step"] for result in results} == {2}


def test_a_rank_that_is_short_of_memory_falls_back_alone(together) -> None:
    _, results = together
    levels = [result["short"]["level"] for result in results]
    assert levels[-1]
    assert not any(levels[:-1])
    plain = trained("objective displacement", Ranks())
    assert all(result["short"]["losses"] == pytest.approx(plain["losses"], rel=CLOSE) for result in results)


def test_a_killed_rank_ends_the_others(together) -> None:
    folder, results = together
    for rank in range(len(results) - 1):
        assert torch.load(folder / f"lost{rank}.pt")["code"] == "ranks.lost"


def test_a_run_of_two_ranks_goes_on_with_one(together, data: Path, tmp_path: Path) -> None:
    folder, results = together
    if len(results) != 2:
        return
    assert [result["command"] for result in results] == [0, 0]
    assert main(words(data, folder / "s.safetensors", "--resume")) == 0
    assert main(words(data, tmp_path / "s.safetensors")) == 0
    one, other = load_file(folder / "s.safetensors"), load_file(tmp_path / "s.safetensors")
    apart = torch.cat([(one[name] - value).flatten() for name, value in other.items()]).norm()
    assert apart < CLOSE_WEIGHTS * torch.cat([value.flatten() for value in other.values()]).norm()


def test_one_process_imports_no_torch_distributed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained("objective displacement", Ranks())  # PEFT, imported late, has imports of its own
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    assert trained("objective displacement", Ranks())["step"] == STEPS
    with pytest.raises(ImportError):
        Group(0, 2, f"file://{tmp_path / 'meeting'}")
