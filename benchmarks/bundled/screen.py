"""Every solver on the bundled model, with few samples of all and many of the best: python -m benchmarks.bundled.screen.

1. **Grids.** Each of :data:`PLACED`, which take one evaluation a step, goes on the grid of :data:`GRIDS` on which its
   error from the converged samples of ``STARTS`` seeds is least over all budgets (geometric mean).
2. **Few.** These, and :data:`OTHERS` on the grids that they recommend, with ``FEW`` samples at every budget.
3. **Many.** The ``BY_ERROR`` solvers of least error, each in its best variant, the ``STOCHASTIC`` of least FID of those
   that draw noise (geometric means over the budgets), ``ddim``, ``auto`` and ``tuned``, with ``MANY`` samples; in the
   model's feature space, in pixels, and the first ``ELSEWHERE``, at some budgets, in that of EfficientNet-Lite0,
   which is trained by others on other images, and which no fit and no choice has seen. Seconds are from ``TIMED``
   samples with nothing beside them.

``--data`` is the folder of mnist.npz.xz. ``--out`` keeps rows and samples, so that a run that was stopped goes on. The
many are in ``results/mnist`` as ``scoresde bench`` leaves them, tables in ``results/screen.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import solvers
from benchmarks.recorded import RESULTS, write
from scoresde import data, models, report, tuned
from scoresde.bench import Bench, Case, Failure, Row, Settings, cases
from scoresde.bench.rows import Outcome
from scoresde.bench.store import ROWS
from scoresde.files import digest_of, replacing
from scoresde.files.arrays import Npz
from scoresde.metrics import (
    BUNDLED,
    Collector,
    Estimate,
    FeatureSpace,
    Measure,
    Moments,
    PixelSpace,
    Reference,
    floors,
    spaces,
)
from scoresde.metrics.floors import SampleFeatures
from scoresde.models import Checkpoint
from scoresde.process import Process
from scoresde.runs import record
from scoresde.runs.hardware import describe
from scoresde.sampling import fit_steps
from scoresde.tuning import teacher
from scoresde.tuning.trajectories import Trajectories
from solvers import Solver
from solvers.grids import Grid

BUDGETS = (3, 4, 5, 6, 8, 10, 15)
STARTS, STARTS_SEED, STEPS = 32, 50_000, 100  # that choose grids, and steps of their converged solution
FEW, MANY, ELSEWHERE, REAL = 500, 5000, 2000, 5000
ELSEWHERE_AT = (3, 5, 8)
TIMED = 250
REFERENCE = 100  # evaluations of the converged solution of the many
BY_ERROR, STOCHASTIC = 4, 2
DTYPE = "bfloat16"
COMMAND = "python -m benchmarks.bundled.screen --data FOLDER"
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
METRICS = ("error", "fid", "pixel_fd")


@dataclass(frozen=True)
class Keeping(Measure):
    """Figures of images, the last of which are kept."""

    last: list[Tensor] = field(default_factory=list)

    def of(self, images: Tensor, labels: Tensor | None) -> dict[str, Estimate]:
        self.last[:] = [images]
        return super().of(images, labels)


def placed(checkpoint: Checkpoint, out: Path) -> list[tuple[Solver, Grid]]:
    """Each of PLACED on its grid."""
    kept = out / "grids.json"
    if not kept.is_file():
        model, process = checkpoint.model, checkpoint.model.process
        cond = {"label": torch.arange(STARTS) % checkpoint.classes}
        seeds = range(STARTS_SEED, STARTS_SEED + STARTS)
        own = teacher.ended(Trajectories.of(model, seeds, checkpoint.shape, cond=cond, batch_size=STARTS), STEPS)
        found: dict[str, list[float]] = {}
        for (solver, options), (grid, grid_options) in itertools.product(PLACED, GRIDS):
            fixed = tuned.Fixed(solver, options, grid, grid_options)
            plans = [fixed.plan(process, nfe, model.prediction) for nfe in BUDGETS]
            found[str(fixed)] = [float(own.errors(own.planned(plan)).mean()) for plan in plans]
            print(fixed, *(f"{error:.4f}" for error in found[str(fixed)]), flush=True)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    errors = json.loads(kept.read_text(encoding="utf-8"))
    result = []
    for solver, options in PLACED:
        on = [tuned.Fixed(solver, options, grid, grid_options) for grid, grid_options in GRIDS]
        result.append(min(on, key=lambda each: _mean(errors[str(each)])).made())
    return result


def run(
    checkpoint: Checkpoint,
    measure: Keeping,
    chosen: Chosen,
    settings: Settings,
    out: Path,
) -> Outcome:
    """Rows of solvers on grids at budgets, and the samples of each."""

    def kept(row: Row | Failure, done: int, total: int, left: float) -> None:
        if isinstance(row, Row):
            _save(out, row, measure.last[0])
            figures = " ".join(f"{name} {row.metrics[name].value:.4g}" for name in METRICS if name in row.metrics)
            print(f"{done}/{total} {row.solver} on {row.grid} {row.nfe:g}: {figures}; {left / 60:.0f} min", flush=True)
        else:
            print(row, flush=True)

    limits = floors(settings.n)
    bench = Bench(checkpoint, measure, limits, settings, out, device=torch.device("cpu"), report=kept)
    found = bench.run(_cases(checkpoint, chosen))
    _save(out, found.converged, measure.last[0])
    return found


def timed(checkpoint: Checkpoint, measure: Measure, chosen: Chosen, outcome: Outcome, out: Path) -> Outcome:
    """The outcome with the seconds of so many samples, from ``TIMED`` of each row with nothing beside them."""
    kept = out / "seconds.json"
    if not kept.is_file():
        bench = Bench(checkpoint, measure, None, Settings(TIMED), out / "timed", device=torch.device("cpu"))
        taken = {}
        for case in _cases(checkpoint, chosen):
            taken[f"{case.label} {case.budget:g}"] = bench._sample(case, int(case.budget), TIMED)[1] / TIMED
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(taken, indent=1) + "\n", encoding="utf-8")
    taken = json.loads(kept.read_text(encoding="utf-8"))
    rows = [replace(row, seconds=row.samples * taken[f"{row.solver} {row.budget:g}"]) for row in outcome.rows]
    return replace(outcome, rows=rows)


def best(outcome: Outcome) -> list[tuple[Solver, Grid | None]]:
    """The fixed solvers that go on to many samples."""
    curves: dict[tuple[str, str], list[Row]] = {}
    for row in outcome.rows:
        curves.setdefault((row.solver, row.grid), []).append(row)

    def by(metric: str, stochastic: bool) -> list[Row]:
        """A row of the best variant of each name, the best first."""
        found: dict[str, tuple[float, Row]] = {}
        for first, *others in curves.values():
            if first.stochastic is stochastic and first.name != "ddim" and len(others) == len(BUDGETS) - 1:
                mean = _mean([row.metrics[metric].value for row in (first, *others)])
                if first.name not in found or mean < found[first.name][0]:
                    found[first.name] = mean, first
        return [row for _, row in sorted(found.values(), key=lambda each: each[0])]

    return [_made(row) for row in (*by("error", False)[:BY_ERROR], *by("fid", True)[:STOCHASTIC])]


def elsewhere(outcome: Outcome, images: Tensor, out: Path) -> dict[tuple[str, float], tuple[Estimate, Estimate]]:
    """FID and KID of rows, of the converged solution and of other real images, in another space, by solver and budget.

    ``images`` are real: ``REAL`` that all are compared with, and ``ELSEWHERE`` more, which are the floor.
    """
    space, kept = spaces.get("efficientnet_lite"), out / "efficientnet.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    reference, found = None, {}
    rows = [row for budget in ELSEWHERE_AT for row in outcome.rows if row.budget == budget]
    for row in (None, outcome.converged, *rows):
        key = FLOOR[0] if row is None else _key(row)
        if key not in known:
            reference = reference or _reference(space, images[:REAL], out)
            pixels = images[REAL:] if row is None else _kept(out, row)
            collector = Collector(space)
            collector.update(pixels[:ELSEWHERE], range(ELSEWHERE))
            figures = collector.figures(reference).metrics
            known[key] = [[each.value, each.low, each.high] for each in (figures["fid"], figures["kid"])]
            print(
                f"{key if row is None else (row.solver, row.budget)} by EfficientNet: {known[key][0][0]:.3f}",
                flush=True,
            )
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps(known) + "\n", encoding="utf-8")
        fid, kid = (Estimate(*values) for values in known[key])
        found[FLOOR if row is None else (row.solver, row.budget)] = fid, kid
    return found


def _kept(out: Path, row: Row) -> Tensor:
    with Npz(_place(out, row)) as content:
        return torch.from_numpy(content["pixels"])


def _reference(space: spaces.Space, images: Tensor, out: Path) -> Reference:
    path = out / "efficientnet_real.npz"
    if not path.is_file():
        features = space.features(images).numpy()
        SampleFeatures(space.name, features, np.zeros(len(features), np.int64), {}).save(path)
    real = SampleFeatures.load(path)
    return Reference(real.moments(len(real.features)), real)


def _cases(checkpoint: Checkpoint, chosen: Chosen) -> list[Case]:
    process, found = checkpoint.model.process, list[Case]()
    for solver, grid in chosen:
        fitting = [budget for budget in BUDGETS if _fits(solver, process, grid or solver.recommended, budget)]
        found += cases(process, [solver], budgets=fitting, tolerances=[], grids=[grid], dtypes=[DTYPE])
    return found


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


def _key(row: Row) -> str:
    return digest_of([f"{row.solver} {row.grid} {row.budget:g}"])[:16]


def _place(out: Path, row: Row) -> Path:
    return out / "pixels" / f"{_key(row)}.npz"


def _save(out: Path, row: Row, images: Tensor) -> None:
    _place(out, row).parent.mkdir(exist_ok=True)
    with replacing(_place(out, row)) as temporary:
        np.savez_compressed(temporary, pixels=images.numpy())


def _cell(estimate: Estimate | None, digits: str) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:{digits}}" + (
        "" if estimate.high is None else f" ± {estimate.high - estimate.value:{digits}}"
    )


def tables(few: Outcome, many: Outcome, other: dict[tuple[str, float], tuple[Estimate, Estimate]]) -> list[str]:
    """Both screens."""
    here, there = "in the model's feature space", f"by EfficientNet-Lite0, first {ELSEWHERE:,} samples"
    kinds: list[tuple[str, Outcome, str, Callable[[Row], Estimate | None]]] = [
        ("Error", many, ".4f", lambda row: row.metrics.get("error")),
        (f"FID {here}", many, ".3f", lambda row: row.metrics["fid"]),
        ("Fréchet distance of pixels", many, ".3f", lambda row: row.metrics["pixel_fd"]),
        (f"FID {there}", many, ".2f", lambda row: other.get((row.solver, row.budget), (None, None))[0]),
        (f"KID {there}, times 1000", many, ".2f", lambda row: _times(1000, other.get((row.solver, row.budget)))),
        (f"Error, {FEW} samples of all", few, ".3f", lambda row: row.metrics.get("error")),
        (f"FID {here}, {FEW} samples of all", few, ".2f", lambda row: row.metrics["fid"]),
    ]
    lines = []
    for words, outcome, digits, of in kinds:
        lines += [f"## {words}", "", *_table(outcome.rows, of, digits), ""]
        if not words.startswith("Error"):
            lines[-1:] = [f"Converged: {_cell(of(outcome.converged), digits)}.", ""]
        if "EfficientNet" in words:
            fid, kid = other[FLOOR]
            lines[-1:] = [f"Real images: {_cell(fid if 'FID' in words else _times(1000, (fid, kid)), digits)}.", ""]
    return lines


def _times(factor: float, pair: tuple[Estimate, Estimate] | None) -> Estimate | None:
    """The second of a pair, multiplied."""
    if pair is None:
        return None
    _, each = pair
    assert each.low is not None and each.high is not None
    return Estimate(factor * each.value, factor * each.low, factor * each.high)


def _table(rows: Sequence[Row], of: Callable[[Row], Estimate | None], digits: str) -> list[str]:
    curves: dict[tuple[str, str], dict[float, Row]] = {}
    for row in rows:
        curves.setdefault((row.solver, row.grid), {})[row.budget] = row
    lines = [f"| solver | grid | {' | '.join(map(str, BUDGETS))} |", "|---|---|" + "---:|" * len(BUDGETS)]
    for (solver, grid), by in curves.items():
        cells = [_cell(of(by[budget]), digits) if budget in by else "–" for budget in BUDGETS]
        if any(cell != "–" for cell in cells):
            lines.append(f"| {solver} | {grid} | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist.npz.xz")
    parser.add_argument("--out", type=Path, default=Path("build/screen"), help="folder of rows and samples")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, space = models.load("mnist"), spaces.get("model")
    assert isinstance(space, FeatureSpace)
    real = data.load(arguments.data / "mnist.npz.xz").pixels
    pixels, moments = PixelSpace(checkpoint.shape), Moments(784, PixelSpace(checkpoint.shape).name)
    moments.update(pixels.features(real).numpy())
    measure = Keeping(space, Reference.load(BUNDLED, space), (pixels, moments), space)
    on_grids = placed(checkpoint, out)
    others: list[tuple[Solver, Grid | None]] = [(solvers.get(name, **options), None) for name, options in OTHERS]
    few = run(checkpoint, replace(measure, pixels=None), [*on_grids, *others], Settings(FEW), out / "few")
    model = checkpoint.model
    assert model.tuned is not None
    ours: list[tuple[Solver, Grid | None]] = [
        (tuned.TunedSolver.load(model.tuned), None),
        (tuned.of(model, "auto"), None),
    ]
    ddim = next(pair for pair in on_grids if pair[0].name == "ddim")
    chosen = [*ours, *best(few), ddim]
    many = run(checkpoint, measure, chosen, Settings(MANY, reference=REFERENCE), out / "many")
    about = {"command": COMMAND, "model": {"path": "mnist"}, "n": MANY, "reference_nfe": REFERENCE}
    device, where = torch.device("cpu"), RESULTS / "mnist"
    many = replace(timed(checkpoint, measure, chosen, many, out), config=about, environment=record.versions(device))
    report.write(many, where)
    record.write(where, about, device)
    with replacing(where / ROWS) as temporary:
        temporary.write_text("".join(json.dumps(asdict(row)) + "\n" for row in many.rows), encoding="utf-8")
    found = elsewhere(many, real, out / "many")
    head = [
        "# Solvers on the bundled model",
        "",
        f"Written by `{COMMAND}`; its docstring says how it is measured.",
        f"{MANY:,} samples of the best, {FEW} of all, the network in {DTYPE}, 95 % intervals.",
        f"{describe(torch.device('cpu'))}.",
        "",
        *(
            f"FID of {outcome.converged.samples:,} real test images: {outcome.floors.real.value:.3f}; of as many "
            f"converged samples {_cell(outcome.converged.metrics['fid'], '.3f')}."
            for outcome in (many, few)
            if outcome.floors
        ),
        "",
    ]
    write(RESULTS / "screen.md", [*head, *tables(few, many, found)])


if __name__ == "__main__":
    main()
