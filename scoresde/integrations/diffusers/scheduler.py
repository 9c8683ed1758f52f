"""Our solvers as a scheduler of diffusers.

pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver="dpmpp_3m")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from scoresde.integrations.schedule import Schedule, planned, schedule, seeded
from scoresde.score import check_output
from solvers import Plan, Solver, grids
from solvers.grids import Grid
from solvers.plan.execute import Run

Generators = torch.Generator | list[torch.Generator] | None
Choice = str | Mapping[str, Any]


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
        ValueError: unknown solver or grid, or a solver that has no plan (an adaptive one).
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
        **options: Any,
    ) -> Any:
        """A scheduler for the network of that configuration.

        Args:
            config: configuration of any scheduler of diffusers, or of one of these, whose solver, grid and seeds are
                kept where no others are given.
            return_unused_kwargs: return a pair, the scheduler and an empty dictionary.
            solver, grid, seeds: as in the constructor.
            options: of the solver.
        """
        ours = config if isinstance(config.get("solver"), Mapping) else {}
        base = _described(solver if solver is not None else ours.get("solver", "dpmpp_2m"))
        found = cls(
            {key: value for key, value in config.items() if key not in ("solver", "grid", "seeds")},
            {**base, **options},
            ours.get("grid") if grid is None else grid,
            ours.get("seeds") if seeds is None else seeds,
        )
        return (found, {}) if return_unused_kwargs else found

    def _reset(self) -> None:
        self._run: Run | None = None
        self._start: Plan | None = None
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._generator: Generators = None

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
    ) -> None:
        """Plan a run, and forget the one before.

        Args:
            num_inference_steps: steps of the grid, the one to zero noise included. A solver with several evaluations a
                step makes ``timesteps`` longer than that.
            device: of ``timesteps``.
            timesteps: instead: times as the network is fed them, decreasing; zero noise follows.
            sigmas: instead: noise levels, decreasing. For flow models before the shift, and zero noise follows;
                elsewhere σ/α, the last one being the end.
            mu: of a flow model's dynamic shift; it is of no use elsewhere, where pipelines give it too.

        Raises:
            ValueError: arguments that do not fit together, illegal times, a dynamic shift without mu, or a prediction
                type that is undefined at the first time (ε where α = 0).
        """
        made = schedule(
            self._trained, self._solver, self._rule, num_inference_steps, timesteps=timesteps, sigmas=sigmas, mu=mu
        )
        self._reset()
        self._schedule, self.num_inference_steps = made, len(made.plan.times) - 1
        self.timesteps = torch.tensor(made.timesteps, dtype=torch.float32, device=device)
        self.sigmas = torch.tensor(made.sigmas, dtype=torch.float32)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Let the run begin with that evaluation, as image-to-image pipelines do.

        Raises:
            PlanError: the solver cannot begin there with the timesteps that are left.
        """
        self._start, self._begin_index = self._planned.start(begin_index), begin_index

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The state as the network is fed it, and may write into: times c_in(σ) for EDM's networks, else a copy."""
        if self._trained.input_scale is None:
            return sample.clone()
        if self._run is not None:
            t = self._run.evaluation.t
        else:
            index = self._begin_index if self._begin_index is not None else self._index(timestep)
            t = self._planned.evaluations[index].t
        return sample * float(self._trained.input_scale(t))

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Feed the plan the network's output at ``timestep``.

        Args:
            model_output: shape of ``sample``, or with twice its channels where the network learned a variance, which
                is not used.
            timestep: where the run begins, if no begin index is set; after that evaluations follow one another.
            sample: what ``step`` returned before, or an edit of it: the difference goes to the state. The state is kept
                in float32 or float64, whatever dtype samples are passed around in.
            generator: of the noise that solvers draw.
            return_dict: return a SchedulerOutput, or a tuple.

        Returns:
            ``prev_sample``, the input of the next evaluation before ``scale_model_input``; after the last, the sample.

        Raises:
            ValueError: ``set_timesteps`` was not called, all evaluations are done, shapes do not fit, or the output is
                on another device or holds no floating-point numbers.
        """
        self._generator = generator
        run = self._run or self._begun(timestep, sample)
        assert self._step_index is not None
        if sample.shape != run.x.shape:
            raise ValueError(f"sample has the shape {tuple(sample.shape)}, the state has {tuple(run.x.shape)}")
        if self._trained.learned_variance and model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        if model_output.shape != sample.shape:
            raise ValueError(
                f"model_output has the shape {tuple(model_output.shape)}, sample has {tuple(sample.shape)}"
            )
        check_output(model_output, sample)
        x, dtype = run.x, run.x.dtype
        run.replace(sample.clone() if sample.dtype == dtype else x + (sample.to(dtype) - x.to(sample.dtype).to(dtype)))
        output = model_output.to(dtype, copy=True)  # the pipeline may write to its own again
        if self._trained.output_scales is not None:
            skip, out = self._trained.output_scales(run.evaluation.t)
            output = skip * run.x + out * output
        run.give(output)
        more = run.advance()
        self._run, self._generator = run if more else None, None
        self._step_index += 1
        previous = (run.x if more else run.state).to(sample.dtype, copy=True)
        return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α x0 + σ ε at the given times, as the network is fed them, of shape () or (batch,)."""
        times = self._trained.process_time(torch.as_tensor(timesteps, dtype=torch.float64).reshape(-1))
        process, shape = self._trained.process, (-1, *[1] * (original_samples.ndim - 1))
        alpha, sigma = (
            function(times).to(original_samples).reshape(shape) for function in (process.alpha, process.sigma)
        )
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """:meth:`add_noise` as pipelines of flow models call it."""
        return self.add_noise(sample, noise, timestep)

    # --- a run

    @property
    def _planned(self) -> Schedule:
        if self._schedule is None:
            raise ValueError("there is no schedule yet: call set_timesteps first")
        return self._schedule

    def _begun(self, timestep: float | Tensor, sample: Tensor) -> Run:
        if self._step_index is not None:
            raise ValueError(f"all {len(self._planned.evaluations)} evaluations are done: call set_timesteps")
        if self._start is None:
            self.set_begin_index(self._index(timestep))
        assert self._start is not None
        dtype = torch.float64 if sample.dtype == torch.float64 else torch.float32
        state = sample.to(dtype, copy=True)
        run = Run(self._start, state, self._noise(state) if self._start.draws else None)
        run.advance()
        self._step_index = self._begin_index
        return run

    def _index(self, timestep: float | Tensor | None) -> int:
        """The first evaluation at that timestep, of those that begin a step if there are such."""
        made = self._planned
        value = float("nan") if timestep is None else float(timestep)
        found = np.flatnonzero(self.timesteps.cpu().numpy() == np.float32(value)).tolist()
        if not found:
            raise ValueError(f"timestep {value} is none of the scheduler's timesteps {self.timesteps.tolist()}")
        return next((index for index in found if index == 0 or made.steps[index - 1] < made.steps[index]), found[0])

    def _noise(self, like: Tensor) -> Callable[[], Tensor]:
        """The next standard normal: of the generator given to ``step``, else of the seeds, else of torch."""
        seeds = self._seeds
        if isinstance(seeds, int):
            seeds = range(seeds, seeds + len(like))
        own = None if seeds is None else seeded(seeds, like)

        def draw() -> Tensor:
            if self._generator is None and own is not None:
                return own()
            return randn_tensor(like.shape, generator=self._generator, device=like.device, dtype=like.dtype)

        return draw


def _described(choice: Choice | Solver | Grid) -> dict[str, Any]:
    """A name and options as a configuration file has them."""
    if isinstance(choice, str):
        return {"name": choice}
    return dict(choice) if isinstance(choice, Mapping) else {"name": choice.name, **choice.options}
