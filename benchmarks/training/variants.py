"""Trainings that differ in one thing, and how good what they give is, on one scale for all."""

from __future__ import annotations

import argparse
import json
import math
import operator
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import scoresde
from benchmarks.bundled.feature_statistics import fair_order
from scoresde import models, process
from scoresde.commands.values import named
from scoresde.data import Images, to_pixels, to_state
from scoresde.files import replacing
from scoresde.metrics import FID, Space, class_labels
from scoresde.metrics.moments import Gaussian
from scoresde.score import ScoreModel
from scoresde.training import OBJECTIVES, Settings, Trainer
from scoresde.training.objectives import sigma_data

EVERY = 200  # steps between checkpoints
SEED = 7  # of the noise in which all are judged
P_MEAN, P_STD = -1.2, 1.2  # of the levels at which they are: EDM's


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Attributes:
        name: in tables.
        process: name and options.
        objective: name and options.
        prediction: None is the objective's own.
        network: name and options.
        settings: of :class:`scoresde.training.Settings`, but for epochs.
        flip: mirror images at random.
    """

    name: str
    process: Mapping[str, Any]
    objective: Mapping[str, Any]
    prediction: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    flip: bool = False


def asked(about: str | None, data: str, out: str) -> argparse.Namespace:
    """The command line of a comparison: its ``data``, the folder ``out`` of what is done, and ``jobs`` side by side."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=data)
    parser.add_argument("--out", type=Path, default=Path("build", out))
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def trainer(variant: Variant, data: Images, steps: int, seed: int, folder: Path) -> Trainer:
    """A run of so many steps, each image as often as any other to within one, and so is each class."""
    assert data.labels is not None
    order = fair_order(data.labels)  # data sets are often sorted by class
    settings = Settings(epochs=1, seed=seed, **variant.settings)
    epochs = math.ceil(steps * settings.batch_size / len(data))
    per_epoch = math.ceil(steps / epochs)
    (kind, choices), (name, options) = named(variant.objective), named(variant.process)
    objective = OBJECTIVES.get(str(kind), **choices)
    chosen = objective.adapted(process.get(str(name), **options))
    torch.manual_seed(seed)
    net = models.build({**variant.network, "in_channels": data.shape[0], "num_classes": data.classes}, data.shape)
    return Trainer(
        net,
        chosen,
        variant.prediction,
        data.part(order[torch.arange(per_epoch * settings.batch_size) % len(data)]),
        replace(settings, epochs=epochs),
        folder,
        time_input=partial(operator.mul, 1000.0 if chosen.t_max <= 1 else 1.0),
        objective=objective,
        flip=variant.flip,
    )


