"""Our solvers inside pipelines of diffusers: python benchmarks/agreement/pipelines.py.

Small pipelines with random weights (``benchmarks/agreement/tiny_pipelines.py``) are saved to a folder and loaded from
it.

* *Our loop*: a pipeline with our Scheduler, and ``scoresde.sample`` on the pipeline's guided network, from the same
  initial state, on the same grid, with the same seeds for the noise that stochastic solvers draw.
* *diffusers' schedulers*: a pipeline with one of diffusers' schedulers, and with our Scheduler of the same method on
  that scheduler's timesteps, from the same initial noise and with the same generator for later noise.

The figure is the largest absolute difference of the last latents, relative to their root mean square: the latents of
random ε-networks have one of about 16.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

import scoresde
from benchmarks.agreement.ode import TOLERANCE, write
from benchmarks.agreement.tiny_pipelines import CASES, Case
from benchmarks.recorded import RESULTS
from scoresde.integrations.diffusers import Scheduler
from solvers import Solver
from solvers import get as solver

STEPS, SEED = 6, 11
THEIR_STEPS = 8  # divides their 1000 timesteps, by whose quotient DDIMScheduler and DDPMScheduler step
SOLVERS: dict[str, Mapping[str, Any]] = {
    "ddim": {},
    "dpmpp_2m": {},
    "dpmpp_3m": {},
    "uni_pc": {"order": 3},
    "deis": {},
    "heun": {},
    "dpmpp_3s": {},
    "runge_kutta": {},
    "ddpm": {},
    "dpmpp_2m_sde": {},
    "dpmpp_sde": {},
    "sa_solver": {},
}


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers in a pipeline, and our solver of the same method."""

    pipeline: str
    theirs: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)


def peers() -> Iterator[Peer]:
    # Whole timesteps, at which their σ are not interpolated; the last step ends at α = 1.
    whole: dict[str, Any] = {"timestep_spacing": "trailing"}
    ddim = {**whole, "set_alpha_to_one": True}
    for pipeline in ("DDPMPipeline", "StableDiffusionPipeline", "DiTPipeline"):
        yield Peer(pipeline, "DDIMScheduler", "ddim", ddim)
        yield Peer(pipeline, "DPMSolverMultistepScheduler", "dpmpp_2m", whole)
    for pipeline in ("StableDiffusionPipeline", "DiTPipeline"):
        yield Peer(pipeline, "UniPCMultistepScheduler", "uni_pc", whole)
    yield Peer("DDPMPipeline", "DDPMScheduler", "ddpm", {**whole, "clip_sample": False})
    pipeline = "StableDiffusionPipeline"
    yield Peer(pipeline, "EulerDiscreteScheduler", "euler", whole)
    yield Peer(pipeline, "HeunDiscreteScheduler", "heun", whole)
    yield Peer(pipeline, "DDPMScheduler", "ddpm", {**whole, "clip_sample": False})
    yield Peer(pipeline, "EulerAncestralDiscreteScheduler", "euler_ancestral", whole)
    stochastic = {**whole, "algorithm_type": "sde-dpmsolver++"}
    yield Peer(pipeline, "DPMSolverMultistepScheduler", "dpmpp_2m_sde", stochastic)
    for pipeline in ("StableDiffusion3Pipeline", "FluxPipeline"):
        yield Peer(pipeline, "FlowMatchEulerDiscreteScheduler", "euler")


def run(pipe: Any, scheduler: Any, case: Case, **arguments: Any) -> tuple[Tensor, Tensor, int]:
    """The first and the last state of a pipeline's loop, and how often it called its network."""
    pipe.scheduler, states, step = scheduler, [], scheduler.step

    @functools.wraps(step)
    def recorded(model_output: Tensor, timestep: Any, sample: Tensor, *positional: Any, **named: Any) -> Any:
        result = step(model_output, timestep, sample, *positional, **named)
        states.append((sample, result[0]))
        return result

    scheduler.step = recorded
    torch.manual_seed(SEED)
    pipe(**{"num_inference_steps": STEPS, **case.arguments(), **arguments})
    first, last = states[0][0], states[-1][1]
    count = len(first) // case.width
    return first[:count], last[:count], len(states)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the root mean square of what is expected."""
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


def grid(pipe: Any, method: Solver, steps: int) -> Any:
    """The times of our loop: the recommended grid; for flow models even steps, shifted as their configuration says."""
    config = pipe.scheduler.config
    if "shift" not in config:
        return method.recommended(scoresde.VPDiscrete(config["trained_betas"] or betas(config)), steps)
    # At 16 image tokens, by the straight line that pipelines draw through (256, 0.5) and (4096, 1.15).
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (16 - 256)
    factor = math.exp(mu) if config["use_dynamic_shifting"] else config["shift"]
    even = np.linspace(1, 1 / steps, steps)
    return np.append(factor * even / (1 + (factor - 1) * even), 0.0)


def betas(config: Mapping[str, Any]) -> Any:
    assert config["beta_schedule"] == "scaled_linear"
    return np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, config["num_train_timesteps"]) ** 2


def beside_our_loop(pipe: Any, case: Case, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline with our scheduler beside our own loop."""
    method = solver(name, **options)
    native = pipe.scheduler
    times, model = grid(pipe, method, STEPS), case.model(pipe)
    try:
        scheduler = Scheduler.from_config(native.config, solver=name, seeds=SEED, **options)
        first, last, calls = run(pipe, scheduler, case)
    finally:
        pipe.scheduler = native
    seeds = range(SEED, SEED + len(first))
    ours = scoresde.sample(model, method, x_init=first, grid=times, seeds=list(seeds))
    return {"nfe": calls, "our nfe": ours.nfe, "difference": relative(last, ours.samples)}


