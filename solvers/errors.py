"""Words for errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' where a known name is close, and the list of known names otherwise."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def check_options(owner: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse options that the owner does not have.

    Raises:
        TypeError: names the option and the nearest known one, or all of them.
    """
    known = list(known)
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "; it has no options"
            raise TypeError(f"{owner} has no option {option!r}{hint}")


class StepsError(ValueError):
    """An adaptive solver that does not come to its end for some of the samples.

    Args:
        what: what happened.
        samples: whom it happened to: positions in the batch, or seeds.
        why: what may be the reason, and what would do.
        called: what the samples are named by.
    """

    def __init__(self, what: str, samples: Sequence[int], why: str, called: str = "samples"):
        super().__init__(what, samples, why, called)
        self.what, self.samples, self.why, self.called = what, samples, why, called

    def __str__(self) -> str:
        return f"{self.what} for {self.called} {list(self.samples)[:8]}: {self.why}"
