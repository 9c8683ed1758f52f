"""Plans: solvers as small straight-line programs of coefficients.

The program is a list of :mod:`solvers.instructions`. The last use of a register frees it, so a run holds the state and
the history that the method really needs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers import prediction as predictions
from solvers.instructions import (
    Draw,
    Eval,
    Instruction,
    Lin,
    PlanError,
    Step,
    decode,
    describe,
    encode,
    number,
    reads,
    writes,
)

if TYPE_CHECKING:
    from torch import Tensor

    from solvers.moments import Moments
    from solvers.steps import Process

FORMAT = "scoresde-plan"
VERSION = 1


@dataclass(frozen=True)
class Plan:
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

    def run(
        self,
        predict: Callable[[Tensor, float], Any],
        x: Tensor,
        noise: Callable[[], Tensor] | None = None,
        *,
        step: Callable[[Tensor, float], Tensor | None] | None = None,
    ) -> Tensor:
        """Execute the plan.

        Args:
            predict: called as ``predict(x, t)`` with a float t; returns the output in the plan's prediction type,
                shaped like x, or a mapping from names to such outputs with the model's own under ``"model"``.
            x: the state at ``times[0]``, any shape.
            noise: gives the next standard normal tensor shaped like x at each call; not needed if the plan draws none.
            step: called after each step as ``step(x, t)``; a tensor that it returns takes the place of the state.

        Returns:
            The state at ``times[-1]``. ``x`` and the model's outputs are left as they are.

        Raises:
            PlanError: the plan draws noise and none is given.
        """
        from solvers.execute import execute

        return execute(self, predict, x, noise, step)

    def moments(self, process: Process, mean: Any = 0.0, variance: Any = 1.0) -> Moments:
        """Exact mean and variance of the samples on Gaussian data; see :func:`solvers.moments.moments`."""
        from solvers.moments import moments

        return moments(self, process, mean, variance)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; floats are kept exactly."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "solver": self.solver,
            "options": dict(self.options),
            "prediction": self.prediction,
            "times": list(self.times),
            "instructions": [encode(instruction) for instruction in self.instructions],
        }
        path, text = Path(path), json.dumps(content, indent=1) + "\n"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that :meth:`save` wrote.

        Raises:
            PlanError: the file is damaged, of another format or version, or not a valid program.
        """
        if Path(path).exists() and not Path(path).is_file():
            raise PlanError(f"{str(path)!r} is not a plan: it is no file")  # and might be waited for without end
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise PlanError(f"{str(path)!r} is not a plan: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise PlanError(f"{str(path)!r} is not a plan: its format is not {FORMAT!r}")
        if content.get("version") != VERSION:
            raise PlanError(f"{str(path)!r} is a plan of version {content.get('version')!r}; this is version {VERSION}")
        try:
            return cls(
                solver=str(content["solver"]),
                options=dict(**content["options"]),
                prediction=content["prediction"],
                times=tuple(number(t) for t in content["times"]),
                instructions=tuple(decode(*instruction) for instruction in content["instructions"]),
            )
        except PlanError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(f"{str(path)!r} is not a valid plan: {error!r}") from error

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


def _validate(plan: Plan) -> None:
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
