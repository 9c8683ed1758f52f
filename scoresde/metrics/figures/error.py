"""Distance from the model's own converged solution: the sharpest measure of a solver, and it needs no features."""

from __future__ import annotations

import math

from torch import Tensor

from scoresde.metrics.figures.estimate import Estimate


def rms_error(samples: Tensor, converged: Tensor) -> Estimate:
    """e = √(mean (x − x*)²) per value, between samples and the converged solution of the same seeds.

    For solvers without noise of their own. With q_i the mean square of sample i, e² is the mean of the q_i; the
    interval is √(e² ± 1.96 s/√n) with their standard deviation s, over draws of the seeds.

    Args:
        samples: states (n, …), in [−1, 1] for images.
        converged: the same seeds' states, solved with many more evaluations.

    Raises:
        ValueError: the shapes differ, or there is no sample.
    """
    if samples.shape != converged.shape or not len(samples):
        shapes = f"{tuple(samples.shape)} and {tuple(converged.shape)}"
        raise ValueError(f"an error needs samples and the converged solution of the same seeds, got shapes {shapes}")
    squares = (samples.detach().cpu().double() - converged.detach().cpu().double()).square().flatten(1).mean(1)
    mean, n = float(squares.mean()), len(squares)
    if n < 2:
        return Estimate(math.sqrt(mean))
    found = Estimate.of(mean, float(squares.std()) / math.sqrt(n), least=0.0)
    return Estimate(*(math.sqrt(value or 0.0) for value in (found.value, found.low, found.high)))
