"""From a model to a solver that is fitted to it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde import conditions, tuned
from scoresde.files import digest_of, replacing
from scoresde.score import ScoreModel
from scoresde.tuned import Fixed, Member, TunedSolver
from scoresde.tuning import fixed, spread
from scoresde.tuning.fit import (
    QUANTILES,
    Fitted,
    Number,
    free,
    inserted,
    levenberg_marquardt,
    loss,
    loss_of,
    on_whole_times,
)
from scoresde.tuning.refine import refined
from scoresde.tuning.scale import measured, started
from scoresde.tuning.starts import programmed, rewritten, staged
from scoresde.tuning.teacher import Converged, converged
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers, for_all
from solvers.errors import known
from solvers.grids import universal

SEEDS = range(1_000_000, 1_000_128)
LEAST = 16  # seeds
SHARES = (0.5, 0.25)  # of the seeds, for fitting and for choosing; the rest judges
BACK = 2  # differences of history
FURTHEST = 7  # of them where all of it is fitted, which is all there is up to 8 evaluations
EFFORTS = {"quick": 8, "thorough": 20}  # Jacobians
GRADIENTS = 20  # steps by them, of a thorough tuning
PASSED = 2  # Jacobians of a plan that nobody asks for, with which the next one begins
STARTS = {"quick": 1, "thorough": 3}  # that are fitted to their end
TRIAL = 1  # Jacobian after which starts are compared
TEXTURE = "texture"  # the space of pictures
SPREAD = {"random": "spread", TEXTURE: TEXTURE}  # in reports
TARGETS = ("both", "error", "distribution")
BELOW = 2  # a fit begins with so many evaluations fewer
CHOOSING = QUANTILES  # of errors: by the mean alone a choice would follow single samples at a border of basins
SIGNIFICANT = 2.0  # standard errors by which a fitted plan must be better
BEYOND = 4  # samples in error by more than the fixed solver's worst: with tails alike one more is, once in 32 times
ASTRAY = 0.25  # of the standard deviation of the ends, within which a sample is where it belongs
ENDS, PROGRESS = "ends.npy", "progress.json"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Candidate:
    """A plan that may be chosen: numbers, or a fixed solver."""

    name: str
    numbers: Numbers | None
    fixed: Fixed

    def samples(self, trajectories: Trajectories, nfe: int) -> Tensor:
        if self.numbers is not None:
            return trajectories.follow(self.numbers)
        model = trajectories.model
        return trajectories.planned(self.fixed.plan(model.process, nfe, model.prediction))


def tune(
    model: ScoreModel,
    *,
    nfe: int | Sequence[int],
    shape: Sequence[int],
    seeds: Sequence[int] = SEEDS,
    cond: Mapping[str, Any] | None = None,
    effort: str = "quick",
    target: str = "both",
    folder: str | Path | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    progress: Say | None = None,
) -> TunedSolver:
    """Fit plans of some numbers of evaluations to a model; forward passes are all that it needs of it.

    The converged solutions of the seeds' starts are computed once. Half the seeds are fitted: levels and coefficients
    of a multistep plan (:mod:`solvers.coefficients.fitted`) by Levenberg–Marquardt, beginning with the plan of one
    evaluation less and a level put in. A quarter chooses among candidates. The rest judges: the fitted plan is taken
    where its error is below that of the best fixed solver by two standard errors of the paired difference; or where its
    mean is lower, and the logarithms of the errors are lower by two standard errors of theirs, since a few samples at
    the border of two basins make the mean uncertain, and of all trajectories no more than :data:`BEYOND` err more than
    the fixed solver's worst. Otherwise the fixed solver is.

    Args:
        model: the score model, guided or not.
        nfe: evaluations, or several numbers of them.
        shape: of one sample.
        seeds: at least 16; not those that the solver is to be judged on later.
        cond: what the network is given beside state and time, one row for each seed; scales of a model that is guided
            over a range are spread over it where they are not given.
        effort: ``quick``; or ``thorough``, which fits from more starts (solvers of several evaluations a step, a grid
            by dynamic programming), levels of their own for what the network is told, and all of the history, and then
            lowers the error by gradients, where the network has them.
        target: ``both`` takes the lowest error among the plans whose samples spread as well as those of the best fixed
            solver, within the interval of that comparison, in random features and, of pictures, in texture
            (:mod:`scoresde.tuning.spread`); ``error`` the lowest error; ``distribution`` the least Fréchet distance
            in texture, or in random features of what is no picture.
        folder: keeps what was done, so that a run that was stopped goes on; members of earlier calls with other ``nfe``
            are in the solver too.
        batch_size: how many states one evaluation takes at most.
        dtype: of the state, float32 or float64.
        device: where the state lives; None is that of the network.
        progress: is told a line after each stage.

    Returns:
        The solver, whose ``members[n].report`` has for ``fixed`` and the plan that was taken (``taken``) the mean, root
        mean square and median over the judging samples of their errors, each the root mean square distance per element
        from the converged sample; the paired ``difference`` of the means, and ``log_ratio``, that of the logarithms,
        each with its standard error; ``spread`` and, of pictures, ``texture``, the Fréchet distances to the converged
        samples in these spaces, and ``variance``, the total variance over that of the converged samples, which no
        choice looks at; ``lost``, the places in ``samples``, which has all errors, of those that ended in another
        basin: nearer to the converged end of another judging sample than to their own, and farther from their own than
        a quarter of the standard deviation of these ends, per element. Where data have separate modes, these are in
        another one; within a mode the second condition leaves out those that merely change places with a near
        neighbour.

    Raises:
        ValueError: seeds, evaluations, effort or target out of range; a folder of another tuning.
        NotConvergedError: the probability-flow ODE of this model does not come to a converged solution.

    Source: this project, docs/tuned.md; relatives are GITS (Chen et al. 2024), LD3 (Tong et al. 2024), S4S (Frankel et
    al. 2025) and GAS (arXiv 2510.17699).
    """
    counts = sorted({int(count) for count in ([nfe] if isinstance(nfe, int) else nfe)})
    if not counts or counts[0] < 1:
        raise ValueError(f"nfe must be one or more numbers of evaluations of at least 1, got {nfe}")
    own = [int(seed) for seed in seeds]
    if len(own) < LEAST or len(set(own)) < len(own):
        raise ValueError(f"tuning needs {LEAST} different seeds or more, got {len(set(own))}")
    known("effort", effort, tuple(EFFORTS))
    known("target", target, TARGETS)
    conditions.check(dict(cond or {}), len(own))
    say = progress or (lambda line: None)
    starts = started(model, own, shape, cond, batch_size, dtype, device)
    kept = Kept.of(folder, _about(model, shape, own, effort, target), cond)
    return from_starts(starts, counts, effort, target, kept, say)


def from_starts(
    starts: Trajectories, counts: Sequence[int], effort: str, target: str, kept: Kept, say: Say
) -> TunedSolver:
    """What :func:`tune` does once it has starts, whose ends it computes."""
    taught = _taught(starts, counts[-1], kept, say)
    whole = starts.asks_whole_times()
    spaces = spread.spaces(taught.trajectories.known_ends)
    return _Tuning(*_split(taught.trajectories), effort, target, kept, say, spaces, whole).run(counts)


def _about(model: ScoreModel, shape: Sequence[int], seeds: list[int], effort: str, target: str) -> dict[str, Any]:
    return {
        "process": repr(model.process),
        "levels": [list(level) for level in tuned.levels(model.process)],
        "prediction": model.prediction,
        "guidance": model.guidance,
        "fingerprint": tuned.fingerprint(model),
        "shape": list(shape),
        "seeds": seeds,
        "effort": effort,
        "target": target,
    }


def _taught(starts: Trajectories, most: int, kept: Kept, say: Say) -> Converged:
    """The starts with their converged ends, those of the folder where it has them."""
    if (ends := kept.ends()) is not None:
        ends = torch.from_numpy(ends).to(starts.noise)
        return Converged(replace(starts, ends=ends), **kept.content["teacher"])
    model = starts.model
    plain = starts.planned(Fixed("auto", {}, "auto").plan(model.process, max(most, 2), model.prediction))
    found = converged(starts, plain)
    say(f"converged solution: {found.steps} steps; half of them change the median sample by {found.median:.2g}")
    about = {"steps": found.steps, "median": found.median, "rms": found.rms}
    kept.keep_ends(found.trajectories.known_ends.cpu().numpy(), about)
    return found


def _split(trajectories: Trajectories) -> tuple[Trajectories, Trajectories, Trajectories]:
    """Three disjoint parts, mixed, so that classes which come in turn are in all of them."""
    count = len(trajectories)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    first, second = (math.ceil(share * count) for share in (SHARES[0], sum(SHARES)))
    parts = (order[:first], order[first:second], order[second:])
    fit, choose, judge = (trajectories.part(sorted(part)) for part in parts)
    return fit, choose, judge


@dataclass(frozen=True)
class _Tuning:
    """One tuning: its trajectories and what it has come to.

    Where the network is asked at whole times alone, levels are fitted as if D were linear between these, then placed at
    them, and the history is fitted to what the network then answers.
    """

    fit: Trajectories
    choose: Trajectories
    judge: Trajectories
    effort: str
    target: str
    kept: Kept
    say: Say
    spaces: Mapping[str, spread.Space]
    whole: bool = False

    def run(self, counts: Sequence[int]) -> TunedSolver:
        scale = self.kept.content.get("noise_scale") or measured(self.fit)
        self.kept.put("noise_scale", scale)
        before: Numbers | None = None
        for count in range(max(1, counts[0] - BELOW), counts[-1] + 1):
            asked = count in counts and str(count) not in self.kept.content["members"]
            best = self._best(count) if asked else None
            before = self._fitted(count, before, scale, best)
            if best is not None:
                self._judge(count, before, scale, best)
        members = {int(count): tuned.read(done, int(count)) for count, done in self.kept.content["members"].items()}
        about = {**self.kept.about, "noise_scale": scale, "teacher": self.kept.content["teacher"]}
        return TunedSolver(members, about)

    def _best(self, count: int) -> Fixed:
        """The best fixed solver on all trajectories but those that judge."""
        return fixed.best(replace(self.choose, **_joined(self.fit, self.choose)), count)[0]

    def _fitted(self, count: int, before: Numbers | None, scale: float, best: Fixed | None) -> Numbers | None:
        """The numbers of a plan, from those of one evaluation less and from plans that are known."""
        if count == 1:
            return None
        keys = ("fitted",) if best is not None else ("fitted", "passed")
        for key in keys:
            if (done := self.kept.content.get(key, {}).get(str(count))) is not None:
                return tuned.read_numbers(done)
        sets = [replace(self.fit, between=self.whole)]
        tried = self._starts(sets, count, before, scale, best)
        if self.effort == "thorough":  # what a start is worth shows after a few steps, the first of levels alone
            for kinds in (("level",), ("level", "history")):
                which = free(count, kinds, BACK)
                tried = [levenberg_marquardt(sets, each.numbers, which, iterations=TRIAL) for each in tried]
        tried.sort(key=lambda each: each.loss)
        kept = tried[: STARTS[self.effort]]
        iterations = EFFORTS[self.effort] if best is not None else PASSED
        fits = [self._lowered(each.numbers, ("level", "history"), BACK, iterations) for each in kept]
        found = min(fits, key=lambda each: loss([self.fit], each))
        key = "fitted" if best is not None else "passed"
        self.kept.put(key, {**self.kept.content.get(key, {}), str(count): asdict(found)})
        return found

    def _starts(
        self, sets: list[Trajectories], count: int, before: Numbers | None, scale: float, best: Fixed | None
    ) -> list[Fitted]:
        process = self.fit.model.process
        found = [inserted(sets, before, BACK).numbers] if before is not None else []
        if count in universal.tables():
            found.append(for_all(process, count, scale))
        if best is not None and (own := rewritten(best.plan(process, count, "sample"), process)) is not None:
            found.append(own)
        if self.effort == "thorough":
            found += [programmed(self.fit, count, BACK), *staged(process, count)]
        return [self._told(sets, each, scale) for each in found]

    def _told(self, sets: list[Trajectories], numbers: Numbers, scale: float) -> Fitted:
        """Less noise told at first, or as much as there is: what the network errs by at most noise decides."""
        told = numbers.told or universal.told(numbers.levels, scale)
        either = [replace(numbers, told=each) for each in dict.fromkeys((told, None))]
        return min((Fitted(each, loss(sets, each)) for each in either), key=lambda each: each.loss)

    def _judge(self, count: int, numbers: Numbers | None, scale: float, best: Fixed) -> None:
        """Choose a plan and judge it; both are kept."""
        plain = Candidate(str(best), None, best)
        chosen = self._chosen(count, plain, self._candidates(count, numbers, best, scale))
        member = self._judged(count, plain, chosen)
        self.kept.put("members", {**self.kept.content["members"], str(count): tuned.written(member)})

    def _candidates(self, count: int, numbers: Numbers | None, best: Fixed, scale: float) -> list[Candidate]:
        found = []
        if numbers is None:
            return found
        if count in universal.tables():
            plain = self._placed(for_all(self.fit.model.process, count, scale))
            found.append(Candidate("the plan for all models", plain, best))
        found.append(Candidate("fitted", numbers, best))
        if TEXTURE in self.spaces and not self._smooth(count, numbers, best):
            found += self._clean(count, numbers, best, scale)
        if self.effort == "thorough":
            most = EFFORTS[self.effort]
            told = self._lowered(numbers, ("level", "offset", "history"), BACK, most)
            found.append(Candidate("fitted with levels that the network is told", told, best))
            lower = min((numbers, told), key=lambda each: loss([self.fit], each))
            whole = self._lowered(lower, ("level", "offset", "history"), FURTHEST, most)
            found.append(Candidate("fitted with all of the history", whole, best))
            if (further := self._refined(whole)) is not None:
                found.append(Candidate("refined by gradients", further, best))
        return found

    def _smooth(self, count: int, numbers: Numbers, best: Fixed) -> bool:
        """Whether a fitted plan may be chosen as it is, so that no other end need be fitted."""
        if self.target != "both":
            return False
        own, base = (Candidate("", each, best).samples(self.choose, count) for each in (numbers, None))
        return bool(torch.isfinite(own).all()) and as_well(self.spaces, own, base, self.choose.known_ends)

    def _clean(self, count: int, numbers: Numbers, best: Fixed, scale: float) -> list[Candidate]:
        """Plans that end with D alone, as plain ground and edges of pictures ask for.

        Least squares asks the last D at too much noise and makes good for its blur with the D before it: in the mean,
        not on a ground where there is nothing but noise.
        """
        most, last = EFFORTS[self.effort], count - 1
        history = [Number("history", last, k) for k in range(BACK)]
        plain = self._lowered(_bare(numbers), ("level", "history"), BACK, most, history)
        found = [Candidate("fitted with a plain end", plain, best)]
        own = rewritten(best.plan(self.fit.model.process, count, "sample"), self.fit.model.process)
        if own is not None:
            own = self._told([self.fit], self._placed(own), scale).numbers
            found.append(Candidate(f"{best}, told of less noise at first", own, best))
        if count in universal.tables():
            own = _bare(self._placed(for_all(self.fit.model.process, count, scale)))
            found.append(Candidate("the plan for all models with a plain end", own, best))
        if own is not None:
            held = [*history, Number("level", last)]
            plain = self._lowered(_bare(own), ("level", "history"), BACK, most, held)
            found.append(Candidate("fitted but for a plain end", plain, best))
        return found

    def _lowered(
        self, start: Numbers, kinds: Sequence[str], back: int, iterations: int, held: Sequence[Number] = ()
    ) -> Numbers:
        """Numbers that err less; those that are held stay."""
        fit = replace(self.fit, between=self.whole)
        kinds = (*kinds, "told") if start.told else kinds

        def moving(kinds: Sequence[str]) -> list[Number]:
            return [number for number in free(len(start), kinds, back) if number not in held]

        found = levenberg_marquardt([fit], start, moving(kinds), iterations=iterations).numbers
        if not self.whole:
            return found
        placed, which = self._placed(found), moving(("history",))
        return levenberg_marquardt([self.fit], placed, which, iterations=iterations).numbers

    def _refined(self, start: Numbers) -> Numbers | None:
        """Lowered further by gradients; None where the network has none, or they lower nothing."""
        kinds = ("history",) if self.whole else ("level", "offset", "history", *(("told",) if start.told else ()))
        found = refined(self.fit, start, free(len(start), kinds, FURTHEST), steps=GRADIENTS)
        return None if found is None or found.numbers == start else found.numbers

    def _placed(self, numbers: Numbers) -> Numbers:
        """The numbers, at whole times where the network is asked at no others."""
        return on_whole_times(numbers, self.fit.model.process) if self.whole else numbers

    def _chosen(self, count: int, plain: Candidate, others: list[Candidate]) -> Candidate:
        """The best on the choosing trajectories, by the target."""
        ends = self.choose.known_ends
        base = plain.samples(self.choose, count)
        found = [(plain, base), *((each, each.samples(self.choose, count)) for each in others)]
        found = [(each, samples) for each, samples in found if bool(torch.isfinite(samples).all())] or found[:1]
        if self.target == "distribution":
            return min(found, key=lambda each: self._spread.distance(each[1], ends))[0]
        if self.target == "both":
            found = [each for each in found if each[0] is plain or as_well(self.spaces, each[1], base, ends)]
        return min(found, key=lambda each: loss_of([self.choose], [each[1]], CHOOSING))[0]

    @property
    def _spread(self) -> spread.Space:
        """In which the least distance is looked for."""
        return list(self.spaces.values())[-1]

    def _tails(self, count: int, plain: Candidate, chosen: Candidate) -> int:
        """How many of all trajectories the chosen plan errs on by more than the fixed solver on its worst."""
        parts = (self.fit, self.choose, self.judge)
        fixed, own = (torch.cat([part.errors(each.samples(part, count)) for part in parts]) for each in (plain, chosen))
        return int((own > fixed.max()).sum())

    def _judged(self, count: int, plain: Candidate, chosen: Candidate) -> Member:
        """The plan that is taken, by the judging trajectories alone."""
        ends = self.judge.known_ends
        samples = {"fixed": plain.samples(self.judge, count), "taken": chosen.samples(self.judge, count)}
        errors = {name: self.judge.errors(found) for name, found in samples.items()}
        apart = _mean(errors["fixed"] - errors["taken"])
        ratios = _log_ratio(errors["fixed"], errors["taken"])
        distances = {
            space: {name: own.distance(found, ends) for name, found in samples.items()}
            for space, own in self.spaces.items()
        }
        better = accepted(errors["fixed"], errors["taken"], lambda: self._tails(count, plain, chosen))
        if self.target == "distribution":
            farther, unsure = self._spread.farther(samples["taken"], samples["fixed"], ends)
            better = farther < -SIGNIFICANT * unsure
        if chosen.numbers is None or not better:
            chosen, samples["taken"], errors["taken"] = plain, samples["fixed"], errors["fixed"]
            distances = {space: {**found, "taken": found["fixed"]} for space, found in distances.items()}
        variance = {name: _variance(found) / max(_variance(ends), 1e-300) for name, found in samples.items()}
        report = {
            **{name: _summary(found) for name, found in errors.items()},
            "plan": chosen.name,
            "difference": list(apart),
            "log_ratio": list(ratios),
            "samples": {name: [float(value) for value in found] for name, found in errors.items()},
            **{SPREAD[space]: found for space, found in distances.items()},
            "variance": variance,
            "lost": {name: _lost(found, ends) for name, found in samples.items()},
        }
        self.say(
            f"{count} evaluations: error {report['taken']['mean']:.4f} by {chosen.name}; best fixed solver "
            f"{report['fixed']['mean']:.4f}, {plain.name}"
        )
        return Member(chosen.numbers, plain.fixed, report)


def accepted(fixed: Tensor, own: Tensor, beyond: Callable[[], int]) -> bool:
    """Whether a plan is taken in the place of a fixed solver, by the errors of both on the judging trajectories.

    Args:
        fixed, own: errors of the same starts.
        beyond: how many of all trajectories the plan errs on by more than the fixed solver on its worst.
    """
    (mean, error), (ratio, doubt) = _mean(fixed - own), _log_ratio(fixed, own)
    if mean > SIGNIFICANT * error:
        return True
    return mean > 0 and ratio > SIGNIFICANT * doubt and beyond() <= BEYOND


def _log_ratio(fixed: Tensor, own: Tensor) -> tuple[float, float]:
    """Mean of the paired difference of logarithms, and its standard error."""
    return _mean(fixed.clamp(min=1e-300).log() - own.clamp(min=1e-300).log())


def _joined(first: Trajectories, second: Trajectories) -> dict[str, Any]:
    cond = {key: conditions.joined(value, second.cond[key]) for key, value in first.cond.items()}
    return {
        "noise": torch.cat((first.noise, second.noise)),
        "ends": torch.cat((first.known_ends, second.known_ends)),
        "cond": cond,
    }


def as_well(spaces: Mapping[str, spread.Space], samples: Tensor, base: Tensor, ends: Tensor) -> bool:
    """Whether samples spread as well as those of a fixed solver, in every space."""
    found = (space.farther(samples, base, ends) for space in spaces.values())
    return all(farther <= SIGNIFICANT * doubt for farther, doubt in found)


def _bare(numbers: Numbers) -> Numbers:
    """Numbers whose last D has no history."""
    return replace(numbers, history=(*numbers.history[:-1], ()))


def _mean(values: Tensor) -> tuple[float, float]:
    """With its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def _variance(samples: Tensor) -> float:
    return float(samples.double().var(0).mean())


