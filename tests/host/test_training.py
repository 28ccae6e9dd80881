"""In a real ComfyUI the quickstart graph trains on the borrowed model, shows it, saves it, and changes nothing else.

Oracles outside our code: the stock LoRA loader, the stock KSampler, ComfyUI's own executor, and the base weights' bits.
"""

import hashlib
from pathlib import Path

import pytest
import torch
from graphs import demo_graph

STEPS, TOLERANCE = 6, 1e-4


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    """The quickstart in API form, short: what is tested here does not need a finished slider."""
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "any_rate": True, "calibrate": False}
    graph["10"]["inputs"] |= {"rows": 1}
    graph["20"]["inputs"] |= {"steps": 4}
    for sampler in ("12", "16"):
        graph[sampler]["inputs"]["steps"] = 4
    return graph


def fingerprint(module: torch.nn.Module) -> dict[str, tuple]:
    """Bits, place, flags and kind of every weight, and the hooks of every layer."""
    weights = {
        name: (hashlib.sha256(p.detach().numpy().tobytes()).hexdigest(), p.data_ptr(), p.requires_grad, p.is_inference(), id(p))
        for name, p in module.named_parameters()
    }
    hooks = {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in module.named_modules()}
    return weights | hooks


def stock(prompt: dict, name: str, strength: float) -> dict:
    """The plus branch of the graph with ComfyUI's own loader in the place of Slider LoRA Apply."""
    loader = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": name, "strength_model": strength}}
    return {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")} | {"11": loader}


def training(prompt: dict) -> dict:
    """The part of the graph that makes the slider."""
    return {k: prompt[k] for k in ("1", "2", "5", "6")}


def apply_only(prompt: dict, slider: object, run_graph, strength: float) -> dict:
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "11", "12", "13")} | {"6": run_graph.give(slider)}
    graph["11"] = {"class_type": "SliderLoRAApply", "inputs": prompt["11"]["inputs"] | {"strength": strength}}
    return graph


def test_the_quickstart_graph_trains_shows_and_saves(prompt: dict, run_graph, comfy: Path) -> None:
    prompt["2"]["inputs"]["folder"] = "demo: smile"
    prompt["6"]["inputs"]["steps"] = steps = 32
    run = run_graph(prompt, slider=("6", 0), loss=("6", 2), status=("6", 3), strip=("10", 0), images=("10", 1), name=("19", 0))
    assert run["slider"].info.step == steps
    assert len(run["loss"]["loss"]) == steps
    assert f"step {steps} of {steps}" in run["status"]
    assert run["images"].shape == (5, 64, 64, 3)
    assert run["strip"].shape[0] == 1
    assert run["strip"].std() > 0.05
    assert (comfy / "models" / "loras" / run["name"]).is_file()
    assert run.ui["10"]["images"], "the sweep shows its strip in the node"
    assert [point[0] for point in run.events("slider_lora.progress")[-1]["explained"]] == [30, steps]


def test_the_injector_shows_what_it_found(prompt: dict, run_graph) -> None:
    run = run_graph({k: prompt[k] for k in ("1", "5")}, report=("5", 1))
    assert run.ui["5"]["text"] == [run["report"]], "in the node, too"
    for words in (
        "20 layers (general)",
        "25,600 trainable parameters at rank 4",
        "16 text layers left alone",
        "First: proj_in, ",
    ):
        assert words in run["report"]
    prompt["5"]["inputs"]["preset"] = "reference"
    again = run_graph({k: prompt[k] for k in ("1", "5")}, report=("5", 1))["report"]
    assert "20 layers (reference, general)" in again


@pytest.mark.parametrize(("preset", "message"), [("flux", "use .auto."), ("flus", "none of the choices")])
def test_the_injector_insists_on_the_architecture_that_was_named(preset: str, message: str, prompt: dict, run_graph) -> None:
    prompt["5"]["inputs"]["preset"] = preset
    with pytest.raises(run_graph.Error, match=message):
        run_graph({k: prompt[k] for k in ("1", "5")}, report=("5", 1))


def test_the_base_model_is_bit_identical_after_training(prompt: dict, run_graph) -> None:
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before = fingerprint(model.model)
    after = run_graph(training(prompt), model=("1", 0), slider=("6", 0))
    assert after["model"] is model, "the graph trained the very model it had loaded"
    assert fingerprint(model.model) == before
    assert any(bool(w.update().any()) for w in after["slider"].weights.values()), "something was trained"


