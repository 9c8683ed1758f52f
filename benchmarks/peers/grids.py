"""Every deterministic solver of the peers on every grid of their own: what benchmarks/peers/compare.py runs, as data.

Options that change nothing for a solver are left out, and so are networks' matters (guidance, thresholding). Noise
levels run from that of t_max to that of t_min; where a peer's user names the last one, also to each of ``LOWS``.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoresde.process import EDM, VP, Flow, Process

LOWS = (0.01, 0.03, 0.1)  # σ/α of the last noisy time
T_ENDS = (1e-3, 1e-4)  # that DPM-Solver's authors recommend
TRAINING = 1000  # timesteps of diffusers' tables, even in VP time
Options = dict[str, Any]
Named = dict[str, Options]  # options by what the report calls them

SPACINGS: Named = {
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading"},
    "leading from t_max": {"timestep_spacing": "leading", "first": True},
    "trailing": {"timestep_spacing": "trailing"},
}
CONVERTED: Named = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu": {"use_lu_lambdas": True},
}
FLOW: Named = {
    f"flow, shift {shift}": {"use_flow_sigmas": True, "flow_shift": shift, "first": True} for shift in (1.0, 3.0)
}
ZERO, LAST = {"final_sigmas_type": "zero"}, {"final_sigmas_type": "sigma_min"}
LOWER, SAME = {"lower_order_final": True}, {"lower_order_final": False}
FORMULAS = [
    {"solver_order": 1},
    *({"solver_order": k, "solver_type": kind} for k in (2, 3) for kind in ("midpoint", "heun")),
]


@dataclass(frozen=True)
class Run:
    """A solver of a peer on one of its grids.

    Attributes:
        peer, function, options: as :mod:`benchmarks.peers.adapters` calls it.
        place: options that make the grid.
        grid: what the report calls it.
        carrier: the process on whose scale it runs.
        times: as the adapter wants them with ``steps``.
    """

    peer: str
    function: str
    options: Mapping[str, Any]
    place: Mapping[str, Any]
    grid: str
    carrier: Process
    times: NDArray[np.float64] = field(repr=False, default_factory=lambda: np.zeros(0))

    @property
    def solver(self) -> str:
        """The function with its options."""
        return " ".join([self.function, *(f"{key}={_shown(value)}" for key, value in self.options.items())])

    @property
    def label(self) -> str:
        return f"{self.solver} | {self.grid}"


def runs(peer: str, process: Process) -> Iterator[Run]:
    """All of a peer's for problems on this process."""
    low, high = (math.exp(-process.half_log_snr(t)) for t in (process.t_min, process.t_max))
    return PEERS[peer](low, min(high, math.exp(-VP().half_log_snr(VP.t_max))))


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return "all" if value else "none"
    return getattr(value, "__name__", value)


def _lows(low: float) -> dict[str, float]:
    return {"σ_min": low} | {f"σ_min={value}": value for value in LOWS}


def no_noise(t: Any) -> float:
    """τ of SA-Solver's ODE."""
    return 0.0


def endings(order: int) -> list[Options]:
    """How diffusers' multistep DPM-Solvers may end, that of the first order always alike."""
    if order == 1:
        return [ZERO | LOWER, LAST | LOWER]
    finals = [ZERO | LOWER, LAST | LOWER, LAST | SAME, LAST | SAME | {"euler_at_final": True}]
    return finals if order == 2 else [*finals, ZERO | SAME]


