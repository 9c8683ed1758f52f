"""Which function of which peer is which of our solvers: what benchmarks/agreement/ode.py compares, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Ours = tuple[str, Mapping[str, Any]]

SECOND_STEP = "their second step, of order 2, is the midpoint rule; ours integrates the straight line exactly"
INNER_STAGE = "their stage at 2/3 of the step is the midpoint rule, ours the paper's"
OTHER_TIME = "their VP time has β from −0.005 to 17.5, ours from 0.1 to 20; quadrature by 10,000 rectangles"
RECTANGLES = "their quadrature is by 10,000 rectangles"
WRONG_TABLE = (
    "a bracket in a wrong place; a sign (11/24 for 3/8 on equal steps); b/c and a/b mixed up, so that weights do not "
    "sum to 1"
)
MIXED_SCALE = "√(α_s² + σ_t²) in the place of √(α_s² + σ_s²)"
STALE_ROW = "the corrector gives the new evaluation one row of its matrix, a wrong one, where all have a share"
FACTOR_TWO = "a divided difference in the place of the second derivative, which is twice that"
EQUAL_WEIGHTS = "the weights of equal steps on unequal ones"


@dataclass(frozen=True)
class Row:
    """A public function beside ours.

    Attributes:
        peer, function, options: as :mod:`benchmarks.peers.adapters` calls it.
        process: ``VP``, ``EDM`` or ``Flow``.
        claim: the order its authors give.
        same: our solver of the same formula, None if we have none.
        right: our solver that reaches the claim, if that is another.
        note: why ``same`` differs by more than the tolerance; empty where it must not.
        flaw: why theirs misses the order that is claimed; empty where it must not.
        even: the grid is even in λ, because the peer makes its own so.
        single: the peer carries the state in float32, so that small errors are not the method's.
    """

    peer: str
    process: str
    claim: int
    same: Ours | None
    function: str
    options: Mapping[str, Any]
    right: Ours | None = None
    note: str = ""
    flaw: str = ""
    even: bool = False
    single: bool = False

    @property
    def beside(self) -> Ours:
        """The solver of ours that the order and the errors are compared with."""
        found = self.right or self.same
        assert found is not None, self
        return found


def ours(name: str, **options: Any) -> Ours:
    return name, options


class Table:
    """Rows of one peer on one process: ``table(claim, ours, function, **options)``, remarks by ``why``."""

    def __init__(self, peer: str, process: str, **remarks: Any):
        self.peer, self.process, self.remarks = peer, process, remarks

    def why(self, **remarks: Any) -> Table:
        return Table(self.peer, self.process, **{**self.remarks, **remarks})

    def __call__(self, claim: int, same: Ours | None, function: str, **options: Any) -> Row:
        return Row(self.peer, self.process, claim, same, function, options, **self.remarks)


def third(table: Table, name: str) -> Table:
    """Third-order multistep methods as published, beside ours."""
    return table.why(right=ours(name, variant="exact"), flaw=FACTOR_TWO)


def uni_pc(order: int, variant: str, data: bool) -> Ours:
    return ours("uni_pc", order=order, variant=variant, frame="data" if data else "edm")


def ipndm(table: Table, k: int, function: str, **options: Any) -> Row:
    flaw = EQUAL_WEIGHTS if k > 2 else ""
    return table.why(right=ours("ipndm_v", order=k), flaw=flaw)(k, ours("ipndm", order=k), function, **options)


def ipndm_v(table: Table, k: int, function: str, **options: Any) -> Row:
    if k == 4:
        return table.why(right=ours("ipndm_v", order=k), flaw=WRONG_TABLE)(k, None, function, **options)
    return table(k, ours("ipndm_v", order=k, variant="published"), function, **options)


def diffusers() -> Iterator[Row]:
    vp, edm, flow = (Table("diffusers", process) for process in ("VP", "EDM", "Flow"))
    vp32, edm32, flow32 = (table.why(single=True) for table in (vp, edm, flow))
    yield vp(1, ours("ddim"), "DDIMScheduler")
    yield edm32(1, ours("euler"), "EulerDiscreteScheduler")
    yield edm32(1, ours("euler"), "EDMEulerScheduler")
    yield flow32(1, ours("euler"), "FlowMatchEulerDiscreteScheduler")
    yield edm(2, ours("heun"), "HeunDiscreteScheduler")
    yield flow32(2, ours("heun"), "FlowMatchHeunDiscreteScheduler")
    yield edm(2, ours("dpm_2"), "KDPM2DiscreteScheduler")
    yield ipndm(vp, 4, "IPNDMScheduler")
    yield vp(2, ours("pndm"), "PNDMScheduler", skip_prk_steps=False)
    for k in (1, 2, 3, 4):
        yield edm(k, ours("lms", order=k), "LMSDiscreteScheduler", order=k)
    name = "DPMSolverMultistepScheduler"
    for kind, multistep in (("dpmsolver", "dpm_solver"), ("dpmsolver++", "dpmpp")):
        published = ours(f"{multistep}_3m", variant="published")
        yield vp32(1, ours("ddim"), name, algorithm_type=kind, solver_order=1)
        for solver_type in ("midpoint", "heun"):
            same = ours(f"{multistep}_2m", solver_type=solver_type)
            yield vp32(2, same, name, algorithm_type=kind, solver_order=2, solver_type=solver_type)
        options = {"algorithm_type": kind, "solver_order": 3, "solver_type": "heun"}
        yield third(vp32, published[0])(3, published, name, **options)
    name = "EDMDPMSolverMultistepScheduler"
    yield edm(1, ours("ddim"), name, solver_order=1)
    for solver_type in ("midpoint", "heun"):
        yield edm(2, ours("dpmpp_2m", solver_type=solver_type), name, solver_order=2, solver_type=solver_type)
    published = ours("dpmpp_3m", variant="published")
    yield third(edm, "dpmpp_3m")(3, published, name, solver_order=3, solver_type="heun")
    name, inner = "DPMSolverSinglestepScheduler", (1 / 3, 2 / 3)
    for kind, second, last in (
        ("dpmsolver", "dpm_solver_2", "dpm_solver_3"),
        ("dpmsolver++", "dpmpp_2s", "dpmpp_3s"),
    ):
        for solver_type in ("midpoint", "heun"):
            options = {"algorithm_type": kind, "solver_type": solver_type}
            yield vp(2, ours(second, solver_type=solver_type), name, **options, solver_order=2, inner=(0.5,))
            note = INNER_STAGE if solver_type == "midpoint" else ""
            same = ours(last, solver_type=solver_type)
            yield vp.why(note=note)(3, same, name, **options, solver_order=3, inner=inner)
    for k in (1, 2, 3):
        yield vp(k, ours("eab", order=k, frame="edm", variable="lambda"), "DEISMultistepScheduler", solver_order=k)
    for variant in ("bh1", "bh2"):
        for data in (True, False):
            for k in (1, 2, 3):
                options = {"solver_type": variant, "predict_x0": data, "solver_order": k}
                yield vp(k + 1, uni_pc(k, variant, data), "UniPCMultistepScheduler", **options)


def k_diffusion() -> Iterator[Row]:
    edm = Table("k-diffusion", "EDM")
    yield edm(1, ours("euler"), "sample_euler")
    yield edm(2, ours("heun"), "sample_heun")
    yield edm(2, ours("dpm_2"), "sample_dpm_2")
    for k in (1, 2, 3, 4):
        yield edm(k, ours("lms", order=k), "sample_lms", order=k)
    for rest in (0, 1, 2):
        yield edm.why(even=True)(2, ours("dpm_fast", remainder=rest), "sample_dpm_fast", remainder=rest)
    yield edm(2, ours("dpmpp_2s"), "sample_dpmpp_2s_ancestral", eta=0.0)
    yield edm(2, ours("dpmpp_2s"), "sample_dpmpp_sde", eta=0.0)
    yield edm(2, ours("dpmpp_2m"), "sample_dpmpp_2m")
    for solver_type in ("midpoint", "heun"):
        same = ours("dpmpp_2m", solver_type=solver_type)
        yield edm(2, same, "sample_dpmpp_2m_sde", eta=0.0, solver_type=solver_type)
    yield third(edm, "dpmpp_3m")(3, ours("dpmpp_3m", variant="published"), "sample_dpmpp_3m_sde", eta=0.0)


def azula() -> Iterator[Row]:
    vp = Table("azula", "VP")
    yield vp(1, ours("ddim"), "DDIMSampler")
    yield vp(1, ours("euler", frame="edm"), "EulerSampler")
    yield vp(2, ours("heun", frame="edm"), "HeunSampler")
    for k in (1, 2, 3, 4):
        yield vp(k, ours("lms", order=k), "zABSampler", order=k)
        yield vp(k, ours("eab", order=k, frame="flow", variable="frame"), "vABSampler", order=k)
        yield vp(k, ours("eab", order=k, frame="edm", variable="lambda"), "zEABSampler", order=k)
        yield vp(k, ours("eab", order=k, frame="data", variable="lambda"), "xEABSampler", order=k)
        flaw = MIXED_SCALE if k > 1 else ""
        yield vp.why(note=MIXED_SCALE, flaw=flaw)(k, ours("reab", order=k), "REABSampler", order=k)


def dpm_solver() -> Iterator[Row]:
    vp = Table("DPM-Solver", "VP")
    for kind, name, second, last in (
        ("dpmsolver", "dpm_solver", "dpm_solver_2", "dpm_solver_3"),
        ("dpmsolver++", "dpmpp", "dpmpp_2s", "dpmpp_3s"),
    ):
        published = ours(f"{name}_3m", variant="published")
        yield vp(1, ours("ddim"), "multistep", algorithm_type=kind, order=1)
        for theirs, solver_type in (("dpmsolver", "midpoint"), ("taylor", "heun")):
            options = {"algorithm_type": kind, "solver_type": theirs}
            yield vp(2, ours(f"{name}_2m", solver_type=solver_type), "multistep", **options, order=2)
            yield vp(2, ours(second, solver_type=solver_type), "singlestep_fixed", **options, order=2)
            yield vp(3, ours(last, solver_type=solver_type), "singlestep_fixed", **options, order=3)
        options = {"algorithm_type": kind, "solver_type": "taylor", "order": 3}
        yield third(vp, published[0])(3, published, "multistep", **options)
    for rest in (0, 1, 2):
        same = ours("dpm_fast", remainder=rest)
        yield vp(2, same, "singlestep", algorithm_type="dpmsolver", order=3, remainder=rest)


def unipc() -> Iterator[Row]:
    vp = Table("UniPC", "VP")
    for variant in ("bh1", "bh2", "vary_coeff"):
        for form, data in (("data_prediction", True), ("noise_prediction", False)):
            for k in (1, 2, 3, 4):
                options, same = {"variant": variant, "algorithm_type": form, "order": k}, uni_pc(k, variant, data)
                if variant == "vary_coeff" and k > 1:
                    yield vp.why(note=STALE_ROW, flaw=STALE_ROW)(k + 1, same, "multistep", **options)
                else:
                    yield vp(k + 1, same, "multistep", **options)


def deis() -> Iterator[Row]:
    vp = Table("DEIS", "VP")
    yield ipndm(vp, 4, "ipndm")
    for k in (1, 2, 3, 4):
        late = vp.why(note=RECTANGLES, flaw=RECTANGLES if k > 2 else "")
        yield late(k, ours("deis", order=k), "t_ab", ab_order=k - 1)
        late = vp.why(flaw=RECTANGLES if k > 3 else "")
        yield late(k, ours("lms", order=k), "rho_ab", ab_order=k - 1)
    yield vp(1, ours("euler", frame="edm"), "rho_rk", rk_method="1euler")
    yield vp(2, ours("heun", frame="edm"), "rho_rk", rk_method="2heun")
    tableaus = {"3kutta": "kutta3", "3ral": "ralston3", "3heun": "heun3", "3ssprk": "ssprk3", "4rk": "rk4"}
    for theirs, tableau in tableaus.items():
        same = ours("runge_kutta", tableau=tableau, frame="edm")
        yield vp(int(theirs[0]), same, "rho_rk", rk_method=theirs)


def diff_sampler() -> Iterator[Row]:
    edm = Table("diff-sampler", "EDM")
    yield edm(1, ours("euler"), "euler_sampler")
    yield edm(2, ours("heun"), "heun_sampler")
    for r in (0.5, 0.4):
        yield edm(2, ours("dpm_2", r1=r), "dpm_2_sampler", r=r)
    for data, name in ((True, "dpmpp"), (False, "dpm_solver")):
        yield edm(1, ours("ddim"), "dpm_pp_sampler", predict_x0=data, max_order=1)
        yield edm(2, ours(f"{name}_2m"), "dpm_pp_sampler", predict_x0=data, max_order=2)
        published = ours(f"{name}_3m", variant="published")
        late = third(edm, published[0]).why(note=SECOND_STEP)
        yield late(3, published, "dpm_pp_sampler", predict_x0=data, max_order=3)
        for variant in ("bh1", "bh2"):
            for k in (1, 2, 3):
                same = uni_pc(k, variant, data)
                yield edm(k + 1, same, "unipc_sampler", predict_x0=data, variant=variant, max_order=k)
    for k in (2, 3, 4):
        yield ipndm(edm, k, "ipndm_sampler", max_order=k)
        yield ipndm_v(edm, k, "ipndm_v_sampler", max_order=k)
        yield edm.why(note=OTHER_TIME)(k, ours("deis", order=k), "deis_sampler", max_order=k, deis_mode="tab")
        yield edm(k, ours("lms", order=k), "deis_sampler", max_order=k, deis_mode="rhoab")


def comfyui() -> Iterator[Row]:
    edm = Table("ComfyUI", "EDM")
    yield edm(2, ours("res_multistep"), "sample_res_multistep")
    yield edm(1, ours("gradient_estimation"), "sample_gradient_estimation")
    yield edm(2, ours("dpmpp_2s"), "sample_seeds_2", eta=0.0)
    yield edm(3, ours("dpmpp_3s"), "sample_seeds_3", eta=0.0)
    for k in (2, 3, 4):
        yield ipndm(edm, k, "sample_ipndm", max_order=k)
        yield ipndm_v(edm, k, "sample_ipndm_v", max_order=k)
        yield edm.why(note=OTHER_TIME)(k, ours("deis", order=k), "sample_deis", max_order=k, mode="tab")


ROWS = [
    *diffusers(),
    *k_diffusion(),
    *azula(),
    *dpm_solver(),
    *unipc(),
    *deis(),
    *diff_sampler(),
    *comfyui(),
]
