"""Hostile names and requests at the nodes' own doors, from tests/chaos/grammar.py: an answer, or a SliderError in words."""

import contextlib
from pathlib import Path

from chaos import grammar
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from products import FULL

MOVES = st.lists(
    st.lists(st.sampled_from(("positive/1.png", "negative/x.png", "removed", "", *grammar.WORDS)), max_size=3), max_size=4
)
REQUESTS = st.one_of(
    st.fixed_dictionaries({"folder": st.sampled_from(("hostile", *grammar.WORDS)), "moves": MOVES}),
    st.recursive(
        st.none() | st.integers() | grammar.words(), lambda inner: st.lists(inner) | st.dictionaries(grammar.words(), inner)
    ),
)


@seed(0)
@settings(
    max_examples=60 if FULL else 20,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(name=grammar.words(), request_=REQUESTS)
def test_every_door_of_the_nodes_answers_in_words(pack, comfy: Path, name: str, request_: object) -> None:
    (comfy / "input" / "hostile" / "positive").mkdir(parents=True, exist_ok=True)
    places, files, routes = (pack.part(f"nodes.{part}") for part in ("dataset_places", "files", "dataset_routes"))
    target, apply = pack.core("train.target_choices"), pack.part("nodes.apply")
    prompts = pack.part("nodes.prompts")
    output = pack.part("nodes.finding").output()
    for door in (
        lambda: places.locate(name),
        lambda: places.folder_bucket(name, 1.0, []),
        lambda: apply.chosen(None, name),
        lambda: prompts.chosen("", name),
        lambda: prompts.SliderPromptLibrary.fingerprint_inputs(name),
        lambda: files.next_free(name, output),
        lambda: files.next_free(f"a/{name}", output),
        lambda: routes.listing(name),
        lambda: routes.findings(name, True),
        lambda: routes.moved(request_),
        lambda: target.numbers(name, "rank_pattern", int),
        lambda: target.TargetChoices(preset="custom", custom_patterns=name, lycoris_config=name).adapter_spec(),
    ):
        with contextlib.suppress(pack.core("config.checks").SliderError):
            door()
