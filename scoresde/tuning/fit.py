"""Levenberg–Marquardt on the numbers of a plan, by forward passes alone.

What is lowered is the logarithm of the root mean square distance of a plan's samples to the converged ones, averaged
over the sets of trajectories: a step of 10 % counts the same at every size of the error and for every set. A sample
whose error is above a quantile counts as one at that quantile, since few samples near the border of two basins would
otherwise be all that is fitted; what is lowered is the mean of two such logarithms, of a high quantile and a low one.
A column of the Jacobian is the difference of two runs in which one number is moved a little; a run begins at the step
that the number first changes. Between two Jacobians come steps by a Jacobian that is mended by what the step before
changed, of rank one, and costs nothing.

Least squares draws samples towards their mean. What is lowered may so have a second part, that the samples vary as the
converged ones x* do along the leading principal directions u_k of these: half the mean over k of
(Var⟨x, u_k⟩/Var⟨x*, u_k⟩ − 1)², times a weight; the same runs give its Jacobian.

Sources: Levenberg 1944 and Marquardt 1963; Jacobians mended: Broyden 1965; weights that cap a residual: Huber 1964.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoresde.process import Process
from scoresde.tuning.trajectories import Prefix, Trajectories
from solvers.coefficients.fitted import Numbers, adams

Array, Mask = NDArray[np.float64], NDArray[np.bool_]
ABOVE = 1e-3  # of a whole time: more than float32 rounds off
NARROWEST = 1e-3  # distance of neighbouring levels in log σ/α
QUANTILES = (0.97, 0.6)  # that both the root mean square and the median fall
TURNS, OLD_TURNS = 8, 2  # dampings that are tried for a step, with a Jacobian that is new or mended
OLDEST = 4  # steps by a Jacobian after its own
ROOM = 0.1  # share of its change for which a level must have room to take part
DIRECTIONS = 8  # along which samples are to vary as the converged ones do


@dataclass(frozen=True)
class Number:
    """One of the numbers of a plan: the logarithm of a level of a state or of that told at first, an offset, or a
    coefficient of the history."""

    kind: str
    step: int
    back: int = 0

    @property
    def since(self) -> int:
        """The step whose state, or what the network says there, is the first to change."""
        return self.step if self.kind != "history" else self.step + 1


def free(count: int, kinds: Sequence[str], back: int) -> list[Number]:
    """The numbers of those kinds in a plan of ``count`` evaluations; ``back`` differences of history."""
    found = [Number("told", 0)] if "told" in kinds else []
    found += [Number(kind, step) for kind in ("level", "offset") if kind in kinds for step in range(1, count)]
    if "history" in kinds:
        found += [Number("history", step, k) for step in range(1, count) for k in range(min(step, back))]
    return found


def moved(numbers: Numbers, which: Sequence[Number], by: Sequence[float] | Array) -> Numbers:
    """With some of them moved; levels by factors e^by.

    Raises:
        ValueError: levels that do not fall any more.
    """
    levels, offsets = list(numbers.levels), list(numbers.offsets or (0.0,) * len(numbers))
    history, told = [list(row) for row in numbers.history], numbers.told
    for number, change in zip(which, by, strict=True):
        if number.kind == "told":
            told = told and told * math.exp(change)
        elif number.kind == "level":
            levels[number.step] *= math.exp(change)
        elif number.kind == "offset":
            offsets[number.step] += float(change)
        else:
            row = history[number.step]
            row += [0.0] * (number.back + 1 - len(row))
            row[number.back] += float(change)
    kept = tuple(offsets) if any(offsets) else ()
    return Numbers(tuple(map(float, levels)), tuple(map(tuple, history)), kept, told)


def on_whole_times(numbers: Numbers, process: Process) -> Numbers:
    """The numbers with all levels but the first, also those that the network is told, at whole times of a process.

    They are above a whole time by :data:`ABOVE`, so that it is found by cutting as by rounding. Numbers of more
    evaluations than there are whole times stay.
    """
    count, top = len(numbers), math.floor(process.t_max)
    if top < count - 1:
        return numbers
    levels, offsets = [numbers.levels[0]], [0.0]
    for step in range(1, count):
        level = numbers.levels[step]
        top = min(max(_whole(level, process), count - 1 - step), top - 1)
        levels.append(_level(top, process))
        asked = _whole(level * math.exp(numbers.offset(step)), process) if numbers.offset(step) else top
        offsets.append(math.log(_level(asked, process) / levels[-1]))
    told = numbers.told and _level(_whole(numbers.told, process), process)
    return Numbers(tuple(levels), numbers.history, tuple(offsets) if any(offsets) else (), told)


def _whole(level: float, process: Process) -> int:
    return min(max(round(process.time(-math.log(level))), 0), math.floor(process.t_max) - 1)


def _level(index: int, process: Process) -> float:
    return math.exp(-process.half_log_snr(index + ABOVE))


@dataclass(frozen=True)
class Fitted:
    """Numbers, and what is lowered, at them."""

    numbers: Numbers
    loss: float


def loss(sets: Sequence[Trajectories], numbers: Numbers, quantiles: Sequence[float] = QUANTILES) -> float:
    """Mean over sets and quantiles of log √(mean of the squared errors, none above their quantile)."""
    return loss_of(sets, [each.follow(numbers) for each in sets], quantiles)


def loss_of(sets: Sequence[Trajectories], samples: Sequence[Tensor], quantiles: Sequence[float]) -> float:
    """:func:`loss` of samples however they were made; infinite where one is not finite."""
    return _weighed(sets, samples, quantiles)[0]


def _weighed(
    sets: Sequence[Trajectories], samples: Sequence[Tensor], quantiles: Sequence[float]
) -> tuple[float, list[Tensor]]:
    """The loss, and what the square of each sample's error counts in its slope."""
    total, weights = 0.0, list[Tensor]()
    for each, found in zip(sets, samples, strict=True):
        squares = each.errors(found).square()
        if not bool(torch.isfinite(squares).all()):
            return math.inf, []
        weight = torch.zeros_like(squares)
        for quantile in quantiles:
            cut, mean = capped(squares, quantile)
            total += 0.5 * math.log(float(mean)) / len(sets) / len(quantiles)
            weight += cut / squares.clamp(min=1e-300) / mean
        weights.append(weight / (len(squares) * len(sets) * len(quantiles)))
    return total, weights


