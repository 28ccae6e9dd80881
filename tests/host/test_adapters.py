"""Every algorithm through ComfyUI's executor: trained, swept in one call, saved by the node, read back, trained on.

Oracles: ComfyUI's own loader and sampler on the saved file, and the pack's sweep against separate runs.
"""

import json
from pathlib import Path

import pytest
import torch
from graphs import demo_graph, sweep_inputs, sweep_nodes
from products import FULL, in_turn

ALGORITHMS = ("lora", "rslora", "dora", "locon", "loha", "lokr", "full", "glora")
SWEPT = ALGORITHMS if FULL else ("lora", "dora", "lokr", "glora")  # the others' files meet the stock loader in test_files.py
STEPS, TOLERANCE = 4, 1e-4
GUIDE = {  # the example of SimpleTuner's slider guide
    "algo": "lokr",
    "multiplier": 1.0,
    "linear_dim": 4,
    "linear_alpha": 1,
    "apply_preset": {"target_module": ["attn1.to_q", "attn1.to_k", "conv_in", "time_embedding.linear_1"]},
}


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    """The quickstart in API form, short: model 1, dataset 2, targets 5, training 6, sweep 10, save 19."""
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "learning_rate": 0.01, "any_rate": True, "calibrate": False}
    graph[save_key(graph)]["inputs"]["force"] = True
    graph["10"]["inputs"] |= {"rows": 1, "strengths": "-1, 0, 2.5"}
    graph["20"]["inputs"] |= {"steps": 2}
    graph["12"]["inputs"]["steps"] = 2
    return graph


def with_stock(prompt: dict, name: str, strength: float) -> dict:
    loader = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": name, "strength_model": strength}}
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")} | {"11": loader}
    sweep = sweep_inputs(prompt)
    graph["12"]["inputs"] |= {k: sweep[k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    return graph


def save_key(prompt: dict) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == "SaveSliderLoRA")


def trained(prompt: dict) -> dict:
    return {k: prompt[k] for k in ("1", "2", "5", "6")}


@pytest.mark.parametrize("algorithm", SWEPT)
def test_trained_swept_in_one_call_and_saved(algorithm: str, prompt: dict, run_graph, comfy: Path, pack) -> None:
    """The strip of one batch, a strength per row, shows what the stock loader shows run by run with the saved file."""
    prompt["5"]["inputs"]["algorithm"] = algorithm
    save = save_key(prompt)
    prompt["10"]["inputs"]["units"] = "raw"  # as the stock loader counts
    graph = {k: prompt[k] for k in ("1", "2", "5", "6", "7", "8", "9", "10", "20", save)}
    run = run_graph(graph, slider=("6", 0), images=("10", 1), name=(save, 0), report=(save, 1))
    assert all(bool(t.isfinite().all()) for w in run["slider"].weights.values() for t in w.tensors.values())
    assert "ComfyUI's own LoRA loader gives the same: 20 layers" in run["report"]
    assert "and the model's answer by" in run["report"]
    base = None
    for column, strength in enumerate((-1.0, 0.0, 2.5)):
        stock = run_graph(with_stock(prompt, run["name"], strength), image=("13", 0))["image"][0]
        assert (run["images"][column] - stock).abs().max() < TOLERANCE, strength
        base = stock if strength == 0 else base
    assert (stock - base).abs().max() > 10 * TOLERANCE, "the slider does something"
    told = pack.core("lora.slider_file").load_slider(comfy / "models" / "loras" / run["name"]).info
    assert told.algorithm == algorithm


def test_the_guides_lycoris_configuration_is_taken(prompt: dict, run_graph) -> None:
    prompt["5"]["inputs"]["lycoris_config"] = json.dumps(GUIDE)
    run = run_graph(trained(prompt), targets=("5", 0), report=("5", 1), slider=("6", 0))
    spec = run["targets"].spec
    assert (spec.algorithm.value, spec.rank, spec.alpha) == ("lokr", 4, 1.0)
    paths = {t.path for t in run["targets"].selection.targets}
    assert paths == {f"blocks.{n}.attn1.to_{x}" for n in range(4) for x in "qk"} | {"time_embedding.linear_1"}
    assert "No layer of this model has these names: conv_in" in run["report"]
    assert "Note: multiplier has no meaning here" in run["report"]
    assert {w.kind.value for w in run["slider"].weights.values()} == {"lokr"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"algo": "lokr", "apply_preset": {"target_module": ["attn7.to_q"]}}', "None of the names attn7.to_q"),
        ('{"algo": "boft"}', "a rotation by -1"),
        ('{"alg": "lokr"}', 'did you mean "algo"'),
        ("{", "not valid JSON"),
    ],
)
def test_a_configuration_that_means_nothing_is_an_error(config: str, message: str, prompt: dict, run_graph) -> None:
    prompt["5"]["inputs"]["lycoris_config"] = config
    with pytest.raises(run_graph.Error, match=message):
        run_graph({k: prompt[k] for k in ("1", "5")}, targets=("5", 0))


