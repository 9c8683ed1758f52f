"""Any TorchScript file as a feature space."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scoresde.data import to_state
from scoresde.files import digest, regular
from scoresde.files.text import plain
from scoresde.metrics.spaces import scripts
from scoresde.metrics.spaces.space import as_rgb, check_shape, in_batches, pixels_of
from solvers.errors import known

INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "uint8": lambda pixels: pixels.round().clamp(0, 255).to(torch.uint8),
    "unit": lambda pixels: pixels / 255,
    "state": lambda pixels: to_state(pixels),
}


class TorchScript:
    """A network in a TorchScript file, which is looked at before it runs: see :mod:`scoresde.metrics.spaces.scripts`.

    Args:
        path: the file.
        shape: (channels, height, width) of the images, tried out at once.
        input: what the network takes, of shape (n, channels, height, width): ``uint8`` pixels, ``unit`` for float32 in
            [0, 1], ``state`` for float32 in [−1, 1].
        resize: side of the square to which images are resized before, bicubic with antialiasing; None leaves that to
            the network. Source: Parmar et al. 2022, On aliased resizing and surprising subtleties in GAN evaluation.
        rgb: whether grey images are given as three equal channels.
        arguments: further named arguments of the network.
        trust: whether operators that are not on the list are run, too, and features may differ from time to time.
        device: where it runs.

    Raises:
        ValueError: no TorchScript at ``path``, one with an operator that is not on the list, an unknown ``input``, or a
            network that does not make one finite vector of each image, the same every time and beside any others.
    """

    def __init__(
        self,
        path: str | Path,
        shape: Sequence[int],
        *,
        input: str = "uint8",
        resize: int | None = None,
        rgb: bool = False,
        arguments: Mapping[str, Any] | None = None,
        trust: bool = False,
        device: str | torch.device = "cpu",
    ):
        path = Path(path).expanduser()
        known("input", input, INPUTS, of="a TorchScript network")
        if not path.is_file():
            raise ValueError(f"no TorchScript file at {str(path)!r}")
        self.network = scripts.load(regular(path), device, trust)
        channels, height, width = shape
        self.shape = channels, height, width
        self.device, self.rgb, self.resize = torch.device(device), rgb, resize
        self.arguments, self._convert = dict(arguments or {}), INPUTS[input]
        details = [input, f"resized to {resize}×{resize} (bicubic)" if resize else "not resized"]
        details += [f"{key}={value}" for key, value in sorted(self.arguments.items())]
        self.name = f"{path.stem} ({digest(path)[:8]}), {', '.join(details)}"
        self.size = self._tried(trust)

    def __str__(self) -> str:
        return self.name

    def features(self, images: Tensor) -> Tensor:
        """Features (n, size), as :class:`~scoresde.metrics.spaces.space.Space` has it.

        Raises:
            ValueError: another shape or dtype, or a state that is not finite.
        """
        check_shape(self.name, images, self.shape)
        pixels = pixels_of(images)
        return in_batches(self._run, as_rgb(self.name, pixels) if self.rgb else pixels, self.device)

    def _run(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32)
        if self.resize is not None:
            size = (self.resize, self.resize)
            values = functional.interpolate(values, size, mode="bicubic", antialias=True)
        with warnings.catch_warnings(record=True) as said:
            found = self.network(self._convert(values), **self.arguments)
        for message in dict.fromkeys(plain(warning.message) for warning in said):  # the file's own words
            warnings.warn(message, stacklevel=2)
        known = isinstance(found, Tensor) and found.ndim == 2 and len(found) == len(pixels) and not found.is_complex()
        if not known or not found.shape[1]:
            told = f"shape {tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
            wanted = f"{self.name} must give one vector of finite features for each image"
            raise ValueError(f"{wanted}, and gave {told} for {len(pixels)} images")
        return found.to(torch.float32)

    def _tried(self, trust: bool) -> int:
        images = torch.zeros(2, *self.shape, dtype=torch.uint8)
        images[1] = torch.arange(images[1].numel()).view(self.shape) % 251
        try:
            features, again = self.features(images), self.features(images[[1, 1]])
        except ValueError:
            raise
        except Exception as error:  # a network may raise what it likes
            reason = " ".join(str(error).split())[-300:] or type(error).__name__
            raise ValueError(f"{self.name} does not run on images of shape {self.shape}: {reason}") from error
        if not features.isfinite().all():
            raise ValueError(f"{self.name} must give one vector of finite features for each image")
        same = torch.allclose(features[1], again[1], rtol=1e-2, atol=1e-2 * float(features.abs().max()))
        if not (same or trust):
            raise ValueError(
                f"{self.name} gives other features of the same image the next time: it draws, remembers, or looks at "
                "the other images"
            )
        return features.shape[1]
