"""``scoresde tune``: a solver fitted to a model, and what it gains as a page and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from omegaconf import DictConfig

import scoresde
from scoresde import models
from scoresde.commands import measured, values
from scoresde.commands.guided import check, guided, recorded
from scoresde.commands.numbers import whole_number
from scoresde.commands.request import labels_of
from scoresde.files import replacing
from scoresde.files.text import say
from scoresde.report.tuned import html
from scoresde.runs import record
from scoresde.runs.hardware import describe
from scoresde.score import PRECISIONS
from scoresde.tuned import FILE, TunedSolver
from scoresde.tuning.figure import figure
from scoresde.tuning.procedure import EFFORTS, ENDS, LEAST, PROGRESS, TARGETS
from solvers.errors import known

MARKS = ("effort", "guidance", "seed")  # of a record of this command's
PICTURE, PAGE = "tuned.png", "tuned.html"
FILES = (FILE, PICTURE, PAGE, PROGRESS, ENDS)


def run(config: DictConfig, out: Path) -> float | None:
    """Tune as ``conf/tune.yaml`` says, and keep the solver in the folder ``out``.

    Returns:
        The mean error of what was taken on the trajectories that judge; its mean over ``nfe`` where they are several.

    Raises:
        ValueError: a setting out of range, or settings that do not fit together.
    """
    settings, anew = values.resolved(config, without=("out", "threads")), values.forced(config)
    asked = settings.pop("nfe")  # a folder's file may be given more members later
    counts = asked if isinstance(asked, list) else [asked]
    counts = sorted({whole_number("nfe", count) for count in counts})
    if not counts:
        raise ValueError("nfe must be one or more whole numbers, got []")
    count, seed = values.whole(config, "n", least=LEAST), values.whole(config, "seed", least=0)
    known("effort", settings["effort"], tuple(EFFORTS))
    known("target", settings["target"], TARGETS)
    device, dtype = values.device(config), values.dtype(config, "dtype")
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    check(settings["guidance"])
    if (begun := values.begun_in(config, out)) is not None:
        record.foresee(begun, settings, ("n", "seed", "label", "effort", "target", "batch_size"))
    checkpoint = measured.loaded(settings, device, dtype)
    measured.drop(settings)
    settings["model"]["sha256"] = models.fingerprint(measured.place(settings))
    model = guided(checkpoint.model, settings["guidance"], checkpoint, device, dtype)
    settings["guidance"] = recorded(settings["guidance"])
    labels = labels_of(config.label, count, checkpoint)
    cond: dict[str, Any] = {} if (labels < 0).all() else {"label": torch.from_numpy(labels)}
    with record.held(out) as unwritable:
        if not (anew and unwritable is None and record.anew(out, MARKS, lambda _: FILES)):
            record.complete(out, settings, (FILE, PICTURE, PAGE))  # refuses another configuration's folder
        if (out / FILE).exists() and not set(counts) - set((solver := TunedSolver.load(out / FILE)).members):
            missing = [name for name in (PICTURE, PAGE) if not (out / name).exists()]
            if unwritable is None:  # an older version may not have made all of them
                _show(solver, settings, out, missing)
            say(f"{out}: {FILE} is there")
            return _error(solver, counts)
        if unwritable is not None:
            raise unwritable
        record.write(out, settings, device)
        say(f"{count} trajectories of {tuple(checkpoint.shape)}; {describe(device)}")
        try:
            solver = scoresde.tune(
                model,
                nfe=counts,
                shape=checkpoint.shape,
                seeds=range(seed, seed + count),
                cond=cond,
                effort=settings["effort"],
                target=settings["target"],
                folder=out,
                batch_size=values.whole(config, "batch_size"),
                dtype=torch.float64 if dtype == PRECISIONS["float64"] else torch.float32,
                device=device,
                progress=say,
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"interrupted; {values.going_on(out, anew)}") from interrupt
        _show(solver, settings, out, (PICTURE, PAGE))
        solver.save(out / FILE)
    say(f"{out}: {FILE}, {PAGE}, {PICTURE}, {record.CONFIG}, {record.VERSIONS}")
    return _error(solver, counts)


def _error(solver: TunedSolver, counts: Sequence[int]) -> float | None:
    reports = [solver.members[count].report for count in counts]
    return fmean(report["taken"]["mean"] for report in reports) if all(reports) else None  # of a file without, nothing


def _show(solver: TunedSolver, settings: dict[str, Any], out: Path, names: Sequence[str]) -> None:
    """Write the picture, the page or both."""
    if PICTURE in names:
        with replacing(out / PICTURE) as path:
            figure(solver).savefig(path, dpi=120)
    if PAGE in names:
        with replacing(out / PAGE) as path:
            path.write_text(html(solver, settings), encoding="utf-8")