def test_ranks_by_pattern(prompt: dict, run_graph) -> None:
    prompt["5"]["inputs"] |= {"rank_pattern": "to_q$ = 2\nto_k$=3", "alpha_pattern": r"attn1\. = 1.5"}
    prompt["6"]["inputs"]["calibrate"] = False  # which would put its scale into alpha
    weights = run_graph(trained(prompt), slider=("6", 0))["slider"].weights
    ranks = {t.path.rsplit(".", 1)[-1]: (w.rank, round(w.alpha, 4)) for t, w in weights.items() if "attn1" in t.path}
    assert ranks == {"to_q": (2, 1.5), "to_k": (3, 1.5), "to_v": (4, 1.5), "0": (4, 1.5)}
    prompt["5"]["inputs"]["rank_pattern"] = "to_q$ two"
    with pytest.raises(run_graph.Error, match='"to_q\\$ two" is no "pattern = number"'):
        run_graph({k: prompt[k] for k in ("1", "5")}, targets=("5", 0))


@pytest.mark.parametrize(("form", "algorithm"), in_turn(("native", "kohya", "lycoris", "peft"), ("dora", "lokr", "lora", "dora")))
def test_training_goes_on_from_a_file(algorithm: str, form: str, prompt: dict, run_graph) -> None:
    if (algorithm, form) == ("lokr", "peft"):
        pytest.skip("a PEFT folder holds LoRA and DoRA")
    save = save_key(prompt)
    prompt["5"]["inputs"]["algorithm"] = algorithm
    prompt[save]["inputs"] |= {"format": form, "name": f"sliders/{algorithm} {form}"}
    run = run_graph(trained(prompt) | {save: prompt[save]}, slider=("6", 0), name=(save, 0))
    graph = trained(prompt) | {"load": {"class_type": "LoadSliderLoRA", "inputs": {"file": run["name"]}}}
    graph["6"] = {
        "class_type": "SliderTrainStep",
        "inputs": prompt["6"]["inputs"] | {"start_from": ["load", 0], "name": f"{algorithm} {form}"},
    }
    graph["6"]["inputs"] |= {"steps": 1, "learning_rate": 1e-7}
    graph["6"]["inputs"]["calibrate"] = False  # a second one finds unit 1 again to a few parts in a thousand
    again = run_graph(graph, slider=("6", 0), info=("load", 1))
    assert (algorithm if algorithm != "rslora" else "lora") in again["info"]
    before, after = run["slider"].weights, again["slider"].weights
    assert before.keys() == after.keys()
    for target, weight in before.items():
        torch.testing.assert_close(after[target].update(), weight.update(), rtol=1e-3, atol=1e-5)
    assert not again["slider"].info.adapter


