"""Builds the device's extension, once for each version of torch and of its source, into the user's cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).with_name("device.cpp")
COMPILER = os.environ.get("CXX", "c++")
LIBRARIES = ("c10", "torch", "torch_cpu", "torch_python")


def obstacle() -> str:
    """Why it cannot be built here; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "the test device is built on Linux only"
    if not shutil.which(COMPILER):
        return "no C++ compiler for the test device: install g++ or clang, or set CXX"
    headers = Path(sysconfig.get_paths()["include"])
    return "" if (headers / "Python.h").is_file() else f"no Python.h in {headers}: install this Python's development files"


def cache() -> Path:
    """SLIDER_DEVICE_BUILD, else a folder in the user's cache."""
    named = os.environ.get("SLIDER_DEVICE_BUILD")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slider-lora" / "device"


def compile_into(library: Path, name: str) -> None:
    """Half a minute on one core. Raises CalledProcessError with the compiler's own message above it."""
    from torch.utils.cpp_extension import include_paths, library_paths

    unfinished = library.with_suffix(f".{os.getpid()}.so")
    includes = [f"-I{path}" for path in (*include_paths(), sysconfig.get_paths()["include"])]
    links = [part for path in library_paths() for part in (f"-L{path}", f"-Wl,-rpath,{path}")]
    options = ["-O1", "-std=c++20", "-shared", "-fPIC", "-w", f"-DTORCH_EXTENSION_NAME={name}"]
    libraries = [f"-l{library}" for library in LIBRARIES]
    subprocess.run([COMPILER, *options, *includes, str(SOURCE), "-o", str(unfinished), *links, *libraries], check=True)
    unfinished.replace(library)


def built() -> ModuleType:
    """The extension, built if need be."""
    import torch

    mark = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode() + sys.version.encode()).hexdigest()[:12]
    name = f"slider_device_{mark}"
    library = cache() / f"{name}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"\nBuilding the test device, once: half a minute or more, into {library.parent}\n")
        compile_into(library, name)
    spec = importlib.util.spec_from_file_location(name, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
