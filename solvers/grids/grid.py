"""What a grid is, the register of all of them, and the ends that they share."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from solvers.docstrings import Docstring
from solvers.registry import Registry
from solvers.steps import Process

Array = NDArray[np.float64]
Rule = Callable[..., Array]

FIRST_HALF_LOG_SNR = -5.0
BY_STEPS = "by_steps"
End = float | str | None
END = "noise level σ/α of the last noisy time; None is t_min, by_steps 4/steps² (at most 0.1)"


@dataclass(frozen=True)
class Grid:
    """A named rule for placing steps with its options; call it with a process and a number of steps.

    Attributes:
        name: what people type.
        options: every option with its value, defaults included.
        rule: the function that defines it; its docstring gives formula and source. A grid whose name is not the
            function's is the same rule under a second name.
        place: ``place(process, steps, **options)``, the noisy times.
    """

    name: str
    options: Mapping[str, Any] = field(hash=False)
    rule: Rule
    place: Rule

    def __call__(self, process: Process, steps: int) -> Array:
        """Times of shape (steps + 1,), float64.

        Raises:
            ValueError: steps < 1 or not whole; ``end`` outside the process; steps too close for float64.
        """
        if isinstance(steps, bool) or steps != int(steps) or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        times = np.append(self.place(process, int(steps), **self.options), process.t_clean)
        if not (np.diff(times) < 0).all():
            raise ValueError(f"grid {self} cannot place {steps} distinct times on {process!r}")
        return times

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By its name and options where the register has it; its functions are hidden behind that."""
        kept = get(self.name) if self.name in GRIDS else None
        if kept is None or kept.rule is not self.rule or kept.place is not self.place:
            return super().__reduce_ex__(protocol)
        return remade, (self.rule.__module__, self.name, dict(self.options))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


GRIDS: Registry[Grid] = Registry("grid")
get, names = GRIDS.get, GRIDS.names


def remade(module: str, name: str, options: Mapping[str, Any]) -> Grid:
    """The grid of that name and options, which that module registers."""
    importlib.import_module(module)
    return get(name, **options)


def rule(*aliases: str) -> Callable[[Rule], Rule]:
    """Register ``rule(process, steps, **options)``, which gives all noisy times, under its own name and aliases."""

    def decorate(function: Rule) -> Rule:
        _register(function, function, _defaults(function, skip=2), aliases)
        return function

    return decorate


def spaced_in(variable: Literal["time", "half_log_snr"], *aliases: str) -> Callable[[Rule], Rule]:
    """Register ``rule(u, first, last, **options)``, which gives the variable at the fractions u in (0, 1).

    The first and last noisy time are t_max and the one of ``end``, an option that the rule gets from here.
    """

    def decorate(function: Rule) -> Rule:
        def place(process: Process, steps: int, end: End, **options: Any) -> Array:
            last = last_time(process, end, steps)
            if steps == 1:
                return np.array([process.t_max])
            u = np.linspace(0.0, 1.0, steps)[1:-1]
            if variable == "time":
                inner = function(u, process.t_max, last, **options)
            else:
                inner = times(process, function(u, first_half_log_snr(process), process.half_log_snr(last), **options))
            return np.concatenate([[process.t_max], inner, [last]])

        _register(function, place, {**_defaults(function, skip=3), "end": None}, aliases)
        return function

    return decorate


def _defaults(function: Rule, skip: int) -> dict[str, Any]:
    parameters = list(inspect.signature(function).parameters.values())
    return {parameter.name: parameter.default for parameter in parameters[skip:]}


def _register(rule: Rule, place: Rule, defaults: Mapping[str, Any], aliases: tuple[str, ...]) -> None:
    for name in (rule.__name__, *aliases):
        GRIDS.add(name, _maker(name, rule, place, defaults))


def _maker(name: str, rule: Rule, place: Rule, defaults: Mapping[str, Any]) -> Callable[..., Grid]:
    def make(**options: Any) -> Grid:
        for option, value in options.items():
            number = isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf
            named = isinstance(defaults[option], str) or (option == "end" and value == BY_STEPS)
            named = named or (value is None and defaults[option] is None)
            if not (number or named):
                allowed = f", None or {BY_STEPS!r}" if option == "end" else ""
                raise ValueError(
                    f"option {option!r} of grid {name!r} must be a positive finite number{allowed}, got {value!r}"
                )
        return Grid(name, {**defaults, **options}, rule, place)

    make.__doc__, make.__name__, make.__module__ = rule.__doc__ or "", name, rule.__module__ or ""
    if "end" in defaults:
        make.__doc__ = Docstring.with_argument(make.__doc__, "end", END)
    kind = inspect.Parameter.KEYWORD_ONLY
    keywords = [inspect.Parameter(key, kind, default=default) for key, default in defaults.items()]
    make.__signature__ = inspect.Signature(keywords, return_annotation=Grid)  # type: ignore[attr-defined]
    return make


def first_half_log_snr(process: Process) -> float:
    """λ(t_max), or ``FIRST_HALF_LOG_SNR`` where that is −∞."""
    first = process.half_log_snr(process.t_max)
    return FIRST_HALF_LOG_SNR if first == -math.inf else first


def last_time(process: Process, end: End, steps: int) -> float:
    """The time at which σ/α is ``end``; None is t_min, ``by_steps`` 4/steps², at most 0.1 and at least t_min's.

    The fewer the steps, the more of them a low end wastes where the final denoise errs little; the rule was found by
    measurement (benchmarks/tuning/grids.py).

    Raises:
        ValueError: ``end`` is below the noise level of t_min, or not below that of the first noisy time.
    """
    if end is None:
        return process.t_min
    low, high = math.exp(-process.half_log_snr(process.t_min)), math.exp(-first_half_log_snr(process))
    if isinstance(end, str):
        end = max(low, min(0.1, 4 / steps**2))
    if not low * (1 - 1e-9) <= end < high:  # what people read off t_min is rounded
        raise ValueError(
            f"end = {end} is a noise level σ/α outside {process!r}: legal are levels from {low:.6g} (t_min) to below "
            f"{high:.6g} (the first time)"
        )
    return max(process.time(-math.log(end)), process.t_min)


def times(process: Process, half_log_snr: Array) -> Array:
    """The times of these λ, shape (n,)."""
    return np.array([process.time(float(value)) for value in half_log_snr])
