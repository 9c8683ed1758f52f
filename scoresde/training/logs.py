"""Where a run's losses go: a table in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde.files import replacing
from scoresde.files.text import cell
from scoresde.runs import trackers
from scoresde.training.trainer import Trainer

LOSSES = "losses.csv"
COLUMNS: tuple[str, ...] = ("step", "epoch", "loss", "learning_rate", "images_per_second", "seconds")
FIGURES = ("fid", "fid_samples", "fid_space")  # columns of runs in which it is measured


def write_losses(trainer: Trainer) -> None:
    """Write ``losses.csv``, each recorded step once, however often the run was killed.

    Its columns are ``COLUMNS``: the mean loss since the row before, the rate of the last step, the speed since the row
    before, checkpoint and pictures included, and seconds since the beginning. Rate and speed are empty where an earlier
    version recorded none. Where FID was measured at all, ``FIGURES`` follow, empty at other steps.
    """
    text = io.StringIO()
    figures = FIGURES if any("fid" in entry for entry in trainer.losses) else ()
    table = csv.DictWriter(text, COLUMNS + figures, lineterminator="\n")
    table.writeheader()
    for entry in trainer.losses:
        table.writerow({key: cell(value) for key, value in row(trainer, entry).items()})
    with replacing(trainer.folder / LOSSES) as path:
        path.write_text(text.getvalue(), encoding="utf-8")


def files(folder: Path) -> list[str]:
    """Paths in a folder of the table, and of what other programs' logs have left there to go on by."""
    return [LOSSES, *trackers.files(folder)]


def row(trainer: Trainer, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record of the trainer's with the epoch, numbers to six digits."""
    rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in entry.items()}
    return rounded | {"epoch": round(entry["step"] / trainer.per_epoch, 4)}
