"""A sampling that was asked for, on its model: prompts encoded, and the family's values in the place of 0 and "auto"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config.checks import SliderError, need
from ..families.table import Preferences
from ..use.plot_video import FPS
from ..use.prompt_library import PromptEntry
from ..use.sampling import Sampling, SamplingRequest
from .family import empty_latent, guided, preferences_of, shifted


def encoded(clip: Any, prompt: str) -> Any:
    """CONDITIONING of a prompt."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def carrying(positive: Any, prompts: dict[str, Any]) -> dict[str, Any]:
    """The prompts with the ControlNet and the reference images that `positive` carries, if it does."""
    carried = {key: value for key, value in positive[0][1].items() if key.startswith(("control", "reference_latents"))}
    with_carried = {}
    for name, cond in prompts.items():
        with_carried[name] = [[text, extra | carried] for text, extra in cond]
    return with_carried


@dataclass(frozen=True)
class ModelSampling:
    """A request on one MODEL. `model` has the family's shift; `positives`: the library's prompts by name, or empty; `summary`:
    what the family chose, or empty."""

    model: Any
    sampling: Sampling
    positives: dict[str, Any]
    likes: Preferences
    summary: str

    def of_entry(self, entry: PromptEntry) -> Sampling:
        """The sampling of a prompt of the library, by the first entry that has it."""
        return replace(self.sampling, positive=self.positives[entry.name])


def sampling_on_model(
    request: SamplingRequest, model: Any, files: Sequence[str] = (), clip: Any = None, most_at_once: int = 0
) -> ModelSampling:
    """The request on that MODEL. `clip` encodes where the request has none of its own. SliderError where none can."""
    likes = preferences_of(model, files, request.distilled)
    if request.clip is not None:
        clip = request.clip
    settings = request.settings.for_model(likes)
    guidance = likes.drawing.guidance
    positive = guided(_conditioning(request.positive, clip, request.prompt), guidance)
    negative = guided(_conditioning(request.negative, clip, ""), guidance)
    latent = empty_latent(model, likes) if request.latent is None else request.latent
    chosen = settings.steps, settings.cfg, settings.sampler_name, settings.scheduler
    fps = likes.fps or FPS
    sampling = Sampling(positive, negative, latent, request.seed, *chosen, most_at_once=most_at_once, fps=fps)
    positives = {}
    if request.library is not None:
        prompts = {name: guided(_prompt(clip, text, name), guidance) for name, text in request.library.prompts().items()}
        positives = carrying(positive, prompts)
    return ModelSampling(shifted(model, likes), sampling, positives, likes, request.settings.summary(likes))


def _conditioning(given: Any, clip: Any, prompt: str) -> Any:
    if given is not None:
        return given
    need(clip is not None, "Slider Sampling: connect clip to encode the prompt, or positive and negative.", "sampling.no_clip")
    return encoded(clip, prompt)


def _prompt(clip: Any, text: str, name: str) -> Any:
    """A prompt of a library, encoded. SliderError that names the entry."""
    need(clip is not None, "Slider Sampling: prompts need clip to encode them; connect it.", "sampling.no_clip")
    try:
        return encoded(clip, text)
    except Exception as fault:
        message = f'Slider Sampling: entry "{name}" cannot be encoded: {first_line(fault)}'
        raise SliderError(message, "sampling.encode") from fault


def first_line(fault: Exception) -> str:
    """Any error in one line of bounded length."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:300]
