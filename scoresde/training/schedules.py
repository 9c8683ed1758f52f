"""Learning-rate schedules: a linear warm-up, and what follows."""

from __future__ import annotations

import math

INVERSE_SQRT = "inverse_sqrt"
SCHEDULES = ("cosine", "constant", "linear", INVERSE_SQRT)


def factor(schedule: str, step: int, steps: int, warmup: int, decay_steps: int | None = None) -> float:
    """Learning rate of a step as a share of its peak: min((step + 1)/warmup, 1) · shape.

    With progress p = max(step − warmup, 0)/(steps − warmup), the shape is

    - ``cosine``: (1 + cos πp)/2 (Loshchilov & Hutter 2017, SGDR, eq. 5, without restarts);
    - ``constant``: 1;
    - ``linear``: 1 − p (Devlin et al. 2019, BERT, app. A.2);
    - ``inverse_sqrt``: 1/√max(step/decay_steps, 1) (Karras et al. 2024, Analyzing and
      improving the training dynamics of diffusion models, where decay_steps is t_ref).

    Args:
        schedule: one of ``SCHEDULES``.
        step: counted from 0.
        steps: of the whole run.
        warmup: steps of it, or 0.
        decay_steps: of ``inverse_sqrt`` alone: the step from which the rate falls.
    """
    rising = (step + 1) / warmup if step < warmup else 1.0
    progress = max(step - warmup, 0) / max(1, steps - warmup)
    if schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "linear":
        return rising * (1 - progress)
    if decay_steps is not None:
        return rising / math.sqrt(max(step / decay_steps, 1))
    return rising
