"""Programs: solvers as small straight lines of coefficients.

A program is a list of :mod:`.instructions`. The last use of a register frees it, so a run holds the state and the
history that the method really needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from solvers import prediction as predictions
from solvers.plan.instructions import Draw, Eval, Instruction, Lin, PlanError, Step, describe, reads, writes


@dataclass(frozen=True)
class Program:
    """A solver on a grid for one process and prediction type.

    Attributes:
        solver: name of the method.
        options: its options.
        prediction: what the model must return.
        times: the grid, from the noisy end to the clean end.
        instructions: the program.

    Raises:
        PlanError: the program reads a register before it is written, writes one twice, holds a coefficient that is not
            finite, its grid does not decrease, or its steps are not the grid's.
    """

    solver: str
    options: Mapping[str, Any]
    prediction: str
    times: tuple[float, ...]
    instructions: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def nfe(self) -> int:
        """Number of model evaluations."""
        return sum(isinstance(instruction, Eval) for instruction in self.instructions)

    @property
    def draws(self) -> int:
        """Number of Gaussian draws, the initial state not included."""
        return sum(isinstance(instruction, Draw) for instruction in self.instructions)

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the model's outputs that the plan asks for, ``"model"`` among them."""
        evaluations = (instruction for instruction in self.instructions if isinstance(instruction, Eval))
        return frozenset(name for evaluation in evaluations for name in evaluation.outputs)

    @cached_property
    def dead(self) -> tuple[tuple[int, ...], ...]:
        """Registers that each instruction is the last to use."""
        last: dict[int, int] = {0: 0}
        for index, instruction in enumerate(self.instructions):
            for register in (*reads(instruction), *writes(instruction)):
                last[register] = index
        result: list[list[int]] = [[] for _ in self.instructions]
        for register, index in last.items():
            result[index].append(register)
        return tuple(tuple(registers) for registers in result)

    @cached_property
    def overwrites(self) -> tuple[int | None, ...]:
        """For each LIN an operand whose memory may take the result: made by a LIN, seen by nobody, needed no more."""
        made = {instruction.out for instruction in self.instructions if isinstance(instruction, Lin)}
        seen = {instruction.x for instruction in self.instructions if isinstance(instruction, (Eval, Step))}
        result: list[int | None] = []
        for instruction, dead in zip(self.instructions, self.dead, strict=True):
            used = reads(instruction) if isinstance(instruction, Lin) else []
            spare = (r for r in used if r in made and r not in seen and r in dead and used.count(r) == 1)
            result.append(next(spare, None))
        return tuple(result)

    @property
    def memory(self) -> int:
        """Largest number of tensors of the state's size that are alive at once."""
        alive, most = 1, 1
        for instruction, dead, overwritten in zip(self.instructions, self.dead, self.overwrites, strict=True):
            alive += len(writes(instruction))
            # The same tensor under another number: that of a step, or the one that a LIN overwrites.
            same = len(dead) if isinstance(instruction, Step) else int(overwritten is not None)
            most = max(most, alive - same)
            alive -= len(dead)
        return most

    def __str__(self) -> str:
        """The plan as a table: one line per instruction, and the registers that it frees."""
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        lines = [
            f"{self.solver}({options}) · {self.prediction} · {len(self.times) - 1} steps · {self.nfe} NFE · "
            f"{self.draws} draws · {self.memory} states in memory"
        ]
        for instruction, dead in zip(self.instructions, self.dead, strict=True):
            frees = f"   frees {' '.join(f'r{register}' for register in dead)}" if dead else ""
            lines.append(f"{describe(instruction)}{frees}")
        return "\n".join(lines)


def _validate(plan: Program) -> None:
    predictions.check(plan.prediction)
    if len(plan.times) < 2 or not all(s < t for t, s in zip(plan.times, plan.times[1:], strict=False)):
        raise PlanError(f"the grid of a plan needs at least two times that decrease strictly, got {plan.times}")
    written = {0}
    for position, instruction in enumerate(plan.instructions):
        where = f"instruction {position} ({describe(instruction)})"
        for register in reads(instruction):
            if register not in written:
                raise PlanError(f"{where} reads register {register!r} before it is written")
        for register in writes(instruction):
            if type(register) is not int or register < 0 or register in written:
                raise PlanError(f"{where} writes register {register!r}, which is not a new number")
            written.add(register)
        if isinstance(instruction, Lin):
            numbers = [coefficient for _, coefficient in instruction.terms]
        elif isinstance(instruction, Eval):
            if "model" not in instruction.outputs:
                raise PlanError(f"{where} has no output 'model'")
            numbers = [instruction.t, instruction.alpha, instruction.sigma]
        else:
            numbers = []
        if not all(math.isfinite(number) for number in numbers):
            raise PlanError(f"{where} holds a number that is not finite")
    reached = tuple(instruction.t for instruction in plan.instructions if isinstance(instruction, Step))
    if reached != plan.times[1:]:
        raise PlanError(f"the steps of a plan must end at the grid's times {plan.times[1:]}, not at {reached}")
