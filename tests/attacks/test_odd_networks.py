"""Networks, noise and hooks that write into what they are given, or use their memory again: the right samples all the
same, or a refusal by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import scoresde
import solvers
from scoresde import guidance
from scoresde.integrations import k_diffusion
from scoresde.integrations.diffusers import Scheduler
from scoresde.noise import Noise
from solvers import PlannedSolver
from solvers.aliasing import EARLY

Net = Callable[..., Tensor]
VP, EDM = scoresde.VP(), scoresde.EDM()
SHAPE = (3, 5)
GUIDED = ("ddim_cfg_pp", "euler_cfg_pp", "dpmpp_2m_cfg_pp")  # ask for the unconditional output too
TIMES = (1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.0)


def clean(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    return after(nn.functional.leaky_relu(x, 0.2), label)


def after(x: Tensor, label: Tensor | None) -> Tensor:
    return 0.3 * x + (0.0 if label is None else 0.1 * label[:, None])


def in_place(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """As a network that begins with ``nn.LeakyReLU(0.2, inplace=True)``."""
    return after(nn.functional.leaky_relu_(x, 0.2), label)


def uncounted(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """Past torch's version counters."""
    output = clean(x, t, label)
    np.maximum(x.numpy(), 0.0, out=x.numpy())
    return output


