"""Hostile pickles: mutations of good ones, and ones made of values and opcodes at random; and what none may change."""

from __future__ import annotations

import builtins
import codecs
import collections
import copyreg
import functools
import io
import math
import os
import pickle
import pickletools
import random
import struct
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._utils
from torch import nn

from benchmarks.robustness import inputs
from scoresde.files import pickles
from scoresde.models import edm

NAMES = [
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatStorage"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.nn.modules.conv", "Conv2d"),
    ("collections", "OrderedDict"),
    ("dnnlib.util", "EasyDict"),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"),
    ("builtins", "dict"),
    ("builtins", "set"),
    ("builtins", "object"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
    ("os", "system"),
]
WORDS = ["ema", "fid", "mu", "sigma", "class_name", "state", "_modules", "_parameters", "_init_kwargs", "model"]
WORDS += [
    "EDMPrecond",
    "SongUNet",
    "num_blocks",
    "channel_mult",
    "f8",
    "V8",
    "O",
    "<",
    "|",
    "C",
    "latin1",
    "cpu",
    "é\n",
]
NUMBERS = [0, 1, 2, 3, 8, -1, 255, 2**31 - 1, 2**31, 2**40, 2**63, -(2**63), 10**12, 1 << 600]
TYPES = ["f8", "f4", "f2", "i8", "i1", "u1", "b1", "O8", "V8", "V0", "S8", "U2", "c16", "M8", "f16", ""]
STORAGES = [*pickles.STORAGES, "ComplexFloatStorage", "UntypedStorage", "QInt8Storage"]


# ---------------------------------------------------------------------------------------------------------------------
# good ones


@functools.cache
def good() -> tuple[bytes, ...]:
    """Pickles that are taken: EDM's in three protocols, and EDM2's statistics of four features in four."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        for protocol in (2, 4, 5):
            path = Path(home) / f"{protocol}.pkl"
            inputs.edm(path, protocol)
            found.append(path.read_bytes())
    arrays = {"mu": np.zeros(4), "sigma": np.asfortranarray(np.eye(4)), "n": np.float64(3), "half": np.ones(2, "f2")}
    content = {"num_images": 50, "fid": arrays, "fd_dinov2": arrays}
    return (*found, *(pickle.dumps(content, protocol) for protocol in (0, 2, 3, 5)))


@functools.cache
def small() -> tuple[bytes, ...]:
    """Pickles of every construct of EDM's around a network of two layers, in five protocols; they are read, and are no
    network that we have."""
    state = {"training": False, "_modules": OrderedDict(layer=nn.Linear(2, 1)), "_non_persistent_buffers_set": {"a"}}
    state |= {"_parameters": OrderedDict(w=nn.Parameter(torch.ones(2, 3).t())), "_buffers": OrderedDict(n=torch.eye(2))}
    arguments = {"img_resolution": 8, "in_channels": 1, "label_dim": 0, "model_channels": 8, "channel_mult": [1, 2]}
    state |= {"_init_args": (), "_init_kwargs": arguments, "skip_scale": np.sqrt(0.5)}
    outer = {"_parameters": OrderedDict(), "_modules": OrderedDict(model=inputs.Persistent("SongUNet", state))}
    outer |= {"sigma_min": 0, "sigma_max": math.inf, "sigma_data": 0.5, "device": torch.device("cpu")}
    content = {"ema": inputs.Persistent("EDMPrecond", outer), "augment_pipe": None}
    return tuple(inputs.dumps(content, protocol) for protocol in (0, 1, 2, 4, 5))


@functools.cache
def _seeds() -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """What is mutated, without frames, which would tell of any change of length, and where its opcodes begin."""
    found = []
    for content in (*small(), *good()[3:]):
        whole = _split(content)
        parts = [part for part in whole if part[:1] != pickle.FRAME]
        places = [sum(map(len, parts[:count])) for count in range(len(parts))]
        found.append((b"".join(parts), tuple(places)))
    return tuple(found)


def _split(content: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(content) if place is not None]
    return [content[begin:end] for begin, end in zip(places, [*places[1:], len(content)], strict=True)]


# ---------------------------------------------------------------------------------------------------------------------
# mutations


def mutated(rng: random.Random) -> bytes:
    """A good one with some opcodes or bytes changed, cut, doubled or put elsewhere."""
    content, places = rng.choice(_seeds())
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, changed, rng.choice(places))
        if not changed:
            break
    return bytes(changed)


def _cut(rng: random.Random, changed: bytearray, place: int) -> None:
    del changed[place + rng.randrange(3) :]


def _without(rng: random.Random, changed: bytearray, place: int) -> None:
    del changed[place : place + rng.randint(1, 30)]


def _doubled(rng: random.Random, changed: bytearray, place: int) -> None:
    other = rng.randrange(len(changed))
    changed[place:place] = changed[other : other + rng.randint(1, 30)]


def _opcode(rng: random.Random, changed: bytearray, place: int) -> None:
    changed[place : place + 1] = rng.choice(_CODES)


def _insertion(rng: random.Random, changed: bytearray, place: int) -> None:
    changed[place:place] = rng.choice((value, opcodes))(rng)


def _integer(rng: random.Random, changed: bytearray, place: int) -> None:
    place += 1
    changed[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))


def _flip(rng: random.Random, changed: bytearray, place: int) -> None:
    changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)


def _near(rng: random.Random, changed: bytearray, place: int) -> None:
    changed[(place + rng.randrange(4)) % len(changed)] ^= 1 << rng.randrange(8)


def _splice(rng: random.Random, changed: bytearray, place: int) -> None:
    other, places = rng.choice(_seeds())
    changed[place:] = other[rng.choice(places) :]


def _value_for_value(rng: random.Random, changed: bytearray, place: int) -> None:
    """One opcode with its argument, if it stands at its place still, becomes a value."""
    try:
        parts = _split(bytes(changed[place:]) + b".")[:1]
    except ValueError:
        parts = []
    changed[place : place + sum(map(len, parts))] = value(rng)


def _name_for_name(rng: random.Random, changed: bytearray, place: int) -> None:
    module, name = (word.encode() for word in rng.choice(NAMES))
    old_module, old_name = (word.encode() for word in rng.choice(NAMES))
    for old, new in ((old_module, module), (old_name, name)):
        if len(old) == len(new) or rng.random() < 0.3:
            changed[:] = changed.replace(old, new)


_CHANGES = [_cut, _without, _doubled, _opcode, _opcode, _insertion, _integer, _flip, _near, _splice]
_CHANGES += [_value_for_value, _value_for_value, _name_for_name]


# ---------------------------------------------------------------------------------------------------------------------
# values that might be meant


def value(rng: random.Random, depth: int = 0) -> bytes:
    """Opcodes that leave one value, such as a file of EDM's or of statistics has, with whatever arguments."""
    return rng.choice(_LEAVES if depth > 4 else (*_LEAVES, *_NODES))(rng, depth + 1)


