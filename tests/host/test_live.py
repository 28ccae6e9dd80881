"""A training that is watched is the same training; what is shown is bounded, true, and there for a page that comes later."""

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graphs import demo_graph, sweep_nodes
from PIL import Image

STEPS, EVERY = 6, 2
TRAINING = ("1", "2", "5", "6")
PROMPTS = ("7", "8", "9")
EVENT, MESSAGE = "slider_lora.progress", "slider_lora.message"
LIBRARY = {  # two prompts: three entries of one, one of the other
    "plain": "a face",
    "other": "a blue face",
    "zero": {"prompt": "a face", "adapter_strength": 0},
    "minus": {"prompt": "a face", "adapter_strength": -1.5},
}


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "any_rate": True, "calibrate": False}
    graph["6"]["inputs"].pop("sampling", None)
    return {k: graph[k] for k in (*TRAINING, *PROMPTS)}


def watched(prompt: dict, **own: object) -> dict:
    """The graph with a live preview of few sampler steps."""
    inputs = {"positive": ["7", 0], "negative": ["8", 0], "latent_image": ["9", 0], "steps": 2}
    inputs |= {"cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "prompt": "", "picture_seed": 7}
    strip = {"strip_strengths": own.pop("strengths", "-1, 0, 1"), "strip_every": own.pop("every", EVERY)}
    train = {"class_type": "SliderTrainStep", "inputs": prompt["6"]["inputs"] | {"sampling": ["live", 0]} | strip}
    return prompt | {"live": {"class_type": "SliderSampling", "inputs": inputs | own}, "6": train}


def validated(prompt: dict, library: dict = LIBRARY, **own: object) -> dict:
    """The graph with a live preview of a prompt library."""
    inputs = {"library": json.dumps(library), "file": "none", "strength": 1.0, "seed": 0, "steps": 1, "cfg": 1.0}
    inputs |= {"sampler_name": "euler", "scheduler": "simple"}
    node = {"class_type": "SliderPromptLibrary", "inputs": inputs}
    return watched(prompt, prompts=["library", 0], clip=["1", 1], **own) | {"library": node}


@pytest.fixture
def strips(pack, monkeypatch) -> list[int]:
    """The steps at which a strip was drawn."""
    kind, drawn = pack.part("nodes.live_preview").Strips, []
    real = kind._file

    def file(self, slider, step: int) -> dict:
        drawn.append(step)
        return real(self, slider, step)

    monkeypatch.setattr(kind, "_file", file)
    return drawn


@pytest.mark.parametrize(
    ("adapter", "steps", "every", "pauses", "shown"),
    [
        ({"dropout": 0.3}, 21, 8, [8, 16, 21], watched),
        ({"algorithm": "dora"}, 4, 1, [1, 2, 3, 4], watched),
        ({"dropout": 0.3}, 4, 1, [1, 2, 3, 4], validated),
    ],
    ids=["lora past a reading", "dora after each step", "with a library"],
)
def test_a_watched_training_is_the_same_training_bit_for_bit(
    adapter: dict,
    steps: int,
    every: int,
    pauses: list[int],
    shown: Callable[..., dict],
    prompt: dict,
    run_graph,
    forget,
    pack,
    strips,
) -> None:
    session = pack.part("nodes.running").SESSION
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    base = {name: value.clone() for name, value in model.model.state_dict().items()}
    prompt["5"]["inputs"] |= adapter
    prompt["6"]["inputs"] |= {"steps": steps}
    curve = run_graph(prompt, curve=("6", 4))["curve"]
    assert curve.shape == (1, 800, 900, 3)
    assert 0 <= float(curve.min()) < 0.5 < float(curve.max()) <= 1
    alone = session.get("smile").trainer
    forget()
    run_graph(shown(prompt, every=every), slider=("6", 0))
    assert pack.part("nodes.live").states()[-1]["trouble"] == ""
    seen = session.get("smile").trainer
    assert strips == pauses
    assert seen.losses == alone.losses
    assert seen.readings == alone.readings
    assert all(torch.equal(one, other) for one, other in zip(alone.adapter.parameters(), seen.adapter.parameters(), strict=True))
    assert all(torch.equal(value, base[name]) for name, value in model.model.state_dict().items()), "and the model is as it was"
    moments = [t.optimizer.state_dict()["state"] for t in (alone, seen)]
    assert all(torch.equal(moments[0][n]["exp_avg_sq"], moments[1][n]["exp_avg_sq"]) for n in moments[0])


def test_the_last_strip_is_what_the_sweep_draws(prompt: dict, run_graph, pack, comfy: Path, monkeypatch) -> None:
    """Calibrated, as the sweep has it; the pictures on the strip are compared before they become a JPEG."""
    kind, drawn = pack.part("nodes.live_preview").LivePreview, []
    real = kind.images

    def images(self, *args: object) -> torch.Tensor:
        drawn.append(real(self, *args))
        return drawn[-1]

    monkeypatch.setattr(kind, "images", images)
    measured = pack.core("train.calibration")
    side = measured.Side(2.0, 3.0, ((1.0, 0.1), (2.0, 0.2)))
    calibration = measured.Calibration(side, side, 0), pack.core("train.drawn").Drawn(1.0, 1.0, 1.0)
    monkeypatch.setattr(pack.core("train.training_run"), "measure", lambda *_: calibration)
    prompt["6"]["inputs"] |= {"calibrate": True, "learning_rate": 0.02}
    graph = watched(prompt, every=0)
    sweep = {"sampling": ["live", 0], "strengths": "-1, 0, 1", "rows": 1, "model": ["1", 0], "vae": ["1", 2]}
    graph["10"] = {"class_type": "SliderStrengthSweep", "inputs": sweep | {"slider": ["6", 0]}}
    images = run_graph(graph, images=("10", 1))["images"]
    assert len(drawn) == 1, "every 0 draws at the end alone"
    assert torch.equal(drawn[0].movedim(1, -1), images)
    assert not torch.equal(images[0], images[1]), "something is to be seen"
    strip = pack.part("nodes.live").states()[-1]["strip"]
    assert strip | {"step": STEPS} == strip
    picture = np.asarray(Image.open(comfy / "temp" / strip["filename"]).convert("RGB"))
    assert picture.shape[1] > 3 * 192
    assert picture.std() > 20
    parts = (comfy / "temp").glob(f"{Path(strip['filename']).stem}*")
    assert [p.name for p in parts] == [strip["filename"]], "one file, and no part of one"


def asked(pack) -> dict:
    """What a page that comes later is told, through aiohttp itself."""
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    async def ask() -> dict:
        app, routes = web.Application(), web.RouteTableDef()
        pack.part("nodes.routes").add_routes(type("Place", (), {"routes": routes}))
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            return await (await client.get("/slider_lora/progress")).json()

    return asyncio.run(ask())


def test_events_are_bounded_and_the_last_one_says_how_it_ended(prompt: dict, run_graph, pack, monkeypatch) -> None:
    live = pack.part("nodes.live")
    run = run_graph(watched(prompt), status=("6", 3))
    found = run.events(EVENT)
    assert asked(pack) == {"nodes": live.states(), "preparing": []}
    assert found[-1] == live.states()[-1]
    last = found[-1]
    assert (last["node"], last["name"], last["phase"], last["step"], last["until"]) == ("6", "smile", "done", STEPS, STEPS)
    assert last["verdict"] in run["status"]
    assert last["run"] > 1e9, "counted from the clock: no number comes again after a restart"
    assert [point[0] for point in last["explained"]] == [STEPS]
    assert (last["strip"]["step"], last["trouble"]) == (STEPS, "")
    monkeypatch.setattr(live.time, "monotonic", lambda: 0.0)
    prompt["6"]["inputs"]["old_name"] = "restart"
    phases = [event["phase"] for event in run_graph(watched(prompt), slider=("6", 0)).events(EVENT)]
    assert (phases[0], {*phases[1:-1]}, phases[-1]) == ("training", {"drawing"}, "done"), "time stands still: only what is new"


def test_many_readings_are_few_points_and_none_that_json_lacks(pack) -> None:
    live, reading = pack.part("nodes.live"), pack.core("train.progress").Reading
    readings = [reading(step, 0.1, -math.inf if step == 3000 else 0.2) for step in range(1, 3001)]
    points = live.thinned(readings)
    assert len(points) == live.POINTS
    assert points[0][0] == 1
    assert points[-1] == [3000, 0.1, None]
    assert len({point[0] for point in points}) == live.POINTS
    assert live.thinned(readings[:1]) == [[1, 0.1, 0.2]]
    assert live.thinned([]) == []


def test_before_the_first_reading_it_is_said_when_that_comes(pack) -> None:
    live = pack.part("nodes.live")
    assert "step 30," in live.no_reading(0, 1500)
    assert "step 60," in live.no_reading(30, 1500)
    assert "step 10," in live.no_reading(0, 10)


def test_the_verdict_of_old_steps_stands_beside_no_new_one(prompt: dict, run_graph, pack, monkeypatch) -> None:
    live = pack.part("nodes.live")
    monkeypatch.setattr(live, "PAUSE_S", 0.0)
    first = run_graph(watched(prompt, every=0), status=("6", 3)).events(EVENT)[-1]
    pack.part("nodes.running").train_on("6", "smile", 3)
    events = run_graph(watched(prompt, every=0), status=("6", 3)).events(EVENT)
    between = {event["verdict"] for event in events if STEPS <= event["step"] < STEPS + 3 and event["phase"] == "training"}
    assert between == {live.going_on(STEPS, STEPS + 3)}
    assert f"step {STEPS + 3}" in between.pop()
    assert first["verdict"] not in {event["verdict"] for event in events}
    assert events[-1]["phase"] == "done"


def test_an_early_reading_is_said_to_be_settling_unless_it_is_burnt(pack) -> None:
    live, reading = pack.part("nodes.live"), pack.core("train.progress").Reading
    evidence = pack.core("train.progress_verdict").Evidence

    def told(step: int, share: float, reach: float, now: int = 0) -> str:
        trainer = SimpleNamespace(
            step=now or step,
            evidence=lambda: evidence([reading(step, share, share, reach=reach, strength=1.0)]),
            explained_verdict=lambda _: "a verdict",
        )
        return live.verdict_so_far(trainer)

    assert told(live.EVERY, 0.6, 0.6).startswith("Still settling")
    assert "60 %" in told(live.EVERY, 0.6, 0.6)
    assert told(live.EVERY, 0.6, 0.6, now=live.LEAST_STEPS - 1).startswith("Still settling: readings rise and fall up to")
    for now in (live.LEAST_STEPS, live.LEAST_STEPS + 20):
        later = told(live.EVERY, 0.6, 0.6, now=now)
        assert f"step {live.LEAST_STEPS}" not in later
        assert f"step {live.EVERY}," in later
        assert "60 %" in later
    assert told(live.EVERY, -3.0, 0.0) == "a verdict", "burnt"
    assert told(live.LEAST_STEPS, 0.6, 0.6) == "a verdict"


def test_the_sentence_about_settling_goes_at_its_step_without_a_new_reading(pack, server) -> None:
    """While the rate falls a training reads half as often: from 90 to 150 nothing new would take it away."""
    live = pack.part("nodes.live")
    reading, evidence = pack.core("train.progress").Reading, pack.core("train.progress_verdict").Evidence
    readings = [reading(step, 0.3, 0.3, strength=1.0, reach=0.3) for step in (30, 60, 90)]
    trainer = SimpleNamespace(
        spec=SimpleNamespace(steps=0), end=150, readings=[], step=0, explained_verdict=lambda _: "a verdict"
    )
    trainer.evidence = lambda: evidence(trainer.readings)
    run = SimpleNamespace(trainer=trainer, step=0, name="settling", open_ended=True)
    shown = live.Live(run, 1500, pack.part("nodes.live_preview").Strips(None, None), live.Place("6"))
    trainer.readings = readings
    said = {}
    for step in (91, 119, 120, 121, 147):
        run.step = trainer.step = step
        shown.after_step()
        said[step] = shown.state()["verdict"]
    assert said[91] == said[119]
    assert "step 120" in said[91]
    assert said[120] == said[121] == said[147]
    assert "step 120" not in said[120]
    assert server is not None


def test_what_is_said_of_an_early_stop_agrees_with_the_step_that_it_came_at(pack, server) -> None:
    """At step 6 something was learned and nothing was read; at step 0 neither."""
    live, verdicts = pack.part("nodes.live"), pack.core("train.progress_verdict")
    evidence = verdicts.Evidence([])
    said = {}
    for step in (0, 6):
        trainer = SimpleNamespace(spec=SimpleNamespace(steps=0), end=1500, readings=[], step=step)
        run = SimpleNamespace(trainer=trainer, step=step, read_at=step, name="early", open_ended=True, evidence=lambda: evidence)
        run.verdict = lambda: verdicts.explain(verdicts.judge(evidence), evidence)
        place, strips = live.Place("6"), pack.part("nodes.live_preview").Strips(None, None)
        with pytest.raises(live.InterruptProcessingException), live.showing(run, 1500, strips, place):
            raise live.InterruptProcessingException
        said[step] = live.states()[-1]["verdict"]
    assert "is kept" in said[6]
    assert "No reading yet" in said[6]
    assert "is kept" not in said[0]
    assert not any("Not trained" in verdict for verdict in said.values())
    assert server is not None


def test_curve_and_text_are_of_the_same_reading(prompt: dict, run_graph, pack, monkeypatch) -> None:
    """However it ends: finished by hand before the first reading, calibrated or not, gone on with, at its end."""
    live, train = pack.part("nodes.live"), pack.part("nodes.train")
    place, observer = train.executing_node, train.NodeObserver

    class FinishesAt2(observer):
        def after_step(self, report: object) -> None:
            super().after_step(report)
            if report.step == 2:
                pack.part("nodes.running").finish(place())

    def ended(until: int, **choices: object) -> dict:
        prompt["6"]["inputs"] |= {"steps": until, **choices}
        last = run_graph(watched(prompt, every=0), status=("6", 3)).events(EVENT)[-1]
        readings = pack.part("nodes.running").SESSION.get("smile").trainer.readings
        assert last["phase"] == "done"
        assert last["explained"] == live.thinned(readings)
        assert last["explained"][-1][0] == last["step"] == readings[-1].step
        plus, minus = last["latest"]
        assert f"(plus {plus}, minus {minus})" in readings[-1].summary(pack.core("train.displacement").Wanted.PAIRS)
        return last

    monkeypatch.setattr(train, "NodeObserver", FinishesAt2)
    for calibrate in (False, True):
        last = ended(STEPS, calibrate=calibrate, old_name="restart")
        assert last["step"] == 2, "finished by hand"
    monkeypatch.setattr(train, "NodeObserver", observer)
    assert ended(STEPS, old_name="continue")["step"] == STEPS
    assert ended(STEPS + 1, calibrate=False)["step"] == STEPS + 1


def test_messages_and_states_name_the_workflow_that_was_queued(pack, server, prompt, run_graph, monkeypatch) -> None:
    """Two workflows share the ids of their nodes; a run that came without a workflow names none."""
    queued: list[tuple] = []
    monkeypatch.setattr(server, "prompt_queue", SimpleNamespace(get_current_queue_volatile=lambda: (queued, [])), raising=False)
    named = {}
    for steps, graph in ((STEPS, "w"), (STEPS + 1, "")):
        extra = {"extra_pnginfo": {"workflow": {"id": graph}}} if graph else {}
        queued[:] = [(1, "another", {}, {"extra_pnginfo": {"workflow": {"id": "v"}}}, []), (2, "test-prompt", {}, extra, [], {})]
        prompt["6"]["inputs"]["steps"] = steps
        run = run_graph(prompt, status=("6", 3))
        named[graph] = {(event, sent["graph"]) for event in (EVENT, MESSAGE) for sent in run.events(event)}
    assert named == {"w": {(EVENT, "w"), (MESSAGE, "w")}, "": {(EVENT, "")}}, "the second encodes nothing and has nothing to say"


def test_a_page_that_comes_during_the_preparation_hears_what_was_said(pack, server, prompt, run_graph, monkeypatch) -> None:
    """Until the first state of the training, which says more; and nothing of a preparation that failed."""
    train, live = pack.part("nodes.train"), pack.part("nodes.live")
    begin, send, told = train.begin_on_model, live.Live.send, {}

    def heard() -> list[dict]:
        with ThreadPoolExecutor(1) as server_thread:
            return server_thread.submit(asked, pack).result()["preparing"]

    def begin_and_ask(*args: object) -> object:
        run = begin(*args)
        told["prepared"] = heard()
        return run

    def send_and_ask(self, at_once: bool = False) -> None:
        send(self, at_once)
        told.setdefault("training", heard())

    monkeypatch.setattr(train, "begin_on_model", begin_and_ask)
    monkeypatch.setattr(live.Live, "send", send_and_ask)
    said = run_graph(prompt, status=("6", 3)).events(MESSAGE)
    assert told == {"prepared": said[-1:], "training": []}
    assert said[-1]["node"] == "6"

    def broken(*args: object) -> None:
        begin(*args)
        raise ValueError("no rate is found")

    monkeypatch.setattr(train, "begin_on_model", broken)
    prompt["6"]["inputs"]["old_name"] = "restart"
    with pytest.raises(run_graph.Error, match="no rate is found"):
        run_graph(prompt, status=("6", 3))
    assert heard() == []


def test_the_time_left_counts_strips_apart_from_steps(pack) -> None:
    live, node = pack.part("nodes.live"), pack.part("nodes.live_preview")
    strips = node.Strips(node.LivePreview(None, (), 10), None)
    assert live.seconds_left(10, 0, 30, 20.0, strips) == 40.0
    strips.drawn, strips.seconds = 1, 6.0
    assert [strips.left(step, 30) for step in (9, 10, 11, 20, 21, 29)] == [3, 3, 2, 2, 1, 1]
    assert live.seconds_left(11, 1, 30, 20.0, strips) == 19 * 2.0 + 2 * 6.0
    assert live.seconds_left(20, 10, 20, 20.0, node.Strips(None, None)) == 0.0
    assert live.seconds_left(1, 1, 30, 0.0, strips) is None, "no step has ended since"


def test_what_is_said_of_a_stopped_training_names_the_reading_that_it_is_of(pack) -> None:
    live = pack.part("nodes.live")

    def said(read: int, measured: bool = False) -> str:
        said = dict.fromkeys(("verdict", "verdict_read"), lambda: "Works.")
        run = SimpleNamespace(step=171, read_at=read, measured_before=measured, **said)
        return live.stopped(run)

    assert "alone, without pictures, of step 150. Works." in said(150)
    assert "measured at step 150. Works." in said(150, measured=True)
    assert said(171).endswith("run again to go on. Works.")


def test_a_training_that_goes_on_from_a_measured_end_and_is_stopped_keeps_that_verdict(
    prompt: dict, run_graph, pack, monkeypatch
) -> None:
    live, train = pack.part("nodes.live"), pack.part("nodes.train")
    place, observer = train.executing_node, train.NodeObserver

    class Finishes(observer):
        def after_step(self, report: object) -> None:
            super().after_step(report)
            if report.step == 2:
                pack.part("nodes.running").finish(place())

    class Stops(observer):
        def after_step(self, report: object) -> None:
            super().after_step(report)
            raise live.InterruptProcessingException

    prompt["6"]["inputs"] |= {"steps": STEPS, "calibrate": True, "old_name": "restart"}
    monkeypatch.setattr(train, "NodeObserver", Finishes)
    measured = run_graph(watched(prompt, every=0), status=("6", 3)).events(EVENT)[-1]["verdict"].splitlines()[0]
    run = pack.part("nodes.running").SESSION.get("smile")
    assert run.verdict() in measured
    measured = run.verdict()
    prompt["6"]["inputs"] |= {"old_name": "continue"}
    monkeypatch.setattr(train, "NodeObserver", Stops)
    with pytest.raises(run_graph.Error):
        run_graph(watched(prompt, every=0), status=("6", 3))
    said = live.states()[-1]
    assert (said["phase"], said["step"]) == ("stopped", 3)
    assert "measured at step 2." in said["verdict"]
    assert said["verdict"].endswith(measured)
    assert "without pictures" not in said["verdict"]


def test_the_bar_counts_to_the_end_once_that_is_known_and_before_to_the_earliest(pack, server, monkeypatch) -> None:
    """A training that is left open: at most 1500 steps, ready at a reading, over at 150."""
    live, running = pack.part("nodes.live"), pack.part("nodes.running")
    monkeypatch.setattr(live, "verdict_so_far", lambda _trainer: "")
    reading = pack.core("train.progress").Reading
    trainer = SimpleNamespace(spec=SimpleNamespace(steps=0), end=1500, readings=[])
    run = SimpleNamespace(trainer=trainer, step=0, name="bar", open_ended=True)
    shown = live.Live(run, 1500, pack.part("nodes.live_preview").Strips(None, None), live.Place("6"))
    observer = running.NodeObserver(1500, shown)
    assert observer.bar.total == 150

    def after(step: int) -> tuple[int, int]:
        run.step = step
        observer.after_step(None)
        return observer.bar.current, observer.bar.total

    assert after(89) == (89, 150)
    trainer.readings.append(reading(90, 0.1, 0.1))
    assert after(90) == (90, 180), "not ready yet"
    trainer.readings.append(reading(120, 0.1, 0.1))
    trainer.end, run.open_ended = 180, False
    assert after(120) == (120, 180)
    assert after(180) == (180, 180)
    sent = [data for event, data in server.sent if event == "progress"][-1]
    assert (sent["value"], sent["max"]) == (180, 180)


def test_the_bar_of_a_run_of_few_steps_is_that_run_s(pack) -> None:
    live = pack.part("nodes.live")
    trainer = SimpleNamespace(spec=SimpleNamespace(steps=0), end=1500, readings=[])
    run = SimpleNamespace(trainer=trainer, step=40, name="bar", open_ended=True, verdict=lambda: "")
    shown = live.Live(run, 60, pack.part("nodes.live_preview").Strips(None, None), live.Place("6"))
    run.step = 45
    assert shown.bar() == (5, 20)


def test_a_preview_that_fails_costs_no_training(prompt: dict, run_graph, pack, strips, monkeypatch) -> None:
    def broken(*_args: object, **_choices: object) -> None:
        raise ValueError("the sampler has no such noise\nand more")

    monkeypatch.setattr(pack.core("with_comfy.sweep"), "sample_latents", broken)
    run = run_graph(watched(prompt), slider=("6", 0), status=("6", 3))
    assert run["slider"].info.step == STEPS
    assert strips == [EVERY], "it is not tried again"
    assert "No live strip: the sampler has no such noise" in run["status"]
    last = run.events(EVENT)[-1]
    assert (last["phase"], last["strip"]) == ("done", None)
    assert last["trouble"] == "No live strip: the sampler has no such noise"


def test_stop_is_heard_while_a_strip_is_drawn(prompt: dict, run_graph, pack, server, monkeypatch) -> None:
    from comfy import model_management

    drawing = pack.core("with_comfy.sweep")
    real, live = drawing.sample_latents, pack.part("nodes.live")

    def press(*args: object, **choices: object) -> torch.Tensor:
        model_management.interrupt_current_processing()
        return real(*args, **choices)

    monkeypatch.setattr(drawing, "sample_latents", press)
    with pytest.raises(run_graph.Error) as stopped:
        run_graph(watched(prompt), slider=("6", 0))
    assert stopped.value.event == "execution_interrupted"
    assert pack.part("nodes.running").SESSION.step("smile") == EVERY
    assert not pack.part("nodes.running").TRAINING
    assert (live.states()[-1]["phase"], live.states()[-1]["step"]) == ("stopped", EVERY)
    assert [data["phase"] for event, data in server.sent if event == EVENT][-1] == "stopped"
    monkeypatch.setattr(drawing, "sample_latents", real)
    assert run_graph(watched(prompt), slider=("6", 0))["slider"].info.step == STEPS, "it goes on"


def test_finish_now_is_heard_while_a_strip_is_drawn(prompt: dict, run_graph, pack, monkeypatch) -> None:
    drawing, running = pack.core("with_comfy.sweep"), pack.part("nodes.running")
    real = drawing.sample_latents

    def press(*args: object, **choices: object) -> torch.Tensor:
        running.finish("6")
        return real(*args, **choices)

    monkeypatch.setattr(drawing, "sample_latents", press)
    run = run_graph(watched(prompt), slider=("6", 0), status=("6", 3))
    assert run["slider"].info.step == EVERY
    assert "Finished early, as you asked" in run["status"]


def test_an_error_of_the_training_is_shown(prompt: dict, run_graph, pack, monkeypatch) -> None:
    def broken(*_args: object, **_choices: object) -> None:
        raise pack.core("config.checks").SliderError("the loss went away")

    monkeypatch.setattr(pack.core("train.step_backward"), "step_target", broken)
    with pytest.raises(run_graph.Error, match="the loss went away"):
        run_graph(watched(prompt), slider=("6", 0))
    assert (
        pack.part("nodes.live").states()[-1] | {"phase": "failed", "verdict": "the loss went away"}
        == (pack.part("nodes.live").states()[-1])
    )


def test_only_so_many_states_are_kept(pack, monkeypatch) -> None:
    live = pack.part("nodes.live")
    monkeypatch.setattr(live, "STATES", type(live.STATES)())
    for number in range(live.STATES_KEPT + 3):
        mine = live.Live.__new__(live.Live)
        mine.node, mine._sent, mine.state = str(number), 0.0, dict
        mine.run = SimpleNamespace(name="smile")
        mine.send()
    assert len(live.STATES) == live.STATES_KEPT
    assert ("0", "smile") not in live.STATES


@pytest.mark.parametrize(("strengths", "message"), [("-1, x", "is not a number"), ("", "No strengths")])
def test_a_preview_refuses_strengths_before_anything_is_trained(strengths: str, message: str, prompt: dict, run_graph) -> None:
    with pytest.raises(run_graph.Error, match=message):
        run_graph(watched(prompt, strengths=strengths), slider=("6", 0))


@pytest.fixture
def drawn(pack, monkeypatch) -> list[list[torch.Tensor]]:
    """The pictures of every library that was drawn, by entry."""
    kind, seen = pack.part("nodes.live_preview").LivePreview, []
    real = kind.entry_images

    def draw(self, *args: object) -> list[torch.Tensor]:
        seen.append(real(self, *args))
        return seen[-1]

    monkeypatch.setattr(kind, "entry_images", draw)
    return seen


def test_a_library_is_drawn_as_the_library_node_and_the_sweep_draw_it(prompt: dict, run_graph, pack, comfy, drawn) -> None:
    """Every entry at its own strength or at all of the strip's, at the strip's seed, to the last bit: the calls are the same."""
    prompt["6"]["inputs"] |= {"learning_rate": 0.02}
    graph = validated(prompt, strengths="-1, 0, 1")
    same = {k: graph["live"]["inputs"][k] for k in ("steps", "cfg", "sampler_name", "scheduler", "latent_image", "negative")}
    same |= {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "slider": ["6", 0], "seed": 7}
    expected = {f"plain {s:g}": {"prompt": "a face", "adapter_strength": s} for s in (-1.0, 0.0, 1.0)}
    expected |= {k: v for k, v in LIBRARY.items() if not isinstance(v, str)}
    flat = graph["library"]["inputs"] | same | {"library": json.dumps(expected)}
    graph["20"] = {"class_type": "SliderPromptLibrary", "inputs": flat}
    sweep = {k: v for k, v in same.items() if k != "clip"} | {"positive": ["blue", 0], "strengths": "-1, 0, 1", "rows": 1}
    graph |= sweep_nodes(sweep, "21")
    graph["blue"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a blue face"}}
    run = run_graph(graph, images=("20", 2), blue=("21", 1))
    plain, other, zero, minus = drawn[-1]
    assert [len(images) for images in drawn[-1]] == [3, 3, 1, 1]
    assert torch.equal(torch.cat([plain, zero, minus]).movedim(1, -1), run["images"])
    assert torch.equal(other.movedim(1, -1), run["blue"])
    assert torch.equal(zero[0], plain[1]), "0 is the model without the slider"
    assert not torch.equal(minus[0], plain[0])
    assert len(drawn) == STEPS // EVERY, "every so many steps, and at the end"
    assert not torch.equal(drawn[0][3], drawn[-1][3]), "and it shows what was learned since"
    strip = pack.part("nodes.live").states()[-1]["strip"]
    assert Image.open(comfy / "temp" / strip["filename"]).width <= 1280


def test_prompts_are_encoded_once_before_the_training(prompt: dict, run_graph, pack, monkeypatch, drawn) -> None:
    node, texts = pack.core("with_comfy.sampling_request"), []
    real = node.encoded

    def encoded(clip: object, text: str) -> object:
        texts.append(text)
        return real(clip, text)

    monkeypatch.setattr(node, "encoded", encoded)
    run_graph(validated(prompt), slider=("6", 0))
    assert texts == ["a face", "a blue face"]
    assert len(drawn) == 3


def test_a_library_that_fails_names_its_entry_and_costs_no_training(prompt: dict, run_graph, pack, strips, monkeypatch) -> None:
    """Out of memory in the second prompt, for one picture alone too."""
    drawing = pack.core("with_comfy.sampling").comfy.sample
    real, calls = drawing.sample, []

    def full(*args: object, **choices: object) -> torch.Tensor:
        calls.append(len(args[1]))
        if len(calls) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nand more")
        return real(*args, **choices)

    monkeypatch.setattr(drawing, "sample", full)
    run = run_graph(validated(prompt), slider=("6", 0), status=("6", 3))
    assert calls == [5, 3, 1], "the rows of one prompt, then those of the other, halved"
    assert run["slider"].info.step == STEPS
    assert strips == [EVERY], "it is not tried again"
    assert 'No live strip: entry "other": CUDA out of memory.' in run["status"]


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ({"a": 3}, 'entry "a" must be a text'),
        ({str(n): "x" for n in range(100)}, "100 entries at 3 strengths and 0 at their own are 300 pictures; 256 at most"),
    ],
)
def test_a_library_is_refused_before_anything_is_trained(library: dict, message: str, prompt: dict, run_graph, pack) -> None:
    graph = validated(prompt, library)
    with pytest.raises(run_graph.Error, match=message):
        run_graph(graph, slider=("6", 0))
    assert pack.part("nodes.running").SESSION.step("smile") == 0


