"""Pipelines of diffusers as score models, by running them: what a pipeline hands its scheduler is the model's output.

solver = scoresde.integrations.diffusers.tune(pipe, ["a red cat", "two dogs"], nfe=[6, 8], guidance_scale=7.5)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import solvers
from scoresde import conditions, tuning
from scoresde.conditions import SCALE
from scoresde.files import digest_of
from scoresde.integrations.diffusers.asking import Asking, Done, PipelineNetwork
from scoresde.integrations.diffusers.conventions import Trained, read
from scoresde.integrations.diffusers.scheduler import Scheduler, StepOutput
from scoresde.score import ScoreModel, precision_of
from scoresde.tuned import TunedSolver
from scoresde.tuning.procedure import SEEDS, Say
from scoresde.tuning.trajectories import Trajectories
from solvers import PlannedSolver

OURS = ("latents", "num_inference_steps", "num_images_per_prompt", "sigmas", "timesteps")  # that no caller gives
SCALES = 5  # that stand for a range of them; rows of one batch have to be at one
STEPS = 3  # of the run by which model and pipeline are compared


def tune(
    pipe: Any,
    prompts: str | Sequence[str] | Mapping[str, Sequence[Any] | Tensor],
    *,
    nfe: int | Sequence[int],
    seeds: Sequence[int] = SEEDS,
    effort: str = "quick",
    target: str = "both",
    folder: str | Path | None = None,
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
    progress: Say | None = None,
    **call: Any,
) -> TunedSolver:
    """:func:`scoresde.tune` for a pipeline: the plans are fitted to its latents, under its prompts and guidance.

    Whatever the pipeline makes of prompts, guidance and networks, it hands ``scheduler.step`` one output for a state
    and a time. Here it is run for that alone: from the given latents with one timestep, up to that call. The output is
    the model's, so that every pipeline is tuned whose scheduler can be replaced and that takes ``latents``. What it
    does by the number of the step (callbacks, guidance that begins later) is not seen; a run of three steps, compared
    before anything is fitted, refuses it.

    Args:
        pipe: the pipeline, on its device; its scheduler says what was trained, and is put back.
        prompts: one or more, of the trajectories in turn; or arguments of the call of which each prompt has its own, by
            their names: lists of one length, and tensors, whose first dimension that is. With embeddings in the place
            of prompts no text is encoded again at each evaluation.
        nfe, seeds, effort, target, folder, dtype, progress: as for :func:`scoresde.tune`; latents are draw 0 of each
            seed, in the shape that the pipeline steps them in.
        batch_size: latents in one evaluation, at most.
        call: further arguments of the pipeline's call, the same for all. A pair as ``guidance_scale`` is a range, of
            which the trajectories have five scales.

    Returns:
        The solver, with the report of :func:`scoresde.tune`; ``Scheduler.from_config(config, tuned=…)`` takes its file.

    Raises:
        ValueError: a pipeline without ``latents``, an argument that is set here, prompts of several lengths, a pipeline
            that does more with its states than a model of state and time; and what :func:`scoresde.tune` raises.
        SchedulerConfigError: the configuration of its scheduler is not understood.
        NotConvergedError: the probability-flow ODE does not come to a converged solution.
    """
    named = prompts if isinstance(prompts, Mapping) else {"prompt": prompts}
    rows = {key: [value] if isinstance(value, str) else value for key, value in named.items()}
    _check(pipe, rows, call)
    own = list(seeds)
    trained, count = read(pipe.scheduler.config), len(next(iter(rows.values())))
    asking = Asking.from_config(pipe.scheduler.config, solver="euler")
    cond, options = {"row": torch.arange(len(own)) % count}, dict(call)
    two = {"row": torch.tensor([0, count - 1])}
    if isinstance(call.get(SCALE), Sequence):
        ends = options.pop(SCALE)
        # In mixed order, so that each prompt meets each scale.
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(1))
        cond[SCALE] = torch.linspace(ends[0], ends[1], SCALES)[order % SCALES]
        two[SCALE] = torch.tensor(ends, dtype=torch.float32)
    with _driven(pipe, asking):
        network = PipelineNetwork(pipe, asking, rows, options)
        model = _model(network, trained, _told(pipe, rows, call))
        device, shape = pipe._execution_device, network.shape(trained, two)
        _compare(pipe, network, Trajectories.of(model, range(2), shape, cond=two, dtype=dtype, device=device))
        return tuning.tune(
            model,
            nfe=nfe,
            shape=shape,
            seeds=own,
            cond=cond,
            effort=effort,
            target=target,
            folder=folder,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            progress=progress,
        )


def _check(pipe: Any, rows: Mapping[str, Any], call: Mapping[str, Any]) -> None:
    name = type(pipe).__name__
    if "latents" not in inspect.signature(pipe.__call__).parameters:
        raise ValueError(f"{name} takes no latents=, and without them it cannot be asked at a state")
    for key in (*rows, *call):
        if key in OURS:
            raise ValueError(f"{key} is set by the tuning: call the pipeline without it")
    counts = {key: len(value) for key, value in rows.items()}
    if not counts or len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"prompts must be one or more, each with a value of every argument, got {counts}")
    over = call.get(SCALE)
    if isinstance(over, Sequence) and not (len(over) == 2 and over[0] < over[1]):
        raise ValueError(f"{SCALE} must be a number, or the two ends of a range that rises, got {over}")


def _told(pipe: Any, rows: Mapping[str, Any], call: Mapping[str, Any]) -> str:
    """The guidance of the pipeline in words: its numbers, and a digest of the conditions."""
    scale = inspect.signature(pipe.__call__).parameters.get(SCALE)
    all_of = {**({} if scale is None else {SCALE: scale.default}), **call}
    told = {key: f"{value:g}" for key, value in all_of.items() if isinstance(value, (int, float))}
    if isinstance(over := all_of.get(SCALE), Sequence):
        told[SCALE] = f"{over[0]:g} to {over[1]:g}"
    count, digest = len(next(iter(rows.values()))), digest_of(conditions.described({"rows": rows, "call": dict(call)}))
    numbers = ", ".join(f"{key}={value}" for key, value in told.items())
    return f"{type(pipe).__name__}({numbers}) of {count} conditions {digest[:12]}"


def _model(network: PipelineNetwork, trained: Trained, guidance: str) -> ScoreModel:
    model = ScoreModel(
        network,
        trained.process,
        trained.prediction,
        time_input=trained.time_input,
        **trained.outputs,
    )
    model.guidance = guidance
    return model


class _Playing(Scheduler):
    """A scheduler that keeps the last state, and leaves the pipeline then."""

    last: Tensor

    def step(self, *given: Any, return_dict: bool = True, **named: Any) -> StepOutput | tuple[Tensor, Tensor]:
        """The step of the plan."""
        found = super().step(*given, return_dict=False, **named)
        assert isinstance(found, tuple)
        self.last = found[0]
        if self._run is None:
            raise Done
        return StepOutput(*found) if return_dict else found


@contextmanager
def _driven(pipe: Any, scheduler: Scheduler) -> Iterator[None]:
    """The pipeline with that scheduler, and without its progress bar."""
    own, bar = pipe.scheduler, dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.scheduler = scheduler
    pipe.set_progress_bar_config(**{**bar, "disable": True})
    try:
        yield
    finally:
        pipe.scheduler = own
        pipe.set_progress_bar_config(**bar)


def _compare(pipe: Any, network: PipelineNetwork, starts: Trajectories) -> None:
    """Refuse a pipeline whose states go elsewhere than those of the model, which was asked at single states.

    Raises:
        ValueError: it does.
    """
    scheduler = _Playing.from_config(network.asking.config, solver="auto", scale=1.0)
    model, solver = starts.model, solvers.get("auto", scale=1.0)
    assert isinstance(solver, PlannedSolver)
    times = solver.recommended(model.process, STEPS)
    expected = starts.planned(solver.plan(model.process, times, model.prediction))
    dtype = precision_of(network) or starts.noise.dtype
    found = []
    with _driven(pipe, scheduler):
        for place in range(len(starts)):
            one = starts.part([place])
            more = {SCALE: float(one.cond[SCALE][0])} if SCALE in one.cond else {}
            network.run(one.cond["row"], latents=one.noise.to(dtype), num_inference_steps=STEPS, **more)
            found.append(scheduler.last)
    apart = (torch.cat(found).to(expected) - expected).double().square().mean().sqrt()
    relative = float(apart / expected.double().square().mean().sqrt())
    finest = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    if not relative <= math.sqrt(finest):
        raise ValueError(
            f"{type(pipe).__name__} ends {relative:.2g} of their size from the samples of its own outputs at single "
            "states: it does more with its states than hand them to network and scheduler, or by the number of the "
            "step (a callback, guidance on some steps), and such is not tuned"
        )
