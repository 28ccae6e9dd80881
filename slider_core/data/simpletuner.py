"""A dataset file: SimpleTuner's dataloader JSON, a list of backends, as buckets.

    [{"id": "smile", "instance_data_dir": "smile/positive", "caption_strategy": "textfile", "slider_strength": 0.5},
     {"id": "frown", "instance_data_dir": "smile/negative", "caption_strategy": "textfile", "slider_strength": -0.5},
     {"id": "plain", "instance_data_dir": "smile/neutral",  "caption_strategy": "filename"}]

A backend without `slider_strength`, with null or with 0 is neutral. What has no meaning here is accepted with a note, a
misspelt field is an error with the nearest name, and every fault of the file is reported at once. Of a backend that is switched
off or holds no images nothing else is checked.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..config.checks import LONGEST_NAME, SliderError, all_are, is_number, nearest, need, shown
from ..config.regular_files import read_json
from .bucket_spec import BucketSpec, CaptionFrom, Crop
from .buckets import joined

_USED = """
id instance_data_dir slider_strength caption_strategy instance_prompt only_instance_prompt prepend_instance_prompt probability
repeats resolution resolution_type crop crop_style crop_aspect disabled disable type dataset_type disable_multiline_split
max_num_samples
"""
# known to SimpleTuner and without meaning here: where it caches, how it finds files, what other trainings need
_IDLE = """
audio auto_generated aws_access_key_id aws_bucket_name aws_data_prefix aws_endpoint_url aws_max_pool_connections aws_region_name
aws_secret_access_key aws_session_token bbox_column bucket_report cache_dir cache_dir_conditioning_image_embeds cache_dir_vae
cache_file_suffix caption_column caption_dropout_probability caption_file_extensions caption_filter_list caption_shuffle
clear_cache_each_epoch compress_cache conditioning conditioning_config conditioning_data conditioning_image_embed_batch_size
conditioning_image_embeds conditioning_type config crop_aspect_buckets csv csv_cache_dir csv_caption_column csv_file
csv_url_column data_backend dataset_name default delete_nsfw_images delete_problematic_images delete_unwanted_images
disable_after_epoch_step disable_validation distillation_cache end_epoch end_step
fallback_caption_column filename_column grounding hash_filenames hf_token huggingface huggingface_only
identifier_includes_extension ignore_epochs image_column image_embeds image_processing_batch_size instance_data_root is_i2v
is_regularisation_data is_regularization_data lyrics_column max_upscale_threshold maximum_aspect_ratio
maximum_image_size memory_filesystem_path memory_filesystem_size memory_filesystem_sudo metadata metadata_backend
metadata_update_interval minimum_aspect_ratio minimum_image_size num_frame_spacing num_frames parquet path
preserve_data_backend_cache read_batch_size revision s2v_datasets scan_for_errors shorten_filenames skip_file_discovery
source_dataset_id split start_epoch start_step streaming target_downsample_size text_cache_disable text_cache_ondemand
text_embeds text_encoder_batch_size timestep_sampling_offset train_batch_size vae_batch_size vae_cache_clear_each_epoch
vae_cache_disable vae_cache_ondemand vae_cache_scan_behaviour validation_use_idx video video_column webshart write_batch_size
"""
USED = tuple(_USED.split())
IDLE = tuple(_IDLE.split())
ELSEWHERE = (
    *("text_embeds", "image_embeds", "conditioning_image_embeds", "conditioning", "audio", "eval", "caption", "grounding"),
    "distillation_cache",
)
NEAR = 0.8  # how alike an unknown field is to a known one when it is a misspelling
REMARK = re.compile(r"_|//|#|(?:comment|note|description)s?$", re.IGNORECASE)  # a field for readers
STYLES = {"center": Crop.CENTER, "random": Crop.RANDOM, "corner": Crop.CENTER, "face": Crop.CENTER}
MEGAPIXEL = 1e6
LEAST_SIDE = 16  # pixels
MOST_SIDE = 16384
MOST_BACKENDS = 1000
MOST_BYTES = 4 << 20  # of a dataset file
MOST_FIELDS = 200  # of a backend
MOST_UNKNOWN = 1000  # fields
MOST_FAULTS = 20  # that are told at once


class _Entry:
    """One backend, its faults and notes collected as it is read."""

    def __init__(self, number: int, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self.name = shown(fields.get("id") or f"number {number + 1}")
        self.faults: list[SliderError] = []
        self.notes: list[str] = []
        self.used = True

    def fault(self, text: str, problem: str) -> None:
        self.faults.append(SliderError(f'Backend "{self.name}": {text}', f"dataset_file.{problem}"))

    def note(self, text: str) -> None:
        self.notes.append(f'Backend "{self.name}": {text}')

    def number(self, key: str, default: float) -> float:
        value = self.fields.get(key)
        if value is None:
            return default
        if not is_number(value):
            self.fault(f"{key} must be a number, got {shown(json.dumps(value))}.", "number")
            return default
        return value

    def whole(self, key: str) -> int:
        value = self.number(key, 0)
        if value != int(value):
            self.fault(f"{key} must be a whole number, got {value}.", key)
        return int(value)

    def flag(self, key: str) -> bool:
        value = self.fields.get(key)
        if not isinstance(value, bool | None):
            self.fault(f"{key} must be true or false, got {shown(json.dumps(value))}.", "flag")
        return value is True

    def text(self, key: str) -> str:
        value = self.fields.get(key) or ""
        if isinstance(value, str):
            return value
        self.fault(f"{key} must be text, got {shown(json.dumps(value))}.", "text")
        return ""

    def one_of(self, key: str, default: str, choices: Sequence[str], refused: str = "is not known") -> str:
        """A text that is one of `choices`; a fault that names the nearest otherwise."""
        value = self.text(key) or default
        if value and value not in choices:
            self.fault(f'{key} "{shown(value)}" {refused}; {nearest(value, list(choices))}', key)
        return value


def _check_keys(entry: _Entry) -> None:
    idle = [key for key, value in entry.fields.items() if key in IDLE and value not in (None, "", False)]
    if idle:
        have = "has" if len(idle) == 1 else "have"
        entry.note(f"{', '.join(idle)} {have} no meaning here.")
    for key in entry.fields:
        if key in USED or key in IDLE or REMARK.match(key):
            continue
        meant = get_close_matches(key[:LONGEST_NAME], (*USED, *IDLE), 1, NEAR)
        if meant:
            entry.fault(f'field "{shown(key)}" is not known; {nearest(key, meant)}', "field")
        else:
            entry.note(f'field "{shown(key)}" is not known and was left out.')


def _captions(entry: _Entry) -> tuple[CaptionFrom, str | None, str]:
    """(strategy, one caption for all, trigger word before each)."""
    ours = (CaptionFrom.NONE, CaptionFrom.TEXTLINES)
    strategies = [member.value for member in CaptionFrom if member not in ours]
    strategy = entry.one_of("caption_strategy", CaptionFrom.TEXTFILE.value, strategies, "is not taken here")
    prompt = entry.text("instance_prompt")
    if strategy == CaptionFrom.INSTANCEPROMPT.value or entry.flag("only_instance_prompt"):
        if not prompt:
            entry.fault("the caption strategy instanceprompt needs an instance_prompt.", "instance_prompt")
        return CaptionFrom.INSTANCEPROMPT, prompt, ""
    captions = CaptionFrom.TEXTFILE
    if strategy in strategies:
        captions = CaptionFrom(strategy)
    if captions is CaptionFrom.TEXTFILE and not entry.flag("disable_multiline_split"):
        captions = CaptionFrom.TEXTLINES
    trigger = prompt if entry.flag("prepend_instance_prompt") else ""
    return captions, None, trigger


def _resolution(entry: _Entry) -> int:
    """The side in pixels of a square of the bucket's area; 0 where the file says nothing."""
    side = entry.number("resolution", 0)
    kind = entry.one_of("resolution_type", "pixel_area", ("area", "pixel_area", "pixel"))
    size = f"resolution {side:g} ({kind})"
    hint = ""
    if kind == "pixel":
        entry.note("resolution_type pixel is read as pixel_area: the area of a square with that side.")
    if kind == "area":
        side = max(side, 0) and (side * MEGAPIXEL) ** 0.5
    elif 0 < side < LEAST_SIDE:
        hint = ' With megapixels write "resolution_type": "area".'
    if side and not LEAST_SIDE <= side <= MOST_SIDE:
        entry.fault(f"{size} is out of range: {LEAST_SIDE} to {MOST_SIDE} pixels.{hint}", "resolution")
        return 0
    return round(side)