def _lost(samples: Tensor, ends: Tensor) -> list[int]:
    """Which samples ended in another basin than their converged ends; see :func:`tune`."""
    found, true = (states.flatten(1).double().cpu() for states in (samples, ends))
    distances = torch.cdist(found, true, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(true.shape[1])
    own = distances.diagonal().clone()
    other = distances.fill_diagonal_(math.inf).amin(1)
    kept = (own <= other) | (own <= ASTRAY * math.sqrt(_variance(true)))  # what is not finite is lost
    return (~kept).nonzero().flatten().tolist()


def _summary(errors: Tensor) -> dict[str, float]:
    return {
        "mean": float(errors.mean()),
        "rms": float(errors.square().mean().sqrt()),
        "median": float(errors.median()),
    }


class Kept:
    """What a folder keeps of a tuning under way; nothing where there is no folder."""

    def __init__(self, folder: Path | None, about: dict[str, Any], content: dict[str, Any]):
        self.folder, self.about, self.content = folder, about, content

    @classmethod
    def of(cls, folder: str | Path | None, about: dict[str, Any], cond: Mapping[str, Any] | None) -> Kept:
        """Raises ValueError where the folder holds another tuning."""
        key = digest_of([json.dumps(about), *conditions.described(dict(cond or {}))])
        fresh: dict[str, Any] = {"of": key, "fitted": {}, "members": {}}
        if folder is None:
            return cls(None, about, fresh)
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / PROGRESS).is_file():
            content = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            if content.get("of") != key:
                raise ValueError(
                    f"{str(folder)!r} holds another tuning (other seeds, shape, effort, target, condition or model): "
                    "choose another folder"
                )
            return cls(folder, about, content)
        return cls(folder, about, fresh)

    def put(self, name: str, value: Any) -> None:
        self.content[name] = value
        if self.folder is not None:
            with replacing(self.folder / PROGRESS) as temporary:
                temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")

    def ends(self) -> np.ndarray[Any, Any] | None:
        if self.folder is None or "teacher" not in self.content:
            return None
        return np.load(self.folder / ENDS, allow_pickle=False)

    def keep_ends(self, ends: np.ndarray[Any, Any], teacher: dict[str, Any]) -> None:
        if self.folder is not None:
            with replacing(self.folder / ENDS) as temporary:
                np.save(temporary, ends)
        self.put("teacher", teacher)
