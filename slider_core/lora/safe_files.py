"""Files written whole or not at all: beside their place, read back, then renamed, so a reader never sees half of one.

A folder takes two renames, so a kill may leave the old one under another name: the next who looks for it, or writes there, puts
it back. What a killed program left behind is removed after a day.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..config.checks import SliderError, clean_text, need, reason
from ..config.names import check_file_name
from ..config.regular_files import BLOCK, open_file, read_bytes

LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.(?P<kind>tmp|old)")
DAY_S = 24 * 3600
LOCK_S = 10.0  # a save takes less than one
MOST_FILE = 1 << 40  # bytes: what is moved is our own
BESIDE = (".metadata.json", ".preview.jpg")  # endings of the files of a manager, see manager_files.py
Check = Callable[[Path], object]  # reads a file that was written; SliderError where it is not what was meant


def write_folder(path: Path, files: Mapping[str, bytes], overwrite: bool, check: Check | None = None) -> None:
    """A folder with these files, whole or not at all. One that holds anything else is never replaced."""
    recover(path)
    refuse_existing(path, overwrite)
    check_file_name(path.name, "The file name")
    replaceable = not path.exists() or (path.is_dir() and {inside.name for inside in path.iterdir()} == set(files))
    need(replaceable, f"{path} holds other things than a slider: choose another name.", "file.other_content")
    temporary = _beside(path)
    old = temporary.with_suffix(".old")
    try:
        for file, content in files.items():
            atomic_write(temporary / file, content)
        if check is not None:
            check(temporary)
        _exchange(temporary, path, old)
    except OSError as fault:
        raise _failed(path, fault) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Where the next content of `path` is written."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _exchange(fresh: Path, path: Path, old: Path) -> None:
    """Rename `fresh` to `path`, and what was there to `old`; when that fails, back."""
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
        sync_folder(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise


def _failed(path: Path, fault: OSError) -> SliderError:
    return SliderError(
        f"Cannot write {path} ({fault.strerror or reason(fault)}). Free space or choose another folder.", "file.not_written"
    )


def move_in(trial: Path, path: Path, overwrite: bool = False) -> None:
    """Put a file or PEFT folder that was saved elsewhere in its place, whole or not at all."""
    what, code = "Saved file", "file.trial"
    if trial.is_dir():
        files = {inside.name: read_bytes(inside, MOST_FILE, what, code) for inside in trial.iterdir()}
        write_folder(path, files, overwrite)
    else:
        atomic_write(path, read_bytes(trial, MOST_FILE, what, code), overwrite)


def set_aside(path: Path, kept: Path) -> None:
    """Rename a file or folder to `kept`, where nothing may lie, and with it what a LoRA manager reads beside it."""
    refuse_existing(kept, False)
    try:
        for beside in (path, *(path.with_name(f"{path.stem}{ending}") for ending in BESIDE)):
            if beside.exists():
                beside.rename(kept.with_name(kept.stem + beside.name.removeprefix(path.stem)))
        sync_folder(path.parent)
    except OSError as fault:
        raise _failed(kept, fault) from None


def refuse_existing(path: Path, overwrite: bool) -> None:
    """SliderError when something is there already and must stay."""
    message = f"File exists: {path}. Choose another name, or ask to overwrite it."
    need(overwrite or not path.exists(), message, "file.exists")


def atomic_write(path: Path, content: bytes, overwrite: bool = False, check: Check | None = None) -> None:
    """Write `content` to `path` whole or not at all. It is read back, and given to `check`, before it takes the place of another.
    SliderError when it exists (unless `overwrite`), cannot be written, or does not read back as it was."""
    check_file_name(path.name, "The file name")
    refuse_existing(path, overwrite)
    path = path.resolve()  # what a link points at is replaced, not the link
    temporary = _beside(path)
    try:
        with _created(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _read_back(temporary, content)
        if check is not None:
            check(temporary)
        _put(temporary, path, overwrite)
        sync_folder(path.parent)
    except OSError as fault:
        raise _failed(path, fault) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _created(path: Path) -> BinaryIO:
    """A new file, open for writing. SliderError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
        return os.fdopen(handle, "wb")
    except OSError as fault:
        message = f"Cannot write to {path.parent} ({reason(fault)}). Choose a folder that can be written."
        raise SliderError(message, "file.folder") from None


