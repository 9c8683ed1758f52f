"""EDM's pickles become model folders, without running the code that they carry.

Unpickling runs code that a file names, and such a file even holds the source text of each of its classes for that.
Here the objects' states are read as data (:mod:`scoresde.files.pickles`): tensors, numbers and the plain containers
around them. Everything else is refused by name, and nobody looks at the source. The network is built by this package
from its recorded arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import ItemsView, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.files import digest, regular
from scoresde.files.bundled import CheckpointError
from scoresde.files.pickles import NUMPY, TORCH, Call, Interpreter, Meaning, Name, PickleError, is_key, load, told
from scoresde.models.folders import save
from scoresde.networks import build
from scoresde.networks.described import built, fill
from scoresde.process import EDM
from solvers.errors import nearest

LONGEST, LARGEST = 64, 2**20  # entries or letters of a setting of a network, and its size as a number
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

    def __init__(self, kind: str, state: Any):
        self.kind, self.state = kind, state if isinstance(state, Mapping) else {}

    def part(self, name: str) -> Mapping[str, Any]:
        """An entry of the state that is a mapping; empty where there is none."""
        found = self.state.get(name)
        return found if isinstance(found, Mapping) else {}

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of a module and of those in it, by the names that ``state_dict`` gives them.

        Raises:
            PickleError: a module or tensor is in two places, so that a small file would be a network of any size.
        """
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Object]] = [("", self)]
        met: dict[int, str] = {}
        while waiting:
            prefix, module = waiting.pop()
            for key, value in (*module.part("_parameters").items(), *module.part("_buffers").items()):
                if isinstance(value, Tensor):
                    found[_placed(value, prefix, key, met)] = value
            for key, value in module.part("_modules").items():
                if isinstance(value, Object):
                    waiting.append((f"{_placed(value, prefix, key, met)}.", value))
        return found


def _placed(value: Any, prefix: str, key: Any, met: dict[int, str]) -> str:
    """The full name of a module or tensor, which no other place of the network holds."""
    if type(key) is not str or len(key) > LONGEST:
        raise PickleError(f"names a part of its network {told([key])}")
    name = f"{prefix}{key}"
    if met.setdefault(id(value), name) != name:
        raise PickleError(f"holds one {type(value).__name__.lower()} as {met[id(value)]!r} and {name!r}")
    return name


def read(path: str | Path) -> Any:
    """What a pickle of EDM holds, with its objects as :class:`Object`; no code of the file runs.

    Raises:
        CheckpointError: the file is not there or damaged, or holds something else than weights and settings (named).
    """
    try:
        with regular(path).open("rb") as file:
            packed = file.read(2) == b"PK"
        if packed:  # as training-state-*.pt of EDM is, and what most others keep
            raise CheckpointError(
                f"{str(path)!r} is a file of torch.save, not one of EDM's pickles: take its network-snapshot-*.pkl"
            )
        return load(path, {**NUMPY, **TORCH, **_MEANINGS}, _otherwise)
    except PickleError as error:
        reason = re.sub("^is damaged", "is damaged or not a pickle", str(error))
        raise CheckpointError(f"{str(path)!r} {reason}") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror}") from error


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
        found = f"the keys [{told(content)}]" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{str(path)!r} is no checkpoint of EDM: it holds no network as 'ema', but {found}")
    outer = content["ema"]
    inner = outer.part("_modules").get("model")
    if outer.kind != "EDMPrecond" or not isinstance(inner, Object):
        raise CheckpointError(f"{str(path)!r} holds a {outer.kind!r}; known: EDMPrecond")
    network = _network(inner, str(path))
    process, sigma_data = _levels(outer, network, str(path))
    try:
        weights = {name: value for name, value in inner.weights().items() if not name.startswith("map_augment.")}
    except PickleError as error:
        raise CheckpointError(f"{str(path)!r} {error}") from error
    shape = (network["in_channels"], network["resolution"], network["resolution"])
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    options = {key: value for key, value in network.items() if key != "name"}
    net = built(lambda: build(network, shape), options, shapes, repr(str(path)), str(path))
    fill(net, weights, str(path))
    card = {"source": Path(path).name, "sha256": digest(path), "network": inner.kind}
    save(
        folder,
        net,
        network=network["name"],
        process=process,
        prediction="sample",
        shape=shape,
        classes=network["num_classes"],
        preconditioning={"name": "edm", "sigma_data": sigma_data},
        training=card,
        dtype=dtype,
    )
    return card


