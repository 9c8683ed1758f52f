"""Every solver on a model, with few samples of all and many of the best: python -m benchmarks.bundled.screen.

1. **Grids.** Each of :data:`PLACED`, which take one evaluation a step, goes on the grid of :data:`GRIDS` on which its
   error from the converged samples of ``STARTS`` seeds is least over all budgets (geometric mean).
2. **Few.** These, and :data:`OTHERS` on the grids that they recommend, with few samples at every budget.
3. **Many.** The solvers of least error, each in its best variant, those of least FID of the ones that draw noise
   (geometric means over the budgets), ``ddim``, ``auto`` and ``tuned``, with many samples; in the model's feature
   space, in pixels, and the first ``ELSEWHERE`` in that of EfficientNet-Lite0, which is trained by others on other
   images, and which no fit and no choice has seen. Seconds are from ``TIMED`` samples with nothing beside them.

FID to real images holds the error of the network too. The Fréchet distance to as many of the model's own converged
samples, of other seeds, has that on both sides; its floor is the distance of the converged samples of these seeds.

:data:`STUDIES` says what is done with which model. ``--data`` is the folder of the real images. ``--out`` keeps rows
and samples, so that a run that was stopped goes on. The many are in ``results/<model>`` as ``scoresde bench`` leaves
them, tables in ``results/screen_<model>.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import solvers
from benchmarks.bundled import rankings
from benchmarks.bundled.feature_statistics import fairly, labelled
from benchmarks.recorded import RESULTS, write
from scoresde import models, report, tuned
from scoresde.bench import Bench, Case, Failure, Row, Settings, cases
from scoresde.bench.rows import Outcome
from scoresde.bench.store import ROWS
from scoresde.data import to_pixels
from scoresde.files import digest_of, replacing
from scoresde.files.arrays import Npz
from scoresde.metrics import (
    Collector,
    Estimate,
    Measure,
    Moments,
    PixelSpace,
    Reference,
    floors,
    load_features,
    spaces,
)
from scoresde.metrics.floors import SampleFeatures
from scoresde.process import Process
from scoresde.runs import record
from scoresde.runs.hardware import describe
from scoresde.sampling import fit_steps
from scoresde.tuning import teacher
from scoresde.tuning.trajectories import Trajectories
from solvers import Solver
from solvers.grids import Grid

STARTS, STARTS_SEED, STEPS = 32, 50_000, 100  # that choose grids, and steps of their converged solution
ELSEWHERE, REAL = 2000, 5000
TIMED = 250
REFERENCE = 100  # evaluations of the converged solution of the many
DTYPE = "bfloat16"
COMMAND = "python -m benchmarks.bundled.screen --model {} --data FOLDER"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Study:
    """What is done with one model.

    Attributes:
        model: name of a bundled one.
        data: file of real images.
        budgets: numbers of evaluations.
        few, many: samples of all, and of the best.
        by_error, stochastic: how many go on, of those without and with noise.
    """

    model: str
    data: str
    budgets: Sequence[int]
    few: int
    many: int
    by_error: int
    stochastic: int


STUDIES = (
    Study("mnist", "mnist.npz.xz", (3, 4, 5, 6, 8, 10, 15), few=500, many=5000, by_error=4, stochastic=2),
    Study("cifar10", "cifar10-train.tar.xz", (5, 6, 8, 10, 15, 20), few=1000, many=5000, by_error=5, stochastic=3),
)
PLACED: list[tuple[str, dict[str, Any]]] = [
    *(("ddim", {}), ("dpmpp_2m", {}), ("dpmpp_3m", {}), ("deis", {}), ("res_multistep", {}), ("ipndm", {"order": 3})),
    *(("uni_pc", {"order": order}) for order in (2, 3)),
    *(("uni_pc", {"order": 3, **other}) for other in ({"variant": "bh1"}, {"frame": "edm"})),
    *(("eab", {"order": 3, "frame": "flow", "variable": "frame"}), ("dpm_solver_2m", {})),
]
GRIDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"end": "by_steps"}) for name in ("quadratic", "karras", "log_snr")),
    *(("auto", {}), ("flow_shift", {"shift": 3.0})),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ("heun", "dpmpp_2s", "dpmpp_3s", "dpm_solver_2", "dpm_solver_3", "exp_heun", "pndm")),
    *((name, {}) for name in ("dpm_solver_3m", "gradient_estimation", "ipndm_v", "lms", "reab")),
    *((name, {}) for name in ("euler_ancestral", "euler_maruyama", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")),
    *((name, {}) for name in ("er_sde", "sa_solver", "seeds_3")),
]
FLOOR = ("real images", 0.0)
Chosen = Sequence[tuple[Solver, Grid | None]]
METRICS = ("error", "own_fd", "fid", "pixel_fd")
OWN, BY_OTHERS = "own.json", "efficientnet.json"  # figures that are kept beside the rows


@dataclass(frozen=True)
class Keeping(Measure):
    """Figures of images, the last of which are kept."""

    last: list[Tensor] = field(default_factory=list)

    def of(self, images: Tensor, labels: Tensor | None) -> dict[str, Estimate]:
        self.last[:] = [images]
        return super().of(images, labels)


class Screen:
    """One study, as far as it is done.

    Args:
        study: what is done.
        real: images, the first of which are of all classes.
        out: folder of rows and samples.
    """

    def __init__(self, study: Study, real: Tensor, out: Path):
        self.study, self.real, self.out = study, real, out
        self.checkpoint, self.folder = models.load(study.model), models.find(study.model)
        self.space = load_features(self.folder / "features")
        out.mkdir(parents=True, exist_ok=True)

    @cached_property
    def measure(self) -> Keeping:
        pixels = PixelSpace(self.checkpoint.shape)
        moments = Moments(pixels.size, pixels.name)
        moments.update(pixels.features(self.real).numpy())
        return Keeping(self.space, Reference.load(self.folder, self.space), (pixels, moments), self.space)

    @property
    def process(self) -> Process:
        return self.checkpoint.model.process

    def placed(self) -> list[tuple[Solver, Grid]]:
        """Each of PLACED on its grid."""
        kept, budgets = self.out / "grids.json", self.study.budgets
        if not kept.is_file():
            model = self.checkpoint.model
            cond = {"label": torch.arange(STARTS) % self.checkpoint.classes}
            seeds = range(STARTS_SEED, STARTS_SEED + STARTS)
            begun = Trajectories.of(model, seeds, self.checkpoint.shape, cond=cond, batch_size=STARTS)
            own, found = teacher.ended(begun, STEPS), dict[str, list[float]]()
            for (solver, options), (grid, grid_options) in itertools.product(PLACED, GRIDS):
                fixed = tuned.Fixed(solver, options, grid, grid_options)
                plans = [fixed.plan(self.process, nfe, model.prediction) for nfe in budgets]
                found[str(fixed)] = [float(own.errors(own.planned(plan)).mean()) for plan in plans]
                print(fixed, *(f"{error:.4f}" for error in found[str(fixed)]), flush=True)
            _keep(kept, found)
        errors = json.loads(kept.read_text(encoding="utf-8"))
        result = []
        for solver, options in PLACED:
            on = [tuned.Fixed(solver, options, grid, grid_options) for grid, grid_options in GRIDS]
            result.append(min(on, key=lambda each: _mean(errors[str(each)])).made())
        return result

    def few(self) -> Outcome:
        """All solvers; which go on is told by error and FID alone."""
        others: list[tuple[Solver, Grid | None]] = [(solvers.get(name, **options), None) for name, options in OTHERS]
        chosen = [*self.placed(), *others]
        return self.rows(chosen, replace(self.measure, pixels=None), Settings(self.study.few), self.out / "few")

    def many(self, few: Outcome) -> Outcome:
        """The best and ours, with seconds of their own."""
        model, out = self.checkpoint.model, self.out / "many"
        assert model.tuned is not None
        ours: list[tuple[Solver, Grid | None]] = [
            (tuned.TunedSolver.load(model.tuned), None),
            (tuned.of(model, "auto"), None),
        ]
        ddim = next(pair for pair in self.placed() if pair[0].name == "ddim")
        chosen = [*ours, *self.best(few), ddim]
        found = self.rows(chosen, self.measure, Settings(self.study.many, reference=REFERENCE), out)
        return self.timed(chosen, found, out)

    def rows(self, chosen: Chosen, measure: Keeping, settings: Settings, out: Path) -> Outcome:
        """Rows of solvers on grids at budgets, with their distance to the model's own samples."""

        def kept(row: Row | Failure, done: int, total: int, left: float) -> None:
            if isinstance(row, Row):
                _save(out, row, measure.last[0])
                figures = " ".join(f"{name} {row.metrics[name].value:.4g}" for name in METRICS if name in row.metrics)
                told = f"{row.solver} on {row.grid} {row.nfe:g}: {figures}"
                print(f"{done}/{total} {told}; {left / 60:.0f} min", flush=True)
            else:
                print(row, flush=True)

        limits = floors(settings.n, self.folder) if (self.folder / "converged_features.npz").is_file() else None
        bench = Bench(self.checkpoint, measure, limits, settings, out, device=CPU, report=kept)
        found = bench.run(self.cases(chosen))
        if not _place(out, found.converged).is_file():
            _save(out, found.converged, to_pixels(bench._solved("", DTYPE, settings.seed)[0]))
        return self.with_own(found, bench, out)

    def with_own(self, outcome: Outcome, bench: Bench, out: Path) -> Outcome:
        """The outcome with ``own_fd`` in every row, the converged solution's too."""
        kept, settings, reference = out / OWN, bench.settings, None
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}

        def with_figure(row: Row) -> Row:
            nonlocal reference
            key = _key(row)
            if key not in known:
                if reference is None:
                    states = bench._solved("", DTYPE, settings.seed + settings.n)[0]
                    reference = _of_images(self.space, to_pixels(states), out / "own_features.npz")
                moments = Reference(reference.moments)  # without features there is nothing but the distance to compute
                known[key] = _interval(_figures(self.space, moments, _kept(out, row))["fid"])
                _keep(kept, known)
            return replace(row, metrics={**row.metrics, "own_fd": Estimate(*known[key])})

        return replace(
            outcome, rows=[with_figure(row) for row in outcome.rows], converged=with_figure(outcome.converged)
        )

    def timed(self, chosen: Chosen, outcome: Outcome, out: Path) -> Outcome:
        """The outcome with the seconds of so many samples, from ``TIMED`` of each row with nothing beside them."""
        kept = out.parent / "seconds.json"
        if not kept.is_file():
            bench = Bench(self.checkpoint, self.measure, None, Settings(TIMED), out.parent / "timed", device=CPU)
            found = {}
            for case in self.cases(chosen):
                found[f"{case.label} {case.budget:g}"] = bench._sample(case, int(case.budget), TIMED)[1] / TIMED
            _keep(kept, found)
        taken = json.loads(kept.read_text(encoding="utf-8"))
        rows = [replace(row, seconds=row.samples * taken[f"{row.solver} {row.budget:g}"]) for row in outcome.rows]
        return replace(outcome, rows=rows)

    def best(self, outcome: Outcome) -> list[tuple[Solver, Grid | None]]:
        """The fixed solvers that go on to many samples."""
        curves: dict[tuple[str, str], list[Row]] = {}
        for row in outcome.rows:
            curves.setdefault((row.solver, row.grid), []).append(row)

        def by(metric: str, stochastic: bool) -> list[Row]:
            """A row of the best variant of each name, the best first."""
            found: dict[str, tuple[float, Row]] = {}
            for rows in curves.values():
                first = rows[0]
                if first.stochastic is stochastic and first.name != "ddim" and len(rows) == len(self.study.budgets):
                    mean = _mean([row.metrics[metric].value for row in rows])
                    if first.name not in found or mean < found[first.name][0]:
                        found[first.name] = mean, first
            return [row for _, row in sorted(found.values(), key=lambda each: each[0])]

        chosen = by("error", False)[: self.study.by_error], by("fid", True)[: self.study.stochastic]
        return [_made(row) for row in itertools.chain(*chosen)]

    def elsewhere(self, outcome: Outcome, out: Path) -> dict[tuple[str, float], tuple[Estimate, Estimate]]:
        """FID and KID of rows, of the converged solution and of other real images, in EfficientNet-Lite0's space.

        The first ``REAL`` real images are what all are compared with, and ``ELSEWHERE`` more the floor.
        """
        space, kept = spaces.get("efficientnet_lite"), out / BY_OTHERS
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        reference, found = None, {}
        for row in (None, outcome.converged, *sorted(outcome.rows, key=lambda row: row.budget)):
            key, told = (FLOOR[0], FLOOR) if row is None else (_key(row), (row.solver, row.budget))
            if key not in known:
                reference = reference or _of_images(space, self.real[:REAL], out / "efficientnet_real.npz")
                images = (self.real[REAL:] if row is None else _kept(out, row))[:ELSEWHERE]
                figures = _figures(space, reference, images)
                known[key] = [_interval(figures["fid"]), _interval(figures["kid"])]
                print(f"{told} by EfficientNet: {known[key][0][0]:.3f}", flush=True)
                _keep(kept, known)
            fid, kid = (Estimate(*values) for values in known[key])
            found[told] = fid, kid
        return found

    def cases(self, chosen: Chosen) -> list[Case]:
        found = list[Case]()
        for solver, grid in chosen:
            rule = grid or solver.recommended
            fitting = [budget for budget in self.study.budgets if _fits(solver, self.process, rule, budget)]
            found += cases(self.process, [solver], budgets=fitting, tolerances=[], grids=[grid], dtypes=[DTYPE])
        return found


