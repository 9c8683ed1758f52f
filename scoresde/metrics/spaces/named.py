"""Feature spaces that a model's folder has by their names, where it has no feature network of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde.files import replacing
from scoresde.files.bundled import CONFIG
from scoresde.networks.described import read_json

FORMAT = "scoresde-space-1"
# Spaces that a folder may name, with the options that it may give: none that lead to files, or to code of others.
SPACES: dict[str, tuple[str, ...]] = {
    "efficientnet_lite": (),
    "inception": (),
    "clip": ("model",),
    "pixels": ("shape",),
}


def described(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A space as a folder has it: its name, with the options that are given.

    Raises:
        ValueError: a folder may not name it, or not with such an option.
    """
    given = {key: value for key, value in options.items() if value not in (None, False)}
    allowed = SPACES.get(name)
    if allowed is None:
        raise ValueError(f"a model's folder may name the features {', '.join(sorted(SPACES))}, not {name!r:.60}")
    if others := sorted(given.keys() - {*allowed}):
        raise ValueError(f"a model's folder may name the features {name!r} without {others[0]!r:.60}")
    return {"name": name, **given}


def save_named(folder: str | Path, space: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write ``config.json`` into a model's folder ``features``.

    Args:
        folder: that folder.
        space: as :func:`described` has it.
        card: of which images the statistics beside it are.
    """
    with replacing(Path(folder) / CONFIG) as path:
        content = {"format": FORMAT, "space": dict(space), "card": dict(card)}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_named(folder: str | Path) -> dict[str, Any] | None:
    """The space that :func:`save_named` wrote into a folder; None where it has none, or a network.

    Raises:
        ValueError: it is damaged, or names what a folder may not name.
    """
    path = Path(folder) / CONFIG
    try:
        config = read_json(path)
    except (OSError, ValueError):
        return None  # which who reads networks says in its own words
    if config.get("format") != FORMAT:
        return None
    space = config.get("space")
    try:
        if not isinstance(space, dict) or not isinstance(space.get("name"), str):
            raise ValueError("it names no space")
        return described(space["name"], {key: value for key, value in space.items() if key != "name"})
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged or foreign: {error}") from error
