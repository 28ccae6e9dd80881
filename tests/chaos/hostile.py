"""Every door through which something from outside comes in, and hostile inputs for it (grammar.py).

Whatever comes in, the answer is a value or a SliderError in words, within HANG_S seconds and MEMORY bytes. Each kind has a
process of its own, which ends where an input breaks that.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chaos import grammar
from chaos.forks import all_of, limit_memory
from core.conftest import LinearBackend, samples_of
from core.nets import make_net
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save

import slider_core.__main__ as program
from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.config.names import check_file_name, file_stem
from slider_core.config.sweep import SweepSpec, parse_strengths
from slider_core.config.training import SaveSpec, TrainSpec
from slider_core.data.bitmap import load_image
from slider_core.data.bitmap_clip import load_clip, look
from slider_core.data.bucket_spec import BucketSpec, DatasetSpec, TextSliderSpec
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.data.pairs_report import examined
from slider_core.data.simpletuner import IDLE, USED, read_dataset_file
from slider_core.encode.cache_entry import DAMAGED, from_bytes, to_bytes
from slider_core.layers.layer import Target
from slider_core.layers.select import survey
from slider_core.lora.info import READERS, TEXTS, SliderInfo
from slider_core.lora.keys import placed, with_ratio
from slider_core.lora.lycoris_config import KEYS, PRESET_KEYS, read_lycoris
from slider_core.lora.manager_files import manager_files
from slider_core.lora.safe_files import atomic_write, check_writable, write_folder
from slider_core.lora.safetensors_file import read_metadata, with_header
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider, save_slider
from slider_core.train.trainer import Trainer
from slider_core.train.training_file import KEY, load_run, save_run
from slider_core.train.training_saves import run_file
from slider_core.use.prompt_library import parse_prompts, read_prompts
from slider_core.use.schedule import Window, parse_points
from slider_core.with_tiny.model import TinyBackend

HANG_S = 5
MEMORY = 1 << 30
SHOWN = 800  # characters of an input in a report
FIELDS = ("modelspec.thumbnail", "modelspec.title", "modelspec.date", "ss_network_alpha", "format")
INFO = (*(f"slider_{name}" for name in (*TEXTS, *READERS)), *FIELDS)
PEFT = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_dora", "use_rslora")
RUN = ("version", "name", "mark", "fingerprint", "training", "step", "readings", "probed", "groups", "optimizer")
Door = Callable[[Any], object]


class Place:
    """A folder for the files of one kind, and what its doors need ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.module = TinyBackend().module
        self.net = make_net()  # it has the layer of grammar.good_lora

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(grammar.encoded(content) if isinstance(content, str) else content)
        return path

    def slider(self, path: Path) -> Slider:
        slider = load_slider(path)
        slider.summary()
        cut = slider.cut()
        Adapter.from_weights(self.net, with_ratio(placed(cut.weights, self.net), self.net))
        out = self.folder / "out.safetensors"
        save_slider(out, slider, overwrite=True)  # what is read can be written
        manager_files(out, slider.info)
        return slider


def safetensors_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    texts = st.dictionaries(st.one_of(st.sampled_from(INFO), grammar.words()), st.one_of(grammar.words(), grammar.json_texts(())))
    return grammar.safetensors_files(texts), lambda content: place.slider(place.file("x.safetensors", content))


def pickle_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    return grammar.pickle_files(), lambda content: place.slider(place.file("x.pt", content))


def peft_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    state = {key.replace(grammar.STEMS[0], "base_model.model.plain"): value for key, value in grammar.good_lora().items()}
    weights = place.file(f"peft/{PEFT_WEIGHTS}", save(state))

    def door(config: str) -> None:
        place.file(f"peft/{PEFT_CONFIG}", config)
        place.slider(weights.parent)

    numbers = st.one_of(st.sampled_from(grammar.NUMBERS), grammar.json_texts(("plain", "a.plain", "(a+)+")))
    mostly = grammar.objects(PEFT[3:], numbers).map(partial(grammar.with_fields, '"lora_alpha": 1, "r": 2'))
    return st.one_of(mostly, grammar.objects(PEFT), grammar.json_texts(PEFT)), door


