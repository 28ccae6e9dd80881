"""In the place of `av` (36 MB), which ComfyUI imports for video files and no check here uses: every name is an empty class."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

__path__: list[str] = []
__version__ = "0"


class Kind(type):
    """Of the empty classes: their attributes are names of themselves."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class Empty(metaclass=Kind):
    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Takes anything."""


def named(module: types.ModuleType, name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    made = Kind(name, (Empty,), {})
    setattr(module, name, made)
    return made


class Stub(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        return named(self, name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith("av.") else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


sys.meta_path.append(Finder())


def __getattr__(name: str) -> type:
    return named(sys.modules[__name__], name)
