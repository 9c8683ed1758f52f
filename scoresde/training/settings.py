"""How to train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to train. Any change makes another run: a checkpoint made with other settings is refused.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step.
        learning_rate: peak of Adam's rate, after ``warmup`` steps; it falls to zero on a cosine at the end.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights per step, reached gradually.
        label_dropout: share of labels replaced by "no label", so that the model can be guided.
        bf16: run the network under bfloat16 autocast; weights, loss and optimiser stay in float32.
        seed: of initial weights, order, times, noise and dropout.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: int = 500
    clip: float = 1.0
    ema: float = 0.999
    label_dropout: float = 0.1
    bf16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("label_dropout", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