def header_kind(_place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    values = st.one_of(grammar.json_texts(("lower", "upper", "points", "unit", "a")), grammar.words())
    return st.dictionaries(st.sampled_from(INFO), values, max_size=6), lambda header: SliderInfo.from_header(header).summary({})


def run_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    """A saved run whose header has other values: what is read of it, and what a training would go on with."""

    def trainer() -> Trainer:
        adapter = Adapter.create(LinearBackend().module, [Target("mix")], AdapterSpec(rank=2), seed=3)
        return Trainer(adapter, samples_of(4), TrainSpec())

    good = place.folder / "good.safetensors"
    save_run(good, "s", {}, trainer())
    content = good.read_bytes()
    tensors, header = load(content), read_metadata(good)[KEY]

    def door(change: tuple[str, str, str | None]) -> None:
        name, value, whole = change
        fields = {key: json.dumps(part) for key, part in json.loads(header).items()} | {name: value}
        text = whole or "{" + ", ".join(f"{json.dumps(key)}: {part}" for key, part in fields.items()) + "}"
        text = text.encode("utf-8", "replace").decode()
        path = place.file("s.run.safetensors", with_header(save(tensors), {KEY: text}))
        load_run(path).restore(trainer())

    values = grammar.json_texts((*RUN, "params", "lr", "0", "1"))
    training = grammar.objects(tuple(TrainSpec.__dataclass_fields__)).map(json.dumps)
    names = st.sampled_from(RUN)
    return st.one_of(
        st.tuples(names, values, st.none()),
        st.tuples(st.just("training"), training, st.none()),
        st.tuples(names, values, grammar.json_texts(RUN)),
    ), door


def dataset_file_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    Image.new("RGB", (32, 32)).save(place.folder / "1.png")
    backends = grammar.objects((*USED, *USED, *IDLE[:20], "slider_strenght", "_comment"))
    good = '"id": "a", "instance_data_dir": ".", "caption_strategy": "filename"'
    others = grammar.objects((*USED[2:], *IDLE[:20], "slider_strenght"))
    backends = st.one_of(backends, others.map(partial(grammar.with_fields, good)))
    files = st.lists(backends, max_size=4).map(lambda parts: f"[{', '.join(parts)}]")

    def door(text: str) -> None:
        buckets, notes = read_dataset_file(place.file("data.json", text))
        read_dataset(buckets, notes=notes, roots=[place.folder])

    return st.one_of(*[files] * 6, grammar.json_texts(USED)), door


def prompts_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    names = ("prompt", "caption", "tags", "adapter_strength", "adapter_strenght", "plain")

    def door(text: str) -> None:
        with contextlib.suppress(SliderError):
            parse_prompts(text).summary(1.0)
        library = read_prompts(place.file("prompts.json", text))
        library.summary(0.5)
        library.prompts()

    entries = st.dictionaries(st.sampled_from(("a", "b", "")), grammar.objects(names), max_size=3)
    made = entries.map(lambda fields: "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}")
    return st.one_of(*[made] * 5, grammar.json_texts(names)), door


def lycoris_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    names = (*KEYS, *PRESET_KEYS)

    def door(text: str) -> None:
        spec, _ = read_lycoris(text, AdapterSpec())
        survey(place.module, spec).report()

    inner = grammar.objects(PRESET_KEYS)
    made = st.builds(lambda preset, text: grammar.with_fields(f'"apply_preset": {preset}', text), inner, grammar.objects(KEYS))
    return st.one_of(*[made] * 5, grammar.objects(names), grammar.json_texts(names)), door


def caption_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    for side in ("positive", "negative"):
        (place.folder / "set" / side).mkdir(parents=True)
        Image.effect_noise((32, 32), 50).convert("RGB").save(place.folder / "set" / side / "1.png")

    def door(caption: tuple[str, bytes]) -> None:
        name, content = caption
        path = place.file(f"set/positive/{name}", content)
        try:
            read_dataset(bucket_folders(place.folder / "set"), roots=[place.folder])
        finally:
            path.unlink()

    contents = st.one_of(grammar.json_texts(("caption", "prompt", "tags")).map(grammar.encoded), st.binary(max_size=64))
    names = st.sampled_from(("1.txt", "1.json", "1.caption", "metadata.csv", "metadata.jsonl"))
    cells = st.one_of(
        st.sampled_from(("file_name", "strength", "text", "1.png", "/etc/1.png", "../2.png", '"', "-0.5")), grammar.words()
    )
    rows = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=4)
    tables = rows.map(lambda lines: grammar.encoded("\n".join(["file_name,strength,text", *lines])))
    large = st.sampled_from((b"x" * 70_000, b"\xff\xfe" * 40_000, bytes(65536)))
    return st.tuples(names, st.one_of(contents, tables, large)), door