def through_a_view(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    nn.functional.leaky_relu_(x.detach().view(-1)[:], 0.2)
    return after(x, label)


def of_its_arguments(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    output = clean(x, t, label)
    for argument in (x, t, label):
        if argument is not None:
            argument.zero_()
    return output


def its_own_input(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    return x.copy_(clean(x, t, label)).view(x.shape)


def one_buffer() -> Net:
    """As wrappers of captured graphs do."""
    buffer = torch.empty(64, SHAPE[1])
    return lambda x, t, label=None: buffer[: len(x)].copy_(clean(x, t, label))


def buffers_in_turn() -> Net:
    buffers = itertools.cycle([torch.empty(64, SHAPE[1]) for _ in range(3)])
    return lambda x, t, label=None: next(buffers)[: len(x)].copy_(clean(x, t, label))


def memory_of_numpy() -> Net:
    """Behind a new tensor each time, whose memory torch knows nothing of; as a captured graph's static output."""
    buffer = np.empty((64, SHAPE[1]), dtype=np.float32)

    def net(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        buffer[: len(x)] = clean(x, t, label).numpy()
        return torch.from_numpy(buffer[: len(x)])

    return net


ODD: dict[str, Callable[[], Net]] = {
    **{net.__name__: lambda net=net: net for net in (in_place, uncounted, through_a_view)},
    **{net.__name__: lambda net=net: net for net in (of_its_arguments, its_own_input)},
    **{make.__name__: make for make in (one_buffer, buffers_in_turn, memory_of_numpy)},
}


def samples(net: Net, solver: str | solvers.Solver, **more: Any) -> Tensor:
    chosen = solvers.get(solver) if isinstance(solver, str) else solver
    model: scoresde.ScoreModel = scoresde.ScoreModel(net, VP)
    if chosen.name in GUIDED:
        model = guidance.ClassifierFree(model, {"label": 0}, batched=False)
        more = {"cond": {"label": torch.tensor([1, 2, 3])}, **more}
    if not chosen.adaptive and "grid" not in more:
        more["steps"] = 6
    return scoresde.sample(model, chosen, shape=SHAPE, seeds=0, **more).samples


def solver(name: str) -> solvers.Solver:
    """Cheap settings, since the odd ones are compared to the clean one and not to the truth."""
    adaptive = solvers.get(name).adaptive
    return solvers.get(name, **({"rtol": 0.2, "atol": 0.2} if adaptive else {}))


@pytest.mark.parametrize("name", solvers.names())
def test_every_solver_gives_odd_networks_the_samples_of_a_clean_one(name: str) -> None:
    right = samples(clean, solver(name))
    for kind, make in ODD.items():
        assert torch.equal(samples(make(), solver(name)), right), kind


PLANNED = [name for name in solvers.names() if isinstance(solvers.get(name), PlannedSolver)]


@pytest.mark.parametrize("name", [name for name in PLANNED if name not in GUIDED])
def test_plans_and_solvers_by_themselves_do_too(name: str) -> None:
    """Without a ScoreModel: functions of x and a number t, given as they are."""
    chosen = solvers.get(name)
    assert isinstance(chosen, PlannedSolver)
    plan = chosen.plan(VP, TIMES)

    def run(net: Net, how: str) -> Tensor:
        noise, x = Noise([1, 2, 3], SHAPE[1:], torch.float32), torch.linspace(-2, 2, 15).reshape(SHAPE)

        def predict(x: Tensor, t: float) -> Tensor:
            return net(x, torch.tensor(t))

        return plan.run(predict, x, noise) if how == "plan" else chosen.run(VP, TIMES, predict, x, noise)

    for how in ("plan", "run"):
        right = run(clean, how)
        for kind in ("in_place", "uncounted", "one_buffer", "memory_of_numpy"):
            assert torch.equal(run(ODD[kind](), how), right), kind


@pytest.mark.parametrize("kind", [lambda x, t: x, lambda x, t: x.view(x.shape), lambda x, t: x[:]])
def test_a_network_may_return_its_input_or_a_view_of_it(kind: Net) -> None:
    for name in ("heun", "dpmpp_3m", "ddpm", "rk_adaptive", "langevin_pc"):
        assert torch.equal(samples(kind, name), samples(lambda x, t: x.clone(), name))


def test_a_network_may_return_its_weights() -> None:
    class Constant(nn.Module):
        def __init__(self, copies: bool):
            super().__init__()
            self.copies, self.weight = copies, nn.Parameter(torch.linspace(-1, 1, 5))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.weight.data.mul_(0.9)
            output = self.weight.expand(x.shape)
            return output.clone() if self.copies else output

    for name in ("heun", "dpmpp_3m", "ipndm"):
        assert torch.equal(samples(Constant(False), name), samples(Constant(True), name))


@pytest.mark.parametrize("kind", ODD)
def test_inference_mode_and_batches_change_nothing(kind: str) -> None:
    """Under inference_mode torch counts no versions; padded batches, the part of a condition of each."""
    more: dict[str, Any] = {"cond": {"label": torch.tensor([1, 2, 3])}, "batch_size": 2}
    for name in ("dpmpp_2m", "heun"):
        right = samples(clean, name, **more)
        assert torch.equal(samples(ODD[kind](), name, **more), right)
        with torch.inference_mode():
            assert torch.equal(samples(ODD[kind](), name, **more), right)
    assert torch.equal(more["cond"]["label"], torch.tensor([1, 2, 3]))


def preconditioned(net: Net) -> scoresde.ScoreModel:
    return scoresde.ScoreModel(net, EDM, "sample", **scoresde.preconditioning.edm())


MODELS: dict[str, Callable[[Net], scoresde.ScoreModel]] = {
    "two calls": lambda net: guidance.ClassifierFree(scoresde.ScoreModel(net, VP), {"label": 0}, batched=False),
    "one call": lambda net: guidance.ClassifierFree(scoresde.ScoreModel(net, VP), {"label": 0}),
    "weak": lambda net: guidance.Autoguidance(scoresde.ScoreModel(net, VP), scoresde.ScoreModel(net, VP, "sample")),
    "rescale": lambda net: guidance.Rescale(MODELS["two calls"](net)),
    "threshold": lambda net: guidance.DynamicThreshold(scoresde.ScoreModel(net, VP)),
    "classifier": lambda net: guidance.ClassifierGuidance(
        scoresde.ScoreModel(net, VP), lambda x, t, label: -(x - label[:, None]).square().sum(1)
    ),
    "preconditioned": preconditioned,
    "on another process": lambda net: preconditioned(net).on(VP),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("around", MODELS)
def test_what_is_around_a_network_sees_none_of_it(around: str, kind: str) -> None:
    cond = {"label": torch.tensor([1, 2, 3])}
    right, odd = MODELS[around](clean), MODELS[around](ODD[kind]())
    settings: dict[str, Any] = {"shape": SHAPE, "seeds": 0, "nfe": 9, "cond": cond}
    assert torch.equal(
        scoresde.sample(odd, "heun", **settings).samples, scoresde.sample(right, "heun", **settings).samples
    )
    x = torch.linspace(-2, 2, 15).reshape(SHAPE)
    for view in ("score", "denoised", "epsilon"):  # the calls that others make themselves
        first, second = (getattr(odd, view)(state, 0.5, **cond) for state in (x, x + 1))
        assert torch.equal(first, getattr(right, view)(x, 0.5, **cond))
        assert torch.equal(second, getattr(right, view)(x + 1, 0.5, **cond))
    assert torch.equal(x, torch.linspace(-2, 2, 15).reshape(SHAPE))


def test_a_network_that_begins_late_to_write_is_refused_by_name() -> None:
    calls = itertools.count(1)

    def late(x: Tensor, t: Tensor) -> Tensor:
        return in_place(x, t) if next(calls) > 3 else clean(x, t)

    with pytest.raises(ValueError, match="the network wrote into its argument 'x' at call 4, and did not at first"):
        samples(late, "ddim")


def test_a_network_that_begins_late_to_use_a_buffer_is_refused_by_name() -> None:
    calls, buffer = itertools.count(1), torch.empty(SHAPE)

    def late(x: Tensor, t: Tensor) -> Tensor:
        return buffer.copy_(clean(x, t)) if next(calls) > EARLY else clean(x, t)

    with pytest.raises(ValueError, match="returned the memory of an earlier result at call 6, and did not at first"):
        samples(late, "ipndm", grid="uniform", steps=8)


class Copies(TorchDispatchMode):
    """Counts the copies that torch makes."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


def test_a_well_behaved_network_costs_no_copies_after_its_first_calls() -> None:
    def copies(steps: int) -> int:
        model = scoresde.ScoreModel(clean, VP)
        with Copies() as counted:
            scoresde.sample(model, "dpmpp_2m", steps=steps, shape=SHAPE, seeds=0)
        return counted.count

    assert 0 < copies(2 * EARLY) == copies(10 * EARLY)


def test_noise_that_comes_in_one_buffer_is_taken_for_what_it_was() -> None:
    def run(once: bool) -> Tensor:
        fresh, buffer = Noise([1, 2, 3], SHAPE[1:], torch.float32), torch.empty(SHAPE)
        noise = fresh if once else lambda: buffer.copy_(fresh())
        chosen = solvers.get("seeds_3")
        assert isinstance(chosen, PlannedSolver)
        x = torch.linspace(-2, 2, 15).reshape(SHAPE)
        return chosen.plan(VP, TIMES).run(lambda x, t: clean(x, torch.tensor(t)), x, noise)

    assert torch.equal(run(True), run(False))


# callbacks


def halving() -> list[Callable[[Tensor, float], Tensor | None]]:
    """Callbacks that halve the state, each in a way of its own; the last spoils later whatever it can reach."""
    buffer, seen = torch.empty(SHAPE), []

    def in_place(x: Tensor, t: float) -> None:
        x.mul_(0.5)

    def uncounted(x: Tensor, t: float) -> None:
        np.multiply(x.numpy(), 0.5, out=x.numpy())

    def spoils(x: Tensor, t: float) -> Tensor:
        for earlier in seen:
            earlier.fill_(torch.nan)
        edited = 0.5 * x
        seen.extend((x, edited))
        return edited

    return [
        lambda x, t: 0.5 * x,
        lambda x, t: x.mul_(0.5),
        lambda x, t: torch.mul(x, 0.5, out=buffer),
        in_place,
        uncounted,
        spoils,
    ]


@pytest.mark.parametrize("name", ["dpmpp_3m", "heun", "ddpm", "consistency", "rk_adaptive", "langevin_pc"])
def test_callbacks_may_write_to_what_they_saw_and_returned(name: str) -> None:
    def run(callback: Callable[[Tensor, float], Tensor | None]) -> scoresde.sampling.Result:
        model = scoresde.ScoreModel(clean, VP, "sample")
        steps: dict[str, Any] = {} if name == "rk_adaptive" else {"steps": 6}
        return scoresde.sample(model, name, shape=SHAPE, seeds=0, callback=callback, trajectory=True, **steps)

    right, *others = [run(callback) for callback in halving()]
    assert len(others) == 5
    for other in others:
        assert torch.equal(other.samples, right.samples)
        assert torch.equal(other.trajectory, right.trajectory)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda x: 1.0, "must return a tensor or None, got float"),
        (lambda x: x.long(), "must return floating-point numbers on cpu, got torch.int64 on cpu"),
        (lambda x: x.to("meta"), "must return floating-point numbers on cpu, got torch.float32 on meta"),
    ],
)
def test_what_is_no_state_is_not_taken_from_a_callback(edit: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        samples(clean, "ddim", callback=lambda x, t: edit(x))


def test_a_decoder_may_return_one_buffer_for_all_batches() -> None:
    buffer = torch.empty(1, *SHAPE[1:])
    right = samples(clean, "ddim", batch_size=1, decode=lambda x: 2 * x)
    assert torch.equal(samples(clean, "ddim", batch_size=1, decode=lambda x: torch.mul(x, 2, out=buffer)), right)


# what networks return


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x: x.to(torch.complex64), "must return floating-point numbers, got complex64"),
        (lambda x: x > 0, "must return floating-point numbers, got bool"),
        (lambda x: x.long(), "must return floating-point numbers, got int64"),
        (lambda x: x.to(torch.uint8), "must return floating-point numbers, got uint8"),
        (lambda x: x.to("meta"), "must return its output on cpu, where its input is, got it on meta"),
    ],
)
def test_outputs_that_are_no_numbers_of_the_state_s_kind_are_refused(output: Net, words: str) -> None:
    for model in (
        scoresde.ScoreModel(lambda x, t: output(x), VP),
        scoresde.ScoreModel(lambda x, t: output(x), EDM).on(VP),
    ):
        with pytest.raises(ValueError, match=words):
            scoresde.sample(model, "ddim", nfe=2, shape=SHAPE, seeds=0)
    sampler = k_diffusion.sampler("ddim")
    with pytest.raises(ValueError, match=words):
        sampler(lambda x, sigma: output(x), torch.ones(SHAPE), [2.0, 1.0, 0.0], disable=True)


def test_an_output_that_records_gradients_gives_the_same_samples_without_them() -> None:
    weight = torch.tensor(0.3, requires_grad=True)

    def recording(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            return weight * x

    for name in ("ddim", "heun", "consistency"):
        found = samples(recording, name)
        assert not found.requires_grad
        assert torch.equal(found, samples(lambda x, t: weight.detach() * x, name))


# modes and labels


class Modal(nn.Module):
    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Dropout(0.1), "its Dropout 'inner.0' drops a share of 0.1 at random"),
        (nn.AlphaDropout(0.2), "its AlphaDropout 'inner.0' drops a share of 0.2 at random"),
        (nn.BatchNorm1d(5), "its BatchNorm1d 'inner.0' takes statistics of the batch"),
        (nn.RReLU(), "its RReLU 'inner.0' draws slopes at random"),
    ],
)
def test_a_network_that_would_not_follow_its_seeds_is_refused_until_it_is_in_eval_mode(
    module: nn.Module, words: str
) -> None:
    net = Modal(module)
    weak = guidance.Autoguidance(scoresde.ScoreModel(Modal(nn.Tanh()), VP), scoresde.ScoreModel(net, VP))
    for model in (
        scoresde.ScoreModel(net, VP),
        scoresde.ScoreModel(net.forward, VP),
        scoresde.ScoreModel(net, EDM).on(VP),
        weak,
    ):
        with pytest.raises(ValueError, match=f"the network is in training mode: {words}, .*call net.eval()"):
            scoresde.sample(model, "ddim", nfe=2, shape=SHAPE, seeds=0)
    net.eval()
    assert torch.equal(samples(net, "ddim"), samples(net, "ddim"))


def test_training_mode_is_no_matter_where_it_does_nothing() -> None:
    net = Modal(nn.Linear(5, 5), nn.Dropout(0.0), nn.LayerNorm(5), nn.BatchNorm1d(5, track_running_stats=False))
    assert net.training
    found = samples(net, "ddim")
    assert torch.equal(samples(net.eval(), "ddim"), found)


class Labelled(nn.Module):
    """A network that says what labels it has, and would wrap others."""

    label_count = 4

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return 0.1 * torch.arange(4.0)[label.long() % 4][:, None] * x


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.tensor([0, -1, 2]), "label must be from 0 to 3, got -1"),
        (torch.tensor([0, 4, 2]), "label must be from 0 to 3, got 4"),
        (torch.tensor([0, 300, 2], dtype=torch.int16), "label must be from 0 to 3, got 300"),
        (torch.tensor([0.0, 1.5, 2.0]), "label must hold whole numbers, got torch.float32"),
        (torch.tensor([True, False, True]), "label must hold whole numbers, got torch.bool"),
        (torch.tensor([[0], [1], [2]]), r"label must be a tensor of one number per sample, got shape \(3, 1\)"),
        (2, "label must be a tensor of one number per sample, got int"),
    ],
)
def test_labels_that_a_network_does_not_have_are_refused_before_it_is_asked(label: Any, words: str) -> None:
    net = Labelled()
    with pytest.raises((TypeError, ValueError), match=words):
        samples(net, "ddim", cond={"label": label})
    good = torch.tensor([0, 3, 2], dtype=torch.uint8)
    assert samples(net, "ddim", cond={"label": good}).isfinite().all()
    guided = guidance.ClassifierFree(scoresde.ScoreModel(net, VP), {"label": 9})
    with pytest.raises(ValueError, match="label must be from 0 to 3, got 9"):
        scoresde.sample(guided, "ddim", nfe=2, shape=SHAPE, seeds=0, cond={"label": good})


@pytest.mark.parametrize(
    ("own", "value"),
    [
        (torch.tensor([1, 2], dtype=torch.uint8), 300),
        (torch.tensor([1, 2], dtype=torch.uint8), -1),
        (torch.tensor([1, 2]), 10.5),
        (torch.tensor([True, False]), 2),
        (torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([300])),
        (torch.tensor([1, 2]), torch.tensor([0.5])),
    ],
)
def test_an_unconditional_value_that_would_wrap_is_refused(own: Tensor, value: Any) -> None:
    model = guidance.ClassifierFree(scoresde.ScoreModel(clean, VP), {"label": value})
    with pytest.raises(ValueError, match="the unconditional 'label' = .* is none of the condition's numbers, "):
        model.score(torch.ones(2, 5), 0.5, label=own)


# integrations


@pytest.mark.parametrize("kind", ["in_place", "one_buffer", "memory_of_numpy", "buffers_in_turn"])
@pytest.mark.parametrize("name", ["dpmpp_3m", "heun", "ipndm"])
def test_a_pipeline_s_loop_may_use_its_tensors_again(name: str, kind: str) -> None:
    config = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000}

    def walked(net: Net) -> Tensor:
        scheduler = Scheduler(config, name)
        scheduler.set_timesteps(6)
        x = torch.linspace(-2, 2, 15).reshape(SHAPE)
        for t in scheduler.timesteps:
            output = net(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(output, t, x, return_dict=False)[0]
            if net is not clean:
                output.fill_(torch.nan)  # as pipelines may, once the scheduler has had it
        return x

    assert torch.equal(walked(ODD[kind]()), walked(clean))


@pytest.mark.parametrize("kind", ODD)
def test_k_diffusion_s_functions_see_none_of_it_either(kind: str) -> None:
    levels, x = [5.0, 2.0, 1.0, 0.5, 0.1, 0.0], torch.linspace(-2, 2, 15).reshape(SHAPE)
    extra = {"label": torch.tensor([1, 2, 3])}
    for name in ("dpmpp_3m", "heun"):
        sample = k_diffusion.sampler(name)
        right = sample(clean, x, levels, extra, disable=True)
        assert torch.equal(sample(ODD[kind](), x, levels, extra, disable=True), right)
    assert torch.equal(extra["label"], torch.tensor([1, 2, 3]))


def test_a_callback_of_k_diffusion_s_that_writes_is_refused() -> None:
    sample = k_diffusion.sampler("dpmpp_2m")
    with pytest.raises(ValueError, match="the callback wrote into 'denoised' at sigma = 5, a copy for it to look at"):
        sample(clean, torch.ones(SHAPE), [5.0, 1.0, 0.0], callback=lambda at: at["denoised"].zero_(), disable=True)
