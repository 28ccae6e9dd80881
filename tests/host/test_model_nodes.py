"""What other nodes have put on the MODEL acts in training and in a sweep as in KSampler, or is named; never ignored silently."""

import pytest
from products import FULL
from zoo.animals import tiny
from zoo.model import build_tiny, conditioning
from zoo.model_nodes import NODES, Node, measure_node

BY_TITLE = {node.title: node for node in NODES}
EXPECTED = {
    "EasyCache": "left out, named",
    "RescaleCFG": "no part in a model call, named",
    "Kohya Deep Shrink": "as in the sampler",
    "wrapped model call (as KJNodes' inpaint)": "as in the sampler",
    "patch for a batch of one (as WanVideoNAG)": "as in the sampler",
    "ModelSamplingDiscrete, v": "as in the sampler",
}


def test_forty_nodes_are_in_the_table() -> None:
    assert len(NODES) == len(BY_TITLE) >= 40


@pytest.mark.skipif(not FULL, reason="in a full run: some minutes")
@pytest.mark.parametrize("title", BY_TITLE)
def test_a_node_on_the_model_acts_or_is_named(title: str, pack) -> None:
    outcome = measure_node(pack.core, BY_TITLE[title])
    assert not outcome.silent, outcome
    assert outcome.training == EXPECTED.get(title, outcome.training)
    assert outcome.sweep.startswith("as KSampler")


def marks(pack, model: object) -> tuple[str, str]:
    backend = pack.core("with_comfy.model_backend").ComfyBackend(model)
    return backend.assistants_fingerprint(), backend.drawn_by()


def test_another_patch_is_another_training_and_the_same_is_the_same(pack) -> None:
    model = build_tiny(tiny("SD15"))
    plain = marks(pack, model)
    assert plain[0] == ""
    seen = [plain]
    for title in (
        "FreeU",
        "FreeU V2",
        "Tome Patch Model",
        "ModelSamplingDiscrete, v",
        "wrapped model call (as KJNodes' inpaint)",
        "EasyCache",
        "Context Windows (Wan)",
    ):
        node = BY_TITLE[title]
        assert marks(pack, node.on(model)) == marks(pack, node.on(model)), title
        seen.append(marks(pack, node.on(model)))
    node = BY_TITLE["FreeU"]
    seen.append(marks(pack, Node(node.title, node.where, {**node.inputs, "b1": 1.15}).on(model)))
    assert len({mark for mark, _ in seen}) == len({drawn for _, drawn in seen}) == len(seen)
    assert marks(pack, model) == plain


def test_a_finding_about_samples_holds_for_the_patches_that_it_was_made_with(pack) -> None:
    import torch

    entry = tiny("SD15")
    model = build_tiny(entry)
    found = []
    for one in (model, BY_TITLE["Kohya Deep Shrink"].on(model), model):
        backend = pack.core("with_comfy.model_backend").ComfyBackend(one)
        cond = pack.core("backend").Conditioning("", conditioning(entry, 0))
        paths = [target.path for target in pack.core("layers.select").select(backend.module)]
        with torch.inference_mode(), backend.borrowed():
            backend.prepare(paths, torch.zeros(entry.latent), cond)
        found.append(backend.one_by_one)
    assert found == [False, True, False]


def test_hooks_on_a_prompt_are_refused_in_training(pack) -> None:
    import comfy.hooks
    import torch

    entry = tiny("SD15")
    backend = pack.core("with_comfy.model_backend").ComfyBackend(build_tiny(entry))
    text, extra = conditioning(entry, 0)[0]
    hooked = pack.core("backend").Conditioning("smiling", [[text, extra | {"hooks": comfy.hooks.HookGroup()}]])
    with torch.inference_mode(), backend.borrowed(), pytest.raises(pack.core("config.checks").SliderError) as refused:
        backend.predict(torch.zeros(1, *entry.latent), torch.tensor([1.0]), [hooked])
    assert refused.value.code == "prompt.hooks"
