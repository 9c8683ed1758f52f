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
from scoresde.bench.cases import OWN_STEPS
from scoresde.bench.run import CONVERGED, Guide
from scoresde.bench.store import IMAGES, ROWS
from scoresde.commands import fitting, measured, pictures, precision, prompts, values
from scoresde.commands.guided import guided, weak_folder
from scoresde.commands.request import labels_of
from scoresde.data import Resizing
from scoresde.files.text import say
from scoresde.metrics import ClipScore, Floors, Measure, Space, clip_score, floors
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
    chosen = Settings(
        n=values.whole(config, "n", least=2),
        seed=values.whole(config, "seed", least=0),
        batch_size=values.whole(config, "batch_size"),
        reference=values.whole(config, "reference_nfe", least=10),
    )
    named = [(name, options) for entry in lists["solvers"] for name, options in expand(entry)]
    tried = [fitting.named(name, options, config.model.path)[0] for name, options in named]
    device = values.device(config)
    common["model"]["sha256"] = models.fingerprint(config.model.path)
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    clip = _clip_folder(settings)
    del common["clip"]  # its name is recorded where it is there
    pictures.check(settings, tried)
    common[pictures.STRENGTH] = settings[pictures.STRENGTH]
    if settings[pictures.IMAGE] is not None and settings["reference"] == CONVERGED:
        raise ValueError("reference=converged is for samples that begin with noise, and image gives another beginning")
    inputs = {**prompts.inputs(settings), **pictures.inputs(settings)}
    names = [known("dtype", name, (precision.AUTO, *PRECISIONS)) for name in lists["dtype"]]
    finest = next((name for name in PRECISIONS if name in names), "float32")
    checkpoint = measured.loaded(settings, device, PRECISIONS[finest])
    if precision.AUTO in names:
        size = min(chosen.n, chosen.batch_size)
        common[record.DTYPE] = precision.chosen(out, record.DTYPE, checkpoint, size, device)
    dtypes = list(dict.fromkeys(common[record.DTYPE] if name == precision.AUTO else name for name in names))
    if checkpoint.pipeline is not None and any(lists["compile"]):
        raise ValueError("compile is for networks: a pipeline is run as it is, leave compile=[null]")
    labels = None
    if checkpoint.pipeline is not None or config.label is not None:
        labels = torch.from_numpy(labels_of(config.label, chosen.n, checkpoint))
    score = None if clip is None else ClipScore(*_clip(clip, device), checkpoint.class_names)
    guides = _guides(lists["guidances"], checkpoint, device)
    own = settings["reference"] == CONVERGED
    if checkpoint.pipeline is not None and not own and measured.lacking(settings):
        measure = None  # there is nothing to compare distributions with, and errors need nothing
    else:
        measure = (measured.space if own else measured.measure)(settings, checkpoint, device)
    Resizing.drop(common, "reference_")
    measured.drop(common)
    if config.label is None:
        del common["label"]  # as in folders of before there was a choice
    common[record.INPUTS] = {
        **_identity(measure),
        **inputs,
        **({} if score is None else {"clip": score.name}),
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
            None if measure is None else _floors(settings, chosen.n),
            chosen,
            out,
            device=device,
            guides=guides,
            edit=pictures.edit(settings, checkpoint, device),
            labels=labels,
            scores={} if score is None else {"clip_score": score},
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
            raise KeyboardInterrupt(f"interrupted; the same command with out={out} goes on") from interrupt
        if len(found.rows) > len({row.key for row in rows} & bench.store.rows.keys()):
            lists = _lists(found.rows)
            say(f"{len(found.rows)} rows are in {out} with those of before")
        outcome = replace(found, config={**common, **lists}, environment=environment)
        written = report.write(outcome, out)
    say(f"\n{report.tables.markdown(outcome)}\n\n{out}: {', '.join((*written, record.CONFIG, record.VERSIONS))}")
    say(f"open {out / 'report.html'} in a browser")
    if failed := [bench.store.failures[row.key] for row in rows if row.key in bench.store.failures]:
        raise ValueError(f"{len(failed)} of {len(rows)} rows failed, and are tried again next time: {failed[0]}")


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


def _identity(measure: Measure | Space | None) -> dict[str, str]:
    """What samples are measured in and compared with, as it is recorded."""
    if measure is None:
        return {}
    if isinstance(measure, Measure):
        return {"features": measure.space.name, "reference": identity(measure.reference)}
    return {"features": measure.name, "reference": CONVERGED}


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
    """What guides a model, by its name with its options; a number is the scale of classifier-free guidance.

    Of a pipeline, null is its own scale.
    """
    found: dict[str, Guide] = {}
    for entry in entries:
        entry = getattr(checkpoint.model, "scale", None) if entry is None else entry
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
    figures = [f"FID {row.metrics['fid'].value:8.2f}"] if "fid" in row.metrics else []
    figures += [f"CLIP {row.metrics['clip_score'].value:.2f}"] if "clip_score" in row.metrics else []
    figures += [f"error {row.metrics['error'].value:.4f}"] if "error" in row.metrics else []
    minutes, seconds = divmod(round(left), 60)
    say(
        f"{done:>4}/{total}  {varied:<36} NFE {row.nfe:>5g}  {'  '.join(figures):<30} {row.seconds:6.1f} s"
        f"  {minutes} min {seconds:02d} s left",
    )