def capped(squares: Tensor, quantile: float) -> tuple[Tensor, Tensor]:
    """Squares of errors, none above their quantile, and their mean."""
    found = squares.clamp(max=squares.quantile(quantile))
    return found, found.mean().clamp(min=1e-300)


class Variances:
    """√(μ/K) (Var⟨x, u_k⟩/Var⟨x*, u_k⟩ − 1) along the K leading principal directions of one set's ends; slopes."""

    def __init__(self, ends: Tensor, weight: float):
        centred = ends.flatten(1).double()
        centred = centred - centred.mean(0)
        count = min(DIRECTIONS, len(centred) - 1, centred.shape[1])
        _, lengths, rows = torch.linalg.svd(centred, full_matrices=False)
        self._directions = rows[:count].T
        self._scale = math.sqrt(weight / count) * len(centred) / lengths[:count].square().clamp(min=1e-300)
        self._bias = math.sqrt(weight / count)

    def _along(self, states: Tensor) -> Tensor:
        found = states.flatten(1).double() @ self._directions
        return found - found.mean(0)

    def rows(self, samples: Tensor) -> Array:
        return (self._scale * self._along(samples).square().mean(0) - self._bias).cpu().numpy()

    def slopes(self, samples: Tensor, column: Tensor) -> Array:
        """By the number whose change moves the samples by a column."""
        return (2 * self._scale * (self._along(samples) * self._along(column)).mean(0)).cpu().numpy()


