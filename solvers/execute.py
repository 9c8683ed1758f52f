"""A plan on tensors, one operation after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from solvers.instructions import Draw, Eval, Lin, PlanError
from solvers.plan import Plan


def execute(
    plan: Plan,
    predict: Callable[[Tensor, float], Any],
    x: Tensor,
    noise: Callable[[], Tensor] | None,
    step: Callable[[Tensor, float], Tensor | None] | None,
) -> Tensor:
    """Run a plan; see :meth:`solvers.plan.Plan.run`.

    Tensors of others (x, the model's outputs, draws, states that the model or a callback has seen) are never written
    to: the model may return the tensor it was given, and a callback may keep what it saw.
    """
    if plan.draws and noise is None:
        raise PlanError(f"a plan of {plan.solver!r} draws noise: give noise=")
    registers: dict[int, Tensor] = {0: x}
    state = x
    for instruction, dead, into in zip(plan.instructions, plan.dead, plan.overwrites, strict=True):
        if isinstance(instruction, Lin):
            registers[instruction.out] = combine(instruction.terms, registers, into, like=state)
        elif isinstance(instruction, Eval):
            registers.update(_evaluate(plan, instruction, predict, registers[instruction.x]))
        elif isinstance(instruction, Draw):
            assert noise is not None
            registers[instruction.out] = noise()
        else:
            state = registers[instruction.x]
            edited = None if step is None else step(state, instruction.t)
            state = registers[instruction.out] = state if edited is None else edited
        for register in dead:
            del registers[register]
    return state


def _evaluate(plan: Plan, evaluation: Eval, predict: Callable[[Tensor, float], Any], x: Tensor) -> dict[int, Tensor]:
    """The outputs that the plan asks for, by register; nothing else of the model's result is kept alive."""
    result = predict(x, evaluation.t)
    outputs = result if isinstance(result, Mapping) else {"model": result}
    for name in evaluation.outputs:
        if name not in outputs:
            raise PlanError(f"{plan.solver!r} needs the model's output {name!r}; it has {sorted(outputs)}")
    return {register: outputs[name] for name, register in evaluation.outputs.items()}


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
