"""A dataset file: SimpleTuner's dataloader JSON, a list of backends, as buckets.

    [{"id": "smile", "instance_data_dir": "smile/positive", "caption_strategy": "textfile", "slider_strength": 0.5},
     {"id": "frown", "instance_data_dir": "smile/negative", "caption_strategy": "textfile", "slider_strength": -0.5},
     {"id": "plain", "instance_data_dir": "smile/neutral",  "caption_strategy": "filename"}]

A backend without `slider_strength`, with null or with 0 is neutral. What has no meaning here is accepted with a note, a
misspelt field is an error with the nearest name, and every fault of the file is reported at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, nearest
from .bucket_spec import BucketSpec, CaptionFrom, Crop

USED = (
    *("id", "instance_data_dir", "slider_strength", "caption_strategy", "instance_prompt", "only_instance_prompt"),
    *("prepend_instance_prompt", "probability", "repeats", "resolution", "resolution_type", "crop", "crop_style", "crop_aspect"),
    *("disabled", "disable", "type", "dataset_type"),
)
# known to SimpleTuner and without meaning here: where it caches, how it finds files, what other trainings need
IDLE = (
    *("aws_access_key_id", "aws_bucket_name", "aws_data_prefix", "aws_endpoint_url", "aws_region_name", "aws_secret_access_key"),
    *("audio", "cache_dir", "cache_dir_conditioning_image_embeds", "cache_dir_vae", "caption_filter_list", "caption_shuffle"),
    *("conditioning", "conditioning_data", "conditioning_image_embed_batch_size", "conditioning_image_embeds"),
    *(
        "conditioning_type",
        "config",
        "crop_aspect_buckets",
        "csv_caption_column",
        "csv_file",
        "default",
        "delete_problematic_images",
    ),
    *("delete_unwanted_images", "disable_multiline_split", "disable_validation", "end_epoch", "end_step", "hash_filenames"),
    *("ignore_epochs", "image_embeds", "is_regularisation_data", "is_regularization_data", "max_upscale_threshold"),
    *("maximum_aspect_ratio", "maximum_image_size", "metadata_backend", "metadata_update_interval", "minimum_aspect_ratio"),
    *("minimum_image_size", "num_frame_spacing", "parquet", "preserve_data_backend_cache", "scan_for_errors", "s2v_datasets"),
    *("skip_file_discovery", "source_dataset_id", "start_epoch", "start_step", "target_downsample_size", "text_cache_disable"),
    *("text_cache_ondemand", "text_embeds", "text_encoder_batch_size", "vae_cache_clear_each_epoch", "vae_cache_disable"),
    *("vae_cache_ondemand", "validation_use_idx", "video", "write_batch_size", "huggingface", "dataset_name", "huggingface_only"),
)
ELSEWHERE = ("text_embeds", "image_embeds", "conditioning_image_embeds", "conditioning", "audio", "eval")
STYLES = {"center": Crop.CENTER, "random": Crop.RANDOM, "corner": Crop.CENTER, "face": Crop.CENTER}
MEGAPIXEL = 1e6
LEAST_SIDE, MOST_SIDE = 16, 16384  # pixels
MOST_HEAD = 64 * 1024  # bytes of a JSON file that are looked at to tell what it is


class _Entry:
    """One backend, its faults and notes collected as it is read."""

    def __init__(self, number: int, given: Mapping[str, Any]) -> None:
        self.given, self.name = given, str(given.get("id") or f"number {number + 1}")
        self.faults: list[str] = []
        self.notes: list[str] = []

    def fault(self, text: str) -> None:
        self.faults.append(f'Backend "{self.name}": {text}')

    def note(self, text: str) -> None:
        self.notes.append(f'Backend "{self.name}": {text}')

    def number(self, key: str, default: float) -> float:
        value = self.given.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.fault(f"{key} must be a number, got {json.dumps(value)}.")
            return default
        return value

    def flag(self, key: str) -> bool:
        value = self.given.get(key)
        value = False if value is None else value
        if not isinstance(value, bool):
            self.fault(f"{key} must be true or false, got {json.dumps(value)}.")
        return value is True

    def text(self, key: str) -> str:
        value = self.given.get(key) or ""
        if not isinstance(value, str):
            self.fault(f"{key} must be text, got {json.dumps(value)}.")
        return value if isinstance(value, str) else ""


def _check_keys(entry: _Entry) -> None:
    idle = [key for key in entry.given if key in IDLE and entry.given[key] not in (None, "", False)]
    if idle:
        entry.note(f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no meaning here.")
    for key in entry.given:
        if key not in USED and key not in IDLE:
            entry.fault(f'field "{key}" is not known; {nearest(key, (*USED, *IDLE))}')


def _captions(entry: _Entry) -> tuple[CaptionFrom, str | None, str]:
    """(strategy, one caption for all, word before each)."""
    told, prompt = entry.text("caption_strategy"), entry.text("instance_prompt")
    known = [member.value for member in CaptionFrom if member is not CaptionFrom.NONE]
    if told and told not in known:
        entry.fault(f'caption_strategy "{told}" is not taken here; {nearest(told, known)}')
        return CaptionFrom.TEXTFILE, None, ""
    strategy = CaptionFrom(told) if told else CaptionFrom.TEXTFILE
    if strategy is CaptionFrom.INSTANCEPROMPT or entry.flag("only_instance_prompt"):
        if not prompt:
            entry.fault("the caption strategy instanceprompt needs an instance_prompt.")
        return CaptionFrom.INSTANCEPROMPT, prompt, ""
    return strategy, None, prompt if entry.flag("prepend_instance_prompt") else ""


def _resolution(entry: _Entry) -> int:
    """The side in pixels of a square of the bucket's area; 0 where the file says nothing."""
    value, kind = entry.number("resolution", 0), entry.text("resolution_type") or "pixel_area"
    if kind not in ("area", "pixel_area", "pixel"):
        entry.fault(f'resolution_type "{kind}" is not known; {nearest(kind, ("area", "pixel_area", "pixel"))}')
    if kind == "pixel":
        entry.note("resolution_type pixel is read as pixel_area: the area of a square with that side.")
    side = (value * MEGAPIXEL) ** 0.5 if kind == "area" and value > 0 else value
    if side and not LEAST_SIDE <= side <= MOST_SIDE:
        hint = ' With megapixels write "resolution_type": "area".' if kind != "area" and 0 < value < LEAST_SIDE else ""
        entry.fault(f"resolution {value:g} ({kind}) is out of range: {LEAST_SIDE} to {MOST_SIDE} pixels.{hint}")
        return 0
    return round(side)


