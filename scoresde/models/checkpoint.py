"""Model folders: ``config.json`` says what the network is, ``model.safetensors`` holds its weights."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from scoresde import preconditioning as preconditionings
from scoresde import process as processes
from scoresde.files import regular, replacing
from scoresde.models.described import LONGEST, CheckpointError, built, fill, read_json, stored
from scoresde.models.diffusers_unet import DiffusersUNet
from scoresde.models.edm_networks import DhariwalUNet, SongUNet
from scoresde.models.unet import UNet
from scoresde.process import Process
from scoresde.score import ScoreModel
from solvers import prediction as predictions
from solvers.errors import nearest
from solvers.grids import Grid

FORMAT = "scoresde-model-1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DIFFUSERS = "diffusers:"
DARKEST = 60  # −λ at which a state says nothing of an image in float64, let alone in a network

# Each is built from in_channels, num_classes, channels, fold and its own options, and keeps them as ``config``.
NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "diffusers_unet": DiffusersUNet}
# Those of converted checkpoints, for sampling alone; they take any size that their levels divide.
CONVERTED: dict[str, Callable[..., nn.Module]] = {"song_unet": SongUNet, "dhariwal_unet": DhariwalUNet}


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, ready to sample from.

    Attributes:
        model: the network on its process, called with ``label`` of shape (batch,) if there are classes.
        shape: shape (channels, height, width) of one state: of an image, or of what ``decode`` makes one of.
        classes: number of classes; 0 for an unconditional model. The label ``classes`` means "no label", unless the
            network has none for that.
        card: the folder's whole ``config.json``; ``card["training"]`` tells how the model was made.
        decode: makes images in [−1, 1] of final states, for ``sample(decode=…)``; None where the states are the images.
        encode: makes states of images, the inverse of ``decode``.
        grid: the grid that the checkpoint itself asks for (a flow model's shift); None is the solver's recommended one.
    """

    model: ScoreModel
    shape: tuple[int, int, int]
    classes: int
    card: dict[str, Any]
    decode: Callable[[Tensor], Tensor] | None = None
    encode: Callable[[Any], Tensor] | None = None
    grid: Grid | None = None


