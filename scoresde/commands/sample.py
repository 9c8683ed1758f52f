"""``scoresde sample``: images or points from a model, by their seeds; as many as asked for, whatever comes between."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from scoresde.commands import values
from scoresde.commands.request import Request
from scoresde.data import to_pixels
from scoresde.exact import GaussianMixture
from scoresde.files.pictures import save_grid
from scoresde.files.text import plain, say
from scoresde.report import points, trajectories
from scoresde.runs import record
from scoresde.runs.formats import SHARDS, save_npz
from scoresde.runs.locks import Lock
from scoresde.runs.progress import Progress
from scoresde.runs.ranks import LostError, Ranks, current
from scoresde.runs.scoring import METRICS
from scoresde.runs.shards import TRAJECTORY, Shard, Shards

GRID, SCATTER, WAYS = "grid.png", "samples.png", "trajectories.png"
MARKS = ("shard", "keep", "format")  # of a record of this command's
OURS = ("samples.npz", "samples.zip", "images", SHARDS, GRID, SCATTER, WAYS, TRAJECTORY, METRICS)
SHOWN, ROWS = 100, 10  # images in the picture at most, and rows of it where columns are classes; so few are PNGs too


def run(config: DictConfig, out: Path) -> float | None:
    """Sample as ``conf/sample.yaml`` says, into the folder ``out``; go on with what is there.

    Returns:
        FID, where metrics were asked for.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
        OSError: the folder cannot be written, or another run is under way in it; says what is done.
        KeyboardInterrupt: with what is done.
    """
    ranks = current()
    out = Path(ranks.first(lambda: str(out)))  # the default has the time in it
    dtype = ranks.first(lambda: Request.dtype(config, out))
    request = ranks.agree(lambda: Request.of(config, out, ranks, dtype))
    Run(request, out, ranks, Lock(out), values.forced(config)).complete()
    return None if request.scoring is None or ranks.rank else request.scoring.score(out).value


@dataclass(frozen=True)
class Run:
    """One process's part of a request: its shards, in a folder that is held for it."""

    request: Request
    out: Path
    ranks: Ranks
    lock: Lock
    anew: bool

    @property
    def shards(self) -> Shards:
        return self.request.shards

    def complete(self) -> None:
        """Make what is missing, and say what there is."""
        try:
            with self._explained():
                self.ranks.first(self._begin)
                if self.ranks.rank:
                    self.lock.share()
                self._go_on()
            self.lock.drop(remove=self.ranks.rank == 0)
        finally:
            self.lock.drop(remove=self.ranks.size == 1)

    def _begin(self) -> None:
        """Make the folder this run's own, and see that it is of this configuration, in this order."""
        unwritable = record.take(self.lock, self.out, (SHARDS, "images"))
        if not (self.anew and unwritable is None and record.anew(self.out, MARKS, self._files)):
            record.complete(self.out, self.request.settings, OURS)
        if unwritable is not None and not (all(map(self.shards.whole, self.shards.parts)) and self._finished()):
            raise unwritable  # there is nothing to write if all is there
        if unwritable is None:
            record.write(self.out, self.request.settings, self.request.device)
            if self.ranks.size > 1:
                self.lock.share()
        if changed := record.changes(self.out, self.request.device):
            say(f"note: begun with {changed}: what is made now may differ by rounding from what is there")

    def _files(self, before: dict[str, Any]) -> list[str]:
        """What a run of a recorded configuration has written."""
        more = {METRICS: before["metrics"] is not False, TRAJECTORY: (way := bool(before.get("trajectory"))), WAYS: way}
        return [*Shards.of(self.out, before).files(), GRID, *(name for name, made in more.items() if made)]

    def _finished(self) -> bool:
        """Whether, with all shards there, nothing is left to do."""
        scoring = self.request.scoring
        return self.shards.finished() and (scoring is None or scoring.finished(self.shards))

    def _go_on(self) -> None:
        request, shards, ranks, start = self.request, self.shards, self.ranks, time.perf_counter()
        whole = np.zeros(len(shards.parts), dtype=np.int64)
        for index in range(ranks.rank, len(whole), ranks.size):
            whole[index] = shards.whole(shards.parts[index])
            if not whole[index]:
                shards.forget(shards.parts[index])
        there = ranks.sum(whole).astype(bool)
        if there.all() and ranks.first(self._finished):
            if ranks.rank == 0:
                say(f"the results of this configuration are already in {self.out}")
            return
        missing = [shards.parts[index] for index in np.flatnonzero(~there)]
        begun = shards.total - sum(map(len, missing))
        if begun and ranks.rank == 0:
            say(f"{begun:,} of {shards.total:,} {request.things} are there; going on")
        self._make(missing, begun)
        if ranks.rank == 0:
            if not shards.finished():
                shards.finish()
            scoring = request.scoring
            if scoring is not None and not scoring.finished(shards):
                scoring.finish(shards)
            self._report(shards.total - begun, time.perf_counter() - start)

    def _make(self, missing: list[Shard], begun: int) -> None:
        """Make this process's share of the missing shards, and wait for the others.

        Raises:
            SystemExit: this process has failed, and has said so; the others have done their part.
            LostError: another has.
        """
        shards, ranks, mine = self.shards, self.ranks, missing[self.ranks.rank :: self.ranks.size]
        theirs = [shard for index, shard in enumerate(missing) if index % ranks.size != ranks.rank]
        failure: Exception | None = None
        with Progress(
            shards.total, begun, lambda: shards.count(theirs), shown=ranks.rank == 0, things=self.request.things
        ) as progress:
            try:
                for shard in mine:
                    self._make_one(shard, progress)
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

    def _make_one(self, shard: Shard, progress: Progress) -> None:
        request = self.request
        labels = request.labels[shard.place : shard.place + len(shard)]
        result = request.sample(shard.seeds.tolist(), labels, progress.advance)
        samples = result.samples.to("cpu", torch.float32)
        features = None if request.scoring is None else request.scoring.features(samples)
        pictures = []
        model = request.checkpoint.model
        if shard.place == 0 and isinstance(model, GaussianMixture):
            pictures.append(self.out / SCATTER)
            points.draw(samples, model, self.out / SCATTER, self.shards.total)
        elif shard.place == 0 and samples.shape[1] in (1, 3):
            pictures.append(self.out / GRID)
            _draw(self.out / GRID, samples, request.columns)
            if len(self.shards.parts) == 1 and self.shards.total <= SHOWN:
                pictures += self.shards.single_pictures(shard, samples)
        if shard.place == 0 and request.traced:
            pictures += self._trajectory(shard.seeds[: request.traced], labels[: request.traced])
        self.shards.write(shard, samples, labels, result.evaluations, features, pictures)

    def _trajectory(self, seeds: NDArray[np.int64], labels: NDArray[np.int64]) -> list[Path]:
        """The ways of the first samples from noise, in numbers and, where states can be seen, as a picture."""
        request = self.request
        ways = request.walked(seeds.tolist(), labels)
        found, made = request.denoised(ways, labels), [self.out / TRAJECTORY]
        save_npz(made[0], **found, times=np.array(ways.trajectory_times), seeds=seeds.astype(np.uint64))
        if request.visible:
            made.append(self.out / WAYS)
            trajectories.draw(ways, request.sampler.model, made[1], cond=request.cond(labels))
        return made

    def _report(self, made: int, seconds: float) -> None:
        request, ranks = self.request, self.ranks
        records = [self.shards.record(shard) or {} for shard in self.shards.parts]
        most, mean = max(each["nfe"] for each in records), sum(each["evaluations"] for each in records)
        mean /= self.shards.total
        taken = f"{most} NFE" if mean == most else f"{mean:.1f} NFE on average, {most} at most"
        solver, model = request.solver, request.sampler.model
        if isinstance(request.grid, tuple):
            where = f"{len(request.grid)} given times"
        else:
            where = "steps of its own" if solver.adaptive else f"the grid {request.grid or solver.recommended}"
        processes = f", {ranks.size} processes" if ranks.size > 1 else ""
        guidance = f", {model.guidance}" if model.guidance else ""
        network = request.settings["dtype"] + ("" if request.checkpoint.points else " network")
        lines = [f"{solver.name} on {where}, {model.process.name} process{guidance}: {taken}"]
        lines += [
            f"{made:,} {request.things} in {seconds:.2f} s ({made / seconds:.1f} {request.things}/s, {network}, "
            f"{request.device}{processes})"
        ]
        if request.scoring is not None:
            lines += [str(request.scoring.score(self.out))]
        say("\n".join([*lines, f"{self.out}: {', '.join(_made(self.out))}"]))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of what stops a run how much is done, and that the same command goes on."""

        def done() -> str:
            there, total = self.shards.there(), self.shards.total
            things = self.request.things
            return f"{there:,} of {total:,} {things} are written, and {values.going_on(self.out, self.anew)}"

        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            if self.ranks.rank:
                raise SystemExit(1) from error  # the first process says it
            what = f"{error.strerror.lower()}: {error.filename or self.out}" if error.strerror else str(error)
            raise OSError(f"{what}; {done()}") from error
        except KeyboardInterrupt as interrupt:
            if self.ranks.rank:
                raise SystemExit(130) from interrupt
            raise KeyboardInterrupt(f"interrupted; {done()}") from interrupt


def _draw(path: Path, samples: Tensor, columns: Sequence[str]) -> None:
    """The first images, a class in each column where ``columns`` names them."""
    pixels = to_pixels(samples)
    if columns and len(pixels) >= len(columns):
        save_grid(path, pixels[: len(columns) * ROWS], len(columns), column_labels=columns)
    else:
        pixels = pixels[:SHOWN]
        save_grid(path, pixels, max(1, round(len(pixels) ** 0.5)))


def _made(out: Path) -> list[str]:
    """What is in the folder, for people: results first."""
    names = [*OURS, record.CONFIG, record.VERSIONS]
    return [f"{name}/" if (out / name).is_dir() else name for name in names if (out / name).exists()]
