"""Words for errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
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
