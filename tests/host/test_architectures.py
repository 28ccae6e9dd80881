"""Every diffusion model that ComfyUI can load, at full size without weights: the right layers, and no text among them.

Oracles: ComfyUI's own classes and its own detection, which must find each class again in the shapes that were built; the
numbers of modules counted by hand from the block counts (tests/zoo).
"""

import re
import warnings
from typing import Any

import pytest
from zoo.animals import EXCLUDED, FULL, TINY
from zoo.beyond import beyond, left
from zoo.model import Full, build_full

# names that never belong to the image's own stream, whatever the architecture
TEXT = re.compile(
    r"(?:^|[._])(?:txt|context_block|context_refiner|context_embedder|caption|cap_embedder|llm_adapter|lyric|t5_y|y_embedder"
    r"|cross_attn|cross_attention|cross_attn2|txt_\w+|add_[qkv]_proj|to_add_out|kv_mapper|token_refiner)(?:\.|$)|(?:^|\.)text_"
)
CROSS_BY_NUMBER = {"sd3", "sdxs", "upscaler"}  # attn2 is image self-attention in SD3.5; elsewhere it looks at the prompt


RECALL, PRECISION = 0.97, 0.96  # of the guess against each row
LESS = {"upscaler": 0.63, "sdxs": 0.82, "boogu": 0.79, "auraflow": 0.88}  # where names do not say whose stream it is


LAYERS: dict[str, list[str]] = {}  # of the full models that were built in this process, by title


