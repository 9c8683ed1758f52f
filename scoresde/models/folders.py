"""Model folders: ``config.json`` says what the network is, ``model.safetensors`` holds its weights."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from scoresde import preconditioning as preconditionings
from scoresde import process as processes
from scoresde.files import replacing
from scoresde.files.bundled import CONFIG, WEIGHTS, CheckpointError
from scoresde.networks import NETWORKS, build
from scoresde.networks.checkpoint import Checkpoint, check_levels, rehearse
from scoresde.networks.described import LONGEST, built, fill, read_json, stored
from scoresde.process import Process
from scoresde.score import ScoreModel
from solvers import prediction as predictions

FORMAT = "scoresde-model-1"


def save(
    folder: str | Path,
    net: nn.Module,
    *,
    network: str,
    process: Process,
    prediction: str,
    shape: tuple[int, ...],
    classes: int = 0,
    class_names: Sequence[str] = (),
    time_scale: float = 1.0,
    preconditioning: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    noise_scale: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder that :func:`read` reads.

    Args:
        folder: made if missing; an earlier model in it is replaced.
        net: the network, with its constructor arguments as ``net.config``.
        network: its name in :data:`scoresde.networks.NETWORKS`.
        process, prediction: as in :class:`scoresde.ScoreModel`.
        shape: shape (channels, height, width) of one image.
        classes: number of classes, 0 for none.
        class_names: their names in the order of their labels; none where nobody knows.
        time_scale: the network is fed ``time_scale`` times process time.
        preconditioning: what surrounds the network instead, as :func:`scoresde.preconditioning.described` has it.
        training: how the model was made; kept as it is.
        noise_scale: σ* of the model (:func:`scoresde.noise_scale`), None where nobody measured it.
        dtype: what floating-point weights are stored in: float32, or bfloat16 for half the size.
    """
    NETWORKS.find(network)
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
        **({"class_names": list(class_names)} if class_names else {}),
        **({} if preconditioning is None else {"preconditioning": dict(preconditioning)}),
        **({} if noise_scale is None else {"noise_scale": noise_scale}),
        "training": dict(training or {}),
    }
    folder = Path(folder)
    # As bytes: save_file writes to a temporary file of its own, which a kill would leave, and has errors of its own.
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(serialised(weights, {"format": FORMAT}))
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(folder: Path, device: str | torch.device, dtype: torch.dtype) -> Checkpoint:
    """The model in a folder that :func:`save` wrote; see :func:`scoresde.models.load`.

    Raises:
        CheckpointError: a foreign, truncated, corrupt or mismatched file.
    """
    path = folder / CONFIG
    config = _read_config(path)
    shapes = _stored(folder / WEIGHTS)
    try:
        shape, classes, scale = _described(config)
        process = processes.get(**config["process"])
        network = dict(config["network"])
        NETWORKS.find(network.get("name"))
        maps: preconditionings.Maps = {} if scale == 1 else {"time_input": partial(operator.mul, scale)}
        if "preconditioning" in config:
            maps = preconditionings.described(config["preconditioning"], process)
        predictions.check(config["prediction"])
        _check_conventions(process, scale, config)
    except CheckpointError:
        raise
    except Exception as error:  # whatever odd settings lead to
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        if reason.startswith("unknown "):
            reason += "; one of your own is there when its plugin is loaded first (plugins=[mine.py])"
        raise CheckpointError(f"{str(path)!r} does not describe a model: {reason}") from error
    _check_agreement(str(path), network, shape, classes)
    net = built(lambda: build(network, shape), _options(network), shapes, repr(str(path)), str(folder / WEIGHTS))
    rehearse(lambda x: build(network, shape)(x, torch.ones(1)), shape, repr(str(path)))
    model = ScoreModel(net, process, config["prediction"], **maps)
    _fill(net, folder / WEIGHTS)
    net.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.eval().requires_grad_(False)
    model.noise_scale = config.get("noise_scale")
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
    names = config.get("class_names", [])
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not plain or len(names) not in (0, classes) or len(set(names)) < len(names):
        raise ValueError(f"class_names = {names!r:.60} are not {classes} different names")
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        raise ValueError(f"time_scale = {scale!r:.60} is no positive number")
    if not isinstance(training, dict):
        raise ValueError(f"training = {training!r:.60} is no mapping")
    counts = training.get("class_counts") or []
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("class_counts are no numbers of images")
    if counts and len(counts) != classes:
        raise ValueError(f"there are {len(counts)} class_counts for {classes} classes")
    scale_star = config.get("noise_scale", 1.0)
    if type(scale_star) not in (int, float) or not 0 < scale_star < math.inf:
        raise ValueError(f"noise_scale = {scale_star!r:.60} is no positive number")
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
