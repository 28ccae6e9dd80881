"""A LyCORIS configuration (`lycoris_config.json` of SimpleTuner and its slider guide) as an AdapterSpec.

LyCORIS reads `apply_preset.target_module` as class names and `target_name` as regular expressions on whole paths; the guide
writes module names under `target_module`, with which LyCORIS makes nothing. Here both mean what they say: a name under
`target_module` is a class, the end of a path, or another program's name for a layer (targets.py).
"""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from ..config.checks import SliderError, nearest
from ..config.lora import AdapterSpec, Algorithm, Preset

WHERE = "LyCORIS configuration"
ALGORITHMS = {
    "lora": Algorithm.LOCON,
    "locon": Algorithm.LOCON,
    "loha": Algorithm.LOHA,
    "lokr": Algorithm.LOKR,
    "full": Algorithm.FULL,
    "glora": Algorithm.GLORA,
}
WITHOUT_SIGN = {
    "diag-oft": "it rotates weights, and a rotation by -1 is no rotation back",
    "boft": "it rotates weights, and a rotation by -1 is no rotation back",
    "ia3": "no LoRA loader of ComfyUI reads it",
    "dylora": "its rank is drawn anew in every call, so a strength has no fixed effect",
    "tlora": "its rank depends on the timestep, which no LoRA loader knows",
    "norm": "sliders leave norm layers alone",
}
# keys that say how LyCORIS runs, not what is trained
NO_MATTER = (
    "multiplier",
    "bypass_mode",
    "use_scalar",
    "block_size",
    "constraint",
    "rescaled",
    "train_llm_adapter",
    "warn_on_unmatched",
    "rank_dropout_scale",
)
OFF = ("none", "false", "no", "", "0", "0.0")
MUST_BE_OFF = ("rank_dropout", "module_dropout", "train_norm", "unbalanced_factorization")
KNOWN = (
    *("algo", "linear_dim", "linear_alpha", "conv_dim", "conv_alpha", "dropout", "factor", "full_matrix", "decompose_both"),
    *("use_tucker", "use_cp", "use_conv_cp", "dora_wd", "wd_on_output", "rs_lora", "apply_preset", "preset"),
    *NO_MATTER,
    *MUST_BE_OFF,
)
PRESET_KEYS = (
    *("enable_conv", "target_module", "target_name", "module_algo_map", "name_algo_map", "lora_prefix", "use_fnmatch"),
    *("unet_target_module", "unet_target_name", "text_encoder_target_module", "text_encoder_target_name", "exclude_name"),
)


