"""What is measured of a model and its images while it is trained: FID, and statistics that are kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

import scoresde
from scoresde.commands import measured, values
from scoresde.data import Resizing, to_pixels
from scoresde.files.text import say
from scoresde.metrics import FID, Space, class_labels, real_images
from scoresde.metrics.moments import Gaussian
from scoresde.metrics.spaces.named import described
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


@dataclass(frozen=True)
class Kept:
    """What the training images are in a feature space: the features and the reference of the model they make.

    Attributes:
        space: of them.
        named: the space, as a model's folder has it.
        trainer: of the model.
    """

    space: Space
    named: dict[str, Any]
    trainer: Trainer

    @classmethod
    def of(cls, settings: dict[str, Any], trainer: Trainer) -> Kept:
        """Statistics in the space that ``features`` asks for.

        Raises:
            ValueError: a space that is not there, takes other images, or may not be named by a folder.
        """
        measured.settle(settings, trainer.data.shape)
        name, options = values.named(settings["features"])
        if "shape" in options:
            options["shape"] = list(trainer.data.shape)
        named = described(str(name), options)
        return cls(_space(settings, trainer), named, trainer)

    def kept(self, folder: Path) -> bool:
        """Whether they lie in a model's folder."""
        return real_images.kept(folder, self.space, self.named)

    def keep(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Write them into a model's folder, unless they are there; the settings say where the images are from."""
        if self.kept(folder):
            return
        data = self.trainer.data
        say(f"statistics of the {len(data):,} training images in {self.space.name}, for bench and sample")
        source = {**source_of(settings), "images": len(data)}
        card = {"images": "those that the model was trained on", "data": source, "sha256": self.trainer.content}
        real_images.keep(folder, self.space, data, self.named, card)


def source_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the images are from, for who has none of the folders, and what became of them."""
    return {**settings["data"], "path": PurePath(str(settings["data"]["path"])).name}


def _space(settings: dict[str, Any], trainer: Trainer) -> Space:
    checkpoint = Checkpoint(trainer.model, trainer.data.shape, trainer.data.classes, {})
    return measured.space(settings, checkpoint, trainer.device)


def of(settings: dict[str, Any], samples: int, every: int, trainer: Trainer, resizing: Resizing) -> Progress:
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
    measured.settle(settings, trainer.data.shape)
    name, data = settings["features"]["name"], settings["data"]
    if name == "model" and settings["features"].get("path") is None:
        raise ValueError("features=model needs features.path=…, the folder of a model with features of such images")
    space = _space(settings, trainer)
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
