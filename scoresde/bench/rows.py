"""What a benchmark finds: rows, and what they are read against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from scoresde.metrics import Estimate, Floors


@dataclass(frozen=True)
class Row:
    """One solver at one budget.

    Attributes:
        solver: its name with the options that differ from the defaults, ``ddim(eta=1)``; the curve that a row is on.
        name, options: the solver as :func:`solvers.get` takes it.
        stochastic: whether it draws noise.
        grid: name of the grid, with its options; ``own steps`` for an adaptive solver.
        budget: the NFE asked for, or the tolerance of an adaptive solver.
        nfe: measured model evaluations per sample, the mean over samples.
        guidance: what guides the model, in words; "" for nothing.
        dtype: precision of the network.
        compile: mode of torch.compile; "" where the network runs as it is.
        samples: number of samples.
        feature_space: in which the metrics but ``error``, ``pixel_fd`` and ``clip_score`` are measured; "" where there
            are none.
        metrics: estimates by name: ``fid``, ``kid``, ``precision``, ``recall``, ``sliced_wasserstein``, ``pixel_fd``,
            ``own_class`` (share of samples that the feature network's classifier puts into the class asked for),
            ``clip_score`` (100 times the cosine of an image and its prompt, at least 0), and
            ``error`` (root mean square per pixel of [−1, 1] images, or per coordinate of points, from the converged
            solution of the same seeds; not for stochastic solvers). Those that were not asked for are missing.
        seconds: wall time of sampling, network included.
        model: what the model is called, its path or its id; "" where nobody said.
        seeds: the first seed of each run that is in the row: one, or several that were joined.
        versions: of scoresde and torch, and the hardware, in words.
        folder: where the same seeds were taken on several machines and joined, the run; else "".
        spread: of a row of several runs the lowest and the highest value of each metric.
    """

    solver: str
    name: str
    options: dict[str, Any]
    stochastic: bool
    grid: str
    budget: float
    nfe: float
    guidance: str
    dtype: str
    compile: str
    samples: int
    feature_space: str
    metrics: dict[str, Estimate]
    seconds: float
    model: str = ""
    seeds: tuple[int, ...] = ()
    versions: str = ""
    folder: str = ""
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        return self.samples / self.seconds

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Row:
        """A row from what ``dataclasses.asdict`` made of it.

        Raises:
            TypeError: fields are missing, unknown or of another kind.
            ValueError: a number that cannot be one of a row.
        """
        metrics = {name: Estimate(**value) for name, value in content["metrics"].items() if value is not None}
        seeds, spread = tuple(content.get("seeds", ())), content.get("spread", {})
        row = cls(**{**content, "metrics": metrics, "seeds": seeds, "spread": {k: tuple(v) for k, v in spread.items()}})
        for name in (
            "solver",
            "name",
            "grid",
            "guidance",
            "dtype",
            "compile",
            "feature_space",
            "model",
            "versions",
            "folder",
        ):
            if not isinstance(getattr(row, name), str):
                raise TypeError(f"{name} = {getattr(row, name)!r:.40} is no text")
        if not isinstance(row.options, dict):
            raise TypeError(f"options = {row.options!r:.40} is no mapping")
        numbers = {name: getattr(row, name) for name in ("budget", "nfe", "samples", "seconds")}
        for value in (*seeds, *(end for ends in row.spread.values() for end in ends)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{value!r:.40} is no seed or end of a spread")
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} = {value!r:.40} is no number of a row")
        for name, estimate in metrics.items():
            for value in (estimate.value, estimate.low, estimate.high):
                if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                    raise ValueError(f"{name} = {value!r:.40} is no number")
        return row


@dataclass(frozen=True)
class Failure:
    """One solver at one budget that gave no row.

    Attributes:
        solver, grid, budget, guidance, dtype, compile: as in :class:`Row`.
        failed: why, in one line.
    """

    solver: str
    grid: str
    budget: float
    guidance: str
    dtype: str
    compile: str
    failed: str

    def __str__(self) -> str:
        where = [f"{self.budget:g}", self.guidance, self.dtype, self.compile]
        return f"{self.solver} at {' '.join(filter(None, where))}: {self.failed}"


@dataclass(frozen=True)
class Timing:
    """How long one solver takes for a batch at one budget, by warmed-up repeats.

    Attributes:
        solver, grid, budget, nfe, guidance, dtype, compile, model, versions, folder: as in :class:`Row`.
        batch: images at once.
        seconds: median of the runs, network and host included, and the first and third quartile.
        runs: how many.
    """

    solver: str
    grid: str
    budget: float
    nfe: float
    guidance: str
    dtype: str
    compile: str
    batch: int
    seconds: tuple[float, float, float]
    runs: int
    model: str = ""
    versions: str = ""
    folder: str = ""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Timing:
        """A timing from what ``dataclasses.asdict`` made of it.

        Raises:
            TypeError: fields are missing or unknown.
            ValueError: a number that cannot be one of a timing.
        """
        made = cls(**{**content, "seconds": tuple(content["seconds"])})
        for value in (made.batch, made.runs, made.nfe, made.budget, *made.seconds):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{value!r:.40} is no number of a timing")
        if len(made.seconds) != 3 or not made.seconds[1] <= made.seconds[0] <= made.seconds[2] or made.batch < 1:
            raise ValueError(f"seconds = {made.seconds!r:.60} are no median and quartiles")
        return made


@dataclass(frozen=True)
class Limits:
    """What the rows of one model are read against.

    Attributes:
        converged: the reference solution itself; its solver is called ``converged``, its NFE is the budget.
        reference_error: how far the reference solution is from one with half its evaluations, on some of the seeds.
        floors: FID of real images and of the model's own converged samples, at the same sample count; None where they
            are not known.
    """

    converged: Row
    reference_error: float
    floors: Floors | None


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found: rows in the order asked for, what they are read against, and pictures.

    Attributes:
        rows: one for each solver, budget and whatever else was varied.
        converged, reference_error, floors: as in :class:`Limits`, of the first model.
        images: uint8 pixels (rows + models, shown, channels, height, width) of the first seeds, the converged solution
            of each model last; of a model of points float32 (rows + models, shown, dim).
        labels: classes of those images, by name where they have some; empty for a model without.
        config: what was asked for, as plain values.
        environment: versions and hardware, in words.
        failures: what was asked for and has no row.
        own: whether samples were compared with the model's own converged ones of other seeds.
        features: how many numbers the feature space has for an image; 0 where nobody said.
        others: of further models, where benchmarks of several were joined.
        timings: how fast the solvers are, where that was asked for.
    """

    rows: list[Row]
    converged: Row
    reference_error: float
    floors: Floors | None
    images: Tensor
    labels: list[int | str]
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    own: bool = False
    features: int = 0
    others: list[Limits] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    @property
    def limits(self) -> list[Limits]:
        """Of each model, the first before the others."""
        return [Limits(self.converged, self.reference_error, self.floors), *self.others]

    @property
    def points(self) -> bool:
        """Whether the samples are points and not images."""
        return self.images.ndim == 3