def step_seconds(variant: Variant, data: Images, folder: Path, steps: int = 12) -> float:
    """Seconds of a step, the median of some after the first few."""
    run, taken = trainer(variant, data, steps, 0, folder), [time.perf_counter()]
    run.save = lambda: None  # type: ignore[method-assign]
    run.run(lambda _: taken.append(time.perf_counter()), every=1)
    between = sorted(later - earlier for earlier, later in zip(taken[3:], taken[4:], strict=False))
    return between[len(between) // 2]


@torch.no_grad()
def edm_loss(model: ScoreModel, images: Images, deviation: float) -> float:
    """EDM's loss of a denoiser on images that it has not seen, whatever it was trained by, in the same noise for all.

    Mean of (σ² + d²)/(σ d)² ‖D − x0‖²/dim over log σ ~ N(``P_MEAN``, ``P_STD``²), σ the noise level of x/α: Karras et
    al. 2022, eq. 2 and table 1.
    """
    generator = torch.Generator().manual_seed(SEED)
    shares = (torch.randperm(len(images), generator=generator) + 0.5) / len(images)
    sigma = (P_MEAN + P_STD * torch.special.ndtri(shares.double())).exp()
    total = 0.0
    for index in torch.arange(len(images)).split(250):
        batch = images.take(index)
        x0, level = to_state(batch.pixels), sigma[index]
        t = model.process.time(-level.log()).clamp(model.process.t_min, model.process.t_max)
        level = (model.process.sigma(t) / model.process.alpha(t)).float().view(-1, 1, 1, 1)
        noisy = x0 + level * torch.randn(x0.shape, generator=generator)
        alpha = model.process.alpha(t).float().view(-1, 1, 1, 1)
        cond = {} if batch.labels is None else {"label": batch.labels}
        squared = (model.denoised(alpha * noisy, t, **cond).float() - x0).square()
        weight = (level**2 + deviation**2) / (level * deviation) ** 2
        total += float((weight * squared).flatten(1).mean(1).sum())
    return total / len(images)


def fid(
    model: ScoreModel, shape: Sequence[int], counts: Sequence[int], n: int, nfe: int, space: Space, reference: Gaussian
) -> float:
    """FID of n samples of dpmpp_2m on its recommended grid, from the same seeds for all, in bfloat16 as trained."""
    cond = {"label": class_labels(n, counts)}
    with torch.autocast("cpu", torch.bfloat16):
        found = scoresde.sample(
            model, "dpmpp_2m", nfe=nfe, shape=(n, *shape), seeds=range(n), cond=cond, batch_size=250
        ).samples
    score = FID(space, reference)
    score.update(to_pixels(found))
    return score.compute().value


@dataclass(frozen=True)
class Study:
    """What is the same for all trainings of a comparison; made anew in each process.

    Attributes:
        train, test: images to train on, and those that losses are told on.
        space, reference: of FID; None for none.
        n, budgets: samples, and evaluations for each.
    """

    train: Images
    test: Images
    space: Space | None
    reference: Gaussian | None
    n: int
    budgets: Sequence[int]

    def judge(self, run: Trainer) -> dict[str, float]:
        """Figures of the averaged weights."""
        model = run.model
        found = {"edm_loss": edm_loss(model, self.test, sigma_data(self.train))}
        if self.space is not None and self.reference is not None:
            assert self.train.labels is not None
            counts = torch.bincount(self.train.labels).tolist()
            for nfe in self.budgets:
                found[f"fid_{nfe}"] = fid(model, self.train.shape, counts, self.n, nfe, self.space, self.reference)
        return found


def all_of(
    make: Any, arguments: Sequence[Any], tasks: Sequence[tuple[Variant, int, int]], out: Path, jobs: int
) -> dict[str, dict[str, float]]:
    """Train and judge, each in one thread, ``jobs`` at a time; what is done is kept, and what was begun goes on.

    Args:
        make: gives a :class:`Study` of ``arguments``, in each process.
        arguments: of it.
        tasks: variant, seed and steps.
        out: folder of runs and results.
        jobs: processes.

    Returns:
        Figures by "name seed".
    """
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (make, arguments)) as pool:
        waiting = [pool.submit(_one, variant, seed, steps, out) for variant, seed, steps in tasks]
        found = {}
        for done in as_completed(waiting):
            key, figures = done.result()
            found[key] = figures
            print(key, json.dumps(figures), flush=True)
    return {f"{variant.name} {seed}": found[f"{variant.name} {seed}"] for variant, seed, _ in tasks}


_study: Study | None = None


def _begin(make: Any, arguments: Sequence[Any]) -> None:
    global _study
    torch.set_num_threads(1)
    _study = make(*arguments)


def _one(variant: Variant, seed: int, steps: int, out: Path) -> tuple[str, dict[str, float]]:
    assert _study is not None
    key = f"{variant.name} {seed}"
    folder = out / key.replace("/", "-")
    kept = folder / "figures.json"
    if kept.is_file():
        return key, json.loads(kept.read_text(encoding="utf-8"))
    run = trainer(variant, _study.train, steps, seed, folder)
    run.resume()
    run.run(lambda _: None, every=EVERY)
    figures = _study.judge(run)
    with replacing(kept) as path:
        path.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return key, figures
