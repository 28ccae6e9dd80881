"""SaveSliderLoRA and LoadSliderLoRA: sliders in models/loras, where every LoRA loader finds them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io, ui

from ..slider_core.config.checks import SliderError, need, reason, shown
from ..slider_core.config.lora import FileDtype, FileFormat
from ..slider_core.config.names import check_file_name, file_stem, nested_stem
from ..slider_core.config.regular_files import inside
from ..slider_core.data.fitting import to_pil
from ..slider_core.lora.info import SliderInfo
from ..slider_core.lora.manager_files import manager_files as sidecars
from ..slider_core.lora.safe_files import atomic_write
from ..slider_core.lora.same_slider import Holds, holds
from ..slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider
from ..slider_core.lora.thumbnail import thumbnail
from ..slider_core.train.progress_verdict import refuse_useless
from ..slider_core.with_comfy.layer_names import architecture
from ..slider_core.with_comfy.slider_saving import save_proven
from .checked_inputs import refusal
from .file_options import FileOptions
from .messages import files_changed, say
from .sockets import USE_MENU, FileOptionsSocket, SliderSocket, option

FORMAT = "native: every loader of ComfyUI. kohya: sd-scripts. diffusers, lycoris, peft (a folder): for those programs."
STRICT = "On: a file with any part that cannot be applied is an error. Off: what fits is loaded, and the rest is counted."
NAME = "Place and name under models/loras; folders are made. Empty: sliders/ and the training's name."
OVERWRITE = "On: the file of that name is replaced, whatever it holds. Off: only an earlier state of the same slider."
SAFETENSORS = ".safetensors"
LOADED = "For Slider LoRA Apply, Slider Strength Sweep, or start_from of Slider Train Step."
MODEL = "The model the slider is for, when it was not trained in this session: to try the file, and to find its layers."


def lora_path(name: str) -> Path | None:
    """The file of that name in ComfyUI's LoRA folders, when it really lies in one of them, as must a configuration beside it."""
    found = folder_paths.get_full_path("loras", name)
    if found is None:
        return None
    path, homes = Path(found), [Path(folder) for folder in folder_paths.get_folder_paths("loras")]
    beside = path.with_name(PEFT_CONFIG)
    files = (path, beside) if os.path.lexists(beside) else (path,)
    return path if all(inside(file, homes) for file in files) else None


def found_path(name: str) -> Path:
    """The file of that name in the LoRA list. SliderError when it is gone."""
    path = lora_path(name)
    gone = f'LoRA "{shown(name)}" not found in models/loras, or it leads out of there. Press R to refresh the list.'
    need(path is not None, gone, "lora.not_found")
    return path


def load_by_name(name: str, strict: bool = False) -> Slider:
    """A slider by its name in the LoRA list. SliderError when it is gone or no slider, or not whole where `strict`."""
    return load_slider(found_path(name), strict)


def file_fingerprint(name: str) -> str:
    """Changes when the file of that name changes, so that it is read again."""
    path = lora_path(name)
    if path is None:
        return name
    files = [p for p in (path, path.with_name(PEFT_CONFIG)) if p.is_file()]
    return str([(str(p), p.stat().st_mtime_ns) for p in files])


@dataclass(frozen=True)
class Root:
    """A folder that files are saved below: what a message calls it, an example of a place in it, the input that names one."""

    folder: str
    called: str
    example: str
    what: str = "filename_prefix"


def loras() -> Root:
    """Where sliders are saved."""
    return Root(folder_paths.get_folder_paths("loras")[0], "models/loras", "sliders/my_slider", "name")


def check_place(prefix: str, root: Root) -> str:
    """What a message calls the place. SliderError when no file can have that name, or it leads out of the root."""
    where = f'{root.what} "{shown(prefix)}"'
    wanted = Path(os.path.normpath(prefix))
    need(bool(wanted.name.strip(". ")), f"{where} has no name at its end: write {root.example}.", "file.no_name")
    for part in wanted.parts:
        if part not in ("..", wanted.anchor):
            check_file_name(part, root.what)
    outside = f"{where} leads out of {root.called}, perhaps by a link: choose another folder."
    real = Path(os.path.realpath(Path(root.folder, wanted.parent)))  # before ComfyUI makes folders there
    need(real.is_relative_to(os.path.realpath(root.folder)), outside, "file.outside")
    return where


