"""``scoresde bench``: solvers compared by FID, error and speed at several budgets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import torch
from omegaconf import DictConfig

import solvers
from scoresde import models, report
from scoresde.bench import Bench, Case, Failure, Outcome, Row, Settings, cases, expand
from scoresde.bench.cases import COMPILE
from scoresde.bench.run import Guide
from scoresde.bench.store import CONVERGED, IMAGES, ROWS, Store, files, model
from scoresde.commands import fitting, measured, pictures, precision, prompts, values
from scoresde.commands.guided import check, guided, weak_folder
from scoresde.commands.numbers import positive, whole_number
from scoresde.commands.request import labels_of
from scoresde.data import Resizing
from scoresde.edits import Edit
from scoresde.files.text import plain, say
from scoresde.metrics import ClipScore, Floors, Measure, PointMeasure, Space, clip_score, floors
from scoresde.metrics.measure import NAMES
from scoresde.runs import record, trackers
from scoresde.runs.locks import Lock
from scoresde.runs.progress import Progress
from scoresde.runs.ranks import LostError, Ranks, current
from scoresde.runs.scoring import identity
from scoresde.score import PRECISIONS
from solvers.errors import known
from solvers.grids import Grid

FIGURES = ("fid", "sliced_wasserstein", "error")  # of which a sweeper is given the first that all rows have
MARKS = ("reference_nfe", "features", "n")  # of a record of this command's
Compared: TypeAlias = Measure | PointMeasure | Space | None  # figures, a space alone, or nothing
FORESEEN = ("n", "seed", "batch_size", "reference_nfe", "reference", "label", *prompts.SAID, *pictures.SAID)
LISTS = ("solvers", "grids", "nfe", "tolerances", "guidances", "dtype", "compile")


@dataclass(frozen=True)
class Prepared:
    """All that the rows have in common, before anything is written.

    Attributes:
        common: settings as they are recorded.
        chosen: settings of the benchmark.
        measure: figures, or the space alone; None where there is nothing to compare with.
        wanted: names of the figures.
        edit, labels, scores: as :class:`Bench` has them.
        batches: sizes that are timed.
        shown: programs that are shown the figures at the end.
        found: what was measured of model and machine, and is the same in all processes that share the rows.
    """

    settings: dict[str, Any]
    common: dict[str, Any]
    chosen: Settings
    checkpoint: models.Checkpoint
    measure: Compared
    wanted: tuple[str, ...]
    edit: Edit | None
    labels: torch.Tensor | None
    scores: dict[str, ClipScore]
    batches: list[int]
    shown: list[str]
    guides: dict[str, Guide]
    rows: list[Case]
    device: torch.device
    found: dict[str, Any]

    @property
    def things(self) -> str:
        """What samples are."""
        return "points" if self.checkpoint.points else "images"

    def bench(self, out: Path, ranks: Ranks) -> Bench:
        """What measures the rows of this process, in a folder that is held."""
        return Bench(
            self.checkpoint,
            self.measure,
            None if self.measure is None else _floors(self.settings, self.chosen.n),
            self.chosen,
            out,
            device=self.device,
            guides=self.guides,
            names=self.wanted,
            model=model(self.common),
            versions=record.said(record.versions(self.device)),
            edit=self.edit,
            labels=self.labels,
            scores=self.scores,
            report=partial(_report, grids=self.settings["grids"] != [None]),
            within=partial(_within, self.things, shown=ranks.rank == 0),
            part=ranks.rank,
        )


def run(config: DictConfig, out: Path) -> float | None:
    """Compare as ``conf/bench.yaml`` says, into the folder ``out``; rows that are already there are kept.

    Under ``torchrun`` the processes share the rows.

    Returns:
        FID of the row that was asked for, of points its distance, or the error where neither is measured; the mean over
        them where they are several; None where they have no figure in common.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
        LostError: another process of the run is gone, or has failed.
    """
    ranks, anew, kept = current(), values.forced(config), list[Prepared]()
    out = Path(ranks.first(lambda: str(out)))

    def measured_once() -> dict[str, Any]:
        kept.append(_prepared(config, out, ranks, None))
        return kept[0].found

    found = ranks.first(measured_once)  # what is measured and kept, features of a reference too, is so once
    prepared = ranks.agree(lambda: kept[0] if kept else _prepared(config, out, ranks, found))
    lock = Lock(out)
    try:
        ranks.first(lambda: _begun(prepared, out, lock, anew, ranks))
        if ranks.rank:
            lock.share()
        try:
            bench = _shared(prepared, out, ranks)
            outcome = None if ranks.rank else _told(prepared, bench, out)
        except KeyboardInterrupt as interrupt:
            if ranks.rank:
                raise SystemExit(130) from interrupt  # one says so
            raise KeyboardInterrupt(f"interrupted; {values.going_on(out, anew)}") from interrupt
        lock.drop(remove=ranks.rank == 0)
    finally:
        lock.drop(remove=ranks.size == 1)
    if outcome is None:
        return None
    rows, store = prepared.rows, bench.store
    if failed := [store.failures[row.key] for row in rows if row.key in store.failures]:
        raise ValueError(f"{len(failed)} of {len(rows)} rows failed, and are tried again next time: {failed[0]}")
    metrics = [store.rows[row.key].metrics for row in rows]
    figure = next((name for name in FIGURES if all(name in found for found in metrics)), None)
    return None if figure is None else fmean(found[figure].value for found in metrics)


def _prepared(config: DictConfig, out: Path, ranks: Ranks, found: dict[str, Any] | None) -> Prepared:
    settings = values.resolved(config)
    lists = {key: settings[key] if isinstance(settings[key], list) else [settings[key]] for key in LISTS}
    common = {key: value for key, value in settings.items() if key not in LISTS}
    wanted = tuple(
        known("metric", name, NAMES) for name in (NAMES if settings["metrics"] is None else settings["metrics"])
    )
    if settings["metrics"] is None:
        del common["metrics"]  # as before there was such a choice
    del common["timing"], common["log"]  # what is timed or shown besides is no other benchmark
    shown = trackers.named(settings["log"])
    sizes = settings["timing"] if isinstance(settings["timing"], list) else [settings["timing"]]
    batches = [whole_number("timing", each) for each in sizes if each is not None]
    chosen = Settings(
        n=values.whole(config, "n", least=2),
        seed=values.whole(config, "seed", least=0),
        batch_size=values.whole(config, "batch_size"),
        reference=values.whole(config, "reference_nfe", least=10),
    )
    place = measured.place(settings)
    named = [(name, options) for entry in lists["solvers"] for name, options in expand(entry)]
    tried = [fitting.named(name, options, place)[0] for name, options in named]
    device = ranks.device(values.device(config))
    asked = _asked(lists)
    pictures.check(settings, tried)
    common[pictures.STRENGTH] = settings[pictures.STRENGTH]
    if (begun := values.begun_in(config, out)) is not None:
        record.foresee(begun, common, FORESEEN)
    common["model"]["sha256"] = models.fingerprint(place)
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    clip = _clip_folder(settings)
    del common["clip"]  # its name is recorded where it is there
    if settings[pictures.IMAGE] is not None and settings["reference"] == CONVERGED:
        raise ValueError("reference=converged is for samples that begin with noise, and image gives another beginning")
    inputs = {**prompts.inputs(settings), **pictures.inputs(settings)}
    names = [known("dtype", name, (precision.AUTO, *PRECISIONS)) for name in lists["dtype"]]
    finest = next((name for name in PRECISIONS if name in names), "float32")
    checkpoint = measured.loaded(settings, device, PRECISIONS[finest])
    if precision.AUTO in names:
        size = min(chosen.n, chosen.batch_size)
        common[record.DTYPE] = (
            precision.chosen(begun, record.DTYPE, checkpoint, size, device) if found is None else found["dtype"]
        )
    dtypes = list(dict.fromkeys(common[record.DTYPE] if name == precision.AUTO else name for name in names))
    if checkpoint.pipeline is not None and any(lists["compile"]):
        raise ValueError("compile is for networks: a pipeline is run as it is, leave compile=[null]")
    labels = None
    if checkpoint.pipeline is not None or config.label is not None:
        given = labels_of(config.label, chosen.n, checkpoint)
        labels = None if (given < 0).all() else torch.from_numpy(given)
    edit = pictures.edit(settings, checkpoint, device)
    score = None if clip is None else ClipScore(*_clip(clip, device), checkpoint.class_names)
    guides = _guides(lists["guidances"], checkpoint, device)
    measure = _compared(settings, checkpoint, device, begun, wanted)
    if measure is not None and not checkpoint.points:
        common["features"] = settings["features"]
    if checkpoint.points and (compiled := [mode for mode in lists["compile"] if mode]):
        raise ValueError(f"compile={compiled[0]} is of a network, and {settings['model']['name']} has none")
    Resizing.drop(common, "reference_")
    measured.drop(common)
    if config.label is None:
        del common["label"]  # as in folders of before there was a choice
    common[record.INPUTS] = {
        **_sources(measure),
        **({"reference made": made} if (made := _made(measure, common)) else {}),
        **inputs,
        **({} if score is None else {"clip": score.name}),
        **{f"weak model {name}": models.fingerprint(name) for name in _weak(lists["guidances"])},
    }
    if found is None:
        fitted = [fitting.fitted(solver, checkpoint.model, checkpoint) for solver in tried]
    else:
        scales = zip(tried, found["scales"], strict=True)
        fitted = [solver if scale is None else solvers.get(fitting.AUTO, scale=scale) for solver, scale in scales]
    rows = cases(
        checkpoint.model.process,
        fitted,
        budgets=asked.budgets,
        tolerances=asked.tolerances,
        grids=[grid or checkpoint.grid for grid in asked.grids],
        guidance=list(guides),
        dtypes=dtypes,
        compiles=[mode or "" for mode in lists["compile"]],
    )
    if not rows:
        raise ValueError("nothing to compare: one of solvers, grids, nfe, tolerances, guidances and dtype is empty")
    scales = [solver.options["scale"] if solver.name == fitting.AUTO else None for solver in fitted]
    found = {"dtype": common.get(record.DTYPE), "scales": scales}
    return Prepared(
        settings,
        common,
        chosen,
        checkpoint,
        measure,
        wanted,
        edit,
        labels,
        {} if score is None else {"clip_score": score},
        batches,
        shown,
        guides,
        rows,
        device,
        found,
    )


def _begun(prepared: Prepared, out: Path, lock: Lock, anew: bool, ranks: Ranks) -> None:
    """Make the folder this run's own, see that it is of this configuration, and say what is there."""
    common, device, rows = prepared.common, prepared.device, prepared.rows
    unwritable = record.take(lock, out, (IMAGES, CONVERGED))
    if not (anew and unwritable is None and record.anew(out, MARKS, lambda _: [*files(out), *report.FILES])):
        record.complete(out, common, (ROWS,))  # refuses another configuration's folder
    if unwritable is not None:
        raise unwritable
    record.write(out, common, device)
    if changed := record.changes(out, device):
        say(f"note: begun with {changed}: rows that are there may differ by rounding, and in seconds")
    store = Store(out)  # which takes in what processes of before have left
    shared = f"; {ranks.size} processes" if ranks.size > 1 else ""
    there = sum(row.key in store for row in rows)
    count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
    say(f"{count} of {prepared.chosen.n} {prepared.things}, {there} of them in {out} already{shared}")
    if ranks.size > 1:
        lock.share()