def _levels(outer: Object, network: Mapping[str, Any], path: str) -> tuple[EDM, float]:
    """The noise levels that a network is made for, and σ of its data.

    Raises:
        CheckpointError: they are none, or the preconditioning is one of other images or classes.
    """
    for key, ours in (("img_resolution", "resolution"), ("img_channels", "in_channels"), ("label_dim", "num_classes")):
        value = outer.state.get(key, network[ours])
        if type(value) is not int or value != network[ours]:
            raise CheckpointError(f"{path!r} has the {key!r} {told([value])} around a network of {network[ours]}")
    least, most, data = (_number(outer.state.get(key)) for key in ("sigma_min", "sigma_max", "sigma_data"))
    if not (0 < data < math.inf and 0 <= least < SIGMA_MAX and max(SIGMA_MIN, least) < most):
        raise CheckpointError(f"{path!r} has the sigma_min, sigma_max and sigma_data {told((least, most, data))}")
    return EDM(max(SIGMA_MIN, least), min(SIGMA_MAX, most)), data


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else math.nan


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
            hint = nearest(key, arguments) if type(key) is str and len(key) <= LONGEST else ""
            raise CheckpointError(f"{path!r}: {inner.kind} has the argument {told([key])}{hint}")
        described[arguments[key]] = _setting(path, key, value)
    described.setdefault("num_classes", 0)
    for key in ("img_resolution", "in_channels", "label_dim"):
        if arguments[key] not in described:
            raise CheckpointError(f"{path!r} does not say the {key!r} of its {inner.kind}")
        if type(described[arguments[key]]) is not int or described[arguments[key]] < (key != "label_dim"):
            raise CheckpointError(f"{path!r} has the {key!r} {told([described[arguments[key]]])}, which is no count")
    return described


def _setting(path: str, key: str, value: Any) -> Any:
    """A setting of a network, if it is a number, a word or a few numbers.

    Raises:
        CheckpointError: it is something else.
    """
    if isinstance(value, (list, tuple)) and len(value) <= LONGEST:
        return [_setting(path, key, entry if isinstance(entry, (int, float)) else None) for entry in value]
    if isinstance(value, (int, float)) and abs(value) <= LARGEST or isinstance(value, str) and len(value) <= LONGEST:
        return value
    raise CheckpointError(f"{path!r}: the argument {key!r} is neither a small number nor a word nor a few numbers")


def _persistent(reader: Interpreter, call: Call) -> Object:
    (meta,) = reader.arguments(call, 1, 1)
    kind = meta.get("class_name") if isinstance(meta, Mapping) else None
    if type(kind) is not str or len(kind) > LONGEST:
        raise PickleError("holds an object without the name of its class")
    return Object(kind, meta.get("state"))


def _mapping(reader: Interpreter, call: Call) -> dict[Any, Any]:
    """A mapping that keeps its order, or one whose keys are attributes; they may be given in three ways."""
    (argument,) = reader.arguments(call, 0, 1, "items", "state") or ({},)
    pairs = argument.items() if isinstance(argument, Mapping) else argument
    if isinstance(pairs, (list, tuple, ItemsView)):
        reader.count(len(pairs))
        if all(type(pair) in (list, tuple) and len(pair) == 2 and is_key(pair[0]) for pair in pairs):
            return {key: value for key, value in pairs} | {key: reader.value(value) for key, value in call.items}
    raise PickleError(f"makes a {call.what} of something else than keys and values")


def _set(reader: Interpreter, call: Call) -> list[Any]:
    (argument,) = reader.arguments(call, 0, 1) or ((),)
    if not isinstance(argument, (list, tuple, set)):
        raise PickleError(f"makes a set of {type(argument).__name__}")
    reader.count(len(argument))
    return list(argument)


def _reconstructor(reader: Interpreter, call: Call) -> Any:
    """``copyreg._reconstructor(kind, base, state)``, as protocols before 2 make objects."""
    kind, *rest = call.arguments
    if type(kind) is not Name or len(rest) != 2:
        raise PickleError("makes an object of no class")
    made = Call(kind, () if rest[1] is None else (rest[1],))
    made.state, made.items, made.elements = call.state, call.items, call.elements
    return reader.value(made)


def _module(name: Name) -> Meaning:
    def made(reader: Interpreter, call: Call) -> Object:
        reader.arguments(call, 0, 0, "state")
        return Object(name.name, reader.value(call.state))

    return made


def _otherwise(name: Name) -> Meaning:
    if name.module.startswith("torch.nn.modules."):
        return _module(name)
    raise PickleError(f"holds {name}, which is neither weights nor settings: it is not read, since that would run code")


def _only(reader: Interpreter, call: Call) -> Any:
    return reader.arguments(call, 1, 1)[0]


_MEANINGS: dict[tuple[str, str], Meaning] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch", "Size"): _only,
    ("torch", "device"): lambda reader, call: reader.arguments(call, 1, 2)[0],
    ("collections", "OrderedDict"): _mapping,
    ("dnnlib.util", "EasyDict"): _mapping,
    ("builtins", "dict"): _mapping,
    ("builtins", "set"): _set,
    ("copyreg", "_reconstructor"): _reconstructor,
}