@dataclass
class State:
    """A plan under way, what its runs left behind, and what is lowered."""

    numbers: Numbers
    prefixes: list[Prefix]
    weights: list[Tensor]
    value: float

    @classmethod
    def at(
        cls,
        sets: Sequence[Trajectories],
        numbers: Numbers,
        quantiles: Sequence[float],
        vary: Sequence[Variances] = (),
    ) -> State:
        prefixes: list[Prefix] = [[] for _ in sets]
        samples = [each.follow(numbers, prefix) for each, prefix in zip(sets, prefixes, strict=True)]
        for prefix, found in zip(prefixes, samples, strict=True):
            prefix.append((found, ()))  # the samples themselves stand at the end
        value, weights = _weighed(sets, samples, quantiles)
        if math.isfinite(value):
            for own, found in zip(vary, samples, strict=False):
                value += 0.5 * float(np.square(own.rows(found)).sum()) / len(sets)
        return cls(numbers, prefixes, weights, value)

    def samples(self, index: int) -> Tensor:
        """Of one of the sets."""
        return self.prefixes[index][-1][0]


def levenberg_marquardt(
    sets: Sequence[Trajectories],
    start: Numbers,
    which: Sequence[Number],
    *,
    iterations: int,
    quantiles: Sequence[float] = QUANTILES,
    ridge: float = 1e-4,
    enough: float = 2e-4,
    variances: float = 0.0,
) -> Fitted:
    """Lower :func:`loss` from a start.

    Args:
        sets: trajectories with their ends.
        start: numbers to begin with.
        which: those that may move.
        iterations: at most so many Jacobians.
        quantiles: of errors, above each of which they count no more in a part of what is lowered.
        ridge: what half the square of a coefficient's distance from its start adds to the loss.
        enough: the iteration ends where a step by a new Jacobian lowers the loss by less.
        variances: weight of the second part, of the samples' variances along principal directions of the ends.
    """
    vary = [Variances(each.known_ends, variances) for each in sets] if variances else []
    best = State.at(sets, start, quantiles, vary)
    if not which or not math.isfinite(best.value):
        return Fitted(start, best.value)
    tied = np.array([0.0 if number.kind in ("level", "told") else ridge for number in which])
    damping, gone, least = 1e-2, np.zeros(len(which)), min(each.last for each in sets)
    steps = [spacing(each, start, prefix) for each, prefix in zip(sets, best.prefixes, strict=True)]
    jacobians, made, age = list[Tensor](), 0, 0
    while made < iterations or age:
        if age == 0:
            jacobians = [
                jacobian(each, best.numbers, which, prefix, step)
                for each, prefix, step in zip(sets, best.prefixes, steps, strict=True)
            ]
            made += 1
        normal, slope = np.diag(tied), tied * gone
        for index, each in enumerate(sets):
            own = vary[index] if vary else None
            residual = best.samples(index) - each.known_ends
            squared, along = normal_matrix(jacobians[index], residual, best.weights[index])
            if own is not None:
                rows = np.stack([own.slopes(best.samples(index), moves) for moves in jacobians[index]])
                squared = squared + rows @ rows.T / len(sets)
                along = along + rows @ own.rows(best.samples(index)) / len(sets)
            normal, slope = normal + squared, slope + along
        before, taken, gained, scale = best, gone, 0.0, np.diag(normal) + 1e-9
        for _ in range(OLD_TURNS if age else TURNS):
            damped = normal + damping * np.diag(scale)
            damping *= 5
            change = with_room(best.numbers, which, least, partial(_solved, damped, slope))
            if (found := as_far_as(best.numbers, which, change, least)) is None:
                continue
            numbers, taken = found
            tried = State.at(sets, numbers, quantiles, vary)
            gain = best.value - tried.value + 0.5 * float(tied @ (gone**2 - (gone + taken) ** 2))
            if gain > 0:
                best, gone, gained = tried, gone + taken, gain
                damping = max(damping / 25, 1e-7)
                break
        if gained < enough and age == 0:
            break
        age = 0 if gained < enough else (age + 1) % (OLDEST + 1)
        if age:
            for index, columns in enumerate(jacobians):
                _mend(columns, taken, scale, best.samples(index) - before.samples(index))
    return Fitted(best.numbers, best.value)


