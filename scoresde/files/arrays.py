"""Zips, npz files and xz, unpacked only as far as their own headers and the machine's memory allow."""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from scoresde.files import RATIO, SMALL, check_unpacked, regular

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
BLOCK = 2**20  # bytes
WITHIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of which zipfile unpacks no more than it is asked for


def entries(archive: zipfile.ZipFile, name: str, packed: int) -> list[zipfile.ZipInfo]:
    """What is in a zip of ``packed`` bytes.

    Raises:
        ValueError: by its table it would unpack to more than :func:`scoresde.files.check_unpacked` allows.
    """
    found = archive.infolist()
    check_unpacked(name, packed, sum(entry.file_size for entry in found))
    return found


def opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    """An entry of a zip, to be read in blocks, which ends where the table says; its checksum is checked.

    Raises:
        zipfile.BadZipFile, NotImplementedError, …: what is packed so, or damaged so, that it cannot be read. So does
            reading; anything may come.
    """
    if entry.compress_type in WITHIN:
        return archive.open(entry)
    if entry.compress_type not in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        raise NotImplementedError(f"{entry.filename!r} is packed by method {entry.compress_type}: use deflate")
    # Of these zipfile unpacks all that a block holds, which may be a million times as much.
    stored = copy.copy(entry)
    stored.compress_type, stored.file_size = zipfile.ZIP_STORED, entry.compress_size
    del stored.CRC  # which is of what is unpacked
    with archive.open(stored) as file:
        packed = rest(file)
    if entry.compress_type == zipfile.ZIP_BZIP2:
        unpacked = bz2.BZ2Decompressor().decompress(packed, entry.file_size + 1)
    else:
        _, size, properties, dictionary = struct.unpack_from("<HHBI", packed)  # of LZMA's software development kit
        one = {"id": lzma.FILTER_LZMA1, "dict_size": max(4096, min(dictionary, entry.file_size))}
        one |= {"lc": properties % 9, "lp": properties // 9 % 5, "pb": properties // 45}
        stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[one])
        unpacked = stream.decompress(packed[4 + size :], entry.file_size + 1)
    if len(unpacked) != entry.file_size or zlib.crc32(unpacked) != entry.CRC:
        raise zipfile.BadZipFile(f"{entry.filename!r} is not what the table says")
    return io.BytesIO(unpacked)


def rest(file: IO[bytes]) -> bytes:
    """All that is left of a file, unpacked block by block: never more than the file is to hold."""
    found = bytearray()
    while block := file.read(BLOCK):
        found += block
    return bytes(found)


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
        except Exception as error:  # of a damaged archive anything may come
            raise ValueError(f"{self._name} is not a whole npz: {line(error)}") from error
        members = entries(self._archive, self._name, size)
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ValueError(f"{self._name} is not a whole npz: two arrays in it have one name")

    @property
    def files(self) -> list[str]:
        """Names of the arrays."""
        return list(self._members)

    @property
    def held(self) -> str:
        """The first names, for errors."""
        return ", ".join(repr(name[:40]) for name in self.files[:10]) or "nothing"

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def get(self, key: str) -> NDArray[Any] | None:
        """The array of that name, None if there is none."""
        if key not in self._members:
            return None
        return self[key]

    def __getitem__(self, key: str) -> NDArray[Any]:
        if key not in self._members:
            raise ValueError(f"{self._name} lacks {key!r}; it holds {self.held}")
        with self._readable():
            return self._read(self._members[key])

    def described(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of an array, which is not read.

        Raises:
            ValueError: as for reading it.
        """
        with self._readable(), opened(self._archive, self._members[key]) as file:
            shape, _, dtype = self._header(file, self._members[key])
        return shape, dtype

    def rows(self, key: str, count: int) -> Iterator[NDArray[Any]]:
        """The array in parts of at most ``count`` along its first axis; one that lies column by column at once.

        Raises:
            ValueError: as for reading it.
        """
        member: Any = self._members[key]
        with self._readable(), opened(self._archive, member) as file:
            shape, fortran, dtype = self._header(file, member)
            row = math.prod(shape[1:]) * dtype.itemsize
            if not fortran and len(shape) > 1 and row:
                for first in range(0, shape[0], count):
                    part = min(count, shape[0] - first)
                    yield np.frombuffer(self._filled(file, part * row), dtype).reshape(part, *shape[1:])
                if file.read(1):
                    raise EOFError("it does not end where it should")
                return
        whole = self[key]
        for first in range(0, len(whole), count):
            yield whole[first : first + count]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a damaged archive anything may come
            raise ValueError(f"{self._name} is not a readable npz: {line(error)}") from error

    def _read(self, member: zipfile.ZipInfo) -> NDArray[Any]:
        with opened(self._archive, member) as file:
            shape, fortran, dtype = self._header(file, member)
            content = self._filled(file, size := math.prod(shape) * dtype.itemsize)
            if file.read(1):
                raise EOFError(f"it does not end after {size:,} bytes")
        array = np.frombuffer(content, dtype) if size else np.zeros(0, dtype)
        return array.reshape(shape, order="F" if fortran else "C")

    @staticmethod
    def _header(file: Any, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"version {version} of the npy format is not known")
        shape, fortran, dtype = HEADERS[version](file)
        if dtype.hasobject or dtype.fields or dtype.subdtype or not dtype.itemsize:
            raise ValueError(f"an array of {dtype} is not of numbers or text (allow_pickle=False)")
        size, left = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if min((0, *shape)) < 0 or size != left:
            raise ValueError(f"an array of {dtype} {shape} has {size:,} bytes, and {left:,} follow")
        return shape, fortran, dtype

    @staticmethod
    def _filled(file: Any, size: int) -> bytearray:
        content = bytearray(size)
        view, filled = memoryview(content), 0
        while filled < size and (count := file.readinto(view[filled : filled + BLOCK])):
            filled += count
        if filled < size:
            raise EOFError(f"it breaks off after {filled:,} of {size:,} bytes")
        return content

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *failure: object) -> None:
        self._archive.close()


def line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def unpack_xz(path: Path) -> bytes:
    """What is in a file that xz has packed.

    Raises:
        ValueError: it would unpack to more than :func:`scoresde.files.check_unpacked` allows.
        lzma.LZMAError, EOFError: it is damaged.
    """
    name, packed, found = repr(str(path)), path.stat().st_size, bytearray()
    most = max(SMALL, RATIO * packed)
    check_unpacked(name, packed, packed)  # or it may be padding that never ends
    with lzma.open(path) as stream:
        while block := stream.read(BLOCK):
            found += block
            if len(found) > most or len(found) % SMALL < BLOCK:  # now and then of the memory too
                check_unpacked(name, packed, len(found))
    return bytes(found)
