"""EDM's pickles become model folders, without running the code that they carry.

Unpickling runs code that a file names, and such a file even holds the source text of each of its classes for that.
Here the objects' states are read as data (:mod:`scoresde.pickles`): tensors, numbers and the plain containers around
them. Everything else is refused by name, and nobody looks at the source. The network is built by this package from its
recorded arguments.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.files import regular
from scoresde.models.checkpoint import build, save
from scoresde.models.described import CheckpointError, built, fill
from scoresde.pickles import NUMPY, TORCH, Call, Interpreter, Meaning, Name, PickleError, parse
from scoresde.process import EDM
from solvers.errors import nearest

MOST_TENSORS = 100_000  # in a network
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
        self.kind, self.state = kind, dict(state) if isinstance(state, Mapping) else {}

    def part(self, name: str) -> Mapping[str, Any]:
        """An entry of the state that is a mapping; empty where there is none."""
        found = self.state.get(name)
        return found if isinstance(found, Mapping) else {}

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and buffers of a module and of those in it, by the names that ``state_dict`` gives them."""
        own = {**self.part("_parameters"), **self.part("_buffers")}
        found = {f"{prefix}{name}": value for name, value in own.items() if isinstance(value, Tensor)}
        for name, module in self.part("_modules").items():
            if isinstance(module, Object):
                found |= module.weights(f"{prefix}{name}.")
                if len(found) > MOST_TENSORS:
                    raise CheckpointError(f"holds more than {MOST_TENSORS:,} tensors")
        return found


def read(path: str | Path) -> Any:
    """What a pickle of EDM holds, with its objects as :class:`Object`; no code of the file runs.

    Raises:
        CheckpointError: the file is not there or damaged, or holds something else than weights and settings (named).
    """
    try:
        content = regular(path).read_bytes()
        reader = Interpreter({**NUMPY, **TORCH, **_MEANINGS}, _otherwise, 4 * len(content))
        return reader.value(parse(io.BytesIO(content)))
    except PickleError as error:
        told = str(error)
        if told.startswith("is damaged"):
            told = told.replace("is damaged", "is damaged or not a pickle", 1)
        raise CheckpointError(f"{str(path)!r} {told}") from None
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
        found = f"the keys {sorted(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{str(path)!r} is no checkpoint of EDM: it holds no network as 'ema', but {found}")
    outer = content["ema"]
    inner = outer.part("_modules").get("model")
    if outer.kind != "EDMPrecond" or not isinstance(inner, Object):
        raise CheckpointError(f"{str(path)!r} holds a {outer.kind!r}; known: EDMPrecond")
    network = _network(inner, str(path))
    shape = (network["in_channels"], network["resolution"], network["resolution"])
    weights = {name: value for name, value in inner.weights().items() if not name.startswith("map_augment.")}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    options = {key: value for key, value in network.items() if key != "name"}
    net = built(lambda: build(network, shape), options, shapes, repr(str(path)), str(path))
    fill(net, weights, str(path))
    numbers = {key: outer.state.get(key) for key in ("sigma_min", "sigma_max", "sigma_data")}
    if not all(isinstance(value, (int, float)) and value >= 0 for value in numbers.values()):
        raise CheckpointError(f"{str(path)!r} has no numbers sigma_min, sigma_max and sigma_data")
    card = {
        "source": Path(path).name,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "network": inner.kind,
    }
    save(
        folder,
        net,
        network=network["name"],
        process=EDM(max(SIGMA_MIN, float(numbers["sigma_min"])), min(SIGMA_MAX, float(numbers["sigma_max"]))),
        prediction="sample",
        shape=shape,
        classes=network["num_classes"],
        preconditioning={"name": "edm", "sigma_data": float(numbers["sigma_data"])},
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
        described[arguments[key]] = _setting(path, key, value)
    for key in ("img_resolution", "in_channels"):
        if arguments[key] not in described:
            raise CheckpointError(f"{path!r} does not say the {key!r} of its {inner.kind}")
    return {"num_classes": 0, **described}


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


def _state(reader: Interpreter, call: Call) -> Any:
    return None if call.state is None else reader.value(call.state)


def _persistent(reader: Interpreter, call: Call) -> Object:
    (meta,) = reader.arguments(call, 1, 1)
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise PickleError("holds an object without the name of its class")
    return Object(meta["class_name"], meta.get("state"))


def _mapping(reader: Interpreter, call: Call) -> dict[Any, Any]:
    """A mapping that keeps its order, or one whose keys are attributes; they may be given in three ways."""
    found: dict[Any, Any] = {}
    for argument in reader.arguments(call, 0, 1):
        found.update(argument if isinstance(argument, Mapping) else dict(argument))
    found.update({key: reader.value(value) for key, value in call.items})
    return found


def _set(reader: Interpreter, call: Call) -> list[Any]:
    return [value for argument in reader.arguments(call, 0, 1) for value in argument]


def _reconstructor(reader: Interpreter, call: Call) -> Any:
    """``copyreg._reconstructor(kind, base, state)``, as protocols before 2 make objects."""
    kind, *rest = call.arguments
    if type(kind) is not Name or len(rest) != 2:
        raise PickleError("makes an object of no class")
    made = Call(kind, () if rest[1] is None else (rest[1],))
    made.state, made.items = call.state, call.items
    return reader.value(made)


def _module(name: Name) -> Meaning:
    return lambda reader, call: Object(name.name, _state(reader, call))


def _otherwise(name: Name) -> Meaning:
    if name.module.startswith("torch.nn.modules."):
        return _module(name)
    raise PickleError(f"holds {name}, which is neither weights nor settings: it is not read, since that would run code")


def _only(reader: Interpreter, call: Call) -> Any:
    return reader.arguments(call, 1, 1)[0]


_MEANINGS: dict[tuple[str, str], Meaning] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch", "Size"): _only,
    ("torch", "device"): lambda reader, call: str(reader.arguments(call, 1, 2)[0]),
    ("collections", "OrderedDict"): _mapping,
    ("dnnlib.util", "EasyDict"): _mapping,
    ("builtins", "dict"): _mapping,
    ("builtins", "set"): _set,
    ("copyreg", "_reconstructor"): _reconstructor,
}
