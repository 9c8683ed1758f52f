"""A network and a process, seen as the score ∇log p_t(x)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.process import Process
from solvers import prediction as predictions
from solvers.aliasing import Isolated
from solvers.arrays import wide

TimeMap = Callable[[Tensor], Tensor]
# What networks can be run in by name, the finest first.
PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class ScoreModel:
    """Any network that predicts ε, x0, v, the score or the flow velocity, as a model of ∇log p_t(x) = −ε(x, t)/σ(t).

    Args:
        net: called as ``net(x, t, **cond)``, returns a tensor shaped like x, or a mapping or dataclass in which one
            is. x has shape (batch, …), t shape (batch,). For an ``nn.Module`` x is cast to the dtype of its first
            floating-point parameter; times are in float32, or in float64 for a network in that, whatever that dtype
            is, and the output is cast back to the dtype of x. A network may write into its arguments and return one
            buffer every time: it then works on copies, and its results are copied.
        process: the forward process whose marginals the network was trained on.
        prediction: what the network returns: ``epsilon``, ``sample``, ``v_prediction``, ``score`` or ``flow``.
        time_input: maps process time (batch,), float64, to what the network is fed, such as ``lambda t: 1000 * t``;
            whole numbers and 16-bit ones reach the network as they are. None feeds process time.
        input_scale: maps process time (batch,) to a factor for x before the network (EDM's c_in); None feeds x.
        output_scale: maps process time (batch,) to a factor for what the network returns (EDM's c_out); None is 1.
        skip: maps process time (batch,) to how much of x is added to that (EDM's c_skip); None adds none. The sum is
            what ``prediction`` names.
        learned_variance: the network returns twice the channels of x, the second half being a variance, which is not
            used.

    Attributes:
        guidance: what guides the model (:mod:`scoresde.guidance`), in words; empty for a network as it is.
        scales: ends of the range that it is guided over, where each sample's own scale is the condition
            ``guidance_scale``, of shape (batch,); None for a model at one scale or none.
        noise_scale: σ* of the model where it is known (:func:`scoresde.noise_scale`); the solver ``auto`` uses it.
        tuned: path of a solver that was fitted to the model, which the solver ``tuned`` reads; None for none.

    Raises:
        ValueError: unknown prediction type.
        TypeError: the net is not callable or the process is not a Process.
    """

    guidance: str = ""
    scales: tuple[float, float] | None = None
    noise_scale: float | None = None
    tuned: str | None = None

    def __init__(
        self,
        net: Callable[..., Tensor],
        process: Process,
        prediction: str = "epsilon",
        *,
        time_input: TimeMap | None = None,
        input_scale: TimeMap | None = None,
        output_scale: TimeMap | None = None,
        skip: TimeMap | None = None,
        learned_variance: bool = False,
    ):
        if not callable(net):
            raise TypeError(f"net must be callable as net(x, t, **cond), got {type(net).__name__}")
        if not isinstance(process, Process):
            raise TypeError(f"process must be a scoresde.Process, got {process!r}")
        self.net, self.process, self.prediction = net, process, predictions.check(prediction)
        self.time_input, self.input_scale = time_input, input_scale
        self.output_scale, self.skip, self.learned_variance = output_scale, skip, learned_variance
        self._isolated = Isolated("the network", ("x", "t"))

    def __repr__(self) -> str:
        own = getattr(self.net, "__self__", None) is self  # an exact model, which is its own network
        name = "" if own else getattr(self.net, "__name__", type(self.net).__name__)
        told = [name, f"{self.prediction} on {self.process!r}", self.guidance]
        return f"{type(self).__name__}({', '.join(filter(None, told))})"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_isolated"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"learned_variance": False, **state})
        self._isolated = Isolated("the network", ("x", "t"))  # what is known of tensors stays in its process

    def output(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """What the network returns at process time t, scaled and added to, shape and dtype of x.

        Raises:
            ValueError: the network returns another shape, device or kind of numbers, or begins late to write into what
                it was given (:class:`solvers.aliasing.Isolated`); t is neither a number nor of shape (batch,).
        """
        times = as_times(t, x)
        dtype, device = self._net_dtype(x), x.device
        fed = times if self.time_input is None else self.time_input(times)
        if fed.is_floating_point() and fed.itemsize > 2:
            fed = fed.to(torch.float64 if dtype == torch.float64 else torch.float32)
        scaled = x if self.input_scale is None else x * expand(self.input_scale(times), x)
        state, time = scaled.to(dtype), fed.to(device)
        private = (state is not x, time is not times)
        out = self._isolated.call(self._network, (state, time), cond, private).to(x.dtype)
        if self.output_scale is not None:
            out = out * expand(self.output_scale(times), x)
        return out if self.skip is None else out + x * expand(self.skip(times), x)

    def _network(self, x: Tensor, t: Tensor, /, **cond: Any) -> Tensor:
        """The network's own output, checked."""
        try:
            out = self.net(x, t, **cond)
        except (RuntimeError, TypeError) as error:
            if (advice := _advice(error, x, t, cond)) is None:
                raise
            raise type(error)(f"{advice} ({' '.join(str(error).split())[:200]})") from error
        out = check_output(_first(out, x, self.learned_variance), x)
        return out.detach() if out.requires_grad and not torch.is_grad_enabled() else out

    def outputs(self, x: Tensor, t: float | Tensor, **cond: Any) -> dict[str, Tensor]:
        """The output as ``"model"``, and of a guided model what else came of the same evaluation, by name."""
        return {"model": self.output(x, t, **cond)}

    def network_calls(self, t: float | Tensor) -> int | Tensor:
        """How many evaluations of networks one output at process time t takes, for each t if there are several."""
        return 1

    def epsilon(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[ε | x_t = x], shape of x."""
        return self._view("epsilon", x, t, cond)

    def denoised(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[x0 | x_t = x], shape of x (Tweedie: (x + σ² ∇log p_t(x))/α)."""
        return self._view("sample", x, t, cond)

    def score(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """∇log p_t(x), shape of x."""
        return self._view("score", x, t, cond)

    def on(self, process: Process) -> ScoreModel:
        """The same model seen on another process, by evaluating it where the signal-to-noise ratio is equal.

        Two processes with the same λ at a time each differ by a factor of the state only: x/√(α² + σ²) has the same
        distribution, and ε, x0, v and flow predictions are the same numbers.
        """
        if process == self.process:
            return self
        prediction = "epsilon" if self.prediction == "score" else self.prediction
        return ScoreModel(_Reseen(self, process, prediction), process, prediction)

    def _view(self, kind: str, x: Tensor, t: float | Tensor, cond: dict[str, Any]) -> Tensor:
        a, b = self._conversion(self.prediction, kind, x, t)
        return b * self.output(x, t, **cond) + a * x

    def _conversion(self, source: str, target: str, x: Tensor, t: float | Tensor) -> tuple[Any, Any]:
        """(a, b) with target = a x + b source, each a number or of shape (batch, 1, …)."""
        times = as_times(t, x)
        alpha, sigma = self.process.alpha(times), self.process.sigma(times)
        return predictions.convert(source, target, expand(alpha, x), expand(sigma, x))

    def _net_dtype(self, x: Tensor) -> torch.dtype:
        found = precision_of(self.net) if isinstance(self.net, nn.Module) else None
        return x.dtype if found is None else found


def _advice(error: Exception, x: Tensor, t: Tensor, cond: dict[str, Any]) -> str | None:
    """What would do where a network does not take its arguments as they are given; None for any other failure."""
    said = str(error)
    if isinstance(error, TypeError):
        name = next((key for key in cond if f"unexpected keyword argument {key!r}" in said), None)
        if name is None:
            return None
        return (
            f"the network takes no condition by the name {name!r}: give net=lambda x, t, {name}: network(x, t, {name})"
        )
    if "indices" in said and "scalar type" in said and t.is_floating_point():
        return (
            "the network looks times up in a table, and was given floating-point ones: give whole numbers, such as "
            "time_input=lambda t: t.round().long()"
        )
    if ("dtype" in said or "scalar type" in said) and t.is_floating_point() and t.dtype != x.dtype:
        kind = str(x.dtype)
        return (
            f"the network computes in {kind.removeprefix('torch.')} and was given times in float32: give such, "
            f"time_input=lambda t: t.to({kind})"
        )
    return None


def _first(out: Any, x: Tensor, learned_variance: bool) -> Any:
    """What of a network's output is shaped like x: of a mapping or dataclass its only such tensor, of twice the
    channels the first half.

    Raises:
        ValueError: it is to be said which.
    """
    twice = (len(x), 2 * x.shape[1], *x.shape[2:]) if x.ndim > 1 else None
    wanted = twice if learned_variance else tuple(x.shape)
    if is_dataclass(out) and not isinstance(out, (type, Mapping)):
        out = {field.name: getattr(out, field.name) for field in fields(out)}
    if isinstance(out, Mapping):
        fitting = [key for key, value in out.items() if isinstance(value, Tensor) and tuple(value.shape) == wanted]
        if len(fitting) != 1:
            told = ", ".join(f"{key!r} {_told(value)}" for key, value in out.items())
            raise ValueError(
                f"the network must return a tensor shaped like its input {tuple(x.shape)}, got {told}: say "
                "which, net=lambda x, t: network(x, t)[…]"
            )
        out = out[fitting[0]]
    advice = ""
    if isinstance(out, (tuple, list)):
        fits = (place for place, value in enumerate(out) if isinstance(value, Tensor) and tuple(value.shape) == wanted)
        advice = f": give net=lambda x, t: network(x, t)[{next(fits, 0)}]"
    elif isinstance(out, Tensor) and tuple(out.shape) == twice:
        if learned_variance:
            return out[:, : x.shape[1]]
        advice = ": if the second half is a learned variance, give learned_variance=True"
    if advice:
        raise ValueError(
            f"the network must return a tensor shaped like its input {tuple(x.shape)}, got {_told(out)}{advice}"
        )
    return out


def _told(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


class _Reseen:
    """The network of :meth:`ScoreModel.on`."""

    def __init__(self, model: ScoreModel, process: Process, prediction: str):
        self.model, self.process, self.prediction = model, process, prediction

    def __call__(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        there, here = self.model.process, self.process
        own = as_times(t, x)
        times = there.time(here.half_log_snr(own))
        norm = torch.hypot(there.alpha(times), there.sigma(times)) / torch.hypot(here.alpha(own), here.sigma(own))
        state = x * expand(norm, x)
        if self.prediction == self.model.prediction:
            return self.model.output(state, times, **cond)
        return self.model.epsilon(state, times, **cond)


def check_output(out: Any, x: Tensor, name: str = "the network") -> Tensor:
    """What a network returned for x, if it can be its output.

    Raises:
        ValueError: it is no tensor of the shape and device of x, with floating-point numbers; names what it is.
    """
    if not isinstance(out, Tensor) or out.shape != x.shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"{name} must return a tensor shaped like its input {tuple(x.shape)}, got {got}")
    if not out.is_floating_point():
        kind = str(out.dtype).removeprefix("torch.")
        raise ValueError(f"{name} must return floating-point numbers, got {kind}")
    if out.device != x.device:
        raise ValueError(f"{name} must return its output on {x.device}, where its input is, got it on {out.device}")
    return out


def precision_of(network: nn.Module) -> torch.dtype | None:
    """The dtype of a network's first floating-point parameter; None where it has none."""
    return next((each.dtype for each in network.parameters() if each.is_floating_point()), None)


def models(model: ScoreModel) -> Iterator[ScoreModel]:
    """The model and all that it asks, those of guides among them."""
    yield model
    for value in vars(model).values():
        inner = value.model if isinstance(value, _Reseen) else value
        if isinstance(inner, ScoreModel):
            yield from models(inner)


def networks(model: ScoreModel) -> Iterator[nn.Module]:
    """Every network that those ask, also as a bound method; some perhaps more than once."""
    for inner in models(model):
        for value in vars(inner).values():
            network = getattr(value, "__self__", value)
            if isinstance(network, nn.Module):
                yield network


def as_times(t: float | Tensor, x: Tensor) -> Tensor:
    """t as float64 of shape (batch,), beside x or on the CPU where the device of x has no float64."""
    where = wide(x.device)
    if not isinstance(t, Tensor):
        times = torch.tensor(t, dtype=torch.float64, device=where)
    elif t.is_meta:
        times = t.float()  # no numbers that could be brought anywhere
    else:
        times = t.to(where).double()  # tensors leave their device in its own precision, which may not have this one
    if times.ndim == 0:
        return times.expand(len(x))
    if times.shape != (len(x),):
        raise ValueError(f"t must be a number or of shape ({len(x)},), one per state, got {tuple(times.shape)}")
    return times


def expand(values: Tensor, x: Tensor) -> Tensor:
    """(batch,) to (batch, 1, …) in the dtype and on the device of x."""
    return values.to(x.dtype).to(x.device).reshape(-1, *([1] * (x.ndim - 1)))
