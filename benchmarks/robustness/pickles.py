"""Hostile pickles: mutations of good ones, and ones made of opcodes at random."""

from __future__ import annotations

import pickle
import pickletools
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.robustness import inputs

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
WORDS = [
    "ema",
    "fid",
    "mu",
    "sigma",
    "class_name",
    "state",
    "_modules",
    "model",
    "f8",
    "V8",
    "O",
    "<",
    "|",
    "latin1",
    "cpu",
]
NUMBERS = [0, 1, 2, 3, 8, -1, 255, 2**31 - 1, 2**31, 2**63, -(2**63), 10**12]


def good() -> list[bytes]:
    """Pickles that are taken: EDM's in several protocols, and EDM2's statistics."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        for protocol in (2, 4, 5):
            path = Path(home) / f"{protocol}.pkl"
            inputs.edm(path, protocol)
            found.append(path.read_bytes())
    statistics = {
        "mu": np.zeros(4),
        "sigma": np.asfortranarray(np.eye(4)),
        "n": np.float64(3),
        "half": np.ones(2, np.float16),
    }
    for protocol in (2, 3, 5):
        found.append(pickle.dumps({"num_images": 50, "fid": statistics, "fd_dinov2": statistics}, protocol))
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut, doubled or put elsewhere."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed) + 1), rng.randint(1, 30)
        kind = rng.randrange(7)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            other = rng.randrange(len(changed) + 1)
            changed[place:place] = changed[other : other + length]
        elif kind == 3:
            changed[place:place] = rng.choice(_CODES)
        elif kind == 4:
            changed[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))
        elif kind == 5:
            changed[place:place] = made(rng, rng.randint(1, 6))
        elif changed:
            changed[place % len(changed)] ^= rng.randint(1, 255)
    return bytes(changed)


def made(rng: random.Random, length: int) -> bytes:
    """Opcodes with arguments that might be meant."""
    return b"".join(rng.choice(_MAKERS)(rng) for _ in range(length))


def _text(rng: random.Random) -> bytes:
    word = rng.choice(WORDS).encode()
    return b"X" + struct.pack("<I", len(word)) + word


def _number(rng: random.Random) -> bytes:
    value = rng.choice(NUMBERS)
    content = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def _name(rng: random.Random) -> bytes:
    module, name = rng.choice(NAMES)
    return f"c{module}\n{name}\n".encode()


def _bytes(rng: random.Random) -> bytes:
    content = rng.randbytes(rng.choice((0, 1, 8, 16, 32)))
    return b"C" + bytes([len(content)]) + content


def _memo(rng: random.Random) -> bytes:
    index = rng.choice((0, 1, 2, 255, 2**32 - 1))
    return (
        rng.choice((b"r", b"j")) + struct.pack("<I", index)
        if rng.random() < 0.3
        else rng.choice((b"q", b"h")) + bytes([index & 3])
    )


def _call(rng: random.Random) -> bytes:
    arguments = b"".join(rng.choice((_text, _number, _bytes, _memo))(rng) for _ in range(rng.randint(0, 4)))
    state = b"(" + b"".join(rng.choice((_text, _number))(rng) for _ in range(rng.randint(0, 8))) + b"tb"
    return _name(rng) + b"(" + arguments + b"t" + rng.choice((b"R", b"\x81")) + (state if rng.random() < 0.5 else b"")


_CODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_MAKERS = [_text, _number, _name, _bytes, _memo, _memo, _call, _call, lambda rng: rng.choice(_CODES)]
_MAKERS += [
    lambda rng: rng.choice(
        (b"(", b"}", b"]", b")", b"t", b"l", b"d", b"s", b"u", b"a", b"e", b"R", b"b", b"Q", b"N", b"2")
    )
] * 4


def small() -> list[bytes]:
    """The same in small, since most of a network's pickle is its numbers: one layer, as EDM writes it."""
    found = good()[3:]
    for protocol in (2, 4, 5):
        state = {"_modules": {"model": inputs.module(nn.Linear(1, 1), {"img_resolution": 8})}, "sigma_data": 0.5}
        content = {"ema": inputs.Persistent("EDMPrecond", state), "augment_pipe": None}
        found.append(inputs.dumps(content, protocol))
    return found


def cases(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many of them, with what they are."""
    rng, whole, few = random.Random(seed), good(), small()
    for index in range(count):
        if index % 3:
            chosen = whole if index % 100 == 1 else few
            number = rng.randrange(len(chosen))
            yield f"mutation {index} of {number}", mutated(chosen[number], rng)
        else:
            yield f"opcodes {index}", b"\x80\x04" + made(rng, rng.randint(1, 40)) + b"."