def test_the_base_weights_are_bit_identical_after_the_whole_graph(prompt: dict, run_graph) -> None:
    """Apply merges into the weights, as every LoRA loader does; once ComfyUI takes that back, the bits are the old ones."""
    from comfy import model_management

    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    run_graph(prompt)
    model_management.unload_all_models()
    after = model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_model_may_be_one_that_was_loaded_under_inference_mode(prompt: dict, run_graph, pack) -> None:
    """Loaders run inside the graph's inference mode; here it is made sure that these weights really are such."""
    with torch.inference_mode():
        model, clip, vae = pack.core("with_tiny.model_in_comfy").load_demo(pack.core("with_tiny.model").load_weights())
    assert all(p.is_inference() for p in model.model.diffusion_model.parameters())
    before = fingerprint(model.model)
    for socket, value in enumerate((model, clip, vae)):
        prompt[f"give{socket}"] = run_graph.give(value)
    for name in ("5", "6"):
        for key, socket in (("model", 0), ("clip", 1), ("vae", 2)):
            if key in prompt[name]["inputs"]:
                prompt[name]["inputs"][key] = [f"give{socket}", 0]
    run_graph({k: prompt[k] for k in ("2", "5", "6", "give0", "give1", "give2")}, slider=("6", 0))
    assert fingerprint(model.model) == before


def test_the_stock_loader_gives_the_same_image(prompt: dict, run_graph, comfy: Path) -> None:
    run = run_graph(training(prompt) | {"19": prompt["19"]}, slider=("6", 0), name=("19", 0))
    prompt["11"]["inputs"]["units"] = "raw"  # what a loader that knows no calibration takes
    plain = run_graph(stock(prompt, run["name"], 0.0), image=("13", 0))["image"]
    for strength in (1.0, -1.0, -2.5):
        ours = run_graph(apply_only(prompt, run["slider"], run_graph, strength), image=("13", 0))["image"]
        theirs = run_graph(stock(prompt, run["name"], strength), image=("13", 0))["image"]
        assert (ours - theirs).abs().max() < TOLERANCE, strength
        assert (ours - plain).abs().max() > 10 * TOLERANCE, "the slider does something"


def test_saving_says_what_the_number_format_costs_and_a_managers_files_come_later(prompt: dict, run_graph, comfy: Path) -> None:
    node = next(n for n in prompt.values() if n["class_type"] == "SaveSliderLoRA")
    node["inputs"]["dtype"] = "bf16"
    key = next(k for k, n in prompt.items() if n is node)
    run = run_graph({k: prompt[k] for k in ("1", "2", "5", "6", key)})
    (words,) = run.ui[key]["text"]
    assert words.startswith("Saved models/loras/sliders/")
    assert "As bf16 its effect is rounded by 0." in words
    assert "ComfyUI's own LoRA loader gives the same: 20 layers" in words
    node["inputs"]["manager_files"] = True
    again = run_graph({k: prompt[k] for k in ("1", "2", "5", "6", key)}, name=(key, 0))
    assert again["name"] in words.splitlines()[0], "the same file, which is not written again"
    assert "Saved" not in again.ui[key]["text"][0]
    assert (comfy / "models" / "loras" / again["name"]).with_suffix(".metadata.json").is_file()


def test_a_file_on_apply_is_the_same_as_the_slider_from_the_graph(prompt: dict, run_graph) -> None:
    graph = training(prompt) | {k: prompt[k] for k in ("7", "8", "9", "11", "12", "13", "19")}
    run = run_graph(graph, name=("19", 0), plus=("13", 0))
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")}
    graph["11"] = {"class_type": "SliderLoRAApply", "inputs": {"model": ["1", 0], "strength": 1.0, "file": run["name"]}}
    assert torch.equal(run_graph(graph, image=("13", 0))["image"], run["plus"])
    graph["load"] = {"class_type": "LoadSliderLoRA", "inputs": {"file": run["name"]}}
    graph["11"] = {"class_type": "SliderLoRAApply", "inputs": {"model": ["1", 0], "slider": ["load", 0], "strength": 1.0}}
    assert torch.equal(run_graph(graph, image=("13", 0))["image"], run["plus"])


def test_strength_zero_equals_no_node_at_all(prompt: dict, run_graph) -> None:
    slider = run_graph(training(prompt), slider=("6", 0))["slider"]
    zero = run_graph(apply_only(prompt, slider, run_graph, 0.0), image=("13", 0))["image"]
    bare = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")}
    bare["12"] = {"class_type": "KSampler", "inputs": prompt["12"]["inputs"] | {"model": ["1", 0]}}
    assert torch.equal(zero, run_graph(bare, image=("13", 0))["image"])