def picture_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    def door(picture: tuple[str, bytes]) -> None:
        path = place.file(f"x{picture[0]}", picture[1])
        for read in (look, load_image, partial(load_clip, frames=2)):
            try:
                read(path)
            except SliderError as fault:
                in_words(fault)
        look(path, 256)

    return st.tuples(st.sampled_from((".png", ".jpg", ".gif", ".tiff", ".mp4", ".webm", ".webp")), grammar.pictures()), door


def dataset_folder_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    """Folders that hold pipes, sockets, devices, loops of links, names that are no text, files without end."""
    makers = ("image", "pipe", "loop", "device", "outside", "sparse", "folder", "nowhere", "text", "bytes", "deep")
    names = st.sampled_from(
        ("1.png", "1.txt", "2.png", "1.json", "1_mask.png", "masks", "3.gif", "4.mp4", "\udcff.png", "a" * 250)
    )
    numbers = iter(range(10**9))

    def door(found: list[tuple[str, str, str]]) -> None:
        root = place.folder / f"set {next(numbers)}"
        for side in ("positive", "negative"):
            (root / side).mkdir(parents=True)
            Image.effect_noise((32, 32), 50).convert("RGB").save(root / side / "0.png")
        for side, name, maker in found:
            _made(root / side / name, maker)
        examined(read_dataset(bucket_folders(root), roots=[root]))

    return st.lists(st.tuples(st.sampled_from(("positive", "negative", ".")), names, st.sampled_from(makers)), max_size=5), door


def _made(path: Path, maker: str) -> None:
    if os.path.lexists(path):
        return
    if maker == "image":
        Image.effect_noise((32, 32), 50).convert("RGB").save(path, "PNG")
    elif maker == "pipe":
        os.mkfifo(path)
    elif maker == "sparse":
        with path.open("wb") as file:
            file.truncate(3 << 30)
    elif maker == "folder":
        path.mkdir()
    elif maker == "deep":
        for _ in range(12):
            path = path / "d"
        path.mkdir(parents=True)
    elif maker in ("text", "bytes"):
        path.write_bytes(b"a face" if maker == "text" else bytes(range(256)))
    else:
        path.symlink_to({"loop": path, "device": "/dev/zero", "outside": "/etc", "nowhere": "/gone"}[maker])