def test_a_file_made_elsewhere_can_be_applied_swept_and_saved_anew(prompt: dict, run_graph, comfy: Path) -> None:
    """A kohya file: Slider LoRA Apply finds its layers; the save node needs the model for that, and says so."""
    save = save_key(prompt)
    prompt[save]["inputs"] |= {"format": "kohya", "name": "sliders/kohya"}
    name = run_graph(trained(prompt) | {save: prompt[save]}, name=(save, 0))["name"]
    load = {"class_type": "LoadSliderLoRA", "inputs": {"file": name}}
    sweep = sweep_inputs(prompt) | {"slider": ["load", 0]}
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")} | {"load": load} | sweep_nodes(sweep)
    graph["11"] = {"class_type": "SliderLoRAApply", "inputs": {"model": ["1", 0], "strength": 2.5, "slider": ["load", 0]}}
    graph["12"]["inputs"] |= {k: sweep[k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    run = run_graph(graph, images=("10", 1), applied=("13", 0))
    assert (run["images"][2] - run["applied"][0]).abs().max() < TOLERANCE
    again = {
        "load": load,
        "1": prompt["1"],
        "save": {"class_type": "SaveSliderLoRA", "inputs": prompt[save]["inputs"] | {"slider": ["load", 0]}},
    }
    again["save"]["inputs"] |= {"format": "native", "name": "sliders/anew"}
    with pytest.raises(run_graph.Error, match="connect the model"):
        run_graph(again)
    again["save"]["inputs"]["model"] = ["1", 0]
    words = run_graph(again, report=("save", 1))["report"]
    assert "ComfyUI's own LoRA loader gives the same: 20 layers" in words
    assert "forward" not in words, "there is no sample to try it on"
    assert "the model's answer" not in words


def test_what_the_user_says_is_in_the_header_and_no_other_slider_is_replaced(prompt: dict, run_graph, comfy: Path, pack) -> None:
    save = save_key(prompt)
    prompt[save]["inputs"] |= {"name": "sliders/told", "minus": "frown", "plus": "smile", "preview": ["10", 0]}
    prompt["10"]["inputs"]["units"] = "raw"  # as the stock loader counts
    graph = {k: prompt[k] for k in ("1", "2", "5", "6", "7", "8", "9", "10", "20", save)}
    first = run_graph(graph, name=(save, 0))["name"]
    told = pack.core("lora.slider_file").load_slider(comfy / "models" / "loras" / first).info
    assert (told.minus, told.plus) == ("frown", "smile")
    assert "from frown (-1) to smile (+1)" in told.other["modelspec.description"]
    assert told.thumbnail.startswith("data:image/jpeg;base64,")
    assert str(comfy) not in str(told)
    prompt[save]["inputs"]["minus"] = "sad"
    file = comfy / "models" / "loras" / first
    again = [run_graph(graph, name=(save, 0), report=(save, 1)), run_graph(graph, name=(save, 0), report=(save, 1))]
    assert [run["name"] for run in again] == [first, first] == ["sliders/told.safetensors"] * 2
    assert pack.core("lora.slider_file").load_slider(file).info.minus == "sad"
    written = file.stat().st_mtime_ns
    prompt[save]["inputs"]["name"] = "sliders/told "  # asked for anew, with nothing to write
    run_graph(graph, name=(save, 0))
    assert file.stat().st_mtime_ns == written
    prompt["6"]["inputs"]["name"] = "another"
    assert run_graph(graph, name=(save, 0))["name"] == "sliders/told_2.safetensors"
    prompt[save]["inputs"]["overwrite"] = True
    assert run_graph(graph, name=(save, 0))["name"] == first
    assert pack.core("lora.slider_file").load_slider(file).info.name == "another"


def test_a_prefix_outside_the_loras_folder_is_refused(prompt: dict, run_graph, comfy: Path) -> None:
    save = save_key(prompt)
    prompt[save]["inputs"]["name"] = "../../outside"
    with pytest.raises(run_graph.Error, match="leads out of models/loras"):
        run_graph(trained(prompt) | {save: prompt[save]})
    assert not list(comfy.parent.glob("outside*"))


def test_hostile_files_are_named_and_nothing_is_applied(prompt: dict, run_graph, comfy: Path) -> None:
    from safetensors.torch import save_file

    good = {
        "diffusion_model.proj_out.lora_A.weight": torch.zeros(4, 128),
        "diffusion_model.proj_out.lora_B.weight": torch.zeros(1, 4),
    }
    loras = comfy / "models" / "loras"
    save_file(good, loras / "nan.safetensors")
    save_file({k: v * float("nan") for k, v in good.items()}, loras / "nan.safetensors")
    (loras / "short.safetensors").write_bytes((loras / "nan.safetensors").read_bytes()[:90])
    (loras / "huge.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    for name, message in (("nan", "nan.* not finite"), ("short", "cannot be read.*short"), ("huge", "cannot be read.*huge")):
        graph = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")}
        graph["11"] = {
            "class_type": "SliderLoRAApply",
            "inputs": {"model": ["1", 0], "strength": 1.0, "file": f"{name}.safetensors"},
        }
        with pytest.raises(run_graph.Error, match=message):
            run_graph(graph, image=("13", 0))
