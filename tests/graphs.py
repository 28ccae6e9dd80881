"""Graphs in API form: a sweep together with the Slider Sampling that it is drawn by."""

from typing import Any

SAMPLED = {"steps": 16, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}  # what the demo model likes
OF_SAMPLING = ("positive", "negative", "latent_image", "clip", "prompts", "prompt", "picture_seed", *SAMPLED)
Graph = dict[str, dict[str, Any]]


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
