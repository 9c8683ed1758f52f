"""``scoresde sample``: images from a model, with their seeds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

import scoresde
import solvers
from scoresde import models
from scoresde import process as processes
from scoresde.commands import outputs, values
from scoresde.data import to_pixels
from scoresde.files import replacing
from scoresde.images import save_grid

RESULTS = ("samples.npz", "grid.png")
NFE = 20


def run(config: DictConfig, out: Path) -> None:
    """Sample as ``conf/sample.yaml`` says, into the folder ``out``.

    Raises:
        ValueError: a setting out of range, or a folder with other results.
    """
    settings = outputs.resolved(config)
    n, batch_size = values.whole(config, "n"), values.whole(config, "batch_size")
    seed = values.whole(config, "seed", least=0)
    dtype, device = values.dtype(config, "dtype"), values.device(config)
    name, options = values.named(settings["solver"])
    solver = solvers.get(str(name), **options)
    grid_name, options = values.named(settings["grid"])
    grid = None if grid_name is None else solvers.grids.get(grid_name, **options)
    steps, nfe = (None if config[key] is None else values.whole(config, key) for key in ("steps", "nfe"))
    if steps is None and nfe is None and not solver.adaptive:
        settings["nfe"] = nfe = NFE

    checkpoint = models.load(config.model.path, device=device, dtype=dtype)
    process_name, options = values.named(settings["process"])
    model = checkpoint.model
    if process_name is not None:
        model = model.on(processes.get(process_name, **options))
    labels = _labels(config.label, n, checkpoint.classes)

    settings["model"]["sha256"] = models.fingerprint(config.model.path)
    if outputs.complete(out, settings, RESULTS):
        print(f"the results of this configuration are already in {out}")
        return
    start = time.perf_counter()
    result = scoresde.sample(
        model,
        solver,
        steps=steps,
        nfe=nfe,
        shape=(n, *checkpoint.shape),
        grid=grid,
        seeds=seed,
        cond={} if labels is None else {"label": labels},
        batch_size=batch_size,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
        device=device,
        progress=sys.stderr.isatty(),
    )
    seconds = time.perf_counter() - start
    samples = result.samples.to("cpu", torch.float32)
    outputs.record(out, settings, device)
    _write(out, samples, result.seeds, labels, result.nfe, checkpoint.classes if config.label == "cycle" else 0)
    where = "steps of its own" if solver.adaptive else f"the grid {grid or solver.recommended}"
    mean = sum(result.evaluations) / n
    taken = f"{result.nfe} NFE" if mean == result.nfe else f"{mean:.1f} NFE on average, {result.nfe} at most"
    print(
        f"{solver.name} on {where}, {model.process.name} process: {taken}\n"
        f"{n} images in {seconds:.2f} s ({n / seconds:.1f} images/s, {config.dtype} network, {device})\n"
        f"{out}: {', '.join((*RESULTS, outputs.CONFIG, outputs.VERSIONS))}"
    )


def _labels(label: Any, n: int, classes: int) -> Tensor | None:
    """The class of each image, shape (n,); None for no label."""
    if label is None or (label == "cycle" and classes == 0):
        return None
    if label == "cycle":
        return torch.arange(n) % classes
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < classes:
        known = f"0 to {classes - 1}, cycle or null" if classes else "null: this model has no classes"
        raise ValueError(f"label must be {known}, got {label!r}")
    return torch.full((n,), label)


def _write(out: Path, samples: Tensor, seeds: list[int], labels: Tensor | None, nfe: int, columns: int) -> None:
    with replacing(out / "samples.npz") as path:
        np.savez(
            path,
            samples=samples.numpy(),
            seeds=np.asarray(seeds, dtype=np.uint64),
            labels=np.full(len(samples), -1) if labels is None else labels.numpy(),
            nfe=np.asarray(nfe),
        )
    if columns and len(samples) >= columns:
        names = [str(label) for label in range(columns)]
        save_grid(out / "grid.png", to_pixels(samples), columns, column_labels=names)
    else:
        save_grid(out / "grid.png", to_pixels(samples), max(1, round(len(samples) ** 0.5)))