def bundled() -> dict[str, Path]:
    """Folders of the models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(Path(__file__).parent.glob(f"*/{CONFIG}"))}


def build(network: Mapping[str, Any], shape: tuple[int, ...]) -> nn.Module:
    """The network described by ``{"name": …, **constructor arguments}``, checked against the shape of its images.

    Raises:
        ValueError: unknown network (the nearest name is given), or images it cannot halve as often as it must.
        TypeError: an argument the network does not have.
    """
    options = dict(network)
    name = options.pop("name", None)
    known = {**NETWORKS, **CONVERTED}
    if name not in known:
        raise ValueError(f"unknown network {name!r}{nearest(str(name), known)}")
    net = known[name](**options)
    if name in CONVERTED:
        return net
    multiple = options.get("fold", 2) * 2 ** (len(options.get("channels", (0, 0))) - 1)
    if any(size % multiple for size in shape[1:]):
        raise ValueError(f"network {name!r} needs images whose sides are multiples of {multiple}, got {tuple(shape)}")
    return net


def save(
    folder: str | Path,
    net: nn.Module,
    *,
    network: str,
    process: Process,
    prediction: str,
    shape: tuple[int, ...],
    classes: int = 0,
    time_scale: float = 1.0,
    preconditioning: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder that :func:`load` reads.

    Args:
        folder: made if missing; an earlier model in it is replaced.
        net: the network, with its constructor arguments as ``net.config``.
        network: its name in ``NETWORKS`` or ``CONVERTED``.
        process, prediction: as in :class:`scoresde.ScoreModel`.
        shape: shape (channels, height, width) of one image.
        classes: number of classes, 0 for none.
        time_scale: the network is fed ``time_scale`` times process time.
        preconditioning: what surrounds the network instead, as :func:`scoresde.preconditioning.get` has it.
        training: how the model was made; kept as it is.
        dtype: what floating-point weights are stored in: float32, or bfloat16 for half the size.
    """
    known = {**NETWORKS, **CONVERTED}
    if network not in known:
        raise ValueError(f"unknown network {network!r}{nearest(network, known)}")
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in net.state_dict().items()
    }
    config = {
        "format": FORMAT,
        "network": {"name": network, **net.config},  # type: ignore[dict-item]
        "process": process.config(),
        "prediction": prediction,
        "time_scale": float(time_scale),
        "shape": list(shape),
        "classes": classes,
        **({} if preconditioning is None else {"preconditioning": dict(preconditioning)}),
        "training": dict(training or {}),
    }
    folder = Path(folder)
    # As bytes: save_file writes to a temporary file of its own, which a kill would leave, and has errors of its own.
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(serialised(weights, {"format": FORMAT}))
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(
    name_or_folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Read a bundled model by its name, a model folder, or a checkpoint of diffusers.

    Args:
        name_or_folder: a name such as ``"mnist"``; a folder with ``config.json`` and ``model.safetensors``; a folder of
            diffusers; or ``diffusers:`` before a folder or a hub id, see :func:`scoresde.models.from_diffusers`.
        device: where the network goes.
        dtype: precision of the network; weights stored in bfloat16 are converted.

    Raises:
        CheckpointError: nothing there, or a foreign, truncated, corrupt or mismatched file.
    """
    if (source := foreign(name_or_folder)) is not None:
        from scoresde.models.from_diffusers import from_diffusers

        return from_diffusers(source, device=device, dtype=dtype)
    folder = find(name_or_folder)
    path = folder / CONFIG
    config = _read_config(path)
    shapes = _stored(folder / WEIGHTS)
    try:
        shape, classes, scale = _described(config)
        process = processes.get(**config["process"])
        network = dict(config["network"])
        maps: preconditionings.Maps = {} if scale == 1 else {"time_input": partial(operator.mul, scale)}
        if "preconditioning" in config:
            maps = preconditionings.get(config["preconditioning"])
        predictions.check(config["prediction"])
        _check_conventions(process, scale, config)
    except CheckpointError:
        raise
    except Exception as error:  # whatever odd settings lead to
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointError(f"{str(path)!r} does not describe a model: {reason}") from error
    _check_agreement(str(path), network, shape, classes)
    net = built(lambda: build(network, shape), _options(network), shapes, repr(str(path)), str(folder / WEIGHTS))
    rehearse(lambda x: build(network, shape)(x, torch.ones(1)), shape, repr(str(path)))
    model = ScoreModel(net, process, config["prediction"], **maps)
    _fill(net, folder / WEIGHTS)
    net.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.eval().requires_grad_(False)
    return Checkpoint(model, shape, classes, config)


def _options(network: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in network.items() if key != "name"}


def _described(config: Mapping[str, Any]) -> tuple[tuple[int, int, int], int, float]:
    """Shape, classes and time scale.

    Raises:
        KeyError, TypeError, ValueError: they are not there, or make no sense.
    """
    shape, classes, scale, training = (
        config["shape"],
        config["classes"],
        config["time_scale"],
        config.get("training", {}),
    )
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(size) is int and 0 < size < 2**16 for size in shape)
    ):
        raise ValueError(f"shape = {shape!r:.60} is no [channels, height, width]")
    if type(classes) is not int or classes < 0:
        raise ValueError(f"classes = {classes!r:.60} is no number of classes")
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        raise ValueError(f"time_scale = {scale!r:.60} is no positive number")
    if not isinstance(training, dict):
        raise ValueError(f"training = {training!r:.60} is no mapping")
    counts = training.get("class_counts") or []
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("class_counts are no numbers of images")
    if counts and len(counts) != classes:
        raise ValueError(f"there are {len(counts)} class_counts for {classes} classes")
    if not isinstance(config["prediction"], str):
        raise ValueError(f"prediction = {config['prediction']!r:.60} is no name")
    return (shape[0], shape[1], shape[2]), classes, float(scale)


def _check_agreement(path: str, network: Mapping[str, Any], shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network of other images or classes than the model has.

    Raises:
        CheckpointError: names both.
    """
    meant = {"in_channels": (shape[0], f"shape {list(shape)}"), "num_classes": (classes, f"{classes} classes")}
    for key, (value, what) in meant.items():
        if key in network and network[key] != value:
            told = f"its network has {key} = {network[key]!r:.60}"
            raise CheckpointError(f"{path!r} does not describe a model: {what}, but {told}")
    levels = network.get("multiples")
    if isinstance(levels, list) and any(size % 2 ** (min(len(levels), LONGEST) - 1) for size in shape[1:]):
        raise CheckpointError(
            f"{path!r} does not describe a model: {len(levels)} levels do not divide {list(shape[1:])}"
        )


def _check_conventions(process: Process, scale: float, config: Mapping[str, Any]) -> None:
    """Refuse processes, time scales and preconditionings that contradict each other.

    Raises:
        ValueError: names them.
    """
    check_levels(process)
    if not scale * process.t_max < torch.finfo(torch.float32).max:
        raise ValueError(f"time_scale = {scale:g} makes times of {process!r} infinite in float32")
    if "preconditioning" in config:
        if scale != 1:
            raise ValueError(f"time_scale = {scale:g}, but the preconditioning says what the network is fed")
        if config["prediction"] != "sample":
            raise ValueError(f"prediction = {config['prediction']!r}, but what is preconditioned predicts the 'sample'")


def check_levels(process: Process) -> None:
    """Refuse a process whose noise hides everything long before its end, or that is not one of growing noise.

    Raises:
        ValueError: it is one; the first time where that shows is named.
    """
    last = process.t_max - (1.0 if process.t_clean < 0 else 1e-3 * (process.t_max - process.t_min))
    times = [process.t_min + (last - process.t_min) * index / 4 for index in range(5)]
    levels = [float(process.half_log_snr(time)) for time in times]
    for time, level, before in zip(times, levels, [math.inf, *levels], strict=False):
        if not -DARKEST < level < before:
            raise ValueError(
                f"{process!r} has λ = log(α/σ) = {level:g} at t = {time:g}, which no network is trained at"
            )


def rehearse(run: Callable[[Tensor], Tensor], shape: tuple[int, ...], where: str) -> None:
    """Call a network without its weights, in shapes alone, so that contradictions show before anything is sampled.

    Args:
        run: builds the network and calls it, on a state of shape (1, *shape).
        shape: that it must return too.
        where: name of the description, for errors.

    Raises:
        CheckpointError: it cannot be called, or returns another shape.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            found = tuple(run(torch.empty(1, *shape)).shape)
    except Exception as error:  # whatever contradictory settings lead to
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return  # a network that looks at its numbers, which there are none of
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"{where} does not describe a model of states of shape {list(shape)}: {reason}"
        ) from error
    if found != (1, *shape):
        raise CheckpointError(
            f"{where} does not describe a model of states of shape {list(shape)}: it returns {list(found[1:])}"
        )


def fingerprint(name_or_folder: str | Path) -> str:
    """SHA-256 over the files of a model, which tells a retrained model from the one that was there before.

    Of a hub id, over its name and its newest commit, since the files do not lie here.
    """
    source = foreign(name_or_folder)
    if source is None:
        folder = find(name_or_folder)
        paths = [folder / CONFIG, folder / WEIGHTS]
    elif (folder := Path(source).expanduser()).is_dir():
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".bin"))
    else:
        from huggingface_hub import model_info

        return hashlib.sha256(f"{source}@{model_info(source).sha}".encode()).hexdigest()
    digest = hashlib.sha256()
    for path in paths:
        with regular(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def foreign(name_or_folder: str | Path) -> str | None:
    """The folder or hub id of a checkpoint of diffusers, None for a model of our own.

    That is what follows ``diffusers:``, or a folder whose ``model_index.json`` or ``config.json`` names a class.
    """
    name = str(name_or_folder)
    if name.startswith(DIFFUSERS):
        return name.removeprefix(DIFFUSERS)
    folder = Path(name_or_folder).expanduser()
    if name in bundled() or not folder.is_dir():
        return None
    if (folder / "model_index.json").is_file():
        return name
    try:
        return name if "_class_name" in read_json(folder / CONFIG) else None
    except (OSError, ValueError):
        return None


def find(name_or_folder: str | Path) -> Path:
    """The folder of a bundled model's name, or the given folder.

    Raises:
        CheckpointError: it is neither (the nearest name is given).
    """
    known, name = bundled(), str(name_or_folder)
    folder = known.get(name) or Path(name_or_folder).expanduser()
    if not folder.is_dir():
        hint = nearest(name, known) if known else ""
        raise CheckpointError(f"no model {name!r}: neither a folder nor a bundled model{hint}")
    return folder


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{str(path.parent)!r} is not a model folder: it holds no {CONFIG}") from error
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has the format {config.get('format')!r:.60}; this version reads {FORMAT!r}"
        )
    return config


def _stored(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        return stored(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{str(path.parent)!r} holds no {WEIGHTS}") from error


def _fill(net: nn.Module, path: Path) -> None:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except Exception as error:  # of a damaged file anything may come
        raise CheckpointError(f"{str(path)!r} is damaged or not a safetensors file: {error}") from error
    fill(net, weights, str(path))
