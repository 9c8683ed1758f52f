"""Pickles: read as data or refused in a line, whatever they ask for; nothing runs, crashes, hangs or stays behind."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import pickletools
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from benchmarks.robustness import pickles as hostile
from scoresde.metrics import load_moments
from scoresde.models import CheckpointError, edm

P4 = b"\x80\x04"


class Four:
    """A feature space for statistics of four features."""

    name, size = "four", 4

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]


def state() -> str:
    """What a file might change in this process, as a digest."""
    functions: list[Any] = [_rebuild_tensor_v2, _rebuild_parameter, torch.storage._load_from_bytes, torch.load]
    functions += [torch.nn.Module.__setattr__, pickle.loads, np.frombuffer, os.system]
    told = [
        repr([getattr(f, key, None) for key in ("__defaults__", "__kwdefaults__", "__code__", "__dict__", "__name__")])
        for f in functions
    ]
    told += [repr(sorted(vars(torch.nn.Conv2d))), repr(np.dtype("f8").descr), repr(sys.path), os.getcwd()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def refused(content: bytes, path: Path, words: str | None = None) -> None:
    """Both readers refuse it, at once and in one line."""
    path.write_bytes(content)
    before = state()
    for read in (edm.read, lambda path: load_moments(path, Four())):
        begin = time.monotonic()
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        assert time.monotonic() - begin < 1
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert state() == before


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def dtype(code: str, state: bytes) -> bytes:
    return b"cnumpy\ndtype\n(" + text(code) + b"K\x00K\x01tR" + state + b"b"


FORGED = (
    b"(K\x03"
    + text("|")
    + b"N("
    + text("a")
    + b"t}"
    + text("a")
    + b"("
    + dtype("O8", b"(t")
    + b"K\x00tsK\x08K\x01K\x00t"
)


@pytest.mark.parametrize(
    "content",
    [
        dtype("V8", FORGED),
        dtype("O8", b"(t"),
        dtype("f8", b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"),
        b"cnumpy.core.multiarray\nscalar\n(" + dtype("O8", b"(t") + b"C\x08" + bytes(8) + b"tR",
        b"cnumpy.core.multiarray\nscalar\n(" + dtype("V8", FORGED) + b"C\x08" + bytes(range(8)) + b"tR",
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x01\x85"
        + dtype("V8", FORGED)
        + b"\x89C\x08"
        + bytes(8)
        + b"tb",
    ],
)
def test_a_forged_dtype_reaches_nobody(content: bytes, tmp_path: Path) -> None:
    refused(P4 + content + b".", tmp_path / "a.pkl", "something else than numbers")


@pytest.mark.parametrize(
    "name", ["torch._utils\n_rebuild_tensor_v2", "torch\nload", "numpy\nndarray", "torch.nn.modules.conv\nConv2d"]
)
def test_a_state_of_a_function_or_class_is_refused(name: str, tmp_path: Path) -> None:
    setting = b"}" + text("__defaults__") + b"(K\x01K\x02ts"
    refused(P4 + f"c{name}\n".encode() + setting + b"b.", tmp_path / "a.pkl", "gives a state to")
    refused(P4 + f"c{name}\n".encode() + b"N" + setting + b"\x86b.", tmp_path / "a.pkl", "gives a state to")


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        P4 + text("os") + text("system") + b"\x93" + text("true") + b"\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        P4 + b"cos\nsystem\n" + text("true") + b"\x85\x81.",
        P4 + b"cos\nsystem\n" + text("true") + b"\x85}\x92.",
        P4 + b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
        P4 + b"cbuiltins\neval\n" + text("print(1)") + b"\x85R.",
        P4 + b"cbuiltins\ngetattr\n(ctorch\nhub\n" + text("load") + b"tR.",
        P4 + b"ctorch.storage\n_load_from_bytes\nC\x10cos\nsystem\n(V1\ntR.\x85R.",
    ],
)
def test_nothing_that_is_named_runs_by_any_road(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("it ran"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("it was unpickled"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded by torch"))
    refused(content, tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"Psystem\n", b"N\x97", b"N\x98"]
)
def test_opcodes_without_a_place_among_data_are_refused(code: bytes, tmp_path: Path) -> None:
    refused(P4 + code + b".", tmp_path / "a.pkl")


def doubling(levels: int) -> bytes:
    """A list of two lists of two lists …, each of them the same."""
    return (
        P4
        + b"]\x94"
        + b"".join(b"](h" + bytes([index]) + b"h" + bytes([index]) + b"e\x94" for index in range(levels))
        + b"."
    )


# Numbers that all have the same hash.
COLLIDING = [bytes([0x8A, 12]) + (index * (2**61 - 1)).to_bytes(12, "little") for index in range(1, 30_001)]

BOMBS = {
    "a memo of 2³² entries": P4 + b"Nr\xff\xff\xff\xff.",
    "an entry of it that is not there": P4 + b"j\xff\xff\xff\xff.",
    "10¹² bytes": P4 + b"\x96" + struct.pack("<Q", 10**12) + b".",
    "10¹² letters": P4 + b"\x8d" + struct.pack("<Q", 10**12) + b".",
    "a frame of 2⁶³ bytes": P4 + b"\x95" + struct.pack("<Q", 2**63) + b"N.",
    "a number of 10⁶ digits": b"I" + b"9" * 10**6 + b"\n.",
    "a long number of 10⁶ digits": b"L" + b"9" * 10**6 + b"L\n.",
    "lists of one list, doubled": doubling(200),
    "a list that holds itself": P4 + b"]\x94h\x00a.",
    "a dictionary that holds itself": P4 + b"}\x94" + text("ema") + b"h\x00s.",
    "a call that holds itself": P4 + b"ccollections\nOrderedDict\n)R\x94" + text("a") + b"h\x00s.",
    "10⁵ lists in each other": P4 + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "10⁵ tuples in each other": P4 + b")" + b"\x85" * 10**5 + b".",
    "such a tuple as a key": P4 + b"})" + b"\x85" * 10**5 + b"Ns.",
    "such a tuple in a set": P4 + b"\x8f()" + b"\x85" * 10**5 + b"\x90.",
    "a list as a key": P4 + b"}]Ns.",
    "an array of 10¹² numbers": P4
    + b"cnumpy._core.numeric\n_frombuffer\n(C\x08"
    + bytes(8)
    + dtype("f8", b"(t")
    + b"\x8a\x06"
    + (10**12).to_bytes(6, "little")
    + b"\x85"
    + text("C")
    + b"tR.",
    "an array of no numbers in 10¹⁰⁰ rows": P4
    + b"cnumpy._core.numeric\n_frombuffer\n(C\x00"
    + dtype("f8", b"(t")
    + b"(K\x00"
    + (b"\x8a\x06" + (10**12).to_bytes(6, "little")) * 40
    + b"t"
    + text("C")
    + b"tR.",
    "marks alone": P4 + b"(" * 10**5 + b".",
    "10⁵ marks over 10⁵ values": P4 + b"N" * 10**5 + b"(t0" * 10**5 + b".",
    "30,000 keys of one hash": P4 + b"}(" + b"".join(key + b"N" for key in COLLIDING) + b"u.",
    "the same in a set": P4 + b"\x8f(" + b"".join(COLLIDING) + b"\x90.",
    "the same as pairs": P4
    + b"ccollections\nOrderedDict\n]("
    + b"".join(key + b"N\x86" for key in COLLIDING)
    + b"e\x85R.",
    "an entry of the memo of 10⁶ digits": b"Np" + b"9" * 10**6 + b"\n.",
    "nothing": b"",
    "a stop": b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_is_not_made_large(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(BOMBS[name])
    begin = time.monotonic()
    with pytest.raises(ValueError, match="a.pkl'") as caught:
        edm.convert(path, tmp_path / "out")
    assert len(str(caught.value)) < 1000
    with pytest.raises(ValueError, match="a.pkl' is damaged or foreign"):
        load_moments(path, Four())
    assert time.monotonic() - begin < 10


def storage(values: int, told: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor of a storage as torch writes it, with whatever shape it is said to have."""
    inner = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        inner.write(pickle.dumps(value, 2))
    inner.write(
        b"\x80\x02("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + b"\x8a\x08"
        + told.to_bytes(8, "little")
        + b"NtQ."
    )
    inner.write(pickle.dumps(["0"], 2))
    inner.write(struct.pack("<q", values) + bytes(4 * values))
    content = inner.getvalue()
    made = b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(content)) + content + b"\x85R"
    rest = pickletools.optimize(pickle.dumps((offset, size, stride), 2))[2:-1]
    # Of the tuple its three parts are wanted: a storage before them and the tuple closed again.
    assert rest.endswith(b"\x87")
    return P4 + b"}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + made + rest[:-1] + b"\x89NtRs."


