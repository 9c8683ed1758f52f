"""Words for errors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' where a known name is close, and the list of known names otherwise."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def known(what: str, value: Any, names: Iterable[str], of: str = "") -> str:
    """The value, if it is one of the names.

    Args:
        what: what is chosen: ``solver``, ``starter``.
        value: what was asked for.
        names: what there is.
        of: whose choice it is.

    Raises:
        ValueError: names the value and the nearest name, or all of them.
    """
    names = list(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"unknown {what} {value!r}{f' of {of}' if of else ''}{nearest(str(value), names)}")
    return value


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


def check_types(owner: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse values of another kind than the defaults: whole numbers, numbers, true or false.

    Raises:
        ValueError: names the option, its value and the kind.
    """
    for option, value in options.items():
        default = defaults[option]
        if isinstance(default, bool):
            good, kind = isinstance(value, bool), "true or false"
        elif isinstance(default, int):
            good, kind = isinstance(value, Integral) and not isinstance(value, bool), "a whole number"
        elif isinstance(default, float):
            good = isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
            kind = "a number"
        else:
            continue  # words, whose choice is checked where they are known
        if not good:
            raise ValueError(f"{owner} needs {kind} as {option}, got {value!r:.60}")


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
