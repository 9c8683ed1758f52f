"""Pickles as data.

Python's own unpickling calls what a file names, and even where the names are checked it hands the file's numbers to
their ``__setstate__``: a forged state of ``numpy.dtype`` makes numpy take eight bytes of the file for a pointer, and
one of a function of torch changes that function for the rest of the process. So a pickle is read here by a machine of
our own, over the opcodes that the standard library's ``pickletools`` takes apart. It knows containers, numbers and
text; a name stays a :class:`Name`, and what would be called or given a state becomes a :class:`Call`, which does
nothing. What those mean is for a table of meanings to say, after the file has been read.

Nothing is reserved that the file does not hold, no message prints more than a few words of it, and shared or circular
structures, which a small file can make endless, are walked once or refused.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoresde.files import regular
from scoresde.files.text import plain

DEEPEST = 64  # levels of containers in containers; EDM's files have about 30
MOST = 2_000_000  # opcodes of a file, with all that is pickled within it, and entries copied; EDM's have about 50,000
SHARED = 4  # times the file's size, which its tensors may have together
LONGEST = 200  # letters of a name
LARGEST = 512  # bits of a whole number, of which a float can be made
DIGITS = 200  # of a whole number as text, whose reading takes the square of their count
INDEX = 2**20  # below which a whole number may be a key, and an entry of the memo lies
PLAIN = (str, int, float, bool, type(None), bytes)


class PickleError(ValueError):
    """A pickle that is damaged, or holds something else than data."""


class Name:
    """A name of something outside the pickle."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str):
        # As Python 2 and numpy 1 had them.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        self.module, self.name = re.sub(r"^numpy\.core\b", "numpy._core", module), name
        if max(len(module), len(name)) > LONGEST:
            raise PickleError(f"holds a name of more than {LONGEST} letters: {self}")

    def __str__(self) -> str:
        return plain(f"{self.module[:LONGEST]}.{self.name[:LONGEST]}")[:LONGEST]


class Call:
    """What would be made by calling something, and then given a state, items or elements."""

    __slots__ = ("arguments", "elements", "items", "state", "what")

    def __init__(self, what: Any, arguments: tuple[Any, ...]):
        self.what, self.arguments, self.state = what, arguments, None
        self.items: list[tuple[Any, Any]] = []
        self.elements: list[Any] = []


class Reference:
    """What a program keeps outside the pickle, by its own name for it."""

    __slots__ = ("id",)

    def __init__(self, id: Any):
        self.id = id


def told(values: Iterable[Any]) -> str:
    """The first few of some keys or values, in a few words each."""
    return ", ".join(_told(value) for value in itertools.islice(values, 10))


def _told(value: Any) -> str:
    if type(value) is str:
        return repr(plain(value[:40]))
    return str(value)[:40] if type(value) in (int, float, bool, type(None)) else _kind(value)


