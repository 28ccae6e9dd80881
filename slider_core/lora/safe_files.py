"""Files written whole or not at all: beside their place, then renamed, so a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from ..config.checks import SliderError, need


def write_folder(path: Path, files: Mapping[str, bytes], overwrite: bool) -> None:
    """A folder with these files, whole or not at all. One that holds anything else is never replaced."""
    refuse_existing(path, overwrite)
    replaceable = not path.exists() or (path.is_dir() and {inside.name for inside in path.iterdir()} == set(files))
    need(replaceable, f"{path} holds other things than a slider: choose another name.", "file.other_content")
    name = f".{path.name}.{uuid.uuid4().hex}"
    temporary = path.with_name(f"{name}.tmp")
    old = path.with_name(f"{name}.old")
    try:
        for file, content in files.items():
            atomic_write(temporary / file, content)
        _exchange(temporary, path, old)
    except OSError as fault:
        raise _failed(path, fault) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(fresh: Path, path: Path, old: Path) -> None:
    """Rename `fresh` to `path`, and what was there to `old`; when that fails, back."""
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def _failed(path: Path, fault: OSError) -> SliderError:
    return SliderError(f"Cannot write {path} ({fault.strerror}). Free space or choose another folder.", "file.not_written")


def move_in(trial: Path, path: Path, overwrite: bool = False) -> None:
    """Put a file or PEFT folder that was saved elsewhere in its place, whole or not at all."""
    if trial.is_dir():
        write_folder(path, {p.name: p.read_bytes() for p in trial.iterdir()}, overwrite)
    else:
        atomic_write(path, trial.read_bytes(), overwrite)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """SliderError when something is there already and must stay."""
    message = f"File exists: {path}. Choose another name, or ask to overwrite it."
    need(overwrite or not path.exists(), message, "file.exists")


def atomic_write(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write `content` to `path` whole or not at all. SliderError when it exists (unless `overwrite`) or cannot be written."""
    refuse_existing(path, overwrite)
    path = path.resolve()  # what a link points at is replaced, not the link
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
    except OSError as fault:
        message = f"Cannot write to {path.parent} ({fault.strerror}). Choose a folder that can be written."
        raise SliderError(message, "file.folder") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as fault:
        raise _failed(path, fault) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be synchronised."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(folder: Path, *names: str) -> None:
    """Fail before the work, not after it: SliderError when files of these names could not be put into `folder`. Leaves none."""
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        for name in names:
            name.encode()
            if (folder / name).is_dir():
                raise IsADirectoryError(f"{name} is a folder there")
    except (OSError, UnicodeEncodeError) as fault:
        raise SliderError(f"Cannot write to {folder} ({fault}). Choose another place or name.", "file.folder") from None