def test_core_nodes_take_our_lora_socket(prompt: dict, run_graph, extra_nodes) -> None:
    extra_nodes("nodes_train")
    prompt["11"]["inputs"]["units"] = "raw"
    graph = training(prompt) | {k: prompt[k] for k in ("7", "8", "9", "11", "12", "13")}
    run = run_graph(graph, lora=("6", 1), plus=("13", 0))
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "12", "13")} | {"6": run_graph.give(run["lora"])}
    graph["11"] = {
        "class_type": "LoraModelLoader",
        "inputs": {"model": ["1", 0], "lora": ["6", 0], "strength_model": 1.0, "bypass": False},
    }
    assert (run_graph(graph, image=("13", 0))["image"] - run["plus"]).abs().max() < TOLERANCE


def test_queueing_again_goes_on_until_the_total(prompt: dict, run_graph) -> None:
    prompt["6"]["inputs"] |= {"steps": 5, "steps_per_run": 2}
    prompt["19"]["inputs"]["force"] = True  # two steps on two pairs show no effect yet
    prompt = training(prompt) | {k: prompt[k] for k in ("7", "8", "9", "10", "19", "20")}
    steps = [run_graph(prompt, slider=("6", 0))["slider"].info.step for _ in range(3)]
    assert steps == [2, 4, 5]
    again = run_graph(prompt, slider=("6", 0))
    assert again.executed == [], "at the total nothing runs again, and nothing is saved twice"
    assert again["slider"].info.step == 5


def test_going_on_in_parts_equals_one_run(prompt: dict, run_graph, forget) -> None:
    prompt = training(prompt)
    prompt["6"]["inputs"] |= {"steps": 5}
    whole = run_graph(prompt, slider=("6", 0))["slider"].weights
    forget()
    prompt["6"]["inputs"]["steps_per_run"] = 2
    for _ in range(3):
        parts = run_graph(prompt, slider=("6", 0))["slider"].weights
    assert all(torch.equal(value, parts[t].tensors[name]) for t, w in whole.items() for name, value in w.tensors.items())


def test_a_rate_that_would_burn_a_training_that_goes_on_is_refused_and_the_training_kept(prompt: dict, run_graph, pack) -> None:
    prompt = training(prompt)
    inputs = prompt["6"]["inputs"]
    inputs |= {"steps": 2, "learning_rate": 0.0, "any_rate": False}
    run_graph(prompt, slider=("6", 0))
    for of_a_file in (False, True):
        if of_a_file:
            pack.part("nodes.running").SESSION.drop(inputs["name"])
        inputs |= {"steps": 4, "learning_rate": 0.9}
        with pytest.raises(run_graph.Error, match=r"The learning rate 0\.9 is \d+ times .* any_rate in Slider Train Options"):
            run_graph(prompt, slider=("6", 0))
    inputs["learning_rate"] = 0.0
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == 4


def test_cancel_keeps_the_work_and_the_model(prompt: dict, run_graph, pack, monkeypatch) -> None:
    from comfy import model_management

    train, prompt = pack.part("nodes.train"), training(prompt)
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before, live = fingerprint(model.model), pack.part("nodes.live").Live
    after_step = live.after_step

    def stop_at_four(self) -> None:
        after_step(self)
        if self.run.step == 4:
            model_management.interrupt_current_processing()

    monkeypatch.setattr(live, "after_step", stop_at_four)
    with pytest.raises(run_graph.Error) as stopped:
        run_graph(prompt, slider=("6", 0))
    assert stopped.value.event == "execution_interrupted"
    assert 4 <= train.SESSION.step("smile") < STEPS, "what was learned is kept"
    assert fingerprint(model.model) == before
    assert model_management.in_training is False
    monkeypatch.setattr(live, "after_step", after_step)
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == STEPS, "and training goes on"


def test_another_choice_under_the_same_name_is_an_error_that_names_it(prompt: dict, run_graph) -> None:
    prompt = training(prompt)
    prompt["6"]["inputs"]["steps"] = 2
    run_graph(prompt, slider=("6", 0))
    prompt["5"]["inputs"]["rank"] = 8
    with pytest.raises(run_graph.Error, match=r'"smile" belongs to a slider .* another adapter.*new name.*restart'):
        run_graph(prompt, slider=("6", 0))
    prompt["6"]["inputs"]["old_name"] = "restart"
    weights = run_graph(prompt, slider=("6", 0))["slider"].weights
    assert {w.rank for w in weights.values()} == {8}