def _crop(entry: _Entry) -> Crop:
    if entry.given.get("crop") is not None and not entry.flag("crop"):
        return Crop.NONE
    style = entry.text("crop_style") or "center"
    if style not in STYLES:
        entry.fault(f'crop_style "{style}" is not known; {nearest(style, list(STYLES))}')
    if style in ("corner", "face"):
        entry.note(f"crop_style {style} is read as center.")
    aspect = entry.text("crop_aspect")
    if aspect not in ("", "preserve", "closest"):
        entry.note(f"crop_aspect {aspect} is read as closest: the bucket that is nearest in shape.")
    return STYLES.get(style, Crop.CENTER)


def _bucket(entry: _Entry, base: Path) -> BucketSpec | None:
    """The bucket of a backend; None when it is switched off or holds no images."""
    _check_keys(entry)
    kind, where = entry.text("dataset_type") or "image", entry.text("type") or "local"
    if entry.flag("disabled") or entry.flag("disable"):
        entry.note("disabled, left out.")
        return None
    if kind in ELSEWHERE:
        entry.note(f"dataset_type {kind} is not needed here, left out.")
        return None
    if kind not in ("image", "video"):
        entry.fault(f'dataset_type "{kind}" is not known; {nearest(kind, ("image", "video", *ELSEWHERE))}')
    if where != "local":
        entry.fault(f'type "{where}" is not taken here: put the images into a local folder.')
    folder = entry.text("instance_data_dir")
    if not folder:
        entry.fault("instance_data_dir is missing: the folder of its images.")
    captions, caption, trigger = _captions(entry)
    strength, repeats = entry.number("slider_strength", 0.0), entry.number("repeats", 0)
    if repeats != int(repeats):
        entry.fault(f"repeats must be a whole number, got {repeats}.")
    values = {
        "probability": entry.number("probability", 1.0),
        "repeats": int(repeats),
        "resolution": _resolution(entry),
        "crop": _crop(entry),
    }
    if entry.faults:
        return None
    try:
        return BucketSpec(str(base / folder), float(strength), caption, captions, trigger, entry.name, **values)
    except SliderError as fault:
        entry.faults.append(str(fault))
        return None


def read_dataset_file(path: Path) -> tuple[list[BucketSpec], list[str]]:
    """(buckets, notes) of a dataset file; folders are relative to the file's own. SliderError that lists every fault."""
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as fault:
        raise SliderError(f"Dataset file cannot be read: {path} ({fault}).") from None
    except (json.JSONDecodeError, RecursionError) as fault:
        raise SliderError(f"Dataset file {path} is no valid JSON ({fault}).") from None
    if not isinstance(given, list) or not given or not all(isinstance(entry, dict) for entry in given):
        raise SliderError(f"Dataset file {path}: a list of backends is needed, each with an id and an instance_data_dir.")
    entries = [_Entry(number, entry) for number, entry in enumerate(given)]
    found = [_bucket(entry, path.parent) for entry in entries]
    names = [entry.name for entry in entries]
    faults = [fault for entry in entries for fault in entry.faults]
    faults += [f'Two backends have the id "{name}".' for name in dict.fromkeys(names) if names.count(name) > 1]
    if faults:
        raise SliderError("\n".join(f"{path.name}: {fault}" for fault in faults))
    return [spec for spec in found if spec is not None], [note for entry in entries for note in entry.notes]


def is_dataset_file(path: Path) -> bool:
    """Whether a file looks like a dataset file, by its name and its first kilobytes."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            head = file.read(MOST_HEAD)
    except OSError:
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and b"instance_data_dir" in head
