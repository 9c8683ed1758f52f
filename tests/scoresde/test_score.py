"""Score models: every prediction type on every process says the same thing, and networks are fed what they expect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from scoresde.exact import Gaussian
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from scoresde.sampling import sample
from scoresde.score import ScoreModel
from solvers.prediction import TYPES

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.7, 0.3], [0.3, 0.4]], dtype=torch.float64)
EPSILON = torch.finfo(torch.float64).eps
STATES = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
every_prediction = pytest.mark.parametrize("prediction", TYPES)


def inner_times(process: Process, count: int = 9) -> list[float]:
    """Times from t_min to t_max, without the one where a process has no signal at all."""
    last = process.t_max if process.alpha(process.t_max) > 0 else 0.999 * process.t_max
    return np.linspace(process.t_min, last, count).tolist()


def truth(process: Process, x: Tensor, t: float) -> dict[str, Tensor]:
    """Score, ε and x0 of Gaussian data by solving with the covariance of x_t."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    covariance = alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=torch.float64)
    score = -torch.linalg.solve(covariance, (x - alpha * MEAN).T).T
    return {"score": score, "epsilon": -sigma * score, "denoised": (x + sigma**2 * score) / alpha}


@every_process
@every_prediction
def test_every_prediction_type_gives_the_score_epsilon_and_x0_of_a_gaussian(process: Process, prediction: str) -> None:
    net = Gaussian(process, MEAN, COVARIANCE, prediction=prediction).output
    model = ScoreModel(net, process, prediction)
    for t in inner_times(process):
        x = process.alpha(t) * MEAN + (process.alpha(t) + process.sigma(t)) * STATES
        for name, expected in truth(process, x, t).items():
            # Every view is a difference of terms as large as x: σ² score = α x0 − x, σ ε = x − α x0, α x0 = x − σ ε;
            # its condition is their size over its own. 64 roundings are room for any kernel; none yet took three.
            factor = {"score": process.sigma(t) ** 2, "epsilon": process.sigma(t), "denoised": process.alpha(t)}[name]
            condition = max(1.0, float(x.abs().max() / (factor * expected.abs().max())))
            error = (getattr(model, name)(x, t) - expected).abs().max() / expected.abs().max()
            assert error < 64 * EPSILON * condition, (name, t)


@pytest.mark.parametrize(
    ("here", "there"), list(itertools.permutations(PROCESSES, 2)), ids=lambda process: process.name
)
def test_a_model_seen_on_another_process_is_the_model_of_that_process(here: Process, there: Process) -> None:
    seen, exact = Gaussian(here, MEAN, COVARIANCE).on(there), Gaussian(there, MEAN, COVARIANCE)
    assert seen.process == there
    for t in inner_times(there):
        x = there.alpha(t) * MEAN + (there.alpha(t) + there.sigma(t)) * STATES
        torch.testing.assert_close(seen.denoised(x, t), exact.denoised(x, t), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(seen.epsilon(x, t), exact.epsilon(x, t), rtol=1e-7, atol=1e-7)


@every_prediction
def test_a_model_of_any_prediction_type_can_be_seen_on_another_process(prediction: str) -> None:
    seen = Gaussian(VP(), MEAN, COVARIANCE, prediction=prediction).on(EDM())
    torch.testing.assert_close(seen.score(STATES, 1.5), truth(EDM(), STATES, 1.5)["score"])


def test_a_vp_model_seen_on_flow_knows_the_mean_where_there_is_no_signal() -> None:
    seen = Gaussian(VP(), MEAN, COVARIANCE).on(Flow())
    torch.testing.assert_close(seen.denoised(STATES, 1.0), MEAN.expand(9, 2))


def test_a_model_seen_on_its_own_process_is_itself() -> None:
    model = Gaussian(VP(), MEAN, COVARIANCE)
    assert model.on(VP()) is model


def test_a_time_is_one_for_all_or_one_per_state() -> None:
    model = Gaussian(Cosine(), MEAN, COVARIANCE)
    times = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    each = torch.cat([model.score(x[None], float(t)) for x, t in zip(STATES, times, strict=True)])
    torch.testing.assert_close(model.score(STATES, times), each)
    torch.testing.assert_close(model.score(STATES, torch.tensor(0.3)), model.score(STATES, float(torch.tensor(0.3))))
    with pytest.raises(ValueError, match=r"t must be a number or of shape \(9,\), one per state, got \(3,\)"):
        model.score(STATES, torch.zeros(3))


@pytest.mark.parametrize("there", [VP(), EDM()], ids=lambda process: process.name)
def test_conditions_reach_the_network(there: Process) -> None:
    def net(x: Tensor, t: Tensor, label: Tensor, scale: Tensor) -> Tensor:
        return x * 0 + (label * scale)[:, None]

    model = ScoreModel(net, VP()).on(there)
    label, scale = torch.arange(9.0), torch.full((9,), 2.0)
    torch.testing.assert_close(model.epsilon(STATES, 0.5, label=label, scale=scale)[:, 0], 2 * label.double())
    with pytest.raises(TypeError, match="scale"):
        model.epsilon(STATES, 0.5, label=label)


@pytest.mark.parametrize(
    ("out", "got"),
    [
        (lambda x: x[:, :1], r"\(9, 1\)"),
        (lambda x: x[0], r"\(2,\)"),
        (lambda x: (x,), "tuple"),
        (lambda x: None, "None"),
    ],
)
def test_a_network_that_returns_another_shape_is_refused(out: Any, got: str) -> None:
    model = ScoreModel(lambda x, t: out(x), VP())
    with pytest.raises(ValueError, match=rf"shaped like its input \(9, 2\), got {got}"):
        model.score(STATES, 0.5)


def test_what_is_no_network_process_or_prediction_type_is_refused() -> None:
    with pytest.raises(TypeError, match="net must be callable .*, got int"):
        ScoreModel(3, VP())  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="process must be a scoresde.Process, got 'vp'"):
        ScoreModel(lambda x, t: x, "vp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown prediction type 'v_pred'; did you mean 'v_prediction'"):
        ScoreModel(lambda x, t: x, VP(), "v_pred")