def test_a_prompt_that_cannot_be_encoded_is_named(prompt: dict, run_graph, pack, monkeypatch) -> None:
    node = pack.core("with_comfy.sampling_request")
    real = node.encoded

    def encoded(clip: object, text: str) -> object:
        if text == "a blue face":
            raise ValueError("no such token")
        return real(clip, text)

    monkeypatch.setattr(node, "encoded", encoded)
    with pytest.raises(run_graph.Error, match='entry "other" cannot be encoded: no such token'):
        run_graph(validated(prompt), slider=("6", 0))


def test_images_that_are_enlarged_are_spoken_of_while_it_trains_and_in_the_status(prompt: dict, run_graph, pack, server) -> None:
    for resolution, times in ((0, ""), (128, "2.0 times")):
        prompt["6"]["inputs"] |= {"resolution": resolution, "name": f"at_{resolution}", "steps": 1}
        status = run_graph(prompt, status=("6", 3))["status"]
        said = [state["trouble"] for event, state in server.sent if event == EVENT and state["name"] == f"at_{resolution}"]
        assert times in said[0]
        assert (said[0] == "") == (times == "")
        assert said[0] in status
        assert pack.part("nodes.live").states()[-1]["trouble"] == "", "the status says it then"


def test_a_slider_that_has_stopped_learning_and_shows_little_is_not_offered_more_steps(pack) -> None:
    live, reading = pack.part("nodes.live"), pack.core("train.progress").Reading
    evidence, drawn = pack.core("train.progress_verdict").Evidence, pack.core("train.drawn").Drawn

    def offered(
        share_before: float, shows: float, end: int = 270, moved: float = 0.1, odd: str = "", alike: str = ""
    ) -> int | None:
        shares = ((90, share_before), (270, 0.1))
        readings = [reading(step, share, share, shifted=moved, reach=share, strength=1.0) for step, share in shares]
        judged = evidence(readings, drawn=drawn(shows, shows, 1.0), contradiction=odd, alike=alike)
        trainer = SimpleNamespace(end=end, readings=readings)
        return live.more_steps(SimpleNamespace(step=270, evidence=lambda: judged, trainer=trainer))

    assert offered(0.1, shows=0.14) is None
    assert offered(0.05, shows=0.14) > 0, "it still learns"
    assert offered(0.05, shows=0.14, odd="03.png looks the wrong way round") is None, "what its pairs contradict"
    none = pack.core("data.pair_diagnosis").NONE_DIFFERS
    assert offered(0.05, shows=0.14, alike=none) is None, "no step helps"
    assert offered(0.05, shows=0.14, alike="nothing differs in 03.png") > 0, "the other pairs may"
    assert offered(0.05, shows=0.14, moved=0.0) is None, "it overfits"
    assert offered(0.05, shows=0.14, moved=0.0, end=300) is None
    assert offered(0.1, shows=0.4) > 0, "it works"
    assert offered(0.1, shows=0.14, end=300) == 0, "to its end"
