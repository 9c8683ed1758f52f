"""DPM-Solver 1, 2 and 3, singlestep: exponential Runge–Kutta methods in λ for the ε-form of the ODE."""

from __future__ import annotations

from math import expm1

from solvers.solver import solver


@solver("dpm_solver_1", order=1, reference="Lu et al. 2022, DPM-Solver, eq. 3.7")
def dpm_solver_1(steps, x, predict):
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) ε with h = λ_s − λ_t; the same numbers as DDIM."""
    for t, s in steps:
        p = predict(x, t)
        x = yield (s.alpha / t.alpha) * x - s.sigma * expm1(s.lam - t.lam) * p.epsilon


@solver("dpm_solver_2", order=2, grid="karras", reference="Lu et al. 2022, DPM-Solver, Algorithm 4 (general r1)")
def dpm_solver_2(steps, x, predict, r1=0.5):
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) [ε_t + (ε_m − ε_t)/(2 r1)], ε_m at λ_m = λ_t + r1 h after a first-order step.

    Args:
        r1: where the inner evaluation is, in (0, 1).
    """
    if not 0 < r1 < 1:
        raise ValueError(f"dpm_solver_2 needs r1 between 0 and 1, got {r1}")
    for t, s in steps:
        h = s.lam - t.lam
        m = steps.at(t.lam + r1 * h)
        start = predict(x, t).epsilon
        inner = (m.alpha / t.alpha) * x - m.sigma * expm1(r1 * h) * start
        slope = (predict(inner, m).epsilon - start) / (2 * r1)
        x = yield (s.alpha / t.alpha) * x - s.sigma * expm1(h) * (start + slope)


@solver("dpm_solver_3", order=3, grid="karras", reference="Lu et al. 2022, DPM-Solver, Algorithm 5 (general r1, r2)")
def dpm_solver_3(steps, x, predict, r1=1 / 3, r2=2 / 3):
    """Third order with two inner evaluations at λ_1 = λ_t + r1 h and λ_2 = λ_t + r2 h.

    With φ(z) = (e^z − 1)/z − 1: u_1 from a first-order step, D_1 = ε_1 − ε_t,
    u_2 = (α_2/α_t) x − σ_2 [(e^{r2 h} − 1) ε_t + (r2/r1) φ(r2 h) D_1], D_2 = ε_2 − ε_t,
    x_s = (α_s/α_t) x − σ_s [(e^h − 1) ε_t + φ(h) D_2 / r2].

    Args:
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order needs r2 = 2/3.
    """
    if not 0 < r1 < r2 < 1:
        raise ValueError(f"dpm_solver_3 needs 0 < r1 < r2 < 1, got {r1} and {r2}")
    for t, s in steps:
        h = s.lam - t.lam
        m1, m2 = steps.at(t.lam + r1 * h), steps.at(t.lam + r2 * h)
        start = predict(x, t).epsilon
        u1 = (m1.alpha / t.alpha) * x - m1.sigma * expm1(r1 * h) * start
        d1 = predict(u1, m1).epsilon - start
        u2 = (m2.alpha / t.alpha) * x - m2.sigma * (expm1(r2 * h) * start + (r2 / r1) * _phi(r2 * h) * d1)
        d2 = predict(u2, m2).epsilon - start
        x = yield (s.alpha / t.alpha) * x - s.sigma * (expm1(h) * start + _phi(h) / r2 * d2)


def _phi(z: float) -> float:
    """(e^z − 1)/z − 1, from its series where the difference would cancel."""
    if abs(z) > 0.1:
        return expm1(z) / z - 1
    return z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7 * (1 + z / 8))))))
