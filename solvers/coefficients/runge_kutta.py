"""Explicit Runge–Kutta steps in a frame."""

from __future__ import annotations

from solvers.coefficients.interpolation import combine


def take(tableau, frame, steps, x, t, s, first, predict, noise=None):
    """The state at s by one step of the method, ``first`` being the slope at t; the noise of each stage goes on from
    that of the one before, so that the stages of a tableau with noise must not go back."""
    start, change = frame.variable(t), frame.change(t, s)
    slopes, walk, last = [first], 0.0, t
    for c, row in zip(tableau.c[1:], tableau.a, strict=True):
        m = s if c == 1 else steps.at(frame.half_log_snr(start + c * change))
        walk, last = walk + frame.diffused(last, m, noise), m
        slopes.append(frame.slope(predict(frame.move(x, t, m, change * combine(row, slopes) + walk), m), m))
    return frame.move(x, t, s, change * combine(tableau.b, slopes) + walk + frame.diffused(last, s, noise))