def _shared(prepared: Prepared, out: Path, ranks: Ranks) -> Bench:
    """Measure this process's share of the rows that are missing, and wait for the others.

    Raises:
        SystemExit: this process has failed, and has said so; the others have done their part.
        LostError: another has.
    """
    bench, rows = prepared.bench(out, ranks), prepared.rows
    missing = bench.missing(rows)  # of which nobody has begun one
    if ranks.size > 1:
        _together(ranks, lambda: bench.converge(missing, ranks.rank, ranks.size))
    _together(ranks, lambda: bench.work(missing, len(rows), ranks.rank, ranks.size))
    if ranks.size > 1 and ranks.rank == 0:
        bench.store.gather([row.key for row in rows])
    return bench


def _together(ranks: Ranks, action: Callable[[], None]) -> None:
    failure: Exception | None = None
    try:
        action()
    except Exception as error:
        if ranks.size == 1:
            raise
        failure = error
        print(f"scoresde: process {ranks.rank}: {plain(error)}", file=sys.stderr, flush=True)
    failed = ranks.settle(failure is not None)
    if failure is not None:
        raise SystemExit(1) from failure
    if failed:
        raise LostError(f"{failed} of {ranks.size} processes failed")


def _told(prepared: Prepared, bench: Bench, out: Path) -> Outcome:
    """Write the report, and say what was found."""
    found = bench.outcome(prepared.rows)
    if prepared.batches:
        say(f"timing batches of {', '.join(map(str, prepared.batches))}")
        bench.time(prepared.rows, prepared.batches)
        found = bench.store.outcome()
    if len(found.rows) > len({row.key for row in prepared.rows} & bench.store.rows.keys()):
        say(f"{len(found.rows)} rows are in {out} with those of before")
    written = report.write(found, out)
    say(f"\n{report.tables.markdown(found)}\n\n{out}: {', '.join((*written, record.CONFIG, record.VERSIONS))}")
    say(f"open {out / 'report.html'} in a browser")
    for name in prepared.shown:
        with trackers.LOGS[name](out, None, prepared.common) as log:
            for nfe, values_there in report.tables.by_budget(found).items():
                log.write(nfe, values_there)
    return found


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


