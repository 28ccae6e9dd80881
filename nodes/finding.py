"""SliderFinding and SaveSliderSweep: what a sweep showed, written into the slider, and the sweep itself as files."""

from dataclasses import replace
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..slider_core.config.checks import need
from ..slider_core.lora.safe_files import atomic_write
from ..slider_core.lora.slider_file import Slider
from ..slider_core.lora.useful_range import ranged_by_hand
from ..slider_core.use.sweep_export import ShownSweep, animation, page, png
from .checked_inputs import refusal
from .files import Root, check_place, next_free
from .inputs import MOST_STRENGTH, strength_input
from .sockets import USE_MENU, SliderSocket, SweepSocket

LOW = "What the low end shows: sad, day. Empty: as it was."
HIGH = "What the high end shows: smiling, night. Empty: as it was."
WEB = Path(__file__).resolve().parent.parent / "web"
WEBP = "From the lowest strength to the highest and back, without end; clips play beside each other, with a still beside it."
MS = "Of the WebP, milliseconds; clips have their own."
MODULES = ("scrubber.mjs", "scrubber_view.mjs")  # each after those that it imports


def check_order(lowest: float, highest: float) -> None:
    """SliderError unless these are two ends of a range of strengths."""
    ends = max(abs(lowest), abs(highest))
    need(ends <= MOST_STRENGTH, f"Slider Finding: lowest and highest are at most {MOST_STRENGTH:g} from 0.", "range.order")
    message = f"Slider Finding: lowest ({lowest:g}) must be below highest ({highest:g})."
    need(lowest < highest, message, "range.order")


def check_kinds(webp: bool, page: bool) -> None:
    """SliderError when nothing is to be saved."""
    need(webp or page, "Save Slider Sweep: switch webp or page on.", "sweep.nothing_to_save")


class SliderFinding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderFinding",
            display_name="Slider Finding",
            category=USE_MENU,
            description="Writes what you saw in a sweep into the slider: the range of useful strengths, a label for each end. "
            "Save Slider LoRA keeps it in the file; the scrubber shows it.",
            search_aliases=["slider range", "slider labels", "recommended strength"],
            inputs=[
                SliderSocket.Input("slider", tooltip="From Slider Train Step or Load Slider LoRA."),
                strength_input("lowest", -1.0, "Lowest useful strength."),
                strength_input("highest", 1.0, "Highest useful strength."),
                io.String.Input("minus", default="", placeholder="as it was", tooltip=LOW),
                io.String.Input("plus", default="", placeholder="as it was", tooltip=HIGH),
            ],
            outputs=[
                SliderSocket.Output(display_name="slider", tooltip="The same slider with what you found, for Save Slider LoRA."),
                io.String.Output(display_name="info", tooltip="What the slider says of itself now."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lowest: float | None = None, highest: float | None = None) -> bool | str:
        return refusal(check_order, lowest, highest)

    @classmethod
    def execute(cls, slider: Slider, lowest: float, highest: float, minus: str, plus: str) -> io.NodeOutput:
        check_order(lowest, highest)
        info = ranged_by_hand(slider.info.labelled(minus, plus), lowest, highest)
        slider = replace(slider, info=info)
        return io.NodeOutput(slider, slider.summary())


def output() -> Root:
    """Where sweeps and their figures are saved."""
    return Root(folder_paths.get_output_directory(), "output", "sliders/sweep")


def check_prefix(prefix: str) -> None:
    """SliderError unless files of that prefix can lie in the output folder."""
    check_place(prefix, output())


def free_place(prefix: str) -> tuple[Path, str]:
    """Where files of that prefix go under the output folder, with the next free number, and the folder as a browser names it."""
    folder, name, counter, inner = next_free(prefix, output())
    return Path(folder) / f"{name}_{counter:05}_", inner


def write_all(files: dict[Path, bytes]) -> None:
    """Every file or none."""
    written: list[Path] = []
    try:
        for path, content in files.items():
            atomic_write(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


class SaveSliderSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveSliderSweep",
            display_name="Save Slider Sweep",
            category=USE_MENU,
            description="Saves a sweep in the output folder: as an animated WebP, and as one HTML page with a scrubber that "
            "works anywhere, offline too.",
            search_aliases=["export sweep", "slider animation", "webp", "html"],
            is_output_node=True,
            inputs=[
                SweepSocket.Input("sweep", tooltip="From Slider Strength Sweep."),
                io.String.Input("filename_prefix", default="sliders/sweep", tooltip="Under the output folder; folders are made."),
                io.Boolean.Input("webp", default=True, tooltip=WEBP),
                io.Boolean.Input("page", default=True, tooltip="One HTML file with the pictures in it."),
                io.Int.Input(
                    "frame_ms",
                    default=150,
                    min=20,
                    max=5000,
                    advanced=True,
                    tooltip=MS,
                ),
                io.Int.Input("quality", default=90, min=1, max=100, advanced=True, tooltip="Of the pictures."),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="What was saved where.")],
        )

    @classmethod
    def validate_inputs(
        cls, filename_prefix: str | None = None, webp: bool | None = None, page: bool | None = None
    ) -> bool | str:
        kinds = refusal(check_kinds, webp, page)
        return kinds if kinds is not True else refusal(check_prefix, filename_prefix)

    @classmethod
    def execute(
        cls, sweep: ShownSweep, filename_prefix: str, webp: bool, page: bool, frame_ms: int, quality: int
    ) -> io.NodeOutput:
        check_kinds(webp, page)
        place, inner = free_place(filename_prefix)
        files = {place.with_name(f"{place.name}.webp"): animation(sweep, frame_ms, quality)} if webp else {}
        strip = sweep.strip()
        if webp and strip is not None:
            files[place.with_name(f"{place.name}.png")] = png(strip.still)
        if page:
            files[place.with_name(f"{place.name}.html")] = html_page(sweep, quality)
        write_all(files)
        report = "\n".join(f"Saved output/{Path(inner, path.name).as_posix()}, {len(files[path]):,} bytes." for path in files)
        seen: dict[str, object] = {"text": (report,)}
        if webp:
            seen |= ui.SavedImages([ui.SavedResult(f"{place.name}.webp", inner, io.FolderType.output)], True).as_dict()
        return io.NodeOutput(report, ui=seen)


def html_page(sweep: ShownSweep, quality: int) -> bytes:
    """The page, with the scrubber's own scripts."""
    return page(sweep, [(WEB / name).read_text(encoding="utf-8") for name in MODULES], quality)


NODES = [SliderFinding, SaveSliderSweep]