def _crop(entry: _Entry) -> Crop:
    if entry.fields.get("crop") is not None and not entry.flag("crop"):
        return Crop.NONE
    style = entry.one_of("crop_style", "center", list(STYLES))
    if style in ("corner", "face"):
        entry.note(f"crop_style {style} is read as center.")
    aspect = entry.text("crop_aspect")
    if aspect not in ("", "preserve", "closest"):
        entry.note(f"crop_aspect {aspect} is read as closest: the bucket that is nearest in shape.")
    return STYLES.get(style, Crop.CENTER)


def _left_out(entry: _Entry) -> bool:
    """Whether a backend is switched off or holds no images, with a note; what is no backend at all is a fault."""
    if entry.flag("disabled") or entry.flag("disable"):
        entry.note("disabled, left out.")
        return True
    kind = entry.one_of("dataset_type", "image", ("image", "video", *ELSEWHERE))
    if kind in ELSEWHERE:
        entry.note(f"dataset_type {kind} is not needed here, left out.")
    return kind in ELSEWHERE


def _bucket(entry: _Entry, base: Path) -> BucketSpec | None:
    """The bucket of a backend; None when it is left out or has a fault."""
    entry.used = not _left_out(entry)
    if not entry.used:
        return None
    _check_keys(entry)
    where = entry.text("type") or "local"
    if where != "local":
        entry.fault(f'type "{where}" is not taken here: put the images into a local folder.', "type")
    folder = entry.text("instance_data_dir")
    if not folder:
        entry.fault("instance_data_dir is missing: the folder of its images.", "folder")
    captions, caption, trigger = _captions(entry)
    strength = float(entry.number("slider_strength", 0.0))
    repeats = entry.whole("repeats")
    most = entry.whole("max_num_samples")
    probability = entry.number("probability", 1.0)
    resolution = _resolution(entry)
    crop = _crop(entry)
    if entry.faults:
        return None
    try:
        text = (caption, captions, trigger, entry.name)
        return BucketSpec(str(base / folder), strength, *text, probability, repeats, resolution, crop, most)
    except SliderError as fault:
        entry.faults.append(fault)
        return None