def _compared(
    settings: dict[str, Any],
    checkpoint: models.Checkpoint,
    device: torch.device,
    begun: Path | None,
    wanted: tuple[str, ...],
) -> Compared:
    """What samples are measured in and compared with; ``features=auto`` becomes what it comes to.

    None where no reference is given for a pipeline of text, or for a model that brings none and of which no figures are
    asked for: there is nothing to compare distributions with, and errors need nothing.

    Raises:
        ValueError: there is no such space or reference, or figures that need one are asked for by name.
    """
    if checkpoint.points:
        return measured.of_points(settings, checkpoint)
    if checkpoint.pipeline is not None and measured.lacking(settings):
        if settings["metrics"]:
            raise ValueError(
                f"metrics={settings['metrics']} compare with images, and none come with a {checkpoint.pipeline}: "
                "give reference=… with some, or converged, the model's own samples"
            )
        return None
    before, place = record.recorded(begun) if begun else None, measured.place(settings)
    home = models.home(place)
    if settings["metrics"] == [] and measured.lacking(settings) and (home is None or not (home / "features").is_dir()):
        return None
    measured.settle(settings, checkpoint.image_shape(device), home, before)
    if settings["reference"] == CONVERGED:
        return measured.space(settings, checkpoint, device)
    return replace(measured.measure(settings, checkpoint, device), names=wanted)


