"""Pickles as data.

Python's own unpickling calls what a file names, and even where the names are checked it hands the file's numbers to
their ``__setstate__``: a forged state of ``numpy.dtype`` makes numpy take eight bytes of the file for a pointer, and
one of a function of torch changes that function for the rest of the process. So a pickle is read here by a machine of
our own, over the opcodes that the standard library's ``pickletools`` takes apart. It knows containers, numbers and
text; a name stays a :class:`Name`, and what would be called or given a state becomes a :class:`Call`, which does
nothing. What those mean is for a table of meanings to say, after the file has been read.

Nothing is reserved that the file does not hold, no message prints more than a name, and shared or circular structures,
which a small file can make endless, are walked once or refused.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DEEPEST = 100  # levels of containers in containers
PLAIN = (str, int, float, bool, type(None), bytes)  # what keys and elements of sets may be


class PickleError(ValueError):
    """A pickle that is damaged, or holds something else than data."""


class Name:
    """A name of something outside the pickle."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str):
        # As Python 2 and numpy 1 had them.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        self.module, self.name = re.sub(r"^numpy\.core\b", "numpy._core", module), name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:100]


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


_PUSHED = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"}
_PUSHED |= {"SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_PUSHED |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}


class _Machine:
    """One pickle, opcode by opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # places in it
        self.memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """The object of the pickle that begins where the file stands, which stands behind it afterwards."""
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        (found,) = self.stack
        return found

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in ("PROTO", "FRAME"):
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
        self.memo[argument] = self._top()

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def do_get(self, argument: int) -> None:
        if argument not in self.memo:
            raise PickleError(f"has nothing kept as {argument}")
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
        state, owner = self._pop(), self.stack[-1]
        if type(owner) is not Call or owner.state is not None:
            raise PickleError(f"gives a state to {owner if type(owner) is Name else _kind(owner)}")
        owner.state = state

    def do_persid(self, argument: str) -> None:
        self.stack.append(Reference(argument))

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(Reference(self._pop()))


def _plain(key: Any) -> Any:
    """The key, if nothing has to be looked into for its hash: that of a deep tuple overflows the stack."""
    if type(key) not in PLAIN:
        raise PickleError(f"has {_kind(key)} for a key")
    return key


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def parse(file: io.BytesIO) -> Any:
    """The object of the pickle that begins where a file stands: containers, numbers, text, and the classes above.

    Raises:
        PickleError: it is damaged, or has an opcode or an order of opcodes that data does not.
    """
    try:
        return _Machine().run(file)
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise PickleError(f"is damaged: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


Meaning = Callable[["Interpreter", Call], Any]


class Interpreter:
    """What a parsed pickle means: plain values, arrays and tensors.

    Args:
        meanings: of what is called, by module and name; called with this interpreter and the call.
        otherwise: what is done with a name that has none: it raises, or gives another meaning.
        most: bytes that all tensors may have, which may share what the file holds once.
    """

    def __init__(self, meanings: Mapping[tuple[str, str], Meaning], otherwise: Callable[[Name], Meaning], most: int):
        self._meanings, self._otherwise, self._left = meanings, otherwise, most
        self._known: dict[int, tuple[Any, Any]] = {}  # by identity, with the node, so that none is used again
        self._inside: set[int] = set()

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

    def arguments(self, call: Call, least: int, most: int) -> list[Any]:
        """What the arguments of a call mean.

        Raises:
            PickleError: there are fewer than ``least`` or more than ``most``.
        """
        if not least <= len(call.arguments) <= most:
            raise PickleError(f"calls {call.what} with {len(call.arguments)} arguments")
        return [self.value(argument) for argument in call.arguments]

    def spend(self, size: int) -> None:
        """Count bytes that are about to be copied.

        Raises:
            PickleError: there are more than the file can be meant to hold.
        """
        self._left -= size
        if self._left < 0:
            raise PickleError("holds tensors that share memory, and have many times its size")


# ---------------------------------------------------------------------------------------------------------------------
# arrays of numpy


def _dtype(reader: Interpreter, call: Call) -> np.dtype[Any]:
    code, *flags = reader.arguments(call, 1, 3)
    state = () if call.state is None else reader.value(call.state)
    ordinary = type(state) is tuple and state[2:5] in ((), (None,) * 3) and state[7:] in ((), (0,))
    if type(code) is not str or not re.fullmatch("f[248]|[iu][1248]|b1", code) or not ordinary:
        raise PickleError("holds an array of something else than numbers")
    order = state[1] if len(state) > 1 else "="
    if order not in ("<", ">", "|", "="):
        raise PickleError("holds numbers in an order of bytes that is none")
    return np.dtype(f"{order}{code}")


def _array(data: Any, dtype: Any, shape: Any, fortran: bool) -> NDArray[Any]:
    content = data.encode("latin1") if type(data) is str else data
    sizes = list(shape) if type(shape) is tuple else [shape]
    possible = all(type(size) is int and size >= 0 for size in sizes) and len(sizes) <= 32
    if type(content) is not bytes or not isinstance(dtype, np.dtype) or not possible:
        raise PickleError("holds an array without bytes, type or shape")
    if math.prod(sizes) * dtype.itemsize != len(content):
        raise PickleError(f"holds an array of {len(content):,} bytes, which are not {sizes[:8]} numbers of {dtype}")
    return np.frombuffer(content, dtype).reshape(sizes, order="F" if fortran else "C")


def _reconstruct(reader: Interpreter, call: Call) -> NDArray[Any]:
    state = () if call.state is None else reader.value(call.state)
    if type(state) is not tuple or len(state) != 5:
        raise PickleError("holds an array without its state")
    _, shape, dtype, fortran, data = state
    return _array(data, dtype, shape, bool(fortran))


def _frombuffer(reader: Interpreter, call: Call) -> NDArray[Any]:
    data, dtype, shape, order = reader.arguments(call, 4, 4)
    return _array(data, dtype, shape, order == "F")


def _scalar(reader: Interpreter, call: Call) -> Any:
    dtype, content = reader.arguments(call, 2, 2)
    return _array(content, dtype, (), False).item()


def _encode(reader: Interpreter, call: Call) -> bytes:
    text, encoding = reader.arguments(call, 2, 2)
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise PickleError("encodes something else than bytes")
    return text.encode("latin1")


NUMPY: dict[tuple[str, str], Meaning] = {
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}

# ---------------------------------------------------------------------------------------------------------------------
# tensors of torch

MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save before it wrote zips
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.uint8,  # whose bytes may hold what no bool does
}


class _Storage:
    __slots__ = ("boolean", "values")

    def __init__(self, values: Tensor, boolean: bool):
        self.values, self.boolean = values, boolean


def _load_from_bytes(reader: Interpreter, call: Call) -> _Storage:
    """A storage as ``torch.save`` wrote it: four pickles, the list of keys, and for each a count and its values."""
    (content,) = reader.arguments(call, 1, 1)
    if type(content) is not bytes:
        raise PickleError(f"holds tensors as {_kind(content)}")
    reader.spend(len(content))
    file = io.BytesIO(content)
    magic, _, system, root, keys = (parse(file) for _ in range(5))
    id = root.id if type(root) is Reference else None
    little = type(system) is dict and system.get("little_endian") is True
    if type(magic) is not int or magic != MAGIC or not little or type(id) is not tuple:
        raise PickleError("holds tensors in a form that is not known")
    kind, storage, key, _, count, *view = id if len(id) in (5, 6) else (None,) * 5
    name = storage.name if type(storage) is Name and storage.module in ("torch", "torch.storage") else ""
    if name not in STORAGES:
        raise PickleError("holds tensors of something else than numbers")
    if kind != "storage" or type(count) is not int or count < 0 or type(key) is not str or view not in ([], [None]):
        raise PickleError("holds tensors in a form that is not known")
    if type(keys) is not list or len(keys) != 1 or type(keys[0]) is not str or keys[0] != key:
        raise PickleError("holds tensors in a form that is not known")
    dtype, raw = STORAGES[name], content[file.tell() + 8 :]
    written = int.from_bytes(content[file.tell() : file.tell() + 8], "little")
    if written != count or len(raw) != count * dtype.itemsize:
        raise PickleError(f"holds {len(raw):,} bytes for {count:,} values of {name}")
    values = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    return _Storage(values, name == "BoolStorage")


def _tensor(reader: Interpreter, call: Call) -> Tensor:
    storage, offset, size, stride, *_ = reader.arguments(call, 4, 7)
    if type(storage) is not _Storage or type(offset) is not int or not type(size) is type(stride) is tuple:
        raise PickleError("holds a tensor without its storage")
    numbers = [offset, *size, *stride]
    possible = all(type(number) is int and number >= 0 for number in numbers) and len(size) == len(stride) <= 16
    if not possible:
        raise PickleError("holds a tensor whose shape is none")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else offset
    if count > len(storage.values) or last > len(storage.values) - bool(count):
        raise PickleError(f"holds a tensor of shape {size} in a storage of {len(storage.values):,} values")
    reader.spend(count * storage.values.itemsize)
    found = torch.as_strided(storage.values, size, stride, offset).clone(memory_format=torch.contiguous_format)
    return found != 0 if storage.boolean else found


def _parameter(reader: Interpreter, call: Call) -> Any:
    return reader.arguments(call, 1, 3)[0]


TORCH: dict[tuple[str, str], Meaning] = {
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
