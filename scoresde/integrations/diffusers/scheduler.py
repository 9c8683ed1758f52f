"""Our solvers as a scheduler of diffusers.

pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver="dpmpp_3m")
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    from diffusers.configuration_utils import ConfigMixin
    from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
    from diffusers.utils.torch_utils import randn_tensor
except ImportError as error:
    raise ImportError("scoresde.integrations.diffusers needs diffusers: install scoresde[diffusers]") from error

from scoresde.integrations.diffusers.conventions import read
from scoresde.integrations.schedule import NONE_LEFT, Schedule, distilled, planned, schedule, seeded
from scoresde.noise import Noise
from scoresde.process import VPDiscrete
from scoresde.score import check_output
from scoresde.tuned import NAME, TunedSolver
from solvers import Plan, Solver, grids
from solvers.grids import Grid
from solvers.plan.execute import Run
from solvers.prediction import convert

Generators = torch.Generator | list[torch.Generator] | None
Choice = str | Mapping[str, Any]
# What ``step`` returned in the middle of a step, as long as somebody holds it, and the process time that it is for.
_INSIDE: list[tuple[weakref.ref[Tensor], float]] = []


@dataclass
class StepOutput(SchedulerOutput):
    """What :meth:`Scheduler.step` returns.

    Attributes:
        prev_sample: the input of the next evaluation before ``scale_model_input``; after the last, the sample.
        pred_original_sample: E[x0 | x] of the evaluation that was given, for previews.
    """

    pred_original_sample: Tensor | None = None


class Scheduler(SchedulerMixin, ConfigMixin):
    """Any planned solver, several evaluations a step and noise included, behind the interface of diffusers' schedulers.

    ``timesteps`` has an entry for every model evaluation; a pipeline's loop evaluates the network at each, and ``step``
    returns the input of the next evaluation. States are in the frame of the network's own process.

    Args:
        config: configuration of the scheduler that the network was saved with.
        solver: a name, a Solver, or a mapping with ``name`` and options.
        grid: a name, a Grid, or a mapping with ``name`` and options; None is the solver's recommended grid, and for
            flow models the even one that their pipelines use. A flow model's shift, static or dynamic, applies to all.
        seeds: the first of consecutive seeds, or one per sample: where ``step`` is given no generator, noise is theirs
            from draw 1 on, as in :func:`scoresde.sample`. None takes it from torch's generator, as diffusers does.

    Raises:
        SchedulerConfigError: the configuration is not understood.
        ValueError: unknown solver or grid, a solver that has no plan (an adaptive one), or one that was tuned on
            another process or prediction type. Which network and guidance a pipeline has, its scheduler cannot know.
        TypeError: an option that the solver or the grid does not have.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        solver: Choice | Solver = "dpmpp_2m",
        grid: Choice | Grid | None = None,
        seeds: int | Sequence[int] | None = None,
    ):
        self._trained = read(config)
        chosen = _described(solver)
        self._solver = planned(chosen.pop("name"), chosen, "a pipeline")
        if isinstance(self._solver, TunedSolver):
            self._solver.check_conventions(self._trained.process, self._trained.prediction)
        self._rule = None if grid is None else grids.get(**_described(grid))
        self._seeds = seeds if seeds is None or isinstance(seeds, int) else [int(seed) for seed in seeds]
        self.register_to_config(
            **{key: value for key, value in config.items() if key not in ("_use_default_values", "trained_with")},
            trained_with=config.get("trained_with" if "trained_with" in config else "_class_name"),
            solver=_described(self._solver),
            grid=None if self._rule is None else _described(self._rule),
            seeds=self._seeds,
        )
        self._schedule: Schedule | None = None
        self.num_inference_steps: int | None = None
        self.timesteps = torch.zeros(0)
        self.sigmas = torch.zeros(0)
        self._reset()

    @classmethod
    def from_config(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        config: Mapping[str, Any],
        return_unused_kwargs: bool = False,
        *,
        solver: Choice | Solver | None = None,
        grid: Choice | Grid | None = None,
        seeds: int | Sequence[int] | None = None,
        tuned: str | Path | None = None,
        **options: Any,
    ) -> Any:
        """A scheduler for the network of that configuration.

        Args:
            config: configuration of any scheduler of diffusers, or of one of these, whose solver, grid and seeds are
                kept where no others are given.
            return_unused_kwargs: return a pair, the scheduler and an empty dictionary.
            solver, grid, seeds: as in the constructor.
            tuned: file of a solver that was fitted to the network, in the place of ``solver``.
            options: of the solver.

        Raises:
            ValueError: both ``solver`` and ``tuned``.
        """
        if tuned is not None:
            if solver is not None:
                raise ValueError(f"give solver or tuned, not both: got {solver!r} and {str(tuned)!r}")
            solver = {"name": NAME, "path": str(tuned)}
        ours = config if isinstance(config.get("solver"), Mapping) else {}
        base = _described(solver if solver is not None else ours.get("solver", "dpmpp_2m"))
        found = cls(
            {key: value for key, value in config.items() if key not in ("solver", "grid", "seeds")},
            {**base, **options},
            ours.get("grid") if grid is None else grid,
            ours.get("seeds") if seeds is None else seeds,
        )
        return (found, {}) if return_unused_kwargs else found

    def register_to_config(self, **settings: Any) -> None:
        """Set entries of the configuration, as some pipelines do when they are made; what was trained is read anew."""
        super().register_to_config(**settings)
        self._trained = read(self.config)

    def _reset(self) -> None:
        self._run: Run | None = None
        self._start: Plan | None = None
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._draws: _Draws | None = None

    # --- what pipelines read

    @property
    def plan(self) -> Plan:
        """The program that ``set_timesteps`` made.

        Raises:
            ValueError: it was not called yet.
        """
        return self._planned.plan

    @property
    def order(self) -> int:
        """Evaluations of a step, by which pipelines turn steps into positions in ``timesteps``."""
        return 1 if self._schedule is None else self._schedule.order

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the noise to begin with: σ at the first evaluation."""
        process = self._trained.process
        return process.sigma(process.t_max) if self._schedule is None else self._schedule.evaluations[0].sigma

    @property
    def begin_index(self) -> int | None:
        """The evaluation that a run begins with; None until it is set."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """The evaluation that comes next; None until a run has begun."""
        return self._step_index

    @property
    def betas(self) -> Tensor:
        """Forward variances of the chain, shape (num_train_timesteps,); models of a flow or of EDM have none."""
        return torch.tensor(self._chain.betas, dtype=torch.float32)

    @property
    def alphas(self) -> Tensor:
        """1 − β."""
        return 1 - self.betas

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ = α² at each index of the chain."""
        chain = self._chain
        return torch.tensor(chain.alpha(np.arange(len(chain.betas), dtype=np.float64)) ** 2, dtype=torch.float32)

    @property
    def _chain(self) -> VPDiscrete:
        if not isinstance(self._trained.process, VPDiscrete):
            raise AttributeError(f"{self._trained.process!r} is no chain of betas")
        return self._trained.process

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps", 1000))

    # --- what pipelines call

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        original_inference_steps: int | None = None,
        strength: float = 1.0,
    ) -> None:
        """Plan a run, and forget the one before.

        Args:
            num_inference_steps: steps of the grid, the one to zero noise included. A solver with several evaluations a
                step makes ``timesteps`` longer than that.
            device: of ``timesteps``.
            timesteps: instead: times as the network is fed them, decreasing; zero noise follows.
            sigmas: instead: noise levels, decreasing. For flow models before the shift, and zero noise follows;
                elsewhere σ/α, the last one being the end. A flow model may be given both, one timestep for each sigma:
                the network is then fed those, and between them what is linear in σ.
            mu: of a flow model's dynamic shift; it is of no use elsewhere, where pipelines give it too.
            original_inference_steps: the timesteps are taken from this many even ones, those that a consistency model
                was distilled at. None is the number in its configuration if the solver is ``lcm`` or ``tcd`` and there
                is no grid.
            strength: the share of those, from zero noise on, that is used.

        Raises:
            ValueError: arguments that do not fit together, illegal times, a dynamic shift without mu, or a prediction
                type that is undefined at the first time (ε where α = 0).
        """
        if original_inference_steps is None and timesteps is None and sigmas is None and self._rule is None:
            if self._solver.family == "distilled":
                original_inference_steps = self.config.get("original_inference_steps")
        elif original_inference_steps is not None and (timesteps is not None or sigmas is not None or self._rule):
            raise ValueError(
                "original_inference_steps choose the timesteps: give no timesteps, no sigmas and no grid with them"
            )
        if original_inference_steps is not None:
            timesteps = distilled(len(self), original_inference_steps, num_inference_steps, strength)
        made = schedule(
            self._trained, self._solver, self._rule, num_inference_steps, timesteps=timesteps, sigmas=sigmas, mu=mu
        )
        self._take(made, device)

    def _take(self, made: Schedule, device: str | torch.device | None) -> None:
        self._reset()
        self._schedule, self.num_inference_steps = made, len(made.plan.times) - 1
        self.timesteps = torch.tensor(made.timesteps, dtype=torch.float32, device=device)
        self.sigmas = torch.tensor(made.sigmas, dtype=torch.float32)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Let the run begin with that evaluation, as image-to-image pipelines do.

        Raises:
            PlanError: the solver cannot begin there with the timesteps that are left, or none is left.
        """
        self._start, self._begin_index = self._planned.start(begin_index), begin_index
        self._run, self._step_index = None, None

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The state as the network is fed it, and may write into: times c_in(σ) for EDM's networks, else a copy."""
        if self._trained.input_scale is None:
            return sample.clone()
        return sample * float(self._trained.input_scale(self._planned.evaluations[self._place(timestep)].t))

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
        *,
        per_token_timesteps: Tensor | None = None,
        pred_original_sample: Tensor | None = None,
        **others: Any,
    ) -> StepOutput | tuple[Tensor, Tensor]:
        """Feed the plan the network's output at ``timestep``.

        Args:
            model_output: shape of ``sample``, or with twice its channels where the network learned a variance, which
                is not used.
            timestep: what the network was fed. The evaluation that is due goes on; another at which a step begins
                begins there, from ``sample``, as where a run goes back or was left early.
            sample: what ``step`` returned before, or an edit of it: the difference goes to the state. The state is kept
                in float32 or float64, whatever dtype samples are passed around in.
            generator: of the noise that solvers draw.
            return_dict: return a StepOutput, or its two values as a tuple.
            per_token_timesteps: of a flow model whose parts are at times of their own, shape (batch, tokens) for
                samples (batch, tokens, channels). Parts at ``timestep`` take the solver's step; others one of Euler's,
                from their own level to the next of the schedule below it, which at zero noise is none. With them
                pipelines give the output with its sign turned, x0 − ε.
            pred_original_sample: x0, where the pipeline made it from the network's output itself.
            others: what pipelines pass to schedulers of one kind, ``eta``, ``use_clipped_model_output`` and
                ``prev_timestep``, is taken where it says what the solver does anyway.

        Returns:
            ``prev_sample`` and ``pred_original_sample``.

        Raises:
            ValueError: ``set_timesteps`` was not called, all evaluations are done, a timestep that is neither due nor
                where a step begins, shapes that do not fit, an output on another device or without floating-point
                numbers, or a first sample that a run before left in the middle of a step.
            PlanError: the solver cannot begin at that timestep.
            TypeError: an argument of no use here.
        """
        place = self._place(timestep)
        self._check(others, place)
        run = self._run if self._run is not None and place == self._step_index else self._begun(place, sample)
        assert self._step_index is not None and self._draws is not None
        if sample.shape != run.x.shape:
            raise ValueError(f"sample has the shape {tuple(sample.shape)}, the state has {tuple(run.x.shape)}")
        if self._trained.learned_variance and model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        given = model_output if pred_original_sample is None else pred_original_sample
        given = given if per_token_timesteps is None else -given
        if given.shape != sample.shape:
            raise ValueError(f"model_output has the shape {tuple(given.shape)}, sample has {tuple(sample.shape)}")
        check_output(given, sample)
        levels = None if per_token_timesteps is None else self._levels(per_token_timesteps, place, sample)
        x, dtype, at = run.x, run.x.dtype, run.evaluation
        run.replace(sample.clone() if sample.dtype == dtype else x + (sample.to(dtype) - x.to(sample.dtype).to(dtype)))
        output = given.to(dtype, copy=True)  # the pipeline may write to its own again
        if pred_original_sample is not None:
            a, b = convert("sample", self._trained.prediction, at.alpha, at.sigma)
            output = a * run.x + b * output
        elif self._trained.output_scales is not None:
            skip, out = (float(scale) for scale in self._trained.output_scales(at.t))
            output = skip * run.x + out * output
        state = run.x
        a, b = convert(self._trained.prediction, "sample", at.alpha, at.sigma)
        denoised = a * state + b * output
        run.give(output)
        self._draws.generator = generator
        more = run.advance()
        self._draws.generator = None
        self._run = run if more else None
        self._step_index += 1
        previous = run.x if more else run.state
        if levels is not None:
            here, level, below = levels
            previous = torch.where(here, previous, state + (below - level) * output)
            denoised = torch.where(here, denoised, state - level * output)
        previous = previous.to(sample.dtype, copy=True)
        if more and self._planned.steps[place] == self._planned.steps[place + 1]:
            _INSIDE[:] = [pair for pair in _INSIDE if pair[0]() is not None]
            _INSIDE.append((weakref.ref(previous), run.evaluation.t))
        denoised = denoised.to(sample.dtype)
        return StepOutput(previous, denoised) if return_dict else (previous, denoised)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α x0 + σ ε at the given times, as the network is fed them, of shape () or (batch,).

        Raises:
            ValueError: there are no times.
        """
        alpha, sigma = self._factors(original_samples, timesteps)
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """:meth:`add_noise` as pipelines of flow models call it."""
        return self.add_noise(sample, noise, timestep)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(α ε − σ x0)/√(α² + σ²) at the given times, what a network of v-prediction is trained to return.

        Raises:
            ValueError: there are no times.
        """
        alpha, sigma = self._factors(sample, timesteps)
        return (alpha * noise - sigma * sample) / torch.hypot(alpha, sigma)

    def _factors(self, like: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at times as the network is fed them, to multiply a batch by; made on the CPU, in float64."""
        fed = torch.as_tensor(timesteps).cpu().to(torch.float64).reshape(-1)
        if not len(fed):
            raise ValueError(f"there are no timesteps: {NONE_LEFT}")
        times, process = self._trained.process_time(fed), self._trained.process
        shape = (-1, *[1] * (like.ndim - 1))
        alpha, sigma = (function(times).to(like.dtype).to(like.device) for function in (process.alpha, process.sigma))
        return alpha.reshape(shape), sigma.reshape(shape)

    # --- a run

    @property
    def _planned(self) -> Schedule:
        if self._schedule is None:
            raise ValueError("there is no schedule yet: call set_timesteps first")
        return self._schedule

    def _place(self, timestep: float | Tensor | None) -> int:
        """The evaluation that a timestep means: the one that is due, or the one where a step begins at that time.

        Raises:
            ValueError: neither; or the last of a run that is done.
        """
        made = self._planned
        count = len(made.evaluations)
        done = self._run is None and self._step_index is not None
        due = None if done else self._step_index if self._run is not None else self._begin_index or 0
        if timestep is None:
            if due is None:
                raise ValueError(f"all {count} evaluations are done: call set_timesteps")
            return due
        value, kind = _number(timestep)
        if due is not None and due < count:
            ours = self.timesteps[due].cpu()
            # Pipelines pass times in their own precision, or as whole numbers.
            if float(ours.to(kind)) == value or (not kind.is_floating_point and abs(float(ours) - value) < 1):
                return due
        known = self.timesteps.cpu()
        places = (known.to(kind).double() == value).nonzero().flatten().tolist()
        begins = [place for place in places if place == 0 or made.steps[place - 1] < made.steps[place]]
        if done and (not places or made.steps[places[0]] == made.steps[-1]):
            raise ValueError(f"all {count} evaluations are done: call set_timesteps")
        if begins:
            return begins[0]
        if self._run is not None and due is not None:
            raise ValueError(
                f"timestep {value:g} is neither the one that is due, {float(known[due]):g}, nor one at which a step "
                f"begins; the scheduler's timesteps are {known.tolist()}"
            )
        if places:
            return places[0]  # where the solver says itself why it cannot begin there
        raise ValueError(f"timestep {value:g} is none of the scheduler's timesteps {known.tolist()}")

    def _begun(self, place: int, sample: Tensor) -> Run:
        if self._start is None or self._begin_index != place:
            self.set_begin_index(place)
        assert self._start is not None
        first = self._planned.evaluations[place]
        for reference, time in _INSIDE:
            kept = reference()
            if kept is None or time == first.t or (kept.shape, kept.device) != (sample.shape, sample.device):
                continue
            if torch.equal(kept, sample.to(kept.dtype)):
                raise ValueError(
                    "the sample to begin with was left in the middle of a step, by a solver of several evaluations a "
                    "step: cut between steps (another denoising_end), or take a solver with one, such as 'dpmpp_2m'"
                )
        dtype = torch.float64 if sample.dtype == torch.float64 else torch.float32
        state = sample.to(dtype, copy=True)
        self._draws = _Draws(self._own(state, first.t) if self._start.draws else None, state)
        run = Run(self._start, state, self._draws)
        run.advance()
        self._step_index = place
        return run

    def _own(self, state: Tensor, t: float) -> Noise | None:
        """Noise of the seeds, if there are such."""
        if self._seeds is None:
            return None
        seeds = range(self._seeds, self._seeds + len(state)) if isinstance(self._seeds, int) else self._seeds
        return seeded(seeds, state, self._trained.process, t)

    def _levels(self, tokens: Tensor, place: int, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which tokens are at the timestep; the noise level of each, and the next of the schedule below it."""
        if self._trained.shift is None or self._trained.prediction != "flow":
            raise ValueError("per_token_timesteps are for flow models whose network predicts the velocity")
        if tuple(tokens.shape) != tuple(sample.shape[:2]) or sample.ndim != 3:
            raise ValueError(
                f"per_token_timesteps must be of shape (batch, tokens), got {tuple(tokens.shape)} for samples of "
                f"{tuple(sample.shape)}"
            )
        here = tokens == self.timesteps[place].to(tokens)
        if not self._planned.memoryless and bool((~here & (tokens > 0)).any()):
            raise ValueError(
                f"{self._solver} remembers evaluations, which parts that begin later have not had: take a solver "
                "without memory, such as 'euler', for per_token_timesteps"
            )
        dtype = torch.float64 if sample.dtype == torch.float64 else torch.float32
        level = tokens.to(dtype) / len(self)
        known = self.sigmas.to(level)
        below = torch.where(known < level[..., None] - 1e-6, known, 0.0).amax(-1)
        return here[..., None], level[..., None], below[..., None]

    def _check(self, others: Mapping[str, Any], place: int) -> None:
        """Refuse what pipelines pass to schedulers of one kind, where the solver does something else."""
        for key, value in others.items():
            if key == "eta":
                fits, why = not value or value == self._solver.options.get("eta"), f"{self._solver} was chosen before"
            elif key == "use_clipped_model_output":
                fits, why = not value, "nothing is clipped"
            elif key == "prev_timestep":
                after = self.timesteps[place + 1].item() if place + 1 < len(self.timesteps) else None
                fits, why = value is None or float(value) == after, f"the next is {after}"
            else:
                raise TypeError(f"step() has no argument {key!r}")
            if not fits:
                raise ValueError(f"{key} = {value} of step(): {why}; choose it with Scheduler.from_config")


class _Draws:
    """The next standard normal: of the generator given to ``step``, else of the seeds, else of torch."""

    def __init__(self, own: Noise | None, like: Tensor):
        self.generator: Generators = None
        self._own, self._shape, self._device, self._dtype = own, like.shape, like.device, like.dtype

    def __call__(self) -> Tensor:
        if self.generator is None and self._own is not None:
            return self._own()
        return randn_tensor(self._shape, generator=self.generator, device=self._device, dtype=self._dtype)


def _number(timestep: float | Tensor) -> tuple[float, torch.dtype]:
    """A timestep, which may be repeated for each sample, and the precision that it is in.

    Raises:
        ValueError: several different times.
    """
    if not isinstance(timestep, Tensor):
        return float(timestep), torch.int64 if isinstance(timestep, (int, np.integer)) else torch.float32
    values = timestep.detach().cpu().reshape(-1)
    if not len(values) or bool((values != values[0]).any()):
        raise ValueError(f"timestep must be one time, got {timestep.tolist()}; parts have per_token_timesteps")
    kind = timestep.dtype
    return float(values[0]), torch.float32 if kind == torch.float64 else kind


def _described(choice: Choice | Solver | Grid) -> dict[str, Any]:
    """A name and options as a configuration file has them."""
    if isinstance(choice, str):
        return {"name": choice}
    if isinstance(choice, TunedSolver):
        if choice.path is None:
            raise ValueError("a scheduler is described by what it was made of: save the tuned solver, give tuned=path")
        return {"name": NAME, "path": choice.path, **({"foreign": True} if choice.foreign else {})}
    return dict(choice) if isinstance(choice, Mapping) else {"name": choice.name, **choice.options}