def test_a_tensor_lies_in_its_storage_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(storage(6, 6, (3, 2), (1, 3)))
    assert edm.read(path)["w"].shape == (3, 2)
    path.write_bytes(storage(6, 6, (2, 2), (1, 2), offset=2))
    assert edm.read(path)["w"].shape == (2, 2)
    wrong: list[Any] = [
        (6, 7, (3, 2), (1, 3), 0),
        (6, 2**40, (3, 2), (1, 3), 0),
        (6, 6, (3, 3), (1, 3), 0),
        (6, 6, (2**40,), (0,), 0),
        (6, 6, (3, 2), (1, 3), 1),
        (6, 6, (3, 2), (2**40, 1), 0),
        (6, 6, (3, 2), (1,), 0),
        (6, 6, (-1, 2), (1, 3), 0),
        (6, 6, (6,), (-1,), 5),
    ]
    for values, told, size, stride, offset in wrong:
        path.write_bytes(storage(values, told, size, stride, offset))
        with pytest.raises(CheckpointError, match="a.pkl' holds"):
            edm.read(path)


def tried(cases: Iterator[tuple[str, bytes]], path: Path) -> None:
    """Read by both readers in a child of limited means; it ends with the number of those that behaved."""
    for name, content in cases:
        path.write_bytes(content)
        before = state()
        for read in (edm.read, lambda path: load_moments(path, Four())):
            begin = time.monotonic()
            try:
                read(path)
            except ValueError as error:
                assert "\n" not in str(error), name
            assert time.monotonic() - begin < 5, name
        assert state() == before, name


def in_children(count: int, batch: int, path: Path) -> None:
    for first in range(0, count, batch):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(120)
                resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
                tried(hostile.cases(batch, seed=first), path)
                status = 0
            except BaseException as error:  # noqa: BLE001
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"cases {first} to {first + batch}"


def test_mutated_and_made_up_pickles_are_read_or_refused(tmp_path: Path) -> None:
    in_children(400, 200, tmp_path / "a.pkl")


@pytest.mark.slow
def test_a_hundred_thousand_pickles_are_read_or_refused(tmp_path: Path) -> None:
    in_children(100_000, 5_000, tmp_path / "a.pkl")


def test_good_ones_are_taken(tmp_path: Path) -> None:
    for index, content in enumerate(hostile.good()):
        path = tmp_path / f"{index}.pkl"
        path.write_bytes(content)
        if index < 3:
            assert edm.convert(path, tmp_path / str(index))["network"] == "SongUNet"
        else:
            assert load_moments(path, Four()).count == 50
