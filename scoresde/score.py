"""A network and a process, seen as the score ∇log p_t(x)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        net: called as ``net(x, t, **cond)``, returns a tensor shaped like x. x has shape (batch, …), t shape (batch,).
            For an ``nn.Module`` x is cast to the dtype of its first floating-point parameter; times stay in float32 or
            better whatever that dtype is, and the output is cast back to the dtype of x. A network may write into its
            arguments and return one buffer every time: it then works on copies, and its results are copied.
        process: the forward process whose marginals the network was trained on.
        prediction: what the network returns: ``epsilon``, ``sample``, ``v_prediction``, ``score`` or ``flow``.
        time_input: maps process time (batch,), float64, to what the network is fed, such as ``lambda t: 1000 * t``;
            None feeds process time.
        input_scale: maps process time (batch,) to a factor for x before the network (EDM's c_in); None feeds x.
        output_scale: maps process time (batch,) to a factor for what the network returns (EDM's c_out); None is 1.
        skip: maps process time (batch,) to how much of x is added to that (EDM's c_skip); None adds none. The sum is
            what ``prediction`` names.

    Attributes:
        guidance: what guides the model (:mod:`scoresde.guidance`), in words; empty for a network as it is.

    Raises:
        ValueError: unknown prediction type.
        TypeError: the net is not callable or the process is not a Process.
    """

    guidance: str = ""

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
    ):
        if not callable(net):
            raise TypeError(f"net must be callable as net(x, t, **cond), got {type(net).__name__}")
        if not isinstance(process, Process):
            raise TypeError(f"process must be a scoresde.Process, got {process!r}")
        self.net, self.process, self.prediction = net, process, predictions.check(prediction)
        self.time_input, self.input_scale = time_input, input_scale
        self.output_scale, self.skip = output_scale, skip
        self._isolated = Isolated("the network", ("x", "t"))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_isolated"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
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
        if fed.is_floating_point():
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
        out = check_output(self.net(x, t, **cond), x)
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
        if isinstance(self.net, nn.Module):
            for parameter in self.net.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return x.dtype


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
    # Tensors leave their device in their own precision, which may not have this one.
    times = t.to(where).double() if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64, device=where)
    if times.ndim == 0:
        return times.expand(len(x))
    if times.shape != (len(x),):
        raise ValueError(f"t must be a number or of shape ({len(x)},), one per state, got {tuple(times.shape)}")
    return times


def expand(values: Tensor, x: Tensor) -> Tensor:
    """(batch,) to (batch, 1, …) in the dtype and on the device of x."""
    return values.to(x.dtype).to(x.device).reshape(-1, *([1] * (x.ndim - 1)))
