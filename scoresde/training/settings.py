"""How to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from scoresde.runs.hardware import has_bfloat16
from scoresde.training import averages
from scoresde.training.schedules import INVERSE_SQRT, SCHEDULES
from solvers.errors import known

SHARE = 10  # of a run, what its warm-up, its averaging window and the rate before it decays are at most a part of
LONGEST_WARMUP, LARGEST_EMA = 500, 0.999
# Of what is filled in, as it is recorded.
KINDS = {"warmup": (int,), "ema": (int, float), "bf16": (bool,), "decay_steps": (int,)}
# Not recorded: earlier versions knew nothing else.
LATER: dict[str, Any] = {"schedule": "cosine", "decay_steps": None, "averages": ()}


@dataclass(frozen=True)
class Settings:
    """How to train. Any change but more epochs makes another run: a checkpoint made with other settings is refused.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step.
        learning_rate: peak of Adam's rate, after ``warmup`` steps.
        warmup: steps of linear warm-up; None is min(500, a tenth of the steps).
        clip: largest norm of the gradient.
        ema: decay of the averaged weights per step, reached gradually; None is the largest up to 0.999 whose window,
            1/(1 − ema) steps, is no more than a tenth of the steps.
        label_dropout: share of labels replaced by "no label", so that the model can be guided.
        bf16: run the network under bfloat16 autocast; weights, loss and optimiser stay in float32. None is whether the
            device computes in it by instructions of its own.
        seed: of initial weights, order, times, noise and dropout.
        schedule: what the rate does after the warm-up: ``cosine``, ``constant``, ``linear`` or ``inverse_sqrt``; see
            :func:`scoresde.training.schedules.factor`.
        decay_steps: of ``inverse_sqrt`` alone, the step from which the rate falls; None is a tenth of the steps.
        averages: widths σ_rel of further averages of the weights, by power functions of the step: each weighs the steps
            of the run such that their standard deviation is that share of its length so far; see
            :func:`scoresde.training.averages.power`.

    Raises:
        ValueError: a value is out of range, two averages alike, an unknown schedule (the nearest is given), or
            ``decay_steps`` without ``inverse_sqrt``.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: int | None = None
    clip: float = 1.0
    ema: float | None = None
    label_dropout: float = 0.1
    bf16: bool | None = None
    seed: int = 0
    schedule: str = "cosine"
    decay_steps: int | None = None
    averages: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("warmup", 0), ("decay_steps", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("label_dropout", "ema"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        averages.check_all(self.averages)
        known("schedule", self.schedule, SCHEDULES)
        if self.decay_steps is not None and self.schedule != INVERSE_SQRT:
            raise ValueError(f"decay_steps is of schedule={INVERSE_SQRT}, not of {self.schedule}")

    def filled(
        self, steps: int, device: torch.device | str = "cpu", recorded: Mapping[str, Any] | None = None
    ) -> Settings:
        """With numbers for what is None: those that a run of before has recorded, or those that fit the length.

        A run keeps its own when it is taken up, whatever these would be now: of earlier versions, which had others for
        every length, or with more epochs.

        Args:
            steps: of the run.
            device: that it begins on.
            recorded: settings of the run that is taken up, None for none.
        """
        own = {
            "warmup": min(LONGEST_WARMUP, steps // SHARE),
            "ema": max(0.0, min(LARGEST_EMA, 1 - SHARE / steps)),
            "bf16": has_bfloat16(torch.device(device)),
            **({"decay_steps": max(1, steps // SHARE)} if self.schedule == INVERSE_SQRT else {}),
        }
        old = recorded or {}
        kept = {name: value for name, value in old.items() if name in own and type(value) in KINDS[name]}
        return replace(self, **{name: value for name, value in (own | kept).items() if getattr(self, name) is None})

    def recorded(self) -> dict[str, Any]:
        """What tells the run from others, less what is as it was before there was a choice."""
        found = {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
