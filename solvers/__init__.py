"""How the reverse-time equation is integrated: numbers and tensors only.

``get(name, **options)`` gives a :class:`Solver`, ``names()`` all names, ``grids`` says where the steps are, and
``solver`` registers a function of your own. Every module in this folder is imported here, so a new solver is a new
file.
"""

from __future__ import annotations

import importlib
import pkgutil

from solvers import grids
from solvers.plan import Plan, PlanError
from solvers.registry import aliases, get, names, solver
from solvers.solver import PlannedSolver, Solver
from solvers.trace import NotLinearError

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "NotLinearError",
    "Plan",
    "PlanError",
    "PlannedSolver",
    "Solver",
    "aliases",
    "get",
    "grids",
    "names",
    "solver",
]