def real_images(study: Study, folder: Path) -> Tensor:
    """All classes in their shares in every stretch of them: data sets are often sorted by class."""
    return fairly(labelled(str(folder / study.data), "train")).pixels


def _figures(space: spaces.Space, reference: Reference, images: Tensor) -> dict[str, Estimate]:
    collector = Collector(space)
    collector.update(images, range(len(images)))
    return collector.figures(reference).metrics


def _of_images(space: spaces.Space, images: Tensor, path: Path) -> Reference:
    """What other images are compared with, whose features are kept."""
    if not path.is_file():
        features = space.features(images).numpy()
        SampleFeatures(space.name, features, np.zeros(len(features), np.int64), {}).save(path)
    kept = SampleFeatures.load(path)
    return Reference(kept.moments(len(kept.features)), kept)


def _kept(out: Path, row: Row) -> Tensor:
    with Npz(_place(out, row)) as content:
        return torch.from_numpy(content["pixels"])


def _fits(solver: Solver, process: Process, rule: Grid, budget: int) -> bool:
    try:
        return fit_steps(solver, process, rule, budget) > 0
    except ValueError:
        return False


def _made(row: Row) -> tuple[Solver, Grid | None]:
    """A row's solver and grid."""
    for solver, options in (*PLACED, *OTHERS):
        made = solvers.get(solver, **options)
        if made.name == row.name and dict(made.options) == row.options:
            if row.grid == str(made.recommended):
                return made, None
            return made, next(grid for grid in (solvers.grids.get(g, **o) for g, o in GRIDS) if str(grid) == row.grid)
    raise AssertionError(f"no solver of {row.solver}")


