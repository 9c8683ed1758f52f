"""``scoresde convert``: model folders from files of other projects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from scoresde import models
from scoresde.commands import outputs, values
from scoresde.commands.app import UsageError, quoted
from scoresde.models import edm
from scoresde.text import say

FORMATS = ("edm",)


def settings(arguments: Sequence[str]) -> list[str]:
    """``edm in.pkl out/ …`` as the settings ``edm=in.pkl out=out/ …``.

    Raises:
        UsageError: a format without its file.
    """
    if not arguments or arguments[0] not in FORMATS:
        return list(arguments)
    kind, *rest = arguments
    words = [item for item in rest if "=" not in item and not item.startswith("-")]
    if len(words) not in (1, 2):
        raise UsageError(f"scoresde convert {kind} takes a file and a folder: scoresde convert {kind} in.pkl out/")
    named = [f"{key}={quoted(word)}" for key, word in zip((kind, "out"), words, strict=False)]
    return [*named, *(item for item in rest if item not in words)]


def run(config: DictConfig, out: Path) -> None:
    """Convert as ``conf/convert.yaml`` says, into the folder ``out``.

    Raises:
        ValueError: a file that is not of its format, or a folder with another model.
    """
    path = Path(str(config.edm)).expanduser()
    dtype = values.dtype(config, "weights", ("float32", "bfloat16"))
    with outputs.held(out) as unwritable:
        if (out / models.CONFIG).exists():
            raise ValueError(f"{str(out)!r} holds a model already: choose another folder with out=…")
        if unwritable is not None:
            raise unwritable
        try:
            card = edm.convert(path, out, dtype)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt("interrupted; the same command begins again") from interrupt
    checkpoint = models.load(out)
    of = f"{checkpoint.classes} classes" if checkpoint.classes else "no classes"
    say(
        f"{path}: {card['network']}, images of {checkpoint.shape}, {of}\n"
        "Unpickling can run any code that a file names. This one was read as weights and settings alone: the source "
        "code that it carries has not run, and is not needed from now on.\n"
        f"{out}: {models.CONFIG}, {models.WEIGHTS}; use it with model=folder model.path={out}"
    )
