"""How the reverse-time equation is integrated: numbers and tensors only.

``get(name, **options)`` gives a :class:`Solver`, ``names()`` all names, ``grids`` says where the steps are, and
``solver`` registers a function of your own. Every module in ``methods`` and ``adaptive`` is imported here, so a new
solver is a new file.
"""

from __future__ import annotations

import importlib
import pkgutil

from solvers import adaptive, grids, methods
from solvers.coefficients import frames
from solvers.plan import NotLinearError, Plan, PlanError
from solvers.registry import aliases, get, names, solver
from solvers.solver import PlannedSolver, Solver

for _room in (methods, adaptive):
    for _module in pkgutil.iter_modules(_room.__path__):
        importlib.import_module(f"{_room.__name__}.{_module.name}")

__all__ = [
    "NotLinearError",
    "Plan",
    "PlanError",
    "PlannedSolver",
    "Solver",
    "aliases",
    "frames",
    "get",
    "grids",
    "names",
    "solver",
]
