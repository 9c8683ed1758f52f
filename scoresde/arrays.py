"""npz files and xz, unpacked only as far as their own headers and the machine's memory allow."""

from __future__ import annotations

import io
import lzma
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from scoresde.files import RATIO, SMALL, check_unpacked, regular

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
BLOCK = 2**20  # bytes


class Npz:
    """The arrays in an npz, each read when it is asked for.

    An array is read only if its header and the bytes that follow say the same, so that no header makes us reserve
    memory, and holds numbers or text alone: nothing is unpickled.

    Args:
        source: a file, or its content.
        name: of it, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no npz, damaged, or would unpack to more than :func:`scoresde.files.check_unpacked` allows. So
            does reading an array.
    """

    def __init__(self, source: str | Path | bytes, name: str = ""):
        self._name = name or repr(str(source))
        if isinstance(source, bytes):
            file, size = io.BytesIO(source), len(source)
        else:
            path = regular(source)
            file, size = path, path.stat().st_size
        try:
            self._archive = zipfile.ZipFile(file)
            members = self._archive.infolist()
        except Exception as error:  # of a damaged archive anything may come
            raise ValueError(f"{self._name} is not a whole npz: {_line(error)}") from error
        check_unpacked(self._name, size, sum(member.file_size for member in members))
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ValueError(f"{self._name} is not a whole npz: two arrays in it have one name")

    @property
    def files(self) -> list[str]:
        """Names of the arrays."""
        return list(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def get(self, key: str) -> NDArray[Any] | None:
        """The array of that name, None if there is none."""
        if key not in self._members:
            return None
        return self[key]

    def __getitem__(self, key: str) -> NDArray[Any]:
        if key not in self._members:
            raise ValueError(f"{self._name} lacks {key!r}; it holds {', '.join(map(repr, self.files[:10]))}")
        try:
            return self._read(self._members[key])
        except Exception as error:
            raise ValueError(f"{self._name} is not a readable npz: {_line(error)}") from error

    def _read(self, member: zipfile.ZipInfo) -> NDArray[Any]:
        file: Any
        with self._archive.open(member) as file:
            version = npy.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"version {version} of the npy format is not known")
            shape, fortran, dtype = HEADERS[version](file)
            if dtype.hasobject or dtype.fields or dtype.subdtype:
                raise ValueError(f"an array of {dtype} holds more than numbers and text (allow_pickle=False)")
            size, left = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
            if min((0, *shape)) < 0 or size != left:
                raise ValueError(f"an array of {dtype} {shape} has {size:,} bytes, and {left:,} follow")
            content = bytearray(size)
            view, filled = memoryview(content), 0
            while filled < size and (count := file.readinto(view[filled : filled + BLOCK])):
                filled += count
            if filled < size or file.read(1):
                raise EOFError(f"it breaks off after {filled:,} of {size:,} bytes")
        array = np.frombuffer(content, dtype) if size else np.zeros(math.prod(shape), dtype)
        return array.reshape(shape, order="F" if fortran else "C")

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *failure: object) -> None:
        self._archive.close()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def unpack_xz(content: bytes, name: str) -> bytes:
    """What xz has packed.

    Args:
        content: of the file.
        name: of it, for errors.

    Raises:
        ValueError: it would unpack to more than :func:`scoresde.files.check_unpacked` allows.
        lzma.LZMAError, EOFError: it is damaged.
    """
    packed, found = len(content), bytearray()
    most = max(SMALL, RATIO * packed)
    while content:
        stream = lzma.LZMADecompressor(memlimit=SMALL)
        while not stream.eof:
            block = stream.decompress(content, BLOCK)
            content = b""
            if not block and stream.needs_input and not stream.eof:
                raise EOFError("it breaks off")
            found += block
            if len(found) > most:
                check_unpacked(name, packed, len(found))
        content = stream.unused_data.lstrip(b"\0")  # streams may follow each other, with padding between
    return bytes(found)
