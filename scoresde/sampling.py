"""From seeds to samples."""

from __future__ import annotations

import itertools
import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

import solvers
from scoresde import conditions, tuned
from scoresde.networks.checkpoint import Checkpoint
from scoresde.noise import Noise, begun_at, check_seed
from scoresde.process import Process
from scoresde.score import ScoreModel, models, networks, precision_of
from scoresde.tuned import TunedSolver
from solvers import Plan, PlannedSolver, Solver
from solvers.aliasing import Isolated
from solvers.arrays import has_float64, wide
from solvers.errors import StepsError
from solvers.grids import Grid
from solvers.plan.instructions import Eval
from solvers.steps import check_times

NETWORK = "network"  # as the dtype of a state: that of the network
Callback = Callable[[Tensor, float], "Tensor | None"]
GridLike = str | Grid | Sequence[float] | NDArray[np.float64] | Tensor


@dataclass(frozen=True)
class Result:
    """What :func:`sample` returns.

    Attributes:
        samples: the states at ``times[-1]``, decoded if ``decode`` was given; batch first.
        nfe: model evaluations that a sample took, counted as they happened; the largest count of any sample where they
            differ.
        seeds: the seed of each sample.
        times: the grid, or the two end times of an adaptive solver.
        batch_size: the size every batch was padded to; None if the request was run as it was.
        trajectory: with ``trajectory=True`` the states at ``trajectory_times`` (the initial one first), shape
            (times, batch, …), on the CPU; otherwise None.
        trajectory_times: times of the trajectory.
        evaluations: model evaluations of each sample; their sum is what was paid.
        guidance: what guided the model, in words; empty if nothing did. A guided evaluation counts one in ``nfe`` and
            ``evaluations``, however many networks it asks.
        network_calls: evaluations of networks that each sample took: more than ``evaluations`` under guidance.
        noise_from: λ = log(α/σ) of the noise level that keys the draws of a stochastic solver beside the seeds, so that
            the parts of one work never draw the same: that of ``x_init``. None where a run begins at full noise.
    """

    samples: Tensor
    nfe: int
    seeds: list[int]
    times: tuple[float, ...]
    batch_size: int | None
    trajectory: Tensor | None = None
    trajectory_times: tuple[float, ...] = ()
    evaluations: list[int] = field(default_factory=list)
    guidance: str = ""
    network_calls: list[int] = field(default_factory=list)
    noise_from: float | None = None

    def __repr__(self) -> str:
        first, last, shape = self.seeds[0], self.seeds[-1], tuple(self.samples.shape[1:])
        in_turn = len(self.seeds) > 1 and self.seeds == list(range(first, last + 1))
        seeds = f"seeds {first} to {last}" if in_turn else f"seed{'s' * (len(self.seeds) > 1)} {_listed(self.seeds)}"
        kind, device = str(self.samples.dtype).removeprefix("torch."), self.samples.device
        return f"Result({len(self.seeds)} of shape {shape}, {kind} on {device}, {self.nfe} NFE, {seeds})"


class NonFiniteError(FloatingPointError):
    """A trajectory left the finite numbers; the message names the evaluation and the time."""


def sample(
    model: ScoreModel | Checkpoint,
    solver: str | Solver | Plan = "dpmpp_2m",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    shape: Sequence[int] | None = None,
    x_init: Tensor | None = None,
    grid: GridLike | None = None,
    seeds: int | Sequence[int] | None = None,
    cond: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    callback: Callback | None = None,
    trajectory: bool = False,
    progress: bool | Callable[[float], object] = False,
) -> Result:
    """Integrate the reverse-time equation of a model from noise to samples: a :class:`Sampler`, run once.

    The first arguments (model, solver, steps, nfe, grid) are the sampler's, the others those of
    :meth:`Sampler.sample`. Of a checkpoint the shape need not be given beside a list of seeds.

    Raises:
        ValueError, TypeError: arguments that do not fit together; each message names the argument and its value. A
            network whose samples would not be those of its seeds: in training mode with dropout, or with batch
            normalisation that takes its statistics from the batch.
        StepsError: an adaptive solver does not come to its end for some seeds.
        NonFiniteError: a sample is not finite; the message names the evaluation, time and seeds that went wrong first.
    """
    sampler = Sampler(model, solver, steps=steps, nfe=nfe, grid=grid)
    return sampler.sample(
        shape=shape,
        x_init=x_init,
        seeds=seeds,
        cond=cond,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
        decode=decode,
        callback=callback,
        trajectory=trajectory,
        progress=progress,
    )