def name_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    slider = Slider(
        Adapter.create(place.module, survey(place.module, AdapterSpec(rank=1)).targets[:1], AdapterSpec(rank=1)).weights()
    )
    whole = place.folder / "whole"

    def door(name: str) -> None:
        run_file(whole, name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(whole / f"{file_stem(name)}.x", b"x", overwrite=True)
        for work in (check_file_name, SliderInfo(name=name).labelled):
            try:
                work(name, name)
            except SliderError as fault:
                in_words(fault)
        target = place.folder / "out" / name
        folder = partial(write_folder, place.folder / "folders" / name, {"a": b"x"}, overwrite=True)
        for write in (partial(check_writable, target.parent, name), partial(atomic_write, target, b"x"), folder):
            try:
                write()
            except SliderError as fault:
                in_words(fault)
        save_slider(place.folder / "out" / f"{name}.safetensors", slider, overwrite=True)

    return grammar.words().filter(lambda name: ".." not in name and not name.startswith("/")), door


def choice_kind(_place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    """Texts of inputs, and choices as JSON."""
    specs = (TrainSpec, AdapterSpec, SaveSpec, SweepSpec, BucketSpec, DatasetSpec, TextSliderSpec)
    numbers = st.one_of(grammar.words(), st.lists(st.sampled_from(grammar.NUMBERS), max_size=4).map(":".join))
    lists = st.lists(numbers, max_size=4).map(", ".join)
    chosen = st.sampled_from(specs).flatmap(
        lambda spec: st.tuples(
            st.just(spec), st.one_of(grammar.objects(tuple(spec.__dataclass_fields__)), grammar.json_texts(()))
        )
    )

    def door(value: tuple[Any, str]) -> None:
        kind, text = value
        if kind == "window":
            Window(0.0, 1.0, parse_points(text))
        elif kind == "strengths":
            parse_strengths(text)
        else:
            kind.from_json(text)

    return st.one_of(chosen, chosen, st.tuples(st.sampled_from(("window", "strengths")), lists)), door


def command_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    """Options of the command line; files that are none."""
    os.chdir(place.folder)
    names = (
        "--steps",
        "--lr",
        "--rank",
        "--alpha",
        "--algorithm",
        "--optimizer",
        "--out",
        "--seed",
        "--dataset",
        "--lycoris-config",
    )
    values = st.one_of(grammar.words(), st.sampled_from(grammar.NUMBERS), st.sampled_from(("/dev/zero", ".", "x.safetensors")))
    options = st.lists(st.tuples(st.sampled_from(names), values), max_size=5)
    commands = st.sampled_from((("train",), ("export", "--slider"), ("doctor",), ("sweep", "--slider")))

    def door(line: tuple[tuple[str, ...], list[tuple[str, str]]]) -> None:
        command, options = line
        try:
            code = program.main([*command, *(f"{name}={value}" for name, value in options)])
        except SystemExit as end:
            code = end.code
        if code != 2:
            raise AssertionError(f"exit status {code}")
        raise SliderError("refused", "refused")

    return st.tuples(commands, options), door


def cache_kind(place: Place) -> tuple[st.SearchStrategy[Any], Door]:
    """Entries of the cache of encoded images."""
    good = to_bytes("0" * 64, {"a": grammar.good_lora()[f"{grammar.STEMS[0]}.lora_A.weight"], "b": [1, "x", (2.5,)]}, 1 << 20)
    texts = st.fixed_dictionaries(
        {"format": st.just("slider_cache.v1"), "structure": grammar.json_texts(("value", "tensors", "dict"))}
    )

    def door(content: bytes) -> None:
        try:
            from_bytes("0" * 64, content)
        except DAMAGED as fault:
            raise SliderError(str(fault), "damaged") from None

    return st.one_of(grammar.damaged(st.just(good)), grammar.safetensors_files(texts)), door


KINDS: dict[str, Callable[[Place], tuple[st.SearchStrategy[Any], Door]]] = {
    "safetensors files": safetensors_kind,
    ".pt files": pickle_kind,
    "PEFT configurations": peft_kind,
    "headers of sliders": header_kind,
    "run files": run_kind,
    "dataset files": dataset_file_kind,
    "prompt libraries": prompts_kind,
    "LyCORIS configurations": lycoris_kind,
    "captions": caption_kind,
    "images and clips": picture_kind,
    "folders of datasets": dataset_folder_kind,
    "names of files": name_kind,
    "texts and choices of inputs": choice_kind,
    "command lines": command_kind,
    "entries of the cache": cache_kind,
}


def in_words(fault: SliderError) -> None:
    """An error that a user can read: it has a code, can be written in UTF-8, and holds no words of the system."""
    text = str(fault)
    text.encode()
    if not fault.code or "[Errno" in text or "Traceback" in text or len(text) > 20_000:
        raise AssertionError(f"an error that is none: {fault.code!r} {text[:SHOWN]}")


def tried(folder: Path, kind: str, count: int, start: int) -> dict[str, Any]:
    """So many inputs of a kind; ends with a traceback at the first that breaks."""
    values, door = KINDS[kind](Place(folder / kind))
    seen: dict[str, Any] = {"tried": 0, "refused": 0}
    codes: Counter[str] = Counter()
    faulthandler.enable()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit_memory(MEMORY)
    last, trace = folder / f"{kind}.last", folder / f"{kind}.trace"

    @seed(start)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(values)
    def each(value: Any) -> None:
        last.write_text(ascii(value)[:SHOWN])
        seen["tried"] += 1
        begun = time.monotonic()
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            door(value)
        except SliderError as fault:
            in_words(fault)
            seen["refused"] += 1
            codes[fault.code] += 1
        except BaseException:
            trace.write_text(traceback.format_exc()[-SHOWN * 4 :])  # without hypothesis' own, which prints its strategies
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - begun > HANG_S:
            raise AssertionError(f"{time.monotonic() - begun:.1f} s")

    each()
    seen["codes"] = codes.most_common()
    seen["kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seen


def hostile_inputs(root: Path, count: float, start: int, at_once: int) -> dict[str, list[dict[str, Any]]]:
    """The results of about `count` inputs, of every kind alike."""
    folder = root / "inputs"
    folder.mkdir()
    most = max(1, round(count / len(KINDS)))
    results = all_of([partial(tried, folder, kind, most, start) for kind in KINDS], at_once)
    for kind, result in zip(KINDS, results, strict=True):
        last = folder / f"{kind}.last"
        if "fault" in result and last.exists():
            trace = folder / f"{kind}.trace"
            result["fault"] = trace.read_text() if trace.exists() else result["fault"]
            result["fault"] += f"\nlast input: {last.read_text()}"
            result["tried"] = 0
    sys.stdout.flush()
    return {f"hostile inputs: {kind}": [result] for kind, result in zip(KINDS, results, strict=True)}
