"""Ctrl-C and SIGTERM wait for the few milliseconds in which a step changes the weights: it is whole, or was never begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Any  # what signal.getsignal gives
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block no signal of these raises; those that came do so when the block ends, however it ends.

    Python runs handlers in the main thread alone, so another thread, as ComfyUI's, needs nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    waiting: dict[int, Handler] = {}
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                waiting[number] = handler
                signal.signal(number, lambda name, frame: came.append((name, frame)))
        yield
    finally:
        put_back(waiting)
        for number, frame in came:
            handler = signal.getsignal(number)  # the first one may have set another for the second
            if callable(handler):
                handler(number, frame)


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Within the block these signals call `handler`, afterwards what they called before. In the main thread alone."""
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, handler)
    try:
        yield
    finally:
        put_back(before)


def put_back(handlers: dict[int, Handler]) -> None:
    """Set all these handlers again, whatever signal comes meanwhile."""
    if not handlers:
        return
    number, handler = handlers.popitem()
    try:
        signal.signal(number, handler)
    finally:
        put_back(handlers)
