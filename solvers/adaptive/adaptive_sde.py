"""The reverse SDE with steps that each sample chooses for itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solvers.adaptive.bridge import Increment, nothing_known
from solvers.adaptive.controllers import Controller
from solvers.adaptive.loop import Active, Attempt, PerSampleSolver, Run, where
from solvers.adaptive.tolerances import MAX_NFE
from solvers.base import mix
from solvers.catalogue import registered


def _rung(factor: Tensor) -> Tensor:
    """The next lower power of √2, so that rounding, which differs between batches, changes a step's size but rarely."""
    return torch.exp2((2 * torch.log2(factor)).floor() / 2)


@registered
class AdaptiveSDE(PerSampleSolver):
    """Euler–Maruyama x' and an Euler–Maruyama step with drift and noise of its end, x̃; x'' = (x' + x̃)/2 is kept.

    With the drift F = f x − g² ∇log p: x' = x − h F(x, t) + g(t) ΔB and x̃ = x − h F(x', t − h) + g(t − h) ΔB, the same
    increment ΔB, the stochastic improved Euler method of weak order 2. The difference x' − x'', each element in units
    of max(atol, rtol max(|x'|, |x' before|)), is the error E, its root mean square over the sample. Up to 1 the step is
    taken, and the next is 0.9 h E^(−0.9), with that factor lowered to a power of √2. The first is a hundredth of the
    way. An attempt, taken or not, costs two evaluations.

    Whether a step is rejected depends on its ΔB, so that a fresh one after a rejection, or the old one scaled to the
    shorter step, is not normal any more: errors then grow as tolerances fall. Here a rejected increment stays a part of
    the sample's path. The shorter step takes its part of it by a Brownian bridge, later steps take the rest, and none
    goes beyond the nearest time whose B is known. Each attempt takes one draw.

    From α = 0 the first step is DDIM's, to λ = −5. A grid that ends in ``t_clean`` gets a denoise at t_min. Samples do
    not depend on the batch; the host waits twice for each batched step.

    Args:
        rtol, atol: relative and absolute tolerance of a step, on x.
        max_nfe: evaluations in which the steps of the slowest sample must end.

    Use:
        Samples of the reverse SDE with a tolerance in place of steps.

    Raises:
        ValueError: a tolerance that is not positive. In a run, tolerances that the state's dtype cannot keep, and
            samples that do not come to the end.
    """

    name = "adaptive_sde"
    reference = (
        "Jolicoeur-Martineau et al. 2021, Gotta go fast when generating data with score-based models, Algorithm 1; "
        "Rackauckas & Nie 2017, Adaptive methods for SDEs via natural embeddings and rejection sampling with memory"
    )
    stochastic = True
    order = None
    weak_order = 2
    controller = Controller(1 / 0.9, limit=_rung)

    def __init__(self, rtol: float = 0.02, atol: float = 0.0078, max_nfe: int = MAX_NFE):
        super().__init__(rtol, atol, max_nfe)
        self.options = {"rtol": rtol, "atol": atol, "max_nfe": max_nfe}

    def _ends(self, run: Run) -> tuple[float, float]:
        return run.first.t, run.last.t

    def _point(self, run: Run, at: Tensor) -> Any:
        return run.at_time(at)

    def _begin(self, run: Run, active: Active) -> tuple[Tensor, dict[str, Tensor]]:
        return 0.01 * (active.at - active.end), {"euler": active.x, **nothing_known(active)}

    def _attempt(self, run: Run, active: Active, target: Tensor) -> Attempt:
        increment = Increment(active, target, run.normal(active.rows))
        t, s = run.at_time(active.at), run.at_time(increment.to)
        h, known = t.t - s.t, active.memory["euler"]

        def forced(x: Tensor, p: Any) -> Tensor:
            """What a step adds by the drift at x and the noise, both at p."""
            score = run.evaluate(x, p, active.rows).score
            return mix((-h * p.drift, x), (h * p.diffusion, score), (p.diffusion.sqrt(), increment.value))

        first = forced(active.x, t)
        euler = active.x + first
        improved = active.x + 0.5 * (first + forced(euler, s))

        def remembered(accepted: Tensor) -> dict[str, Tensor]:
            return {"euler": where(accepted, euler, known), **increment.remembered(accepted)}

        return Attempt(improved, increment.to, self._error(euler, improved, known), remembered)
