"""Butcher tableaus of explicit Runge–Kutta methods, and what makes one valid.

A method of stages k_i = f(w + c_i h, y + h Σ_j a_ij k_j), y_s = y + h Σ_i b_i k_i has order p if and only if Σ_i b_i
Φ_i(τ) = 1/γ(τ) for every rooted tree τ of up to p nodes (Butcher's order conditions), with Φ_i and γ built from the
tree's branches τ_1 … τ_m: Φ_i(τ) = Π_m Σ_j a_ij Φ_j(τ_m) and γ(τ) = |τ| Π_m γ(τ_m).

Source: Hairer, Nørsett & Wanner 1993, Solving ordinary differential equations I, secs. II.1 and II.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from solvers.errors import known
from solvers.registry import Registry

Tree = tuple  # a rooted tree is the sorted tuple of its branches
MOST = 6  # trees of up to so many nodes are tried


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta method: a strictly lower triangular, c = Σ_j a_ij, order by the order conditions.

    Args:
        a: rows of the second stage on, row i with i entries.
        b: one weight for each stage.

    Raises:
        ValueError: rows of a wrong length, numbers that are not finite, stages outside the step, or Σ b ≠ 1.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        for i, row in enumerate(self.a, start=1):
            if len(row) != i:
                raise ValueError(f"row {i} of an explicit tableau's a needs {i} entries, got {len(row)}")
        if len(self.b) != len(self.a) + 1:
            raise ValueError(f"a tableau of {len(self.a) + 1} stages needs as many weights b, got {len(self.b)}")
        if not all(math.isfinite(value) for row in (*self.a, self.b) for value in row):
            raise ValueError("a tableau must be finite")
        if not all(-1e-12 <= c <= 1 + 1e-12 for c in self.c):
            raise ValueError(f"the stages of a tableau must lie within the step, got c = {self.c}")
        if self.order < 1:
            raise ValueError(f"the weights b of a tableau must sum to 1, got {sum(self.b)}")

    @property
    def c(self) -> tuple[float, ...]:
        """Where in the step each stage is."""
        return (0.0, *(math.fsum(row) for row in self.a))

    @cached_property
    def order(self) -> int:
        """The largest p ≤ 6 for which all order conditions hold."""
        p = 0
        while p < MOST and all(abs(self._condition(tree)) < 1e-10 for tree in _trees(p + 1)):
            p += 1
        return p

    def _condition(self, tree: Tree) -> float:
        return float(np.array(self.b) @ self._elementary(tree)) - 1 / _density(tree)

    def _elementary(self, tree: Tree) -> Any:
        """Φ_i(τ) for every stage i."""
        matrix = np.zeros((len(self.b), len(self.b)))
        for i, row in enumerate(self.a, start=1):
            matrix[i, :i] = row
        product = np.ones(len(self.b))
        for branch in tree:
            product = product * (matrix @ self._elementary(branch))
        return product


@dataclass(frozen=True)
class Pair:
    """Two methods on the same stages: the step is taken with b, and the difference to b̂ estimates its error.

    Args:
        a: as in :class:`Tableau`.
        b: weights of the step.
        b_hat: weights of the method of lower order.

    Raises:
        ValueError: either is not a valid tableau, or b̂ is not of lower order than b.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_hat: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.embedded.order < self.method.order:
            raise ValueError(
                f"the embedded method must be of lower order, got {self.embedded.order} beside {self.method.order}"
            )

    @cached_property
    def method(self) -> Tableau:
        return Tableau(self.a, self.b)

    @cached_property
    def embedded(self) -> Tableau:
        return Tableau(self.a, self.b_hat)

    @property
    def reuses_last(self) -> bool:
        """Whether the last stage is at the end of the step, where the next step begins."""
        return self.a[-1] == self.b[:-1] and self.b[-1] == 0


def _size(tree: Tree) -> int:
    return 1 + sum(_size(branch) for branch in tree)


def _density(tree: Tree) -> int:
    return _size(tree) * math.prod(_density(branch) for branch in tree)


@cache
def _trees(nodes: int) -> tuple[Tree, ...]:
    """All rooted trees of that many nodes."""
    return tuple(sorted({tuple(sorted(branches)) for branches in _forests(nodes - 1)}))


def _forests(nodes: int) -> Iterator[tuple[Tree, ...]]:
    if nodes == 0:
        yield ()
    for size in range(1, nodes + 1):
        for tree in _trees(size):
            for rest in _forests(nodes - size):
                yield (tree, *rest)


# Euler 1768; Runge 1895; Heun 1900; Ralston 1962; Kutta 1901; Shu & Osher 1988; Bogacki & Shampine 1989;
# Nyström 1925
_TABLEAUS = {
    "euler": Tableau((), (1,)),
    "midpoint": Tableau(((1 / 2,),), (0, 1)),
    "heun2": Tableau(((1,),), (1 / 2, 1 / 2)),
    "ralston2": Tableau(((2 / 3,),), (1 / 4, 3 / 4)),
    "heun3": Tableau(((1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4)),
    "kutta3": Tableau(((1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "ralston3": Tableau(((1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9)),
    "ssprk3": Tableau(((1,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3)),
    "rk4": Tableau(((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    "rk4_38": Tableau(((1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
    "nystrom5": Tableau(
        (
            (1 / 3,),
            (4 / 25, 6 / 25),
            (1 / 4, -3, 15 / 4),
            (2 / 27, 10 / 9, -50 / 81, 8 / 81),
            (2 / 25, 12 / 25, 2 / 15, 8 / 75, 0),
        ),
        (23 / 192, 0, 125 / 192, 0, -27 / 64, 125 / 192),
    ),
}
TABLEAUS: Registry[Tableau] = Registry("tableau")
for _name, _tableau in _TABLEAUS.items():
    TABLEAUS.keep(_name, _tableau)

# Heun 1900 with Euler 1768; Bogacki & Shampine 1989; Dormand & Prince 1980; Tsitouras 2011
PAIRS = {
    "heun_euler": Pair(((1,),), (1 / 2, 1 / 2), (1, 0)),
    "bosh3": Pair(
        ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)), (2 / 9, 1 / 3, 4 / 9, 0), (7 / 24, 1 / 4, 1 / 3, 1 / 8)
    ),
    "dopri5": Pair(
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
        (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
    ),
    "tsit5": Pair(
        (
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
            (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
        ),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774, 0),
        (
            0.09468075576583945,
            0.009183565540343254,
            0.4877705284247616,
            1.234297566930479,
            -2.7077123499835256,
            1.866628418170587,
            1 / 66,
        ),
    ),
}


def pair(name: str, owner: str) -> Pair:
    """The pair of that name.

    Raises:
        ValueError: there is none; the nearest is given.
    """
    return PAIRS[known("method", name, PAIRS, of=owner)]


def described(tableau: str | Mapping[str, Sequence[Any]]) -> Tableau:
    """The tableau of that name, or the one given as ``{"a": rows of the second stage on, "b": weights}``.

    Raises:
        ValueError: unknown name (the nearest is given), other keys than a and b, or not a valid explicit tableau.
    """
    if isinstance(tableau, Mapping):
        if set(tableau) != {"a", "b"}:
            raise ValueError(f"a tableau is given by its a and b, got {sorted(tableau)}")
        rows = tuple(tuple(float(value) for value in row) for row in tableau["a"])
        return Tableau(rows, tuple(float(value) for value in tableau["b"]))
    return TABLEAUS.get(tableau)
