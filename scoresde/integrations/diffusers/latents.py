"""Autoencoders of diffusers: from a latent model's states to images, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.files.bundled import CheckpointError
from solvers.errors import nearest

KNOWN = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")


def known(name: str) -> str:
    """The class of an autoencoder itself.

    Raises:
        CheckpointError: it is not one of ``KNOWN``.
    """
    if name not in KNOWN:
        raise CheckpointError(f"the autoencoder {name!r} is not known{nearest(name, KNOWN)}")
    return name


class Latents:
    """An autoencoder with the scale and shift that the denoiser's states are in.

    State z = (latent − mean)/std · scale, with mean and std from ``latents_mean`` and ``latents_std`` of the
    autoencoder's configuration, or ``shift_factor`` and 1; scale is its ``scaling_factor``.

    Raises:
        CheckpointError: an autoencoder that is not one of ``KNOWN``, or whose scale or spread is no positive number.
    """

    def __init__(self, vae: nn.Module):
        known(type(vae).__name__)
        self.vae = vae
        scale = self.config.get("scaling_factor")
        if scale is not None and not _is_positive(scale):
            raise CheckpointError(f"the autoencoder has scaling_factor = {scale!r:.60}, which is no positive number")
        spread = self.config.get("latents_std") or ()
        if not isinstance(spread, (list, tuple)) or not all(_is_positive(value) for value in spread):
            raise CheckpointError(f"the autoencoder has latents_std = {spread!r:.60}, which are no positive numbers")
        if hasattr(vae, "enable_slicing"):
            vae.enable_slicing()  # type: ignore[operator]

    @property
    def config(self) -> Mapping[str, Any]:
        """The autoencoder's configuration."""
        return self.vae.config  # type: ignore[return-value]

    @property
    def channels(self) -> int | None:
        """Channels of a state, where the configuration says."""
        return self.config.get("latent_channels")

    def decode(self, states: Tensor) -> Tensor:
        """Images in [−1, 1], about, of shape (batch, channels, height, width), one at a time, from final states."""
        scale, mean, std = self._affine(states)
        with torch.no_grad():
            latents = (states / scale * std + mean).to(self._dtype)
            return self.vae.decode(latents, return_dict=False)[0].to(states.dtype)  # type: ignore[operator]

    def encode(self, images: Any) -> Tensor:
        """States of images: a tensor in [−1, 1] of shape (batch, channels, height, width), or PIL's as diffusers takes.

        Of an encoder that returns a distribution, its mode.
        """
        if not isinstance(images, Tensor):
            from diffusers.image_processor import VaeImageProcessor

            images = VaeImageProcessor().preprocess(images)
        with torch.no_grad():
            encoded = self.vae.encode(images.to(next(self.vae.parameters()).device, self._dtype))  # type: ignore[operator]
        found = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        states = found.to(images.dtype)
        scale, mean, std = self._affine(states)
        return (states - mean) / std * scale

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.vae.parameters()).dtype

    def _affine(self, like: Tensor) -> tuple[float, Tensor | float, Tensor | float]:
        config = self.config
        scale = float(config.get("scaling_factor") or 1.0)
        given = config.get("latents_mean"), config.get("latents_std")
        if None in given:
            return scale, float(config.get("shift_factor") or 0.0), 1.0
        mean, std = (torch.tensor(value, dtype=like.dtype, device=like.device).reshape(1, -1, 1, 1) for value in given)
        return scale, mean, std


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf
