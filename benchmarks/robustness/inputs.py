"""Small good files of the kinds that the commands read."""

from __future__ import annotations

import math
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

import scoresde
from scoresde import models
from scoresde.networks.edm.networks import SongUNet

SIDE, CLASSES = 8, 10


def write(folder: Path) -> None:
    """``model/``, ``photos.npz``, ``few.npz`` and ``edm.pkl``."""
    folder.mkdir(parents=True)
    model(folder / "model")
    photos(folder / "photos.npz", 32)
    photos(folder / "few.npz", 16)
    edm(folder / "edm.pkl")


def model(folder: Path) -> None:
    """A folder with a network that says something different for each class."""
    torch.manual_seed(1)
    network = {"name": "unet", "channels": [8, 8], "depth": 1, "in_channels": 1, "num_classes": CLASSES}
    net = models.build(network, (1, SIDE, SIDE))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    about: dict[str, Any] = {"process": scoresde.VP(), "prediction": "epsilon", "shape": (1, SIDE, SIDE)}
    models.save(folder, net, network="unet", classes=CLASSES, time_scale=1000.0, **about)


def photos(path: Path, count: int, seed: int = 0, shape: tuple[int, ...] = (SIDE, SIDE)) -> None:
    """Images of noise, uint8."""
    np.savez(path, images=np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def edm(path: Path, protocol: int = 4) -> None:
    """A snapshot as EDM's training writes it: objects whose class's source text lies beside their state."""
    torch.manual_seed(2)
    net = SongUNet(1, 0, SIDE, 8, (1, 2), 1, (4,))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    arguments = {"img_resolution": SIDE, "in_channels": 1, "out_channels": 1, "label_dim": 0, "model_channels": 8}
    arguments |= {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
    state = {"_parameters": OrderedDict(), "_buffers": OrderedDict()}
    state |= {"_modules": OrderedDict(model=module(net, arguments)), "img_resolution": SIDE, "img_channels": 1}
    state |= {"label_dim": 0, "use_fp16": False, "sigma_min": 0, "sigma_max": math.inf, "sigma_data": 0.5}
    path.write_bytes(dumps({"ema": Persistent("EDMPrecond", state), "augment_pipe": None}, protocol))


class Persistent:
    """An object of a class of ``torch_utils.persistence``."""

    def __init__(self, kind: str, state: dict[str, Any]):
        self.kind, self.state = kind, state

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": f"class {self.kind}: pass\n"}
        build = sys.modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"]
        return build, ({**meta, "class_name": self.kind, "state": self.state},)


def dumps(content: Any, protocol: int = 4) -> bytes:
    """The pickle of what may hold :class:`Persistent` objects."""

    def build(meta: Any) -> None:
        raise AssertionError("only its name is needed, for pickle to write it")

    package, module = ModuleType("torch_utils"), ModuleType("torch_utils.persistence")
    build.__module__, build.__qualname__ = module.__name__, "_reconstruct_persistent_obj"
    module.__dict__["_reconstruct_persistent_obj"] = build
    with mock.patch.dict(sys.modules, {"torch_utils": package, module.__name__: module}):
        return pickle.dumps(content, protocol=protocol)


def module(of: nn.Module, arguments: dict[str, Any]) -> Any:
    """A module as EDM pickles it: its own classes persistent, torch's containers as they are."""
    children = OrderedDict((name, module(child, {})) for name, child in of.named_children())
    if isinstance(of, nn.ModuleDict):
        copy = nn.ModuleDict()
        copy.__dict__["_modules"] = children
        return copy
    state = {"training": False, "_modules": children, "_init_args": (), "_init_kwargs": arguments}
    state |= {
        "_parameters": OrderedDict(of.named_parameters(recurse=False)),
        "_buffers": OrderedDict(of.named_buffers(recurse=False)),
    }
    return Persistent(type(of).__name__, state)