class _Source:
    """What ``pickletools`` reads from, which asks for as many bytes as the file says: for no more than there are."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self.size = file, size
        self.tell = file.tell
        self._code = b""

    def read(self, size: int) -> bytes:
        self._code = self._file.read(min(size, max(0, self.size - self._file.tell())))
        return self._code

    def readline(self) -> bytes:
        if self._code not in (b"I", b"L", b"g", b"p"):  # those that a decimal follows
            return self._file.readline()
        line = self._file.readline(DIGITS)
        if not line.endswith(b"\n"):
            raise PickleError(f"holds a whole number of more than {DIGITS - 1} digits")
        return line


_PUSHED = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"}
_PUSHED |= {"SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_PUSHED |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}


class _Machine:
    """One pickle, opcode by opcode."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.marks: list[int] = []  # places in it
        self.memo: dict[int, Any] = {}

    def run(self, count: Callable[[int], None]) -> Any:
        """The object of the pickle that begins where the source stands, which stands behind it afterwards."""
        for opcode, argument, _ in pickletools.genops(self.source):  # type: ignore[arg-type]
            count(1)
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        if len(self.stack) != 1 or self.marks:
            raise PickleError(f"ends with {len(self.stack)} values and {len(self.marks)} marks in place of one value")
        return self.stack[0]

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            if type(argument) is int and argument.bit_length() > LARGEST:
                raise PickleError(f"holds a whole number of {argument.bit_length():,} bits")
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "PROTO":
            if argument > 5:
                raise PickleError(f"is of protocol {argument}, which is not known")
        elif name == "FRAME":
            if argument > self.source.size - self.source.tell():
                raise PickleError(f"is damaged: it ends within a frame of {argument:,} bytes")
        else:
            action = getattr(self, f"do_{name.lower()}", None)
            if action is None:
                raise PickleError(f"holds the opcode {name}, which has no place among data")
            action(argument)

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("takes more values than there are")
        return self.stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self.stack.pop()

    def _marked(self) -> list[Any]:
        if not self.marks:
            raise PickleError("takes what follows a mark where there is none")
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def do_mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def do_pop(self, _: Any) -> None:
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self._pop()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self._top())

    def do_pop_mark(self, _: Any) -> None:
        self._marked()

    # containers

    def do_list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def do_append(self, _: Any) -> None:
        self._extend([self._pop()])

    def do_appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        owner = self._top()
        if type(owner) is list:
            owner.extend(values)
        elif type(owner) is Call:
            owner.elements.extend(values)
        else:
            raise PickleError(f"appends to {_kind(owner)}")

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def do_tuple1(self, _: Any) -> None:
        self.stack.append((self._pop(),))

    def do_tuple2(self, _: Any) -> None:
        last, first = self._pop(), self._pop()
        self.stack.append((first, last))

    def do_tuple3(self, _: Any) -> None:
        last, middle, first = self._pop(), self._pop(), self._pop()
        self.stack.append((first, middle, last))

    def do_dict(self, _: Any) -> None:
        values = self._marked()
        self.stack.append({})
        self._set(values)

    def do_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def do_setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        owner, pairs = self._top(), list(zip(values[::2], values[1::2], strict=True))
        if type(owner) is dict:
            for key, value in pairs:
                owner[_plain(key)] = value
        elif type(owner) is Call:
            owner.items.extend((_plain(key), value) for key, value in pairs)
        else:
            raise PickleError(f"sets an item of {_kind(owner)}")

    def do_additems(self, _: Any) -> None:
        values, owner = self._marked(), self._top()
        if type(owner) is not set:
            raise PickleError(f"adds to {_kind(owner)}")
        owner.update(map(_plain, values))

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(set(map(_plain, self._marked())))

    # the memo

    def do_put(self, argument: int) -> None:
        if not 0 <= argument < INDEX:  # other numbers may be chosen such that their hashes collide
            raise PickleError(f"keeps something as {_told(argument)}, and is too small for so many things")
        self.memo[argument] = self._top()

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def do_get(self, argument: int) -> None:
        if argument not in self.memo:
            raise PickleError(f"has nothing kept as {_told(argument)}")
        self.stack.append(self.memo[argument])

    do_binget = do_long_binget = do_get

    # what would run something

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def do_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise PickleError(f"names something by {_kind(module)} and {_kind(name)}")
        self.stack.append(Name(module, name))

    def do_reduce(self, _: Any) -> None:
        arguments, what = self._pop(), self._pop()
        self._call(what, arguments)

    do_newobj = do_reduce

    def do_newobj_ex(self, _: Any) -> None:
        named, arguments, what = self._pop(), self._pop(), self._pop()
        if named:
            raise PickleError("makes an object with named arguments")
        self._call(what, arguments)

    def do_inst(self, argument: str) -> None:
        arguments = tuple(self._marked())
        self.do_global(argument)
        self._call(self._pop(), arguments)

    def do_obj(self, _: Any) -> None:
        what, *arguments = self._marked()
        self._call(what, tuple(arguments))

    def _call(self, what: Any, arguments: Any) -> None:
        if type(what) is not Name or type(arguments) is not tuple:
            raise PickleError(f"calls {_kind(what)} with {_kind(arguments)}")
        self.stack.append(Call(what, arguments))

    def do_build(self, _: Any) -> None:
        state, owner = self._pop(), self._top()
        if type(owner) is not Call or owner.state is not None:
            raise PickleError(f"gives a state to {owner if type(owner) is Name else _kind(owner)}")
        owner.state = state

    def do_persid(self, argument: str) -> None:
        self.stack.append(Reference(argument))

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(Reference(self._pop()))


