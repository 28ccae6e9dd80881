"""Graphs in API form for the tests: the demo graph, and a short form of it.

In the short form an option is written at the node that it is for; `spelled_out` moves it into the option node, which is what
ComfyUI is given. So a test says `graph["6"]["inputs"] |= {"ema": 0.5}`.
"""

import json
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent / "demo.api.json"
SAMPLED = {"steps": 16, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}  # what the demo model likes
OF_SAMPLING = ("positive", "negative", "latent_image", "clip", "prompts", "prompt", "picture_seed", *SAMPLED)
OF_DRAWING = ("clip", "negative", "latent_image", "seed", *SAMPLED)  # of a Slider Prompt Library
OWN = {  # inputs that are no options, by node
    "SliderTrainStep": "model clip vae dataset name steps learning_rate training_seed old_name targets sampling options "
    "start_from control",
    "LoadSliderDataset": "folder caption options",
    "SliderPairMaker": "concept name pairs seed model clip vae sampling positive_images negative_images prompts",
    "SliderTextPair": "target positive negative hold dataset options",
    "SliderTargetInjector": "model preset algorithm rank options control_net",
    "SliderLoRAApply": "model slider strength file schedule control_net minus_slider",
    "SliderStack": "model sliders strengths schedule sampling",
    "SliderStrengthSweep": "model slider vae sampling strengths rows slider_b dataset options",
    "SliderPromptLibrary": "library file strength model vae slider sampling options",
    "SaveSliderLoRA": "slider name plus minus format overwrite force options model preview",
}
OPTIONS = {
    "SliderTrainStep": "SliderTrainOptions",
    "LoadSliderDataset": "SliderDatasetOptions",
    "SliderPairMaker": "SliderPairPrompts",
    "SliderTextPair": "SliderTextOptions",
    "SliderTargetInjector": "SliderTargetOptions",
    "SliderLoRAApply": "SliderSchedule",
    "SliderStack": "SliderSchedule",
    "SliderStrengthSweep": "SliderSweepOptions",
    "SliderPromptLibrary": "SliderSweepOptions",
    "SaveSliderLoRA": "SliderFileOptions",
}
SOCKETS = {"SliderSchedule": "schedule", "SliderPairPrompts": "prompts"}  # of option nodes, where it is not options
CHOICES = {  # fields of a choice: the choice, and what must be chosen for them
    "few_steps": ("timesteps", "few_step"),
    "ema": ("optimizer", "adamw"),
    "checkpoint_every": ("checkpoints", "every"),
    "checkpoints_kept": ("checkpoints", "every"),
    "background": ("alpha", "color"),
    "custom_patterns": ("preset", "custom"),
    "conv_rank": ("algorithm", "lora"),
    "init": ("algorithm", "lora"),
    "lokr_factor": ("algorithm", "lokr"),
    "lokr_full_matrix": ("algorithm", "lokr"),
}
Graph = dict[str, dict[str, Any]]


def demo_graph() -> Graph:
    """The demo model trained on the demo smile, swept, applied at +1 and -1, saved: model 1, dataset 2, targets 5, training 6,
    sweep 10, plus 11 to 14, minus 15 to 18, save 19, sampling 20."""
    graph: Graph = json.loads(DEMO.read_text(encoding="utf-8"))
    return graph


def spelled_out(graph: Graph) -> Graph:
    """The graph with every option in an option node."""
    whole: Graph = {}
    for key, node in graph.items():
        kind, inputs = node["class_type"], dict(node["inputs"])
        if kind == "SliderPromptLibrary":
            drawn = {name: inputs.pop(name) for name in OF_DRAWING if name in inputs}
            if "model" in inputs and "clip" in drawn:
                drawn |= {"prompt": "", "picture_seed": drawn.pop("seed")}
                whole |= spelled_out({f"{key}s": {"class_type": "SliderSampling", "inputs": drawn}})
                inputs["sampling"] = [f"{key}s", 0]
        if kind == "SliderSampling" and inputs.keys() & SAMPLED.keys():
            manual = {f"settings.{name}": inputs.pop(name) for name in SAMPLED if name in inputs}
            inputs |= {"settings": "manual"} | manual
        own = OWN.get(kind, " ".join(inputs)).split()
        moved = {name: inputs.pop(name) for name in list(inputs) if name.split(".")[0] not in own and name not in CHOICES}
        chosen = {name: inputs.pop(name) for name in list(inputs) if name in CHOICES}
        at_node = {name: value for name, value in chosen.items() if CHOICES[name][0] in own}
        moved |= _in_choices({name: value for name, value in chosen.items() if name not in at_node}, moved)
        inputs |= _in_choices(at_node, inputs)
        if moved:
            before = graph.get(f"{key}o", {}).get("inputs", {})
            whole[f"{key}o"] = {"class_type": OPTIONS[kind], "inputs": before | moved}
            inputs[SOCKETS.get(OPTIONS[kind], "options")] = [f"{key}o", 0]
        whole[key] = node | {"inputs": inputs}
    return whole


def _in_choices(fields: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    inputs = {}
    for name, value in fields.items():
        choice, needed = CHOICES[name]
        inputs |= {choice: beside.get(choice, needed), f"{choice}.{name}": value}
    return inputs


def sweep_nodes(inputs: dict[str, Any], key: str = "10", sampling: str = "") -> Graph:
    """A Slider Strength Sweep and its Slider Sampling, of the inputs of both; `seed` is the sampling's."""
    sampling = sampling or f"{key}s"
    seed = inputs.get("seed", 0)
    inputs = {k: v for k, v in inputs.items() if k != "seed"} | {"prompt": "", "picture_seed": seed}
    of_sampling = {k: v for k, v in inputs.items() if k in OF_SAMPLING}
    own = {k: v for k, v in inputs.items() if k not in OF_SAMPLING} | {"sampling": [sampling, 0]}
    return {
        sampling: {"class_type": "SliderSampling", "inputs": of_sampling},
        key: {"class_type": "SliderStrengthSweep", "inputs": own},
    }


def sweep_inputs(graph: Graph, key: str = "10") -> dict[str, Any]:
    """The inputs of the sweep `key` and of its sampling, as `sweep_nodes` takes them; what is left to the model spelt out."""
    own = dict(graph[key]["inputs"])
    sampling = dict(graph[own.pop("sampling")[0]]["inputs"])
    chosen = {k: v for k, v in sampling.items() if v not in (0, "auto")}
    return own | SAMPLED | chosen | {"seed": sampling["picture_seed"]}
