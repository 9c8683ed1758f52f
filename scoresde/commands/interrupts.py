"""Ctrl-C while libraries load."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_to_stop() -> Iterator[None]:
    """Ctrl-C ends the program with its line even where a half-loaded library would make something else of it."""

    def stop(*_: object) -> None:
        os.write(2, b"scoresde: interrupted\n")
        os._exit(130)

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