class Sampler:
    """A model and a solver on a grid, resolved once and run as often as wanted.

        sampler = Sampler(model, "dpmpp_2m", nfe=10)
        sampler.nfe, sampler.times, print(sampler.plan)
        result = sampler.sample(shape=(16, 1, 28, 28), seeds=0)

    Exactly one of ``steps``, ``nfe`` and given times; none of them for an adaptive solver, whose ``grid`` may be its
    two end times, nor for a Plan, which has its own.

    Args:
        model: the score model; its network is used where it lies, so move it to ``device`` yourself. Or a checkpoint of
            :func:`scoresde.models.load`: its grid, its ``decode`` and the shape of a state are then taken where none
            are given.
        solver: a name, a Solver (``solvers.get("ddim", eta=0.5)``) or a Plan. The name ``auto`` takes the model's σ*
            where that is known (``model.noise_scale``), ``tuned`` the file that lies beside the model.
        steps: intervals of the grid, the one to zero noise included.
        nfe: budget of model evaluations; the largest number of steps that fits is taken.
        grid: a name, a Grid, or decreasing times; None is the solver's recommended grid.

    Attributes:
        model: the score model.
        solver: the method; of a Plan its name.
        times: the grid, or the two end times of an adaptive solver.
        plan: the program that is run; None for a solver that is none.
        nfe: model evaluations of a sample; None where nobody knows before the run.

    Raises:
        ValueError, TypeError: arguments that do not fit together; each message names the argument and its value.
    """

    def __init__(
        self,
        model: ScoreModel | Checkpoint,
        solver: str | Solver | Plan = "dpmpp_2m",
        *,
        steps: int | None = None,
        nfe: int | None = None,
        grid: GridLike | None = None,
    ):
        self._checkpoint = model if isinstance(model, Checkpoint) else None
        if isinstance(model, Checkpoint):
            model = model.model
        if not isinstance(model, ScoreModel):
            raise TypeError(f"model must be a scoresde.ScoreModel or a Checkpoint, got {type(model).__name__}")
        self.model = model
        self.solver: Solver | str
        self.plan: Plan | None = None
        if isinstance(solver, Plan):
            if steps is not None or nfe is not None or grid is not None:
                raise ValueError("a plan has its own grid: give neither steps nor nfe nor grid with it")
            _check_plan(solver, model)
            self.solver, self.plan, self.times = solver.solver, solver, solver.times
        else:
            chosen = tuned.of(model, solver) if isinstance(solver, str) else solver
            if not isinstance(chosen, Solver):
                raise TypeError(f"solver must be a name, a Solver or a Plan, got {solver!r}")
            if isinstance(chosen, TunedSolver):
                chosen.check_model(model)
            if grid is None and self._checkpoint is not None:
                grid = grid_of(self._checkpoint, chosen)
            self.solver, self.times = chosen, _times(chosen, model.process, steps, nfe, grid)
            if isinstance(chosen, PlannedSolver):
                self.plan = chosen.plan(model.process, self.times, model.prediction)
        self.nfe = None if self.plan is None else self.plan.nfe

    def at(self, times: Sequence[float]) -> Sampler:
        """The same model and solver at other times.

        Raises:
            ValueError: times that are not legal, or a Plan, which has its own.
        """
        if not isinstance(self.solver, Solver):
            raise ValueError(f"a plan has its own times: give the solver {self.solver!r} in the place of its plan")
        return Sampler(self._checkpoint or self.model, self.solver, grid=times)

    def __repr__(self) -> str:
        budget = "steps of its own" if self.nfe is None else f"{len(self.times) - 1} steps, {self.nfe} NFE"
        return f"Sampler({self.solver}, {budget})"

    def sample(
        self,
        *,
        shape: Sequence[int] | None = None,
        x_init: Tensor | None = None,
        seeds: int | Sequence[int] | None = None,
        cond: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        callback: Callback | None = None,
        trajectory: bool = False,
        progress: bool | Callable[[float], object] = False,
    ) -> Result:
        """Integrate from noise to samples. Exactly one of ``shape`` and ``x_init``.

        Sample i depends on its seed (and its part of ``cond`` and ``x_init``) alone. The same bits for any request need
        the same ``batch_size``, because libraries round differently at different batch sizes; ``pf_ode`` with an
        adaptive method depends on the whole batch altogether. A solver in which every sample has its own steps takes
        batches apart as samples finish, so that they are not padded, and agrees to rounding.

        Args:
            shape: (batch, …) of the samples; the initial state is σ(grid[0]) times draw 0 of each seed. Of a checkpoint
                it need not be given beside a list of seeds.
            x_init: initial state at grid[0], batch first. Below full noise the draws of a seed are other ones at each
                noise level of the start, so that a work may be done in parts with the same seeds.
            seeds: first of consecutive seeds, or one per sample (repeats allowed); None takes fresh ones.
            cond: keyword arguments for the network; every tensor in it, nested too, has the batch first.
            batch_size: run in batches padded to this size (solvers with steps of each sample's own: of at most this
                size); None runs the request as one batch as it is.
            dtype: of the state, float32 (default) or float64; or ``"network"``, the network's own, where memory is
                short: in 16 bits each step rounds the state (docs/python.md has the cost).
            device: where the state lives; None is the device of ``x_init`` or of the network.
            decode: applied to the samples of each batch, such as an autoencoder's decoder; None is that of the
                checkpoint, if the model is one.
            callback: called as ``callback(x, t)`` after each step with a copy of the state; a tensor that it returns,
                or what it makes of x in place, takes the place of the state. An adaptive solver calls it once, at the
                end.
            trajectory: keep the state at every step; of an adaptive solver, whose samples have no times in common on
                the way, the first and the last.
            progress: show a progress bar; or a function that is told after each evaluation how many samples' worth of
                work it was (of a solver that chooses its own steps 0, and the whole batch when that is done).

        Raises:
            ValueError, TypeError: arguments that do not fit together; each message names the argument and its value. A
                network whose samples would not be those of its seeds: in training mode with dropout, or with batch
                normalisation that takes its statistics from the batch.
            StepsError: an adaptive solver does not come to its end for some seeds.
            NonFiniteError: a sample is not finite; the message names the evaluation, time and seeds that went wrong
                first.
        """
        model, loaded = self.model, self._checkpoint
        if loaded is not None:
            decode = loaded.decode if decode is None else decode
            if shape is None and x_init is None and isinstance(seeds, (Sequence, np.ndarray, Tensor)):
                shape = (len(seeds), *loaded.shape)
        dtype = _state_dtype(dtype, x_init, model)
        device = _device(device, model, x_init)
        if dtype == torch.float64 and not has_float64(device):
            raise ValueError(f"device = {str(device)!r} has no float64: take dtype = torch.float32")
        count, inner = _shape(shape, x_init)
        chosen = _seeds(seeds, count)
        if cond is not None and not isinstance(cond, Mapping):
            raise TypeError(f"cond must be a mapping from the network's arguments to values, got {type(cond).__name__}")
        conditions.check(cond, count)
        if batch_size is not None:
            _whole("batch_size", batch_size)
        runner, times = self._runner(), self.times
        _check_modes(model)
        _check_labels(model, cond or {})

        begun = 0 if x_init is None else begun_at(model.process, times[0])
        job = _Job(model, runner, times, inner, dtype, device, callback, trajectory, begun)
        size = count if batch_size is None else batch_size
        batches = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
        parts: list[_Part] = []
        tell = progress if callable(progress) else None
        decoder = Isolated("decode", ("samples",))
        total = len(batches) * runner.nfe if runner.nfe else None
        bar = tqdm(total=total, unit="NFE", disable=tell is not None or not progress)
        with bar, torch.no_grad():
            for batch in batches:
                # Padding repeats the last sample.
                padded = batch_size is not None and not runner.per_sample
                index = batch + [batch[-1]] * (size - len(batch)) if padded else batch
                worth = len(batch) / runner.nfe if runner.nfe else 0.0
                part = job.run(index, chosen, x_init, cond, partial(tell, worth) if tell else bar.update)
                if tell and not runner.nfe:
                    tell(len(batch))
                if decode is not None:
                    part.samples = decoder.call(decode, (part.samples,))
                parts.append(part.take(len(batch)))
        states = torch.cat([part.trajectory for part in parts], dim=1) if trajectory else None  # type: ignore[misc]
        return Result(
            samples=torch.cat([part.samples for part in parts]),
            nfe=max(max(part.evaluations) for part in parts),
            evaluations=[count for part in parts for count in part.evaluations],
            guidance=model.guidance,
            network_calls=[count for part in parts for count in part.network_calls],
            noise_from=model.process.half_log_snr(times[0]) if begun and runner.draws else None,
            seeds=chosen,
            times=times,
            batch_size=batch_size,
            trajectory=states,
            trajectory_times=tuple(parts[0].times) if trajectory else (),
        )

    def _runner(self) -> _Runner:
        if self.plan is not None:
            return _Runner(self.plan.run, self.plan.nfe, draws=self.plan.draws > 0)
        chosen, model = self.solver, self.model
        assert isinstance(chosen, Solver)

        def run(predict: Any, x: Tensor, noise: Any, step: Any) -> Tensor:
            return chosen.run(model.process, self.times, predict, x, noise, prediction=model.prediction, step=step)

        return _Runner(run, None, bool(chosen.adaptive), chosen.per_sample, bool(chosen.stochastic))


