"""FID of a model while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import scoresde
from scoresde.commands import measured
from scoresde.data import Resizing, to_pixels
from scoresde.files.text import say
from scoresde.metrics import FID, Space, class_labels, real_images
from scoresde.metrics.moments import Gaussian
from scoresde.models import Checkpoint
from scoresde.score import ScoreModel
from scoresde.training import Trainer

SOLVER, STEPS = "dpmpp_2m", 20


@dataclass(frozen=True)
class Progress:
    """FID of what a model samples from the same seeds, for the same labels, with ``STEPS`` steps of ``SOLVER``.

    Attributes:
        samples: how many.
        every: steps after which a model is measured again.
        space, reference: what they are compared in and with.
        labels: of the samples, in the proportions of the training images; None without classes.
        trainer: of the models, as whose batches and in whose precision they are sampled.
    """

    samples: int
    every: int
    space: Space
    reference: Gaussian
    labels: Tensor | None
    trainer: Trainer

    def __call__(self, model: ScoreModel) -> dict[str, Any]:
        """``fid``, ``fid_samples`` and ``fid_space``, as the trainer records them."""
        fid, trainer = FID(self.space, self.reference), self.trainer
        with torch.autocast(trainer.device.type, torch.bfloat16) if trainer.settings.bf16 else nullcontext():
            found = scoresde.sample(
                model,
                SOLVER,
                steps=STEPS,
                shape=(self.samples, *trainer.data.shape),
                seeds=range(self.samples),
                cond={} if self.labels is None else {"label": self.labels},
                batch_size=trainer.settings.batch_size,
                device=trainer.device,
            ).samples
        fid.update(to_pixels(found))
        score = fid.compute()
        return {"fid": score.value, "fid_samples": score.samples, "fid_space": score.feature_space}


def of(settings: Mapping[str, Any], samples: int, every: int, trainer: Trainer, resizing: Resizing) -> Progress:
    """What measures the models of a trainer, as ``fid``, ``features`` and ``reference`` ask.

    Args:
        settings: with ``features``, ``reference`` and ``data``.
        samples: of each measurement.
        every: steps from one to the next.
        trainer: of the models.
        resizing: what became of the training images, and becomes of those of the reference.

    Raises:
        ValueError: fewer than two samples, a space that is not there or takes other images, or a reference that cannot
            be had.
    """
    if samples < 2:
        raise ValueError(f"fid must be 0, for none, or the number of samples, 2 or more; got {samples}")
    name, data = settings["features"]["name"], settings["data"]
    if name == "model" and settings["features"].get("path") is None:
        raise ValueError("features=model needs features.path=…, the folder of a model with features of such images")
    checkpoint = Checkpoint(trainer.model, trainer.data.shape, trainer.data.classes, {})
    space = measured.space(settings, checkpoint, trainer.device)
    say(f"FID of {samples} samples in {space.name}; features of the reference are computed once, and kept")
    if (given := settings["reference"]) is None:
        real = real_images.reference(data["path"], space, resizing, data.get("split", "train"), data.get("column"))
    else:
        real = real_images.reference(given, space, resizing if real_images.holds_images(given) else None)
    labels = trainer.data.labels
    return Progress(
        samples,
        every,
        space,
        real.moments,
        None if labels is None else class_labels(samples, torch.bincount(labels).tolist()),
        trainer,
    )
