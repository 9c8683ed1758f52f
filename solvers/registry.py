"""The register of solvers: the decorator that puts a function into it, and the names it is found by."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from solvers.base import PlannedSolver, Solver
from solvers.driver import PROTOCOL
from solvers.errors import check_options, check_types, nearest

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
ROOMS = ("solvers.methods", "solvers.adaptive")  # whose files register themselves
_REGISTRY: dict[str, Callable[..., Solver]] = {}
_ALIASES: dict[str, str] = {}


def register(name: str, make: Callable[..., Solver]) -> None:
    """Make a solver known by name; ``make(**options)`` builds it and refuses options it does not have.

    Raises:
        ValueError: the name is taken.
    """
    _check_free(name, make.__module__)
    _REGISTRY[name] = make


def _known(made: Made, module: str) -> Made:
    """The solver, which other processes make by the name that ``module`` registers."""
    made.recipe = remade, (module, made.name, dict(made.options))
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
        check_options(f"solver {kind.name!r}", options, defaults)
        with _kinds_checked(kind.name, options, defaults):
            made = kind(**options)
        return _known(made, kind.__module__)

    defaults = {key: parameter.default for key, parameter in inspect.signature(kind).parameters.items()}

    make.__module__ = kind.__module__
    register(kind.name, make)
    return kind


def alias(name: str, of: str) -> None:
    """Let a solver be found under a second common name too; it is listed under its own.

    Raises:
        ValueError: the name is taken.
    """
    _check_free(name, _REGISTRY[of].__module__)
    _ALIASES[name] = of


def _check_free(name: str, module: str) -> None:
    if not module.startswith(ROOMS):
        _load()  # whoever else comes, comes after ours
    if name in _REGISTRY or name in _ALIASES:
        raise ValueError(f"there already is a solver named {name!r}")


def aliases() -> dict[str, str]:
    """Second names of solvers, and which solver each means."""
    _load()
    return dict(_ALIASES)


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
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r} of solver {name!r}{nearest(family, FAMILIES)}")

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
            return _known(made, make.__module__)

        # Code that is executed without a name of its own has no module.
        make.__doc__, make.__name__, make.__module__ = function.__doc__, name, function.__module__ or ""
        signature = inspect.signature(function)
        kept = [value for key, value in signature.parameters.items() if key not in PROTOCOL]
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept]
        make.__signature__ = inspect.Signature(keywords, return_annotation=PlannedSolver)  # type: ignore[attr-defined]
        register(name, make)
        return make

    return decorate


def _evaluate(order: Order | None, options: Mapping[str, Any]) -> int | None:
    return order(options) if callable(order) else order


@functools.cache
def _load() -> None:
    """Register every solver of this package, once."""
    for room in map(importlib.import_module, ROOMS):
        for module in pkgutil.iter_modules(room.__path__):
            importlib.import_module(f"{room.__name__}.{module.name}")


def names() -> list[str]:
    """Names of all solvers."""
    _load()
    return sorted(_REGISTRY)


def get(name: str, **options: Any) -> Solver:
    """The solver of that name.

    Raises:
        ValueError: unknown name (the nearest is given), or an option's value of another kind, out of range, or
            not to be had with the others.
        TypeError: an option the solver does not have.
    """
    _load()
    name = _ALIASES.get(name, name)
    if name not in _REGISTRY:
        raise ValueError(f"unknown solver {name!r}{nearest(name, [*_REGISTRY, *_ALIASES])}")
    return _REGISTRY[name](**options)


def remade(module: str, name: str, options: dict[str, Any]) -> Solver:
    """The solver of that name and options, which that module registers."""
    if module:
        importlib.import_module(module)
    return get(name, **options)