@pytest.mark.parametrize(
    ("node", "changes", "message"),
    [
        ("10", {"strengths": "1, two"}, 'Strength "two" is not a number'),
        ("6", {"batch": 3}, "batch must be even"),
        ("5", {"preset": "custom", "custom_patterns": "attn1.to_queue"}, "the nearest are"),
        ("11", {"file": "gone.safetensors"}, "choose a file, and not both"),
    ],
)
def test_bad_input_is_named_in_the_node(node: str, changes: dict, message: str, prompt: dict, run_graph) -> None:
    prompt["6"]["inputs"]["steps"] = 1
    prompt["19"]["inputs"]["force"] = True  # the executor picks among outputs by chance: the save may come first
    prompt[node]["inputs"] |= changes
    with pytest.raises(run_graph.Error, match=message):
        run_graph(prompt)


def test_a_dataset_outside_the_roots_is_refused(prompt: dict, run_graph) -> None:
    prompt["2"]["inputs"]["folder"] = "../../etc"
    with pytest.raises(run_graph.Error, match="not in list"):
        run_graph(prompt)


@pytest.mark.parametrize("name", ["../../etc", "demo: ../..", "/etc", "", ".", "demo: "])
def test_locate_finds_only_what_is_listed(name: str, pack) -> None:
    with pytest.raises(pack.core("config.checks").SliderError, match="not found under"):
        pack.part("nodes.dataset_places").locate(name)


def test_own_folders_in_the_input_folder_are_listed(pack, comfy: Path) -> None:
    for side in ("Positive", "negative"):
        (comfy / "input" / "mine" / "hat" / side).mkdir(parents=True, exist_ok=True)
    dataset = pack.part("nodes.dataset_places")
    assert {"demo: smile", "mine/hat"} <= set(dataset.choices())
    assert dataset.locate("mine/hat") == comfy / "input" / "mine" / "hat"


def test_a_folder_with_one_side_is_listed_and_hides_no_other(pack, comfy: Path) -> None:
    for folder in ("positive", "half/positive", "half/whole/positive", "half/whole/negative"):
        (comfy / "input" / folder).mkdir(parents=True, exist_ok=True)
    assert {"half", "half/whole"} <= set(pack.part("nodes.dataset").choices())


def test_a_slider_of_another_model_is_refused_by_apply(prompt: dict, run_graph, pack) -> None:
    store, lora, target = pack.core("lora.slider_file"), pack.core("lora.algorithms.lora"), pack.core("layers.layer").Target
    tensors = {"lora_down.weight": torch.zeros(4, 128), "lora_up.weight": torch.zeros(128, 4)}
    weight = lora.LoraWeight(tensors, 4.0)
    for path, message in (("input_blocks.0.0", "none of which this model has"), ("proj_out", "trained on another model")):
        with pytest.raises(run_graph.Error, match=message):
            run_graph(apply_only(prompt, store.Slider({target(path): weight}), run_graph, 1.0), image=("13", 0))


def test_a_linked_name_goes_on_too(prompt: dict, run_graph) -> None:
    prompt = training(prompt)
    prompt["6"]["inputs"] |= {"steps": 6, "steps_per_run": 2, "name": ["name", 0]}
    prompt["name"] = {"class_type": "TestGive", "inputs": run_graph.give("smile")["inputs"]}
    steps = [run_graph(prompt, slider=("6", 0))["slider"].info.step for _ in range(2)]
    assert steps == [2, 4]


def test_another_checkpoint_of_the_same_kind_is_another_model(prompt: dict, run_graph, pack) -> None:
    prompt = training(prompt)
    prompt["6"]["inputs"]["steps"] = 2
    run_graph(prompt, slider=("6", 0))
    weights = pack.core("with_tiny.model").load_weights()
    weights["diffusion_model.proj_out.weight"] = weights["diffusion_model.proj_out.weight"] * 1.01
    other = pack.core("with_tiny.model_in_comfy").load_demo(weights)[0]
    prompt["other"] = run_graph.give(other)
    prompt["6"]["inputs"]["model"] = ["other", 0]
    with pytest.raises(run_graph.Error, match="another model"):
        run_graph(prompt, slider=("6", 0))


def test_choices_after_the_end_do_not_enter_the_file(prompt: dict, run_graph) -> None:
    prompt = training(prompt)
    first = run_graph(prompt, slider=("6", 0))["slider"]
    prompt["6"]["inputs"] |= {"learning_rate": 0.5, "training_seed": 77}
    again = run_graph(prompt, slider=("6", 0), status=("6", 3))
    assert again["slider"].info.training == first.info.training
    for said in ("learning_rate 0.5", "training_seed 77", f"above {STEPS}"):
        assert said in again["status"]


