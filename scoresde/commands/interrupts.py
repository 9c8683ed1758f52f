"""Ctrl-C while libraries load, and in the midst of what they do."""

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


def behind(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: one that a library raised on its way out of what was interrupted."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found is not None
