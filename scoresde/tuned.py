"""Solvers fitted to a model, in files: plans for several numbers of evaluations, and what they belong to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import solvers
from scoresde.files import digest_of, regular, replacing
from scoresde.process import Process
from scoresde.score import ScoreModel, models, networks
from scoresde.version import __version__
from solvers import Plan, PlannedSolver, Solver
from solvers.base import Hook, Noise, Predict
from solvers.coefficients.fitted import Numbers, follow
from solvers.grids import Grid
from solvers.plan.instructions import PlanError
from solvers.steps import Process as Levels
from solvers.steps import Times, check_times

NAME = "tuned"
FILE = "tuned.json"
FORMAT = "scoresde-tuned"
VERSION = 1
LARGEST = 2**24  # bytes
ROUNDED = 1e-6  # of noise levels on their way through times
SEEN = 64  # tensors of a network that its fingerprint looks at
HEADS = 8  # numbers of each
DECLARED: dict[str, Any] = {
    **{"name": NAME, "reference": "this project, docs/tuned.md", "order": None, "weak_order": None},
    **{"grid": NAME, "to_clean": True, "from_noise": True},
}
DIGITS = 3  # of σ*, which nothing depends on more finely, and which is read by people
ALIKE = 0.02  # of their size, by which these may differ: a network in 16 bits is the same network


@dataclass(frozen=True)
class Fixed:
    """A solver on a grid, by their names and options."""

    solver: str
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "quadratic"
    grid_options: Mapping[str, Any] = field(default_factory=dict)

    def made(self) -> tuple[PlannedSolver, Grid]:
        """The solver and the grid.

        Raises:
            ValueError: an unknown name, or a solver that has no plan, since it chooses its own steps.
        """
        solver = solvers.get(self.solver, **self.options)
        if not isinstance(solver, PlannedSolver):
            raise ValueError(f"{self.solver} has no plan for a number of evaluations")
        return solver, solvers.grids.get(self.grid, **self.grid_options)

    def plan(self, process: Levels, nfe: int, prediction: str) -> Plan:
        """With as many steps as evaluations: what is chosen from takes one a step.

        Raises:
            ValueError: the solver or the grid does not take so few steps, or the process not this prediction type.
        """
        solver, grid = self.made()
        return solver.plan(process, grid(process, nfe), prediction)

    def __str__(self) -> str:
        def told(name: str, options: Mapping[str, Any]) -> str:
            return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name

        return f"{told(self.solver, self.options)} on {told(self.grid, self.grid_options)}"


@dataclass(frozen=True)
class Member:
    """The plan for one number of evaluations.

    Attributes:
        numbers: that were fitted; None where the best fixed solver was not beaten.
        fixed: the best fixed solver.
        report: what both were judged to be; see :func:`scoresde.tune`.
    """

    numbers: Numbers | None
    fixed: Fixed
    report: Mapping[str, Any] = field(default_factory=dict)

    def times(self, process: Levels, nfe: int) -> list[float]:
        """Its grid on a process."""
        if self.numbers is None:
            return list(self.fixed.made()[1](process, nfe))
        levels = self.numbers.levels[1:]
        return [process.t_max, *(process.time(-math.log(level)) for level in levels), process.t_clean]

    def solver(self, process: Levels, times: Sequence[float], nfe: int) -> PlannedSolver | None:
        """What integrates over the last of its steps, on times that are these; None where they are not."""
        own = self.times(process, nfe)[-len(times) :]
        if len(own) < len(times) or not all(map(_equal, own, times)):
            return None
        if self.numbers is None:
            return self.fixed.made()[0]
        skipped = nfe + 1 - len(times)
        numbers = self.numbers
        options = {"history": numbers.history, "offsets": numbers.offsets, "told": numbers.told, "skipped": skipped}
        return PlannedSolver(follow, options, **DECLARED)


def _equal(own: float, given: float) -> bool:
    return abs(own - given) <= ROUNDED * max(abs(own), abs(given))


class TunedSolver(PlannedSolver):
    """Plans that :func:`scoresde.tune` fitted to a model, one for each of some numbers of evaluations.

    For a number between two of its members it takes the lower one. Its grids are its own.

    Attributes:
        members: by the number of evaluations.
        path: of the file that they were read from; None for those that were not.
        version: of scoresde, that made them.
        about: what they belong to: the process, prediction type, guidance, shape and fingerprint of the model, and how
            they were fitted.
        foreign: whether it may serve other models than that.
    """

    def __init__(self, members: Mapping[int, Member], about: Mapping[str, Any], *, foreign: bool = False):
        super().__init__(follow, {}, **DECLARED)
        if not members:
            raise ValueError("a tuned solver needs a plan for one number of evaluations at least")
        self.members, self.about, self.foreign = dict(sorted(members.items())), dict(about), foreign
        self.path: str | None = None
        self.version = __version__

    def __repr__(self) -> str:
        return f"tuned(nfe={', '.join(map(str, self.members))})"

    @property
    def recommended(self) -> Grid:
        """Its own grid: of ``steps`` steps, or of as many as the next lower member has."""
        return Grid(NAME, {}, self._place, self._place)

    def _place(self, process: Levels, steps: int) -> Any:
        fitting = [count for count in self.members if count <= steps]
        if not fitting:
            raise ValueError(
                f"tuned for {', '.join(map(str, self.members))} evaluations: there is no plan for {steps}; "
                f"scoresde.tune(model, nfe={steps}, …) makes one"
            )
        return self.members[fitting[-1]].times(process, fitting[-1])[:-1]

    def plan(self, process: Levels, grid: Times, prediction: str = "epsilon") -> Plan:
        """The plan whose grid this is, or ends with it.

        Raises:
            ValueError: no member has such a grid.
        """
        return self._on(process, grid).plan(process, grid, prediction)

    def run(
        self,
        process: Levels,
        times: Times,
        predict: Predict,
        x: Tensor,
        noise: Noise | None = None,
        *,
        prediction: str = "epsilon",
        step: Hook | None = None,
    ) -> Tensor:
        return self._on(process, times).run(process, times, predict, x, noise, prediction=prediction, step=step)

    def _on(self, process: Levels, grid: Times) -> PlannedSolver:
        times = check_times(process, grid)
        self.check_process(process)
        for nfe, member in self.members.items():
            if (found := member.solver(process, times, nfe)) is not None:
                return found
        raise ValueError(
            "a tuned solver has grids of its own, one for each of its numbers of evaluations "
            f"({', '.join(map(str, self.members))}): give nfe= and no grid"
        )

    def check_process(self, process: Levels) -> None:
        """Refuse a process that the plans were not fitted on.

        Raises:
            ValueError: its noise levels are others.
        """
        if self.foreign:
            return
        for t, lam in self.about.get("levels", ()):
            here = process.half_log_snr(t) if process.t_clean < t <= process.t_max else math.nan
            if not abs(here - lam) <= 1e-4 * max(1.0, abs(lam)) and here != lam:
                raise ValueError(
                    f"the solver was tuned on {self.about.get('process')}, and this is {process!r}: tune it anew, or "
                    "allow it with foreign=True"
                )

    def check_conventions(self, process: Levels, prediction: str) -> None:
        """Refuse the process or the prediction type of a network that the plans were not fitted to.

        Raises:
            ValueError: another process or prediction type; the message says which.
        """
        self.check_process(process)
        self._check("prediction", prediction, str.__eq__)

    def _check(self, name: str, here: str, fits: Callable[[str, str], bool]) -> None:
        there = self.about.get(name)
        if not self.foreign and there is not None and not fits(here, there):
            raise ValueError(
                f"the solver was tuned for the {name} {there!r}, and this model has {here!r}: tune it anew, or "
                "allow it with foreign=True"
            )

    def check_model(self, model: ScoreModel) -> None:
        """Refuse a model that the plans were not fitted to.

        Raises:
            ValueError: another process, prediction type, guidance or network; the message says which. Guidance tuned
                over a range of scales is the same at any scale within it.
        """
        if self.foreign:
            return
        self.check_conventions(model.process, model.prediction)
        self._check("guidance", model.guidance, guided_within)
        if not alike(fingerprint(model), self.about.get("fingerprint", [])):
            raise ValueError("the solver was tuned to another network: tune it anew, or allow it with foreign=True")

    def save(self, path: str | Path) -> None:
        """Write the file; floats are kept exactly."""
        with replacing(path) as temporary:
            temporary.write_text(self._content() + "\n", encoding="utf-8")

    def _content(self) -> str:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "scoresde": self.version,
            **self.about,
            "members": {str(nfe): written(member) for nfe, member in self.members.items()},
        }
        return json.dumps(content, indent=1)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it is, in hexadecimal digits."""
        return digest_of([self._content()])

    @classmethod
    def load(cls, path: str | Path, *, foreign: bool = False) -> TunedSolver:
        """Read a file that :meth:`save` wrote.

        Args:
            path: of the file.
            foreign: let it serve other models than the one it was fitted to.

        Raises:
            FileNotFoundError: there is none.
            PlanError: it is damaged, of another format or version, or holds no valid plans.
        """
        path = Path(path).expanduser()
        try:
            if regular(path).stat().st_size > LARGEST:
                raise ValueError(f"it has more than {LARGEST:,} bytes")
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_constant)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no tuned solver at {str(path)!r}: scoresde tune makes one") from error
        except (ValueError, RecursionError) as error:
            raise PlanError(f"{str(path)!r} is no tuned solver: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise PlanError(f"{str(path)!r} is no tuned solver: its format is not {FORMAT!r}")
        if content.pop("version", None) != VERSION:
            raise PlanError(f"{str(path)!r} is a tuned solver of another version; this is version {VERSION}")
        content.pop("format")
        version = str(content.pop("scoresde", "unknown"))
        try:
            members = {int(nfe): read(member, int(nfe)) for nfe, member in dict(content.pop("members")).items()}
            content["levels"] = [(float(t), float(lam)) for t, lam in content.get("levels", ())]
            content["fingerprint"] = [[float(value) for value in head] for head in content.get("fingerprint", ())]
            found = cls(members, content, foreign=foreign)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(f"{str(path)!r} holds no valid plans: {error!r:.200}") from error
        found.path, found.version = str(path), version
        return found


def _constant(word: str) -> float:
    if word == "Infinity":  # the noise level where α = 0
        return math.inf
    if word == "-Infinity":
        return -math.inf
    raise ValueError(f"it holds {word}")


def written(member: Member) -> dict[str, Any]:
    """A member as JSON holds it."""
    numbers = None if member.numbers is None else asdict(member.numbers)
    return {"numbers": numbers, "fixed": asdict(member.fixed), "report": dict(member.report)}


def read(member: Mapping[str, Any], nfe: int) -> Member:
    """Inverse of :func:`written`.

    Raises:
        KeyError, TypeError, ValueError: it is no member, or none of so many evaluations.
    """
    numbers = None if member["numbers"] is None else read_numbers(member["numbers"])
    if numbers is not None and len(numbers) != nfe:
        raise ValueError(f"the plan for {nfe} evaluations has {len(numbers)}")
    fixed = Fixed(**member["fixed"])
    if numbers is None:
        fixed.made()  # it is what runs
    return Member(numbers, fixed, dict(member["report"]))


def read_numbers(content: Mapping[str, Any]) -> Numbers:
    """The numbers of a plan, as ``dataclasses.asdict`` has them."""
    history = tuple(tuple(map(float, row)) for row in content["history"])
    told = content.get("told")  # which files of before do not have
    offsets = tuple(map(float, content["offsets"]))
    return Numbers(tuple(map(float, content["levels"])), history, offsets, told and float(told))


def named(name: str, **options: Any) -> Solver:
    """A solver by its name and options: one of the register's, or ``tuned`` from its file.

    Raises:
        ValueError: unknown name, or ``tuned`` without ``path``.
        TypeError: an option that there is not.
    """
    if name != NAME:
        return solvers.get(name, **options)
    if not (path := options.pop("path", None)):
        raise ValueError("solver 'tuned' needs its file: give path=, or tune the model first (scoresde tune)")
    foreign = options.pop("foreign", False)
    if options:
        raise TypeError(f"solver 'tuned' has no option {next(iter(options))!r}; it has: path, foreign")
    return TunedSolver.load(path, foreign=foreign)


def of(model: ScoreModel, name: str, **options: Any) -> Solver:
    """A solver by its name, with what is known of a model: its σ* for ``auto``, the file beside it for ``tuned``.

    Raises:
        ValueError: unknown name, or no file lies beside the model.
        TypeError: an option that there is not.
    """
    file = next((each.tuned for each in models(model) if each.tuned), None)
    if name == "auto" and options.get("scale") is None:
        known = (each.noise_scale for each in models(model) if each.noise_scale is not None)
        scale = next(known, None) or (TunedSolver.load(file).about.get("noise_scale") if file else None)
        options = {**options, "scale": scale and float(f"{scale:.{DIGITS}g}")}
    if name == NAME and not options.get("path"):
        options["path"] = file
    return named(name, **options)


def levels(process: Process) -> list[tuple[float, float]]:
    """Some times of a process and λ there, by which it is recognised."""
    times = [process.t_min + (process.t_max - process.t_min) * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return [(t, process.half_log_snr(t)) for t in times]


def guided_within(here: str, there: str) -> bool:
    """Whether one guidance in words is another, with scales that are the same or within the ranges of the other's."""
    if _SCALES.sub("", here) != _SCALES.sub("", there):
        return False
    pairs = zip(_SCALES.findall(here), _SCALES.findall(there), strict=False)
    ends = (((float(a), float(b or a)), (float(c), float(d or c))) for (a, b), (c, d) in pairs)
    return all(low <= least and most <= high for (least, most), (low, high) in ends)


_NUMBER = r"([-+]?[\d.]+(?:e[-+]?\d+)?)"
_SCALES = re.compile(rf"(?<=scale=){_NUMBER}(?: to {_NUMBER})?")


def fingerprint(model: ScoreModel) -> list[list[float]]:
    """First numbers of some of the networks' tensors, by which a network is recognised whatever its precision.

    Of a model that has no network, but tensors of its own, as the exact ones have, of these.
    """
    held = (value for inner in models(model) for value in vars(inner).values() if isinstance(value, Tensor))
    parameters = (parameter for network in networks(model) for parameter in network.parameters())
    tensors = [tensor for tensor in (*parameters, *held) if tensor.is_floating_point()]
    step = max(1, math.ceil(len(tensors) / SEEN))
    return [[float(value) for value in _head(tensor)] for tensor in tensors[::step]]


def _head(parameter: Tensor) -> list[float]:
    values = parameter.detach()
    if getattr(values, "device_mesh", None) is not None:
        values = values.full_tensor()  # pyright: ignore[reportAttributeAccessIssue]  (sharded over devices)
    return values.flatten()[:HEADS].to("cpu", torch.float32).tolist()


def alike(here: Sequence[Sequence[float]], there: Sequence[Sequence[float]]) -> bool:
    """Whether two fingerprints are those of one network."""
    if [len(head) for head in here] != [len(head) for head in there]:
        return False
    pairs = (
        (a, b, max(map(abs, second), default=0.0))
        for first, second in zip(here, there, strict=True)
        for a, b in zip(first, second, strict=True)
    )
    return all(abs(a - b) <= ALIKE * size + 1e-12 for a, b, size in pairs)