def _sources(measure: Compared) -> dict[str, str]:
    """What rows are measured in and compared with."""
    if measure is None:
        return {}
    if isinstance(measure, PointMeasure):
        return {"features": measure.where, "reference": "exact"}
    if isinstance(measure, Measure):
        return {"features": measure.where, "reference": identity(measure.reference)}
    return {"features": measure.name, "reference": CONVERGED}


def _made(measure: Compared, recorded: dict[str, Any]) -> str:
    """What became of the images of the reference, where no setting says so; empty for nothing."""
    asked = any(key.startswith("reference_") and key != "reference_nfe" for key in recorded)
    return measure.reference.resized if isinstance(measure, Measure) and not asked else ""


def _clip_folder(settings: dict[str, Any]) -> Path | None:
    """The folder of the CLIP that scores images by their prompts; None where there are no prompts, or there is no CLIP.

    Raises:
        ValueError: another than the usual is asked for, and is not there, or there are no prompts.
    """
    source = settings["clip"]
    if source is None or not prompts.given(settings):
        if source not in (None, clip_score.DEFAULT):
            raise ValueError(f"clip={source} scores images by their prompts: give prompt=, or leave clip out")
        return None
    found = clip_score.find(str(source))
    if found is None and source != clip_score.DEFAULT:
        raise ValueError(f"there is no CLIP {str(source)!r}: it is neither a folder nor in the cache of the hub")
    if found is None:
        say(f"note: no CLIP score: {source} is not in the cache of the hub; clip=FOLDER names one of transformers")
    return found


