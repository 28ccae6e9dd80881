"""The guides say what the code says: every verdict, and the defaults that they name."""

import re
from pathlib import Path

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, Timesteps, TrainSpec
from slider_core.train.progress_verdict import BURNT_GAIN, BY_HEART, DEAD_GAIN, SAME_ENDS, WORSE_GAIN, WORTH, Verdict, explain

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_every_verdict_has_a_row_in_the_order_of_the_code() -> None:
    section = page("reading-gain").split("## The verdicts")[1].split("\n## ")[0]
    named = re.findall(r"^\| \*\*(.+?)\*\*", section, flags=re.MULTILINE)
    assert len(named) == len(Verdict)
    for verdict, name in zip(Verdict, named, strict=True):
        if verdict not in (Verdict.BURNT, Verdict.ONE_SIDED):  # their words name a side of a reading
            assert explain(verdict, None).startswith(name), (verdict, name)
    assert named[list(Verdict).index(Verdict.BURNT)] == "Burnt"
    assert "(or minus) side" in named[list(Verdict).index(Verdict.ONE_SIDED)]


def test_the_limits_of_the_verdicts_are_the_ones_that_the_page_names() -> None:
    limits = (DEAD_GAIN, WORSE_GAIN, BURNT_GAIN, SAME_ENDS, BY_HEART, WORTH)
    assert limits == (0.001, -0.01, -1.0, 1.0, 0.25, 0.02)
    for words in (
        "within 0.1 %",
        "below -1 %",
        "below -100 %",
        "even of 1 or more",
        "less than a quarter",
        "gain of 2 % or more",
    ):
        assert words in page("reading-gain"), words


def test_the_settings_are_the_defaults_and_name_what_there_is() -> None:
    text = page("settings")
    train, adapter = TrainSpec(), AdapterSpec()
    assert f"| `rank`, `alpha` | {adapter.rank}, {adapter.alpha:g} |" in text
    assert f"| `batch` | {train.batch} |" in text
    assert f"| `steps` | {train.steps}, then look |" in text
    assert f"| `objective` | `{train.objective.value}` for" in text
    assert f"| `timesteps` | `{train.timesteps.value}` |" in text
    names = set(re.findall(r"`((?:denoise|teacher|few)_[a-z]+)`", text)) - {"few_steps"}
    assert names <= {o.value for o in Objective} | {t.value for t in Timesteps}
