"""In a real ComfyUI a training outlives what a user does to it: stop, finish early, restart, another graph, a full disk."""

import copy
from pathlib import Path

import pytest
import torch
from graphs import demo_graph

STEPS, STOP = 10, 4
TRAINING = ("1", "2", "5", "6")


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "learning_rate": 0.004, "any_rate": True, "calibrate": False}
    return {k: graph[k] for k in TRAINING}


def restart(pack) -> None:
    """What a restart of the server does to the memory; the disk stays."""
    pack.part("nodes.running").SESSION.drop("smile")


def kept(pack, comfy: Path) -> object:
    return pack.core("train.training_file").load_run(comfy / "output" / "sliders" / "smile" / "smile.run.safetensors")


def fingerprint(module: torch.nn.Module) -> dict:
    state = module.state_dict(keep_vars=True)
    return {k: (v.data_ptr(), v.requires_grad, v.is_inference(), float(v.double().sum())) for k, v in state.items()}


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[t].tensors[name]) for t, w in one.items() for name, value in w.tensors.items())


def test_a_training_goes_on_after_a_restart_bit_for_bit(prompt: dict, run_graph, pack, comfy: Path) -> None:
    straight = run_graph(prompt, slider=("6", 0), loss=("6", 2))
    prompt["6"]["inputs"] |= {"old_name": "restart", "steps_per_run": STOP}
    run_graph(prompt, slider=("6", 0))
    prompt["6"]["inputs"]["old_name"] = "continue"
    assert kept(pack, comfy).step == STOP
    restart(pack)
    prompt["6"]["inputs"]["steps_per_run"] = 0
    again = run_graph(prompt, slider=("6", 0), loss=("6", 2))
    assert again["loss"] == straight["loss"]
    assert same(straight["slider"].weights, again["slider"].weights)
    assert kept(pack, comfy).step == STEPS


def test_a_checkpoint_is_a_lora_like_any_other_and_no_second_copy_is_kept(prompt: dict, run_graph, pack, comfy: Path) -> None:
    prompt["6"]["inputs"] |= {"checkpoint_every": 5, "checkpoints_kept": 1, "calibrate": True}
    run = run_graph(prompt, slider=("6", 0), status=("6", 3))
    assert f"Kept up to step {STEPS}" in run["status"]
    folder = comfy / "output" / "sliders" / "smile"
    last = folder / f"smile_step{STEPS:06}.safetensors"
    assert run["slider"].weights.keys() == pack.core("lora.slider_file").load_slider(last).weights.keys()
    assert not (folder / "smile.safetensors").exists()
    assert len(list(folder.glob("smile_step*"))) <= 2


@pytest.mark.parametrize("moment", ["forward", "backward"])
def test_stop_in_the_middle_of_a_step_saves_the_last_finished_one(
    moment: str, prompt: dict, run_graph, pack, comfy: Path, monkeypatch
) -> None:
    """The button is pressed while the third block of a forward, or of a backward, is computed."""
    from comfy import model_management

    prompt["6"]["inputs"]["checkpointing"] = False  # or a backward would contain forwards
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before, session = fingerprint(model.model), pack.part("nodes.running").SESSION
    blocks = pack.core("layers.blocks").blocks(model.model.diffusion_model)
    pressed_at = []

    def press() -> None:
        if session.step("smile") == STOP and not pressed_at:
            pressed_at.append(torch.is_grad_enabled())
            model_management.interrupt_current_processing()

    def in_forward(_block, _args, output) -> None:
        if moment == "forward":
            press()
        elif output.requires_grad:
            output.register_hook(lambda _gradient: press())

    handle = blocks[2].register_forward_hook(in_forward)
    try:
        with pytest.raises(run_graph.Error) as stopped:
            run_graph(prompt, slider=("6", 0))
    finally:
        handle.remove()
    assert pressed_at
    assert stopped.value.event == "execution_interrupted"
    assert session.step("smile") == STOP, "the step that was stopped does not count"
    assert fingerprint(model.model) == before
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in blocks)
    assert model_management.in_training is False
    assert kept(pack, comfy).step == STOP
    restart(pack)
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == STEPS


