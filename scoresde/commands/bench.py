"""``scoresde bench``: solvers compared by FID, error and speed at several budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import solvers
from scoresde import models, report
from scoresde.bench import Bench, Failure, Row, Settings, cases, expand
from scoresde.bench.run import Guide
from scoresde.bench.store import CONVERGED, IMAGES, ROWS, model
from scoresde.commands import fitting, measured, precision, values
from scoresde.commands.guided import guided, weak_folder
from scoresde.data import Resizing
from scoresde.files.text import say
from scoresde.metrics import Floors, Measure, PointMeasure, Space, floors
from scoresde.metrics.measure import NAMES
from scoresde.runs import record
from scoresde.runs.progress import Progress
from scoresde.runs.scoring import identity
from scoresde.score import PRECISIONS
from solvers.errors import known
from solvers.grids import Grid

LISTS = ("solvers", "grids", "nfe", "tolerances", "guidances", "dtype", "compile")


def run(config: DictConfig, out: Path) -> None:
    """Compare as ``conf/bench.yaml`` says, into the folder ``out``; rows that are already there are kept.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
    """
    settings = values.resolved(config)
    lists = {key: settings[key] if isinstance(settings[key], list) else [settings[key]] for key in LISTS}
    common = {key: value for key, value in settings.items() if key not in LISTS}
    wanted = tuple(
        known("metric", name, NAMES) for name in (NAMES if settings["metrics"] is None else settings["metrics"])
    )
    if settings["metrics"] is None:
        del common["metrics"]  # as before there was such a choice
    chosen = Settings(
        n=values.whole(config, "n", least=2),
        seed=values.whole(config, "seed", least=0),
        batch_size=values.whole(config, "batch_size"),
        reference=values.whole(config, "reference_nfe", least=10),
    )
    place = measured.place(settings)
    named = [(name, options) for entry in lists["solvers"] for name, options in expand(entry)]
    tried = [fitting.named(name, options, place)[0] for name, options in named]
    del common["timing"]  # what is timed besides is no other benchmark
    given = settings["timing"] if isinstance(settings["timing"], list) else [settings["timing"]]
    batches = [values.whole_number("timing", each) for each in given if each is not None]
    device = values.device(config)
    common["model"]["sha256"] = models.fingerprint(place)
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    names = [known("dtype", name, (precision.AUTO, *PRECISIONS)) for name in lists["dtype"]]
    finest = next((name for name in PRECISIONS if name in names), "float32")
    checkpoint = measured.loaded(settings, device, PRECISIONS[finest])
    if precision.AUTO in names:
        size = min(chosen.n, chosen.batch_size)
        common[record.DTYPE] = precision.chosen(out, record.DTYPE, checkpoint, size, device)
    dtypes = list(dict.fromkeys(common[record.DTYPE] if name == precision.AUTO else name for name in names))
    guides = _guides(lists["guidances"], checkpoint, device)
    if checkpoint.points:
        measure: Measure | PointMeasure | Space = measured.of_points(settings, checkpoint)
        if compiled := [mode for mode in lists["compile"] if mode]:
            raise ValueError(f"compile={compiled[0]} is of a network, and {settings['model']['name']} has none")
    else:
        own = settings["reference"] == CONVERGED
        measure = (measured.space if own else measured.measure)(settings, checkpoint, device)
    measure = replace(measure, names=wanted) if isinstance(measure, Measure) else measure
    Resizing.drop(common, "reference_")
    measured.drop(common)
    common[record.INPUTS] = {
        **_sources(measure),
        **{f"weak model {name}": models.fingerprint(name) for name in _weak(lists["guidances"])},
    }
    rows = cases(
        checkpoint.model.process,
        [fitting.fitted(solver, checkpoint.model, checkpoint) for solver in tried],
        budgets=[values.whole_number("nfe", value) for value in lists["nfe"]],
        tolerances=[values.positive("tolerances", value) for value in lists["tolerances"]],
        grids=[_grid(name, options) or checkpoint.grid for entry in lists["grids"] for name, options in expand(entry)],
        guidance=list(guides),
        dtypes=dtypes,
        compiles=[mode or "" for mode in lists["compile"]],
    )
    if not rows:
        raise ValueError("nothing to compare: one of solvers, grids, nfe, guidances, dtype and compile is empty")
    things = "points" if checkpoint.points else "images"
    with record.held(out, (IMAGES, CONVERGED)) as unwritable:
        record.complete(out, common, (ROWS,))  # refuses another configuration's folder
        if unwritable is not None:
            raise unwritable
        record.write(out, common, device)
        if changed := record.changes(out, device):
            say(f"note: begun with {changed}: rows that are there may differ by rounding, and in seconds")
        bench = Bench(
            checkpoint,
            measure,
            _floors(settings, chosen.n),
            chosen,
            out,
            device=device,
            guides=guides,
            names=wanted,
            model=model(common),
            versions=record.said(record.versions(device)),
            report=_report,
            within=partial(_within, things),
        )
        there = sum(row.key in bench.store for row in rows)
        say(f"{len(rows)} rows of {chosen.n} {things}, {there} of them in {out} already")
        try:
            found = bench.run(rows)
            if batches:
                say(f"timing batches of {', '.join(map(str, batches))}")
                bench.time(rows, batches)
                found = bench.store.outcome()
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"interrupted; the same command with out={out} goes on") from interrupt
        if len(found.rows) > len({row.key for row in rows} & bench.store.rows.keys()):
            say(f"{len(found.rows)} rows are in {out} with those of before")
        written = report.write(found, out)
    say(f"\n{report.tables.markdown(found)}\n\n{out}: {', '.join((*written, record.CONFIG, record.VERSIONS))}")
    say(f"open {out / 'report.html'} in a browser")
    if failed := [bench.store.failures[row.key] for row in rows if row.key in bench.store.failures]:
        raise ValueError(f"{len(failed)} of {len(rows)} rows failed, and are tried again next time: {failed[0]}")


def _sources(measure: Measure | PointMeasure | Space) -> dict[str, str]:
    """What rows are measured in and compared with."""
    if isinstance(measure, PointMeasure):
        return {"features": measure.where, "reference": "exact"}
    if isinstance(measure, Measure):
        return {"features": measure.where, "reference": identity(measure.reference)}
    return {"features": measure.name, "reference": CONVERGED}


def _weak(entries: list[Any]) -> list[str]:
    """Folders of weaker models that guide."""
    folders = [weak_folder(entry) for entry in entries if isinstance(entry, dict)]
    return sorted({folder for folder in folders if folder is not None})


def _guides(entries: list[Any], checkpoint: models.Checkpoint, device: torch.device) -> dict[str, Guide]:
    """What guides a model, by its name with its options; a number is the scale of classifier-free guidance."""
    found: dict[str, Guide] = {}
    for entry in entries:
        if isinstance(entry, (int, float)):
            entry = {"name": "classifier_free", "scale": entry}
        for name, options in expand(entry):
            group = {"name": name or None, **options}
            told = f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name
            found[told] = partial(guided, group=group, checkpoint=checkpoint, device=device)
            found[told](checkpoint.model, dtype=torch.float32)  # what cannot be guided so is refused now
    return found


def _grid(name: str, options: dict[str, Any]) -> Grid | None:
    return solvers.grids.get(name, **options) if name else None


def _floors(settings: dict[str, Any], n: int) -> Floors | None:
    """What comes with the model, where its own space and reference are used."""
    if not measured.own(settings) or models.exact(measured.place(settings)) is not None:
        return None
    folder = models.find(measured.place(settings))
    return floors(n, folder) if (folder / "converged_features.npz").is_file() else None


@contextmanager
def _within(things: str, what: str, count: int) -> Iterator[Callable[[float], None]]:
    """What is under way, on a terminal or, of what takes long, in lines."""
    if what.startswith("converged"):
        say(f"{what}: {count} {things}")
    with Progress(count, 0, lambda: 0, left=False, things=things) as progress:
        yield progress.advance


def _report(row: Row | Failure, done: int, total: int, left: float) -> None:
    varied = " ".join(item for item in (row.solver, row.guidance, row.dtype, row.compile) if item)
    if isinstance(row, Failure):
        say(f"{done:>4}/{total}  {varied:<36} at {row.budget:g} failed: {row.failed}")
        return
    figures = [f"FID {row.metrics['fid'].value:8.2f}"] if "fid" in row.metrics else []
    if "sliced_wasserstein" in row.metrics and not figures:
        figures = [f"distance {row.metrics['sliced_wasserstein'].value:.4f}"]
    figures += [f"error {row.metrics['error'].value:.4f}"] if "error" in row.metrics else []
    minutes, seconds = divmod(round(left), 60)
    say(
        f"{done:>4}/{total}  {varied:<36} NFE {row.nfe:>5g}  {'  '.join(figures):<30} {row.seconds:6.1f} s"
        f"  {minutes} min {seconds:02d} s left",
    )