@dataclass
class _Part:
    samples: Tensor
    evaluations: list[int]
    network_calls: list[int]
    trajectory: Tensor | None
    times: list[float] = field(default_factory=list)

    def take(self, count: int) -> _Part:
        states = None if self.trajectory is None else self.trajectory[:, :count]
        return _Part(self.samples[:count], self.evaluations[:count], self.network_calls[:count], states, self.times)


@dataclass(frozen=True)
class _Runner:
    """A plan or a solver that runs by itself; ``nfe`` is None where nobody knows yet."""

    run: Callable[..., Tensor]
    nfe: int | None
    adaptive: bool = False
    per_sample: bool = False
    draws: bool = False


@dataclass(frozen=True)
class _Job:
    """Everything that is the same for all batches."""

    model: ScoreModel
    runner: _Runner
    times: tuple[float, ...]
    inner: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    callback: Callback | None
    keep: bool
    begun: int

    def run(
        self,
        index: list[int],
        seeds: list[int],
        x_init: Tensor | None,
        cond: Mapping[str, Any] | None,
        advance: Callable[[], Any],
    ) -> _Part:
        # Adaptive methods wait for the device at each step anyway, and would shrink their steps at a NaN for long.
        part = self._run(index, seeds, x_init, cond, advance, checked=self.runner.adaptive)
        if not bool(torch.isfinite(part.samples).all()):
            self._run(index, seeds, x_init, cond, lambda: None, checked=True)
            raise NonFiniteError(
                "samples are not finite, but were when the same seeds ran again: the network is not repeatable"
            )
        return part

    def _run(
        self,
        index: list[int],
        seeds: list[int],
        x_init: Tensor | None,
        cond: Mapping[str, Any] | None,
        advance: Callable[[], Any],
        checked: bool,
    ) -> _Part:
        noise = Noise([seeds[i] for i in index], self.inner, self.dtype, self.device, self.begun)
        if x_init is None:
            x = self.model.process.sigma(self.times[0]) * noise()
        else:
            x = x_init[index].to(self.dtype).to(self.device)
            noise.draw = 1  # draw 0 belongs to the initial state, used or not
        selected = conditions.select(dict(cond or {}), index, self.device)
        states, times = [x], [self.times[0]]
        # Of calls for some of the samples: evaluations of the model, and of the networks in it.
        counts, asked = torch.zeros(2, len(index), dtype=torch.int64, device=wide(self.device))
        calls, networks = 0, 0

        def predict(state: Tensor, t: Any, rows: Tensor | None = None) -> dict[str, Tensor]:
            nonlocal calls, networks
            calls += 1
            if rows is None:
                networks += int(self.model.network_calls(t))
            else:
                counts[rows] += 1
                asked[rows] += self.model.network_calls(t)
            given = selected
            if rows is not None and len(rows) < len(index):  # rows rise, so that all of them are the batch as it is
                given = conditions.select(selected, rows, self.device)
            outputs = self.model.outputs(state, t, **given)
            advance()
            if checked:
                found = (("the output of", output) for output in outputs.values())
                for what, tensor in (("the state given to", state), *found):
                    if not bool(torch.isfinite(tensor).all()):
                        bad = _bad(tensor)
                        where = t if rows is None else float(t[bad[0]])
                        wrong = bad if rows is None else rows[bad].tolist()
                        named = list(dict.fromkeys(seeds[index[i]] for i in wrong))[:8]
                        raise NonFiniteError(
                            f"{what} evaluation {calls} at t = {where:g} is not finite for seeds {named}"
                        )
            return outputs

        def step(state: Tensor, t: float) -> Tensor | None:
            shape, edited = state.shape, None if self.callback is None else self.callback(state, t)
            after = _edit(state if edited is None else edited, shape, x)
            if self.keep:
                states.append(after if self.callback is None else after.clone())
                times.append(t)
            if checked and not bool(torch.isfinite(after).all()):
                raise NonFiniteError(f"the state after evaluation {calls}, at t = {t:g}, is not finite")
            return after

        hook = step if self.callback is not None or self.keep or checked else None
        try:
            samples = self.runner.run(predict, x, noise, step=hook)
        except StepsError as error:
            named = list(dict.fromkeys(seeds[index[i]] for i in error.samples))
            raise StepsError(error.what, named, error.why, "seeds") from error
        kept = torch.stack([state.cpu() for state in states]) if self.keep else None
        each = self.runner.per_sample
        evaluations = counts.tolist() if each else [calls] * len(index)
        network_calls = asked.tolist() if each else [networks] * len(index)
        return _Part(samples, evaluations, network_calls, kept, times)


