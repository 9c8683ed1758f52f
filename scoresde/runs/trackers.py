"""Other programs that are shown the figures of a run: TensorBoard, Weights & Biases and MLflow, where installed."""

from __future__ import annotations

import importlib
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from scoresde.files import regular, replacing
from solvers.errors import known

EVENTS, WANDB, MLFLOW = "tensorboard", "wandb.id", "mlflow.id"
PROJECT = "scoresde"
NAME = re.compile(r"[\w-]{1,64}")  # what a program may have called a run


def files(folder: Path) -> list[str]:
    """Paths in a folder of what other programs' logs have left there to go on by."""
    return [WANDB, MLFLOW, *(f"{EVENTS}/{path.name}" for path in (folder / EVENTS).glob("events.out.tfevents.*"))]


class Log(AbstractContextManager["Log"]):
    """Another program that is shown figures; leaving the context ends it.

    Args:
        folder: of the run.
        step: from which it goes on, 0 for a new run; None for one that is shown whole, in the place of what was there.
        settings: of the run, to be shown.
    """

    module: ClassVar[str]

    @abstractmethod
    def __init__(self, folder: Path, step: int | None, settings: Mapping[str, Any]):
        pass

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the values of a step."""


class TensorBoard(Log):
    """Event files in the folder's ``tensorboard``; what a killed run wrote of later steps is purged."""

    module = "torch.utils.tensorboard"

    def __init__(self, folder: Path, step: int | None, settings: Mapping[str, Any]):
        tensorboard = importlib.import_module(self.module)
        purged = 0 if step is None else step + 1 if step else None  # from which step on nothing of before is shown
        self._writer = tensorboard.SummaryWriter(str(folder / EVENTS), purge_step=purged)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class WeightsAndBiases(Log):
    """A run of the project ``scoresde``, or of ``WANDB_PROJECT``, taken up by what ``wandb.id`` says."""

    module = "wandb"

    def __init__(self, folder: Path, step: int | None, settings: Mapping[str, Any]):
        wandb = importlib.import_module(self.module)
        self._run = wandb.init(
            project=None if "WANDB_PROJECT" in os.environ else PROJECT,
            name=folder.resolve().name,
            id=None if step is None else _name(folder / WANDB),
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

    def __init__(self, folder: Path, step: int | None, settings: Mapping[str, Any]):
        self._mlflow = importlib.import_module(self.module)
        found = None if step is None else _name(folder / MLFLOW)
        run = self._mlflow.start_run(run_id=found, run_name=None if found else folder.resolve().name)
        _note(folder / MLFLOW, run.info.run_id)
        if found is None:  # parameters cannot be changed, and epochs may be
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


def named(given: Any) -> list[str]:
    """The programs that a setting names: one, several or none.

    Raises:
        ValueError: an unknown one (the nearest is given).
        ImportError: one that is not installed.
    """
    entries = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    names = [known("log", name, LOGS) for name in entries if name is not None]
    for name in names:
        check(name)
    return names


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
