"""Steps against quality: every solver at every budget, on one model, from the same seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import solvers
from scoresde.data import to_pixels
from scoresde.files import replacing
from scoresde.metrics import FID, Floors, class_labels, floors
from scoresde.models import Checkpoint
from scoresde.sampling import Result, fit_steps, sample
from solvers import Solver
from solvers.grids import Grid

ROWS, IMAGES, CONVERGED = "results.jsonl", "images.npz", "converged.npz"
REFERENCE = "uni_pc"  # of the converged solution: of those tried, the nearest to itself and the others at 150 NFE
SHOWN = 10  # images of each row that are kept for the picture


@dataclass(frozen=True)
class Row:
    """One solver at one budget.

    Attributes:
        solver: name with the options that differ from the defaults; ``converged`` is the reference solution.
        stochastic: whether it draws noise.
        grid: name of the grid.
        budget: the NFE asked for, or the tolerance of an adaptive solver.
        nfe: measured model evaluations per sample.
        fid: Fréchet distance to the reference in ``feature_space``, of ``samples`` samples.
        feature_space: name of the feature space.
        samples: number of samples.
        own_class: share of samples that the feature network's classifier puts into the class asked for.
        error: root mean square difference, per pixel of [−1, 1] images, from the converged solution of the same seeds;
            None for stochastic solvers, which have none.
        seconds: wall time of sampling, network included.
    """

    solver: str
    stochastic: bool
    grid: str
    budget: float
    nfe: int
    fid: float
    feature_space: str
    samples: int
    own_class: float
    error: float | None
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.samples / self.seconds


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found: rows in the order asked for, the converged solution's row, the floors, and pictures.

    Attributes:
        rows: one per solver and budget.
        converged: the reference solution itself.
        reference_error: how far the reference solution is from one with half its evaluations, on some of the seeds.
        floors: FID of real images and of the model's own converged samples, at the same sample count.
        images: uint8 pixels (rows + 1, SHOWN, …) of the first seeds, the converged solution's last.
        labels: classes of those images.
    """

    rows: list[Row]
    converged: Row
    reference_error: float
    floors: Floors
    images: Tensor
    labels: list[int]


def describe(solver: Solver) -> str:
    """The solver's name and the options that are not at their defaults, ``heun(s_churn=10)``; a method in any case."""
    defaults = solvers.get(solver.name).options
    changed = ", ".join(
        f"{key}={value}" for key, value in solver.options.items() if value != defaults[key] or key == "method"
    )
    return f"{solver.name}({changed})" if changed else solver.name


