"""Checkpoints of diffusers as score models: conventions from their configurations, checked against each other."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoresde.integrations import scheduler_config
from scoresde.integrations.scheduler_config import Trained
from scoresde.models.checkpoint import Checkpoint, CheckpointError
from scoresde.models.denoisers import DENOISERS, LEGACY, Denoiser, Shape
from scoresde.models.latents import Latents, known
from scoresde.process import Flow
from scoresde.score import ScoreModel
from solvers import grids
from solvers.errors import nearest
from solvers.grids import Grid

INDEX = "model_index.json"
NETWORKS, AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")


def from_diffusers(
    source: Any,
    *,
    scheduler: Any = None,
    shape: Shape | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> Checkpoint:
    """A checkpoint of diffusers, ready to sample from.

    Args:
        source: a folder, a hub id such as ``google/ddpm-cifar10-32``, a pipeline, or a network of diffusers. Denoiser
            and autoencoder are taken; text encoders are the caller's.
        scheduler: a scheduler of diffusers or its configuration, in place of the checkpoint's own; needed where it has
            none.
        shape: (channels, height, width) of the states, where another size is wanted than that of the configuration, or
            where that says none.
        device: where the networks go; None leaves those of a pipeline where they are, and loads others on the CPU.
        dtype: their precision; None leaves those of a pipeline as they are, and loads others in float32. An autoencoder
            that asks for it (``force_upcast``) is in float32 instead of float16.
        revision: of a hub id: a branch, tag or commit.

    Returns:
        The model, whose ``cond`` are the arguments of its network, by their names in diffusers (``class_labels``,
        ``encoder_hidden_states``, ``pooled_projections``, ``added_cond_kwargs``, …); shape and number of classes;
        ``decode`` and ``encode`` of a latent model; the ``grid`` of a flow model, shifted as its scheduler says.

    Raises:
        CheckpointError: nothing there, or something that is not understood or does not fit together (named).
        ImportError: diffusers is not installed.
    """
    parts = _parts(source, dtype, revision)
    if scheduler is not None:
        parts.scheduler = _told(scheduler)
    net = DENOISERS[_network(type(parts.network).__name__, parts.name)](parts.network)
    trained = _conventions(parts)
    latents = None if parts.vae is None else Latents(parts.vae)
    states = _shape(parts.name, net, shape)
    for network in (parts.network, parts.vae):
        if device is not None and network is not None:
            network.to(device)
    _check(parts.name, net, trained, latents, states)
    card = {"source": parts.name, "network": net.kind, "scheduler": parts.scheduler, "prediction": trained.prediction}
    return Checkpoint(
        model=score_model(net, trained),
        shape=states,
        classes=net.classes,
        card=card,
        decode=None if latents is None else latents.decode,
        encode=None if latents is None else latents.encode,
        grid=shifted(trained, parts.scheduler, states, int(net.config.get("patch_size") or 1)),
    )


def score_model(net: Denoiser, trained: Trained) -> ScoreModel:
    """A network in the conventions of its scheduler."""
    scales = trained.output_scales
    return ScoreModel(
        net,
        trained.process,
        trained.prediction,
        time_input=trained.time_input,
        input_scale=trained.input_scale,
        output_scale=None if scales is None else lambda t: scales(t)[1],
        skip=None if scales is None else lambda t: scales(t)[0],
    )


def shifted(trained: Trained, scheduler: Mapping[str, Any], shape: Shape, patch: int = 2) -> Grid | None:
    """The grid that a flow model's scheduler asks for at a size: ``flow_shift``; None where there is no shift.

    A dynamic shift is e^mu or mu (``time_shift_type``), mu linear in the number of tokens: ``base_shift`` at
    ``base_image_seq_len`` and ``max_shift`` at ``max_image_seq_len`` of the scheduler's configuration.

    Args:
        trained: what :func:`scoresde.integrations.scheduler_config.read` found.
        scheduler: that configuration.
        shape: (channels, height, width) of the states.
        patch: side of the squares of a state that are one token.

    Raises:
        CheckpointError: a shift that the grid cannot have (``shift_terminal``).
    """
    shift = trained.shift
    if shift is None:
        return None
    if shift.terminal:
        raise CheckpointError(f"shift_terminal = {shift.terminal} is not understood: grids end where they end")
    if not shift.dynamic:
        return grids.get("flow_shift", shift=shift.value, end=grids.BY_STEPS)
    tokens = (shape[1] // patch) * (shape[2] // patch)
    low, high = scheduler.get("base_image_seq_len") or 256, scheduler.get("max_image_seq_len") or 4096
    least, most = float(scheduler.get("base_shift") or 0.5), float(scheduler.get("max_shift") or 1.15)
    mu = least + (most - least) * (tokens - low) / (high - low)
    return grids.get("flow_shift", shift=math.exp(mu) if shift.kind == "exponential" else mu, end=grids.BY_STEPS)


@dataclass
class _Parts:
    name: str
    network: nn.Module
    scheduler: dict[str, Any]
    vae: nn.Module | None = None


def _parts(source: Any, dtype: torch.dtype | None, revision: str | None) -> _Parts:
    if isinstance(source, nn.Module):
        return _Parts(type(source).__name__, _cast(source, dtype), {})
    if hasattr(source, "components"):
        found = {key: value for key, value in source.components.items() if value is not None}
        network = _cast(found[_one(type(source).__name__, found, NETWORKS)], dtype)
        config = found["scheduler"].config if "scheduler" in found else {}
        vae = next(
            (_cast(found[key], _precision(found[key].config, dtype)) for key in AUTOENCODERS if key in found), None
        )
        return _Parts(type(source).__name__, network, dict(config), vae)
    return _read(str(source), dtype or torch.float32, revision)


def _told(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler with its class, which only saved ones have in it; or a configuration itself."""
    if isinstance(scheduler, Mapping):
        return dict(scheduler)
    return {"_class_name": type(scheduler).__name__, **scheduler.config}


