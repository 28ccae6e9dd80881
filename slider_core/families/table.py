"""Which family a model is of, and what follows from it: how it is trained and how it likes to be drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .distilled import ASKED, NAME_SAYS, Distilled, Kind, find, undoes, undone
from .family import GUESS, Drawing, Family, Training, Variant
from .rows_image import IMAGE
from .rows_video import VIDEO_AND_SOUND

FAMILIES = (*VIDEO_AND_SOUND, *IMAGE)
UNKNOWN = Family("unknown", "a family that is not known", "", Drawing(20, 4.0, source=GUESS), Training(512, GUESS))
TINY = next(family for family in IMAGE if family.name == "tiny")


@dataclass(frozen=True)
class ModelFacts:
    """What a family is recognised by: `architecture` is the name of a row in layers/architectures_*.py, or empty; `host_class`
    the host's name for the model, `paths` its modules, `files` the names of its file and of the LoRAs on it, in that order."""

    architecture: str = ""
    host_class: str = ""
    paths: Sequence[str] = ()
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Preferences:
    """How a model is trained and drawn. `few_steps`: the sampler's levels of a distilled model; 0: not distilled.
    `reason`: the file name by which it is taken for a variant of its family ("distilled": a person says so), or empty.
    `fps`: frames a second of a video; 0: not known."""

    title: str
    training: Training
    drawing: Drawing
    size: int
    few_steps: int = 0
    reason: str = ""
    fps: int = 0


def family_of(facts: ModelFacts) -> Family:
    """The first row of the architecture that fits, or UNKNOWN."""
    for family in FAMILIES:
        if family.architecture == facts.architecture and _fits(family, facts):
            return family
    return UNKNOWN


def _fits(family: Family, facts: ModelFacts) -> bool:
    if family.host and facts.host_class not in family.host:
        return False

    def matches(expression: str) -> bool:
        return any(re.search(expression, path) for path in facts.paths)

    return all(map(matches, family.has)) and not any(map(matches, family.lacks))


def preferences(facts: ModelFacts, distilled: Distilled | str = Distilled.AUTO) -> Preferences:
    """What the model of these facts wants. `distilled` yes or no replaces what the names of its files say. Where a training
    adapter undoes a distillation the model is drawn as the distilled one, and trained as an ordinary one."""
    distilled = Distilled(distilled)
    family = family_of(facts)
    variant, reason = _variant(family, facts.files, distilled)
    title = variant.name or family.title
    training = replace(family.training, resolution=variant.resolution or family.training.resolution)
    few_step = variant.few_step and distilled is not Distilled.NO
    few_step = few_step and not (distilled is Distilled.AUTO and undone(facts.files))
    few_steps = variant.drawing.steps if few_step else 0
    return Preferences(title, training, variant.drawing, variant.size or family.size, few_steps, reason, family.fps)


def _variant(family: Family, files: Sequence[str], distilled: Distilled) -> tuple[Variant, str]:
    """Which model of the family it is, and the name that says so: the plain one, a variant of the row, or a general one."""
    plain = Variant("", "", family.drawing, family.few_step)
    reason = ""
    for variant in family.variants:
        named = [name for name in files if re.search(variant.pattern, name.lower()) and not undoes(name)]
        if named and not (variant.few_step and distilled is Distilled.NO):
            plain, reason = variant, named[-1]
            break
    finding = None if distilled is Distilled.NO else find(files)
    if finding is not None and plain.few_step:
        return _with_steps(plain, finding.steps), reason
    if finding is not None:
        return _general(family.title, plain, finding.kind, finding.steps), finding.name
    if distilled is Distilled.YES and not plain.few_step:
        distilled_variants = (variant for variant in family.variants if variant.few_step)
        return next(distilled_variants, _general(family.title, plain, ASKED, 0)), ASKED.name
    return plain, reason


def _with_steps(variant: Variant, steps: int) -> Variant:
    """The distilled variant with the number of steps that a file's name gives."""
    if not steps or steps == variant.drawing.steps:
        return variant
    source = f"{variant.drawing.source}; {NAME_SAYS}"
    return replace(variant, drawing=replace(variant.drawing, steps=steps, source=source))


def _general(title: str, plain: Variant, kind: Kind, steps: int) -> Variant:
    """A variant that no row has: drawn in the kind's steps, and without a negative prompt."""
    drawing = replace(
        plain.drawing,
        steps=steps or kind.steps,
        cfg=1.0,
        sampler=kind.sampler or plain.drawing.sampler,
        scheduler=kind.scheduler or plain.drawing.scheduler,
        source=NAME_SAYS,
    )
    return Variant(f"{title}, {kind.name}", kind.pattern, drawing)
