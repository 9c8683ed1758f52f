"""The four instructions of a plan, on registers that are each written once; register 0 is the initial state.

LIN   r = Σ cᵢ rᵢ
EVAL  r = predict(x, t), and further named outputs of the same evaluation if the model has them
DRAW  r ~ N(0, I)
STEP  r = x is the state at the next time of the grid: callbacks see it and may replace it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


class PlanError(ValueError):
    """A plan or plan file that is not a valid program."""


@dataclass(frozen=True)
class Lin:
    """``out`` = Σ coefficient · register."""

    out: int
    terms: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Eval:
    """``outputs`` = predict(x, t), the model's own under "model"; α and σ at t are kept to recognise the process."""

    outputs: Mapping[str, int]
    x: int
    t: float
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Draw:
    """``out`` is a fresh standard normal."""

    out: int


@dataclass(frozen=True)
class Step:
    """``out`` is the state at time t: register ``x``, or what a callback puts in its place."""

    out: int
    x: int
    t: float


Instruction: TypeAlias = "Lin | Eval | Draw | Step"


def reads(instruction: Instruction) -> list[int]:
    """Registers that an instruction reads."""
    if isinstance(instruction, Lin):
        return [register for register, _ in instruction.terms]
    return [] if isinstance(instruction, Draw) else [instruction.x]


def writes(instruction: Instruction) -> list[int]:
    """Registers that an instruction writes."""
    return list(instruction.outputs.values()) if isinstance(instruction, Eval) else [instruction.out]


def describe(instruction: Instruction) -> str:
    """One line of a plan's table."""
    if isinstance(instruction, Lin):
        terms = " ".join(f"{coefficient:+.6g} r{register}" for register, coefficient in instruction.terms)
        return f"LIN   r{instruction.out} = {terms or '0'}"
    if isinstance(instruction, Eval):
        outputs = ", ".join(
            f"r{register}" if name == "model" else f"{name} r{register}"
            for name, register in instruction.outputs.items()
        )
        return f"EVAL  {outputs} = predict(r{instruction.x}, t={instruction.t:.6g})"
    if isinstance(instruction, Draw):
        return f"DRAW  r{instruction.out}"
    return f"STEP  r{instruction.out} = r{instruction.x} at t={instruction.t:.6g}"


def encode(instruction: Instruction) -> list[Any]:
    """The instruction as JSON holds it."""
    if isinstance(instruction, Lin):
        return ["LIN", instruction.out, [list(term) for term in instruction.terms]]
    if isinstance(instruction, Eval):
        return ["EVAL", dict(instruction.outputs), instruction.x, instruction.t, instruction.alpha, instruction.sigma]
    if isinstance(instruction, Draw):
        return ["DRAW", instruction.out]
    return ["STEP", instruction.out, instruction.x, instruction.t]


def number(value: Any) -> float:
    """The value as a float, if it is a number.

    Raises:
        TypeError: it is something else, such as text or true.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def decode(kind: str, *fields: Any) -> Instruction:
    """Inverse of :func:`encode`.

    Raises:
        PlanError: there is no such instruction.
        TypeError, ValueError, AttributeError: its fields are not those of its kind.
    """
    if kind == "LIN":
        out, terms = fields
        return Lin(out, tuple((register, number(coefficient)) for register, coefficient in terms))
    if kind == "EVAL":
        outputs, x, t, alpha, sigma = fields
        return Eval(dict(**outputs), x, number(t), number(alpha), number(sigma))
    if kind == "DRAW":
        return Draw(*fields)
    if kind == "STEP":
        out, x, t = fields
        return Step(out, x, number(t))
    raise PlanError(f"unknown instruction {kind!r}")
