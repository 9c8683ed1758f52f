"""``scoresde convert``: model folders from files of other projects, and pictures from runs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from scoresde import models
from scoresde.commands import values
from scoresde.commands.app import CONVERTED, UsageError
from scoresde.files.text import say
from scoresde.models import edm
from scoresde.runs import exported, record, shards
from scoresde.runs.progress import Progress


def run(config: DictConfig, out: Path) -> None:
    """Convert as ``conf/convert.yaml`` says, into the folder or file ``out``.

    Raises:
        UsageError: nothing to convert is given, or two things.
        ValueError: a file that is not of its format, a folder that is no whole run, or one with other results.
    """
    if given := [kind for kind in CONVERTED if config[kind] is not None]:
        if len(given) > 1:
            raise UsageError(f"one thing is converted at a time, got {' and '.join(given)}")
    else:
        raise UsageError(
            f"nothing to convert; scoresde convert {', or '.join(f'{k} takes {v}' for k, v in CONVERTED.items())}"
        )
    if given == ["images"]:
        _images(Path(str(config.images)).expanduser(), out)
    else:
        _edm(config, Path(str(config.edm)).expanduser(), out)


def _images(folder: Path, out: Path) -> None:
    """The pictures of a run."""
    exported.check(out)
    if folder.resolve() == out.resolve() or (out / record.CONFIG).exists() or (out / models.CONFIG).exists():
        raise ValueError(f"{str(out)!r} holds a run or a model: choose another folder with out=…")
    run = shards.complete(folder)
    suffix = out.suffix.lower()
    if suffix == exported.GIF:
        say(f"{out}: a trajectory, at {exported.animate(folder, out)} times")
        return
    pictures = exported.pictures(run)
    try:
        with nullcontext() if suffix == exported.ZIP else record.held(out) as unwritable:
            if unwritable is not None:
                raise unwritable
            with Progress(run.total, 0, lambda: 0, left=False) as progress:
                exported.export(pictures, out, progress.advance)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("interrupted; the same command makes the rest") from interrupt
    say(f"{out}: {run.total:,} pictures, named by their seeds")


def _edm(config: DictConfig, path: Path, out: Path) -> None:
    """A pickle of EDM as a model folder."""
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
