"""EDM's pickles become model folders, without running the code that they carry.

Unpickling runs code that a file names, and such a file even holds the source text of each of its classes for that.
Here an unpickler reads the objects' states alone: it knows tensors, numbers and the plain containers around them,
refuses everything else by name, and never looks at the source. The network is built by this package from its recorded
arguments.
"""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _rebuild_tensor_v2

from scoresde.models.checkpoint import CheckpointError, build, fill, save
from scoresde.process import EDM
from solvers.errors import nearest

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # of EDM's sampler, where the network allows more
SHARED = {
    "img_resolution": "resolution",
    "in_channels": "in_channels",
    "label_dim": "num_classes",
    "model_channels": "width",
    "channel_mult": "multiples",
    "channel_mult_emb": "embedding_multiple",
    "num_blocks": "blocks",
    "attn_resolutions": "attention",
}
SONG = {
    "embedding_type": "embedding",
    "channel_mult_noise": "noise_multiple",
    "encoder_type": "encoder",
    "decoder_type": "decoder",
    "resample_filter": "taps",
}
NETWORKS = {"SongUNet": ("song_unet", {**SHARED, **SONG}), "DhariwalUNet": ("dhariwal_unet", SHARED)}
OF_TRAINING = {"out_channels", "augment_dim", "dropout", "label_dropout"}  # out_channels is in_channels


class Object:
    """An object as it lay in a pickle: the name of its class, and its state; no code of its own."""

    kind = ""

    def __init__(self, kind: str = "", state: Mapping[str, Any] | None = None):
        self.kind, self.state = kind or type(self).kind, dict(state or {})

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)

    def part(self, name: str) -> Mapping[str, Any]:
        """An entry of the state that is a mapping; empty where there is none."""
        return self.state.get(name) or {}

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and buffers of a module and of those in it, by the names that ``state_dict`` gives them."""
        own = {**self.part("_parameters"), **self.part("_buffers")}
        found = {prefix + name: value for name, value in own.items() if isinstance(value, Tensor)}
        for name, module in self.part("_modules").items():
            if isinstance(module, Object):
                found |= module.weights(f"{prefix}{name}.")
        return found


def read(path: str | Path) -> Any:
    """What a pickle of EDM holds, with its objects as :class:`Object`; no code of the file runs.

    Raises:
        CheckpointError: the file is not there or damaged, or holds something else than weights and settings (named).
    """
    try:
        with Path(path).open("rb") as file:
            return _Unpickler(file).load()
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r} {error}") from None
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise CheckpointError(f"{str(path)!r} is damaged or not a pickle: {error}") from error


def convert(path: str | Path, folder: str | Path, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Write the averaged network of EDM's pickle as a model folder, which :func:`scoresde.models.load` reads.

    Args:
        path: a ``.pkl`` of EDM (Karras et al. 2022): published, or a snapshot of its training.
        folder: made if missing; an earlier model in it is replaced.
        dtype: what weights are stored in: float32, or bfloat16 for half the size.

    Returns:
        The model's card: its source, the network's class in the file, and the classes whose code was not run.

    Raises:
        CheckpointError: not such a file, another network or preconditioning than EDM's, or weights that do not fit.
    """
    content = read(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("ema"), Object):
        found = f"the keys {sorted(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{str(path)!r} is no checkpoint of EDM: it holds no network as 'ema', but {found}")
    outer = content["ema"]
    inner = outer.part("_modules").get("model")
    if outer.kind != "EDMPrecond" or not isinstance(inner, Object):
        raise CheckpointError(f"{str(path)!r} holds a {outer.kind!r}; known: EDMPrecond")
    network = _network(inner, str(path))
    shape = (network["in_channels"], network["resolution"], network["resolution"])
    net = build(network, shape)
    weights = {name: value for name, value in inner.weights().items() if not name.startswith("map_augment.")}
    fill(net, weights, str(path))
    state = outer.state
    card = {
        "source": Path(path).name,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "network": inner.kind,
    }
    save(
        folder,
        net,
        network=network["name"],
        process=EDM(max(SIGMA_MIN, float(state["sigma_min"])), min(SIGMA_MAX, float(state["sigma_max"]))),
        prediction="sample",
        shape=shape,
        classes=network["num_classes"],
        preconditioning={"name": "edm", "sigma_data": float(state["sigma_data"])},
        training=card,
        dtype=dtype,
    )
    return card


def _network(inner: Object, path: str) -> dict[str, Any]:
    """The description of our network that a recorded one asks for."""
    if inner.kind not in NETWORKS:
        raise CheckpointError(f"{path!r} holds the network {inner.kind!r}{nearest(inner.kind, NETWORKS)}")
    name, arguments = NETWORKS[inner.kind]
    described: dict[str, Any] = {"name": name}
    for key, value in inner.part("_init_kwargs").items():
        if key in OF_TRAINING:
            continue
        if key not in arguments:
            raise CheckpointError(f"{path!r}: {inner.kind} has the argument {key!r}{nearest(key, arguments)}")
        described[arguments[key]] = list(value) if isinstance(value, (list, tuple)) else value
    for key in ("img_resolution", "in_channels"):
        if arguments[key] not in described:
            raise CheckpointError(f"{path!r} does not say the {key!r} of its {inner.kind}")
    return {"num_classes": 0, **described}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        known = _KNOWN.get((_RENAMED.get(module_name, module_name), global_name))
        if known is not None:
            return known
        if module_name.startswith("torch.nn.modules."):
            return type(global_name, (Object,), {"kind": global_name})
        raise CheckpointError(
            f"holds {module_name}.{global_name}, which is neither weights nor settings: it is not read, since that "
            "would run code"
        )


def _persistent(meta: Mapping[str, Any]) -> Object:
    return Object(str(meta["class_name"]), meta["state"])


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _scalar(dtype: np.dtype[Any], content: bytes) -> Any:
    return np.frombuffer(content, dtype, 1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


def _empty(kind: type, base: type, state: Any) -> Any:
    return object.__new__(kind) if base is object else kind(state)


_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as Python 2 has them, and protocols before 3
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("dnnlib.util", "EasyDict"): dict,
    ("builtins", "object"): object,
    ("builtins", "dict"): dict,
    ("builtins", "set"): set,
    ("copyreg", "_reconstructor"): _empty,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}