def test_finish_now_goes_on_to_the_rest_of_the_graph(prompt: dict, run_graph, pack, monkeypatch) -> None:
    train, live = pack.part("nodes.running"), pack.part("nodes.live").Live
    after_step = live.after_step

    def press(self) -> None:
        after_step(self)
        if self.run.step == STOP:
            assert not train.finish("7"), "another node"
            assert train.finish(self.node)

    monkeypatch.setattr(live, "after_step", press)
    run = run_graph(prompt, slider=("6", 0), status=("6", 3))
    assert run["slider"].info.step == STOP
    assert "Finished early, as you asked" in run["status"]
    assert not train.finish("6"), "nothing trains any more"
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == STEPS


def test_another_choice_after_a_restart_is_an_error_that_names_it(prompt: dict, run_graph, pack) -> None:
    run_graph(prompt, slider=("6", 0))
    restart(pack)
    prompt["5"]["inputs"]["rank"] = 8
    with pytest.raises(run_graph.Error, match=r'"smile" belongs to a slider .* another adapter.*new name.*restart'):
        run_graph(prompt, slider=("6", 0))


def test_a_disk_that_is_full_is_said_and_costs_no_training(prompt: dict, run_graph, pack, comfy: Path, monkeypatch) -> None:
    store = pack.core("lora.safe_files")
    prompt["6"]["inputs"]["steps"] = STOP
    run_graph(prompt, slider=("6", 0))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    prompt["6"]["inputs"]["steps"] = STEPS
    run = run_graph(prompt, slider=("6", 0), status=("6", 3))
    assert run["slider"].info.step == STEPS
    assert "Not saved: " in run["status"]
    assert "No space left on device" in run["status"]
    assert kept(pack, comfy).step == STOP, "the older save is intact"


def test_two_tabs_on_one_name_train_one_slider_in_turn(prompt: dict, run_graph, comfy: Path, monkeypatch) -> None:
    """Two prompts in the queue of one server, of other users and with other node ids: what a second tab sends."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, "multi_user", True)
    straight = run_graph(prompt, slider=("6", 0))
    first = copy.deepcopy(prompt)
    first["6"]["inputs"] |= {"old_name": "restart", "steps_per_run": STOP}
    run_graph(first, slider=("6", 0))
    second = {name: node for name, node in prompt.items() if name != "6"} | {"60": prompt["6"]}
    parts = run_graph(second, slider=("60", 0), status=("60", 3))
    assert same(straight["slider"].weights, parts["slider"].weights)
    assert f"step {STEPS} of {STEPS}" in parts["status"]
    other = {**second, "61": {**prompt["6"], "inputs": prompt["6"]["inputs"] | {"resolution": 32}}}
    del other["60"]
    with pytest.raises(run_graph.Error, match="another resolution"):
        run_graph(other, slider=("61", 0))
    assert {path.name for path in (comfy / "user").iterdir()} <= {"slider_lora"}, "nothing in a user's own folder"


FINISH, TRAIN_ON = "finish", "train_on"


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        (FINISH, b'{"node": "99"}', 409),
        (FINISH, b"{}", 400),
        (FINISH, b"[]", 400),
        (FINISH, b"nonsense", 400),
        (TRAIN_ON, b"[]", 400),
        (TRAIN_ON, b'{"node": "99", "name": "smile"}', 400),
        (TRAIN_ON, b'{"node": "99", "name": "smile", "steps": -1}', 400),
        (TRAIN_ON, b'{"node": "99", "name": "smile", "steps": true}', 400),
        (TRAIN_ON, b'{"node": "99", "name": "smile", "steps": 1e99}', 400),
        (TRAIN_ON, b'{"node": "99", "name": "smile", "steps": 90}', 200),
    ],
)
def test_the_routes_refuse_what_they_do_not_understand(route: str, body: bytes, status: int, pack, server) -> None:
    """Through aiohttp itself, as the browser would ask."""
    import asyncio

    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    async def ask() -> int:
        app, routes = web.Application(), web.RouteTableDef()

        class Place:
            """Where the routes go."""

        Place.routes = routes
        pack.part("nodes.routes").add_routes(Place)
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            return (await client.post(f"/slider_lora/{route}", data=body)).status

    assert asyncio.run(ask()) == status
