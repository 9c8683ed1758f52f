"""What a model of text is asked for: prompts on the command line or in a file, and the size of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoresde import models
from scoresde.files import digest, regular

ONE, FILE, NEGATIVE, SIZE = "prompt", "prompts", "negative_prompt", ("height", "width")
SAID = (ONE, FILE, NEGATIVE, *SIZE)
LARGEST = 2**26  # bytes of a file of prompts


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`scoresde.models.load` is given of a pipeline of text; empty for another model.

    Raises:
        ValueError: a pipeline of text without a prompt, settings of one for another model, or texts that are none.
    """
    texts = _texts(settings)
    if texts is None:
        for key in (NEGATIVE, *SIZE):
            if settings[key] is not None:
                raise ValueError(f"{key} is of pipelines that are given a prompt: give prompt=, or leave {key} out")
        if kind := models.of_text(settings["model"]["path"]):
            raise ValueError(
                f"a {kind} makes images of text: give prompt='a red cat', a list of such, or prompts=FILE with one in "
                "each line"
            )
        return {}
    if settings.get("label") not in (None, "cycle"):
        raise ValueError(f"label={settings['label']} is of models of classes, and prompt of models of text: give one")
    if settings["shape"] is not None:
        raise ValueError("shape is of models without prompts: with one, height and width are those of the images")
    negative = settings[NEGATIVE]
    return {
        "prompts": texts,
        "negative": None if negative is None else _listed(NEGATIVE, negative),
        **{key: settings[key] for key in SIZE},
    }


def given(settings: Mapping[str, Any]) -> bool:
    """Whether there are prompts."""
    return settings[ONE] is not None or settings[FILE] is not None


def inputs(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digest of the file of prompts, by its setting."""
    path = settings[FILE]
    if path is None:
        return {}
    _texts(settings)  # which says what is wrong with it
    return {FILE: digest(Path(str(path)).expanduser())}


def _texts(settings: Mapping[str, Any]) -> list[str] | None:
    one, path = settings[ONE], settings[FILE]
    if path is None:
        return None if one is None else _listed(ONE, one)
    if one is not None:
        raise ValueError(f"give prompt or prompts, not both: got prompt={one!r:.60} and prompts={path}")
    return read(str(path))


def _listed(key: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError(f"{key} must be a text, or a list of one or more, got []")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{key} must be a text, or a list of texts, got {text!r}: write it in quotes")
    return texts


def read(path: str) -> list[str]:
    """The prompts in a file, one a line; empty lines are left out.

    Raises:
        ValueError: the file is not there, holds none, or is no text of UTF-8.
    """
    place = Path(path).expanduser()
    try:
        if regular(place).stat().st_size > LARGEST:
            raise ValueError(f"{path!r} has more than {LARGEST:,} bytes, which is no file of prompts")
        lines: Sequence[str] = place.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path!r} for prompts; a prompt itself is given by prompt=") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path!r} is no text of UTF-8, and prompts are lines of such") from error
    if not (texts := [line.strip() for line in lines if line.strip()]):
        raise ValueError(f"{path!r} holds no prompt: write one in each line")
    return texts
