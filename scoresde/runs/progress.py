"""How far a long run is, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

LINES = 30.0  # seconds between lines where there is no terminal
LOOKS = 1.0  # seconds between looks at what others have done


class Progress:
    """A bar on the terminal; a line on standard output now and then where there is none.

    Args:
        total: images in the whole run.
        done: of them before this run.
        others: asks how many others have made during this run.
        shown: False is silent.
        left: whether the bar stays on the terminal when it is full.
        things: what is made.
    """

    def __init__(
        self,
        total: int,
        done: int,
        others: Callable[[], int],
        *,
        shown: bool = True,
        left: bool = True,
        things: str = "images",
    ):
        self._things = things
        self._total, self._before, self._others = total, done, others
        self._own, self._theirs, self._shown = 0.0, 0, shown
        self._begin = self._line = self._look = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="img" if things == "images" else things,
            dynamic_ncols=True,
            leave=left,
            disable=not (shown and sys.stderr.isatty()),
        )

    def advance(self, images: float) -> None:
        """Tell that so many images' worth of work has been done here."""
        self._own += images
        self.look()

    def look(self) -> None:
        """Bring what is shown up to date."""
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._look > LOOKS:
            self._look, self._theirs = now, self._others()
        done = min(self._total, self._before + round(self._own) + self._theirs)
        self._bar.update(done - self._bar.n)
        if self._bar.disable and now - self._line > LINES:
            self._line = now
            rate = max(done - self._before, 1) / (now - self._begin)
            left = round((self._total - done) / rate / 60)
            print(
                f"{done:,} of {self._total:,} {self._things}  {rate:.1f} {self._things}/s  "
                f"{left // 60} h {left % 60:02d} min left",
                flush=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.close()
