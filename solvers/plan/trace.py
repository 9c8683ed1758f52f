"""A solver function, run once on symbols, becomes the instructions of a plan.

A symbol is a linear combination of *atoms*: the initial state, model views, random draws, and combinations that were
already computed. Nothing is computed until a combination is needed as a whole, by the model or as the state of a step;
then it becomes one LIN instruction. What a solver does with its variables in between costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from solvers import prediction as predictions
from solvers.plan.instructions import Draw, Eval, Instruction, Lin, Step, writes
from solvers.steps import Point
from solvers.views import Views


class NotLinearError(TypeError):
    """A solver did something with the state that a plan cannot hold."""


class Symbol:
    """Σ cᵢ aᵢ over atoms aᵢ with float64 coefficients cᵢ."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, float]):
        self.terms = terms

    def __add__(self, other: Any) -> Symbol:
        if isinstance(other, (int, float)) and other == 0:
            return self
        if not isinstance(other, Symbol):
            _refuse(f"adding {other!r} to the state")
        terms = dict(self.terms)
        for atom, coefficient in other.terms.items():
            terms[atom] = terms.get(atom, 0.0) + coefficient
        return Symbol(terms)

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Symbol:
        try:
            value = float(factor)
        except (TypeError, ValueError):
            _refuse(f"multiplying the state by {type(factor).__name__} {factor!r}")
        return Symbol({atom: value * coefficient for atom, coefficient in self.terms.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Symbol:
        return self * (1.0 / divisor)

    def __neg__(self) -> Symbol:
        return self * -1.0

    def __sub__(self, other: Any) -> Symbol:
        return self + (-other)

    def __rsub__(self, other: Any) -> Symbol:
        return -self + other

    def __rtruediv__(self, other: Any) -> NoReturn:
        _refuse("dividing by the state")

    def __pow__(self, power: Any) -> NoReturn:
        _refuse(f"the power {power!r} of the state")

    def __abs__(self) -> NoReturn:
        _refuse("the absolute value of the state")

    def __getitem__(self, index: Any) -> NoReturn:
        _refuse("indexing the state")

    def __lt__(self, other: Any) -> NoReturn:
        _refuse("comparing the state")

    __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __lt__
    __hash__ = object.__hash__

    def __float__(self) -> NoReturn:
        _refuse("using the state as a number")

    __bool__ = __float__

    def __getattr__(self, name: str) -> NoReturn:
        # AttributeError for the protocols that Python probes by itself, NotLinearError for what a solver asks for.
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"the state's {name!r}")


def _refuse(what: str) -> NoReturn:
    raise NotLinearError(
        f"{what} is not a linear combination of states, model outputs and noise, so it cannot be tabulated"
    )


@dataclass
class _Evaluation:
    """An evaluation as it is traced: which outputs are used as which prediction types, and their atoms."""

    x: int
    point: Point
    views: dict[tuple[str, str], int] = field(default_factory=dict)


class Tracer:
    """Records what a solver function asks for; :meth:`instructions` is the straight-line program."""

    def __init__(self) -> None:
        self._program: list[Lin | Draw | Step | _Evaluation] = []
        self._atoms = 1  # atom 0 is the initial state
        self.x = Symbol({0: 1.0})

    def predict(self, x: Symbol, t: Point) -> Views:
        evaluation = _Evaluation(self._whole(x), t)
        self._program.append(evaluation)

        def get(output: str, kind: str) -> Symbol:
            if (output, kind) not in evaluation.views:
                evaluation.views[output, kind] = self._new()
            return Symbol({evaluation.views[output, kind]: 1.0})

        return Views(get)

    def noise(self) -> Symbol:
        atom = self._new()
        self._program.append(Draw(atom))
        return Symbol({atom: 1.0})

    def step(self, x: Symbol, t: Point) -> Symbol:
        register, out = self._whole(x), self._new()
        self._program.append(Step(out, register, t.t))
        return Symbol({out: 1.0})

    def _new(self) -> int:
        self._atoms += 1
        return self._atoms - 1

    def _whole(self, x: Symbol) -> int:
        """The atom that is this combination, computed now if it is not one yet."""
        if not isinstance(x, Symbol):
            _refuse(f"the value {x!r}")
        terms = tuple((atom, coefficient) for atom, coefficient in x.terms.items() if coefficient != 0)
        if len(terms) == 1 and terms[0][1] == 1.0:
            return terms[0][0]
        out = self._new()
        self._program.append(Lin(out, terms))
        x.terms = {out: 1.0}  # what is made of x from now on needs only the new register
        return out

    def instructions(self, prediction: str) -> list[Instruction]:
        """The program for a model of the given prediction type, views folded into coefficients or stored."""
        return renumbered(_Lowering(self._program, prediction, self._new).instructions())


class _Lowering:
    """Expresses every view by the model's own output.

    A view is a x + b output. It is *folded* into the combinations that use it where that keeps x no longer than it is
    needed anyway, or not past the next evaluation; otherwise (a history) it is *stored*: computed once, so that neither
    x nor the output has to be kept for it.
    """

    def __init__(self, program: list[Lin | Draw | Step | _Evaluation], prediction: str, new: Callable[[], int]):
        self.program, self.prediction, self.new = program, predictions.check(prediction), new
        self.uses: dict[int, list[int]] = {}
        self.whole: set[int] = set()  # atoms that some instruction needs as one tensor
        for index, instruction in enumerate(program):
            for atom in _operands(instruction):
                self.uses.setdefault(atom, []).append(index)
            if not isinstance(instruction, Lin):
                self.whole.update(_operands(instruction))
        self.folded: dict[int, dict[int, float]] = {}

    def instructions(self) -> list[Instruction]:
        result: list[Instruction] = []
        for index, instruction in enumerate(self.program):
            if isinstance(instruction, _Evaluation):
                result.extend(self._evaluation(index, instruction))
            elif isinstance(instruction, Lin):
                result.append(Lin(instruction.out, self._expand(instruction.terms)))
            else:
                result.append(instruction)
        return result

    def _expand(self, terms: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        expanded: dict[int, float] = {}
        for atom, coefficient in terms:
            for register, factor in self.folded.get(atom, {atom: 1.0}).items():
                expanded[register] = expanded.get(register, 0.0) + coefficient * factor
        return tuple((register, coefficient) for register, coefficient in expanded.items() if coefficient != 0)

    def _evaluation(self, index: int, evaluation: _Evaluation) -> list[Instruction]:
        point = evaluation.point
        if not predictions.defined(self.prediction, point.alpha, point.sigma):
            raise ValueError(
                f"a model that predicts {self.prediction!r} says nothing about x0 at t = {point.t}, where α = "
                f"{point.alpha:g} and σ = {point.sigma:g}; start later, or use a sample, v_prediction or flow model"
            )
        outputs: dict[str, int] = {}
        stored: list[Instruction] = []
        for (output, kind), atom in evaluation.views.items():
            a, b = predictions.convert(self.prediction, kind, point.alpha, point.sigma)
            if output not in outputs:
                # The view that is the output itself needs no register of its own.
                outputs[output] = evaluation.views.get((output, self.prediction)) or self.new()
            if outputs[output] == atom:
                continue
            terms = {evaluation.x: a, outputs[output]: b}
            if self._fold(index, evaluation.x, atom):
                self.folded[atom] = terms
            else:
                stored.append(Lin(atom, tuple((register, value) for register, value in terms.items() if value != 0)))
        outputs.setdefault("model", self.new())
        return [Eval(outputs, evaluation.x, point.t, point.alpha, point.sigma), *stored]

    def _fold(self, index: int, x: int, atom: int) -> bool:
        if atom in self.whole:
            return False
        last = max(self.uses.get(atom, [index]))
        kept = max(self.uses[x])
        following = (i for i in range(index + 1, len(self.program)) if isinstance(self.program[i], _Evaluation))
        return last <= kept or last < next(following, len(self.program))


def _operands(instruction: Lin | Draw | Step | _Evaluation) -> list[int]:
    if isinstance(instruction, Lin):
        return [atom for atom, _ in instruction.terms]
    return [] if isinstance(instruction, Draw) else [instruction.x]


def renumbered(program: Sequence[Instruction], first: int = 0) -> list[Instruction]:
    """The same program with registers numbered in the order of writing, ``first`` being the initial state."""
    number = {first: 0}
    for instruction in program:
        for register in writes(instruction):
            number[register] = len(number)

    def renamed(instruction: Instruction) -> Instruction:
        if isinstance(instruction, Lin):
            return Lin(
                number[instruction.out], tuple((number[register], value) for register, value in instruction.terms)
            )
        if isinstance(instruction, Eval):
            outputs = {name: number[register] for name, register in instruction.outputs.items()}
            return replace(instruction, outputs=outputs, x=number[instruction.x])
        if isinstance(instruction, Draw):
            return Draw(number[instruction.out])
        return replace(instruction, out=number[instruction.out], x=number[instruction.x])

    return [renamed(instruction) for instruction in program]
