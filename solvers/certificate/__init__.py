"""Certificates: whether a solver converges with the order that it declares, measured on an exact score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solvers.base import PlannedSolver, Solver
from solvers.catalogue import get
from solvers.certificate.orders import OrderCertificate, certify_order
from solvers.certificate.slopes import SHAPES, Slopes
from solvers.certificate.weak import WeakCertificate, certify_weak
from solvers.errors import known
from solvers.standin import StandIn
from solvers.steps import Process

__all__ = ["Certified", "certify", "declared"]


@dataclass(frozen=True)
class Certified:
    """A solver's declared order and what was measured, by process and shape of the grid.

    Attributes:
        solver: which, with its options.
        declared: its order on the probability-flow ODE, or its weak order where it draws noise.
        found: for each process and shape, see :class:`~solvers.certificate.orders.OrderCertificate` and
            :class:`~solvers.certificate.weak.WeakCertificate`.
    """

    solver: Solver
    declared: int
    found: Mapping[tuple[str, str], OrderCertificate | WeakCertificate]

    @property
    def holds(self) -> bool:
        """Whether the declared order was measured everywhere, to within ±0.2."""
        return all(each.holds for each in self.found.values())

    @property
    def measured(self) -> dict[tuple[str, str], float | None]:
        """The order of each; None where the slope did not settle."""
        return {place: each.measured for place, each in self.found.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Process, shape, declared and measured order, steps, errors and whether it holds, of each."""
        return [
            {
                "process": process,
                "grid": shape,
                "declared": self.declared,
                "measured": each.measured,
                "holds": each.holds,
                "steps": _series(each).steps,
                "errors": _series(each).errors,
            }
            for (process, shape), each in self.found.items()
        ]

    def __str__(self) -> str:
        kind = "weak order" if self.solver.stochastic else "order"
        lines = [f"{self.solver} declares {kind} {self.declared}"]
        for row in self.rows():
            order = "not settled" if row["measured"] is None else f"{row['measured']:.2f}"
            steps = f"error {row['errors'][-1]:.1e} at {row['steps'][-1]} steps"
            lines.append(
                f"  {row['process']:<8} {row['grid']:<10} {order:>11}  {steps:<32} "
                f"{'holds' if row['holds'] else 'does not hold'}"
            )
        return "\n".join(lines)


def certify(
    solver: Solver | str,
    processes: Mapping[str, Process] | None = None,
    shapes: Sequence[str] = SHAPES,
    **options: Any,
) -> Certified:
    """Measure a solver's order: its error on an exact score in float64, while steps are doubled, must fall as declared.

    Deterministic solvers are measured against the exact trajectories of a one-dimensional Gaussian mixture, stochastic
    ones by expectations on it, without sampling, and by the Fréchet distance on Gaussian data.

    Args:
        solver: one, or its name with ``options``.
        processes: by the names that the result gives them; their ``time`` takes arrays too. None is α = 1, σ = t.
        shapes: of the grids: ``uniform``, ``quadratic`` or ``karras`` from λ = −1.5 to λ = 2.

    Raises:
        ValueError: a solver that declares no order or chooses its own steps, an unknown shape, or no process or shape.
        TypeError: a stochastic solver that is no function of the register's, whose weak order is not to be had.
    """
    chosen = get(solver, **options) if isinstance(solver, str) else solver
    order = declared(chosen)
    places = {"α = 1": StandIn()} if processes is None else processes
    pairs = [(name, known("shape", shape, SHAPES)) for name in places for shape in shapes]
    if not pairs:
        raise ValueError("an order is measured on one process and one shape of grid or more")
    return Certified(chosen, order, {(name, shape): _one(chosen, places[name], shape) for name, shape in pairs})


def declared(solver: Solver) -> int:
    """The order that can be measured: the weak order of a solver that draws noise.

    Raises:
        ValueError: it declares none, or chooses its own steps.
    """
    if solver.adaptive:
        raise ValueError(f"{solver.name!r} chooses its own steps: its error follows its tolerance, not an order")
    order = solver.weak_order if solver.stochastic else solver.order
    if order is None:
        raise ValueError(f"{solver.name!r} declares no order, so that there is none to be measured")
    return order


def _one(solver: Solver, process: Process, shape: str) -> OrderCertificate | WeakCertificate:
    if not solver.stochastic:
        return certify_order(solver, process, shape)
    if not isinstance(solver, PlannedSolver):
        raise TypeError(f"{solver.name!r} has no plan, from which its weak order would follow")
    return certify_weak(solver, process, shape)


def _series(found: OrderCertificate | WeakCertificate) -> Slopes:
    """The errors that the measured order is read from."""
    if isinstance(found, WeakCertificate):
        return found.frechet if found.deep or found.mixture is None else found.mixture
    return found.total if found.start is None else found.start
