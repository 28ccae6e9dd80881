"""SimpleTuner's config.json as options: what is taken, what is left out, what is refused."""

import json
from pathlib import Path
from typing import Any

from core.faults import refused

from slider_core.__main__ import parser
from slider_core.commands.choices import adapter_spec, train_choices
from slider_core.commands.config_file import with_config
from slider_core.commands.simpletuner_config import read_config

PLAIN = {"model_family": "flux", "model_type": "lora", "output_dir": "out/eyes"}


def config(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PLAIN | values), encoding="utf-8")
    return path


OPTIONS = [
    ("model_family", "z-image", ["--clip-type", "lumina2"]),
    ("slider_lora_target", "true", ["--layers", "reference"]),
    ("lora_rank", "8", ["--rank", "8"]),
    ("max_train_steps", 100, ["--steps", "100"]),
    ("learning_rate", "1e-4", ["--lr", "0.0001"]),
    ("lr_scheduler", "polynomial", ["--schedule", "linear"]),
    ("optimizer", "adamw_bf16", ["--optimizer", "adamw"]),
    ("optimizer", "bnb-adamw8bit", ["--optimizer", "adamw8bit"]),
    ("optimizer", "optimi-lion", ["--optimizer", "adamw", "--lr", "0"]),
    ("optimizer", "prodigy", ["--optimizer", "prodigy", "--lr", "0"]),
    ("train_batch_size", 1, ["--batch", "2"]),
    ("gradient_accumulation_steps", 4, ["--accumulate", "4"]),
    ("gradient_checkpointing", False, ["--no-checkpointing"]),
    ("snr_gamma", 5, ["--weighting", "min_snr"]),
    ("seed", 42, ["--seed", "42"]),
    ("resolution", 768, ["--resolution", "768"]),
    ("validation_steps", 50, ["--strip-every", "50"]),
    ("checkpoints_total_limit", 5, ["--checkpoints-kept", "5"]),
]

REFUSED = [
    ({"model_type": "full"}, "config.model_type"),
    ({"controlnet": True}, "config.controlnet"),
    ({"model_family": "ace_step"}, "config.sound"),
    ({"model_family": "sana"}, "config.family"),
    ({"model_family": "fulx"}, "config.family"),
    ({"distillation_method": "dmd"}, "config.distillation"),
    ({"lora_type": "lycoris"}, "config.lycoris_config"),
    ({"lora_type": "standart"}, "config.lora_type"),
    ({"data_backend_config": "nowhere.json"}, "config.data_backend_config"),
    ({"max_train_steps": "many"}, "config.number"),
    ({"max_train_steps": "inf"}, "config.number"),
    ({"resolution": -1}, "config.number"),
    ({"use_ema": "perhaps"}, "config.flag"),
]


def test_a_key_becomes_its_option(tmp_path: Path) -> None:
    for key, value, words in OPTIONS:
        read = read_config(config(tmp_path, **{f"--{key}": value} if key != "model_family" else {key: value}))
        place = read.words.index(words[0])
        assert read.words[place : place + len(words)] == words
        assert any(line.startswith(f"{key} ") for line in read.taken), key


def test_what_no_slider_can_come_of_is_refused_with_its_key(tmp_path: Path) -> None:
    for values, code in REFUSED:
        with refused(code, *values):
            read_config(config(tmp_path, **values))


def test_what_a_person_writes_beside_it_counts_and_every_key_is_accounted_for(tmp_path: Path, capsys) -> None:
    (tmp_path / "lycoris_config.json").write_text('{"algo": "lokr", "linear_dim": 8, "linear_alpha": 2}', encoding="utf-8")
    values = {"lora_type": "lycoris", "lycoris_config": "lycoris_config.json", "max_train_steps": 100, "seed": 7}
    values |= {"validation_guidance": 4.0, "hub_model_id": "x", "data_backend_config": "gone.json", "made_up": 1, "lora_rank": 2}
    values |= {"snr_gamma": 0, "loss_type": "l2"}
    path = config(tmp_path, **values)
    args = parser().parse_args(with_config(["train", "--config", str(path), "--steps", "5", "--dataset", "d", "--flip"]))
    choices = train_choices(args, "s")
    assert (choices.steps, choices.training_seed, args.out) == (5, 7, Path("out/eyes/eyes.safetensors"))
    spec, _ = adapter_spec(args)
    assert (spec.algorithm.value, spec.rank, spec.alpha) == ("lokr", 8, 2.0)
    said = capsys.readouterr().out
    assert all(key in said for key in {*PLAIN, *values})
    assert with_config(["sweep", "--config", "x"]) == ["sweep", "--config", "x"]
