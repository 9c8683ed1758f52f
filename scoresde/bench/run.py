"""Runs the cases of a benchmark one after the other, and keeps each row as soon as it is done."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import solvers
from scoresde.bench.cases import Case
from scoresde.bench.rows import Estimate, Failure, Outcome, Row
from scoresde.bench.store import Store
from scoresde.data import to_pixels
from scoresde.edits import Edit
from scoresde.files import digest_of, replacing
from scoresde.files.arrays import Npz
from scoresde.metrics import (
    FeatureSpace,
    Floors,
    Measure,
    Reference,
    SampleFeatures,
    Space,
    class_labels,
    rms_error,
)
from scoresde.models import Checkpoint
from scoresde.sampling import Result, Sampler
from scoresde.score import PRECISIONS, ScoreModel

CONVERGED = "converged"
REFERENCE = "uni_pc"  # of the converged solution: of those tried, the nearest to itself and the others at 150 NFE
SHOWN = 10  # images of each row that are kept for the picture
LONGEST = 500  # characters of why a row failed
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
        measure: figures of the samples; a feature space alone compares them with as many of the model's own converged
            samples, of other seeds, so that what the network has not learned is in both. None measures no distance of
            distributions.
        floors: what FID is read against, at the same number of samples; None where nobody knows.
        settings: common to all rows.
        out: folder of ``results.jsonl``, ``images/`` and ``converged/``; rows that are there are not measured again.
        device: where the network is.
        guides: by the names that cases have in ``guidance``.
        edit: the image that samples begin with, None for noise alone. Each row is then measured from a converged
            solution that begins where the row does.
        labels: class of each sample, shape (n,); None is the shares of the training data, where the model knows them.
        scores: further figures by name, of uint8 images (n, channels, height, width) and their labels.
        report: called with each new row, how many of the cases are done, how many there are, and a guess of the
            seconds left.
        within: called with what is sampled, and how many; gives for the time of it a function that is told after each
            evaluation how many images' worth of work that was.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        measure: Measure | Space | None,
        floors: Floors | None,
        settings: Settings,
        out: str | Path,
        *,
        device: torch.device,
        guides: Mapping[str, Guide] | None = None,
        edit: Edit | None = None,
        labels: Tensor | None = None,
        scores: Mapping[str, Score] | None = None,
        report: Progress = lambda row, done, total, left: None,
        within: Within = lambda what, images: nullcontext(lambda done: None),
    ):
        self.checkpoint, self.measure, self.floors, self.settings = checkpoint, measure, floors, settings
        self.out, self.device, self.guides = Path(out), device, dict(guides or {})
        self.report, self.within = report, within
        self.store = Store(self.out)
        counts = checkpoint.card.get("training", {}).get("class_counts") if checkpoint.classes else None
        self.labels = class_labels(settings.n, counts) if counts and labels is None else labels
        self.scores, self.edit = dict(scores or {}), edit
        self._nets: dict[tuple[str, str], ScoreModel] = {}
        self._own: dict[tuple[str, str], Measure] = {}
        self._without: dict[tuple[str, str], Exception] = {}  # guidances and precisions that have no converged solution

    def run(self, cases: Sequence[Case]) -> Outcome:
        """Each case, or what the folder has of it; a case that fails is told and kept as such, and the next begins.

        Returns:
            Rows of these cases in their order, and after them what else the folder has; of another file that was tuned
            it has the rows no longer where this one has such a row.

        Raises:
            ValueError: a results file in ``out`` that is damaged, or every case failed.
            OSError: the folder cannot be written.
        """
        missing = [case for case in cases if case.key not in self.store]
        spent, worked = 0.0, 0.0
        for index, case in enumerate(missing):
            start = time.perf_counter()
            row = self._kept(case)
            spent, worked = spent + time.perf_counter() - start, worked + _work(case)
            left = spent / worked * sum(_work(later) for later in missing[index + 1 :])
            self.report(row, len(cases) - len(missing) + index + 1, len(cases), left)
        rows, failures = self._there(cases), self.store.failures
        if all(case.key in failures for case in cases):
            first = failures[cases[0].key]
            raise ValueError(f"none of {len(cases)} rows could be measured, the first not: {first}")
        cases = [case for case in cases if case.key not in failures]
        first = cases[0]
        states, error = self._converged(first.guidance, _finest(cases), self._start(first))
        settings = self.settings
        space, metrics = self._measured(to_pixels(states), first.guidance, _finest(cases))
        converged = Row(
            solver=CONVERGED,
            name=REFERENCE,
            options=dict(solvers.get(REFERENCE).options),
            stochastic=False,
            grid=str(solvers.get(REFERENCE).recommended),
            budget=float(settings.reference),
            nfe=settings.reference,
            guidance=first.guidance,
            dtype=_finest(cases),
            compile="",
            samples=settings.n,
            feature_space=space,
            metrics={**metrics, "error": Estimate(0.0)},
            seconds=float("nan"),
        )
        images = [self.store.images(key) for key in rows] + [to_pixels(states[:SHOWN])]
        labels = [] if self.labels is None else self.labels[:SHOWN].tolist()
        if others := [key for key, image in zip(rows, images, strict=False) if image.shape != images[-1].shape]:
            raise ValueError(f"the pictures {others[:3]} in {str(self.out)!r} are of another size: remove them")
        own = self.measure is not None and not isinstance(self.measure, Measure)
        found, failed = list(rows.values()), list(failures.values())
        return Outcome(found, converged, error, self.floors, torch.stack(images), labels, failures=failed, own=own)

    def _there(self, cases: Sequence[Case]) -> dict[str, Row]:
        """Rows by their keys, those of the cases first; without what has failed, though there be a row of before."""
        keys, names = [case.key for case in cases], {_name(case.label, case.place, case) for case in cases}
        for key, row in self.store.rows.items():
            if key not in keys and _name(row.solver, row.grid, row) not in names and key in self.store:
                keys.append(key)
        return {key: self.store.rows[key] for key in keys if key not in self.store.failures}

    def _kept(self, case: Case) -> Row | Failure:
        """The row of a case, on disk; or why there is none."""
        try:
            states = None
            if not case.solver.stochastic:
                states = self._converged(case.guidance, case.dtype, self._start(case))[0]
            row, pixels = self._measure(case, states)
        except OSError:
            raise  # of the folder; there is no use in going on
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
            told = case.label, case.place, case.budget, case.guidance, case.dtype, case.compile
            failure = Failure(*told, reason)
            self.store.fail(case.key, failure)
            return failure
        self.store.add(case.key, row, pixels)
        return row

    def _measure(self, case: Case, converged: Tensor | None) -> tuple[Row, Tensor]:
        self._figures(case.guidance, case.dtype)  # made before the time is taken
        nfe, what = None if case.solver.adaptive else int(case.budget), f"{case.label} at {case.budget:g}"
        result, seconds = self._sample(case, nfe, self.settings.n, what)
        pixels = to_pixels(result.samples).cpu()
        space, metrics = self._measured(pixels, case.guidance, case.dtype)
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
        )
        return row, pixels[:SHOWN]

    def _measured(self, pixels: Tensor, guidance: str, dtype: str) -> tuple[str, dict[str, Estimate]]:
        """The feature space, "" for none, and the figures of images of all samples."""
        measure, pixels = self._figures(guidance, dtype), pixels.cpu()
        classes = None if self.checkpoint.pipeline is not None else self.labels  # prompts are no classes of features
        found = {} if measure is None else measure.of(pixels, classes)
        scored = {name: score(pixels, self.labels) for name, score in self.scores.items()}
        return "" if measure is None else measure.space.name, {**found, **scored}

    def _figures(self, guidance: str, dtype: str) -> Measure | None:
        """What rows are measured by."""
        if self.measure is None or isinstance(self.measure, Measure):
            return self.measure
        if (found := self._own.get((guidance, dtype))) is None:
            space, n = self.measure, self.settings.n
            images = to_pixels(self._solved(guidance, dtype, self.settings.seed + n)[0])
            labels = np.zeros(n, np.int64) if self.labels is None else self.labels.numpy()
            own = SampleFeatures(space.name, space.features(images).numpy(), labels, {"images": CONVERGED})
            found = Measure(
                space, Reference(own.moments(n), own), classifier=space if isinstance(space, FeatureSpace) else None
            )
            self._own[guidance, dtype] = found
        return found

    def _sample(
        self, case: Case, nfe: int | None, n: int, what: str = "", seed: int | None = None, start: float | None = None
    ) -> tuple[Result, float]:
        size = min(self.settings.batch_size, n)
        sampler = self._sampler(case, self._model(case), nfe)
        if self.edit is not None:
            sampler = self.edit.taken(sampler) if start is None else self.edit.begun(sampler, start)
        cond = None if self.labels is None else {"label": self.labels[:n]}
        first = self.settings.seed if seed is None else seed
        with self.within(what, n) as tell:
            self._sync()
            begin = time.perf_counter()
            given: dict[str, Any] = {
                "seeds": range(first, first + n),
                "cond": cond,
                "batch_size": size,
                "dtype": torch.float64 if case.dtype == "float64" else torch.float32,
                "device": self.device,
                "decode": self.checkpoint.decode,
                "progress": tell,
            }
            if self.edit is not None:
                result = self.edit.sample(sampler, **given)
            else:
                result = sampler.sample(shape=(n, *self.checkpoint.shape), **given)
            self._sync()
            return result, time.perf_counter() - begin

    def _sampler(self, case: Case, model: ScoreModel, nfe: int | None) -> Sampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a row has what was asked for and what was taken
            return Sampler(model, case.solver, nfe=nfe, grid=None if case.solver.adaptive else case.grid)

    def _start(self, case: Case) -> float | None:
        """The time at which a row begins, None for full noise."""
        if self.edit is None:
            return None
        return self.edit.taken(self._sampler(case, self.checkpoint.model, int(case.budget))).times[0]

    def _model(self, case: Case) -> ScoreModel:
        """The network in a precision and compiled, warmed up, and guided."""
        found = self._nets.get((case.dtype, case.compile))
        if found is None:
            found = copy.copy(self.checkpoint.model)
            assert isinstance(found.net, nn.Module)
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
        if (error := self._without.get((guidance, dtype))) is not None:
            raise error
        try:
            return self._solved(guidance, dtype, self.settings.seed, start)
        except OSError:
            raise
        except Exception as error:
            self._without[guidance, dtype] = error
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
        solver = solvers.get(REFERENCE)
        case = Case(solver, settings.reference, None, guidance, dtype, "")
        what = "converged solution, for figures" if seed != settings.seed else "converged solution"
        states = self._sample(case, settings.reference, settings.n, what, seed, start)[0].samples.cpu()
        few = min(settings.n, settings.batch_size)
        half = self._sample(case, settings.reference // 2, few, f"{what}, half", seed, start)[0].samples.cpu()
        error = rms_error(half, states[:few]).value
        with replacing(path) as temporary:
            np.savez(temporary, samples=states.numpy(), error=error)
        return states, error

    def _sync(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def _name(solver: str, grid: str, of: Case | Row) -> tuple[object, ...]:
    """By which a row is found in a table."""
    return solver, grid, of.budget, of.guidance, of.dtype, of.compile


def _work(case: Case) -> float:
    return ADAPTIVE_NFE if case.solver.adaptive else case.budget


def _finest(cases: Sequence[Case]) -> str:
    return next(name for name in PRECISIONS if any(case.dtype == name for case in cases))
