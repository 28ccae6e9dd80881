"""Ctrl-C and SIGTERM wait for the few milliseconds in which a step changes the weights: it is whole, or was never begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block no signal of these raises; one that came does so when the block ends.

    Python runs handlers in the main thread alone, so another thread, as ComfyUI's, needs nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    waiting = {number: handler for number, handler in before.items() if callable(handler)}
    for number in waiting:
        signal.signal(number, lambda name, frame: came.append((name, frame)))
    try:
        yield
    finally:
        for number, handler in waiting.items():
            signal.signal(number, handler)
    for number, frame in came[:1]:
        waiting[signal.Signals(number)](number, frame)