def _cast(network: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    return network if dtype is None else nn.Module.to(network, dtype)  # diffusers' own ``to`` warns at every cast


def _read(source: str, dtype: torch.dtype, revision: str | None) -> _Parts:
    """The parts of a folder or hub repository that are needed, and no others."""
    files = _Files(str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source, revision)
    index = files.config(INDEX)
    if index is None:
        config = files.config("config.json")
        if config is None:
            raise CheckpointError(f"{source!r} is no checkpoint of diffusers: it has neither {INDEX} nor config.json")
        network = files.load(_network(str(config.get("_class_name")), repr(source), LEGACY), None, dtype)
        return _Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {})
    parts = {key: value for key, value in index.items() if isinstance(value, (list, tuple)) and value[1] is not None}
    chosen = _one(repr(source), parts, NETWORKS)
    network = files.load(_network(str(parts[chosen][1]), repr(source), LEGACY), chosen, dtype)
    vae = None
    for key in AUTOENCODERS:
        if key in parts:
            config = files.config("config.json", key) or {}
            vae = files.load(known(str(parts[key][1])), key, _precision(config, dtype))
    return _Parts(repr(source), network, files.config("scheduler_config.json", "scheduler") or {}, vae)


class _Files:
    """A folder or hub repository; parts lie in folders of their names, or in old repositories beside each other."""

    def __init__(self, source: str, revision: str | None):
        try:
            import diffusers
        except ImportError as error:
            raise ImportError("checkpoints of diffusers need it: pip install diffusers") from error
        self.diffusers: Any = diffusers
        self.source, self.options = source, {} if revision is None else {"revision": revision}

    def config(self, name: str, folder: str | None = None) -> dict[str, Any] | None:
        """A JSON file of that name, None where there is none."""
        for subfolder in dict.fromkeys((folder, None)):
            kind = type("Reader", (self.diffusers.ConfigMixin,), {"config_name": name})
            try:
                found = kind.load_config(self.source, subfolder=subfolder, **self.options)
            except (OSError, ValueError) as error:
                if not Path(self.source).is_dir() and "does not appear to have a file" not in str(error):
                    raise CheckpointError(f"{self.source!r} cannot be read: {error}") from error
                continue
            return dict(found)
        return None

    def load(self, kind: str, folder: str | None, dtype: torch.dtype | None) -> nn.Module:
        """The network of that class, with its weights."""
        version = tuple(int(part) for part in self.diffusers.__version__.split(".")[:2])
        options: dict[str, Any] = {"dtype" if version >= (0, 42) else "torch_dtype": dtype}
        options["low_cpu_mem_usage"] = importlib.util.find_spec("accelerate") is not None
        local = Path(self.source)
        inside = folder is not None and (not local.is_dir() or (local / folder).is_dir())
        try:
            return self._load(kind, folder if inside else None, options)
        except OSError as error:
            if not inside or local.is_dir():
                raise CheckpointError(f"{self.source!r}: {error}") from error
        return self._load(kind, None, options)

    def _load(self, kind: str, folder: str | None, options: dict[str, Any]) -> nn.Module:
        network = getattr(self.diffusers, kind).from_pretrained(
            self.source, subfolder=folder, **options, **self.options
        )
        return network.eval().requires_grad_(False)


