"""What the panel of Load Slider Dataset asks of the server: the pairs of a folder, moves of its images, the doctor's findings.

Images come in by ComfyUI's own /upload/image. Only folders of ComfyUI's input folder are changed, and nothing is deleted.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

from ..slider_core.config.checks import SliderError, all_are, in_words, need, parse_json
from ..slider_core.config.regular_files import inside
from ..slider_core.data.bitmap import CLIP_ENDINGS, LEAST_SIDE, MOST_PIXELS, image_endings
from ..slider_core.data.bucket_text import has_strengths
from ..slider_core.data.dataset import sides_named
from ..slider_core.data.folder_files import (
    REMOVED,
    SIDES,
    Move,
    file_stamps,
    folder_rows,
    move_files,
    need_flat,
    put_back,
    rename_folder,
    side_folder,
)
from ..slider_core.data.pairs_report import examined
from .dataset_places import DEMO, DEMO_PREFIX, choices, is_as_read, locate, roots, state_of
from .pair_findings import as_examined, choices_of, findings_shown, keep_findings, kept_findings

PREFIX = "/slider_lora/dataset"
UNASKED_FILES, UNASKED_BYTES = 240, 400_000_000  # a larger dataset is examined only when asked for
EXAMINING, MOVING = threading.Lock(), threading.Lock()
Handler = Callable[[web.Request], Awaitable[web.Response]]


def limits() -> dict[str, Any]:
    """What a file must be to be taken."""
    most_bytes = round(args.max_upload_size * 1024 * 1024)
    return {"images": image_endings(), "clips": CLIP_ENDINGS, "bytes": most_bytes, "pixels": MOST_PIXELS, "side": LEAST_SIDE}


def editable(name: str) -> Path:
    """The folder of a choice when its images may be moved; SliderError that says why not."""
    need(not name.startswith(DEMO_PREFIX), "These pairs come with the pack.", "edit.demo")
    place = locate(name)
    need(place.is_dir(), "A dataset file says itself where its images lie.", "edit.file")
    home = Path(folder_paths.get_input_directory()).resolve()
    need(inside(place, [home]) and place.resolve() != home, "This folder lies outside ComfyUI's input folder.", "edit.outside")
    names = {path.name for path in place.iterdir() if path.is_dir() and path.name.lower() not in (*SIDES, REMOVED)}
    other = sides_named(names) or has_strengths(place) or not sides_named(path.name for path in place.iterdir())
    need(not other, "Folders that are named by a strength, or otherwise, are arranged by hand.", "edit.strength")
    need_flat(place)
    return place


def listing(name: str) -> dict[str, Any]:
    """The pairs of a choice where they can be arranged, else why not; and whether it is as a run read it last."""
    listed = {"folder": name, "choices": choices(), "limits": limits(), "editable": False, "why": "", "as_read": is_as_read(name)}
    try:
        place = editable(name)
    except SliderError as fault:
        return listed | {"why": str(fault)}
    with MOVING:
        put_back(place)
    found = folder_rows(place)
    home = Path(folder_paths.get_input_directory())
    subfolders = {side: side_folder(place, side).relative_to(home).as_posix() for side in (*SIDES, REMOVED)}
    shown = {"rows": found.rows, "by_name": found.by_name, "neutral": found.neutral, "subfolders": subfolders}
    return listed | shown | {"editable": True, "stamps": file_stamps(place, found)}


def _files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]


def findings(name: str, asked: bool, chosen: str = "") -> dict[str, Any]:
    """The doctor's findings about a choice as it lies on disk, read as the node's widgets say (`chosen`: JSON, see `choices_of`);
    {"waits": files} for a large one unless `asked`. SliderError for what cannot be read."""
    place, how = locate(name), choices_of(chosen)
    files = _files(place)
    large = len(files) > UNASKED_FILES or sum(path.stat().st_size for path in files) > UNASKED_BYTES
    with EXAMINING:
        state = state_of(name)
        kept = kept_findings(name, state, how)
        if kept is not None:
            return kept
        if large and not asked:
            return {"folder": name, "waits": len(files)}
        dataset = as_examined(how).read(place, [*roots(), DEMO])
        shown = findings_shown(name, dataset, examined(dataset))
        keep_findings(name, state, how, shown)
        return shown


def _moves_of(request: object) -> tuple[str, list[Move]]:
    """The choice and the moves of {"folder": choice, "moves": [[from, to], ...]}."""
    form = 'The request needs {"folder": name, "moves": [[from, to], ...]}.'
    if not isinstance(request, dict) or not isinstance(request.get("moves"), list):
        raise SliderError(form, "edit.request")
    name = request.get("folder")
    need(isinstance(name, str), form, "edit.request")
    for move in request["moves"]:
        pair = isinstance(move, list) and len(move) == 2
        need(pair and all_are(str, move), form, "edit.request")
    return name, [(source, target) for source, target in request["moves"]]


def moved(request: object) -> dict[str, Any]:
    """Do the moves of a request. Gives them as they were done, and the pairs as they are now."""
    name, moves = _moves_of(request)
    with MOVING:
        place = editable(name)
        put_back(place)
        done = move_files(place, moves)
    return {"moved": done, "listing": listing(name)}


def renamed(request: object) -> dict[str, Any]:
    """Give the folder of {"folder": choice, "name": name} that name. Gives its choice, and the pairs as they are now."""
    form = 'The request needs {"folder": name, "name": its new name}.'
    choice, name = (request.get(key) for key in ("folder", "name")) if isinstance(request, dict) else (None, None)
    if not (isinstance(choice, str) and isinstance(name, str)):
        raise SliderError(form, "edit.request")
    with MOVING:
        place = editable(choice)
        folder = (Path(choice).parent / name.strip()).as_posix()
        others = {other.lower() for other in choices() if other != choice}
        need(folder.lower() not in others, f"{name} is there already. Choose another name.", "rename.taken")
        rename_folder(place, name.strip())
    return {"folder": folder, "listing": listing(folder)}


def _answering(work: Callable[..., dict[str, Any]], asked: Callable[[web.Request], Awaitable[tuple[Any, ...]]]) -> Handler:
    """A handler that does `work` beside the event loop, and answers a fault of the user's with its message."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(work, *await asked(request)))
        except (SliderError, OSError) as fault:
            error = in_words(fault) if isinstance(fault, OSError) else fault
            return web.json_response({"error": str(error), "code": error.code}, status=400)

    return handle


async def _folder(request: web.Request) -> tuple[str]:
    return (request.query.get("folder", ""),)


async def _folder_asked(request: web.Request) -> tuple[str, bool, str]:
    return request.query.get("folder", ""), request.query.get("asked") == "1", request.query.get("choices", "")


def json_of(content: bytes) -> object:
    """The JSON value of a request's content; None where it holds none."""
    try:
        return parse_json(content, "The request", "edit.request")
    except SliderError:
        return None


async def _json(request: web.Request) -> tuple[object]:
    return (json_of(await request.read()),)


def add_dataset_routes(server: PromptServer) -> None:
    """GET /slider_lora/dataset?folder=: `listing`. GET .../findings?folder=&asked=1&choices=: `findings`. POST .../move: `moved`.
    POST .../rename: `renamed`."""
    server.routes.get(PREFIX)(_answering(listing, _folder))
    server.routes.get(f"{PREFIX}/findings")(_answering(findings, _folder_asked))
    server.routes.post(f"{PREFIX}/move")(_answering(moved, _json))
    server.routes.post(f"{PREFIX}/rename")(_answering(renamed, _json))
