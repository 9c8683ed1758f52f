"""``scoresde bench``: solvers compared by FID, error and speed at several budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import solvers
from scoresde import models, plots
from scoresde.bench import ROWS, Bench, Row, table
from scoresde.commands import outputs, values
from scoresde.files import replacing
from scoresde.hardware import describe

RESULTS = (ROWS, "table.md", "steps_vs_fid.png", "samples.png")


def run(config: DictConfig, out: Path) -> None:
    """Compare as ``conf/bench.yaml`` says, into the folder ``out``; rows that are already there are kept.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
    """
    settings = outputs.resolved(config)
    n, batch_size = values.whole(config, "n", least=2), values.whole(config, "batch_size")
    seed, reference = values.whole(config, "seed", least=0), values.whole(config, "reference_nfe", least=10)
    device, dtype = values.device(config), values.dtype(config, "dtype")
    name, options = values.named(settings["grid"])
    grid = None if name is None else solvers.grids.get(name, **options)
    chosen = [_solver(entry) for entry in settings["solvers"]]
    settings["model"]["sha256"] = models.fingerprint(config.model.path)
    if outputs.complete(out, settings, RESULTS):
        print((out / "table.md").read_text(encoding="utf-8"))
        print(f"the results of this configuration are already in {out}")
        return
    outputs.record(out, settings, device)
    if config.threads is not None:
        torch.set_num_threads(values.whole(config, "threads"))
    bench = Bench(
        models.load(config.model.path, device=device, dtype=dtype),
        models.find(config.metrics or config.model.path),
        n=n,
        seed=seed,
        batch_size=batch_size,
        out=out,
        device=device,
        grid=grid,
        reference=reference,
        report=_report,
    )
    print(f"converged solution of {n} seeds, then {len(chosen)} solvers …", flush=True)
    outcome = bench.run(chosen, settings["nfe"], settings["tolerances"])
    text = f"{table(outcome)}\n\nnetwork in {config.dtype}, {describe(device)}\n"
    plots.steps_vs_fid(outcome, out / "steps_vs_fid.png")
    plots.image_grid(outcome, out / "samples.png")
    with replacing(out / "table.md") as path:
        path.write_text(text, encoding="utf-8")
    print(f"\n{text}\n{out}: {', '.join((*RESULTS, outputs.CONFIG, outputs.VERSIONS))}")


def _solver(entry: Any) -> solvers.Solver:
    """A solver from ``heun`` or ``{name: heun, s_churn: 10}``."""
    name, options = values.named(entry) if isinstance(entry, dict) else (entry, {})
    return solvers.get(str(name), **options)


def _report(row: Row) -> None:
    error = "" if row.error is None else f"  error {row.error:.4f}"
    print(f"  {row.solver:<36} NFE {row.nfe:>3}  FID {row.fid:8.2f}{error}  {row.seconds:5.1f} s", flush=True)
    sys.stdout.flush()
