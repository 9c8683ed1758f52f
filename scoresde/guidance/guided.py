"""What all guided models share."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from scoresde.process import Process
from scoresde.score import ScoreModel


class Guided(ScoreModel):
    """A score model around another: its process and prediction type, and another output.

    Beside ``"model"``, :meth:`outputs` always has ``"unguided"``, the output of the innermost model in the same type.

    Args:
        model: the model inside.
        options: what is said of the guidance in :attr:`guidance`.

    Raises:
        TypeError: the model is not a ScoreModel.
    """

    name: ClassVar[str]

    def __init__(self, model: ScoreModel, **options: Any):
        if not isinstance(model, ScoreModel):
            raise TypeError(f"{self.name} needs a scoresde.ScoreModel to guide, got {type(model).__name__}")
        super().__init__(model.net, model.process, model.prediction)
        self.model, self.scales = model, model.scales
        told = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in options.items()
        )
        self.guidance = f"{self.name}({told})" + (f" of {model.guidance}" if model.guidance else "")

    def output(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The guided output at process time t, shape and dtype of x."""
        return self.outputs(x, t, **cond)["model"]

    @abstractmethod
    def outputs(self, x: Tensor, t: float | Tensor, **cond: Any) -> dict[str, Tensor]:
        """The guided output as ``"model"``, the one without guidance as ``"unguided"``, and further ones."""

    def network_calls(self, t: float | Tensor) -> int | Tensor:
        """As many as the model inside, where nothing else is asked."""
        return self.model.network_calls(t)

    def on(self, process: Process) -> ScoreModel:
        """The same guidance of the same models, seen on another process."""
        if process == self.process:
            return self
        seen = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, ScoreModel):
                setattr(seen, name, value.on(process))
        seen.net, seen.process, seen.prediction = seen.model.net, process, seen.model.prediction
        return seen

    def _edited(
        self, kind: str, output: Tensor, x: Tensor, t: float | Tensor, edit: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The output whose view of that kind is edited; the output itself, to the bit, where the edit does nothing."""
        a, b = self._conversion(self.prediction, kind, x, t)
        _, back = self._conversion(kind, self.prediction, x, t)
        view = a * x + b * output
        return output + back * (edit(view) - view)


def known(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of the model inside, ``"unguided"`` among them."""
    return {"unguided": own["model"], **own}


def per_sample(x: Tensor, values: Tensor) -> Tensor:
    """Values of shape (batch,) as (batch, 1, …), to be multiplied with x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