def _edit(state: Any, shape: torch.Size, x: Tensor) -> Tensor:
    """The state as a callback left it, in the dtype of x."""
    if not isinstance(state, Tensor):
        raise TypeError(f"the callback must return a tensor or None, got {type(state).__name__}")
    if state.shape != shape:
        raise ValueError(f"the callback returned shape {tuple(state.shape)} for a state of {tuple(shape)}")
    if not state.is_floating_point() or state.device != x.device:
        raise ValueError(
            f"the callback must return floating-point numbers on {x.device}, got {state.dtype} on {state.device}"
        )
    return state.to(x.dtype)


def _bad(tensor: Tensor) -> list[int]:
    return (~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)).nonzero().flatten().tolist()


def _times(
    chosen: Solver, process: Process, steps: int | None, nfe: int | None, grid: GridLike | None
) -> tuple[float, ...]:
    """The grid of a solver, of arguments as :class:`Sampler` takes them."""
    for name, value in (("steps", steps), ("nfe", nfe)):
        if value is not None:
            _whole(name, value)
    if chosen.adaptive:
        if steps is not None or nfe is not None or isinstance(grid, (str, Grid)):
            raise ValueError(f"{chosen} chooses its own steps: give neither steps nor nfe nor a grid's name")
        return check_times(process, (process.t_max, process.t_clean) if grid is None else grid)
    if grid is None or isinstance(grid, (str, Grid)):
        if (steps is None) == (nfe is None):
            raise ValueError(
                f"give exactly one of steps and nfe (got steps = {steps}, nfe = {nfe}), or the times as grid"
            )
        rule = grid if isinstance(grid, Grid) else chosen.recommended if grid is None else solvers.grids.get(grid)
        count = steps if steps is not None else fit_steps(chosen, process, rule, nfe or 0)
        times = check_times(process, rule(process, count))
        if len(times) - 1 < count:
            warnings.warn(f"{chosen}: {len(times) - 1} evaluations are taken, not {count}", stacklevel=3)
        return times
    if steps is not None or nfe is not None:
        raise ValueError(f"the grid is given as times: give neither steps ({steps}) nor nfe ({nfe})")
    return check_times(process, grid.tolist() if isinstance(grid, Tensor) else grid)


