"""How the reverse-time equation is integrated: numbers and tensors only.

``get(name, **options)`` gives a :class:`Solver`, ``names()`` all names, ``grids`` says where the steps are, and
``solver`` registers a function of your own. Every module in ``methods`` and ``adaptive`` is found by its name, so a new
solver is a new file.

What is named here is loaded when it is first asked for, so that words for errors are there before torch is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers import grids
    from solvers.base import PlannedSolver, Solver
    from solvers.catalogue import aliases, get, names, solver
    from solvers.certificate import certify
    from solvers.coefficients import frames
    from solvers.plan import NotLinearError, Plan, PlanError

_HOMES = {
    **dict.fromkeys(("aliases", "get", "names", "solver"), "catalogue"),
    "certify": "certificate",
    **dict.fromkeys(("NotLinearError", "Plan", "PlanError"), "plan"),
    **dict.fromkeys(("PlannedSolver", "Solver"), "base"),
}
_ROOMS = {"frames": "coefficients.frames", "grids": "grids"}

__all__ = [
    "NotLinearError",
    "Plan",
    "PlanError",
    "PlannedSolver",
    "Solver",
    "aliases",
    "certify",
    "frames",
    "get",
    "grids",
    "names",
    "solver",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _ROOMS:
        found = importlib.import_module(f"{__name__}.{_ROOMS[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
