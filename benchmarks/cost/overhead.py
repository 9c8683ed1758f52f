"""What the executor costs beside the network: python benchmarks/cost/overhead.py [--quick] [--threads 1].

A free model returns one and the same tensor, so that all the time is the solver's. Three ways of taking the same steps
are timed in turn, in one process:

* ``executor``: the plan, run by ``Plan.run``.
* ``diffusers``: the scheduler of the same method with the same number of model evaluations, called as its pipelines
  do (``scale_model_input`` and ``step``). Times are per step of ours, whatever the scheduler calls a step.
* ``bound``: the combinations of the plan, term by term in the same order, by ``torch.mul(out=…)`` and ``add_`` on
  buffers that were allocated before and are used again as soon as they can be: what the same operations cost without
  allocation and bookkeeping.

Draws are excluded: the noise is one and the same tensor for all of them. They are timed by themselves.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm
from torch import Tensor
from torch.utils.benchmark import Measurement, Timer

import scoresde
import solvers
from benchmarks.recorded import RESULTS
from scoresde.files import replacing
from scoresde.noise import Noise
from scoresde.runs.hardware import cpu
from solvers import Plan, PlannedSolver
from solvers.plan.instructions import Draw, Eval, Lin, Step

SHAPE = (64, 3, 32, 32)
STEPS = 20


@dataclass(frozen=True)
class Case:
    """A method of ours, and diffusers' scheduler of the same method."""

    solver: str
    scheduler: str
    options: dict[str, Any]


