"""In a real ComfyUI words train a slider where a dataset would: on eps, flow and guidance-distilled models."""

import pytest
import torch
from graphs import demo_graph
from zoo.animals import tiny
from zoo.model import build_tiny, conditioning

EPS, FLOW, DISTILLED = "SD15", "Lumina2", "Flux"
STEPS = 3
FACE = "a face with tan skin on a blue background"
TEXT = {"target": FACE, "positive": f"{FACE}, open eyes", "negative": f"{FACE}, closed eyes", "hold": "large, small"}


def words_backend(pack, name: str):
    """A tiny model of that class with encoders that are stand-ins: a prompt is noise of its own seed."""
    entry = tiny(name)
    core = pack.core("with_comfy.model_backend")

    class Told(core.ComfyBackend):
        def encode_prompt(self, text: str):
            return pack.core("backend").Conditioning(text, conditioning(entry, sum(map(ord, text))))

        def encode_images(self, _images: torch.Tensor) -> torch.Tensor:
            return torch.zeros(1, *entry.latent)

        def encoder_fingerprints(self) -> tuple[str, str]:
            return "nothing", "noise"

    return Told(build_tiny(entry), None, None)


@pytest.mark.parametrize("name", [EPS, FLOW, DISTILLED])
def test_words_train_on_every_kind_of_model_and_leave_it_alone(name: str, pack) -> None:
    core, backend = pack.core, words_backend(pack, name)
    before = {k: (v.clone(), v.data_ptr()) for k, v in backend.module.state_dict().items()}
    spec = core("data.bucket_spec").TextSliderSpec("a person", "happy", "sad", ("old", "young"), count=2, steps=2)
    with torch.inference_mode():  # as a graph runs
        samples = core("encode.text_latents").encode_all(core("data.dataset").add_text_slider(spec), backend)
    assert len(samples) == 4
    assert all(bool(s.latent.isfinite().all()) and float(s.latent.std()) > 0 for s in samples)
    chosen = core("layers.select").survey(backend.module).targets
    adapter = core("lora.slider_adapter").Adapter.create(
        backend.module, chosen, core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    )
    trainer = core("train.trainer").Trainer(adapter, samples, core("config.training").TrainSpec(steps=STEPS, lr=1e-3, warmup=0))
    trainer.run(backend, STEPS)
    assert all(loss > 0 for loss in trainer.losses)
    assert min(trainer.readings[-1].explained) > 0, "both ends are nearer to the prompts' targets"
    if name == FLOW:
        assert core("train.calibration_search").calibrate(backend, adapter, samples).shown == "the prompts"
    after = backend.module.state_dict()
    assert all(torch.equal(after[k], value) and after[k].data_ptr() == place for k, (value, place) in before.items())


@pytest.fixture
def prompt() -> dict:
    graph = demo_graph()
    graph = {k: graph[k] for k in ("1", "5", "6")}
    graph["2"] = {"class_type": "SliderTextPair", "inputs": TEXT | {"latents": "own", "latents.count": 2, "latents.steps": 2}}
    graph["6"]["inputs"] |= {"steps": 2 * STEPS, "steps_per_run": STEPS, "name": "eyes", "any_rate": True, "calibrate": False}
    return graph


def test_a_text_pair_goes_where_a_dataset_would_and_the_run_survives_a_restart(prompt: dict, run_graph, pack) -> None:
    first = run_graph(prompt, slider=("6", 0), status=("6", 3), report=("2", 1), model=("1", 0))
    assert f"step {STEPS} of {2 * STEPS}" in first["status"]
    assert "hold large, small" in first["report"]
    assert "making latent 2 of 2" in first.texts
    assert first["slider"].info.prompts in first["report"]
    straight = run_graph(prompt, slider=("6", 0))["slider"].weights
    session = pack.part("nodes.running").SESSION
    assert session.step("eyes") == 2 * STEPS
    pack.part("nodes.running").SESSION.drop("eyes")
    resumed = run_graph(prompt | {"6": {**prompt["6"], "inputs": prompt["6"]["inputs"] | {"steps": 2}}}, slider=("6", 0))
    assert session.step("eyes") == 2 * STEPS, "taken up from the disk"
    told = pack.core("lora.formats.native").to_native
    assert all(torch.equal(value, told(resumed["slider"].weights)[key]) for key, value in told(straight).items())
    prompt["2"]["inputs"]["guidance"] = 2.0
    with pytest.raises(run_graph.Error, match="with another prompts"):
        run_graph(prompt, slider=("6", 0))


def test_latents_of_images_need_images(prompt: dict, run_graph) -> None:
    prompt["2"]["inputs"]["latents"] = "images"
    with pytest.raises(run_graph.Error, match="latents to own"):
        run_graph(prompt, slider=("6", 0))


def test_words_stay_beside_images_through_a_bucket(run_graph, pack) -> None:
    pair = {"class_type": "SliderTextPair", "inputs": TEXT}
    image = run_graph.give(torch.rand(1, 64, 64, 3))
    inputs = {"images": ["image", 0], "strength": 1.0, "captions": "", "dataset": ["pair", 0]}
    graph = {"pair": pair, "image": image, "bucket": {"class_type": "SliderBucket", "inputs": inputs}}
    whole = run_graph(graph, dataset=("bucket", 0))["dataset"]
    assert (len(whole.text_sliders), len(whole.buckets)) == (1, 1)