def fit_steps(solver: Solver, process: Process, rule: Grid, nfe: int) -> int:
    """The largest number of steps that takes at most ``nfe`` evaluations (which grow with the steps, at least by 1).

    Raises:
        ValueError: a single step takes more.
    """
    low, high, middle = 0, nfe, nfe  # most solvers take one evaluation a step
    while low < high:
        if solver.nfe(process, rule(process, middle)) <= nfe:
            low = middle
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    if low == 0:
        least = solver.nfe(process, rule(process, 1))
        raise ValueError(f"{solver} needs at least {least} evaluations, got nfe = {nfe}")
    return low


def _check_plan(plan: Plan, model: ScoreModel) -> None:
    if plan.prediction != model.prediction:
        raise ValueError(
            f"the plan is for a model that predicts {plan.prediction!r}, this one predicts {model.prediction!r}"
        )
    for instruction in plan.instructions:
        if isinstance(instruction, Eval):
            here = (model.process.alpha(instruction.t), model.process.sigma(instruction.t))
            if not np.allclose(here, (instruction.alpha, instruction.sigma), rtol=1e-6, atol=1e-12):
                raise ValueError(
                    f"the plan is for another process: at t = {instruction.t:g} it has α, σ = {instruction.alpha:g}, "
                    f"{instruction.sigma:g}, {model.process!r} has {here[0]:g}, {here[1]:g}"
                )


