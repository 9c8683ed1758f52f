"""Ancestral sampling: deterministic to a lower noise level, and noise added up to that of the step."""

from __future__ import annotations

import math


def ancestral(name, steps, x, predict, noise, eta):
    """Deterministic to a lower noise level, and noise added up to that of s."""
    if not 0 <= eta <= 1:
        raise ValueError(f"{name} needs eta between 0 and 1, got {eta}")
    for t, s in steps:
        p = predict(x, t)
        tau = eta * s.sigma * math.sqrt(-math.expm1(2 * (t.lam - s.lam)))
        x = yield s.alpha * p.x0 + math.sqrt(s.sigma**2 - tau**2) * p.epsilon + noise(tau)