def _object(value: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SliderError(f"{WHERE}: {what} must be a JSON object, got {type(value).__name__}.")
    for key in value:
        if key not in known:
            raise SliderError(f'{WHERE}: {what} has "{key}", which is not known; {nearest(key, known)}')
    return value


def _flag(given: dict[str, Any], key: str, default: bool = False) -> bool:
    """LyCORIS takes true, "true", 1 and "yes" alike."""
    value = given.get(key, default)
    return value.lower() in ("true", "yes", "1") if isinstance(value, str) else bool(value)


def _words(given: dict[str, Any], *keys: str) -> tuple[str, ...]:
    found: list[str] = []
    for key in keys:
        value = given.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
            raise SliderError(f"{WHERE}: {key} must be a list of names.")
        found += value
    return tuple(dict.fromkeys(found))


def _pattern(word: str, shell: bool) -> str:
    """As LyCORIS matches it: from the beginning of the path, or as file names are matched."""
    return f"^{fnmatch.translate(word)}" if shell else f"^(?:{word})"


def _whole(given: dict[str, Any], key: str, default: int | None) -> int | None:
    """A whole number, or the default where there is none or null."""
    value = given.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise SliderError(f"{WHERE}: {key} must be a whole number, got {json.dumps(value)}.")
    return int(value)


def _algorithm(given: dict[str, Any]) -> Algorithm:
    name = str(given.get("algo") or "lora").lower()
    if name in WITHOUT_SIGN:
        raise SliderError(f'{WHERE}: "{name}" makes no slider: {WITHOUT_SIGN[name]}.')
    if name not in ALGORITHMS:
        raise SliderError(f'{WHERE}: algo "{name}" is not known; {nearest(name, list(ALGORITHMS))}')
    algorithm = ALGORITHMS[name]
    if not _flag(given, "dora_wd") and not _flag(given, "rs_lora"):
        return algorithm
    if algorithm is not Algorithm.LOCON or (_flag(given, "dora_wd") and _flag(given, "rs_lora")):
        raise SliderError(f'{WHERE}: dora_wd and rs_lora go with the algo "lora", one of them at a time.')
    if not _flag(given, "wd_on_output", True):
        raise SliderError(f"{WHERE}: wd_on_output must be true: the norm is taken of each output's row.")
    return Algorithm.DORA if _flag(given, "dora_wd") else Algorithm.RSLORA


def _layers(preset: dict[str, Any]) -> dict[str, Any]:
    """The fields of an AdapterSpec that choose layers; none where the preset chooses none."""
    shell = _flag(preset, "use_fnmatch")
    names = _words(preset, "target_module", "unet_target_module")
    patterns = [_pattern(word, shell) for word in _words(preset, "target_name", "unet_target_name")]
    ranks, alphas = [], []
    named = preset.get("name_algo_map") or {}
    for word, config in _object(named, "name_algo_map", tuple(named) if isinstance(named, dict) else ()).items():
        pattern, config = _pattern(word, shell), _object(config, f'name_algo_map["{word}"]', ("dim", "alpha"))
        patterns.append(pattern)
        ranks += [(pattern, config["dim"])] if "dim" in config else []
        alphas += [(pattern, config["alpha"])] if "alpha" in config else []
    if preset.get("module_algo_map"):
        raise SliderError(f"{WHERE}: module_algo_map is not taken here; use name_algo_map with dim and alpha.")
    exclude = tuple(_pattern(word, shell) for word in _words(preset, "exclude_name"))
    found: dict[str, Any] = {"exclude": exclude, "rank_pattern": tuple(ranks), "alpha_pattern": tuple(alphas)}
    if names or patterns:
        found |= {"preset": Preset.CUSTOM.value, "names": names, "patterns": tuple(dict.fromkeys(patterns))}
    if not _flag(preset, "enable_conv", True):
        found["conv_rank"] = 0
    return found


def read_lycoris(text: str, otherwise: AdapterSpec) -> tuple[AdapterSpec, list[str]]:
    """(the spec that a LyCORIS configuration describes, notes on what has no meaning here).

    Layers that it does not choose are those of `otherwise`. LyCORIS' own defaults hold: linear_dim 4, linear_alpha 1. Raises
    SliderError that names the key for what is not known, and for what cannot be a slider.
    """
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as fault:
        raise SliderError(f"{WHERE}: not valid JSON ({fault}).") from None
    given = _object(given, "the configuration", KNOWN)
    for key in MUST_BE_OFF:
        if str(given.get(key)).strip().lower() not in OFF:
            raise SliderError(f"{WHERE}: {key} is not taken here; leave it out.")
    if "preset" in given:
        raise SliderError(f"{WHERE}: preset names LyCORIS' own lists; write apply_preset with target_module or target_name.")
    algorithm, preset = _algorithm(given), _object(given.get("apply_preset", {}), "apply_preset", PRESET_KEYS)
    layers = {"preset": otherwise.preset, "names": otherwise.names, "patterns": otherwise.patterns} | _layers(preset)
    layers["exclude"] = (*otherwise.exclude, *layers["exclude"])
    notes = [f"{key} has no meaning here and was left out" for key in NO_MATTER if key in given]
    notes += [f"apply_preset.{key} has no meaning here" for key in preset if key.startswith(("text_encoder", "lora_prefix"))]
    if sized := (layers.get("rank_pattern") or layers.get("alpha_pattern")):
        words = ", ".join(pattern for pattern, _ in sized)
        notes.append(f"name_algo_map: dim and alpha are looked up by this model's own layer names ({words})")
    lokr = algorithm is Algorithm.LOKR
    tucker = any(_flag(given, key) for key in ("use_tucker", "use_cp", "use_conv_cp"))
    spec = AdapterSpec(
        rank=_whole(given, "linear_dim", None) or AdapterSpec.rank,
        alpha=given.get("linear_alpha") or 1.0,
        algorithm=algorithm,
        conv_alpha=given.get("conv_alpha"),
        dropout=given.get("dropout") or 0.0,
        factor=_whole(given, "factor", -1) if lokr else -1,
        full_matrix=lokr and _flag(given, "full_matrix"),
        decompose_both=lokr and _flag(given, "decompose_both"),
        tucker=tucker and algorithm in (Algorithm.LOCON, Algorithm.LOHA, Algorithm.LOKR),
        **({"conv_rank": _whole(given, "conv_dim", None) or None} | layers),
    )
    return spec, notes