def _clip(folder: Path, device: torch.device) -> tuple[torch.nn.Module, Any]:
    network, words = models.clip(folder)
    return network.to(device), words


def _weak(entries: list[Any]) -> list[str]:
    """Folders of weaker models that guide."""
    folders = [weak_folder(entry) for entry in entries if isinstance(entry, dict)]
    return sorted({folder for folder in folders if folder is not None})


def _guides(entries: list[Any], checkpoint: models.Checkpoint, device: torch.device) -> dict[str, Guide]:
    """What guides a model, by its name with its options; a number is the scale of classifier-free guidance.

    Of a pipeline, null is its own scale.
    """
    found: dict[str, Guide] = {}
    for entry in entries:
        entry = getattr(checkpoint.model, "scale", None) if entry is None else entry
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
    if models.exact(measured.place(settings)) is not None:
        return None
    folder = models.home(measured.place(settings)) if measured.own(settings) else None
    return floors(n, folder) if folder is not None and (folder / "converged_features.npz").is_file() else None


@contextmanager
def _within(things: str, what: str, count: int, shown: bool) -> Iterator[Callable[[float], None]]:
    """What is under way, on a terminal or, of what takes long, in lines."""
    if shown and what.startswith("converged"):
        say(f"{what}: {count} {things}")
    with Progress(count, 0, lambda: 0, shown=shown, left=False, things=things) as progress:
        yield progress.advance


def _report(row: Row | Failure, done: int, total: int, left: float, grids: bool) -> None:
    """A line, with the grid where grids were asked for."""
    on = f"on {row.grid}" if grids else ""
    varied = " ".join(item for item in (row.solver, on, row.guidance, row.dtype, row.compile) if item)
    if isinstance(row, Failure):
        say(f"{done:>4}/{total}  {varied:<36} at {row.budget:g} failed: {row.failed}")
        return
    figures = [f"FID {row.metrics['fid'].value:8.2f}"] if "fid" in row.metrics else []
    if "sliced_wasserstein" in row.metrics and not figures:
        figures = [f"distance {row.metrics['sliced_wasserstein'].value:.4f}"]
    figures += [f"CLIP {row.metrics['clip_score'].value:.2f}"] if "clip_score" in row.metrics else []
    figures += [f"error {row.metrics['error'].value:.4f}"] if "error" in row.metrics else []
    minutes, seconds = divmod(round(left), 60)
    say(
        f"{done:>4}/{total}  {varied:<36} NFE {row.nfe:>5g}  {'  '.join(figures):<30} {row.seconds:6.1f} s"
        f"  {minutes} min {seconds:02d} s left",
    )