CASES = (
    Case("ddim", "DDIMScheduler", {"clip_sample": False}),
    Case("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
    Case("heun", "HeunDiscreteScheduler", {}),
    Case("dpm_solver_2", "DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    Case("ddpm", "DDPMScheduler", {"clip_sample": False}),
)


@dataclass(frozen=True)
class Timing:
    """Seconds: the median, and the first and third quartile."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median * 1e6:.0f} µs ({self.low * 1e6:.0f}–{self.high * 1e6:.0f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the executor beside diffusers' schedulers and its bound.")
    default = RESULTS / "overhead.md"
    parser.add_argument("--out", type=Path, default=default, help="markdown file; a .json of the same name goes beside")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="a smoke test: small tensors, little time, no conclusions")
    args = parser.parse_args(arguments)
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        print(f"other work is running (load {os.getloadavg()[0]:.1f}): times will be too long", file=sys.stderr)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        results = measure((2, 3, 8, 8) if args.quick else SHAPE, 0.02 if args.quick else 5.0, args.threads)
    finally:
        torch.set_num_threads(before)
    text = report(results)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for path, content in ((args.out, text), (args.out.with_suffix(".json"), json.dumps(results, indent=1) + "\n")):
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(f"{text}\nwritten to {args.out}")


def measure(shape: tuple[int, ...], seconds: float, threads: int) -> dict[str, Any]:
    """Everything, as one mapping; each figure gets about ``seconds``."""
    return {
        "hardware": f"{cpu()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "threads": threads,
        "shape": list(shape),
        "steps": STEPS,
        "seconds per figure": seconds,
        "per step": {case.solver: _asdict(overhead(case, shape, seconds, threads)) for case in CASES},
        "per draw": _asdict(draws(shape, seconds, threads)),
    }


def overhead(case: Case, shape: tuple[int, ...], seconds: float, threads: int) -> dict[str, Timing]:
    """Time per step of executor, scheduler and bound."""
    process, solver = scoresde.VPDiscrete(), solvers.get(case.solver)
    assert isinstance(solver, PlannedSolver)
    plan = solver.plan(process, solver.recommended(process, STEPS))
    x, output, noise = (torch.randn(shape) for _ in range(3))
    scheduler = getattr(diffusers, case.scheduler)(**case.options)
    set_evaluations(scheduler, plan.nfe)
    ways: dict[str, Callable[[], Any]] = {
        "executor": lambda: plan.run(lambda state, t: output, x, lambda: noise),
        "diffusers": lambda: follow(scheduler, x, lambda state, t: output),
        "bound": bound(plan, x, output, noise),
    }
    with mock.patch.object(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: noise):
        return {way: _scaled(timing, 1 / STEPS) for way, timing in timed(ways, seconds, threads).items()}


def set_evaluations(scheduler: Any, nfe: int) -> None:
    """Set as many steps as take ``nfe`` evaluations (a second-order scheduler counts some evaluations as no steps)."""
    for steps in range(1, nfe + 1):
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) == nfe:
            return
    raise ValueError(f"{type(scheduler).__name__} takes {nfe} evaluations at no number of steps")


def follow(scheduler: Any, x: Tensor, predict: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """A trajectory by a diffusers scheduler; a shallow copy of it starts at its first step."""
    scheduler = copy.copy(scheduler)
    for t in scheduler.timesteps:
        output = predict(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x


def bound(plan: Plan, x: Tensor, output: Tensor, noise: Tensor) -> Callable[[], Tensor]:
    """The plan's combinations on preallocated buffers, as few of them as its registers' lifetimes allow."""
    registers: dict[int, Tensor] = {0: x}
    program: list[Callable[[], Tensor]] = []
    spare: list[Tensor] = []
    users: Counter[int] = Counter()  # how many registers stand for a buffer
    out = x
    for instruction, dead, into in zip(plan.instructions, plan.dead, plan.overwrites, strict=True):
        if isinstance(instruction, Lin):
            terms = sorted(instruction.terms, key=lambda term: term[0] != into)
            (first, factor), *rest = ((registers[register], factor) for register, factor in terms)
            if into is not None:
                out = first
                program.append(partial(out.mul_, factor))
            else:
                out = spare.pop() if spare else torch.empty_like(x)
                if rest and factor == 1.0:
                    (second, alpha), *rest = rest
                    program.append(partial(torch.add, first, second, alpha=alpha, out=out))
                else:
                    program.append(partial(torch.mul, first, factor, out=out))
            program += [partial(out.add_, other, alpha=alpha) for other, alpha in rest]
            registers[instruction.out] = out
            users[id(out)] += 1
        elif isinstance(instruction, Step):
            registers[instruction.out] = registers[instruction.x]
            users[id(registers[instruction.x])] += 1
        elif isinstance(instruction, Eval):
            registers.update(dict.fromkeys(instruction.outputs.values(), output))
        else:
            assert isinstance(instruction, Draw)
            registers[instruction.out] = noise
        for register in dead:
            buffer = registers.pop(register)
            users[id(buffer)] -= 1
            if users[id(buffer)] == 0 and not any(buffer is given for given in (x, output, noise)):
                spare.append(buffer)

    def run() -> Tensor:
        for operation in program:
            operation()
        return out

    expected = plan.run(lambda state, t: output, x, lambda: noise)
    torch.testing.assert_close(run(), expected, rtol=1e-4, atol=1e-4)
    return run


def draws(shape: tuple[int, ...], seconds: float, threads: int) -> dict[str, Timing]:
    """Time of one draw of seed-addressed noise, and of torch's own."""
    noise = Noise(range(shape[0]), shape[1:], torch.float32)
    return timed({"scoresde.noise": noise, "torch.randn": lambda: torch.randn(shape)}, seconds, threads)


def timed(ways: dict[str, Callable[[], Any]], seconds: float, threads: int, rounds: int = 5) -> dict[str, Timing]:
    """Median and quartiles of each, measured in turns so that what else the machine does meets all of them alike."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            timer = Timer("call()", globals={"call": call}, num_threads=threads)
            found: Measurement = timer.blocked_autorange(min_run_time=seconds / rounds)
            times[way] += found.times
    return {way: Timing(*np.quantile(values, (0.5, 0.25, 0.75)).tolist()) for way, values in times.items()}


def _scaled(timing: Timing, factor: float) -> Timing:
    return Timing(timing.median * factor, timing.low * factor, timing.high * factor)


def _asdict(timings: dict[str, Timing]) -> dict[str, Any]:
    return {way: asdict(timing) for way, timing in timings.items()}


def report(results: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "# Speed of the executor",
        "",
        f"{results['hardware']}, threads: {results['threads']}, torch {results['torch']}, diffusers "
        f"{results['diffusers']}. State {tuple(results['shape'])} float32, {results['steps']} steps, a model that "
        "costs nothing, draws excluded. Median time per step, quartiles in brackets. The bound does the same "
        "operations in place on preallocated buffers. From `python benchmarks/cost/overhead.py`.",
        "",
        "| solver | executor | diffusers | bound | executor/bound | diffusers/executor |",
        "|---|---|---|---|---|---|",
    ]
    for solver, ways in results["per step"].items():
        executor, peer, least = (Timing(**ways[way]) for way in ("executor", "diffusers", "bound"))
        lines.append(
            f"| {solver} | {executor} | {peer} | {least} | {executor.median / least.median:.2f} | "
            f"{peer.median / executor.median:.2f} |"
        )
    ours, theirs = (Timing(**results["per draw"][way]) for way in ("scoresde.noise", "torch.randn"))
    lines += ["", f"One draw of noise of that shape: {ours} seed-addressed, {theirs} by `torch.randn`."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
