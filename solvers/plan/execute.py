"""A plan on tensors, one operation after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from solvers.aliasing import Isolated, shown
from solvers.plan.instructions import Draw, Eval, Lin, PlanError
from solvers.plan.program import Program


class Run:
    """A plan under way, fed one model output at a time.

        run = Run(plan, x)
        while run.advance():
            run.give(predict(run.x, run.evaluation.t))
        samples = run.state

    Tensors of others (x, the model's outputs, draws, states that the model has seen) are never written to, and outputs
    and draws must not be written to by others while they are needed; :func:`execute` sees to that. ``step`` is given
    a copy of the state.

    Args:
        plan: the program.
        x: the state at ``plan.times[0]``.
        noise, step: as for :meth:`solvers.plan.plan.Plan.run`.

    Attributes:
        state: the state at the time that was reached last; at the end the result.

    Raises:
        PlanError: the plan draws noise and none is given.
    """

    state: Tensor

    def __init__(
        self,
        plan: Program,
        x: Tensor,
        noise: Callable[[], Tensor] | None = None,
        step: Callable[[Tensor, float], Tensor | None] | None = None,
    ):
        if plan.draws and noise is None:
            raise PlanError(f"a plan of {plan.solver!r} draws noise: give noise=")
        self.plan, self.state, self._noise, self._step = plan, x, noise, step
        self._registers: dict[int, Tensor] = {0: x}
        self._position = -1  # of the instruction that was carried out last, or waits
        self._last, self._since = 0, 0  # register of the state, and the position of its step

    @property
    def evaluation(self) -> Eval:
        """The evaluation that waits for its output."""
        waiting = self.plan.instructions[self._position]
        assert isinstance(waiting, Eval)
        return waiting

    @property
    def x(self) -> Tensor:
        """Where the model is to be evaluated, at time ``evaluation.t``."""
        return self._registers[self.evaluation.x]

    def advance(self) -> bool:
        """Carry on to the next evaluation; False if there is none left, so that ``state`` is the result."""
        plan, registers = self.plan, self._registers
        for position in range(self._position + 1, len(plan.instructions)):
            instruction, self._position = plan.instructions[position], position
            if isinstance(instruction, Eval):
                return True
            if isinstance(instruction, Lin):
                into = plan.overwrites[position]
                registers[instruction.out] = combine(instruction.terms, registers, into, like=self.state)
            elif isinstance(instruction, Draw):
                assert self._noise is not None
                registers[instruction.out] = self._noise()
            else:
                self.state = shown(self._step, registers[instruction.x], instruction.t)
                registers[instruction.out], self._last, self._since = self.state, instruction.out, position
            self._free()
        return False

    def give(self, result: Any) -> None:
        """The model's output at ``x``; of a mapping, what the plan asks for, and nothing else of it is kept alive.

        Raises:
            PlanError: a named output that the plan asks for is not there.
        """
        outputs = result if isinstance(result, Mapping) else {"model": result}
        for name in self.evaluation.outputs:
            if name not in outputs:
                raise PlanError(f"{self.plan.solver!r} needs the model's output {name!r}; it has {sorted(outputs)}")
        self._registers.update({register: outputs[name] for name, register in self.evaluation.outputs.items()})
        self._free()

    def replace(self, x: Tensor) -> None:
        """Let x take the place of the input of the evaluation that waits; the difference goes to the state.

        Where the input is the state itself, that is what a ``step`` hook does. Where it is a stage made from the state
        (and of outputs, which stay as they are), the state becomes the one from which x would have been made.
        """
        stage, last = self.evaluation.x, self._last
        if stage == last:
            self.state = x
        elif last in self._registers and (share := self._share(stage)):
            self.state = self._registers[last] = self._registers[last] + (x - self.x) / share
        self._registers[stage] = x

    def _share(self, register: int) -> float:
        """The coefficient of the state in a register that was made from it in this step."""
        shares = {self._last: 1.0}
        for instruction in self.plan.instructions[self._since : self._position]:
            if isinstance(instruction, Lin):
                shares[instruction.out] = sum(factor * shares.get(term, 0.0) for term, factor in instruction.terms)
        return shares.get(register, 0.0)

    def _free(self) -> None:
        for register in self.plan.dead[self._position]:
            del self._registers[register]


def execute(
    plan: Program,
    predict: Callable[[Tensor, float], Any],
    x: Tensor,
    noise: Callable[[], Tensor] | None,
    step: Callable[[Tensor, float], Tensor | None] | None,
) -> Tensor:
    """Run a plan; see :meth:`solvers.plan.plan.Plan.run`."""
    model, draws = Isolated("the model", ("x", "t")), Isolated("noise")
    run = Run(plan, x, None if noise is None else lambda: draws.call(noise, ()), step)
    while run.advance():
        run.give(model.call(predict, (run.x, run.evaluation.t)))
    return run.state


def combine(
    terms: tuple[tuple[int, float], ...], registers: Mapping[int, Tensor], into: int | None, like: Tensor
) -> Tensor:
    """Σ coefficient · register, one pass over memory per term; a new tensor, or written over the register ``into``."""
    if not terms:
        return torch.zeros_like(like)
    if into is not None:
        terms = tuple(sorted(terms, key=lambda term: term[0] != into))
    (first, factor), *rest = terms
    if into is not None:
        result = registers[into].mul_(factor)
    elif rest and factor == 1.0:
        (second, alpha), *rest = rest
        result = torch.add(registers[first], registers[second], alpha=alpha)
    else:
        result = registers[first] * factor
    for register, alpha in rest:
        result.add_(registers[register], alpha=alpha)
    return result
