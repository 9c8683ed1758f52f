"""``scoresde convert``: model folders from files of other projects."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from scoresde import models
from scoresde.commands import values
from scoresde.files.text import say
from scoresde.models import edm
from scoresde.runs import record


def run(config: DictConfig, out: Path) -> None:
    """Convert as ``conf/convert.yaml`` says, into the folder ``out``.

    Raises:
        ValueError: a file that is not of its format, or a folder with another model.
    """
    path = Path(str(config.edm)).expanduser()
    dtype = values.dtype(config, "weights", ("float32", "bfloat16"))
    with record.held(out) as unwritable:
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
        f"{out}: {models.CONFIG}, {models.WEIGHTS}; use it with model={out}"
    )
