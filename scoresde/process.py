"""Forward processes: how data become noise.

Every process has Gaussian marginals p_t(x | x0) = N(α(t) x0, σ(t)² I) and solves the linear SDE

    dx = f(t) x dt + g(t) dw,      f = d log α/dt,      g² = dσ²/dt − 2 f σ² = −2 σ² dλ/dt,

with λ = log(α/σ) the half log-SNR, which falls strictly as t grows. A process holds these functions and nothing else:
no number of steps, no tensors, no device. Each function takes a float or numpy array (computed in float64) or a
tensor (computed in the tensor's own dtype) and returns the same kind.

Times run from ``t_clean`` (no noise) to ``t_max`` (almost only noise); networks are meant to be evaluated on
[``t_min``, ``t_max``].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.arrays import namespace
from solvers.registry import Registry

Values = TypeVar("Values", float, NDArray[np.float64], Tensor)


class Process(ABC):
    """A forward process given by α(t), σ(t) and their derivatives.

    Attributes:
        t_min: smallest time at which a network should be evaluated.
        t_max: noisiest time, where sampling starts.
        t_clean: the time of zero noise, σ(t_clean) = 0 and α(t_clean) = 1.
    """

    name: ClassVar[str]
    frame: str = "edm"  # the variable that Runge–Kutta-like solvers integrate in (solvers.frames)
    t_min: float
    t_max: float
    t_clean: float = 0.0

    @abstractmethod
    def _alpha(self, t: Any) -> Any: ...

    @abstractmethod
    def _sigma(self, t: Any) -> Any: ...

    @abstractmethod
    def _half_log_snr(self, t: Any) -> Any: ...

    @abstractmethod
    def _time(self, half_log_snr: Any) -> Any: ...

    @abstractmethod
    def _drift(self, t: Any) -> Any: ...

    def _diffusion(self, t: Any) -> Any:
        return -2 * self._drift(t)  # g² = −2f wherever α² + σ² = 1

    def alpha(self, t: Values) -> Values:
        """α(t), the scale of the data in p_t(x | x0)."""
        return _call(self._alpha, t)

    def sigma(self, t: Values) -> Values:
        """σ(t), the standard deviation of the noise in p_t(x | x0)."""
        return _call(self._sigma, t)

    def half_log_snr(self, t: Values) -> Values:
        """λ(t) = log(α(t)/σ(t)); +inf at ``t_clean``, −inf where α = 0."""
        return _call(self._half_log_snr, t)

    def time(self, half_log_snr: Values) -> Values:
        """The t with λ(t) equal to the given half log-SNR; +inf gives ``t_clean``."""
        return _call(self._time, half_log_snr)

    def drift(self, t: Values) -> Values:
        """f(t) = d log α/dt, the factor of x in the forward SDE (1/time)."""
        return _call(self._drift, t)

    def diffusion(self, t: Values) -> Values:
        """g²(t), the squared diffusion coefficient of the forward SDE (state²/time)."""
        return _call(self._diffusion, t)

    def config(self) -> dict[str, Any]:
        """The name and the constructor arguments, from which :func:`get` builds an equal process."""
        return {"name": self.name, **vars(self)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(repr(self))


def _call(function: Any, values: Any) -> Any:
    if isinstance(values, Tensor):
        return function(values if values.is_floating_point() else values.to(torch.float64))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        result = function(np.asarray(values, dtype=np.float64))
    return result if isinstance(values, np.ndarray) else float(result)


class _LinearBeta(Process):
    """α of the variance-preserving SDE: −log α = ½ b0 t + ¼ (b1 − b0) t²."""

    t_min, t_max = 1e-3, 1.0

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not 0 < beta_min < beta_max:
            raise ValueError(f"{self.name} needs 0 < beta_min < beta_max, got {beta_min} and {beta_max}")
        self.beta_min, self.beta_max = float(beta_min), float(beta_max)

    def _decay(self, t: Any) -> Any:
        return 0.5 * self.beta_min * t + 0.25 * (self.beta_max - self.beta_min) * t * t

    def _time_of_decay(self, decay: Any) -> Any:
        # The positive root, in a form that neither cancels for small decay nor is ∞/∞ for infinite decay.
        xp, ratio = namespace(decay), self.beta_min / decay
        return 4 / (ratio + xp.hypot(ratio, xp.sqrt(4 * (self.beta_max - self.beta_min) / decay)))

    def _alpha(self, t: Any) -> Any:
        return namespace(t).exp(-self._decay(t))

    def _beta(self, t: Any) -> Any:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _drift(self, t: Any) -> Any:
        return -0.5 * self._beta(t)


class VP(_LinearBeta):
    """Variance-preserving SDE with linear β on t in [0, 1]: α² + σ² = 1, f = −½β(t), g² = β(t).

    Source: Song et al. 2021, Score-based generative modeling through SDEs, eqs. 11 and 32–33.
    """

    name = "vp"

    def _sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.sqrt(-xp.expm1(-2 * self._decay(t)))

    def _half_log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        return -0.5 * xp.log(xp.expm1(2 * self._decay(t)))

    def _time(self, half_log_snr: Any) -> Any:
        xp = namespace(half_log_snr)
        return self._time_of_decay(0.5 * xp.logaddexp(xp.zeros_like(half_log_snr), -2 * half_log_snr))


class SubVP(_LinearBeta):
    """Sub-variance-preserving SDE: α as in :class:`VP`, σ = 1 − α², g² = β(t)(1 − α⁴).

    Source: Song et al. 2021, Score-based generative modeling through SDEs, eqs. 12 and 29.
    """

    name = "subvp"

    def _sigma(self, t: Any) -> Any:
        return -namespace(t).expm1(-2 * self._decay(t))

    def _half_log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        return -xp.log(2 * xp.sinh(self._decay(t)))

    def _time(self, half_log_snr: Any) -> Any:
        xp = namespace(half_log_snr)
        return self._time_of_decay(xp.asinh(0.5 * xp.exp(-half_log_snr)))

    def _diffusion(self, t: Any) -> Any:
        return -self._beta(t) * namespace(t).expm1(-4 * self._decay(t))


class VPDiscrete(Process):
    """The discrete chain of DDPM as a continuous process: time is the index, λ is linear between indices.

    ᾱ_n = Π_{i ≤ n} (1 − β_i), α = √ᾱ, σ = √(1 − ᾱ) at t = n = 0 … len(betas) − 1. Zero noise has no index; by
    convention it is t = −1, the step before the first. λ continues linearly past the last index.

    A last β of 1 makes α = 0 there (zero terminal SNR). Between the last two indices α/σ is linear then, since λ
    cannot be, and there is nothing past the last.

    Source: Ho et al. 2020, Denoising diffusion probabilistic models, sec. 2 and 4 (1000 linear betas by default); Lin
    et al. 2024, Common diffusion noise schedules and sample steps are flawed, sec. 3.1 (zero terminal SNR).

    Args:
        betas: forward variances in (0, 1), the last of which may be 1, at least two; None is
            ``linspace(1e-4, 0.02, 1000)``.
    """

    name = "vp_discrete"
    t_clean = -1.0

    def __init__(self, betas: Sequence[float] | NDArray[np.float64] | Tensor | None = None):
        values = np.linspace(1e-4, 0.02, 1000) if betas is None else np.asarray(betas, dtype=np.float64)
        if values.ndim != 1 or len(values) < 2 or not ((values > 0) & (values <= 1) & (values[:-1].max() < 1)).all():
            raise ValueError(f"{self.name} needs at least two betas, all in (0, 1) but the last, which may be 1")
        self.betas = values
        with np.errstate(divide="ignore"):
            decay = -np.cumsum(np.log1p(-values))  # −log ᾱ
        self._knots = -0.5 * np.log(np.expm1(decay))  # λ at each index
        self.t_min, self.t_max = 0.0, float(len(values) - 1)

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "betas": self.betas.tolist()}

    def __repr__(self) -> str:
        return f"VPDiscrete({len(self.betas)} betas from {self.betas[0]:g} to {self.betas[-1]:g})"

    def _piece(self, t: Any) -> tuple[Any, Any, Any]:
        """Index of the interval that holds t, λ at its left end and its change in it, 0 where it falls to −∞."""
        if isinstance(t, Tensor):
            knots = torch.as_tensor(self._knots, dtype=t.dtype, device=t.device)
            index = t.floor().long().clamp(0, len(self._knots) - 2)
        else:
            knots = self._knots
            index = np.clip(np.floor(t).astype(np.int64), 0, len(self._knots) - 2)
        change = knots[index + 1] - knots[index]
        return index, knots[index], namespace(change).where(change == -math.inf, 0.0, change)

    def _half_log_snr(self, t: Any) -> Any:
        xp, (index, left, change) = namespace(t), self._piece(t)
        u = t - index
        sinking = xp.log1p(-xp.where(change == 0, u, 0.0))  # log of α/σ, linear down to zero
        return xp.where(t == self.t_clean, math.inf, left + change * u + sinking)

    def _time(self, half_log_snr: Any) -> Any:
        falling = -half_log_snr
        if isinstance(falling, Tensor):
            knots = torch.as_tensor(self._knots, dtype=falling.dtype, device=falling.device)
            index = torch.searchsorted(-knots, falling.detach().contiguous(), right=True) - 1
            index = index.clamp(0, len(self._knots) - 2)
        else:
            knots = self._knots
            index = np.clip(np.searchsorted(-knots, falling, side="right") - 1, 0, len(knots) - 2)
        xp, past, change = namespace(falling), half_log_snr - knots[index], knots[index + 1] - knots[index]
        t = index + xp.where(change == -math.inf, -xp.expm1(past), past / change)
        return xp.where(falling == -math.inf, self.t_clean, t)

    def _alpha(self, t: Any) -> Any:
        xp, lam = namespace(t), self._half_log_snr(t)
        return xp.exp(-0.5 * xp.logaddexp(xp.zeros_like(lam), -2 * lam))

    def _sigma(self, t: Any) -> Any:
        xp, lam = namespace(t), self._half_log_snr(t)
        return xp.exp(-0.5 * xp.logaddexp(xp.zeros_like(lam), 2 * lam))

    def _drift(self, t: Any) -> Any:
        index, _, change = self._piece(t)
        return self._sigma(t) ** 2 * namespace(t).where(change == 0, -1 / (index + 1 - t), change)


class Cosine(Process):
    """Cosine schedule: α = cos θ / cos θ0 with θ(t) = (π/2)(t + s)/(1 + s) and θ0 = θ(0); α² + σ² = 1.

    α vanishes at t = 1, so sampling starts a little earlier, at ``t_max``.

    Source: Nichol & Dhariwal 2021, Improved DDPM, eq. 17; t_max as in DPM-Solver (Lu et al. 2022, app. D).
    """

    name = "cosine"
    t_min, t_max = 1e-3, 0.9946

    def __init__(self, s: float = 0.008):
        if not s > 0:
            raise ValueError(f"cosine needs s > 0, got {s}")
        self.s = float(s)

    @property
    def _rate(self) -> float:
        return 0.5 * math.pi / (1 + self.s)

    @property
    def _start(self) -> float:
        return self._rate * self.s

    def _alpha(self, t: Any) -> Any:
        return namespace(t).cos(self._start + self._rate * t) / math.cos(self._start)

    def _sigma(self, t: Any) -> Any:
        # cos²θ0 − cos²θ = sin(θ − θ0) sin(θ + θ0)
        xp = namespace(t)
        angle = self._rate * t
        return xp.sqrt(xp.sin(angle) * xp.sin(angle + 2 * self._start)) / math.cos(self._start)

    def _half_log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.log(self._alpha(t)) - xp.log(self._sigma(t))

    def _time(self, half_log_snr: Any) -> Any:
        xp = namespace(half_log_snr)
        zero = xp.zeros_like(half_log_snr)
        alpha_squared = xp.exp(-xp.logaddexp(zero, -2 * half_log_snr))
        sigma_squared = xp.exp(-xp.logaddexp(zero, 2 * half_log_snr))
        sine, cosine = math.sin(self._start), math.cos(self._start)
        # tan(θ − θ0) from sinθ and cosθ, with the difference sinθ cosθ0 − cosθ sinθ0 rationalised.
        sin_theta = xp.sqrt(sine**2 + cosine**2 * sigma_squared)
        cos_theta = cosine * xp.sqrt(alpha_squared)
        difference = sigma_squared * cosine**2 / (sin_theta * cosine + cos_theta * sine)
        return xp.atan2(difference, cos_theta * cosine + sin_theta * sine) / self._rate

    def _drift(self, t: Any) -> Any:
        return -self._rate * namespace(t).tan(self._start + self._rate * t)


class VE(Process):
    """Variance-exploding SDE: α = 1, σ(t) = σ_min (σ_max/σ_min)^t on t in [0, 1], g² = 2 σ² log(σ_max/σ_min).

    The formula reaches zero noise at no finite time; by convention that is t = −1.

    Source: Song et al. 2021, Score-based generative modeling through SDEs, eqs. 9 and 30–31.
    """

    name = "ve"
    t_min, t_max, t_clean = 0.0, 1.0, -1.0

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        _check_sigmas(self.name, sigma_min, sigma_max)
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def _alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def _half_log_snr(self, t: Any) -> Any:
        return namespace(t).where(t == self.t_clean, math.inf, -math.log(self.sigma_min) - self._rate * t)

    def _sigma(self, t: Any) -> Any:
        return namespace(t).exp(-self._half_log_snr(t))

    def _time(self, half_log_snr: Any) -> Any:
        t = (-math.log(self.sigma_min) - half_log_snr) / self._rate
        return namespace(t).where(t == -math.inf, self.t_clean, t)

    def _drift(self, t: Any) -> Any:
        return namespace(t).zeros_like(t)

    def _diffusion(self, t: Any) -> Any:
        return 2 * self._rate * self._sigma(t) ** 2


class EDM(Process):
    """Time is the noise level: α = 1, σ = t, f = 0, g² = 2t.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1.
    """

    name = "edm"

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0):
        _check_sigmas(self.name, sigma_min, sigma_max)
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.sigma_min

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    def _alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def _sigma(self, t: Any) -> Any:
        return t

    def _half_log_snr(self, t: Any) -> Any:
        return -namespace(t).log(t)

    def _time(self, half_log_snr: Any) -> Any:
        return namespace(half_log_snr).exp(-half_log_snr)

    def _drift(self, t: Any) -> Any:
        return namespace(t).zeros_like(t)

    def _diffusion(self, t: Any) -> Any:
        return 2 * t


class Flow(Process):
    """Rectified flow: α = 1 − t, σ = t, f = −1/(1 − t), g² = 2t/(1 − t); α vanishes at t_max = 1.

    Source: Lipman et al. 2023, Flow matching for generative modeling, eq. 20 (time reversed); Liu et al. 2023.
    """

    name = "flow"
    frame = "flow"
    t_min, t_max = 1e-3, 1.0

    def _alpha(self, t: Any) -> Any:
        return 1 - t

    def _sigma(self, t: Any) -> Any:
        return t

    def _half_log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.log1p(-t) - xp.log(t)

    def _time(self, half_log_snr: Any) -> Any:
        xp = namespace(half_log_snr)
        return xp.exp(-xp.logaddexp(xp.zeros_like(half_log_snr), half_log_snr))

    def _drift(self, t: Any) -> Any:
        return -1 / (1 - t)

    def _diffusion(self, t: Any) -> Any:
        return 2 * t / (1 - t)


def zero_terminal_snr(root: NDArray[np.float64]) -> NDArray[np.float64]:
    """√ᾱ of a chain, shape (steps,), shifted and scaled so that it ends at 0 and begins as before.

    Source: Lin et al. 2024, Common diffusion noise schedules and sample steps are flawed, Algorithm 1.
    """
    return (root - root[-1]) * root[0] / (root[0] - root[-1])


def variances(root: NDArray[np.float64]) -> NDArray[np.float64]:
    """The forward variances of the chain whose √ᾱ is given, both of shape (steps,)."""
    return 1 - np.concatenate([root[:1], root[1:] / root[:-1]]) ** 2


def _check_sigmas(name: str, sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"{name} needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")


PROCESSES: Registry[Process] = Registry("process")
for kind in (VP, VPDiscrete, Cosine, SubVP, VE, EDM, Flow):
    PROCESSES.add(kind.name, kind)
get = PROCESSES.get
