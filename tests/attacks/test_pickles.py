"""Pickles: read as data or refused in a line, whatever they ask for; nothing runs, crashes, hangs or stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.robustness import inputs
from benchmarks.robustness import pickles as hostile
from benchmarks.robustness.children import forked
from benchmarks.robustness.pickles import called, content_of, number, process_state, text
from scoresde.files import pickles
from scoresde.metrics import load_moments
from scoresde.models import CheckpointError, edm

P4 = b"\x80\x04"


class Four:
    """A feature space for statistics of four features."""

    name, size = "four", 4

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]


def refused(content: bytes, path: Path, words: str | None = None) -> None:
    """Both readers refuse it, at once and in one line."""
    path.write_bytes(content)
    before = process_state()
    for read in (edm.read, lambda path: load_moments(path, Four())):
        begin = time.process_time()
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        assert time.process_time() - begin < 1
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert process_state() == before


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


def deep(levels: int) -> dict[str, bytes]:
    """Structures in each other, of each kind."""
    calls = P4 + b"cX\nY\n\x94"
    return {
        "lists in each other": P4 + b"]" * levels + b"a" * (levels - 1) + b".",
        "tuples in each other": P4 + b")" + b"\x85" * levels + b".",
        "names outside in each other": P4 + b"N" + b"Q" * levels + b".",
        "states in each other": calls + b"h\x00)R" * levels + b"b" * (levels - 1) + b".",
        "elements in each other": calls + b"h\x00)R" * levels + b"a" * (levels - 1) + b".",
        "arguments in each other": calls + b"h\x00" * levels + b")R" + b"\x85R" * (levels - 1) + b".",
    }


# Numbers that all have the same hash.
COLLIDING = [bytes([0x8A, 12]) + (index * (2**61 - 1)).to_bytes(12, "little") for index in range(1, 30_001)]

BOMBS = {
    **deep(20_000),
    "a memo of 2³² entries": P4 + b"Nr\xff\xff\xff\xff.",
    "entries of one hash": b"N" + b"".join(b"p%d\n" % (index * (2**61 - 1)) for index in range(1, 30_001)) + b".",
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
    "10⁴ marks over 10⁴ values": P4 + b"N" * 10**4 + b"(t0" * 10**4 + b".",
    "a name of 10⁶ letters": b"c" + b"a" * 10**6 + b"\nb\n)R.",
    "keys of 10⁶ letters": P4 + b"}" + text("a" * 10**6) + b"Ns.",
    "one text as 10³ arrays of bytes": P4
    + text("a" * 10**5)
    + b"\x940]("
    + called("_codecs", "encode", b"h\x00", text("latin1")) * 10**3
    + b"e.",
    "one list of 10⁴ pairs as 10³ mappings": P4
    + b"]("
    + b"N\x88\x86" * 10**4
    + b"e\x940]("
    + called("collections", "OrderedDict", b"h\x00") * 10**3
    + b"e.",
    "pairs of doubled tuples": P4
    + b")\x94"
    + b"".join(b"h%bh%b\x86\x94" % (bytes([level]), bytes([level])) for level in range(60))
    + b"0" * 61
    + called("collections", "OrderedDict", b"](h\x3cN\x86e")
    + b".",
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
    begin = time.process_time()
    with pytest.raises(ValueError, match="a.pkl'") as caught:
        edm.convert(path, tmp_path / "out")
    assert len(str(caught.value)) < 1000
    with pytest.raises(ValueError, match="a.pkl' is damaged or foreign"):
        load_moments(path, Four())
    assert time.process_time() - begin < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", deep(1))
def test_deep_structures_are_left_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(deep(190_000)[name])
    for read in (edm.read, lambda path: load_moments(path, Four())):
        with pytest.raises(ValueError, match="a.pkl'"):
            read(tmp_path / "a.pkl")


def storage(values: int, told: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor of a storage as torch writes it, with whatever shape it is said to have."""
    data = hostile.storage("FloatStorage", told, values, bytes(4 * values))
    shapes = [b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (size, stride)]
    return P4 + b"}" + text("w") + hostile.tensor(data, number(offset), *shapes) + b"s."


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


def tried(count: int, first: int) -> int:
    """Read by both readers, in a child of limited means, which says how often each ended how."""
    torch.set_num_threads(1)  # a child has none of its parent's threads, and would wait for them
    path, ends = Path("a.pkl"), Counter[str]()
    before = process_state()
    for name, content in hostile.cases(count, first=first):
        path.write_bytes(content)
        for read in (edm.read, lambda path: edm.convert(path, "out"), lambda path: load_moments(path, Four())):
            begin = time.process_time()
            try:
                read(path)
                ends["taken"] += 1
            except ValueError as error:
                assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 1000, name
                assert "'a.pkl'" in str(error), name
                ends["refused"] += 1
            assert time.process_time() - begin < 3, name
        assert process_state() == before, name
    print(json.dumps(ends))
    return 0