def _solved(matrix: Array, slope: Array, room: Mask) -> Array:
    return np.asarray(-np.linalg.solve(matrix[np.ix_(room, room)], slope[room]), dtype=np.float64)


def _mend(columns: Tensor, taken: Array, scale: Array, change: Tensor) -> None:
    """The Jacobian nearest to another, in the metric of a scale, that says what a step changed."""
    step = torch.from_numpy(taken).to(columns)
    missed = change.flatten(1).double() - torch.einsum("k,kne->ne", step, columns)
    share = torch.from_numpy(scale * taken).to(columns) / float(scale @ taken**2)
    columns += share[:, None, None] * missed


def with_room(numbers: Numbers, which: Sequence[Number], least: float, solved: Callable[[Mask], Array]) -> Array:
    """A change of the numbers that have room for it; a level that touches the least or its neighbour stays there.

    Held back by one such level, a change of all of them would be cut to nothing. ``solved`` is the change of some
    numbers where the others stay.
    """
    room = np.ones(len(which), dtype=np.bool_)
    change = solved(room)
    while room.any() and np.isfinite(change).all():
        for index in np.flatnonzero(room).tolist():
            alone = as_far_as(numbers, [which[index]], change[[index]], least)
            room[index] = alone is not None and abs(alone[1][0]) >= ROOM * abs(change[index])
        found = np.zeros(len(which))
        found[room] = solved(room)
        if (found == change).all():
            break
        change = found
    return change


def as_far_as(numbers: Numbers, which: Sequence[Number], change: Array, least: float) -> tuple[Numbers, Array] | None:
    """The numbers after as much of a change as keeps levels apart and known, and that part; None for none of it."""
    for halvings in range(10):
        taken = change * 0.5**halvings
        if (found := _moved(numbers, which, taken, least)) is not None:
            return found, taken
    return None


def _moved(numbers: Numbers, which: Sequence[Number], change: Array, least: float) -> Numbers | None:
    """The numbers after a change; None where that brings levels too near to each other, or below the least."""
    try:
        found = moved(numbers, which, change)
    except (ValueError, OverflowError):
        return None
    logs = np.log([level for level in found.levels if level < math.inf])
    return found if (np.diff(logs) < -NARROWEST).all() and found.levels[-1] >= least * (1 - NARROWEST) else None


def jacobian(each: Trajectories, numbers: Numbers, which: Sequence[Number], prefix: Prefix, step: float) -> Tensor:
    """How the samples of one set move with each of some numbers, (numbers, samples, elements) in float64."""
    return torch.stack([column(each, numbers, number, prefix, step) for number in which])


def normal_matrix(columns: Tensor, residual: Tensor, weight: Tensor) -> tuple[Array, Array]:
    """JᵀWJ and JᵀWr of one set."""
    rooted = weight.sqrt().to(columns.device)[:, None]
    weighed = (columns * rooted).flatten(1)
    right = (residual.flatten(1).double() * rooted).flatten()
    return (weighed @ weighed.T).cpu().numpy(), (weighed @ right).cpu().numpy()


def column(each: Trajectories, numbers: Numbers, number: Number, prefix: Prefix, step: float) -> Tensor:
    """How the samples move with a number, (samples, elements) in float64; ``prefix`` ends with the samples."""

    def run(by: float) -> Tensor:
        tried, since = moved(numbers, [number], [by]), number.since
        return each.follow(tried, prefix if since else None, since)

    by = min(step, 0.4 * _room(numbers, number))
    central = step > 0.01
    apart = (run(by) - (run(-by) if central else prefix[-1][0])) / (2 * by if central else by)
    return apart.flatten(1).double()