class Recorder(nn.Module):
    """Returns its input and keeps what it was fed."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(1, dtype=torch.long), requires_grad=False)
        self.weight = nn.Parameter(torch.ones(1, dtype=dtype))
        self.fed: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.fed = x, t
        return x * self.weight


@pytest.mark.parametrize(
    ("net_dtype", "state_dtype", "time_dtype"),
    [
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float16, torch.float64, torch.float32),
        (torch.float32, torch.float64, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_a_module_gets_its_own_dtype_times_in_float32_or_better_and_the_state_keeps_its_dtype(
    net_dtype: torch.dtype, state_dtype: torch.dtype, time_dtype: torch.dtype
) -> None:
    net = Recorder(net_dtype)
    out = ScoreModel(net, VP(), time_input=lambda t: 1000 * t).output(STATES.to(state_dtype), 0.9991234)
    assert out.dtype == state_dtype and net.fed is not None
    x, t = net.fed
    assert (x.dtype, t.dtype, t.shape) == (net_dtype, time_dtype, (9,))
    # bfloat16 would have rounded 999.1234 to 1000.
    torch.testing.assert_close(t, torch.full((9,), 999.1234, dtype=time_dtype), rtol=1e-7, atol=0)


def test_a_plain_function_is_fed_the_dtype_of_the_state_and_integer_times_stay_integers() -> None:
    fed: list[torch.dtype] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        fed.extend([x.dtype, t.dtype])
        return x

    ScoreModel(net, VP()).output(STATES, 0.5)
    ScoreModel(net, VPDiscrete(), time_input=lambda t: t.round().long()).output(STATES.float(), 12.0)
    assert fed == [torch.float64, torch.float64, torch.float32, torch.int64]


def test_a_network_preconditioned_as_edms_is_a_v_model_with_scaled_input_and_log_times() -> None:
    exact = Gaussian(EDM(), MEAN, COVARIANCE)

    def raw(scaled: Tensor, noise: Tensor) -> Tensor:
        # F of Karras et al. 2022, eq. 7, for σ_data = 1: D = x/(1 + σ²) + σ/√(1 + σ²) F; v is −F.
        sigma = (4 * noise).exp()[:, None]
        x = scaled * (1 + sigma**2).sqrt()
        return -(exact.denoised(x, sigma[:, 0]) - x / (1 + sigma**2)) * (1 + sigma**2).sqrt() / sigma

    model = ScoreModel(
        raw,
        EDM(),
        "v_prediction",
        time_input=lambda t: t.log() / 4,
        input_scale=lambda t: (1 + t**2).rsqrt(),
    )
    for sigma in (0.002, 0.3, 1.0, 80.0):
        x = MEAN + (1 + sigma) * STATES
        torch.testing.assert_close(model.denoised(x, sigma), truth(EDM(), x, sigma)["denoised"], rtol=1e-10, atol=1e-10)


# Networks as people have them


@dataclass
class Output:
    sample: Tensor
    loss: float = 0.0


@pytest.mark.parametrize(
    "wrap",
    [lambda x: {"pred": x}, lambda x: {"pred": x, "features": x[:, :1]}, lambda x: Output(x)],
    ids=["one", "several", "dataclass"],
)
def test_an_output_in_a_mapping_or_dataclass_is_found(wrap: Any) -> None:
    expected = ScoreModel(lambda x, t: 0.5 * x, VP()).score(STATES, 0.5)
    assert torch.equal(ScoreModel(lambda x, t: wrap(0.5 * x), VP()).score(STATES, 0.5), expected)


@pytest.mark.parametrize(
    ("out", "advice"),
    [
        (lambda x: (x[:, :1], x), r"got tuple: give net=lambda x, t: network\(x, t\)\[1\]"),
        (lambda x: [x], r"got list: give net=lambda x, t: network\(x, t\)\[0\]"),
        (lambda x: {"a": x, "b": x}, r"'a' \(9, 2\), 'b' \(9, 2\): say which"),
        (lambda x: torch.cat((x, x), 1), r"got \(9, 4\): if the second half is a learned variance, give learned_var"),
    ],
)
def test_an_output_of_which_nobody_knows_what_counts_is_refused_with_what_would_do(out: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        ScoreModel(lambda x, t: out(x), VP()).score(STATES, 0.5)


def test_a_learned_variance_is_left_out_where_it_is_told() -> None:
    model = ScoreModel(lambda x, t: torch.cat((0.5 * x, 7 + x), 1), VP(), learned_variance=True)
    assert torch.equal(model.score(STATES, 0.5), ScoreModel(lambda x, t: 0.5 * x, VP()).score(STATES, 0.5))
    with pytest.raises(ValueError, match=r"shaped like its input \(9, 2\)"):
        ScoreModel(lambda x, t: x[:, :1], VP(), learned_variance=True).score(STATES, 0.5)


class Table(nn.Module):
    """Whole timesteps, looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.table(t)