def is_key(value: Any) -> bool:
    """Whether a value may be the key of a mapping or the element of a set.

    Nothing is looked into for its hash, since that of a deep tuple overflows the stack; and the hashes cannot be chosen
    such that all collide, which those of large numbers can: n such keys take n² comparisons.
    """
    return type(value) in (str, bytes, bool, type(None)) or type(value) is int and abs(value) < INDEX


def _plain(key: Any) -> Any:
    if not is_key(key):
        raise PickleError(f"has {_told(key)} for a key")
    return key


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


Meaning = Callable[["Interpreter", Call], Any]


def load(path: str | Path, meanings: Mapping[tuple[str, str], Meaning], otherwise: Callable[[Name], Meaning]) -> Any:
    """What the pickle in a file means: plain values, arrays, tensors, and what a table of meanings makes.

    Args:
        path: of a regular file.
        meanings: of what is called, by module and name; called with an :class:`Interpreter` and the call.
        otherwise: what is done with a name that has none: it raises, or gives another meaning.

    Raises:
        OSError, ValueError: there is no such file, or it is none (see :func:`scoresde.files.regular`).
        PickleError: it is damaged, or holds something else than data.
    """
    with open(regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            reader = Interpreter(meanings, otherwise, size)
            return reader.value(reader.parse(file, size))
        except (PickleError, OSError):
            raise
        except MemoryError as error:
            raise PickleError(f"needs more memory than there is, for its {size:,} bytes") from error
        except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
            raise PickleError(f"is damaged: {plain(error)[:200] or type(error).__name__}") from error


class Interpreter:
    """What a parsed pickle means.

    Args:
        meanings, otherwise: as for :func:`load`.
        size: of the file, in bytes.
    """

    def __init__(self, meanings: Mapping[tuple[str, str], Meaning], otherwise: Callable[[Name], Meaning], size: int):
        self._meanings, self._otherwise = meanings, otherwise
        self._bytes, self._count = SHARED * size, MOST  # that are left
        self._known: dict[int, tuple[Any, Any]] = {}  # by identity, with the node, so that none is used again
        self._inside: set[int] = set()

    def parse(self, file: BinaryIO, size: int) -> Any:
        """The nodes of the pickle that begins where a file of that size stands, which stands behind it afterwards.

        Raises:
            PickleError: it has an opcode or an order of opcodes that data does not, or too many of them.
        """
        return _Machine(_Source(file, size)).run(self.count)

    def count(self, parts: int) -> None:
        """Count what is about to be made.

        Raises:
            PickleError: it is more than any file that is meant to be read has.
        """
        self._count -= parts
        if self._count < 0:
            raise PickleError(f"has more than {MOST:,} parts")

    def value(self, node: Any) -> Any:
        """What a node means; one that is met again means the same object.

        Raises:
            PickleError: it holds itself, is too deep, or holds what has no meaning.
        """
        if type(node) in PLAIN:
            return node
        if id(node) in self._known:
            return self._known[id(node)][1]
        if id(node) in self._inside:
            raise PickleError("holds an object that holds itself")
        if len(self._inside) >= DEEPEST:
            raise PickleError(f"is more than {DEEPEST} levels deep")
        self._inside.add(id(node))
        found = self._of(node)
        self._inside.remove(id(node))
        self._known[id(node)] = node, found
        return found

    def _of(self, node: Any) -> Any:
        if type(node) is dict:
            return {key: self.value(value) for key, value in node.items()}
        if type(node) in (list, tuple):
            return type(node)(self.value(value) for value in node)
        if type(node) is set:
            return set(node)
        if type(node) is not Call:
            if type(node) is Name:
                self._otherwise(node)
            raise PickleError(f"holds {node if type(node) is Name else _kind(node)} where a value should be")
        meaning = self._meanings.get((node.what.module, node.what.name)) or self._otherwise(node.what)
        return meaning(self, node)

    def arguments(self, call: Call, least: int, most: int, *further: str) -> list[Any]:
        """What the arguments of a call mean.

        Args:
            call: what is called, and with what.
            least, most: how many there may be.
            further: what may be given to its result: ``state``, ``items``, ``elements``.

        Raises:
            PickleError: there are fewer or more, or something else is given to the result.
        """
        if not least <= len(call.arguments) <= most:
            raise PickleError(f"calls {call.what} with {len(call.arguments)} arguments")
        for part in {"state", "items", "elements"}.difference(further):
            if getattr(call, part):
                raise PickleError(f"gives {part} to what {call.what} makes")
        return [self.value(argument) for argument in call.arguments]

    def spend(self, size: int) -> None:
        """Count bytes that are about to be copied.

        Raises:
            PickleError: there are more than the file can be meant to hold.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise PickleError("holds values that share memory, and have many times its size")


# ---------------------------------------------------------------------------------------------------------------------
# arrays of numpy


def _dtype(reader: Interpreter, call: Call) -> np.dtype[Any]:
    code, *_ = reader.arguments(call, 1, 3, "state")
    state = (3, "=", None, None, None, -1, -1, 0) if call.state is None else call.state
    ordinary = type(state) is tuple and len(state) == 8 and all(type(entry) in PLAIN for entry in state)
    if type(code) is not str or not re.fullmatch("f[248]|[iu][1248]|b1", code) or not ordinary:
        raise PickleError("holds an array of something else than numbers")
    _, order, *parts, _, _, flags = state  # parts of a structure, and what its memory needs
    if any(part is not None for part in parts) or flags != 0:
        raise PickleError("holds an array of something else than numbers")
    if order not in ("<", ">", "|", "="):
        raise PickleError("holds numbers in an order of bytes that is none")
    return np.dtype(f"{order}{code}")


def _array(reader: Interpreter, data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if type(data) is str:  # as Python 2 has bytes
        reader.spend(len(data))
        data = data.encode("latin1")
    sizes = _sizes(shape if type(shape) is tuple else (shape,))
    if type(data) is not bytes or not isinstance(dtype, np.dtype) or sizes is None:
        raise PickleError("holds an array without bytes, type or shape")
    if math.prod(sizes) * dtype.itemsize != len(data):
        raise PickleError(f"holds an array of {len(data):,} bytes, which are not [{told(sizes)}] numbers of {dtype}")
    if dtype.kind != "b":
        return np.ndarray(sizes, dtype, data, order=order)  # type: ignore[call-overload]
    reader.spend(len(data))  # bytes may hold what no bool does
    return np.asarray(np.ndarray(sizes, np.uint8, data, order=order) != 0)  # type: ignore[call-overload]


def _sizes(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """A shape, if it is one that memory can have, even where it holds nothing."""
    possible = len(values) <= 32 and all(type(value) is int and 0 <= value < 2**40 for value in values)
    return values if possible and math.prod(max(1, value) for value in values) < 2**48 else None


def _reconstruct(reader: Interpreter, call: Call) -> NDArray[Any]:
    """``_reconstruct(numpy.ndarray, (0,), b"b")``, whose state is (version, shape, dtype, fortran, data)."""
    kind, state = call.arguments[0] if call.arguments else None, reader.value(call.state)
    if type(kind) is not Name or (kind.module, kind.name) != ("numpy", "ndarray") or call.items or call.elements:
        raise PickleError("holds an array that is no numpy.ndarray")
    if type(state) is not tuple or len(state) != 5 or type(state[3]) not in (bool, int):
        raise PickleError("holds an array without its state")
    _, shape, dtype, fortran, data = state
    return _array(reader, data, dtype, shape, "F" if fortran else "C")


def _frombuffer(reader: Interpreter, call: Call) -> NDArray[Any]:
    data, dtype, shape, order = reader.arguments(call, 4, 4)
    if type(order) is not str or order not in ("C", "F"):
        raise PickleError("holds an array in an order that is none")
    return _array(reader, data, dtype, shape, order)


def _scalar(reader: Interpreter, call: Call) -> Any:
    dtype, content = reader.arguments(call, 2, 2)
    return _array(reader, content, dtype, (), "C").item()


def _encode(reader: Interpreter, call: Call) -> bytes:
    text, encoding = reader.arguments(call, 2, 2)
    if type(text) is not str or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise PickleError("encodes something else than bytes")
    reader.spend(len(text))
    return text.encode("latin1")


def _no_bytes(reader: Interpreter, call: Call) -> bytes:
    """``bytes()``, as protocols before 3 have none at all."""
    return b"".join(reader.arguments(call, 0, 0))


NUMPY: dict[tuple[str, str], Meaning] = {
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
}

# ---------------------------------------------------------------------------------------------------------------------
# tensors of torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before it wrote zips
STORAGES: dict[str, tuple[str, torch.dtype]] = {  # how numpy reads what torch wrote
    "DoubleStorage": ("<f8", torch.float64),
    "FloatStorage": ("<f4", torch.float32),
    "HalfStorage": ("<f2", torch.float16),
    "BFloat16Storage": ("<i2", torch.bfloat16),
    "LongStorage": ("<i8", torch.int64),
    "IntStorage": ("<i4", torch.int32),
    "ShortStorage": ("<i2", torch.int16),
    "CharStorage": ("i1", torch.int8),
    "ByteStorage": ("u1", torch.uint8),
    "BoolStorage": ("u1", torch.bool),
}


class _Storage:
    """Numbers within some bytes."""

    __slots__ = ("content", "count", "kind", "start")

    def __init__(self, content: bytes, start: int, count: int, kind: str):
        self.content, self.start, self.count, self.kind = content, start, count, kind


def _load_from_bytes(reader: Interpreter, call: Call) -> _Storage:
    """A storage as ``torch.save`` wrote it: four pickles, the list of keys, and for each a count and its values."""
    (content,) = reader.arguments(call, 1, 1)
    if type(content) is not bytes:
        raise PickleError(f"holds tensors as {_kind(content)}")
    reader.spend(len(content))
    file = io.BytesIO(content)
    magic, protocol, system, root, keys = (reader.parse(file, len(content)) for _ in range(5))
    little = type(system) is dict and system.get("little_endian") is True
    known = type(magic) is int and magic == MAGIC and type(protocol) is int and protocol == PROTOCOL and little
    id = root.id if type(root) is Reference else None
    if not known or type(id) is not tuple or len(id) not in (5, 6):
        raise PickleError("holds tensors in a form that is not known")
    what, storage, key, _, count, *view = id
    name = storage.name if type(storage) is Name and storage.module in ("torch", "torch.storage") else ""
    if name not in STORAGES:
        raise PickleError(f"holds tensors of {storage if type(storage) is Name else _kind(storage)}, not of numbers")
    alone = type(keys) is list and len(keys) == 1 and type(key) is str and type(keys[0]) is str and keys[0] == key
    if type(what) is not str or what != "storage" or type(count) is not int or view not in ([], [None]) or not alone:
        raise PickleError("holds tensors in a form that is not known")
    written, start = int.from_bytes(file.read(8), "little", signed=True), file.tell()
    if not written == count >= 0 or len(content) - start != count * np.dtype(STORAGES[name][0]).itemsize:
        raise PickleError(f"holds {len(content) - start:,} bytes for {count:,} values of {name}")
    return _Storage(content, start, count, name)


def _tensor(reader: Interpreter, call: Call) -> Tensor:
    storage, offset, size, stride, *_ = reader.arguments(call, 4, 7)
    if type(storage) is not _Storage or type(offset) is not int or not type(size) is type(stride) is tuple:
        raise PickleError("holds a tensor without its storage")
    sizes = _sizes(size)
    possible = len(size) == len(stride) and all(type(n) is int and 0 <= n < 2**40 for n in (offset, *stride))
    if sizes is None or not possible:
        raise PickleError("holds a tensor whose shape is none")
    count = math.prod(sizes)
    last = offset + sum((n - 1) * step for n, step in zip(sizes, stride, strict=True)) if count else offset - 1
    if count > storage.count or last >= storage.count:
        raise PickleError(f"holds a tensor of shape [{told(sizes)}] in a storage of {storage.count:,} values")
    written, kind = STORAGES[storage.kind]
    dtype = np.dtype(written)
    reader.spend(count * dtype.itemsize)
    steps = [step * dtype.itemsize if n > 1 else 0 for n, step in zip(sizes, stride, strict=True)]
    place = storage.start + offset * dtype.itemsize if count else 0
    values = np.ndarray(sizes, dtype, storage.content, place, steps)
    if kind == torch.bool:  # whose bytes may hold what no bool does
        return torch.from_numpy(np.asarray(values.copy("C") != 0))
    return torch.from_numpy(values.astype(dtype.newbyteorder("="), order="C")).view(kind)


def _parameter(reader: Interpreter, call: Call) -> Tensor:
    value, *_ = reader.arguments(call, 1, 3)
    if not isinstance(value, Tensor):
        raise PickleError("holds a parameter that is no tensor")
    return value


TORCH: dict[tuple[str, str], Meaning] = {
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
