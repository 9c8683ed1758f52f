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

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.arrays import namespace, wide
from solvers.registry import Registry

Values = TypeVar("Values", float, NDArray[np.float64], Tensor)
OWN = ("alpha", "sigma", "half_log_snr", "time", "drift", "diffusion")  # what a process of the user's may say
HALVINGS = 1100  # of an interval at most, until its ends are neighbours in float64
LOOKED = 257  # times at which an own process is looked at
CLEAN = 1e-6  # how far α may be from 1 and σ from 0 where there should be no noise


class Process:
    """A forward process given by α(t), σ(t) and their derivatives.

    One of your own says α, σ and where its times are; the rest follows from them:

        class Mine(scoresde.Process):
            t_min, t_max = 1e-3, 1.0

            def __init__(self, power: float = 2.0):
                self.power = power

            def alpha(self, t):
                return torch.cos(0.5 * torch.pi * 0.99 * t**self.power)

            def sigma(self, t):
                return torch.sin(0.5 * torch.pi * 0.99 * t**self.power)

    ``alpha`` and ``sigma`` are given a float64 tensor of times and return one of its shape, by operations of torch.
    λ is log(α/σ), its inverse is found by halving, f and g² by automatic differentiation; ``half_log_snr``, ``time``,
    ``drift`` and ``diffusion`` may be defined in the same way where a formula is better. Arguments of the constructor
    are kept under their own names. When one is made it is looked at: α(t_clean) = 1, σ(t_clean) = 0, and λ falls
    from t_min to t_max. A process whose noise never ends has ``t_clean = -1.0``, a time that stands for none.

    Attributes:
        name: by which it is registered; of an own process the class's, in small letters, where it has none.
        t_min: smallest time at which a network should be evaluated.
        t_max: noisiest time, where sampling starts.
        t_clean: the time of zero noise, σ(t_clean) = 0 and α(t_clean) = 1.
    """

    name: ClassVar[str]
    frame: str = "edm"  # the variable that Runge–Kutta-like solvers integrate in (solvers.frames)
    t_min: float
    t_max: float
    t_clean: float = 0.0

    def _alpha(self, t: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define alpha(self, t)")

    def _sigma(self, t: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define sigma(self, t)")

    def _half_log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.log(self._alpha(t)) - xp.log(self._sigma(t))

    def _time(self, half_log_snr: Any) -> Any:
        goal = _wide(half_log_snr).cpu()
        first = self.t_min if self._endless else self.t_clean
        low, high = torch.full_like(goal, first), torch.full_like(goal, self.t_max)
        least, most = (self.half_log_snr(end) for end in (self.t_max, first))
        rounding = torch.finfo(half_log_snr.dtype).eps if isinstance(half_log_snr, Tensor) else 1e-10
        near = max(10 * rounding, 1e-9) * (1 + goal.abs())
        if (beyond := (goal < least - near) | ((goal > most + near) & (goal < math.inf))).any():
            raise ValueError(
                f"{self!r} has λ = log(α/σ) from {most:g} down to {least:g}, and was asked for the time of "
                f"{float(goal[beyond].flatten()[0]):g}"
            )
        middle = (low + high) / 2
        for _ in range(HALVINGS):
            less = self._half_log_snr(middle) >= goal  # there is less noise than there should be
            low, high = torch.where(less, middle, low), torch.where(less, high, middle)
            middle, before = (low + high) / 2, middle
            if torch.equal(middle, before):
                break
        return _narrow(torch.where(goal == math.inf, self.t_clean, middle), half_log_snr)

    def _drift(self, t: Any) -> Any:
        return _narrow(_slope(lambda times: self._alpha(times).log(), _wide(t)), t)

    def _diffusion(self, t: Any) -> Any:
        times = _wide(t)
        return _narrow(-2 * self._sigma(times) ** 2 * _slope(self._half_log_snr, times), t)

    def __init_subclass__(cls, **options: Any):
        """Let the public methods be made of what an own process says of α, σ and the rest, and look at it once made.

        Raises:
            TypeError: it says α and not σ, or the other way round.
        """
        super().__init_subclass__(**options)
        said = [name for name in OWN if name in cls.__dict__]
        for name in said:
            setattr(cls, f"_{name}", _given(name, cls.__dict__[name]))
            delattr(cls, name)
        missing = [name for name in ("alpha", "sigma") if getattr(cls, f"_{name}") is getattr(Process, f"_{name}")]
        if said and missing:
            raise TypeError(f"{cls.__name__} must define {' and '.join(f'{name}(self, t)' for name in missing)} too")
        if not hasattr(cls, "name"):
            cls.name = cls.__name__.lower()
        if any(hasattr(getattr(cls, f"_{name}"), "given") for name in OWN):
            cls.__init__ = _checked(cls, cls.__init__)

    @property
    def _endless(self) -> bool:
        """Whether the noise never ends, and ``t_clean`` stands for that."""
        return self.t_clean < 0 <= self.t_min

    def _check(self) -> None:
        """Refuse an own process that is none.

        Raises:
            ValueError, TypeError: says what is wrong, at which time.
        """
        alpha, sigma = (getattr(getattr(type(self), f"_{name}"), "given", None) for name in ("alpha", "sigma"))
        called = type(self).__name__
        for name in ("t_min", "t_max"):
            if not hasattr(self, name):
                raise TypeError(f"{called} must say {name}: t_min, t_max = 1e-3, 1.0 in the class")
        if not self.t_clean <= self.t_min < self.t_max < math.inf:
            raise ValueError(
                f"{called} needs t_clean <= t_min < t_max, got {self.t_clean:g}, {self.t_min:g} and {self.t_max:g}"
            )
        kept, taken = set(vars(self)), set(inspect.signature(type(self)).parameters)
        if kept != taken:
            raise TypeError(
                f"{called} must keep the arguments of its constructor, and nothing else, under their own names, so "
                f"that it can be made again from them: it takes {sorted(taken)} and keeps {sorted(kept)}"
            )
        if not self._endless:
            start = torch.tensor([self.t_clean], dtype=torch.float64)
            for name, function, meant in (("alpha", alpha, 1.0), ("sigma", sigma, 0.0)):
                if function is None:
                    continue
                found = float(_returned(self, name, function, start)[0])
                if not abs(found - meant) <= CLEAN:
                    raise ValueError(
                        f"{called} must have {name}({self.t_clean:g}) = {meant:g}, where there is no noise, got "
                        f"{found:g}; where the noise never ends, t_clean = -1.0 stands for that"
                    )
        times = torch.linspace(self.t_min, self.t_max, LOOKED, dtype=torch.float64)
        alphas, sigmas = self._alpha(times), self._sigma(times)
        for name, values, good in (("alpha", alphas, alphas >= 0), ("sigma", sigmas, sigmas > 0)):
            if not (fine := good & values.isfinite()).all():
                where = int((~fine).nonzero()[0])
                least = "0 or more" if name == "alpha" else "above 0"
                raise ValueError(f"{called} must have {name} {least}, got {values[where]:g} at t = {times[where]:g}")
        levels = self._half_log_snr(times)
        if (rising := ~(levels.diff() < 0)).any():
            where = int(rising.nonzero()[0])
            raise ValueError(
                f"{called} must have λ = log(α/σ) that falls as t grows, got {levels[where]:g} at t = {times[where]:g} "
                f"and {levels[where + 1]:g} at t = {times[where + 1]:g}"
            )
        for name, values in (("log α", self._drift(times)), ("λ", self._diffusion(times))):
            if (wrong := values.isnan()).any():
                where = float(times[int(wrong.nonzero()[0])])
                raise ValueError(f"{called} has no derivative of {name} at t = {where:g}, got nan")

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


def _wide(values: Any) -> Tensor:
    """Times as a tensor in float64, on the CPU where their device has none."""
    tensor = torch.as_tensor(values)
    return tensor.to(wide(tensor.device)).double()


def _narrow(found: Tensor, like: Any) -> Any:
    """What was found, as the kind of values that it was asked of."""
    return found.to(like.dtype).to(like.device) if isinstance(like, Tensor) else found.numpy()


def _slope(function: Callable[[Tensor], Tensor], times: Tensor) -> Tensor:
    """d function/dt at each time."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = times.detach().clone().requires_grad_()
        values = function(leaf)
        if not values.requires_grad:  # it does not depend on t
            return torch.zeros_like(times)
        return torch.autograd.grad(values.sum(), leaf)[0]


def _checked(cls: type[Process], begin: Callable[..., None]) -> Callable[..., None]:
    """``__init__`` of an own process, which looks at it when it is whole."""

    @functools.wraps(begin)
    def init(self: Process, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        if type(self) is cls:
            self._check()

    if begin is object.__init__:
        init.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)])  # type: ignore[attr-defined]
    return init


def _given(name: str, function: Callable[[Any, Tensor], Any]) -> Callable[[Any, Any], Any]:
    """What a process says in tensors, as one of the functions that all others are made of."""
    clean = {"alpha": 1.0, "sigma": 0.0, "half_log_snr": math.inf}.get(name)

    @functools.wraps(function)
    def hook(self: Process, t: Any) -> Any:
        times = _wide(t)
        found = _returned(self, name, function, times)
        if clean is not None:
            found = torch.where(times == self.t_clean, clean, found)
        return _narrow(found if isinstance(t, Tensor) else found.detach(), t)

    hook.given = function  # type: ignore[attr-defined]
    return hook


def _returned(process: Process, name: str, function: Callable[[Any, Tensor], Any], times: Tensor) -> Tensor:
    """What an own function returns for times.

    Raises:
        ValueError, TypeError: it fails, or returns no number for each time.
    """
    called = f"{type(process).__name__}.{name}"
    try:
        found = function(process, times)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise TypeError(f"{called} fails on a tensor of times, {error}: write it with operations of torch") from error
    if isinstance(found, (int, float)):
        return torch.full_like(times, found)
    if not isinstance(found, Tensor) or found.shape != times.shape:
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"{called} must return a tensor of the shape of t, {tuple(times.shape)}, got {got}")
    return found.double()


def _preserved(self: Process, t: Any) -> Any:
    return -2 * self._drift(t)  # g² = −2f wherever α² + σ² = 1


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
    _diffusion = _preserved

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
    _diffusion = _preserved

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
    _diffusion = _preserved
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