class Half(nn.Module):
    """A network in 16 bits with a time embedding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Linear(1, 2, dtype=torch.bfloat16)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.time(t[:, None])


@pytest.mark.parametrize(
    ("net", "advice", "time_input"),
    [
        (Table(), r"looks times up in a table.*time_input=lambda t: t.round\(\).long\(\)", lambda t: (999 * t).long()),
        (Half(), r"bfloat16.*times in float32.*t.to\(torch.bfloat16\)", lambda t: t.to(torch.bfloat16)),
    ],
    ids=["table", "half"],
)
def test_times_of_another_kind_are_refused_with_what_would_do_and_then_taken(
    net: nn.Module, advice: str, time_input: Any
) -> None:
    with pytest.raises((RuntimeError, TypeError), match=advice):
        ScoreModel(net, VP()).score(STATES, 0.5)
    assert ScoreModel(net, VP(), time_input=time_input).score(STATES, 0.5).shape == STATES.shape


def test_a_condition_without_a_name_is_refused_with_what_would_do() -> None:
    def network(x: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        return x * rest[0][:, None]

    y = torch.ones(9)
    with pytest.raises(TypeError, match="takes no condition by the name .y.: give net=lambda x, t, y: network"):
        ScoreModel(network, VP()).score(STATES, 0.5, y=y)
    assert ScoreModel(lambda x, t, y: network(x, t, y), VP()).score(STATES, 0.5, y=y).shape == STATES.shape


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x) * t[:, None]


def sharded(net: nn.Module) -> nn.Module:
    fully_shard(net, mesh=init_device_mesh("cpu", (1,)))
    return net


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        sharded,
        lambda net: torch.compile(net, backend="eager"),
        lambda net: torch.jit.trace(net, (torch.zeros(9, 2), torch.zeros(9))),
        lambda net: torch.export.export(net, (torch.zeros(9, 2), torch.zeros(9))).module(),
        lambda net: net.to(torch.bfloat16),
        lambda net: torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8),
    ],
    ids=["parallel", "distributed", "sharded", "compiled", "traced", "exported", "bfloat16", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("alone")
def test_a_network_in_another_form_is_asked_as_it_stands(wrap: Any) -> None:
    x, t = STATES.float(), torch.full((9,), 0.5)
    net = wrap(Wrapped().eval())
    dtype = next((parameter.dtype for parameter in net.parameters()), torch.float32)
    expected = net(x.to(dtype), t).float()
    torch.testing.assert_close(ScoreModel(net, VP()).epsilon(x, 0.5), expected, rtol=1e-6, atol=1e-6)
    assert sample(ScoreModel(net, VP()), "heun", nfe=5, shape=(9, 2), seeds=0).samples.dtype == torch.float32