def text(word: str) -> bytes:
    """Opcodes of a word."""
    encoded = word.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """Opcodes of a whole number."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def content_of(data: bytes) -> bytes:
    """Opcodes of bytes."""
    return b"B" + struct.pack("<I", len(data)) + data


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """Opcodes of a call."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def _text(rng: random.Random, depth: int) -> bytes:
    return text(rng.choice(WORDS))


def _number(rng: random.Random, depth: int) -> bytes:
    return number(rng.choice(NUMBERS))


def _float(rng: random.Random, depth: int) -> bytes:
    return b"G" + struct.pack(">d", rng.choice((0.0, 0.5, -1.0, 1e300, math.inf, math.nan)))


def _constant(rng: random.Random, depth: int) -> bytes:
    return rng.choice((b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f"))


def _bytes(rng: random.Random, depth: int) -> bytes:
    return content_of(rng.randbytes(rng.choice((0, 1, 8, 16, 32))))


def _name(rng: random.Random, depth: int) -> bytes:
    module, name = rng.choice(NAMES)
    return rng.choice((f"c{module}\n{name}\n".encode(), text(module) + text(name) + b"\x93"))


def _memo(rng: random.Random, depth: int) -> bytes:
    return b"h" + bytes([rng.randrange(6)])


def _kept(rng: random.Random, depth: int) -> bytes:
    return value(rng, depth) + rng.choice((b"\x94", b"q\x00", b"q\x03", b"r\xff\xff\xff\xff"))


def _values(rng: random.Random, depth: int, most: int = 4) -> bytes:
    return b"".join(value(rng, depth) for _ in range(rng.randint(0, most)))


def _sequence(rng: random.Random, depth: int) -> bytes:
    return rng.choice((b"](%be", b"(%bt", b"(%bl", b"\x8f(%b\x90", b"(%b\x91")) % _values(rng, depth)


def _items(rng: random.Random, depth: int) -> bytes:
    return b"(" + b"".join(_text(rng, depth) + value(rng, depth) for _ in range(rng.randint(0, 3))) + b"u"


def _mapping(rng: random.Random, depth: int) -> bytes:
    made = rng.choice((b"}", called("collections", "OrderedDict"), called("dnnlib.util", "EasyDict"), b"]"))
    return made + _items(rng, depth)


def _shape(rng: random.Random) -> bytes:
    sizes = [rng.choice((0, 1, 2, 3, 4, 1, 2, 2**40, -1)) for _ in range(rng.randint(0, 3))]
    return b"(" + b"".join(map(number, sizes)) + b"t"


def _dtype(rng: random.Random, depth: int) -> bytes:
    entries = [number(3), text(rng.choice("<<<>|=?")), b"N", b"N", b"N", number(-1), number(-1), number(0)]
    if rng.random() < 0.3:
        entries[rng.randrange(len(entries))] = value(rng, depth)
    made = called("numpy", "dtype", text(rng.choice(TYPES)), b"\x89", b"\x88")
    return made + rng.choice((b"", b"(" + b"".join(entries) + b"tb"))


def _array(rng: random.Random, depth: int) -> bytes:
    dtype, shape, order = _dtype(rng, depth), _shape(rng), rng.choice((text("C"), text("F"), _text(rng, depth)))
    data = content_of(bytes(rng.choice((0, 1, 2, 4, 8, 16, 32, 64))))
    if (kind := rng.randrange(4)) == 0:
        return called(rng.choice(("numpy._core.multiarray", "numpy.core.multiarray")), "scalar", dtype, data)
    if kind == 1:
        return called("numpy._core.numeric", "_frombuffer", data, dtype, shape, order)
    made = called("numpy._core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    return made + b"(" + number(1) + shape + dtype + rng.choice((b"\x88", b"\x89")) + data + b"tb"


def storage(kind: str, told: int, count: int, data: bytes, form: int = 1001) -> bytes:
    """The bytes of a storage as ``torch.save`` writes them, with whatever counts."""
    file = io.BytesIO()
    for written in (pickles.MAGIC, form, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        file.write(pickle.dumps(written, 2))
    id = text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + number(told) + b"N"
    file.write(b"\x80\x02(" + id + b"tQ." + pickle.dumps(["0"], 2) + struct.pack("<q", count) + data)
    return file.getvalue()


def tensor(data: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    """Opcodes of a tensor in a storage of such bytes."""
    made = called("torch.storage", "_load_from_bytes", content_of(data))
    return called("torch._utils", "_rebuild_tensor_v2", made, offset, size, stride, b"\x89", b"N")


def _tensor(rng: random.Random, depth: int) -> bytes:
    count = rng.choice((0, 1, 4, 6))
    numbers = [count, count, 4 * count]
    if rng.random() < 0.2:
        numbers[rng.randrange(3)] = rng.choice((0, 1, 7, 2**40))
    data = storage(rng.choice(STORAGES), numbers[0], numbers[1], bytes(min(64, numbers[2])))
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))] + rng.randbytes(rng.randrange(4)) + data[rng.randrange(len(data)) :]
    made = tensor(data, number(rng.choice((0, 0, 0, 1, -1, 2**40))), _shape(rng), _shape(rng))
    return called("torch._utils", "_rebuild_parameter", made, b"\x88", b"N") if rng.random() < 0.5 else made


def _object(rng: random.Random, depth: int) -> bytes:
    if rng.random() < 0.3:
        return b"ctorch.nn.modules.linear\nLinear\n)\x81" + _mapping(rng, depth) + b"b"
    state = (
        b"}(" + b"".join(text(key) + value(rng, depth) for key in ("_modules", "_parameters", "_init_kwargs")) + b"u"
    )
    meta = text("class_name") + text(rng.choice(("SongUNet", "EDMPrecond", "é\n"))) + text("state") + state
    return called("torch_utils.persistence", "_reconstruct_persistent_obj", b"}(" + meta + b"u")


def _call(rng: random.Random, depth: int) -> bytes:
    module, name = rng.choice(NAMES)
    arguments = _values(rng, depth)
    made = rng.choice((b"c%b\n%b\n(%btR", b"c%b\n%b\n(%bt\x81", b"(c%b\n%b\n%bo")) % (
        module.encode(),
        name.encode(),
        arguments,
    )
    return made + rng.choice(
        (b"", b"", value(rng, depth) + b"b", _items(rng, depth), b"(" + _values(rng, depth) + b"e")
    )


def _state_of_anything(rng: random.Random, depth: int) -> bytes:
    return value(rng, depth) + rng.choice((b"}" + text("__defaults__") + _values(rng, depth, 1) + b"s", b"N")) + b"b"


_Maker = Callable[[random.Random, int], bytes]
_LEAVES: tuple[_Maker, ...] = (_text, _number, _float, _constant, _bytes, _name, _memo)
_NODES: tuple[_Maker, ...] = (_kept, _sequence, _mapping, _mapping, _dtype, _array, _array, _tensor, _tensor)
_NODES += (_object, _object, _call, _state_of_anything)
_CODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]


def opcodes(rng: random.Random) -> bytes:
    """Opcodes in an order that nobody meant."""
    one = [lambda: rng.choice(_CODES), lambda: rng.choice(_LEAVES)(rng, 0), lambda: _call(rng, 5)]
    one += [lambda: rng.choice((b"(", b"t", b"l", b"d", b"s", b"u", b"a", b"e", b"R", b"b", b"Q", b"2"))] * 2
    return b"".join(rng.choice(one)() for _ in range(rng.randint(1, 30)))


def _file(rng: random.Random) -> bytes:
    """A file of EDM's or of statistics as far as its first keys go."""
    if rng.random() < 0.5:
        inner = text("model") + _object(rng, 1)
        state = text("_modules") + b"}(" + inner + b"u" + text("sigma_min") + value(rng, 3)
        meta = text("class_name") + text("EDMPrecond") + text("state") + b"}(" + state + b"u"
        return (
            b"}"
            + text("ema")
            + called("torch_utils.persistence", "_reconstruct_persistent_obj", b"}(" + meta + b"u")
            + b"s"
        )
    arrays = text("mu") + _array(rng, 2) + text("sigma") + _array(rng, 2)
    return b"}(" + text("num_images") + _number(rng, 0) + text("fid") + b"}(" + arrays + b"uu"


def cases(count: int, seed: int = 0, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many of them, from the one of that number on, with what they are; each follows from its number alone."""
    for index in range(first, first + count):
        rng = random.Random(f"{seed}/{index}")
        kind = rng.choice(("mutation", "mutation", "mutation", "value", "file", "file", "opcodes"))
        if kind == "mutation":
            content = mutated(rng)
        else:
            content = b"\x80\x04" + {"value": value, "file": _file, "opcodes": opcodes}[kind](rng) + b"."
        yield f"{kind} {index}", content


# ---------------------------------------------------------------------------------------------------------------------
# what none of them may change


_FUNCTIONS: list[Any] = [torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch.load, os.system]
_FUNCTIONS += [torch.storage._load_from_bytes, nn.Module.__setattr__, nn.Module.__setstate__, pickletools.genops]
_FUNCTIONS += [np.savez, copyreg._reconstructor, pickles.load, edm.convert]  # type: ignore[attr-defined]
_SPACES: list[Any] = [torch._utils, torch.storage, nn.Conv2d, nn.Linear, torch.Tensor, np, pickle, copyreg, codecs, os]
_SPACES += [builtins, collections, pickles, edm, pickletools, sys.modules["torch.nn.modules.linear"]]


def process_state() -> dict[str, int]:
    """What a file might change in this process: each function's and namespace's parts, by their identities.

    What Python keeps to warn once only is none of it.
    """
    parts = ("__defaults__", "__kwdefaults__", "__code__", "__dict__", "__name__")
    found = {f.__name__: hash(repr([getattr(f, part, None) for part in parts])) for f in _FUNCTIONS}
    for space in _SPACES:
        held = ((name, id(value)) for name, value in vars(space).items() if name != "__warningregistry__")
        found[space.__name__] = hash(tuple(held))
    found["modules"], found["path"] = hash(tuple(sys.modules)), hash((*sys.path, os.getcwd()))
    found["environment"], found["warnings"] = hash(repr(os.environ)), hash(repr(warnings.filters))
    found["numbers"] = hash((repr(np.geterr()), torch.get_default_dtype(), torch.is_grad_enabled()))
    found["limits"] = hash((sys.getrecursionlimit(), len(copyreg.dispatch_table)))
    return found
