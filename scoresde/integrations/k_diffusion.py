"""Our solvers as k-diffusion's sampling functions; needs no k-diffusion.

sample = sampler("uni_pc", order=3)
x = sample(model, x, sigmas, extra_args={"cond": cond})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from scoresde.integrations.schedule import ROUNDED, planned, seeded, steps_of
from scoresde.process import EDM
from scoresde.score import check_output
from scoresde.tuned import NAME
from solvers import Plan
from solvers.aliasing import Isolated, written
from solvers.plan.instructions import Draw, Eval, Step

NoiseSampler = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[dict[str, Any]], Any]


class Sampler(Protocol):
    """k-diffusion's signature of a sampling function, and where noise comes from."""

    levels: Callable[[int, float, float], Tensor]

    def __call__(
        self,
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor | Sequence[float],
        extra_args: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *,
        noise_sampler: NoiseSampler | None = None,
        seeds: Sequence[int] | None = None,
        sigma_max: float | None = None,
    ) -> Tensor: ...


def sampler(solver: str, **options: Any) -> Sampler:
    """A planned solver as a function ``sample(model, x, sigmas, extra_args, callback, disable)``.

    The function takes

    - model: a denoiser D(x, sigma), called with sigma of shape (batch,) and ``extra_args``.
    - x: the state at ``sigmas[0]``, x0 + sigma · noise, batch first.
    - sigmas: decreasing noise levels; the last may be 0, and is where x ends.
    - callback: called once a step with ``x``, ``i``, ``sigma``, ``sigma_hat`` (raised by churn) and ``denoised`` of its
      first evaluation, copies of its own; one that writes into them is refused, since that changes nothing here.
    - disable: of the progress bar.
    - noise_sampler: called as ``noise_sampler(sigma, sigma_next)`` for each draw, with intervals that do not overlap,
      such as a Brownian tree's; returns standard normals.
    - seeds: one per sample, whose draws are those of :func:`scoresde.sample`, other ones at each level below full noise
      that a run begins with. Without either, ``torch.randn``.
    - sigma_max: the level of full noise; None is that of the model or of what it wraps (``inner_model``), as
      k-diffusion's models have it, and without such ``sigmas[0]``.

    and returns the state at ``sigmas[-1]``. Its attribute ``levels`` is a function of a number of steps, σ_min and
    σ_max that gives the sigmas which the solver recommends; those of ``tuned``, and of ``auto`` with a scale, belong to
    it.

    Args:
        solver: a name; ``tuned`` with ``path`` is a file of :func:`scoresde.tune`.
        options: of the solver.

    Raises:
        ValueError: unknown name, or a solver that has no plan (an adaptive one). By the function: sigmas that do not
            decrease, both noise_sampler and seeds, seeds that do not number the batch, a model's output of another
            shape, device or kind of numbers, or a callback that writes into what it sees.
        TypeError: an option that the solver does not have.
    """
    if solver == NAME:
        options = {**options, "foreign": True}  # a denoiser has no process of its own to be recognised by
    method = planned(solver, options, "this function")

    @torch.no_grad()
    def sample(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor | Sequence[float],
        extra_args: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *,
        noise_sampler: NoiseSampler | None = None,
        seeds: Sequence[int] | None = None,
        sigma_max: float | None = None,
    ) -> Tensor:
        levels = [float(sigma) for sigma in sigmas]
        # The lower end of the process bounds grids only, and these are given.
        process = EDM(0.5 * min((level for level in levels if level > 0), default=1.0), max(levels, default=1.0))
        plan = method.plan(process, levels, "sample")
        steps = steps_of(plan)
        state = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
        count, isolated = 0, Isolated("the model", ("x", "sigma"))

        def predict(state: Tensor, sigma: float) -> Tensor:
            nonlocal count
            given = state.to(x.dtype)
            at = sigma * given.new_ones([len(given)])
            denoised = isolated.call(model, (given, at), extra_args, (given is not state, True))
            check_output(denoised, given, "the model")
            i = steps[count]
            if callback is not None and (count == 0 or steps[count - 1] < i):
                seen = {"x": given.clone(), "denoised": denoised.clone()}
                callback({**seen, "i": i, "sigma": sigmas[i], "sigma_hat": sigma})
                for name, tensor, own in (("x", seen["x"], given), ("denoised", seen["denoised"], denoised)):
                    if written(tensor, own):
                        raise ValueError(
                            f"the callback wrote into {name!r} at sigma = {sigma:g}, a copy for it to look at: edit "
                            "states with the callback of scoresde.sample"
                        )
            count += 1
            return denoised.to(state.dtype)

        top = _sigma_max(model) if sigma_max is None else float(sigma_max)
        full = process if top is None or levels[0] >= top * (1 - ROUNDED) else EDM(process.t_min, top)
        noise = _noise(plan, state, noise_sampler, seeds, full)
        with tqdm(total=len(levels) - 1, disable=disable) as bar:

            def step(state: Tensor, sigma: float) -> None:
                bar.update()

            return plan.run(predict, state, noise, step=step).to(x.dtype)

    def levels(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
        return torch.tensor(method.recommended(EDM(sigma_min, sigma_max), steps))

    sample.__name__ = f"sample_{method.name}"
    sample.levels = levels  # type: ignore[attr-defined]
    return sample  # type: ignore[return-value]


def _sigma_max(model: Any) -> float | None:
    """The highest noise level of a model of k-diffusion, which may be wrapped."""
    seen: list[Any] = []
    while model is not None and not any(model is other for other in seen):
        if (found := getattr(model, "sigma_max", None)) is not None:
            return float(found)
        seen.append(model)
        model = getattr(model, "inner_model", None)
    return None


def _noise(
    plan: Plan, like: Tensor, noise_sampler: NoiseSampler | None, seeds: Sequence[int] | None, process: EDM
) -> Callable[[], Tensor]:
    if noise_sampler is not None and seeds is not None:
        raise ValueError("give noise_sampler or seeds, not both")
    if seeds is not None:
        return seeded(seeds, like, process, plan.times[0])
    if noise_sampler is None:
        return lambda: torch.randn_like(like)
    ends = intervals(plan)
    return lambda: noise_sampler(*(like.new_tensor(level) for level in next(ends))).to(like.dtype)


def intervals(plan: Plan) -> Iterator[tuple[float, float]]:
    """For each draw of a plan the interval of noise levels that its noise is for; no two of them overlap.

    It ends at the next evaluation or the end of the step, and begins where the one before ended. Where that is not an
    interval downward (churn, several draws at one level), the draws of a step share it evenly.
    """
    for start, end, instructions in _steps(plan):
        ends = []
        for position, instruction in enumerate(instructions):
            if isinstance(instruction, Draw):
                following = (later.t for later in instructions[position:] if isinstance(later, (Eval, Step)))
                ends.append(next(following))
        points = [start, *ends]
        if not all(after < before for before, after in zip(points, ends, strict=False)):
            points = [*(start + (end - start) * i / len(ends) for i in range(len(ends))), end]
        yield from zip(points, points[1:], strict=False)


def _steps(plan: Plan) -> Iterator[tuple[float, float, list[Any]]]:
    """The time before and after each step, and its instructions."""
    pending: list[Any] = []
    start = plan.times[0]
    for instruction in plan.instructions:
        pending.append(instruction)
        if isinstance(instruction, Step):
            yield start, instruction.t, pending
            start, pending = instruction.t, []
