"""``scoresde sample``: images from a model, with their seeds; as many as asked for, whatever comes between."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from scoresde.commands.request import Request
from scoresde.data import to_pixels
from scoresde.files.pictures import save_grid
from scoresde.files.text import plain, say
from scoresde.runs import ranks as distributed
from scoresde.runs import record
from scoresde.runs.formats import SHARDS
from scoresde.runs.locks import Lock
from scoresde.runs.progress import Progress
from scoresde.runs.ranks import LostError, Ranks
from scoresde.runs.scoring import METRICS
from scoresde.runs.shards import Shard

GRID = "grid.png"
OURS = ("samples.npz", "samples.zip", "images", SHARDS, GRID, METRICS)
SHOWN, ROWS = 100, 10  # images in the picture at most, and rows of it where columns are classes


def run(config: DictConfig, out: Path) -> None:
    """Sample as ``conf/sample.yaml`` says, into the folder ``out``; go on with what is there.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
        OSError: the folder cannot be written, or another run is under way in it; says what is done.
        KeyboardInterrupt: with what is done.
    """
    ranks = distributed.current()
    out = Path(ranks.first(lambda: str(out)))  # the default has the time in it
    dtype = ranks.first(lambda: Request.dtype(config, out))
    request = ranks.agree(lambda: Request.of(config, out, ranks, dtype))
    lock = Lock(out)
    try:
        with _explained(request, out, ranks):
            ranks.first(lambda: _begin(request, out, lock, ranks))
            if ranks.rank:
                lock.share()
            _run(request, out, ranks)
        lock.drop(remove=ranks.rank == 0)
    finally:
        lock.drop(remove=ranks.size == 1)


def _begin(request: Request, out: Path, lock: Lock, ranks: Ranks) -> None:
    """Make the folder this run's own, and see that it is of this configuration, in this order."""
    unwritable = record.take(lock, out, (SHARDS, "images"))
    record.complete(out, request.settings, OURS)
    if unwritable is not None and not _complete(request):
        raise unwritable  # there is nothing to write if all is there
    if unwritable is None:
        record.write(out, request.settings, request.device)
        if ranks.size > 1:
            lock.share()
    if changed := record.changes(out, request.device):
        say(f"note: begun with {changed}: what is made now may differ by rounding from what is there")


def _complete(request: Request) -> bool:
    return all(map(request.shards.whole, request.shards.parts)) and _finished(request)


def _finished(request: Request) -> bool:
    """Whether, with all shards there, nothing is left to do."""
    return request.shards.finished() and (request.scoring is None or request.scoring.finished(request.shards))


def _run(request: Request, out: Path, ranks: Ranks) -> None:
    shards, start = request.shards, time.perf_counter()
    whole = np.zeros(len(shards.parts), dtype=np.int64)
    for index in range(ranks.rank, len(whole), ranks.size):
        whole[index] = shards.whole(shards.parts[index])
        if not whole[index]:
            shards.forget(shards.parts[index])
    there = ranks.sum(whole).astype(bool)
    if there.all() and ranks.first(lambda: _finished(request)):
        if ranks.rank == 0:
            say(f"the results of this configuration are already in {out}")
        return
    missing = [shards.parts[index] for index in np.flatnonzero(~there)]
    begun = shards.total - sum(map(len, missing))
    if begun and ranks.rank == 0:
        say(f"{begun:,} of {shards.total:,} images are there; going on")
    _make(request, out, ranks, missing, begun)
    if ranks.rank == 0:
        if not shards.finished():
            shards.finish()
        if request.scoring is not None and not request.scoring.finished(shards):
            request.scoring.finish(shards)
        _report(request, out, ranks, shards.total - begun, time.perf_counter() - start)


