"""``scoresde bench``: solvers compared by FID, error and speed at several budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from omegaconf import DictConfig

import solvers
from scoresde import models, report
from scoresde.bench import Bench, Failure, Row, Settings, cases, expand
from scoresde.bench.cases import COMPILE, OWN_STEPS
from scoresde.bench.run import Guide
from scoresde.bench.store import CONVERGED, IMAGES, ROWS, files
from scoresde.commands import fitting, measured, precision, values
from scoresde.commands.guided import check, guided, weak_folder
from scoresde.commands.numbers import positive, whole_number
from scoresde.data import Resizing
from scoresde.files.text import say
from scoresde.metrics import Floors, Measure, floors
from scoresde.runs import record
from scoresde.runs.progress import Progress
from scoresde.runs.scoring import identity
from scoresde.score import PRECISIONS
from solvers.errors import known
from solvers.grids import Grid

MARKS = ("reference_nfe", "features", "n")  # of a record of this command's
LISTS = ("solvers", "grids", "nfe", "tolerances", "guidances", "dtype", "compile")


def run(config: DictConfig, out: Path) -> float:
    """Compare as ``conf/bench.yaml`` says, into the folder ``out``; rows that are already there are kept.

    Returns:
        FID of the row that was asked for; its mean over them where they are several.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
    """
    settings, anew = values.resolved(config), values.forced(config)
    lists = {key: settings[key] if isinstance(settings[key], list) else [settings[key]] for key in LISTS}
    common = {key: value for key, value in settings.items() if key not in LISTS}
    chosen = Settings(
        n=values.whole(config, "n", least=2),
        seed=values.whole(config, "seed", least=0),
        batch_size=values.whole(config, "batch_size"),
        reference=values.whole(config, "reference_nfe", least=10),
    )
    named = [(name, options) for entry in lists["solvers"] for name, options in expand(entry)]
    tried = [fitting.named(name, options, config.model.path)[0] for name, options in named]
    device = values.device(config)
    asked = _asked(lists)
    if (begun := values.begun_in(config, out)) is not None:
        record.foresee(begun, common, ("n", "seed", "batch_size", "reference_nfe", "reference"))
    common["model"]["sha256"] = models.fingerprint(config.model.path)
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    names = [known("dtype", name, (precision.AUTO, *PRECISIONS)) for name in lists["dtype"]]
    finest = next((name for name in PRECISIONS if name in names), "float32")
    checkpoint = measured.loaded(settings, device, PRECISIONS[finest])
    if precision.AUTO in names:
        size = min(chosen.n, chosen.batch_size)
        common[record.DTYPE] = precision.chosen(values.begun_in(config, out), record.DTYPE, checkpoint, size, device)
    dtypes = list(dict.fromkeys(common[record.DTYPE] if name == precision.AUTO else name for name in names))
    guides = _guides(lists["guidances"], checkpoint, device)
    own = settings["reference"] == CONVERGED
    measure = (measured.space if own else measured.measure)(settings, checkpoint, device)
    Resizing.drop(common, "reference_")
    measured.drop(common)
    common[record.INPUTS] = {
        "features": measure.space.name if isinstance(measure, Measure) else measure.name,
        "reference": identity(measure.reference) if isinstance(measure, Measure) else CONVERGED,
        **{f"weak model {name}": models.fingerprint(name) for name in _weak(lists["guidances"])},
    }
    rows = cases(
        checkpoint.model.process,
        [fitting.fitted(solver, checkpoint.model, checkpoint) for solver in tried],
        budgets=asked.budgets,
        tolerances=asked.tolerances,
        grids=[grid or checkpoint.grid for grid in asked.grids],
        guidance=list(guides),
        dtypes=dtypes,
        compiles=[mode or "" for mode in lists["compile"]],
    )
    if not rows:
        raise ValueError("nothing to compare: one of solvers, grids, nfe, tolerances, guidances and dtype is empty")
    with record.held(out, (IMAGES, CONVERGED)) as unwritable:
        if not (anew and unwritable is None and record.anew(out, MARKS, lambda _: [*files(out), *report.FILES])):
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
            report=_report,
            within=_within,
        )
        there = sum(row.key in bench.store for row in rows)
        say(f"{len(rows)} rows of {chosen.n} images, {there} of them in {out} already")
        lists["dtype"] = dtypes
        environment = record.versions(device)
        try:
            found = bench.run(rows)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"interrupted; {values.going_on(out, anew)}") from interrupt
        if len(found.rows) > len({row.key for row in rows} & bench.store.rows.keys()):
            lists = _lists(found.rows)
            say(f"{len(found.rows)} rows are in {out} with those of before")
        outcome = replace(found, config={**common, **lists}, environment=environment)
        written = report.write(outcome, out)
    say(f"\n{report.tables.markdown(outcome)}\n\n{out}: {', '.join((*written, record.CONFIG, record.VERSIONS))}")
    say(f"open {out / 'report.html'} in a browser")
    if failed := [bench.store.failures[row.key] for row in rows if row.key in bench.store.failures]:
        raise ValueError(f"{len(failed)} of {len(rows)} rows failed, and are tried again next time: {failed[0]}")
    return fmean(bench.store.rows[row.key].metrics["fid"].value for row in rows)


@dataclass(frozen=True)
class Asked:
    """What varies, as far as it is known before the model."""

    budgets: list[int]
    tolerances: list[float]
    grids: list[Grid | None]


def _asked(lists: dict[str, list[Any]]) -> Asked:
    """Read lists, and refuse what needs no model to be refused.

    Raises:
        ValueError: an unknown name, an option or a number out of range, or a list that is empty.
    """
    if empty := [key for key in ("solvers", "grids", "guidances", "dtype", "compile") if not lists[key]]:
        raise ValueError(f"nothing to compare: {empty[0]} is empty")
    for mode in filter(None, lists["compile"]):
        known("compile mode", mode, COMPILE)
    for entry in lists["guidances"]:
        for group in _groups(entry):
            check(group)
    return Asked(
        [whole_number("nfe", value) for value in lists["nfe"]],
        [positive("tolerances", value) for value in lists["tolerances"]],
        [_grid(name, options) for entry in lists["grids"] for name, options in expand(entry)],
    )


def _groups(entry: Any) -> list[dict[str, Any]]:
    """Guidances of an entry; a number is the scale of classifier-free guidance."""
    if isinstance(entry, (int, float)):
        entry = {"name": "classifier_free", "scale": entry}
    return [{"name": name or None, **options} for name, options in expand(entry)]


def _lists(rows: list[Row]) -> dict[str, Any]:
    """What was varied, by the rows themselves."""
    on_grids, adaptive = ([row for row in rows if (row.grid == OWN_STEPS) is own] for own in (False, True))
    found = {
        "solvers": [row.solver for row in rows],
        "grids": [row.grid for row in on_grids],
        "nfe": sorted(row.budget for row in on_grids),
        "tolerances": sorted(row.budget for row in adaptive),
        "guidances": [row.guidance for row in rows],
        "dtype": [row.dtype for row in rows],
        "compile": [row.compile for row in rows],
    }
    return {key: list(dict.fromkeys(values)) for key, values in found.items()}


def _weak(entries: list[Any]) -> list[str]:
    """Folders of weaker models that guide."""
    folders = [weak_folder(entry) for entry in entries if isinstance(entry, dict)]
    return sorted({folder for folder in folders if folder is not None})


def _guides(entries: list[Any], checkpoint: models.Checkpoint, device: torch.device) -> dict[str, Guide]:
    """What guides a model, by its name with its options; a number is the scale of classifier-free guidance."""
    found: dict[str, Guide] = {}
    for entry in entries:
        for group in _groups(entry):
            name, options = group["name"] or "", {key: value for key, value in group.items() if key != "name"}
            told = f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name
            found[told] = partial(guided, group=group, checkpoint=checkpoint, device=device)
            found[told](checkpoint.model, dtype=torch.float32)  # what cannot be guided so is refused now
    return found


def _grid(name: str, options: dict[str, Any]) -> Grid | None:
    return solvers.grids.get(name, **options) if name else None


def _floors(settings: dict[str, Any], n: int) -> Floors | None:
    """What comes with the model, where its own space and reference are used."""
    if not measured.own(settings):
        return None
    folder = models.find(settings["model"]["path"])
    return floors(n, folder) if (folder / "converged_features.npz").is_file() else None


@contextmanager
def _within(what: str, images: int) -> Iterator[Callable[[float], None]]:
    """What is under way, on a terminal or, of what takes long, in lines."""
    if what.startswith("converged"):
        say(f"{what}: {images} images")
    with Progress(images, 0, lambda: 0, left=False) as progress:
        yield progress.advance


def _report(row: Row | Failure, done: int, total: int, left: float) -> None:
    varied = " ".join(item for item in (row.solver, row.guidance, row.dtype, row.compile) if item)
    if isinstance(row, Failure):
        say(f"{done:>4}/{total}  {varied:<36} at {row.budget:g} failed: {row.failed}")
        return
    figures = [f"FID {row.metrics['fid'].value:8.2f}"]
    figures += [f"error {row.metrics['error'].value:.4f}"] if "error" in row.metrics else []
    minutes, seconds = divmod(round(left), 60)
    say(
        f"{done:>4}/{total}  {varied:<36} NFE {row.nfe:>5g}  {'  '.join(figures):<30} {row.seconds:6.1f} s"
        f"  {minutes} min {seconds:02d} s left",
    )