def in_children(count: int, batch: int, place: Path) -> Counter[str]:
    ends = Counter[str]()
    for index, content in enumerate(
        (*hostile.good()[2:], *hostile.small())
    ):  # what is imported when it is needed first
        path = place / f"{index}.pkl"
        path.write_bytes(content)
        for read in (lambda path: edm.convert(path, place / "good"), lambda path: load_moments(path, Four())):
            with contextlib.suppress(ValueError):
                read(path)
    for first in range(0, count, batch):
        ended = forked(lambda first=first: tried(batch, first), place, seconds=600, memory=2 * 2**30)
        assert ended.status == 0, f"cases {first} to {first + batch}: {ended}"
        ends.update(json.loads(ended.out))
    return ends


def test_mutated_and_made_up_pickles_are_read_or_refused(tmp_path: Path) -> None:
    ends = in_children(300, 300, tmp_path)
    assert ends.total() == 3 * 300 and min(ends["taken"], ends["refused"]) > 10


@pytest.mark.slow
def test_a_hundred_thousand_pickles_are_read_or_refused(tmp_path: Path) -> None:
    ends = in_children(100_000, 5_000, tmp_path)
    assert ends.total() == 300_000 and min(ends["taken"], ends["refused"]) > 3_000
    print(dict(ends))


def test_the_parts_of_a_file_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST", 10_000)
    refused(P4 + b"N0" * 5_000 + b"N.", tmp_path / "a.pkl", "more than 10,000 parts")
    inner = content_of(hostile.storage("FloatStorage", 1, 1, bytes(4))) + b"\x940]("
    calls = called("torch.storage", "_load_from_bytes", b"h\x00") * 300
    (tmp_path / "a.pkl").write_bytes(P4 + inner + calls + b"e.")
    with pytest.raises(CheckpointError, match="many times its size|more than 10,000 parts"):
        edm.read(tmp_path / "a.pkl")


def put_together(**changes: Any) -> bytes:
    """A snapshot of EDM's training around a network that is none, with something changed."""
    inner = {"_modules": changes.get("modules", {}), "_init_kwargs": {"img_resolution": 8, "in_channels": 1}}
    inner["_init_kwargs"] |= changes.get("arguments", {})
    outer = {"_modules": {"model": inputs.Persistent("SongUNet", inner)}, "sigma_min": 0, "sigma_max": 80.0}
    outer |= {"sigma_data": 0.5, **changes.get("outer", {})}
    return inputs.dumps({"ema": inputs.Persistent("EDMPrecond", outer)})


def shared(levels: int) -> Any:
    """A module of two modules of two modules …, each of them the same."""
    module = inputs.Persistent("Layer", {"_parameters": {"w": torch.zeros(1)}})
    for _ in range(levels):
        module = inputs.Persistent("Layer", {"_modules": {"a": module, "b": module}})
    return {"enc": module}


WEIGHT = torch.zeros(10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modules": shared(10)}, "holds one object as 'enc.a' and 'enc.b'"),
        (
            {"modules": {"a": inputs.Persistent("A", {"_parameters": {"v": WEIGHT, "w": WEIGHT}})}},
            "holds one tensor as 'a.v' and 'a.w'",
        ),
        ({"modules": {"a" * 10**6: inputs.Persistent("A", {})}}, "names a part of its network 'a+'$"),
        ({"arguments": {"num_blocks": 10**9}}, "the argument 'num_blocks' is neither a small number nor"),
        ({"arguments": {"num_blocks": 10**5}}, "blocks = 100000"),
        ({"arguments": {"channel_mult": [1] * 65}}, "the argument 'channel_mult' is neither"),
        ({"arguments": {"channel_mult": [[1]]}}, "the argument 'channel_mult' is neither"),
        ({"arguments": {"model_channels": float("nan")}}, "the argument 'model_channels' is neither"),
        ({"arguments": {"a" * 10**6: 1}}, "has the argument 'a{40}'$"),
        ({"arguments": {3: 1}}, "has the argument 3$"),
        ({"arguments": {"in_channels": 1.5}}, "has the 'in_channels' 1.5, which is no count"),
        ({"arguments": {"img_resolution": 0}}, "has the 'img_resolution' 0, which is no count"),
        ({"outer": {"img_resolution": 16}}, "has the 'img_resolution' 16 around a network of 8"),
        ({"outer": {"label_dim": 10}}, "has the 'label_dim' 10 around a network of 0"),
        ({"outer": {"sigma_data": None}}, "sigma_data 0, 80.0, nan|sigma_data 0.0, 80.0, nan"),
        ({"outer": {"sigma_min": 2, "sigma_max": 1}}, "sigma_data 2.0, 1.0, 0.5"),
        ({"outer": {"sigma_max": torch.ones(1)}}, "sigma_data 0.0, nan, 0.5"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_network_that_the_file_cannot_hold_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(put_together(**changes))
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=words) as caught:
        edm.convert(path, tmp_path / "out")
    assert time.process_time() - begin < 3 and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        called("torch.storage", "_load_from_bytes", content_of(hostile.storage("FloatStorage", 0, 0, b""))) + b"K\x01b",
        dtype("f8", b"(tb]"),
        called("torch", "Size", b")") + b"K\x01a",
        called("_codecs", "encode", text("a"), text("latin1")) + text("key") + b"Ns",
    ],
)
def test_what_is_given_to_a_result_and_not_understood_is_refused(content: bytes, tmp_path: Path) -> None:
    refused(P4 + b"]" + content + b"a.", tmp_path / "a.pkl")