def diffusers(low: float, high: float) -> Iterator[Run]:
    package = importlib.import_module("diffusers")
    first, last = (VP().time(-math.log(level)) for level in (high, low))
    table = np.linspace(first, last, TRAINING)

    def each(name: str, options: Options, grids: Named, carrier: Process) -> Iterator[Run]:
        known = {*inspect.signature(getattr(package, name)).parameters, "first"}
        for grid, place in grids.items():
            if known.issuperset(place):
                scale = Flow() if "use_flow_sigmas" in place else carrier
                yield Run("diffusers", name, options, place, grid, scale, table)

    grids = SPACINGS | CONVERTED | FLOW
    for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"):
        single = "Single" in name
        for kind, formula in product(("dpmsolver++", "dpmsolver"), FORMULAS):
            finals = [ZERO | LOWER, LAST | LOWER, LAST | SAME]
            if not single:
                finals = endings(formula["solver_order"])
            elif formula["solver_order"] == 1:
                finals = []
            for final in finals:
                if kind == "dpmsolver++" or "zero" not in final.values():
                    places = {"default": {}} | CONVERTED | FLOW if single else grids
                    yield from each(name, {"algorithm_type": kind, **formula, **final}, places, VP())
    for k, variant, data, off in product((1, 2, 3), ("bh1", "bh2"), (True, False), ([], list(range(50)))):
        options = {"solver_order": k, "solver_type": variant, "predict_x0": data, "disable_corrector": off}
        for final in (ZERO | LOWER, LAST | LOWER, LAST | SAME)[: 2 if k == 1 else 3]:
            if data or "zero" not in final.values():
                yield from each("UniPCMultistepScheduler", options | final, grids, VP())
    for k, final in [(1, LOWER), *product((2, 3), (LOWER, SAME))]:
        yield from each("DEISMultistepScheduler", {"solver_order": k} | final, grids, VP())
    for kind, k, corrector in product(("data_prediction", "noise_prediction"), (1, 2, 3), (1, 2, 3)):
        orders = {"predictor_order": k, "corrector_order": corrector, "algorithm_type": kind}
        yield from each("SASolverScheduler", orders | {"tau_func": no_noise}, grids, VP())
    for schedule, (name, last) in product(("karras", "exponential"), (_lows(low)).items()):
        place = {"sigma_schedule": schedule, "sigma_min": last, "sigma_max": high}
        one = {f"{schedule}, {name}": place}
        for formula in FORMULAS:
            for final in endings(formula["solver_order"]):
                yield from each("EDMDPMSolverMultistepScheduler", formula | final, one, EDM())
        for final in (ZERO, LAST):
            yield from each("EDMEulerScheduler", final, one, EDM())
    chosen = {
        f"{grid}, {name}": place | {"sigma_min": last, "sigma_max": high}
        for (grid, place), (name, last) in product(CONVERTED.items(), _lows(low).items())
        if name != "σ_min"
    }
    for final in (ZERO, LAST):
        yield from each("EulerDiscreteScheduler", final, grids | chosen, EDM())
    for name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler"):
        yield from each(name, {}, grids, EDM())
    for k in (1, 2, 3, 4):
        yield from each("LMSDiscreteScheduler", {"order": k}, grids, EDM())
    for one in (True, False):
        yield from each("DDIMScheduler", {"set_alpha_to_one": one}, SPACINGS, VP())
        for skip in (True, False):
            yield from each("PNDMScheduler", {"set_alpha_to_one": one, "skip_prk_steps": skip}, SPACINGS, VP())
    yield from each("IPNDMScheduler", {}, {"their own": {}}, VP())
    for shift in (1.0, 3.0):
        own = {f"shift {shift}": {"shift": shift, "first": True}}
        own |= {f"{grid}, shift {shift}": {"shift": shift, "first": True} | place for grid, place in CONVERTED.items()}
        yield from each("FlowMatchEulerDiscreteScheduler", {}, own, Flow())
        yield from each("FlowMatchHeunDiscreteScheduler", {}, own, Flow())


def k_diffusion(low: float, high: float) -> Iterator[Run]:
    samplers: list[tuple[str, Options]] = [("sample_euler", {}), ("sample_heun", {}), ("sample_dpm_2", {})]
    samplers += [("sample_lms", {"order": k}) for k in (1, 2, 3, 4)]
    samplers += [("sample_dpmpp_2s_ancestral", {"eta": 0.0}), ("sample_dpmpp_2m", {})]
    samplers += [("sample_dpmpp_sde", {"eta": 0.0, "r": r}) for r in (1 / 3, 1 / 2, 2 / 3)]
    samplers += [("sample_dpmpp_2m_sde", {"eta": 0.0, "solver_type": kind}) for kind in ("midpoint", "heun")]
    samplers += [("sample_dpmpp_3m_sde", {"eta": 0.0})]
    grids: Named = {}
    for name, last in _lows(low).items():
        levels = {"sigma_min": last, "sigma_max": high}
        for schedule, rho in (("karras", 7.0), ("karras", 5.0), ("polyexponential", 0.5), ("polyexponential", 2.0)):
            grids[f"{schedule} ρ={rho:g}, {name}"] = {"schedule": schedule, "levels": levels | {"rho": rho}}
        grids[f"exponential, {name}"] = {"schedule": "exponential", "levels": levels}
        yield Run("k-diffusion", "sample_dpm_fast", {}, {"schedule": "", "levels": levels}, name, EDM())
    # σ² = exp(β_d/2 + β_min) − 1 at t = 1, which is to be the first level.
    beta = 2 * (math.log1p(high**2) - 0.1)
    for last in T_ENDS:
        grids[f"vp, eps_s={last}"] = {"schedule": "vp", "levels": {"beta_d": beta, "beta_min": 0.1, "eps_s": last}}
    for (function, options), (grid, place) in product(samplers, grids.items()):
        yield Run("k-diffusion", function, options, place, grid, EDM())


