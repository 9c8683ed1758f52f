"""Frames: the variables in which Runge–Kutta-like methods integrate the probability-flow ODE.

In each frame the state is y = x/scale, the independent variable w falls with the noise, and along an exact trajectory
dy/dw is a plain view of the model:

    ====== ============ =============== =============
    frame  scale        w               slope dy/dw
    ====== ============ =============== =============
    edm    α            σ/α             ε
    flow   α + σ        σ/(α + σ)       ε − x0
    vp     √(α² + σ²)   atan2(σ, α)     v
    ====== ============ =============== =============

``flow`` and ``vp`` are finite at both ends, α = 0 and σ = 0.

Sources: Karras et al. 2022, eq. 4 (edm); Lipman et al. 2023 (flow); Salimans & Ho 2022, app. D (vp).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from solvers.errors import nearest
from solvers.steps import Point, Process


@dataclass(frozen=True)
class Frame:
    """One row of the table above; ``half_log_snr`` inverts the independent variable."""

    name: str
    scale: Callable[[Point], float]
    variable: Callable[[Point], float]
    slope: Callable[[Any], Any]
    half_log_snr: Callable[[float], float]


def _minus_log(ratio: float) -> float:
    return -math.log(ratio) if ratio > 0 else math.inf


FRAMES = {
    frame.name: frame
    for frame in (
        Frame("edm", lambda p: p.alpha, lambda p: p.sigma / p.alpha, lambda views: views.epsilon, _minus_log),
        Frame(
            "flow",
            lambda p: p.alpha + p.sigma,
            lambda p: p.sigma / (p.alpha + p.sigma),
            lambda views: views.flow,
            lambda w: _minus_log(w / (1 - w)) if w < 1 else -math.inf,
        ),
        Frame(
            "vp",
            lambda p: math.hypot(p.alpha, p.sigma),
            lambda p: math.atan2(p.sigma, p.alpha),
            lambda views: views.v,
            lambda w: _minus_log(math.tan(w)) if w < math.pi / 2 else -math.inf,
        ),
    )
}


def get(name: str | None, process: Process) -> Frame:
    """The frame of that name; None is the one that the process prefers (``flow`` on Flow, ``edm`` elsewhere).

    Raises:
        ValueError: there is no such frame.
    """
    name = process.frame if name is None else name
    if name not in FRAMES:
        raise ValueError(f"unknown frame {name!r}{nearest(name, FRAMES)}")
    return FRAMES[name]