class Following(Scheduler):
    """Our scheduler on the timesteps of another, from its initial state, in pipelines that cannot pass them on."""

    def follow(self, theirs: Any) -> None:
        self.following = torch.unique_consecutive(theirs.timesteps).tolist()
        theirs.set_timesteps(theirs.num_inference_steps)
        first = theirs.init_noise_sigma * torch.ones(())
        self.scale = float(theirs.scale_model_input(first, theirs.timesteps[0]))  # α² + σ² = 1 is their networks' frame

    def set_timesteps(self, *arguments: Any, **named: Any) -> None:
        super().set_timesteps(timesteps=self.following)

    @property
    def init_noise_sigma(self) -> float:
        return self.scale


def beside_theirs(pipe: Any, case: Case, peer: Peer) -> dict[str, Any]:
    """A pipeline with a scheduler of diffusers beside the same with ours, on its timesteps."""
    native = pipe.scheduler
    flow = "shift" in native.config
    theirs = getattr(diffusers, peer.theirs).from_config(native.config, **peer.options)
    ours = (Scheduler if flow else Following).from_config(native.config, solver=peer.name, **peer.ours)
    # Where a pipeline of flow models passes no sigmas, their scheduler ends lower than ours.
    even = {"sigmas": np.linspace(1, 1 / THEIR_STEPS, THEIR_STEPS).tolist()} if flow else {}
    run_on = functools.partial(run, pipe, case=case, num_inference_steps=THEIR_STEPS, **even)
    try:
        _, expected, their_calls = run_on(theirs, generator=torch.Generator().manual_seed(SEED))
        if not flow:
            ours.follow(theirs)
        _, found, calls = run_on(ours, generator=torch.Generator().manual_seed(SEED))
    finally:
        pipe.scheduler = native
    return {"nfe": calls, "their nfe": their_calls, "difference": relative(found, expected)}


def report(loops: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(row["pipeline"] for row in loops))
    cells = {(row["pipeline"], row["name"]): row for row in loops}
    lines = [
        "# Our solvers inside pipelines of diffusers",
        "",
        "Written by `python benchmarks/agreement/pipelines.py`; its docstring says how that is measured.",
        f"diffusers {diffusers.__version__}; {STEPS} steps beside our loop, {THEIR_STEPS} beside their schedulers.",
        "",
        "## Beside our own loop",
        "",
        "Largest difference of the latents, relative to their root mean square.",
        "",
        f"| solver | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(
            f"| `{solver}` | " + " | ".join(_number(cells[name, solver]["difference"]) for name in names) + " |"
            for solver in dict.fromkeys(row["name"] for row in loops)
        ),
        "",
        "## Beside diffusers' schedulers",
        "",
        f"The same measure; at most {TOLERANCE:.0e}.",
        "",
        "| pipeline | their scheduler | ours | difference |",
        "|---|---|---|---:|",
        *(
            f"| {row['pipeline']} | {_call(row['theirs'], row['options'])} | {_call(row['name'], row['ours'])} | "
            f"{_number(row['difference'])} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def _call(name: str, options: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    return f"`{name}`" + (f" {shown}" if shown else "")


def measured(
    show: Callable[[str], Any] = lambda text: None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows: beside our loop, and beside diffusers' schedulers."""
    loops, rows, compared = [], [], list(peers())
    for name, case in CASES.items():
        pipe = case.saved_and_loaded()
        for method, options in SOLVERS.items():
            loops.append({"pipeline": name, "name": method, **beside_our_loop(pipe, case, method, options)})
            show(str(loops[-1]))
        for peer in (peer for peer in compared if peer.pipeline == name):
            rows.append({**asdict(peer), **beside_theirs(pipe, case, peer)})
            show(str(rows[-1]))
    return loops, rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RESULTS / "agreement_pipelines.md"
    parser.add_argument("--out", type=Path, default=default, help="markdown file; a .json of the same name goes beside")
    arguments = parser.parse_args(argv)
    loops, rows = measured(print)
    write(arguments.out, report(loops, rows), [*loops, *rows], {})


if __name__ == "__main__":
    main()
