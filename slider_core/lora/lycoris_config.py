"""A LyCORIS configuration (`lycoris_config.json` of SimpleTuner and its slider guide) as an AdapterSpec.

LyCORIS reads `apply_preset.target_module` as class names and `target_name` as regular expressions on whole paths; the guide
writes module names under `target_module`, with which LyCORIS makes nothing. Here both mean what they say: a name under
`target_module` is a class, the end of a path, or another program's name for a layer (layers/select.py).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from typing import Any

from ..config.checks import SliderError, is_number, nearest, need, parse_json, shown
from ..config.lora import TUCKER, AdapterSpec, Algorithm, Preset

WHERE = "LyCORIS configuration"
MOST_CHARACTERS = 1 << 20
MOST_NAMES = 10_000  # in one of its lists
TAKEN = (Algorithm.LOCON, Algorithm.LOHA, Algorithm.LOKR, Algorithm.FULL, Algorithm.GLORA)
ALGORITHMS = {"lora": Algorithm.LOCON} | {algorithm.value: algorithm for algorithm in TAKEN}
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
    *("multiplier", "bypass_mode", "use_scalar", "block_size", "constraint", "rescaled", "train_llm_adapter"),
    *("warn_on_unmatched", "rank_dropout_scale"),
)
OFF = ("none", "false", "no", "", "0", "0.0")
MUST_BE_OFF = ("rank_dropout", "module_dropout", "train_norm", "unbalanced_factorization")
TUCKER_KEYS = ("use_tucker", "use_cp", "use_conv_cp")
KEYS = (
    *("algo", "linear_dim", "linear_alpha", "conv_dim", "conv_alpha", "dropout", "factor", "full_matrix", "decompose_both"),
    *("dora_wd", "wd_on_output", "rs_lora", "apply_preset", "preset"),
    *TUCKER_KEYS,
    *NO_MATTER,
    *MUST_BE_OFF,
)
PRESET_KEYS = (
    *("enable_conv", "target_module", "target_name", "module_algo_map", "name_algo_map", "lora_prefix", "use_fnmatch"),
    *("unet_target_module", "unet_target_name", "text_encoder_target_module", "text_encoder_target_name", "exclude_name"),
)
MODULE_KEYS = ("algo", "dim", "alpha", "factor")  # of one class in module_algo_map
Config = dict[str, Any]


def _object(value: Any, what: str, keys: tuple[str, ...] | None = None) -> Config:
    """`value` as a JSON object of those keys, or of any."""
    message = f"{WHERE}: {what} must be a JSON object, got {type(value).__name__}."
    if not isinstance(value, dict):
        raise SliderError(message, "lycoris_config.no_object")
    for key in value:
        if keys is not None and key not in keys:
            message = f'{WHERE}: {what} has "{shown(key)}", which is not known; {nearest(key, keys)}'
            raise SliderError(message, "lycoris_config.key")
    return value


def _flag(config: Config, key: str, default: bool = False) -> bool:
    """LyCORIS takes true, "true", 1 and "yes" alike."""
    value = config.get(key, default)
    if isinstance(value, str):
        return value.lower() in ("true", "yes", "1")
    return bool(value)


def _names(preset: Config, *keys: str) -> tuple[str, ...]:
    """The names in the lists of those keys, each once."""
    names: list[str] = []
    for key in keys:
        value = preset.get(key, [])
        listed = isinstance(value, list) and all(isinstance(name, str) and name for name in value) and len(value) <= MOST_NAMES
        need(listed, f"{WHERE}: {key} must be a list of names, {MOST_NAMES} at most.", "lycoris_config.names")
        names += value
    return tuple(dict.fromkeys(names))


def _whole(config: Config, key: str, default: int = 0) -> int:
    """A whole number, or the default where there is none or null."""
    value = config.get(key)
    if value is None:
        return default
    whole = is_number(value) and value == int(value) and abs(value) < MOST_CHARACTERS
    need(whole, f"{WHERE}: {key} must be a whole number, got {shown(json.dumps(value))}.", "lycoris_config.number")
    return int(value)


def _algorithm(config: Config) -> Algorithm:
    name = shown(config.get("algo") or "lora").lower()
    if name in WITHOUT_SIGN:
        raise SliderError(f'{WHERE}: "{name}" makes no slider: {WITHOUT_SIGN[name]}.', "lycoris_config.no_sign")
    message = f'{WHERE}: algo "{name}" is not known; {nearest(name, list(ALGORITHMS))}'
    need(name in ALGORITHMS, message, "lycoris_config.algorithm")
    algorithm = ALGORITHMS[name]
    dora = _flag(config, "dora_wd")
    rslora = _flag(config, "rs_lora")
    if not dora and not rslora:
        return algorithm
    single = algorithm is Algorithm.LOCON and not (dora and rslora)
    need(single, f'{WHERE}: dora_wd and rs_lora go with the algo "lora", one of them at a time.', "lycoris_config.dora")
    message = f"{WHERE}: wd_on_output must be true: the norm is taken of each output's row."
    need(_flag(config, "wd_on_output", True), message, "lycoris_config.columns")
    return Algorithm.DORA if dora else Algorithm.RSLORA


class _Layers:
    """What an `apply_preset` says of layers: which ones, and the sizes of some."""

    def __init__(self, preset: Config) -> None:
        self.shell = _flag(preset, "use_fnmatch")
        self.names = _names(preset, "target_module", "unet_target_module")
        self.patterns = self._patterns(_names(preset, "target_name", "unet_target_name"))
        self.exclude = tuple(self._patterns(_names(preset, "exclude_name")))
        self.ranks: list[tuple[str, float]] = []
        self.alphas: list[tuple[str, float]] = []
        self.convolutions = _flag(preset, "enable_conv", True)
        self.by_class: list[tuple[str, str, float]] = []
        self.algorithms: set[str] = set()
        modules = _object(preset.get("module_algo_map") or {}, "module_algo_map")
        for name, sizes in modules.items():
            self._add_class(name, _object(sizes, f'module_algo_map["{name}"]', MODULE_KEYS))
        self.mapped_only = bool(modules) and set(self.names) <= set(modules) and not self.patterns
        for name, sizes in _object(preset.get("name_algo_map") or {}, "name_algo_map").items():
            self._add(name, _object(sizes, f'name_algo_map["{name}"]', ("dim", "alpha")))

    def _patterns(self, names: tuple[str, ...]) -> list[str]:
        """As LyCORIS matches them: from the beginning of the path, or as file names are matched."""
        if self.shell:
            return [f"^{fnmatch.translate(name)}" for name in names]
        return [f"^(?:{name})" for name in names]

    def _add(self, name: str, sizes: Config) -> None:
        pattern = self._patterns((name,))[0]
        self.patterns.append(pattern)
        if "dim" in sizes:
            self.ranks.append((pattern, sizes["dim"]))
        if "alpha" in sizes:
            self.alphas.append((pattern, sizes["alpha"]))

    def _add_class(self, name: str, sizes: Config) -> None:
        self.algorithms.add(str(sizes.get("algo") or "").lower())
        for key, which in (("dim", "rank_pattern"), ("alpha", "alpha_pattern"), ("factor", "factor_pattern")):
            if sizes.get(key) is not None:
                value = sizes[key] if key == "alpha" else _whole(sizes, key)
                self.by_class.append((name, which, value))

    def algorithm_of(self, config: Config) -> Config:
        """The configuration with the algorithm that all its classes name, which is one for all layers here."""
        own = str(config.get("algo") or "lora").lower()
        named = {algorithm or own for algorithm in self.algorithms}
        only = named if self.mapped_only else named | {own}
        listed = " and ".join(sorted(only))
        mixed = f"{WHERE}: module_algo_map mixes {listed}; a slider has one algorithm for all its layers."
        need(len(only) <= 1, mixed, "lycoris_config.mixed")
        return config | {"algo": next(iter(only), own)}

    def chosen(self, spec: AdapterSpec) -> AdapterSpec:
        """The spec with these layers, or with its own where none are chosen."""
        if self.names or self.patterns:
            patterns = tuple(dict.fromkeys(self.patterns))
            spec = dataclasses.replace(spec, preset=Preset.CUSTOM.value, names=self.names, patterns=patterns)
        if not self.convolutions:
            spec = dataclasses.replace(spec, conv_rank=0)
        exclude = (*spec.exclude, *self.exclude)
        by_class = self.by_class
        if spec.algorithm is not Algorithm.LOKR:
            by_class = [size for size in by_class if size[1] != "factor_pattern"]
        spec = dataclasses.replace(spec, sizes_by_name=tuple(by_class))
        return dataclasses.replace(spec, exclude=exclude, rank_pattern=tuple(self.ranks), alpha_pattern=tuple(self.alphas))


def _notes(config: Config, preset: Config, layers: _Layers) -> list[str]:
    """What has no meaning here."""
    notes = [f"{key} has no meaning here and was left out" for key in NO_MATTER if key in config]
    for key in preset:
        if key.startswith(("text_encoder", "lora_prefix")):
            notes.append(f"apply_preset.{key} has no meaning here")
    sized = layers.ranks or layers.alphas
    if sized:
        patterns = ", ".join(pattern for pattern, _ in sized)
        notes.append(f"name_algo_map: dim and alpha are looked up by this model's own layer names ({patterns})")
    return notes


def read_lycoris(text: str, otherwise: AdapterSpec) -> tuple[AdapterSpec, list[str]]:
    """(the spec that a LyCORIS configuration describes, notes on what has no meaning here).

    Layers that it does not choose are those of `otherwise`. LyCORIS' own defaults hold: linear_dim 4, linear_alpha 1. Raises
    SliderError that names the key for what is not known, and for what cannot be a slider.
    """
    need(len(text) <= MOST_CHARACTERS, f"{WHERE}: {len(text)} characters; {MOST_CHARACTERS} at most.", "lycoris_config.too_large")
    config = _object(parse_json(text, WHERE, "lycoris_config.no_json"), "the configuration", KEYS)
    for key in MUST_BE_OFF:
        off = str(config.get(key)).strip().lower() in OFF
        need(off, f"{WHERE}: {key} is not taken here; leave it out.", "lycoris_config.not_taken")
    message = f"{WHERE}: preset names LyCORIS' own lists; write apply_preset with target_module or target_name."
    need("preset" not in config, message, "lycoris_config.preset")
    preset = _object(config.get("apply_preset", {}), "apply_preset", PRESET_KEYS)
    layers = _Layers(preset)
    config = layers.algorithm_of(config)
    algorithm = _algorithm(config)
    lokr = algorithm is Algorithm.LOKR
    spec = AdapterSpec(
        rank=_whole(config, "linear_dim") or AdapterSpec.rank,
        alpha=config.get("linear_alpha") or 1.0,
        preset=otherwise.preset,
        names=otherwise.names,
        patterns=otherwise.patterns,
        exclude=otherwise.exclude,
        algorithm=algorithm,
        conv_rank=_whole(config, "conv_dim") or None,
        conv_alpha=config.get("conv_alpha"),
        dropout=config.get("dropout") or 0.0,
        factor=_whole(config, "factor", -1) if lokr else -1,
        full_matrix=lokr and _flag(config, "full_matrix"),
        decompose_both=lokr and _flag(config, "decompose_both"),
        tucker=algorithm in TUCKER and any(_flag(config, key) for key in TUCKER_KEYS),
    )
    return layers.chosen(spec), _notes(config, preset, layers)