def test_a_finished_training_is_trained_on_once_when_that_is_wanted(prompt: dict, run_graph, pack) -> None:
    """As the button of the panel does it: the inputs stay as they are."""
    prompt, running = training(prompt), pack.part("nodes.running")
    prompt["6"]["inputs"]["name"] = "further"

    def run() -> tuple[int, str]:
        made = run_graph(prompt, slider=("6", 0), status=("6", 3))
        return made["slider"].info.step, made["status"]

    assert run()[0] == STEPS
    assert pack.part("nodes.live").states()[-1]["more"] == 120
    running.train_on("6", "another slider", 3)
    assert run() == (STEPS, run()[1])
    running.train_on("6", "further", 5)
    assert [running.withdraw("6", "further") for _ in range(2)] == [True, False]
    assert run()[0] == STEPS, "its prompt was deleted from the queue"
    running.train_on("6", "further", 3)
    step, status = run()
    assert (step, f"step {step} of {step}." in status) == (STEPS + 3, True)
    prompt["6"]["inputs"]["training_seed"] = 5  # so that the node runs anew
    step, status = run()
    assert step == STEPS + 3
    assert "press train on" in status


def test_an_unfinished_training_is_trained_on_to_its_end(prompt: dict, run_graph, pack) -> None:
    prompt = training(prompt)
    prompt["6"]["inputs"] |= {"name": "in parts", "steps_per_run": 4}
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == 4
    assert pack.part("nodes.live").states()[-1]["more"] == 0
    running = pack.part("nodes.running")
    running.train_on("6", "in parts", 0)
    assert running.steps_wanted(running.SESSION.get("in parts"), "6", 0) == STEPS, "where the node says no number any more too"
    running.train_on("6", "in parts", 0)
    assert run_graph(prompt, slider=("6", 0))["slider"].info.step == STEPS


def test_an_unfinished_training_is_handed_on_as_it_is_once_where_that_is_wanted(prompt: dict, run_graph, pack) -> None:
    """As "save anyway" does it; the run after that goes on."""
    prompt, running = training(prompt), pack.part("nodes.running")
    prompt["6"]["inputs"] |= {"name": "as it is", "steps_per_run": 2}

    def step() -> int:
        return run_graph(prompt, slider=("6", 0))["slider"].info.step

    assert step() == 2
    running.hand_on("6")
    assert (step(), step()) == (2, 4)
    running.hand_on("6")
    running.hand_on("6", wanted=False)
    assert step() == STEPS
    running.hand_on("6")
    assert step() == STEPS, "finished: as it is too"


def test_a_training_that_was_trained_on_goes_on_to_that_end_after_a_restart(prompt: dict, run_graph, pack) -> None:
    prompt, running = training(prompt), pack.part("nodes.running")
    inputs = prompt["6"]["inputs"]
    inputs["name"] = "further yet"

    def run() -> str:
        return run_graph(prompt, status=("6", 3))["status"]

    assert f"step {STEPS} of {STEPS}." in run()
    running.train_on("6", "further yet", 3)
    inputs["steps_per_run"] = 1
    assert f"step {STEPS + 1} of {STEPS + 3}." in run()
    running.SESSION.drop("further yet")
    assert f"step {STEPS + 2} of {STEPS + 3}." in run()
    running.SESSION.drop("further yet")
    inputs["steps_per_run"] = 0
    assert f"step {STEPS + 3} of {STEPS + 3}." in run()


def test_a_slider_that_was_finished_at_once_is_praised_nowhere(prompt: dict, run_graph) -> None:
    """Neither by a range nor by a strength at which it is best: in the node, in the file, where it is applied."""
    graph = {k: prompt[k] for k in ("1", "2", "5", "6", "7", "8", "9", "11", "12", "13", "19")}
    graph["2"]["inputs"]["folder"] = "demo: smile"
    graph["6"]["inputs"] |= {"steps": 3, "any_rate": False, "calibrate": True}
    graph["19"]["inputs"]["force"] = True
    graph["11"]["inputs"]["strength"] = 3.0
    run = run_graph(graph, slider=("6", 0), status=("6", 3), name=("19", 0), image=("13", 0))
    assert run["slider"].info.judged == "too_weak"
    (note,) = run.ui["11"]["slider_note"]
    listed = {"load": {"class_type": "LoadSliderLoRA", "inputs": {"file": run["name"]}}}
    for text in (run["status"], note, run_graph(listed, info=("load", 1))["info"]):
        assert "Too weak yet" in text
        assert "useful" not in text
        assert "best at" not in text
    assert run["slider"].info.range == (-1.0, 1.0)