@pytest.fixture(scope="module", params=FULL, ids=lambda e: e.title)
def built(request, pack):
    """(entry, the diffusion model on the meta device), built once for all the tests of this file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's own, of its constructors
        module = build_full(request.param).diffusion_model
    LAYERS[request.param.title] = list(pack.core("layers.layer").layers(module))
    return request.param, module


# families of settings that shapes or a class tell from others of the same architecture
TOLD_APART = {
    "Flux2 dev": "flux2",
    "Flux2 klein 4B": "klein",
    "FluxSchnell": "schnell",
    "FluxSchnell Ovis-Image": "ovis",
    "LongCatImage": "longcat",
    "SDXL": "sdxl",
    "SD15": "sd1",
    "ZImage": "zimage",
    "Kandinsky5Image lite": "kandinsky5-image",
}


def the_family_and_the_number_of_layers(built: tuple, found: Any, pack) -> None:
    entry, module = built
    assert (found.architecture, len(found.targets), found.warning) == (entry.family, entry.targets, "")
    table = pack.core("families.table")
    paths = [path for path, _ in module.named_modules()]
    family = table.family_of(table.ModelFacts(found.architecture, entry.name, paths))
    assert family.architecture == entry.family
    assert family.name == TOLD_APART.get(entry.title, family.name)


def what_must_stay_alone_stays_alone(built: tuple, found: Any, pack) -> None:
    entry, module = built
    there = dict(module.named_modules())
    chosen = {t.path for t in found.targets}
    assert [p for p in entry.forbidden if p not in there] == [], "the entry names layers that the model has"
    assert chosen.isdisjoint(entry.forbidden)
    assert [p for p in chosen if TEXT.search(p)] == []
    assert [p for p in chosen if entry.family not in CROSS_BY_NUMBER and re.search(r"(?:^|\.)attn2\.", p)] == []
    assert chosen.isdisjoint(found.text_layers)
    assert all(pack.core("layers.layer").adaptable(there[p]) for p in chosen | set(found.text_layers))


def the_rows_of_fused_layers(built: tuple, found: Any) -> None:
    entry, module = built
    rows = {t.path: t.rows for t in found.targets}
    assert {p: rows[p] for p in entry.rows} == dict(entry.rows)
    for path, span in rows.items():
        assert span is None or 0 <= span[0] < span[1] < module.get_submodule(path).weight.shape[0]


def comfyui_finds_its_class_again(built: tuple, pack) -> None:
    """The configuration is the real one: detection works on shapes alone."""
    from comfy.model_detection import detect_unet_config, model_config_from_unet_config

    entry, module = built
    if entry.detected == "-":
        return  # ComfyUI needs more than shapes to find it
    state = module.state_dict()
    found = model_config_from_unet_config(detect_unet_config(state, ""), state)
    assert type(found).__name__ == (entry.detected or entry.name)


def the_guess_is_nearly_the_row_and_touches_no_text(built: tuple, found: Any, pack) -> None:
    """As if no row knew the model: what the structure alone suggests."""
    entry, module = built
    row = next(a for a in pack.core("layers.recognise").ARCHITECTURES if a.name == entry.family)
    guessed = pack.core("layers.recognise_guess").guess(module)
    assert [p for p in guessed if any(re.search(pattern, p) for pattern in row.text) or TEXT.search(p)] == []
    chosen = {target.path for target in found.targets}
    shared = len(chosen & set(guessed))
    assert shared >= LESS.get(entry.family, RECALL) * len(chosen)
    assert shared >= PRECISION * len(guessed)
    targets = found.targets
    assert all(beyond(row, targets).values()), "each layer beyond the guide's list has a reason"
    unsaid = [kind for kind, why in left(row, pack.core("layers.layer").layers(module), targets).items() if not why]
    assert unsaid == [], "layers that the rule may mean are left alone without a reason"


def reference_is_the_guides_list_or_a_plain_refusal(built: tuple, pack) -> None:
    entry, module = built
    targets = pack.core("layers.select")
    row = next(a for a in pack.core("layers.recognise").ARCHITECTURES if a.name == entry.family)
    if row.reference_patterns():
        chosen = [t.path for t in targets.select(module, "reference")]
        assert chosen
        assert [p for p in chosen if any(re.search(pattern, p) for pattern in row.text)] == []
    else:
        with pytest.raises(pack.core("config.checks").SliderError) as refused:
            targets.select(module, "reference")
        assert refused.value.code == "target.reference_empty"


def test_a_model_at_full_size(built: tuple, pack) -> None:
    found = pack.core("layers.select").survey(built[1])
    the_family_and_the_number_of_layers(built, found, pack)
    what_must_stay_alone_stays_alone(built, found, pack)
    the_rows_of_fused_layers(built, found)
    comfyui_finds_its_class_again(built, pack)
    the_guess_is_nearly_the_row_and_touches_no_text(built, found, pack)
    reference_is_the_guides_list_or_a_plain_refusal(built, pack)


def test_every_model_of_comfyui_has_an_entry(pack) -> None:
    import comfy.supported_models

    named = {entry.name for entry in FULL} | set(EXCLUDED)
    missing = [kind.__name__ for kind in comfy.supported_models.models if kind.__name__ not in named]
    assert missing == [], "new in ComfyUI: give each a row in slider_core/layers/architectures_*.py and an entry in tests/zoo"
    gone = [name for name in named if not hasattr(comfy.supported_models, name)]
    assert gone == []


def test_every_family_has_a_full_and_a_tiny_model(pack) -> None:
    families = {f.name for f in pack.core("layers.recognise").ARCHITECTURES} - {"general"}  # that one is the embedded model's
    assert {entry.family for entry in FULL} == families
    assert {entry.family for entry in TINY} == families


@pytest.mark.filterwarnings("ignore")
def test_no_expression_of_a_family_is_idle(pack) -> None:
    """Each pattern matches something in some full model of its family."""
    idle = set()
    for row in pack.core("layers.recognise").ARCHITECTURES:
        if row.name != "general":
            idle |= {(row.name, p) for p in (*row.patterns, *row.text, *row.fused, *row.reference_patterns())}
    for entry in FULL:
        if entry.family not in {name for name, _ in idle}:
            continue  # the models before it have all that its family's row names
        paths = LAYERS.get(entry.title) or list(pack.core("layers.layer").layers(build_full(entry).diffusion_model))
        idle -= {(name, p) for name, p in idle if name == entry.family and any(re.search(p, path) for path in paths)}
    assert idle == set()


def test_titles_are_unique() -> None:
    titles = [e.title for e in FULL]
    assert len(set(titles)) == len(titles)
    assert TOLD_APART.keys() <= set(titles)
    assert all(isinstance(e, Full) for e in FULL)