def _make(request: Request, out: Path, ranks: Ranks, missing: list[Shard], begun: int) -> None:
    """Make this process's share of the missing shards, and wait for the others.

    Raises:
        SystemExit: this process has failed, and has said so; the others have done their part.
        LostError: another has.
    """
    shards, mine = request.shards, missing[ranks.rank :: ranks.size]
    theirs = [shard for index, shard in enumerate(missing) if index % ranks.size != ranks.rank]
    failure: Exception | None = None
    with Progress(shards.total, begun, lambda: shards.count(theirs), shown=ranks.rank == 0) as progress:
        try:
            for shard in mine:
                _make_one(request, out, shard, progress)
        except Exception as error:
            if ranks.size == 1:
                raise
            failure = error
            print(f"scoresde: process {ranks.rank}: {plain(error)}", file=sys.stderr, flush=True)
        failed = ranks.settle(failure is not None, progress.look)
    if failure is not None:
        raise SystemExit(1) from failure
    if failed:
        raise LostError(f"{failed} of {ranks.size} processes failed")


def _make_one(request: Request, out: Path, shard: Shard, progress: Progress) -> None:
    labels = request.labels[shard.place : shard.place + len(shard)]
    result = request.sample(shard.seeds.tolist(), labels, progress.advance)
    samples = result.samples.to("cpu", torch.float32)
    features = None if request.scoring is None else request.scoring.features(samples)
    pictures = []
    if shard.place == 0 and samples.shape[1] in (1, 3):
        pictures.append(out / GRID)
        _draw(out / GRID, samples, request.columns)
    request.shards.write(shard, samples, labels, result.evaluations, features, pictures)


def _draw(path: Path, samples: Tensor, columns: int) -> None:
    """The first images, a class in each column where ``columns`` says so."""
    pixels = to_pixels(samples)
    if columns and len(pixels) >= columns:
        names = [str(label) for label in range(columns)]
        save_grid(path, pixels[: columns * ROWS], columns, column_labels=names)
    else:
        pixels = pixels[:SHOWN]
        save_grid(path, pixels, max(1, round(len(pixels) ** 0.5)))


def _report(request: Request, out: Path, ranks: Ranks, made: int, seconds: float) -> None:
    records = [request.shards.record(shard) or {} for shard in request.shards.parts]
    most, mean = max(made["nfe"] for made in records), sum(made["evaluations"] for made in records)
    mean /= request.shards.total
    taken = f"{most} NFE" if mean == most else f"{mean:.1f} NFE on average, {most} at most"
    where = "steps of its own" if request.solver.adaptive else f"the grid {request.grid or request.solver.recommended}"
    processes = f", {ranks.size} processes" if ranks.size > 1 else ""
    guidance = f", {request.sampler.model.guidance}" if request.sampler.model.guidance else ""
    lines = [f"{request.solver.name} on {where}, {request.sampler.model.process.name} process{guidance}: {taken}"]
    lines += [
        f"{made:,} images in {seconds:.2f} s ({made / seconds:.1f} images/s, {request.settings['dtype']} network, "
        f"{request.device}{processes})"
    ]
    if request.scoring is not None:
        lines += [str(request.scoring.score(out))]
    say("\n".join([*lines, f"{out}: {', '.join(_made(out))}"]))


def _made(out: Path) -> list[str]:
    """What is in the folder, for people: results first."""
    names = [*OURS, record.CONFIG, record.VERSIONS]
    return [f"{name}/" if (out / name).is_dir() else name for name in names if (out / name).exists()]


@contextmanager
def _explained(request: Request, out: Path, ranks: Ranks) -> Iterator[None]:
    """Say of what stops a run how much is done, and that the same command goes on."""

    def done() -> str:
        there, total = request.shards.there(), request.shards.total
        return f"{there:,} of {total:,} images are written, and the same command with out={out} goes on"

    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if ranks.rank:
            raise SystemExit(1) from error  # the first process says it
        what = f"{error.strerror.lower()}: {error.filename or out}" if error.strerror else str(error)
        raise OSError(f"{what}; {done()}") from error
    except KeyboardInterrupt as interrupt:
        if ranks.rank:
            raise SystemExit(130) from interrupt
        raise KeyboardInterrupt(f"interrupted; {done()}") from interrupt
