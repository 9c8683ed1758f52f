"""Frames: the variables in which the probability-flow ODE is integrated.

In each frame the state is y = x/scale, the independent variable is w, and along an exact trajectory dy/dw is a plain
view of the model:

    ======== ============== ================ ============================ ==========================
    frame    scale          w                slope dy/dw                  dw/dλ
    ======== ============== ================ ============================ ==========================
    edm      α              σ/α              ε                            −e^−λ
    data     σ              α/σ              x0                           e^λ
    flow     α + σ          σ/(α + σ)        ε − x0                       −1/(4 cosh²(λ/2))
    vp       √(α² + σ²)     atan2(σ, α)      v                            −1/(2 cosh λ)
    ======== ============== ================ ============================ ==========================

Exponential integrators are methods in a frame too: with the slope interpolated in λ, ``edm`` gives the ε-form (DPM-
Solver, DEIS) and ``data`` the x0-form (DPM-Solver++). ``vp`` is the member c = 1 of the frames :func:`gaussian`, in
which normal data of standard deviation c move in a straight line. ``flow`` and ``vp`` are finite at both ends, α = 0
and σ = 0.

The reverse SDEs have frames too, :func:`reverse`: dy = x0 dw + dB with a Brownian motion B, so that what integrates a
slope serves them unchanged and only :meth:`Frame.diffused` comes on top.

Sources: Karras et al. 2022, eq. 4 (edm); Lu et al. 2022, DPM-Solver++, eq. 8 (data); Lipman et al. 2023 (flow);
Salimans & Ho 2022, app. D (vp).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from solvers.arrays import namespace
from solvers.registry import Registry
from solvers.steps import Point, Process

Array = NDArray[np.float64]
WIDEST = 40.0  # |λ| at which σ/α is of no use in float64


@dataclass(frozen=True)
class Frame:
    """One row of the table above. Noise levels are points of floats, or of tensors with a level for each sample.

    Attributes:
        name: what people type.
        scale: at a noise level.
        slope: dy/dw, from the views of a model and the noise level.
        position: w at λ, on floats, arrays or tensors.
        rate: dw/dλ at λ, on arrays.
        inverse: λ at w, on floats or tensors; None lets a root of ``position`` be found, on floats, for −40 < λ < 40.
        log_clock: log of the variance of B at λ where dy = slope dw + dB; None where there is no noise.
    """

    name: str
    _: KW_ONLY
    scale: Callable[[Any], Any]
    slope: Callable[[Any, Point], Any]
    position: Callable[[Any], Any]
    rate: Callable[[Array], Array]
    inverse: Callable[[Any], Any] | None = None
    log_clock: Callable[[float], float] | None = None

    def variable(self, point: Point) -> Any:
        """w at a noise level."""
        w = self.position(point.lam)
        return w if namespace(w) is not np else float(w)

    def half_log_snr(self, w: Any) -> Any:
        """λ at w.

        Raises:
            ValueError: the frame has no inverse, and no λ between −40 and 40 has that w.
        """
        if self.inverse is not None:
            return self.inverse(w)
        return brentq(lambda lam: float(self.position(lam)) - w, -WIDEST, WIDEST, xtol=1e-14)

    def change(self, t: Point, s: Point) -> Any:
        """w_s − w_t."""
        return self.variable(s) - self.variable(t)

    def move(self, x: Any, t: Point, s: Point, increment: Any) -> Any:
        """The state at s whose y is that of x at t plus the increment."""
        return self.scale(s) * (x / self.scale(t) + increment)

    def diffused(self, t: Point, s: Point, noise: Callable[[float], Any] | None) -> Any:
        """The increment of B from t to s, by one draw; 0 without a draw where there is no noise between them."""
        if self.log_clock is None or noise is None:
            return 0.0
        end = self.log_clock(s.lam)
        return noise(math.sqrt(-math.exp(end) * math.expm1(self.log_clock(t.lam) - end)))


def _minus_log(ratio: Any) -> Any:
    if namespace(ratio) is not np:
        return -ratio.log()
    return -math.log(ratio) if ratio > 0 else math.inf


def _from_noise(ratio: Callable[[Any], Any], w: Any, top: float) -> Any:
    """λ of a frame whose w is ``top`` at α = 0: −log of σ/α at w."""
    if namespace(w) is not np:
        return _minus_log(ratio(w.clamp(max=top)))
    return _minus_log(ratio(w)) if w < top else -math.inf


def gaussian(data_std: float) -> Frame:
    """y = x/√(α² c² + σ²) over w = atan2(σ, α c) with slope (α c ε − σ x0/c)/√(α² c² + σ²), c = data_std.

    For data N(0, c² I) the slope is zero, so that what remains to be integrated is how the model differs from them:
    the linear part is solved exactly, as in exponential Rosenbrock methods (Zheng et al. 2023, DPM-Solver-v3, with
    one scalar).

    Raises:
        ValueError: data_std is not positive.
    """
    if not 0 < data_std < math.inf:
        raise ValueError(f"the data's standard deviation must be positive, got {data_std}")

    def scale(p: Any) -> Any:
        return (math if namespace(p.alpha) is np else namespace(p.alpha)).hypot(p.alpha * data_std, p.sigma)

    def slope(views: Any, p: Point) -> Any:
        if data_std == 1:
            return views.v
        n = scale(p)
        return (p.alpha * data_std / n) * views.epsilon - (p.sigma / (data_std * n)) * views.x0

    shift = math.log(data_std)
    return Frame(
        "vp" if data_std == 1 else f"gaussian({data_std:g})",
        scale=scale,
        slope=slope,
        position=lambda lam: namespace(lam).arctan(namespace(lam).exp(-lam - shift)),
        rate=lambda lam: -0.5 / np.cosh(lam + shift),
        inverse=lambda w: _from_noise(namespace(w).tan, w, math.pi / 2) - shift,
    )


def extended(
    name: str,
    log_ratio: Callable[[Any], Any],
    slope: Callable[[Any], Any],
    half_log_snr: Callable[[float], float] | None = None,
) -> Frame:
    """The x0-form of a reverse SDE whose noise is given by a function φ: y = x/(α φ) over w = 1/φ, slope x0.

    dy = x0 dw + dB with Var B = (σ/(α φ))²: of all that is added, what brings the noise of x up to σ. φ = σ/α is the
    ODE, and the larger φ grows, the more noise there is.

    Args:
        name: of the frame.
        log_ratio: log(φ α/σ) at λ, on floats or arrays.
        slope: its derivative in λ.
        half_log_snr: λ at w; None lets it be found.
    """
    return Frame(
        name,
        scale=lambda p: p.sigma * math.exp(log_ratio(p.lam)),
        slope=lambda views, p: views.x0,
        position=lambda lam: np.exp(lam - log_ratio(lam)),
        rate=lambda lam: (1 - slope(lam)) * np.exp(lam - log_ratio(lam)),
        inverse=half_log_snr,
        log_clock=lambda lam: -2 * log_ratio(lam),
    )


def reverse(eta: float) -> Frame:
    """The reverse SDE of noise amplitude η in the x0-form: y = x e^{η² λ}/σ over w = e^{(1 + η²) λ}, slope x0.

    dx = [f x − ½(1 + η²) g² ∇log p_t] dt + η g dw̄ is dy = x0 dw + dB with Var B = e^{2 η² λ}. η = 0 is ``data``, the
    ODE. Toolkits that write e^{−h·eta} (k-diffusion's ``dpmpp_2m_sde``, ComfyUI's ``seeds_2``) mean η² by ``eta``.

    Raises:
        ValueError: eta is negative or not finite.
    """
    if not 0 <= eta < math.inf:
        raise ValueError(f"the amplitude of the noise must be at least 0 and finite, got eta = {eta}")
    square = float(eta) ** 2
    return extended(
        f"reverse({eta:g})", lambda lam: -square * lam, lambda lam: -square, lambda w: -_minus_log(w) / (1 + square)
    )


FRAMES: Registry[Frame] = Registry("frame")
for _frame in (
    Frame(
        "edm",
        scale=lambda p: p.alpha,
        slope=lambda views, p: views.epsilon,
        position=lambda lam: namespace(lam).exp(-lam),
        rate=lambda lam: -np.exp(-lam),
        inverse=_minus_log,
    ),
    Frame(
        "data",
        scale=lambda p: p.sigma,
        slope=lambda views, p: views.x0,
        position=lambda lam: namespace(lam).exp(lam),
        rate=np.exp,
        inverse=lambda w: -_minus_log(w),
    ),
    Frame(
        "flow",
        scale=lambda p: p.alpha + p.sigma,
        slope=lambda views, p: views.flow,
        position=lambda lam: 0.5 - 0.5 * namespace(lam).tanh(0.5 * lam),
        rate=lambda lam: -0.25 / np.cosh(0.5 * lam) ** 2,
        inverse=lambda w: _from_noise(lambda w: w / (1 - w), w, 1.0),
    ),
    gaussian(1.0),
):
    FRAMES.keep(_frame.name, _frame)


def check(name: str | None) -> None:
    """Refuse a name that is not a frame's (None is the process's own).

    Raises:
        ValueError: there is no such frame; the nearest is given.
    """
    if name is not None:
        FRAMES.find(name)


def get(name: str | None, process: Process) -> Frame:
    """The frame of that name; None is the one that the process prefers (``flow`` on Flow, ``edm`` elsewhere).

    Raises:
        ValueError: there is no such frame.
    """
    return FRAMES.get(process.frame if name is None else name)


def bounded(name: str | None, process: Process, start: Point) -> Frame:
    """The frame of that name, which must be finite at the start; None is one that is finite at both ends of every
    process, ``flow`` on Flow and ``vp`` elsewhere.

    Raises:
        ValueError: there is no such frame, or it is infinite where α = 0.
    """
    frame = get(name or ("flow" if process.frame == "flow" else "vp"), process)
    if not math.isfinite(frame.variable(start)) or frame.scale(start) == 0:
        raise ValueError(f"the frame {frame.name!r} is infinite at t = {start.t}, where α = 0; take flow or vp")
    return frame
