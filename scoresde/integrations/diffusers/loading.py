"""Checkpoints of diffusers as score models: conventions from their configurations, checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.files.bundled import CheckpointError
from scoresde.integrations.diffusers import conventions as scheduler_config
from scoresde.integrations.diffusers.conventions import Trained
from scoresde.integrations.diffusers.denoisers import DENOISERS, Denoiser, Shape, class_of
from scoresde.integrations.diffusers.latents import Latents
from scoresde.integrations.diffusers.repository import Parts, known_network, parts_of, told
from scoresde.networks.checkpoint import Checkpoint, check_levels, rehearse
from scoresde.process import Flow
from scoresde.score import ScoreModel
from solvers import grids
from solvers.grids import Grid

LARGEST = 10**6  # numbers of timesteps and of tokens, scales and noise levels
NUMBERS = ("num_train_timesteps", "beta_start", "beta_end", "snr_shift_scale", "sigma_min", "sigma_max", "sigma_data")
NUMBERS += ("shift", "flow_shift", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
WORDS = ("_class_name", "trained_with", "beta_schedule", "prediction_type", "timestep_type", "time_shift_type")
WORDS += ("variance_type",)
STRONGEST = 30  # shift by mu, at which e^mu leaves one noise level alone


def from_diffusers(
    source: Any,
    *,
    scheduler: Any = None,
    shape: Shape | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
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
        variant: which weights, such as ``fp16`` of ``diffusion_pytorch_model.fp16.safetensors``; None is those without
            one, or where there are none the only variant that there is.

    Returns:
        The model, whose ``cond`` are the arguments of its network, by their names in diffusers (``class_labels``,
        ``encoder_hidden_states``, ``pooled_projections``, ``added_cond_kwargs``, …); shape and number of classes;
        ``decode`` and ``encode`` of a latent model; the ``grid`` of a flow model, shifted as its scheduler says.

    Raises:
        CheckpointError: nothing there, or something that is not understood or does not fit together (named).
        ImportError: diffusers is not installed.
    """
    parts = parts_of(source, dtype, revision, variant)
    if scheduler is not None:
        parts.scheduler = told(scheduler)
    net = DENOISERS[known_network(class_of(parts.network), parts.name)](parts.network)
    states = _shape(parts.name, net, shape)
    trained, latents = checked(parts, states)
    for network in (parts.network, parts.vae):
        if device is not None and network is not None:
            network.to(device)
    card = {"source": parts.name, "network": net.kind, "scheduler": parts.scheduler, "prediction": trained.prediction}
    return Checkpoint(
        model=score_model(net, trained),
        shape=states,
        classes=net.classes,
        card=card,
        decode=None if latents is None else latents.decode,
        encode=None if latents is None else latents.encode,
        grid=shifted(trained, parts.scheduler, states, net.patch),
    )


def checked(parts: Parts, states: Shape) -> tuple[Trained, Latents | None]:
    """The conventions of a checkpoint and its autoencoder, if all that its parts say of each other fits.

    Raises:
        CheckpointError: it does not (named).
    """
    net = DENOISERS[known_network(class_of(parts.network), parts.name)](parts.network)
    trained = _conventions(parts)
    latents = None if parts.vae is None else Latents(parts.vae)
    _check(parts.name, net, trained, latents, states)
    if parts.read:
        _rehearse(parts, states)
    return trained, latents


def score_model(net: Denoiser, trained: Trained) -> ScoreModel:
    """A network in the conventions of its scheduler."""
    return ScoreModel(
        net,
        trained.process,
        trained.prediction,
        time_input=trained.time_input,
        input_scale=trained.input_scale,
        **trained.outputs,
    )


def shifted(trained: Trained, scheduler: Mapping[str, Any], shape: Shape, patch: int = 2) -> Grid | None:
    """The grid that a flow model's scheduler asks for at a size: ``flow_shift``; None where there is no shift.

    A dynamic shift is e^mu or mu (``time_shift_type``), mu linear in the number of tokens: ``base_shift`` at
    ``base_image_seq_len`` and ``max_shift`` at ``max_image_seq_len`` of the scheduler's configuration.

    Args:
        trained: what :func:`scoresde.integrations.diffusers.conventions.read` found.
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
    if not low < high:
        raise CheckpointError(f"base_image_seq_len = {low} is not below max_image_seq_len = {high}")
    mu = least + (most - least) * (tokens - low) / (high - low)
    if not abs(mu) < STRONGEST or mu <= 0 and shift.kind != "exponential":
        raise CheckpointError(
            f"base_shift = {least:g} and max_shift = {most:g} shift by mu = {mu:g} at {tokens} tokens"
        )
    return grids.get("flow_shift", shift=math.exp(mu) if shift.kind == "exponential" else mu, end=grids.BY_STEPS)


def _conventions(parts: Parts) -> Trained:
    if not parts.scheduler:
        raise CheckpointError(f"{parts.name} has no scheduler, which says what it was trained on: give scheduler=")
    try:
        _check_numbers(parts.scheduler)
        trained = scheduler_config.read(parts.scheduler)
        check_levels(trained.process)
    except Exception as error:  # whatever odd settings lead to
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise CheckpointError(f"the scheduler of {parts.name}: {reason}") from error
    return trained


def _check_numbers(scheduler: Mapping[str, Any]) -> None:
    """Refuse settings that are none, before as many numbers are made as they say.

    Raises:
        ValueError: names the setting.
    """
    for key in NUMBERS:
        value = scheduler.get(key)
        if value is not None and (type(value) not in (int, float) or not 0 < value < LARGEST):
            raise ValueError(f"{key} = {value!r:.60} is no positive number below {LARGEST:,}")
    for key in WORDS:
        value = scheduler.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key} = {value!r:.60} is no word")


def _rehearse(parts: Parts, shape: Shape) -> None:
    """Find what contradicts itself in the configurations of networks, of which all weights are there.

    Raises:
        CheckpointError: a network does not take states of that shape, or does not return them.
    """
    denoiser = DENOISERS[class_of(parts.network)]

    def denoised(x: Tensor) -> Tensor:
        net = denoiser(_planned(parts.network))
        cond = net.example()
        return x if cond is None else net(x, torch.ones(1), **cond)

    def there_and_back(x: Tensor) -> Tensor:
        latents = Latents(_planned(parts.vae))
        return latents.encode(latents.decode(x))

    rehearse(denoised, shape, parts.name)
    if parts.vae is not None:
        rehearse(there_and_back, shape, f"the autoencoder of {parts.name}")


def _planned(network: Any) -> nn.Module:
    return type(network).from_config(network.config).eval()


def _shape(name: str, net: Denoiser, shape: Shape | None) -> Shape:
    if shape is not None:
        if len(shape) != 3 or shape[0] != net.channels or min(shape) < 1:
            raise CheckpointError(f"{name} has states of {net.channels} channels, got shape {tuple(shape)}")
        return shape
    if net.size is None:
        raise CheckpointError(
            f"{name} does not say its 'sample_size': give shape=({net.channels}, height, width), on the command line "
            f"shape=[{net.channels},64,64]"
        )
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