def _network(name: str, where: str, *more: str) -> str:
    """The class of a network itself, if there is something to be made of it."""
    if name not in (*DENOISERS, *more):
        raise CheckpointError(f"the network {name!r} of {where} is not known{nearest(name, DENOISERS)}")
    return name


def _one(name: str, parts: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    found = [key for key in keys if key in parts]
    if len(found) != 1:
        raise CheckpointError(f"{name} needs one of {', '.join(keys)}; it has {', '.join(sorted(parts))}")
    return found[0]


def _precision(config: Mapping[str, Any], dtype: torch.dtype | None) -> torch.dtype | None:
    return torch.float32 if config.get("force_upcast") and dtype == torch.float16 else dtype


def _conventions(parts: _Parts) -> Trained:
    if not parts.scheduler:
        raise CheckpointError(f"{parts.name} has no scheduler, which says what it was trained on: give scheduler=")
    try:
        return scheduler_config.read(parts.scheduler)
    except ValueError as error:
        raise CheckpointError(f"the scheduler of {parts.name}: {error}") from error


def _shape(name: str, net: Denoiser, shape: Shape | None) -> Shape:
    if shape is not None:
        if len(shape) != 3 or shape[0] != net.channels:
            raise CheckpointError(f"{name} has states of {net.channels} channels, got shape {tuple(shape)}")
        return shape
    if net.size is None:
        raise CheckpointError(f"{name} does not say its 'sample_size': give shape=({net.channels}, height, width)")
    return net.channels, *net.size


def _check(name: str, net: Denoiser, trained: Trained, latents: Latents | None, shape: Shape) -> None:
    """What the configurations say of each other.

    Raises:
        CheckpointError: the first thing that does not fit, by name.
    """
    config, kind = net.config, net.kind
    if net.out_channels not in (net.channels, 2 * net.channels):
        raise CheckpointError(
            f"{name}: {kind} takes {net.channels} channels and returns {net.out_channels}: only networks that return "
            "as many as they take, or twice as many with a variance, are denoisers of their state"
        )
    if trained.learned_variance and net.out_channels == net.channels:
        raise CheckpointError(f"{name}: the scheduler says that the variance is learned, but {kind} returns none")
    if net.flow and not isinstance(trained.process, Flow):
        raise CheckpointError(f"{name}: {kind} predicts flow velocities, but its scheduler is of {trained.process!r}")
    embedding = config.get("time_embedding_type", "positional")
    if embedding not in ("positional", "fourier"):
        raise CheckpointError(f"{name}: time_embedding_type = {embedding!r} knows whole timesteps only, or is unknown")
    if kind == "UNet2DModel" and (embedding == "fourier") != (trained.prediction == "score"):
        raise CheckpointError(
            f"{name}: time_embedding_type = {embedding!r} does not fit its scheduler, whose networks predict "
            f"{trained.prediction!r}"
        )
    if latents is not None and latents.channels not in (None, shape[0]):
        raise CheckpointError(
            f"{name}: {kind} has states of {shape[0]} channels, but the autoencoder's have {latents.channels}"
        )