def next_free(prefix: str, root: Root) -> tuple[str, str, int, str]:
    """Folder, name, next free number and folder below the root, as ComfyUI numbers its files. SliderError for another place."""
    where = check_place(prefix, root)
    try:
        folder, name, counter, inner, _ = folder_paths.get_save_image_path(prefix, root.folder)
    except Exception as fault:  # core's own, of no class, when the place lies elsewhere
        raise SliderError(f"{where} must stay under {root.called} ({reason(fault)}).", "file.outside") from None
    return folder, name, counter, inner


@dataclass(frozen=True)
class SavePlace:
    """Where a slider goes, and what the file that lies there is to it. `taken`: the file of the wanted name, which another slider
    has. `kept`: where the file of the training that it was begun in place of is moved to."""

    path: Path
    there: Holds | None = None
    taken: Path | None = None
    kept: Path | None = None

    def lines(self) -> list[str]:
        """Why it is not the file of that name, and where that of the training before went."""
        said = []
        if self.taken is not None:
            said.append(f"{listed_as(self.taken)} holds another slider and stays as it is; overwrite would replace it.")
        if self.kept is not None:
            said.append(f"The file of the training before the restart is kept as models/loras/{listed_as(self.kept)}")
        return said


def listed_as(path: Path) -> str:
    """A file's name in the LoRA list."""
    return path.relative_to(loras().folder).as_posix()


def place(name: str, form: FileFormat, dtype: FileDtype, info: SliderInfo, overwrite: bool) -> SavePlace:
    """The file of that name, unless another slider has it; then the first number that is free or is this slider's own."""
    folder, stem, *_ = next_free(name, loras())
    ending = "" if form is FileFormat.PEFT else SAFETENSORS
    wanted = Path(folder) / f"{stem}{ending}"
    for path in numbered(wanted):
        found = holds(path, info, form, dtype) if path.exists() else None
        if overwrite or found is not Holds.ANOTHER:
            kept = None
            if found is Holds.REPLACED and not overwrite:
                before = path.with_name(f"{path.name.removesuffix(ending)}_before_restart{ending}")
                kept = next(free for free in numbered(before) if not os.path.lexists(free))
            return SavePlace(path, found, None if path == wanted else wanted, kept)
    raise AssertionError


def numbered(path: Path) -> Iterator[Path]:
    """A file's place, and further ones with a number after its name: _2, _3 ..."""
    yield path
    ending = path.suffix if path.suffix == SAFETENSORS else ""
    for number in count(2):
        yield path.with_name(f"{path.name.removesuffix(ending)}_{number}{ending}")


def own_place(slider: Slider) -> str:
    """The place and name of a slider's file when the user gives none, with the folders in its name unless saved without."""
    name = slider.info.name or "my_slider"
    flat = f"sliders/{file_stem(name)}"
    there = any(os.path.lexists(Path(loras().folder, f"{flat}{ending}")) for ending in (SAFETENSORS, ""))
    return flat if there else f"sliders/{nested_stem(name)}"


def described(slider: Slider, minus: str = "", plus: str = "", preview: torch.Tensor | None = None, trigger: str = "") -> Slider:
    """The slider with the user's labels, trigger word and picture in its header."""
    info = slider.info.labelled(minus, plus)
    info = replace(info, trigger=trigger.strip() or info.trigger)
    if preview is not None:
        info = replace(info, thumbnail=thumbnail(to_pil(preview[0].movedim(-1, 0))))
    return replace(slider, info=info)


def write_manager_files(file: Path, slider: Slider, overwrite: bool, model: Any) -> str:
    """Put what ComfyUI-Lora-Manager reads beside a saved slider. A line that says so."""
    if model is not None and not slider.info.architecture:
        slider = replace(slider, info=replace(slider.info, architecture=architecture(model)))
    files = sidecars(file, slider.info)
    for place, content in files.items():
        atomic_write(place, content, overwrite)
    return f"Beside it, for a LoRA manager: {', '.join(sorted(place.name for place in files))}"


class SaveSliderLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveSliderLoRA",
            display_name="Save Slider LoRA",
            category=USE_MENU,
            description="Saves a slider under models/loras, so that Load LoRA and every other loader lists it. The file is read "
            "back through ComfyUI's own loader and compared. One slider is one file: trained on, it replaces its earlier "
            "state; the file of another slider is left alone unless overwrite is on.",
            search_aliases=["export slider", "save lora", "kohya", "peft", "lycoris"],
            is_output_node=True,
            inputs=[
                SliderSocket.Input("slider", tooltip="From Slider Train Step or Load Slider LoRA."),
                io.String.Input("name", default="", placeholder="as trained", tooltip=NAME),
                option("plus", io.String, "", "What +1 shows: smiling, night, thick.", placeholder="label of +1"),
                option("minus", io.String, "", "What -1 shows: sad, day, thin.", placeholder="label of -1"),
                option("format", io.Combo, FileFormat.NATIVE, FORMAT, options=FileFormat),
                option("overwrite", io.Boolean, False, OVERWRITE),
                option("force", io.Boolean, False, "On: saved even where the slider has no effect or is burnt."),
                FileOptionsSocket.Input("options", optional=True, tooltip="From Slider File Options."),
                io.Model.Input("model", optional=True, tooltip=MODEL),
                io.Image.Input("preview", optional=True, tooltip="A strip or picture for the file's thumbnail."),
            ],
            outputs=[
                io.String.Output(display_name="lora_name", tooltip="The name in the LoRA list."),
                io.String.Output(display_name="report", tooltip="What was saved, and how the file does in ComfyUI's own loader."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return refusal(check_place, (name or "").strip() or None, loras())

    @classmethod
    def execute(
        cls,
        slider: Slider,
        name: str,
        plus: str = "",
        minus: str = "",
        format: str = FileFormat.NATIVE.value,
        overwrite: bool = False,
        force: bool = False,
        options: FileOptions | None = None,
        model: Any = None,
        preview: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        if not force:
            refuse_useless(slider.info)
        form = FileFormat(format)
        options = options or FileOptions()
        dtype = FileDtype(options.dtype)
        slider = described(slider, minus, plus, preview, options.trigger)
        where = place(name.strip() or own_place(slider), form, dtype, slider.info, overwrite)
        path, there = where.path, where.there
        file = path / PEFT_WEIGHTS if form is FileFormat.PEFT else path
        listed = listed_as(file)
        replacing = there is not None
        if there is Holds.THE_SAME and not overwrite:
            lines = [f"models/loras/{listed} holds this slider already: it was not written again."]
        else:
            earlier = " (in place of its earlier state)" if there is Holds.EARLIER else ""
            notes = save_proven(path, slider, form, dtype, replacing, model, where.kept)
            lines = [
                f"Saved models/loras/{listed}{earlier}",
                *where.lines(),
                "Every LoRA loader lists it.",
                *notes,
            ]
            files_changed()
        if options.manager_files:
            lines.append(write_manager_files(file, slider, replacing, model))
        report = "\n".join(lines)
        return io.NodeOutput(listed, report, ui=ui.PreviewText(report))


class LoadSliderLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadSliderLoRA",
            display_name="Load Slider LoRA",
            category=USE_MENU,
            description="Reads a saved slider or any other LoRA (kohya, diffusers, LyCORIS, PEFT; Concept Sliders, SimpleTuner, "
            "ai-toolkit), for Slider LoRA Apply, Slider Strength Sweep, or to train on in Slider Train Step.",
            search_aliases=["open slider", "import lora"],
            inputs=[
                io.Combo.Input("file", options=folder_paths.get_filename_list("loras"), tooltip="From models/loras."),
                option("strict", io.Boolean, False, STRICT),
            ],
            outputs=[
                SliderSocket.Output(display_name="slider", tooltip=LOADED),
                io.String.Output(display_name="info", tooltip="What the file says of itself, and what of it was left out."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, strict: bool = False) -> str:
        return file_fingerprint(file) + str(strict)

    @classmethod
    def execute(cls, file: str, strict: bool = False) -> io.NodeOutput:
        slider = load_by_name(file, strict)
        if slider.left_out:
            say("\n".join(slider.left_out_lines()))
        return io.NodeOutput(slider, slider.summary())


NODES = [SaveSliderLoRA, LoadSliderLoRA]