def _backends(path: Path) -> list[dict[str, Any]]:
    """What a dataset file holds; SliderError when it is no list of objects."""
    backends: Any = read_json(path, "Dataset file", "dataset_file.unreadable", MOST_BYTES, "dataset_file.json")
    listed = isinstance(backends, list) and len(backends) > 0 and all_are(dict, backends)
    wanted = "a list of backends is needed, each with an id and an instance_data_dir"
    need(listed, f"Dataset file {path}: {wanted}.", "dataset_file.list")
    many = f"Dataset file {path}: {len(backends)} backends; {MOST_BACKENDS} at most, of {MOST_FIELDS} fields."
    small = len(backends) <= MOST_BACKENDS and all(len(entry) <= MOST_FIELDS for entry in backends)
    need(small, many, "dataset_file.too_many")
    unknown = sum(key not in USED and key not in IDLE for entry in backends for key in entry)
    foreign = f"Dataset file {path}: {unknown} fields in it are not known; {MOST_UNKNOWN} at most."
    need(unknown <= MOST_UNKNOWN, foreign, "dataset_file.too_many")  # each is compared with all that are known
    return backends


def read_dataset_file(path: Path) -> tuple[list[BucketSpec], list[str]]:
    """(buckets, notes) of a dataset file; folders are relative to the file's own. SliderError that lists every fault."""
    entries = [_Entry(number, fields) for number, fields in enumerate(_backends(path))]
    buckets = []
    faults: list[SliderError] = []
    notes: list[str] = []
    for entry in entries:
        bucket = _bucket(entry, path.parent)
        if bucket is not None:
            buckets.append(bucket)
        faults += entry.faults
        notes += entry.notes
    for name, count in Counter(entry.name for entry in entries if entry.used).items():
        if count > 1:
            faults.append(SliderError(f'Two backends have the id "{name}".', "dataset_file.id"))
    if faults:
        shown_faults = [SliderError(f"{path.name}: {fault}", fault.code) for fault in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            shown_faults.append(SliderError(f"{path.name}: and {len(faults) - MOST_FAULTS} more faults.", "dataset_file.more"))
        raise joined(shown_faults)
    return buckets, notes