def _check_modes(model: ScoreModel) -> None:
    """Refuse networks that draw random numbers of their own, or look at the other samples of a batch."""
    for network in networks(model):
        for name, module in network.named_modules():
            if module.training and (does := _random(module)):
                which = f"{type(module).__name__} {name!r}" if name else type(module).__name__
                raise ValueError(
                    f"the network is in training mode: its {which} {does}, so that samples would not follow from their "
                    "seeds: call net.eval() before"
                )


def _check_labels(model: ScoreModel, cond: Mapping[str, Any]) -> None:
    """Refuse labels that a network does not have, where it says how many there are (``label_count``).

    Raises:
        ValueError: names the label; others would be looked up beyond the table's ends.
        TypeError: labels that are no tensor of one whole number per sample.
    """
    counts = [getattr(network, "label_count", None) for network in networks(model)]
    known = [count for count in counts if type(count) is int]
    unconditional = [getattr(inner, "unconditional", None) or {} for inner in models(model)]
    for key, mapping in itertools.product(("label", "class_labels"), (cond, *unconditional)):
        labels = mapping.get(key)
        if not known or labels is None:
            continue
        if mapping is cond and not (isinstance(labels, Tensor) and labels.ndim == 1):
            got = f"shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"{key} must be a tensor of one number per sample, got {got}")
        values = torch.as_tensor(labels)
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise TypeError(f"{key} must hold whole numbers, got {values.dtype}")
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < min(known):
            wrong = int(values.min()) if int(values.min()) < 0 else int(values.max())
            raise ValueError(f"{key} must be from 0 to {min(known) - 1}, got {wrong}")