def _mean(values: Sequence[float]) -> float:
    """Geometric."""
    return float(np.exp(np.log(values).mean()))


def _interval(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _key(row: Row) -> str:
    return digest_of([f"{row.solver} {row.grid} {row.budget:g}"])[:16]


def _place(out: Path, row: Row) -> Path:
    return out / "pixels" / f"{_key(row)}.npz"


def _save(out: Path, row: Row, images: Tensor) -> None:
    """Keep the images of a row that was measured; what was found in those before, by an older plan, is not theirs."""
    for figures in (out / OWN, out / BY_OTHERS):
        known = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
        if known.pop(_key(row), None) is not None:
            _keep(figures, known)
    _place(out, row).parent.mkdir(exist_ok=True)
    with replacing(_place(out, row)) as temporary:
        np.savez_compressed(temporary, pixels=images.numpy())


def _keep(path: Path, found: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _times(factor: float, estimate: Estimate | None) -> Estimate | None:
    if estimate is None:
        return None
    assert estimate.low is not None and estimate.high is not None
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high)


def tables(
    study: Study, few: Outcome, many: Outcome, other: dict[tuple[str, float], tuple[Estimate, Estimate]]
) -> list[str]:
    """Both screens, and which figures agree."""
    here, there = "in the model's feature space", f"by EfficientNet-Lite0, first {ELSEWHERE:,} samples"

    def metric(name: str) -> rankings.Figure:
        return lambda row: row.metrics.get(name)

    def by_other(index: int, row: Row) -> Estimate | None:
        return (other.get((row.solver, row.budget)) or (None, None))[index]

    error, own, fid, pixel = map(metric, ("error", "own_fd", "fid", "pixel_fd"))
    elsewhere, kid = partial(by_other, 0), partial(by_other, 1)
    real_fid, real_kid = other[FLOOR]
    kinds: list[tuple[str, Outcome, str, rankings.Figure, Estimate | None]] = [
        ("Error", many, ".4f", error, None),
        (f"Fréchet distance to the model's own converged samples, {here}", many, ".3f", own, None),
        (f"FID {here}", many, ".3f", fid, None),
        ("Fréchet distance of pixels", many, ".3f", pixel, None),
        (f"FID {there}", many, ".2f", elsewhere, real_fid),
        (f"KID {there}, times 1000", many, ".2f", lambda row: _times(1000, kid(row)), _times(1000, real_kid)),
        (f"Error, {study.few:,} samples of all", few, ".3f", error, None),
        (f"Fréchet distance to the model's own, {study.few:,} samples of all", few, ".2f", own, None),
        (f"FID {here}, {study.few:,} samples of all", few, ".2f", fid, None),
    ]
    lines = []
    for words, outcome, digits, of, real in kinds:
        lines += [f"## {words}", "", *rankings.by_budget(outcome.rows, study.budgets, of, digits)]
        if not words.startswith("Error"):
            lines += [f"Converged: {rankings.cell(of(outcome.converged), digits)}.", ""]
        if real is not None:
            lines += [f"Real images: {rankings.cell(real, digits)}.", ""]
    pairs = [
        ("error, own samples", error, own),
        ("own samples, FID", own, fid),
        ("own samples, EfficientNet", own, elsewhere),
        ("FID, EfficientNet", fid, elsewhere),
        ("FID, pixels", fid, pixel),
    ]
    return [
        *lines,
        "## Which figures put the same solvers first",
        "",
        f"Kendall's τ over pairs of {study.many:,} samples that are apart by more than two standard errors in both; in",
        "brackets how many these are, and how many are apart in one alone.",
        "",
        *rankings.agreements(many.rows, study.budgets, pairs),
        f"All solvers, {study.few:,} samples:",
        "",
        *rankings.agreements(few.rows, study.budgets, pairs[:2]),
        "Pairs of many samples that error and own samples put the other way round; after each solver its error and its",
        "distance:",
        "",
        *rankings.disagreements(many.rows, error, own, 12),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[study.model for study in STUDIES], default=STUDIES[0].model)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--out", type=Path, help="folder of rows and samples (build/screen_<model>)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    study = next(study for study in STUDIES if study.model == arguments.model)
    screen = Screen(study, real_images(study, arguments.data), arguments.out or Path("build") / f"screen_{study.model}")
    few = screen.few()
    many = screen.many(few)
    command, where = COMMAND.format(study.model), RESULTS / study.model
    about = {"command": command, "model": {"path": study.model}, "n": study.many, "reference_nfe": REFERENCE}
    many = replace(many, config=about, environment=record.versions(CPU))
    report.write(many, where)
    record.write(where, about, CPU)
    with replacing(where / ROWS) as temporary:
        temporary.write_text("".join(json.dumps(asdict(row)) + "\n" for row in many.rows), encoding="utf-8")
    found = screen.elsewhere(many, screen.out / "many")
    head = [
        f"# Solvers on {study.model}",
        "",
        f"Written by `{command}`; its docstring says how it is measured.",
        f"{study.many:,} samples of the best, {study.few:,} of all, the network in {DTYPE}, 95 % intervals.",
        f"{describe(CPU)}.",
        "",
        *(
            f"FID of {outcome.converged.samples:,} real test images: {outcome.floors.real.value:.3f}; of as many "
            f"converged samples {rankings.cell(outcome.converged.metrics['fid'], '.3f')}."
            for outcome in (many, few)
            if outcome.floors
        ),
        "",
    ]
    write(RESULTS / f"screen_{study.model}.md", [*head, *tables(study, few, many, found)])


if __name__ == "__main__":
    main()
