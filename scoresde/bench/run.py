"""Runs the cases of a benchmark one after the other, and keeps each row as soon as it is done."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import solvers
from scoresde.bench.cases import Case
from scoresde.bench.rows import Estimate, Failure, Limits, Outcome, Row, Timing
from scoresde.bench.store import CONVERGED, OUTCOME, Store
from scoresde.data import to_pixels
from scoresde.edits import Edit
from scoresde.files import digest_of, replacing
from scoresde.files.arrays import Npz
from scoresde.metrics import (
    FeatureSpace,
    Floors,
    Measure,
    PointMeasure,
    Reference,
    SampleFeatures,
    Space,
    class_labels,
    rms_error,
)
from scoresde.metrics.measure import NAMES
from scoresde.models import Checkpoint
from scoresde.sampling import Result, Sampler
from scoresde.score import PRECISIONS, ScoreModel

REFERENCE = "uni_pc"  # of the converged solution: of those tried, the nearest to itself and the others at 150 NFE
SHOWN = 10  # images of each row that are kept for the picture
DRAWN = 500  # points
LONGEST = 500  # characters of why a row failed
RUNS, LEAST_RUNS, LONG = 7, 3, 20.0  # of a timing, at most and at least; seconds after which the least are enough
ADAPTIVE_NFE = 100  # taken for an adaptive case when time left is guessed

Score = Callable[[Tensor, "Tensor | None"], Estimate]
Guide = Callable[..., ScoreModel]  # called with the model, and dtype= of its network
Progress = Callable[[Row | Failure, int, int, float], None]
Within = Callable[[str, int], AbstractContextManager[Callable[[float], object]]]


@dataclass(frozen=True)
class Settings:
    """What all rows have in common.

    Attributes:
        n: samples per row.
        seed: of the first sample; every row uses the same seeds and classes.
        batch_size: samples at once.
        reference: NFE of the converged solution, by ``uni_pc``.
    """

    n: int
    seed: int = 0
    batch_size: int = 125
    reference: int = 150


class Bench:
    """Measures cases on one model, which is loaded once.

    Args:
        checkpoint: the model, in the finest precision that a case has.
        measure: figures of the samples, images or points; a feature space alone compares them with as many of the
            model's own converged samples, of other seeds, so that what the network has not learned is in both. None
            measures no distance of distributions.
        floors: what FID is read against, at the same number of samples; None where nobody knows.
        settings: common to all rows.
        out: folder of ``results.jsonl``, ``images/`` and ``converged/``; rows that are there are not measured again.
        device: where the network is.
        guides: by the names that cases have in ``guidance``.
        names: of the figures, where ``measure`` is a space alone.
        model, versions: what rows say of the model and of what they are measured with.
        edit: the image that samples begin with, None for noise alone. Each row is then measured from a converged
            solution that begins where the row does.
        labels: class of each sample, shape (n,); None is the shares of the training data, where the model knows them.
        scores: further figures by name, of uint8 images (n, channels, height, width) and their labels.
        report: called with each new row, how many of the cases are done, how many there are, and a guess of the
            seconds left.
        within: called with what is sampled, and how many; gives for the time of it a function that is told after each
            evaluation how many images' worth of work that was.
        part: number of this process among those that share the rows, see :class:`Store`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        measure: Measure | PointMeasure | Space | None,
        floors: Floors | None,
        settings: Settings,
        out: str | Path,
        *,
        device: torch.device,
        guides: Mapping[str, Guide] | None = None,
        names: Sequence[str] = NAMES,
        model: str = "",
        versions: str = "",
        edit: Edit | None = None,
        labels: Tensor | None = None,
        scores: Mapping[str, Score] | None = None,
        report: Progress = lambda row, done, total, left: None,
        within: Within = lambda what, images: nullcontext(lambda done: None),
        part: int = 0,
    ):
        self.checkpoint, self.measure, self.floors, self.settings = checkpoint, measure, floors, settings
        self.out, self.device, self.guides = Path(out), device, dict(guides or {})
        self.names, self.model, self.versions, self.report, self.within = tuple(names), model, versions, report, within
        self.store = Store(self.out, part)
        counts = checkpoint.card.get("training", {}).get("class_counts") if checkpoint.classes else None
        self.labels = class_labels(settings.n, counts) if counts and labels is None else labels
        self.scores, self.edit = dict(scores or {}), edit
        self._nets: dict[tuple[str, str], ScoreModel] = {}
        self._own: dict[tuple[str, str], Measure] = {}
        self._limit: dict[tuple[str, str, float | None], Row] = {}
        self._aside = 0.0  # seconds that converged solutions took
        self._without: dict[tuple[str, str, float | None], Exception] = {}  # what has no converged solution

    def run(self, cases: Sequence[Case]) -> Outcome:
        """Each case, or what the folder has of it; a case that fails is told and kept as such, and the next begins.

        What rows are read against is kept with the first of them, so that a report can be made of what there is.

        Raises:
            ValueError, OSError: as :meth:`outcome`, or the folder cannot be written.
        """
        self.work(self.missing(cases), len(cases))
        return self.outcome(cases)

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """The cases of which the folder has no row."""
        return [case for case in cases if case.key not in self.store]

    def converge(self, cases: Sequence[Case], rank: int, size: int) -> None:
        """Put on disk the share of one of ``size`` processes in the converged solutions that some cases need.

        What fails here fails again, and is told, where a row needs it.

        Raises:
            OSError: the folder cannot be written.
        """
        seed, kinds = self.settings.seed, dict[tuple[str, str, int, float | None], None]()
        for case in cases:
            with suppress(ValueError):
                kinds[case.guidance, case.dtype, seed, self._start(case)] = None
            if self.own:
                kinds[case.guidance, case.dtype, seed + self.settings.n, None] = None
        for kind in list(kinds)[rank::size]:
            try:
                self._solved(*kind)
            except OSError:
                raise
            except Exception:  # noqa: S112
                continue

    def work(self, missing: Sequence[Case], total: int, rank: int = 0, size: int = 1) -> None:
        """Measure the share of one of ``size`` processes in cases that the folder lacks, of ``total`` altogether.

        Raises:
            OSError: the folder cannot be written.
        """
        mine, spent, worked, self._aside = shares(missing, size)[rank], 0.0, 0.0, 0.0
        for place, index in enumerate(mine):
            case, start, aside = missing[index], time.perf_counter(), self._aside
            row = self._kept(case)
            # What a converged solution takes is no measure of the rows to come.
            spent, worked = spent + time.perf_counter() - start - (self._aside - aside), worked + _work(case)
            left = spent / worked * sum(_work(missing[later]) for later in mine[place + 1 :])
            self.report(row, total - len(missing) + index + 1, total, left)

    def outcome(self, cases: Sequence[Case]) -> Outcome:
        """What the folder has of some cases, all of which have been measured.

        Returns:
            Rows of these cases in their order, and after them what else the folder has; of another file that was tuned
            it has the rows no longer where this one has such a row.

        Raises:
            ValueError: a results file in ``out`` that is damaged, or every case failed.
            OSError: the folder cannot be written.
        """
        failures = self.store.failures
        if all(case.key in failures for case in cases):
            first = failures[cases[0].key]
            raise ValueError(f"none of {len(cases)} rows could be measured, the first not: {first}")
        self._conclude(cases)
        return self.store.outcome()

    def time(self, cases: Sequence[Case], batches: Sequence[int]) -> None:
        """How long each case takes for batches of these sizes, kept beside the rows; those that are there are not anew.

        Each is run once to warm up, then ``RUNS`` times, or fewer of what takes long; of the times the median and the
        quartiles are kept. Failures of cases are those of their rows, and are passed over.

        Raises:
            OSError: the folder cannot be written.
        """
        there = self.store.timings()
        for case in cases:
            for batch in batches:
                if (key := f"{case.key}-{batch}") not in there and case.key not in self.store.failures:
                    self.store.time(key, self._timed(case, batch))

    def _timed(self, case: Case, batch: int) -> Timing:
        sampler = self._sampler(case, None if case.solver.adaptive else int(case.budget))
        sampler = sampler if self.edit is None else self.edit.taken(sampler)
        times: list[float] = []
        while len(times) <= RUNS and (len(times) <= LEAST_RUNS or sum(times) < LONG):  # the first warms up
            self._sync()
            start = time.perf_counter()
            result = self._drawn(sampler, case.dtype, self.settings.seed, batch, batch)
            self._sync()
            times.append(time.perf_counter() - start)
        low, middle, high = (float(each) for each in np.quantile(times[1:], (0.25, 0.5, 0.75)))
        return Timing(
            solver=case.label,
            grid=case.place,
            budget=case.budget,
            nfe=sum(result.evaluations) / len(result.evaluations),
            guidance=case.guidance,
            dtype=case.dtype,
            compile=case.compile,
            batch=batch,
            seconds=(middle, low, high),
            runs=len(times) - 1,
            model=self.model,
            versions=self.versions,
        )

    def _conclude(self, cases: Sequence[Case]) -> None:
        """Keep what the rows of these cases are read against."""
        measured = [case for case in cases if case.key not in self.store.failures] or cases
        guidance, dtype = measured[0].guidance, _finest(measured)
        start = self._start(measured[0])
        states, error = self._converged(guidance, dtype, start)
        seen = self._seen(states)
        if (converged := self._limit.get((guidance, dtype, start))) is None:
            solver = solvers.get(REFERENCE)
            space, metrics = self._measured(seen, guidance, dtype)
            converged = self._limit[guidance, dtype, start] = Row(
                solver=CONVERGED,
                name=REFERENCE,
                options=dict(solver.options),
                stochastic=False,
                grid=str(solver.recommended),
                budget=float(self.settings.reference),
                nfe=self.settings.reference,
                guidance=guidance,
                dtype=dtype,
                compile="",
                samples=self.settings.n,
                feature_space=space,
                metrics={**metrics, "error": Estimate(0.0)},
                seconds=math.nan,
                **self._about,
            )
        classes: list[int] = [] if self.labels is None else self.labels[: self.shown].tolist()
        texts = self.checkpoint.pipeline is not None  # whose prompts are too long to stand over pictures
        names = () if texts else self.checkpoint.class_names
        labels = [names[each] if each < len(names) else each for each in classes]
        measure, limits = self._figures(guidance, dtype), Limits(converged, error, self.floors)
        features = measure.reference.moments.mean.size if isinstance(measure, Measure) else 0
        keys = [case.key for case in cases]
        self.store.conclude(keys, self._stale(cases), limits, labels, self.own, features, seen[: self.shown])

    @property
    def own(self) -> bool:
        """Whether samples are compared with the model's own converged ones."""
        return self.measure is not None and not isinstance(self.measure, (Measure, PointMeasure))

    @property
    def _about(self) -> dict[str, Any]:
        return {"model": self.model, "seeds": (self.settings.seed,), "versions": self.versions}

    def _stale(self, cases: Sequence[Case]) -> list[str]:
        """Keys of rows that those of the cases have replaced, though they are of another file that was tuned."""
        keys, names = {case.key for case in cases}, {_name(case.label, case.place, case) for case in cases}
        return [
            key for key, row in self.store.rows.items() if key not in keys and _name(row.solver, row.grid, row) in names
        ]

    def _kept(self, case: Case) -> Row | Failure:
        """The row of a case, on disk; or why there is none."""
        try:
            states = None
            if not case.solver.stochastic:
                states = self._converged(case.guidance, case.dtype, self._start(case))[0]
            if states is not None and not (self.out / OUTCOME).exists():
                self._conclude([case])  # until all are done
            row, seen = self._measure(case, states)
        except OSError:
            raise  # of the folder; there is no use in going on
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            told = case.label, case.place, case.budget, case.guidance, case.dtype, case.compile
            failure = Failure(*told, reason)
            self.store.fail(case.key, failure)
            return failure
        self.store.add(case.key, row, seen)
        return row

    def _measure(self, case: Case, converged: Tensor | None) -> tuple[Row, Tensor]:
        self._figures(case.guidance, case.dtype)  # made before the time is taken
        nfe, what = None if case.solver.adaptive else int(case.budget), f"{case.label} at {case.budget:g}"
        result, seconds = self._sample(case, nfe, self.settings.n, what)
        seen = self._seen(result.samples)
        space, metrics = self._measured(seen, case.guidance, case.dtype)
        if converged is not None:
            metrics["error"] = rms_error(result.samples, converged)
        row = Row(
            solver=case.label,
            name=case.solver.name,
            options=dict(case.solver.options),
            stochastic=case.solver.stochastic,
            grid=case.place,
            budget=case.budget,
            nfe=sum(result.evaluations) / len(result.evaluations),
            guidance=case.guidance,
            dtype=case.dtype,
            compile=case.compile,
            samples=self.settings.n,
            feature_space=space,
            metrics=metrics,
            seconds=seconds,
            **self._about,
        )
        return row, seen[: self.shown]

    @property
    def shown(self) -> int:
        """How many samples of each row are kept for the picture."""
        return DRAWN if self.checkpoint.points else SHOWN

    def _seen(self, states: Tensor) -> Tensor:
        """Final states as they are looked at, on the CPU: as 8-bit pixels, or as points in float32."""
        return states.cpu().float() if self.checkpoint.points else to_pixels(states).cpu()

    def _measured(self, seen: Tensor, guidance: str, dtype: str) -> tuple[str, dict[str, Estimate]]:
        """What figures are measured in, "" for nothing, and the figures of all samples."""
        measure = self._figures(guidance, dtype)
        classes = None if self.checkpoint.pipeline is not None else self.labels  # prompts are no classes of features
        found = {} if measure is None else measure.of(seen, classes)
        scored = {name: score(seen, self.labels) for name, score in self.scores.items()}
        return "" if measure is None else measure.where, {**found, **scored}

    def _figures(self, guidance: str, dtype: str) -> Measure | PointMeasure | None:
        """What rows are measured by."""
        if self.measure is None or isinstance(self.measure, (Measure, PointMeasure)):
            return self.measure
        if (found := self._own.get((guidance, dtype))) is None:
            space, n = self.measure, self.settings.n
            images = to_pixels(self._solved(guidance, dtype, self.settings.seed + n)[0])
            labels = np.zeros(n, np.int64) if self.labels is None else self.labels.numpy()
            own = SampleFeatures(space.name, space.features(images).numpy(), labels, {"images": CONVERGED})
            found = Measure(
                space,
                Reference(own.moments(n), own),
                classifier=space if isinstance(space, FeatureSpace) else None,
                names=self.names,
            )
            self._own[guidance, dtype] = found
        return found

    def _sample(
        self, case: Case, nfe: int | None, n: int, what: str = "", seed: int | None = None, start: float | None = None
    ) -> tuple[Result, float]:
        size = min(self.settings.batch_size, n)
        sampler = self._sampler(case, nfe)
        if self.edit is not None:
            sampler = self.edit.taken(sampler) if start is None else self.edit.begun(sampler, start)
        first = self.settings.seed if seed is None else seed
        with self.within(what, n) as tell:
            self._sync()
            begin = time.perf_counter()
            result = self._drawn(sampler, case.dtype, first, n, size, tell)
            self._sync()
            return result, time.perf_counter() - begin

    def _drawn(
        self,
        sampler: Sampler,
        dtype: str,
        first: int,
        n: int,
        batch_size: int,
        progress: Callable[[float], object] = lambda done: None,
    ) -> Result:
        """Samples of n seeds, with the classes in turn, from the image that they begin with or from noise."""
        given: dict[str, Any] = {
            "seeds": range(first, first + n),
            "cond": None if self.labels is None else {"label": self.labels[torch.arange(n) % len(self.labels)]},
            "batch_size": batch_size,
            "dtype": torch.float64 if dtype == "float64" else torch.float32,
            "device": self.device,
            "decode": self.checkpoint.decode,
            "progress": progress,
        }
        if self.edit is not None:
            return self.edit.sample(sampler, **given)
        return sampler.sample(shape=(n, *self.checkpoint.shape), **given)

    def _sampler(self, case: Case, nfe: int | None, model: ScoreModel | None = None) -> Sampler:
        grid = None if case.solver.adaptive else case.grid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a row has what was asked for and what was taken
            return Sampler(self._model(case) if model is None else model, case.solver, nfe=nfe, grid=grid)

    def _start(self, case: Case) -> float | None:
        """The time at which a row begins, None for full noise."""
        if self.edit is None:
            return None
        return self.edit.taken(self._sampler(case, int(case.budget), self.checkpoint.model)).times[0]

    def _model(self, case: Case) -> ScoreModel:
        """The network in a precision and compiled, warmed up, and guided."""
        found = self._nets.get((case.dtype, case.compile))
        if found is None:
            found = copy.copy(self.checkpoint.model)
            if isinstance(found.net, nn.Module):  # or an exact model, whose formulas have the precision of the state
                found.net = copy.deepcopy(found.net).to(PRECISIONS[case.dtype])
            if case.compile:
                found.net = torch.compile(found.net, mode=case.compile, dynamic=False)  # type: ignore[assignment]
            self._nets[case.dtype, case.compile] = found
            size = min(self.settings.batch_size, self.settings.n)
            noisy = torch.zeros((size, *self.checkpoint.shape), device=self.device)
            label = {} if self.labels is None else {"label": self.labels[:size].to(self.device)}
            with torch.no_grad():  # compilation and first calls are not part of the time of sampling
                found.output(noisy, found.process.t_max, **label)
        return self.guides[case.guidance](found, dtype=PRECISIONS[case.dtype]) if case.guidance else found

    def _converged(self, guidance: str, dtype: str, start: float | None = None) -> tuple[Tensor, float]:
        """The model's probability-flow solution for the seeds, and how far half the evaluations are from it.

        One that fails is not tried again for each row that is read against it.
        """
        if (error := self._without.get((guidance, dtype, start))) is not None:
            raise error
        try:
            return self._solved(guidance, dtype, self.settings.seed, start)
        except OSError:
            raise
        except Exception as error:
            self._without[guidance, dtype, start] = error
            raise

    def _solved(self, guidance: str, dtype: str, seed: int, start: float | None = None) -> tuple[Tensor, float]:
        """Converged samples from a seed on, on disk, and how far half the evaluations are from them."""
        settings = self.settings
        of = f"{guidance} {dtype}" + (f" {seed}" if seed != settings.seed else "")
        name = digest_of([of if start is None else f"{of} from {start!r}"])[:16]
        path = self.out / CONVERGED / f"{name}.npz"
        try:
            with Npz(path) as content:
                states, error = torch.from_numpy(content["samples"]), float(content["error"])
            if len(states) == settings.n and bool(states.isfinite().all()):
                return states, error
        except (FileNotFoundError, ValueError, TypeError):
            pass  # missing or damaged: it is made (again)
        solver, begun = solvers.get(REFERENCE), time.perf_counter()
        case = Case(solver, settings.reference, None, guidance, dtype, "")
        what = "converged solution, for figures" if seed != settings.seed else "converged solution"
        states = self._sample(case, settings.reference, settings.n, what, seed, start)[0].samples.cpu()
        few = min(settings.n, settings.batch_size)
        half = self._sample(case, settings.reference // 2, few, f"{what}, half", seed, start)[0].samples.cpu()
        error = rms_error(half, states[:few]).value
        with replacing(path) as temporary:
            np.savez(temporary, samples=states.numpy(), error=error)
        self._aside += time.perf_counter() - begun
        return states, error

    def _sync(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def shares(cases: Sequence[Case], size: int) -> list[list[int]]:
    """Which of some cases each of several processes measures: by their places, such that all have as much to do."""
    found, worked = [list[int]() for _ in range(size)], [0.0] * size
    for place in sorted(range(len(cases)), key=lambda place: -_work(cases[place])):
        least = min(range(size), key=worked.__getitem__)
        found[least].append(place)
        worked[least] += _work(cases[place])
    return [sorted(places) for places in found]


def _name(solver: str, grid: str, of: Case | Row) -> tuple[object, ...]:
    """By which a row is found in a table."""
    return solver, grid, of.budget, of.guidance, of.dtype, of.compile


def _work(case: Case) -> float:
    return ADAPTIVE_NFE if case.solver.adaptive else case.budget


def _finest(cases: Sequence[Case]) -> str:
    return next(name for name in PRECISIONS if any(case.dtype == name for case in cases))