def _put(temporary: Path, path: Path, overwrite: bool) -> None:
    """Rename to `path`; what another has put there meanwhile stays, unless it may be overwritten."""
    if not overwrite:
        try:
            os.link(temporary, path)
        except FileExistsError:
            refuse_existing(path, overwrite)
        except OSError:  # a file system without links
            pass
        else:
            return
    temporary.replace(path)


def _read_back(path: Path, content: bytes) -> None:
    """OSError unless the file holds that content."""
    place = 0
    with open_file(path) as file:
        while part := file.read(BLOCK):
            if part != content[place : place + len(part)]:
                raise OSError(5, "What was written does not read back")
            place += len(part)
    if place != len(content):
        raise OSError(5, "What was written does not read back whole")


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be synchronised."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block no other process is in such a block of the same folder; on systems and drives that know locks. One that
    holds the lock for LOCK_S seconds was stopped, or its drive is gone, and is waited for no longer."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        end = time.monotonic() + LOCK_S
        while not _is_locked(fcntl, handle) and time.monotonic() < end:
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _is_locked(fcntl: Any, handle: int) -> bool:
    """Whether there is nothing to wait for: the lock is ours, or the drive knows none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


# --- what a killed program left


def recover(path: Path) -> None:
    """Put back the folder `path` whose exchange a kill has interrupted: it lies beside under another name."""
    try:
        if path.exists() or path.is_symlink():
            return
    except OSError:
        return
    old = [beside for beside, match in leftovers(path.parent) if match["kind"] == "old" and match["name"] == path.name]
    if old:
        with contextlib.suppress(OSError):
            max(old, key=lambda beside: beside.lstat().st_mtime).rename(path)


def leftovers(folder: Path) -> Iterable[tuple[Path, re.Match[str]]]:
    """What was not finished in a folder, with its name's parts."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (OSError, ValueError):
        return []
    found = []
    for name in sorted(names):
        match = LEFTOVER.fullmatch(name)
        if match:
            found.append((folder / name, match))
    return found


def tidy(folder: Path) -> None:
    """Put back folders whose exchange was interrupted, and remove what was left behind more than a day ago."""
    for beside, match in leftovers(folder):
        recover(folder / match["name"])
        try:
            age = time.time() - beside.lstat().st_mtime
        except OSError:  # put back just now
            continue
        if age > DAY_S and beside.is_dir() and not beside.is_symlink():
            shutil.rmtree(beside, ignore_errors=True)
        elif age > DAY_S:
            with contextlib.suppress(OSError):
                beside.unlink()


def tidy_below(root: Path) -> None:
    """`tidy` in every folder from `root` down that holds something unfinished. Links are not followed."""
    for folder, inner, files in os.walk(root):
        if any(map(LEFTOVER.fullmatch, (*inner, *files))):
            tidy(Path(folder))
        inner[:] = [name for name in inner if not LEFTOVER.fullmatch(name)]


def check_writable(folder: Path, *names: str) -> None:
    """Fail before the work, not after it: SliderError when files of these names could not be put into `folder`. Leaves none."""
    for name in names:
        check_file_name(name, "The file name")
    existing = next((parent for parent in (folder, *folder.parents) if _exists(parent)), folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        for name in names:
            if (folder / name).is_dir():
                raise IsADirectoryError(21, f"{name} is a folder there")
    except (OSError, ValueError) as fault:
        where = clean_text(str(folder))
        raise SliderError(f"Cannot write to {where} ({reason(fault)}). Choose another place or name.", "file.folder") from None
    tidy(folder)


def temporary_folder() -> str:
    """A new folder for what nobody needs after this process; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="slider_lora_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
