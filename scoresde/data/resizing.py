"""Pictures of other sizes and kinds, made alike where a user says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

FILTER = Image.Resampling.LANCZOS
MOST = 2**14  # pixels of a side


@dataclass(frozen=True)
class Resizing:
    """What becomes of a picture before it is one of a data set.

    Args:
        size: side of the square that it is resized to, in pixels, by Pillow's Lanczos filter, which averages over all
            that a pixel of the result covers; None keeps its size.
        crop: take the largest square in its middle first.
        channels: 1 makes it grey (ITU-R 601-2 luma), 3 colour; None keeps it as it is.
        prefix: what these are called by, where errors name them: ``data.`` of ``data.size``.

    Raises:
        ValueError: a size below 1 or above 16384, or other channels than 1 and 3.
        TypeError: values of another kind.
    """

    size: int | None = None
    crop: bool = False
    channels: int | None = None
    prefix: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("channels", self.channels)):
            if value is not None and type(value) is not int:
                raise TypeError(f"{name} must be a whole number, got {value!r}")
        if not isinstance(self.crop, bool):
            raise TypeError(f"crop must be true or false, got {self.crop!r}")
        if self.size is not None and not 1 <= self.size <= MOST:
            raise ValueError(f"size must be from 1 to {MOST} pixels, got {self.size}")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")

    @classmethod
    def of(cls, settings: Mapping[str, Any], prefix: str = "") -> Resizing:
        """From settings that may have ``size``, ``crop`` and ``channels``, each with that prefix.

        Raises:
            ValueError: a value of another kind or out of range; names the setting.
        """
        given = {name: settings.get(f"{prefix}{name}") for name in ("size", "crop", "channels")}
        try:
            return cls(given["size"], False if given["crop"] is None else given["crop"], given["channels"], prefix)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{prefix}{error}") from error

    @classmethod
    def drop(cls, settings: dict[str, Any], prefix: str = "") -> None:
        """Take those out of settings that change nothing, so that runs of before there were such are the same."""
        for name in ("size", "crop", "channels"):
            if settings.get(f"{prefix}{name}") in (None, False):
                settings.pop(f"{prefix}{name}", None)

    def __bool__(self) -> bool:
        return self != Resizing()

    def __str__(self) -> str:
        """What is recorded with figures; empty for nothing."""
        crop = ["cut to the square in the middle"] if self.crop else []
        size = [f"resized to {self.size} × {self.size} by {FILTER.name.capitalize()}"] if self.size else []
        return ", ".join([*crop, *size, *([f"{self.channels} channels"] if self.channels else [])])

    def enlarges(self, size: tuple[int, int]) -> bool:
        """Whether a picture of that width and height has fewer pixels than are made of it."""
        return self.size is not None and min(size) < self.size

    def __call__(self, image: Image.Image) -> Image.Image:
        """The picture, in mode L or RGB, as it is wanted.

        Raises:
            ValueError: it is no square, and would be stretched.
        """
        if self.channels is not None:
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.crop:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        if self.size is not None:
            if image.width != image.height:
                raise ValueError(
                    f"{image.width} × {image.height} pixels are no square: {self.prefix}crop=true takes the middle"
                )
            if image.width != self.size:
                image = image.resize((self.size, self.size), FILTER)
        return image
