"""What ``scoresde sample`` is asked for, read from its configuration and checked before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

import scoresde
import solvers
from scoresde import models
from scoresde import process as processes
from scoresde.commands import fitting, pictures, precision, prompts, values
from scoresde.commands.app import TIMES
from scoresde.commands.guided import check, guided, recorded
from scoresde.commands.measured import drop, loaded, measure, place, settle
from scoresde.data import to_pixels
from scoresde.edits import Edit
from scoresde.files.text import say
from scoresde.metrics import class_labels
from scoresde.models import Checkpoint
from scoresde.runs import record
from scoresde.runs.formats import FORMATS
from scoresde.runs.ranks import Ranks
from scoresde.runs.scoring import Scoring
from scoresde.runs.shards import Shards, seeds_of
from scoresde.sampling import NETWORK, grid_of
from scoresde.score import PRECISIONS
from solvers import Solver
from solvers.arrays import has_float64
from solvers.errors import known, nearest
from solvers.grids import Grid

N, SEED, NFE = 64, 0, 20
BATCH = 64  # images at once, where there are so many
FULL = "full"  # a state in float32, or in float64 with such a network
NAMED = 20  # classes that an error lists
RECORDED = (
    "n",
    "seed",
    "seeds",
    "steps",
    "nfe",
    "batch_size",
    "shard",
    "label",
    "format",
    "keep",
    *prompts.SAID,
    *pictures.SAID,
)  # as they are asked for
COLUMNS = 10  # prompts side by side in a picture
PASSING = ("out", "threads")  # what may differ when a run goes on
Times = Grid | tuple[float, ...] | None  # a grid, times as they are given, or what the solver recommends


@dataclass(frozen=True)
class Asked:
    """A solver on a grid, as far as they are known before the model."""

    solver: Solver
    grid: Times
    steps: int | None

    @classmethod
    def of(cls, config: DictConfig, settings: dict[str, Any]) -> Asked:
        """What a configuration asks for; what is recorded of it goes into ``settings``.

        Raises:
            ValueError: an unknown name, or an option out of range.
        """
        name, options = values.named(settings["solver"])
        solver, settings["solver"] = fitting.named(str(name), options, place(settings))
        grid = _grid(*values.named(settings["grid"]))
        steps, nfe = (None if config[key] is None else values.whole(config, key) for key in ("steps", "nfe"))
        if steps is None and nfe is None and not solver.adaptive and not isinstance(grid, tuple):
            settings["nfe"] = NFE
        return cls(solver, grid, steps)

    def sampler(
        self,
        config: DictConfig,
        settings: dict[str, Any],
        checkpoint: Checkpoint,
        device: torch.device,
        out: Path | None,
    ) -> tuple[scoresde.Sampler, Solver, Times]:
        """The sampler of a model, on the process asked for and guided; the solver, with σ*, and its grid.

        Raises:
            ValueError: settings that do not fit together.
        """
        solver, grid, dtype = self.solver, self.grid, PRECISIONS[settings.get("dtype", "float32")]
        drop(settings)
        settings["model"]["sha256"] = models.fingerprint(place(settings))
        process_name, options = values.named(settings["process"])
        model = checkpoint.model
        if process_name is not None:
            model = model.on(processes.get(process_name, **options))
        model = guided(model, settings["guidance"], checkpoint, device, dtype)
        if model.scales is not None:
            raise ValueError(f"images are made at one guidance scale, got a range, {model.guidance}; tune takes one")
        settings["guidance"] = recorded(settings["guidance"])
        if grid is None and not solver.adaptive:
            solver = fitting.fitted(solver, model, checkpoint, out)
            if (scale := solver.options.get("scale")) is not None:
                settings["solver"]["scale"] = scale
            grid = grid_of(checkpoint, solver)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            sampler = scoresde.Sampler(model, solver, steps=self.steps, nfe=settings["nfe"], grid=grid)
        for each in said:
            say(f"note: {each.message}")
        return sampler, solver, grid


@dataclass(frozen=True)
class Request:
    """A model, how it is sampled, and where the samples go.

    Attributes:
        settings: the configuration as it is recorded.
        sampler: of the checkpoint's model, on the process asked for and guided.
        labels: class of each image, −1 for none.
        traced: samples, the first, of which a trajectory is kept.
        columns: classes side by side in the picture, by their names; none for no such order.
        edit: the image that samples begin with, None for noise alone.
    """

    settings: dict[str, Any]
    sampler: scoresde.Sampler
    checkpoint: Checkpoint
    solver: Solver
    grid: Times
    labels: NDArray[np.int64]
    columns: Sequence[str]
    device: torch.device
    shards: Shards
    scoring: Scoring | None
    traced: int
    edit: Edit | None = None

    @property
    def things(self) -> str:
        """What the samples are."""
        return "points" if self.checkpoint.points else "images"

    @classmethod
    def of(cls, config: DictConfig, out: Path, ranks: Ranks, dtype: str) -> Request:
        """The request that a configuration makes, with ``dtype`` for its own, which may be ``auto``.

        Raises:
            ValueError: a setting out of range, or settings that do not fit together.
        """
        settings = values.resolved(config, without=PASSING)
        _set_seeds(config, settings)
        begun = values.begun_in(config, out)
        batch_size = settings["batch_size"] = _batch_size(config, settings, begun)
        settings["shard"] = -(-values.whole(config, "shard") // batch_size) * batch_size
        name, device = known("dtype", dtype, PRECISIONS), ranks.device(values.device(config))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if name == "float64" and not has_float64(device):
            raise ValueError(f"device {str(device)!r} has no float64: take dtype=float32")
        if config.threads is not None:
            torch.set_num_threads(values.whole(config, "threads"))
        asked = Asked.of(config, settings)
        pictures.check(settings, (asked.solver,))
        inputs = {**prompts.inputs(settings), **pictures.inputs(settings)}
        settings["dtype"] = name
        if known("state", settings["state"], (FULL, NETWORK)) == FULL:
            del settings["state"]  # as in runs of before there was a choice
        _foresee(config, settings, out)
        checkpoint = loaded(settings, device, PRECISIONS[name])
        edit = pictures.edit(settings, checkpoint, device)
        sampler, solver, grid = asked.sampler(config, settings, checkpoint, device, begun)
        sampler = sampler if edit is None else edit.taken(sampler)
        if checkpoint.points and values.flag(config, "metrics"):
            raise ValueError(
                f"metrics=true is for images, and {config.model.name} is of points: scoresde bench measures them"
            )
        scoring = None
        if values.flag(config, "metrics"):
            settle(settings, checkpoint.image_shape(device), models.home(place(settings)))
            scoring = Scoring(measure(settings, checkpoint, device))
        for key in [key for key in settings if key.partition("_")[0] in ("features", "reference")]:
            del settings[key]  # what came of them is recorded
        settings["metrics"] = False if scoring is None else scoring.about
        if found := {**inputs, **({} if scoring is None else scoring.inputs)}:
            settings[record.INPUTS] = found
        values.flag(config, "keep")
        if not (traced := values.whole(config, "trajectory", least=0)):
            del settings["trajectory"]  # as in runs of before there was a choice
        if checkpoint.points and config.format != "npz":
            raise ValueError(f"format={config.format} is for images, and {config.model.name} is of points: npz")
        if config.format != "npz" and checkpoint.decode is None and checkpoint.shape[0] not in (1, 3):
            raise ValueError(f"format={config.format} is for 1 or 3 channels, the model has {checkpoint.shape[0]}")
        shards = Shards.of(out, settings)
        if traced > len(shards.parts[0]):
            raise ValueError(
                f"trajectory must be at most the {len(shards.parts[0])} samples made at first, got {traced}"
            )
        if traced and solver.adaptive:
            raise ValueError(f"{solver.name} chooses its own steps, and so has no trajectory: give trajectory=0")
        labels = labels_of(config.label, shards.total, checkpoint)
        numbers = list(map(str, range(checkpoint.classes)))
        texts = checkpoint.pipeline is not None  # which are no words to stand over columns
        names = numbers if texts else checkpoint.class_names or numbers
        columns = names if config.label == "cycle" and not (texts and len(names) > COLUMNS) else ()
        return cls(settings, sampler, checkpoint, solver, grid, labels, columns, device, shards, scoring, traced, edit)

    @staticmethod
    def dtype(config: DictConfig, out: Path) -> str:
        """The precision that a configuration asks for; ``auto`` is what the folder records, or what is quicker.

        Raises:
            ValueError: unknown; and what there is to say of device and model, where they are tried.
        """
        name = known("dtype", config.dtype, (precision.AUTO, *PRECISIONS))
        if name != precision.AUTO:
            return name
        settings = values.resolved(config)
        _set_seeds(config, settings)
        begun = values.begun_in(config, out)
        device, size = values.device(config), _batch_size(config, settings, begun)
        settings["shard"], settings["batch_size"] = values.whole(config, "shard"), size
        asked = Asked.of(config, settings)  # what solver, grid and pictures have to say comes before any network
        pictures.check(settings, (asked.solver,))
        _foresee(config, {key: value for key, value in settings.items() if key != "shard"}, out)
        checkpoint = loaded(settings, device)
        return precision.chosen(begun, "dtype", checkpoint, size, device)

    def sample(
        self,
        seeds: list[int],
        labels: NDArray[np.int64],
        progress: Callable[[float], object],
    ) -> scoresde.Result:
        """Samples of these seeds and labels."""
        return self._sample(seeds, labels, progress=progress)

    def walked(self, seeds: list[int], labels: NDArray[np.int64]) -> scoresde.Result:
        """The same with their states on the way, which is gone once more."""
        return self._sample(seeds, labels, trajectory=True)

    @property
    def visible(self) -> bool:
        """Whether states are points, or images of 1 or 3 channels."""
        checkpoint = self.checkpoint
        return checkpoint.points or (checkpoint.decode is None and checkpoint.shape[0] in (1, 3))

    def denoised(self, ways: scoresde.Result, labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """What there is to keep of :meth:`walked`: ``points``, or ``images`` E[x0 | x_t] with the samples at the end.

        Each state of images is denoised by one further evaluation.

        Returns:
            float32 states (times, n, dim), or uint8 pixels (times, n, channels, height, width).
        """
        assert ways.trajectory is not None
        if self.checkpoint.points:
            return {"points": ways.trajectory.to("cpu", torch.float32).numpy()}
        decode, model = self.checkpoint.decode or (lambda states: states), self.sampler.model
        frames = []
        with torch.no_grad():
            for state, t in zip(ways.trajectory[:-1], ways.trajectory_times, strict=False):
                cond = {name: value.to(self.device) for name, value in self.cond(labels).items()}
                frames.append(to_pixels(decode(model.denoised(state.to(self.device), t, **cond))).cpu())
        return {"images": torch.stack([*frames, to_pixels(ways.samples).cpu()]).numpy()}

    def _sample(self, seeds: list[int], labels: NDArray[np.int64], **options: Any) -> scoresde.Result:
        wide = self.settings["dtype"] == "float64"
        given: dict[str, Any] = {
            "seeds": seeds,
            "cond": self.cond(labels),
            "batch_size": self.settings["batch_size"],
            "dtype": self.settings.get("state") or (torch.float64 if wide else torch.float32),
            "device": self.device,
            "decode": self.checkpoint.decode,
            **options,
        }
        if self.edit is not None:
            return self.edit.sample(self.sampler, **given)
        return self.sampler.sample(shape=(len(seeds), *self.checkpoint.shape), **given)

    @staticmethod
    def cond(labels: NDArray[np.int64]) -> dict[str, Tensor]:
        """What the model is given beside state and time."""
        return {} if (labels < 0).all() else {"label": torch.from_numpy(labels)}


def _foresee(config: DictConfig, settings: dict[str, Any], out: Path) -> None:
    """Refuse before a model is loaded what needs none to be refused.

    Raises:
        ValueError: as for what comes later.
    """
    if values.flag(config, "keep"):
        known("format", settings["format"], FORMATS.names())
    count = len(seeds_of(settings))
    if values.flag(config, "metrics") and count < 2:
        raise ValueError(f"metrics compare sets of images: give n=2 or more, got {count}")
    check(settings["guidance"])
    if (begun := values.begun_in(config, out)) is not None:
        record.foresee(begun, settings, RECORDED)


def _set_seeds(config: DictConfig, settings: dict[str, Any]) -> None:
    """Either ``seeds`` or ``n`` and ``seed`` with their defaults."""
    if config.seeds is None:
        settings["n"] = N if config.n is None else values.whole(config, "n")
        settings["seed"] = SEED if config.seed is None else values.whole(config, "seed", least=0)
    elif given := [f"{key}={config[key]}" for key in ("n", "seed") if config[key] is not None]:
        raise ValueError(f"give seeds, or n and seed, not both: got seeds={config.seeds} and {' '.join(given)}")


def _grid(name: str | None, options: dict[str, Any]) -> Times:
    """The grid of a configuration: by its name, times as they are given, or none."""
    if name != TIMES:
        return None if name is None else solvers.grids.get(name, **options)
    times = options[TIMES]
    if not isinstance(times, list) or not all(type(time) in (int, float) for time in times):
        raise ValueError(f"grid.times must be a list of numbers such as [1,0.5,0], got {times!r}")
    return tuple(map(float, times))


def _batch_size(config: DictConfig, settings: dict[str, Any], out: Path | None) -> int:
    """What is asked for; or what the folder was begun with; or all images, up to :data:`BATCH`."""
    if config.batch_size is not None:
        return values.whole(config, "batch_size")
    begun = (record.recorded(out) or {}).get("batch_size") if out else None
    return begun if type(begun) is int and begun > 0 else min(BATCH, len(seeds_of(settings)))


def labels_of(label: Any, n: int, checkpoint: Checkpoint) -> NDArray[np.int64]:
    """The class of each image, or the number of its prompt, shape (n,); −1 for no label."""
    if checkpoint.pipeline is not None:
        return np.arange(n) % checkpoint.classes
    classes, counts = checkpoint.classes, checkpoint.card.get("training", {}).get("class_counts")
    if label is None or (label == "cycle" and classes == 0):
        return np.full(n, -1)
    if label == "cycle":
        return np.arange(n) % classes
    if label == "data" and counts:
        return class_labels(n, counts).numpy()
    names = checkpoint.class_names
    if isinstance(label, str) and label in names:
        return np.full(n, names.index(label))
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < classes:
        known = f"0 to {classes - 1}, cycle{', data' if counts else ''} or null" if classes else "null: no classes here"
        called = f", or a class by its name: {_listed(names)}" if names else ""
        meant = nearest(label, names) if isinstance(label, str) and names else ""
        raise ValueError(f"label must be {known}{called}, got {label!r}{meant}")
    return np.full(n, label)


def _listed(names: tuple[str, ...]) -> str:
    """The first names of classes, quoted as a shell and Hydra need them."""
    told = ", ".join(repr(name) for name in names[:NAMED])
    return f"{told}, …" if len(names) > NAMED else told