def _random(module: torch.nn.Module) -> str:
    """What a module in training mode does to samples; empty for most."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"drops a share of {module.p:g} at random" if module.p > 0 else ""
    if isinstance(module, nn.RReLU):
        return "draws slopes at random" if module.lower < module.upper else ""
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return f"drops a share of {module.dropout:g} at random" if module.dropout > 0 else ""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return "takes statistics of the batch" if module.track_running_stats else ""
    return ""


def _state_dtype(dtype: torch.dtype | str | None, x_init: Tensor | None, model: ScoreModel) -> torch.dtype:
    if x_init is not None and not (isinstance(x_init, Tensor) and x_init.is_floating_point()):
        got = x_init.dtype if isinstance(x_init, Tensor) else type(x_init).__name__
        raise TypeError(f"x_init must be a floating-point tensor, got {got}")
    if dtype == NETWORK:
        return next(filter(None, map(precision_of, networks(model))), torch.float32)
    if dtype is None:
        dtype = torch.float64 if x_init is not None and x_init.dtype == torch.float64 else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the state is kept in float32 or float64, got {dtype}; a network may have any dtype of its own, and "
            f"dtype={NETWORK!r} keeps the state in that"
        )
    assert isinstance(dtype, torch.dtype)
    return dtype


def _device(device: str | torch.device | None, model: ScoreModel, x_init: Tensor | None) -> torch.device:
    parameters = model.net.parameters() if isinstance(model.net, torch.nn.Module) else iter(())
    there = next((parameter.device for parameter in parameters), None)
    if device is not None:
        try:
            chosen = torch.device(device)
            torch.empty(0, device=chosen)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(f"device = {device!r:.60} is no device that torch has here") from error
    else:
        chosen = x_init.device if x_init is not None else there or torch.device("cpu")
    if there is not None and there.type != chosen.type:
        raise ValueError(
            f"the state would be on device {chosen}, but the network is on {there}: move it, or give device="
        )
    if chosen.type == "meta":
        raise ValueError("device = 'meta' holds no numbers")
    return chosen


def grid_of(checkpoint: Checkpoint, solver: Solver) -> Grid | None:
    """The grid that a checkpoint itself asks for, unless a solver has its own: adaptive, tuned, or ``auto`` with σ*."""
    own = solver.adaptive or isinstance(solver, TunedSolver) or solver.options.get("scale") is not None
    return None if own else checkpoint.grid


def _listed(seeds: Sequence[int]) -> str:
    """The first few."""
    return ", ".join(map(str, seeds[:4])) + (", …" if len(seeds) > 4 else "")


def _shape(shape: Sequence[int] | None, x_init: Tensor | None) -> tuple[int, tuple[int, ...]]:
    if (shape is None) == (x_init is None):
        raise ValueError("give exactly one of shape (start from noise) and x_init (start from a state)")
    full = tuple(x_init.shape) if x_init is not None else shape
    if not isinstance(full, Sequence) or len(full) == 0:
        raise ValueError(f"the shape must be (batch, …), got {full!r}")
    for size in full:
        _whole(f"each size in the shape {full}", size)
    return int(full[0]), tuple(int(size) for size in full[1:])


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, (int, float, np.integer)) or isinstance(value, bool) or value % 1 != 0 or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _seeds(seeds: int | Sequence[int] | None, count: int) -> list[int]:
    if seeds is None:
        return [secrets.randbits(63) for _ in range(count)]
    if isinstance(seeds, (Tensor, np.ndarray)):
        seeds = seeds.tolist()
    if isinstance(seeds, (int, float, np.number)):
        first = check_seed(seeds)
        check_seed(first + count - 1)
        return list(range(first, first + count))
    if isinstance(seeds, str):
        raise ValueError(f"seeds must be whole numbers, got {seeds[:1]!r} of the text {seeds!r:.40}: give int of it")
    if not isinstance(seeds, Iterable):
        raise TypeError(
            f"seeds must be a whole number, or one for each sample, got {type(seeds).__name__}"
            + (": give generator.initial_seed()" if isinstance(seeds, torch.Generator) else "")
        )
    values = [check_seed(seed) for seed in seeds]
    if len(values) != count:
        raise ValueError(f"seeds must number the batch of {count}, got {len(values)}")
    return values