def _room(numbers: Numbers, number: Number) -> float:
    """How far in its logarithm a level is from its neighbours; any other number has all the room there is."""
    if number.kind != "level":
        return math.inf
    near = numbers.levels[number.step - 1 : number.step + 2]
    return min(math.log(t / s) if t < math.inf else math.inf for t, s in itertools.pairwise(near))


def spacing(each: Trajectories, numbers: Numbers, prefix: Prefix) -> float:
    """How far numbers are moved for a column: so far that what rounding adds is a hundredth of the change.

    The noise of rounding is the second difference of runs that lie so close that nothing else is left of it.
    """
    base, level = prefix[-1][0].double(), Number("level", 1)
    tiny, small = 1e-6, min(1e-2, 0.4 * _room(numbers, level))

    def run(by: float) -> Tensor:
        return each.follow(moved(numbers, [level], [by]), prefix, since=1).double()

    noise = float((run(tiny) + run(-tiny) - 2 * base).square().mean().sqrt()) / math.sqrt(6)
    rate = float((run(-small) - base).square().mean().sqrt()) / small
    return min(max(100 * noise / max(rate, 1e-300), 1e-4), 0.1)


def inserted(
    sets: Sequence[Trajectories],
    numbers: Numbers,
    back: int,
    *,
    quantiles: Sequence[float] = QUANTILES,
    places: int = 3,
    trial: int = 1,
) -> Fitted:
    """The best start for one evaluation more: a level put in where a short fit likes it best.

    The coefficients of the others stay, or stay as far from those of exponential Adams methods as they were; the new
    step has Adams' own.

    Args:
        sets: trajectories with their ends.
        numbers: of the plan with one evaluation less.
        back: differences of history.
        quantiles: see :func:`levenberg_marquardt`.
        places: how many places are fitted.
        trial: iterations of each of these fits.
    """
    found: dict[int, Fitted] = {}
    least = min(each.last for each in sets)
    for place in range(1, len(numbers) + 1):
        for candidate in _candidates(numbers, place, back, least):
            value = loss(sets, candidate, quantiles)
            if place not in found or value < found[place].loss:
                found[place] = Fitted(candidate, value)
    best = sorted(found.values(), key=lambda each: each.loss)[:places]
    which = free(len(numbers) + 1, ("level", "history"), back)
    fits = (levenberg_marquardt(sets, each.numbers, which, iterations=trial, quantiles=quantiles) for each in best)
    return min(fits, key=lambda each: each.loss)


def _candidates(numbers: Numbers, place: int, back: int, least: float) -> list[Numbers]:
    levels = numbers.levels
    if place < len(levels) and math.log(levels[place - 1] / levels[place]) < 4 * NARROWEST:
        return []  # no room between two that all but meet
    if place == len(levels):
        new = max(levels[-1] / 3, math.sqrt(levels[-1] * least))
        if new > levels[-1] * (1 - NARROWEST):
            return []  # no room above the least level that the network knows
    elif place == 1:
        new = levels[1] * math.sqrt(min(levels[0] / levels[1], 8.0))
    else:
        new = math.sqrt(levels[place - 1] * levels[place])
    after = (*levels[:place], new, *levels[place:])
    back = max(back, *map(len, numbers.history))
    plain, fresh = adams(levels, back + 1), adams(after, back + 1)
    own = np.array([[*row, *[0.0] * (back - len(row))] for row in numbers.history])
    kept = np.insert(own, place, fresh[place], axis=0)
    relative = fresh + np.insert(own - plain, place, 0.0, axis=0)
    return [
        Numbers(after, tuple(tuple(map(float, row[:index])) for index, row in enumerate(rows)), told=numbers.told)
        for rows in (kept, relative)
    ]
