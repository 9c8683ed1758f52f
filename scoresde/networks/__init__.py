"""Networks, found by the names that model folders and configurations give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from scoresde.networks.diffusers_unet import DiffusersUNet
from scoresde.networks.dit import DiT
from scoresde.networks.edm.networks import DhariwalUNet, SongUNet
from scoresde.networks.unet import UNet
from solvers.registry import Registry

# Each keeps its constructor's arguments as ``config``. Those that can be trained take in_channels, num_classes and
# options of their own; where the sides of images must be multiples of something, that is their ``multiple``. One that
# has the option image_size is told the shorter side of its images; one that has the option augment, the size of a
# condition which says how images were augmented, is called with it as ``augment`` where they are.
NETWORKS: Registry[nn.Module] = Registry("network", given=("in_channels", "num_classes", "image_size", "augment"))
NETWORKS.add("unet", UNet)
NETWORKS.add("dit", DiT)
NETWORKS.add("diffusers_unet", DiffusersUNet)
NETWORKS.add("song_unet", SongUNet)
NETWORKS.add("dhariwal_unet", DhariwalUNet)
CONVERTED = ("song_unet", "dhariwal_unet")  # of converted checkpoints, for sampling alone


def build(network: Mapping[str, Any], shape: tuple[int, ...]) -> nn.Module:
    """The network described by ``{"name": …, **constructor arguments}``, checked against the shape of its images.

    Raises:
        ValueError: unknown network (the nearest name is given), or images it cannot halve as often as it must.
        TypeError: an argument the network does not have.
    """
    options = dict(network)
    name = options.pop("name", None)
    if "image_size" in NETWORKS.options(name):  # type: ignore[reportArgumentType]
        options.setdefault("image_size", min(shape[1:]))
    net = NETWORKS.get(name, **options)  # type: ignore[reportArgumentType]
    multiple = getattr(net, "multiple", 1)
    if any(size % multiple for size in shape[1:]):
        raise ValueError(f"network {name!r} needs images whose sides are multiples of {multiple}, got {tuple(shape)}")
    return net
