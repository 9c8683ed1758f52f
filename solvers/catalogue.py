"""The catalogue of solvers: the decorator that puts a function into it, and the names it is found by."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from solvers.base import PlannedSolver, Solver
from solvers.driver import PROTOCOL
from solvers.errors import check_options, check_types, known
from solvers.registry import PLUGIN, Registry, plugged

Order = int | Callable[[Mapping[str, Any]], int | None]
Made = TypeVar("Made", bound=Solver)

FAMILIES = {  # in the order of the documentation
    "auto": "One choice for every budget",
    "euler": "Euler's method, Heun's and Runge–Kutta",
    "ddim": "DDIM, DDPM and ancestral sampling",
    "singlestep": "Singlestep exponential methods: DPM-Solver and its kin",
    "multistep": "Multistep exponential methods: DPM-Solver++, UniPC, DEIS",
    "adams": "Multistep methods in σ: Adams–Bashforth and PNDM",
    "sde": "The reverse SDE",
    "langevin": "Predictor–corrector sampling",
    "adaptive": "Steps by tolerance",
    "distilled": "Consistency models and distilled models",
    "cfg_pp": "CFG++",
    "own": "Others",
}
SOLVERS: Registry[Solver] = Registry("solver", rooms=("solvers.methods", "solvers.adaptive"))
get, names, alias, aliases = SOLVERS.get, SOLVERS.names, SOLVERS.alias, SOLVERS.aliases


def _recorded(made: Made, module: str) -> Made:
    """The solver, which other processes make by the name that ``module``, or its file, registers."""
    file = getattr(sys.modules.get(module), "__file__", None)
    made.recipe = remade, (module, made.name, dict(made.options), file)
    return made


@contextmanager
def _kinds_checked(name: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[None]:
    """The solver's own checks, which know best; after them, or where they stumble, the kinds of the values.

    Raises:
        ValueError: names the option, its value and the kind.
    """
    try:
        yield
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{name}: {error}") from error
    except Exception:
        check_types(name, options, defaults)
        raise
    check_types(name, options, defaults)


def registered(kind: type[Made]) -> type[Made]:
    """Register a solver's class under its ``name``; its constructor's arguments are the options."""

    def make(**options: Any) -> Solver:
        with _kinds_checked(kind.name, options, defaults):
            made = kind(**options)
        return _recorded(made, kind.__module__)

    signature = inspect.signature(kind)
    defaults = {key: parameter.default for key, parameter in signature.parameters.items()}
    _presented(make, kind.name, kind, list(signature.parameters.values()), kind)
    SOLVERS.add(kind.name, make)
    return kind


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """With types in place of their names, where those are to be had."""
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # of names that only a type checker sees, or whatever else stands there
        return inspect.signature(function)


def _presented(make: Any, name: str, of: Any, options: list[inspect.Parameter], gives: type[Solver]) -> None:
    """Give a maker the name, words, home and options that editors and documentation show."""
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in options]
    make.__doc__, make.__name__ = of.__doc__, name
    make.__module__ = of.__module__ or ""  # code that is executed without a name of its own has none
    make.__signature__ = inspect.Signature(keywords, return_annotation=gives)


def solver(
    name: str,
    *,
    reference: str,
    order: Order | None,
    weak_order: Order | None = None,
    stochastic: bool | str = False,
    grid: str = "quadratic",
    family: str = "own",
    from_noise: bool = False,
    to_clean: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., PlannedSolver]]:
    """Register a solver function under a name; the decorated name builds a :class:`PlannedSolver` from options.

    Args:
        name: what people type.
        reference: the paper and equations that it implements.
        order: global order on the probability-flow ODE, a number or a function of the mapping of options; None if it
            does not converge to the ODE's solution.
        weak_order: the same for its weak order, where it can draw noise.
        stochastic: True, or the name of the option that makes it so when it is not zero.
        grid: the grid it is used on when none is given.
        family: where the documentation has it, one of :data:`FAMILIES`.
        from_noise: whether the function takes the step from α = 0 itself (its first t then has α = 0 and λ = −∞).
        to_clean: whether the function takes the step to zero noise itself (its last s then has σ = 0 and λ = ∞).

    Raises:
        TypeError: the function is not a generator, or stochastic without a weak order.
        ValueError: the name is taken, or there is no such family.
    """
    known("family", family, FAMILIES, of=f"solver {name!r}")

    def decorate(function: Callable[..., Any]) -> Callable[..., PlannedSolver]:
        if not inspect.isgeneratorfunction(function):
            raise TypeError(f"solver {name!r} must be a generator: 'x = yield …' at the end of each step")
        if stochastic and order is not None and weak_order is None:
            raise TypeError(f"solver {name!r} is stochastic: declare its weak_order")
        defaults = {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
            if key not in PROTOCOL
        }

        def make(**options: Any) -> PlannedSolver:
            check_options(f"solver {name!r}", options, defaults)
            values = {**defaults, **options}
            draws = bool(values[stochastic]) if isinstance(stochastic, str) else stochastic
            made = PlannedSolver(
                function,
                values,
                name=name,
                reference=reference,
                order=None,
                weak_order=None,
                grid=grid,
                family=family,
                stochastic=draws,
                from_noise=from_noise,
                to_clean=to_clean,
            )
            with _kinds_checked(name, options, defaults):
                made.check()
            # Of options that are known to be good, so that declarations need not check them.
            made.order = None if draws else _evaluate(order, values)
            made.weak_order = _evaluate(weak_order, values) if draws else None
            return _recorded(made, make.__module__)

        kept = [value for key, value in _signature(function).parameters.items() if key not in PROTOCOL]
        _presented(make, name, function, kept, PlannedSolver)
        SOLVERS.add(name, make)
        return make

    return decorate


def _evaluate(order: Order | None, options: Mapping[str, Any]) -> int | None:
    return order(options) if callable(order) else order


def remade(module: str, name: str, options: dict[str, Any], file: str | None = None) -> Solver:
    """The solver of that name and options, which that module registers; a plugin's is its file's."""
    if module.startswith(PLUGIN) and file:
        plugged(file)
    elif module:
        importlib.import_module(module)
    return get(name, **options)