def azula(low: float, high: float) -> Iterator[Run]:
    samplers: list[tuple[str, Options]] = [(f"{name}Sampler", {}) for name in ("DDIM", "Euler", "Heun")]
    samplers += [(f"{name}ABSampler", {"order": k}) for name in ("z", "v", "zE", "xE", "RE") for k in (1, 2, 3, 4)]
    for name, last in ({"σ_min=0.001": 1e-3} | _lows(low)).items():
        # In the first two α² + σ² = 1 + σ_min² at all times, in the next two σ = 1 at the first one.
        spherical, straight = math.sqrt((1 + last**2) / (1 + high**2)), 1 / high
        grids: Named = {
            "VP": {"schedule": "VPSchedule", "levels": {"alpha_min": spherical, "sigma_min": last}},
            "cosine": {"schedule": "CosineSchedule", "levels": {"alpha_min": spherical, "sigma_min": last}},
            "rectified": {"schedule": "RectifiedSchedule", "levels": {"alpha_min": straight, "sigma_min": last}},
            "decay": {"schedule": "DecaySchedule", "levels": {"alpha_min": straight, "sigma_min": last}},
            "VE": {"schedule": "VESchedule", "levels": {"sigma_min": last, "sigma_max": high}},
        }
        for (function, options), (grid, place) in product(samplers, grids.items()):
            yield Run("azula", function, options, place, f"{grid}, {name}", EDM())


def _published(peer: str, solvers: list[tuple[str, Options]], high: float) -> Iterator[Run]:
    """Of DPM-Solver's and UniPC's code, which share their grids."""
    skips = ("time_uniform", "time_quadratic", "logSNR")
    for (function, options), zero, skip, end in product(solvers, (True, False), skips, T_ENDS):
        times = np.array([VP().time(-math.log(high)), end])
        denoised = options | {"denoise_to_zero": zero}
        yield Run(peer, function, denoised, {"skip_type": skip}, f"{skip} to {end}", VP(), times)


def dpm_solver(low: float, high: float) -> Iterator[Run]:
    solvers: list[tuple[str, Options]] = []
    for kind in ("dpmsolver++", "dpmsolver"):
        solvers.append(("multistep", {"algorithm_type": kind, "order": 1}))
        for k, taylor in product((2, 3), ("dpmsolver", "taylor")):
            options = {"algorithm_type": kind, "order": k, "solver_type": taylor}
            solvers += [("multistep", options | final) for final in (LOWER, SAME)]
            solvers += [("singlestep", options), ("singlestep_fixed", options)]
    return _published("DPM-Solver", solvers, high)


def unipc(low: float, high: float) -> Iterator[Run]:
    variants, kinds = ("bh1", "bh2", "vary_coeff"), ("data_prediction", "noise_prediction")
    solvers = [
        ("multistep", {"variant": variant, "algorithm_type": kind, "order": k} | final)
        for variant, kind, k, final in product(variants, kinds, (1, 2, 3, 4), (LOWER, SAME))
        if k > 1 or final is LOWER
    ]
    return _published("UniPC", solvers, high)


PEERS = {
    "diffusers": diffusers,
    "k-diffusion": k_diffusion,
    "azula": azula,
    "DPM-Solver": dpm_solver,
    "UniPC": unipc,
}