class Bench:
    """Runs rows one after the other and keeps each as soon as it is done, so that what was interrupted goes on.

    Args:
        checkpoint: the model.
        metrics: folder with the feature network, the reference and the floors' features.
        n: samples per row.
        seed: of the first sample; every row uses the same seeds and classes.
        batch_size: samples at once.
        out: folder of ``results.jsonl``, ``images.npz`` and ``converged.npz``.
        device: where the network is.
        grid: for all solvers; None is each one's own.
        reference: NFE of the converged solution, by ``uni_pc``.
        report: called with each row when it is there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        metrics: str | Path,
        *,
        n: int,
        seed: int,
        batch_size: int,
        out: str | Path,
        device: torch.device,
        grid: Grid | None = None,
        reference: int = 150,
        report: Callable[[Row], None] = lambda row: None,
    ):
        self.checkpoint, self.n, self.seed, self.batch_size = checkpoint, n, seed, batch_size
        self.out, self.device, self.grid, self.report, self.reference = Path(out), device, grid, report, reference
        self.fid = FID.load(metrics)
        self.floors = floors(n, metrics)
        counts = checkpoint.card["training"].get("class_counts") if checkpoint.classes else None
        self.labels = class_labels(n, counts) if counts else None

    def run(self, chosen: Sequence[Solver], budgets: Iterable[int], tolerances: Iterable[float]) -> Outcome:
        """Each solver at each budget: NFE for those on a grid, rtol = atol for adaptive ones.

        Raises:
            ValueError: a results file in ``out`` that is damaged, or a solver that a budget does not fit.
        """
        states, reference_error = self._converged()
        done = self._read()
        rows: list[Row] = []
        images: list[Tensor] = []
        for solver, budget in self._jobs(chosen, list(budgets), list(tolerances)):
            name = describe(solver)
            found = done.get((name, float(budget)))
            if found is None:
                result, seconds = self._sample(solver, None if solver.adaptive else int(budget))
                error = None if solver.stochastic else _rms(result.samples, states)
                row = self._row(name, solver, float(budget), result.samples, result.nfe, seconds, error)
                found = (row, to_pixels(result.samples[:SHOWN]).cpu())
                done[name, float(budget)] = found
                self._write(done)
                self.report(row)
            rows.append(found[0])
            images.append(found[1])
        converged = self._row(
            "converged", solvers.get(REFERENCE), float(self.reference), states, self.reference, float("nan"), 0.0
        )
        images.append(to_pixels(states[:SHOWN]).cpu())
        labels = [] if self.labels is None else self.labels[:SHOWN].tolist()
        return Outcome(rows, converged, reference_error, self.floors, torch.stack(images), labels)

    def _jobs(
        self, chosen: Sequence[Solver], budgets: list[int], tolerances: list[float]
    ) -> Iterable[tuple[Solver, float]]:
        for solver in chosen:
            if not solver.adaptive:
                rule, process = self.grid or solver.recommended, self.checkpoint.model.process
                # Budgets that the same number of steps fills best are one row.
                fitting = {fit_steps(solver, process, rule, budget): budget for budget in sorted(budgets, reverse=True)}
                yield from ((solver, budget) for budget in sorted(fitting.values()))
                continue
            for tolerance in tolerances:
                yield solvers.get(solver.name, **{**solver.options, "rtol": tolerance, "atol": tolerance}), tolerance

    def _sample(self, solver: Solver, nfe: int | None, n: int | None = None) -> tuple[Result, float]:
        n = n or self.n
        start = time.perf_counter()
        result = sample(
            self.checkpoint.model,
            solver,
            nfe=nfe,
            shape=(n, *self.checkpoint.shape),
            grid=None if solver.adaptive else self.grid,
            seeds=self.seed,
            cond=None if self.labels is None else {"label": self.labels[:n]},
            batch_size=min(self.batch_size, n),
            device=self.device,
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return result, time.perf_counter() - start

    def _row(
        self, name: str, solver: Solver, budget: float, samples: Tensor, nfe: int, seconds: float, error: float | None
    ) -> Row:
        pixels = to_pixels(samples)
        fid = FID(self.fid.features, self.fid.reference)
        fid.update(pixels)
        score = fid.compute()
        if self.labels is None:
            own_class = float("nan")
        else:
            own_class = float((self.fid.features.classify(pixels).argmax(1) == self.labels).double().mean())
        return Row(
            solver=name,
            stochastic=solver.stochastic,
            grid="own steps" if solver.adaptive else self.grid.name if self.grid else solver.grid,
            budget=budget,
            nfe=nfe,
            fid=score.value,
            feature_space=score.feature_space,
            samples=score.samples,
            own_class=own_class,
            error=error,
            seconds=seconds,
        )

    def _converged(self) -> tuple[Tensor, float]:
        """The model's probability-flow solution for the seeds, and how far half the evaluations are from it."""
        path = self.out / CONVERGED
        if not path.exists():
            solver = solvers.get(REFERENCE)
            states = self._sample(solver, self.reference)[0].samples.cpu()
            few = min(self.n, self.batch_size)
            half = self._sample(solver, self.reference // 2, few)[0].samples.cpu()
            with replacing(path) as temporary:
                np.savez(temporary, samples=states.numpy(), error=_rms(half, states[:few]))
        with np.load(path, allow_pickle=False) as content:
            return torch.from_numpy(content["samples"]), float(content["error"])

    def _read(self) -> dict[tuple[str, float], tuple[Row, Tensor]]:
        rows, images = self.out / ROWS, self.out / IMAGES
        if not rows.exists() or not images.exists():
            return {}
        try:
            with np.load(images, allow_pickle=False) as content:
                pixels = torch.from_numpy(content["pixels"])
            found = [Row(**json.loads(line)) for line in rows.read_text(encoding="utf-8").splitlines()]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{str(rows)!r} or {IMAGES} is damaged: {error}; remove the folder and start again"
            ) from error
        # Pictures are written first: there may be one more of them than there are rows.
        return {(row.solver, row.budget): (row, picture) for row, picture in zip(found, pixels, strict=False)}

    def _write(self, done: dict[tuple[str, float], tuple[Row, Tensor]]) -> None:
        with replacing(self.out / IMAGES) as path:
            np.savez_compressed(path, pixels=torch.stack([picture for _, picture in done.values()]).numpy())
        with replacing(self.out / ROWS) as path:
            path.write_text("".join(json.dumps(asdict(row)) + "\n" for row, _ in done.values()), encoding="utf-8")


def _rms(samples: Tensor, reference: Tensor) -> float:
    return float((samples.cpu().double() - reference.double()).square().mean().sqrt())


def table(outcome: Outcome) -> str:
    """The rows as a Markdown table, floors and sample count above it."""
    space, count = outcome.converged.feature_space, outcome.converged.samples
    spread = "" if outcome.floors.spread is None else f" ± {outcome.floors.spread:.2f} from one set to another"
    lines = [
        f"FID in {space}, {count:,} samples each; smaller is better. Floors at the same count: real test images "
        f"{outcome.floors.real.value:.2f}{spread}, the model's converged solution {outcome.floors.converged.value:.2f} "
        f"(these seeds: {outcome.converged.fid:.2f}, {outcome.converged.own_class:.1%} of their class).",
        "",
        "Error: root mean square per pixel, images in [−1, 1], from the converged solution of the same seeds "
        f"({REFERENCE}, {outcome.converged.nfe} NFE; its own distance from half the NFE is "
        f"{outcome.reference_error:.1e}). Solvers that draw noise have none.",
        "",
        "| solver | grid | NFE | FID | own class | error | images/s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in outcome.rows:
        error = "" if row.error is None else f"{row.error:.4f}"
        lines.append(
            f"| {row.solver} | {row.grid} | {row.nfe} | {row.fid:.2f} | {row.own_class:.1%} | {error} | "
            f"{row.images_per_second:.0f} |"
        )
    return "\n".join(lines)
