"""What is certified: every registered solver at its defaults, and a table of variants.

A variant is there for every option that changes the method but ``nodes=grid``, whose last step's order depends on the
number of steps (tests/solvers/methods/test_equivalence.py). Products are thinned where options act independently:
``eab`` and ``uni_pc`` have every order, frame, variable, variant and starter, but not every combination of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import solvers
from scoresde.process import EDM, VP, Flow, Process
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import VARIABLES
from solvers.coefficients.tableaus import TABLEAUS

Case = tuple[str, dict[str, Any]]
PROCESSES: dict[str, Process] = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}


def each(name: str, *choices: dict[str, Any], **fixed: Any) -> Iterable[Case]:
    """A case for each choice of options, with further options that are the same in all of them."""
    known = solvers.get(name).options
    chosen = ({**fixed, **choice} for choice in choices)
    return ((name, {key: options[key] for key in known if key in options}) for options in chosen)


def every(option: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """A choice for each value of an option."""
    return [{option: value} for value in values]


KEPT = {"starter": "singlestep"}
UNI_PC = ("bh1", "bh2", "vary_coeff")
SINGLESTEP_2 = [{"r1": 0.3}, {"solver_type": "heun"}, {"r1": 0.3, "solver_type": "heun"}]
SINGLESTEP_3 = [{"solver_type": "heun"}, {"r1": 0.25}, {"r2": 0.5}, {"r2": 0.5, "solver_type": "heun"}]
AMPLITUDES = [{"eta": 0.5}, {"eta": 1.5}]
PARABOLA = [KEPT, {"variant": "published"}, {"variant": "published", **KEPT}]
PARABOLA += [{"solver_type": "midpoint", **KEPT}, {"lower_order_final": True}]

_TABLE: list[Case] = [
    *each("euler", *every("frame", FRAMES)),
    *each("heun", *every("frame", FRAMES)),
    *each("runge_kutta", *every("tableau", (name for name in TABLEAUS if name != "rk4"))),
    *each("runge_kutta", *every("frame", FRAMES)),
    *each("pf_ode", *every("method", ("euler", "midpoint", "heun2", "heun3", "rk4"))),
    *each("pf_ode", *every("frame", ("data", "flow")), method="rk4"),
    ("euler_maruyama", {"eta": 0.0}),
    ("euler_ancestral", {"eta": 0.0}),
    *each("dpmpp_2m_sde", {}, {"solver_type": "heun"}, eta=0.0),
    ("dpmpp_sde", {"eta": 0.0}),
    *each("dpmpp_3m_sde", {}, KEPT, eta=0.0),
    ("seeds_3", {"eta": 0.0}),
    *each("sa_solver", {"order": 1, "corrector_order": 2}, {"order": 2, "corrector_order": 0}, eta=0.0),
    ("sa_solver", {"eta": 0.0, "corrector_order": 1}),
    ("sra1", {"eta": 0.0}),
    *each("dpm_solver_2", *SINGLESTEP_2),
    *each("dpmpp_2s", *SINGLESTEP_2),
    *each("dpm_solver_3", *SINGLESTEP_3),
    *each("dpmpp_3s", *SINGLESTEP_3),
    *each("exp_heun", *every("frame", ("edm", "flow", "vp"))),
    *each("dpm_fast", *every("remainder", (1, 2))),
    *each("dpmpp_2m", {"solver_type": "heun"}),
    *each("dpm_solver_2m", {"solver_type": "heun"}),
    *each("dpmpp_3m", *PARABOLA),
    *each("dpm_solver_3m", *PARABOLA),
    *each("res_multistep", {}, KEPT, order=3),
    *each("deis", *every("order", (1, 2, 3, 4)), {"order": 3, **KEPT}, {"order": 4, **KEPT}),
    *each("lms", *every("order", (1, 2, 3, 4)), {"order": 3, **KEPT}, {"order": 4, **KEPT}),
    *each("ipndm_v", *every("order", (1, 2, 3, 4)), {"order": 3, **KEPT}, {"order": 4, **KEPT}),
    *each("ipndm_v", {}, KEPT, order=3, variant="published"),
    *each("ipndm", *every("order", (1, 2, 3, 4))),
    *each("reab", *every("order", (1, 2, 3, 4)), {"order": 3, **KEPT}, {"order": 4, **KEPT}),
    *each("reab", {}, KEPT, order=3, data_std=0.5),
    *each("eab", *every("order", (1, 2, 3, 4)), {"order": 3, **KEPT}),
    *each("eab", *every("frame", ("edm", "flow", "vp")), order=4),
    *each("eab", *({"frame": frame, "variable": u} for frame in FRAMES for u in VARIABLES), order=4, **KEPT),
    *(case for order in (1, 2, 3) for case in each("uni_pc", *every("variant", UNI_PC), order=order)),
    *each("uni_pc", *every("variant", UNI_PC), order=3, **KEPT),
    *each("uni_pc", {}, KEPT, {"lower_order_final": True}, order=4),
    *each("uni_pc", *every("variant", UNI_PC), order=2, corrector=False),
    *each("uni_pc", {"order": 1}, {"order": 3}, {"order": 4}, corrector=False),
    *each("uni_pc", {"order": 3}, {"order": 4}, corrector=False, **KEPT),
    *each("uni_pc", *every("frame", ("edm", "flow", "vp")), order=3),
    *each("uni_pc", *every("frame", ("edm", "flow", "vp")), order=3, **KEPT),
    *each("gradient_estimation", *every("gamma", (1.0, 1.5))),
]

_REGISTERED = [solvers.get(name) for name in solvers.names()]

DEFAULTS: list[Case] = [(solver.name, {}) for solver in _REGISTERED if solver.order is not None and not solver.adaptive]
_DEFAULT = {repr(solver) for solver in _REGISTERED}
VARIANTS = [(name, options) for name, options in _TABLE if repr(solvers.get(name, **options)) not in _DEFAULT]
DETERMINISTIC: list[Case] = sorted([*DEFAULTS, *VARIANTS], key=lambda case: case[0])
_NOISY: list[Case] = [
    *((solver.name, {}) for solver in _REGISTERED if solver.weak_order is not None and not solver.adaptive),
    *each("ddim", *every("eta", (1.0, 0.5))),
    *each("euler_maruyama", {"eta": 0.5}),
    *each("heun", {}, {"frame": "vp"}, s_churn=2.0),
    *each("euler_ancestral", {"eta": 0.5}),
    *each("dpmpp_2m_sde", *AMPLITUDES, {"solver_type": "heun"}),
    *each("dpmpp_sde", *AMPLITUDES, {"r": 0.3}),
    *each("dpmpp_3m_sde", *AMPLITUDES, KEPT, {"variant": "published"}),
    *each("seeds_3", {"eta": 0.5}),
    *each("er_sde", *every("order", (1, 2)), {"variant": "published"}),
    *each("sa_solver", *AMPLITUDES, {"order": 2, "corrector_order": 2, "variant": "published"}),
    *each("sa_solver", {"order": 1, "corrector_order": 2}, {"order": 2, "corrector_order": 0}),
    *each("sra1", *AMPLITUDES),
    *each("predictor_corrector", {"eta": 0.0}),
]
STOCHASTIC: list[Case] = sorted(_NOISY, key=lambda case: case[0])


def label(name: str, options: dict[str, Any]) -> str:
    """A case in words."""
    return " ".join([f"`{name}`", ", ".join(f"{key}={value}" for key, value in options.items())]).strip()