def test_a_name_with_line_breaks_and_escapes_is_told_in_one_line(tmp_path: Path) -> None:
    named = text("os\n\x1b[31m") + text("sys\u202etem") + b"\x93)R."
    refused(P4 + named, tmp_path / "a.pkl", r"os \\x1b\[31m.sys\\u202etem")


def test_bytes_that_are_no_bool_are_made_one(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.pkl", number(2) + b"\x85"
    array = called("numpy._core.numeric", "_frombuffer", content_of(b"\x02\x00"), dtype("b1", b"NN"), shape, text("C"))
    flags = hostile.tensor(hostile.storage("BoolStorage", 2, 2, b"\x02\x00"), number(0), shape, number(1) + b"\x85")
    path.write_bytes(P4 + b"(" + array.replace(b"NNb", b"") + flags + b"t.")
    found = edm.read(path)
    assert found[0].view(np.uint8).tolist() == [1, 0]
    assert found[1].view(torch.uint8).tolist() == [1, 0]


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_of_every_type_and_order_come_out_as_they_went_in(protocol: int, tmp_path: Path) -> None:
    codes = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", ">f8", ">i4"]
    arrays = [np.arange(6).astype(code).reshape(2, 3) for code in codes]
    arrays += [array.T for array in arrays] + [array[:, ::-1] for array in arrays] + [np.array(3.5), np.zeros((0, 3))]
    numbers = [array.flat[1] for array in arrays if array.size > 1]
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
    tensors = [torch.arange(6).reshape(2, 3).to(kind) for kind in (*kinds, torch.int8, torch.uint8, torch.bool)]
    tensors += [tensor.t() for tensor in tensors] + [torch.arange(9.0)[4:6], torch.tensor(2.5), torch.zeros(0, 2)]
    content = {"arrays": arrays, "numbers": numbers, "tensors": tensors, "set": {1, "a"}, "order": OrderedDict(a=1)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    found = edm.read(tmp_path / "a.pkl")
    for expected, array in zip(arrays, found["arrays"], strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
    assert found["numbers"] == numbers and set(found["set"]) == {1, "a"} and found["order"] == {"a": 1}
    for expected, tensor in zip(tensors, found["tensors"], strict=True):
        assert torch.equal(tensor, expected) and tensor.dtype == expected.dtype and tensor.is_contiguous()


def test_statistics_of_another_size_are_refused_before_the_work(tmp_path: Path) -> None:
    size = 3_000
    content = {"num_images": 5, "fid": {"mu": np.zeros(size), "sigma": np.eye(size)}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"a.pkl'.*mean of shape \(3000,\), not of the 4 features of 'four'"):
        load_moments(tmp_path / "a.pkl", Four())
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "content",
    [
        {"num_images": 5, "fid": {"mu": np.zeros(0), "sigma": np.zeros((0, 0))}},
        {"num_images": -5, "fid": {"mu": np.zeros(4), "sigma": np.eye(4)}},
        {"num_images": 5, "fid": {"mu": [0.0] * 4, "sigma": np.eye(4)}},
        {"num_images": 5, "fid": {"mu": np.zeros(4, bool), "sigma": np.eye(4)}},
        {"num_images": 5, "fid": {"mu": np.zeros(4), "sigma": np.full((4, 4), np.inf)}},
        {"num_images": 5, "fid": [1]},
        {"num_images": 5},
        {},
        3,
    ],
    ids=str,
)
def test_statistics_that_are_none_are_refused_with_the_files_name(content: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="a.pkl' is damaged or foreign: "):
        load_moments(tmp_path / "a.pkl", Four())


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pkl")
    for read in (edm.read, lambda path: load_moments(path, Four())):
        with pytest.raises(ValueError, match="is a FIFO, not a file"):
            read(tmp_path / "a.pkl")


def test_good_ones_are_taken(tmp_path: Path) -> None:
    for index, content in enumerate(hostile.good()):
        path = tmp_path / f"{index}.pkl"
        path.write_bytes(content)
        if index < 3:
            assert edm.convert(path, tmp_path / str(index))["network"] == "SongUNet"
        else:
            assert load_moments(path, Four()).count == 50
