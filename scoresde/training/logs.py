"""Where a run's losses go: a table in its folder, and the pages of other programs."""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from scoresde.files import regular, replacing
from scoresde.files.text import cell
from scoresde.training.trainer import Trainer

LOSSES = "losses.csv"
EVENTS, WANDB, MLFLOW = "tensorboard", "wandb.id", "mlflow.id"
COLUMNS: tuple[str, ...] = ("step", "epoch", "loss", "learning_rate", "images_per_second", "seconds")
FIGURES = ("fid", "fid_samples", "fid_space")  # columns of runs in which it is measured
PROJECT = "scoresde"
NAME = re.compile(r"[\w-]{1,64}")  # what a program may have called a run


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
    return [
        LOSSES,
        WANDB,
        MLFLOW,
        *(f"{EVENTS}/{path.name}" for path in (folder / EVENTS).glob("events.out.tfevents.*")),
    ]


def row(trainer: Trainer, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record of the trainer's with the epoch, numbers to six digits."""
    rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in entry.items()}
    return rounded | {"epoch": round(entry["step"] / trainer.per_epoch, 4)}


class Log(AbstractContextManager["Log"]):
    """Another program that is shown losses; leaving the context ends it.

    Args:
        folder: of the run.
        step: from which it goes on, 0 for a new run.
        settings: of the run, to be shown.
    """

    module: ClassVar[str]

    @abstractmethod
    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]):
        pass

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the values of a step."""


class TensorBoard(Log):
    """Event files in the folder's ``tensorboard``; what a killed run wrote of later steps is purged."""

    module = "torch.utils.tensorboard"

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]):
        tensorboard = importlib.import_module(self.module)
        self._writer = tensorboard.SummaryWriter(str(folder / EVENTS), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class WeightsAndBiases(Log):
    """A run of the project ``scoresde``, or of ``WANDB_PROJECT``, taken up by what ``wandb.id`` says."""

    module = "wandb"

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]):
        wandb = importlib.import_module(self.module)
        self._run = wandb.init(
            project=None if "WANDB_PROJECT" in os.environ else PROJECT,
            name=folder.resolve().name,
            id=_name(folder / WANDB),
            resume="allow",
            dir=str(folder),
            config=dict(settings),
            allow_val_change=True,  # of a run that goes on with more epochs
        )
        _note(folder / WANDB, self._run.id)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._run.finish(exit_code=0 if kind is None else 1)


class MLflow(Log):
    """A run of the experiment that MLflow's own variables name, taken up by what ``mlflow.id`` says."""

    module = "mlflow"

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]):
        self._mlflow = importlib.import_module(self.module)
        known = _name(folder / MLFLOW)
        run = self._mlflow.start_run(run_id=known, run_name=None if known else folder.resolve().name)
        _note(folder / MLFLOW, run.info.run_id)
        if known is None:  # parameters cannot be changed, and epochs may be
            self._mlflow.log_params(dict(settings))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._mlflow.end_run("FINISHED" if kind is None else "KILLED")


LOGS: dict[str, type[Log]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def check(name: str) -> None:
    """See that the package of a log, which is called as the log is, can be imported.

    Raises:
        ImportError: it cannot; says how to install it.
    """
    try:
        importlib.import_module(LOGS[name].module)
    except ImportError as error:
        raise ImportError(f"log={name} needs the package {name}, which is not installed: pip install {name}") from error


def _name(path: Path) -> str | None:
    if not path.exists():
        return None
    text = regular(path).read_text(encoding="utf-8").strip()
    if not NAME.fullmatch(text):
        raise ValueError(f"{str(path)!r} holds no name of a run: remove it to begin another there")
    return text


def _note(path: Path, name: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(f"{name}\n", encoding="utf-8")
