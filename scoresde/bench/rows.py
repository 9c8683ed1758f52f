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
        feature_space: in which ``fid``, ``kid``, ``precision`` and ``recall`` are measured; "" where they are not.
        metrics: estimates by name: ``fid``, ``kid``, ``precision``, ``recall``, ``sliced_wasserstein``, ``pixel_fd``,
            ``own_class`` (share of samples that the feature network's classifier puts into the class asked for),
            ``clip_score`` (100 times the cosine of an image and its prompt, at least 0), and
            ``error`` (root mean square per pixel of [−1, 1] images from the converged solution of the same seeds; not
            for stochastic solvers). Those that were not asked for are missing.
        seconds: wall time of sampling, network included.
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
        row = cls(**{**content, "metrics": metrics})
        for name in ("solver", "name", "grid", "guidance", "dtype", "compile", "feature_space"):
            if not isinstance(getattr(row, name), str):
                raise TypeError(f"{name} = {getattr(row, name)!r:.40} is no text")
        if not isinstance(row.options, dict):
            raise TypeError(f"options = {row.options!r:.40} is no mapping")
        numbers = {name: getattr(row, name) for name in ("budget", "nfe", "samples", "seconds")}
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
class Outcome:
    """What a benchmark found: rows in the order asked for, the converged solution's row, the floors, and pictures.

    Attributes:
        rows: one for each solver, budget and whatever else was varied.
        converged: the reference solution itself; its solver is called ``converged``, its NFE is the budget.
        reference_error: how far the reference solution is from one with half its evaluations, on some of the seeds.
        floors: FID of real images and of the model's own converged samples, at the same sample count; None where they
            are not known.
        images: uint8 pixels (rows + 1, shown, channels, height, width) of the first seeds, the converged solution's
            last.
        labels: classes of those images; empty for a model without.
        config: what was asked for, as plain values.
        environment: versions and hardware, in words.
        failures: what was asked for and has no row.
        own: whether samples were compared with the model's own converged ones of other seeds.
    """

    rows: list[Row]
    converged: Row
    reference_error: float
    floors: Floors | None
    images: Tensor
    labels: list[int]
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    own: bool = False
