"""Images for training and reference statistics, from wherever the user has them.

Seven sources: a folder of images, a zip or tar of images, WebDatasets, tables of Hugging Face, an npz (also
xz-compressed), the folder of a run of ``scoresde sample``, and scikit-learn's digits. Images in folders named after
classes carry those classes, in sorted order (by number where all are numbers), as labels 0, 1, …; a ``dataset.json``
beside them, as EDM and StyleGAN write it, gives the labels itself. Pictures are seen as viewers show them: upright by
their EXIF, and on white where they are transparent.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import logging
import lzma
import math
import os
import re
import stat
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from scoresde.data.errors import DataError, DataWarning
from scoresde.data.resizing import FILTER, Resizing
from scoresde.data.sources import SUFFIXES, is_dropping, is_table, located, parts, walk
from scoresde.data.tables import Columns, Table
from scoresde.files import RATIO, SMALL, check_unpacked, digest, digest_of, regular
from scoresde.files.arrays import Npz, entries, line, opened, rest, unpack_xz

# Pictures are read by their content, and by these decoders alone: others of Pillow's run programs.
DECODERS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# How pictures begin that need no suffix to be known; no text does.
BEGINNINGS = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP|GIF8[79]a|II[*+]\0|MM\0[*+]", re.DOTALL)
BEGINNING = 16  # bytes to tell by
READS = 8  # times that a decoder may read a picture: of a TIFF 60,000 tags may each lead to the whole file
SCANS = 100  # of a JPEG, each of which goes over the whole picture in a few bytes; common are 1 to 12
EXIF = re.compile(rb"\xff\xe1..Exif\0\0", re.DOTALL)
ORIENTATION = 0x0112  # EXIF's tag of how a picture is to be turned, and what that takes by its value
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIFS = 3  # segments of a JPEG: one, and those of pictures within it; Pillow before 13 joins them to any size
LARGEST = 2**30  # bytes of a picture's file
LOADED = 4096  # images of an array that are copied at once
KINDS = 8  # of files left out that are named
BROKEN = 8  # pictures that cannot be read that are named
# Of cameras and phones, as their names end: what they hold is no picture that is read here, whatever they begin as.
UNREAD = {
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".nrw",
    ".arw",
    ".orf",
    ".rw2",
    ".pef",
    ".raf",
}
SKLEARN = "digits"  # the name of scikit-learn's
LISTED = "dataset.json"  # of EDM and StyleGAN: {"labels": [[name, label], …]}, or null for none
LARGEST_LIST = 2**28  # bytes of it
MOST_CLASSES = 10**6
CLASS_FILES = {".cls", ".json"}  # of a sample of a WebDataset: its class, or {"label": class} among other things
LARGEST_CLASS = 2**20  # bytes of one
CLASS = re.compile(rb"\s*([0-9]{1,9})\s*")
MOST_CHANNELS = 16
HEADERS = 2**20  # bytes of all headers of one member of a tar
DIGITS = re.compile(rb"[0-9]{100}")  # no header has them; Python before 3.12.6 takes quadratic time over them
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of a damaged picture is said by the error


@dataclass(frozen=True)
class Images:
    """Images as uint8 of shape (n, channels, height, width), and labels of shape (n,) as int64, or None.

    ``names`` are those of the classes, in the order of the labels, where folders had such. With ``rows`` they are these
    rows of ``pixels`` alone, which are not copied.
    """

    pixels: Tensor
    labels: Tensor | None
    names: tuple[str, ...] = ()
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes, the largest label + 1; 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    def take(self, index: Tensor) -> Images:
        """A copy of some of the images, in this order."""
        rows, labels = self._at(index)
        return Images(self.pixels[rows], labels, self.names)

    def part(self, index: Tensor) -> Images:
        """Some of the images, in this order, without a copy of their pixels."""
        rows, labels = self._at(index)
        return Images(self.pixels, labels, self.names, rows)

    def _at(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows of ``pixels``, and labels."""
        rows = index if self.rows is None else self.rows[index]
        return rows, None if self.labels is None else self.labels[index]

    def chunks(self) -> Iterator[Tensor]:
        """The pixels of all of them, some images at a time."""
        for index in torch.arange(len(self)).split(LOADED):
            yield self.take(index).pixels


def to_state(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [−1, 1]."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(state: Tensor) -> Tensor:
    """[−1, 1] to uint8, rounded to the nearest and clipped."""
    return ((state.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load(
    source: str | Path, split: str = "train", resizing: Resizing | None = None, columns: Columns | None = None
) -> Images:
    """Read all images of a source into memory.

    Args:
        source: ``"digits"`` (scikit-learn's 8×8 digits), a folder, a ``.zip``, a tar (compressed or not), or an
            ``.npz``/``.npz.xz`` with ``{split}_images`` (and ``{split}_labels``), ``images`` (and ``labels``),
            ``x_{split}`` (and ``y_{split}``) or ``arr_0`` (and ``arr_1``), channels first or last, labels (n,) or
            (n, 1); or what ``scoresde sample`` wrote: its folder, ``samples.npz``, ``shards/``, ``images/`` or zip. In
            a tar, ``000001.cls``, or ``"label"`` in ``000001.json``, is the class of ``000001.jpg``, as WebDatasets
            have it; several are read by a pattern, ``train-{000..127}.tar``, or a folder of them. ``.parquet`` files of
            the Hugging Face hub, ``.arrow`` files, folders of either, and what ``datasets.save_to_disk`` wrote.
        split: prefix of the arrays in an npz, "train" or "test"; the last fifth of digits is "test"; of a folder of
            tars or tables, a word in their names, or in that of a folder around them, if any has such a one.
        resizing: what becomes of each picture first; None leaves them as they are.
        columns: of tables; None reads those that alone can be meant.

    Raises:
        DataError: nothing there, no images in it, images of several sizes, of more than 8 bits or with several frames,
            labels that are not one integer per image from 0 to 10⁶, classes of some images alone, an unknown split or
            column, a damaged file, a link or one name twice in an archive, something that is no file or may not be
            read, what would unpack to more than memory should hold, or what needs a package that is not installed.

    Warns:
        DataWarning: files are left out that are no pictures by name or content.
    """
    stream = Stream(source, split, resizing, columns)
    pixels, shape, count = bytearray(), None, 0  # of all pictures after each other, so that they are in memory once
    for batch in stream.batches(1 if stream.pictures else LOADED):
        shape, count = batch.shape[1:], count + len(batch)
        pixels += batch.numpy().tobytes()
        check_unpacked(repr(str(source)), len(pixels), len(pixels))
    assert shape is not None
    found = torch.frombuffer(pixels, dtype=torch.uint8).view(count, *shape)
    return Images(found, stream.labels, stream.names)


def picture(path: str | Path, height: int, width: int, channels: int) -> Tensor:
    """One picture in a file, as a viewer shows it, resized by Lanczos's filter; uint8 (channels, height, width).

    Args:
        path: of the file.
        height, width: in pixels.
        channels: 1 makes it grey, 3 colour.

    Raises:
        DataError: no such file, or none of a picture that :func:`load` would read.
    """
    place = Path(path).expanduser()
    where = repr(str(path))
    try:
        _check_size(place.name, place.parent, regular(place).stat().st_size)
        found, _ = _pixels(where, place.read_bytes(), None, Resizing(channels=channels))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there is no picture {where}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{where} is not a readable image: it is none of {', '.join(DECODERS)}") from error
    except Exception as error:  # damaged files make Pillow's many decoders raise almost anything
        said = line(error)
        raise DataError(said if said.startswith(where) else f"{where} is not a readable image: {said}") from error
    image = Image.fromarray(found).resize((width, height), FILTER)
    return torch.from_numpy(np.array(image)).view(height, width, channels).permute(2, 0, 1)


class Stream:
    """Images of a source one batch after another, so that no more than one of them need be in memory.

    Args:
        source, split, resizing, columns: as for :func:`load`.

    Attributes:
        pictures: whether they are files of pictures.
        labels, names: as of :class:`Images`; known once all batches were read.

    Raises:
        DataError: as for :func:`load`; here, and while batches are read.
    """

    def __init__(
        self,
        source: str | Path,
        split: str = "train",
        resizing: Resizing | None = None,
        columns: Columns | None = None,
    ):
        self.labels: Tensor | None = None
        self.names: tuple[str, ...] = ()
        self._split, self._columns = split, columns or Columns()
        self._resizing = Resizing() if resizing is None else resizing
        self._digits = str(source) == SKLEARN
        if self._digits:
            self._parts, self._beside, self.pictures = [], [], False
            return
        self._path = path = located(source)
        with _explained(path):
            self._parts, self._beside = parts(path, split)
            for part in self._parts:
                if not part.is_dir():
                    regular(part)
            self.pictures = not self._parts[0].name.endswith((".npz", ".npz.xz"))

    def digest(self) -> str:
        """SHA-256 of the files that are read, of their names where those say something, and of what becomes of them."""
        if self._digits:
            return digest_of([f"digits {self._split}"])
        with _explained(self._path):
            found = [
                str(self._resizing),
                self._split,
                self._columns.image or "",
                *(["upright"] if self.pictures else []),
            ]
            for part in self._parts:
                if not part.is_dir():
                    found.append(digest(part))
                    continue
                for name, content in _from_folder(part, _Left()):
                    found += [name, digest_of([content])]
        return digest_of(found)

    def batches(self, size: int) -> Iterator[Tensor]:
        """uint8 of shape (n, channels, height, width), n at most ``size``."""
        if self._digits:
            found = _digits(self._split)
            self.labels = found.labels
            yield from _alike(found.pixels, self._resizing, "'digits'").split(size)
            return
        with _explained(self._path):
            if self.pictures:
                yield from self._decoded(size)
            else:
                yield from self._unpacked(size)

    def _decoded(self, size: int) -> Iterator[Tensor]:
        waiting: list[np.ndarray] = []
        reading = _Reading(self._path, self._resizing)
        for name in self._beside:
            reading.left(name)
        for part in self._parts:
            with _explained(part):
                for array in reading.arrays(part, self._files(part, reading)):
                    waiting.append(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1))
                    if len(waiting) == size:
                        yield torch.from_numpy(np.stack(waiting))
                        waiting.clear()
        if waiting:
            yield torch.from_numpy(np.stack(waiting))
        self.labels, self.names = reading.labels()
        reading.tell()

    def _files(self, part: Path, reading: _Reading) -> Iterator[tuple[str, bytes]]:
        if not is_table(part) or part.is_dir():
            return _files(part, reading.left)
        table = Table(part, self._columns)
        reading.names = reading.names or table.names
        return table.files()

    def _unpacked(self, size: int) -> Iterator[Tensor]:
        labels: list[Tensor | None] = []
        for part in self._parts:
            arrays = _Arrays(part, self._split)
            labels.append(arrays.labels)
            for pixels in arrays.batches(size):
                yield _alike(pixels, self._resizing, arrays.name)
        known = [each for each in labels if each is not None]
        self.labels = torch.cat(known) if len(known) == len(labels) else None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What goes wrong in reading, said as a DataError of that path."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename not in (None, str(path)):
            raise DataError(f"{error.filename!r} in {str(path)!r} leads to nothing") from error
        raise DataError(f"no data at {str(path)!r}: give a folder, zip, tar or npz of images, or 'digits'") from error
    except DataError:
        raise
    except OSError as error:
        if error.errno is None:  # of a decoder, not of the system
            raise DataError(f"{str(path)!r} is damaged: {line(error)}") from error
        what = repr(os.fsdecode(error.filename or path))
        raise DataError(f"{what} cannot be read: {error.strerror}") from error
    except ValueError as error:
        named = repr(str(path))[1:-1] in str(error)
        raise DataError(line(error) if named else f"{str(path)!r} cannot be read: {line(error)}") from error
    except Exception as error:  # of a damaged archive anything may come
        raise DataError(f"{str(path)!r} is damaged: {line(error)}") from error


class _Left:
    """Counts files that are left out, by their kind."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        self._kinds[PurePosixPath(name).suffix.lower() or "no suffix"] += 1

    @property
    def told(self) -> str:
        """How many, and of which kinds; empty for none."""
        total = self._kinds.total()
        kinds = sorted(self._kinds.items(), key=lambda item: (-item[1], item[0]))
        counted = ", ".join(f"{kind} ({count})" for kind, count in kinds[:KINDS])
        more = ", …" if len(self._kinds) > KINDS else ""
        return f"{total} {'file' if total == 1 else 'files'} left out: {counted}{more}" if total else ""

    @property
    def advice(self) -> str:
        """What to do with pictures among them; empty for none."""
        unread = sorted(self._kinds.keys() & UNREAD)
        return f"; {', '.join(unread)}: convert to JPEG or PNG what is to be read" if unread else ""

    def tell(self, path: Path) -> None:
        if self.told:
            warnings.warn(f"{self.told}, in {str(path)!r}{self.advice}", DataWarning, stacklevel=2)


def _files(path: Path, left: _Left) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture, and of the list of labels."""
    if path.is_dir():
        yield from _from_folder(path, left)
    elif zipfile.is_zipfile(path) and _begins(path, b"PK"):  # and not a tar that ends with one
        yield from _from_zip(path, left)
    else:
        with _unpacked(path) as stream:
            if stream is None:
                raise DataError(f"{str(path)!r} is neither a folder, a zip, a tar nor an npz")
            yield from _from_tar(stream, path, left)


def _begins(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _digits(split: str) -> Images:
    if split not in ("train", "test"):
        raise DataError(f"digits have the splits 'train' and 'test', not {split!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits come with scikit-learn: install scoresde[data]") from error
    values, targets = load_digits(return_X_y=True)
    pixels = torch.as_tensor(np.round(np.asarray(values) * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.as_tensor(np.asarray(targets), dtype=torch.long)
    cut = len(pixels) * 4 // 5
    part = slice(cut, None) if split == "test" else slice(cut)
    return Images(pixels[part], labels[part])


def _is_list(name: str) -> bool:
    return PurePosixPath(name) == PurePosixPath(LISTED)


def _is_picture(name: str, beginning: bytes) -> bool:
    """Whether a file is meant to be a picture: by its name, or where that says nothing by how it begins.

    So is the list of labels, which is read with them.
    """
    suffix = PurePosixPath(name).suffix.lower()
    known = suffix in SUFFIXES or (suffix not in UNREAD and BEGINNINGS.match(beginning) is not None)
    return _is_list(name) or known


def _from_folder(path: Path, left: _Left) -> Iterator[tuple[str, bytes]]:
    for file in sorted(walk(path)):
        name, place = file.as_posix(), path / file
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            regular(place)
        elif not place.is_file():
            continue
        with place.open("rb") as file:
            beginning = file.read(BEGINNING)
            if not _is_picture(name, beginning):
                left(name)
                continue
            _check_size(name, path, place.stat().st_size)
            yield name, beginning + file.read()


def _check_size(name: str, path: Path, size: int) -> None:
    if size > LARGEST:
        raise DataError(f"{name!r} in {str(path)!r} has {size:,} bytes, more than {LARGEST:,}: no picture has as many")


def _from_zip(path: Path, left: _Left) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = entries(archive, repr(str(path)), path.stat().st_size)
        for member in sorted(members, key=lambda member: member.filename):
            if member.is_dir() or is_dropping(member.filename):
                continue
            with opened(archive, member) as file:
                beginning = file.read(BEGINNING)
                if not _is_picture(member.filename, beginning):
                    left(member.filename)
                    continue
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise DataError(
                        f"{member.filename!r} in {str(path)!r} is a link: links in archives are not followed"
                    )
                _check_size(member.filename, path, member.file_size)
                yield member.filename, beginning + rest(file)


def _from_tar(stream: _Bounded, path: Path, left: _Left) -> Iterator[tuple[str, bytes]]:
    # One pass in the archive's own order: seeking in a compressed tar would decompress it again and again.
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        behind = 0
        while (member := _next(archive, stream)) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or every one would be kept
            stream.check(archive.offset)
            if archive.offset <= behind:
                raise tarfile.ReadError(f"{member.name!r} leads back to byte {archive.offset} of the unpacked archive")
            behind = archive.offset
            if member.isdir() or is_dropping(member.name):
                continue
            named = PurePosixPath(member.name).suffix.lower() in SUFFIXES
            if named and not member.isfile():
                kind = "a link: links in archives are not followed" if member.islnk() or member.issym() else "no file"
                raise DataError(f"{member.name!r} in {stream.name} is {kind}")
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            stream.check(member.size)  # a sparse file is larger than what it takes
            beginning = file.read(BEGINNING)
            known = _is_picture(member.name, beginning)
            if not known and (PurePosixPath(member.name).suffix not in CLASS_FILES or member.size > LARGEST_CLASS):
                left(member.name)
                continue
            _check_size(member.name, path, member.size)
            yield member.name, beginning + rest(file)
        # A damaged header looks like the end of the archive to tarfile, and checksums are only seen at the very end.
        stream.seek(archive.offset)
        if stream.read(512) != bytes(512):
            raise tarfile.ReadError(f"it breaks off at byte {archive.offset} of the unpacked archive")
        while stream.has_checksum and stream.read(2**20):
            pass


def _next(archive: tarfile.TarFile, stream: _Bounded) -> tarfile.TarInfo | None:
    with stream.headers():
        return archive.next()


class _Bounded(io.RawIOBase):
    """A stream of which no more is read than its packed size can be meant to hold."""

    def __init__(self, stream: IO[bytes], name: str, packed: int, has_checksum: bool):
        super().__init__()
        self._stream, self.name, self._packed, self.has_checksum = stream, name, packed, has_checksum
        self._most = max(SMALL, RATIO * packed)
        self._headers: int | None = HEADERS  # bytes that may be read of them, which come first

    @contextmanager
    def headers(self) -> Iterator[None]:
        """While those of one member are read."""
        self._headers = HEADERS
        yield
        self._headers = None

    def check(self, position: int) -> None:
        if position > self._most:
            check_unpacked(self.name, self._packed, position)

    def read(self, size: int = -1) -> bytes:
        self.check(self._stream.tell() + max(size, 0))
        found = self._stream.read(self._most + 1 if size < 0 else size)
        if self._headers is not None:
            self._headers -= len(found)
            if self._headers < 0 or (len(found) > tarfile.BLOCKSIZE and DIGITS.search(found)):
                raise ValueError(f"{self.name} is damaged: headers of over {HEADERS:,} bytes, or numbers of no end")
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.check(offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _unpacked(path: Path) -> Iterator[_Bounded | None]:
    """A tar, unpacked as it is read, whatever it is packed with; None if it is none."""
    openers: dict[bytes, Callable[[Path], Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
    }
    with path.open("rb") as file:
        beginning = file.read(6)
    opener = next((opener for magic, opener in openers.items() if beginning.startswith(magic)), None)
    name, packed = repr(str(path)), path.stat().st_size
    if opener is not None:
        check_unpacked(name, packed, packed)  # or it may be padding that never ends
    with path.open("rb") if opener is None else opener(path) as stream:
        try:
            tarfile.open(fileobj=_Bounded(stream, name, packed, opener is not None), mode="r:").close()
        except (tarfile.TarError, EOFError):
            if opener is None:
                yield None
                return
            raise
        stream.seek(0)
        yield _Bounded(stream, name, packed, opener is not None)


class _Reading:
    """Pictures that are decoded one after another, and what their names say of labels."""

    def __init__(self, path: Path, resizing: Resizing):
        self._path, self._resizing, self.left = path, resizing, _Left()
        self._order: list[str] = []
        self._classes: list[int | None] = []  # as class files have them, in the same order
        self._listed: dict[str, int] | None = None
        self.names: tuple[str, ...] = ()  # of classes, where tables have them
        self._shape: tuple[int, ...] | None = None
        self._enlarged: list[str] = []

    def arrays(self, part: Path, files: Iterator[tuple[str, bytes]]) -> Iterator[np.ndarray]:
        """Pixels, (height, width) or (height, width, 3), all alike; ``part`` is where the files come from.

        After one that cannot be read the others are only looked at, so that all of these are named at once.
        """
        seen, begin, given = set[str](), len(self._order), list[tuple[str, bytes]]()
        broken, reason = list[str](), Exception()
        for name, content in files:
            where = f"{name!r} in {str(part)!r}"
            if name in seen:
                raise DataError(f"{where} comes twice: leave one")
            seen.add(name)
            if _is_list(name):
                self._listed = _listed(where, content)
                continue
            if PurePosixPath(name).suffix in CLASS_FILES and not BEGINNINGS.match(content):
                given.append((name, content if name.endswith(".cls") else _labelled(content)))
                continue
            try:
                if not content:
                    raise ValueError("it is empty")
                array, size = _pixels(where, content, self._shape, self._resizing)
            except DataError:
                raise
            except Exception as error:  # damaged files make Pillow's many decoders raise almost anything
                reason = reason if broken else error
                broken.append(name)
                continue
            if broken:
                continue
            self._shape = array.shape
            if self._resizing.enlarges(size):
                self._enlarged.append(f"{name!r} of {size[0]} × {size[1]}")
            self._order.append(PurePosixPath(name).as_posix())  # a tar may say ./ before it
            yield array
        if broken:
            raise DataError(_unreadable(part, broken, reason)) from reason
        self._classes += self._classed(part, self._order[begin:], given)

    def tell(self) -> None:
        """Say once what was left out, and what was enlarged."""
        self.left.tell(self._path)
        if count := len(self._enlarged):
            what = f"{count} {'picture is' if count == 1 else 'pictures are'} smaller than {self._resizing.size} pixels"
            which = f"{self._enlarged[0]}{', …' if count > 1 else ''}"
            warnings.warn(f"{what} and enlarged: {which}, in {str(self._path)!r}", DataWarning, stacklevel=2)

    def _classed(self, part: Path, order: list[str], given: list[tuple[str, bytes]]) -> list[int | None]:
        """The class of each picture of a part by the class file that shares its key, where it has one."""
        pictures = {_key(name): name for name in order}
        classes: dict[str, int] = {}
        for name, content in given:
            if (key := _key(name)) not in pictures or not content:
                self.left(name)
                continue
            where, found = f"{name!r} in {str(part)!r}", CLASS.fullmatch(content)
            if found is None or int(found[1]) >= MOST_CLASSES:
                raise DataError(f"{where} is no class: one is a whole number from 0 to {MOST_CLASSES - 1:,}")
            if classes.setdefault(key, int(found[1])) != int(found[1]):
                raise DataError(f"{where} says another class of {pictures[key]!r} than the file before it")
        if classes and len(pictures) < len(order):
            name = next(name for name in order if pictures[_key(name)] != name)
            raise DataError(f"{name!r} and {pictures[_key(name)]!r} in {str(part)!r} are one sample: leave one of them")
        return [classes.get(_key(name)) for name in order]

    def labels(self) -> tuple[Tensor | None, tuple[str, ...]]:
        """Labels of pictures, as they are listed, by their class files or by their folders; and names of classes."""
        order, listed = self._order, self._listed
        if not order:
            left = f"; {self.left.told}{self.left.advice}" if self.left.told else ""
            raise DataError(f"no images in {str(self._path)!r} (looked for {', '.join(sorted(SUFFIXES))}){left}")
        if listed is not None:
            if not listed:
                return None, ()
            if lacking := [name for name in order if name not in listed]:
                raise DataError(
                    f"{LISTED} in {str(self._path)!r} has no label for {lacking[0]!r} ({len(lacking)} in all)"
                )
            return torch.tensor([listed[name] for name in order]), ()
        classes = [label for label in self._classes if label is not None]
        if classes:
            if lacking := [name for name, label in zip(order, self._classes, strict=True) if label is None]:
                raise DataError(f"{str(self._path)!r} has no class for {lacking[0]!r} ({len(lacking)} in all)")
            if self.names and max(classes) >= len(self.names):
                names = f"names {len(self.names)} classes"
                raise DataError(f"{str(self._path)!r} {names}, and has one of the number {max(classes)}")
            return torch.tensor(classes), self.names[: max(classes) + 1]
        folders = [PurePosixPath(name).parent.as_posix() for name in order]
        names = set(folders)
        if len(names) < 2:
            return None, ()
        numbers = all(name.isascii() and name.isdecimal() for name in names)
        ordered = sorted(names, key=lambda name: (int(name), name) if numbers else (0, name))
        places = {folder: number for number, folder in enumerate(ordered)}
        return torch.tensor([places[folder] for folder in folders]), tuple(ordered)


def _unreadable(part: Path, names: list[str], reason: Exception) -> str:
    """That pictures cannot be read: the first with the reason, and the names of the others."""
    where = f"{names[0]!r} in {str(part)!r}"
    said = line(reason)
    if isinstance(reason, UnidentifiedImageError):
        said = f"{where} is not a readable image: it is none of {', '.join(DECODERS)}"
    elif not said.startswith(where):
        said = f"{where} is not a readable image: {said}"
    if len(names) == 1:
        return said
    others = ", ".join(map(repr, names[1:BROKEN])) + (", …" if len(names) > BROKEN else "")
    return f"{said}; nor {'is' if len(names) == 2 else 'are'} {others} ({len(names)} in all)"


def _key(name: str) -> str:
    """What files of one sample of a WebDataset share: their names up to the first dot, with their folders."""
    path = PurePosixPath(name)
    return (path.parent / path.name.partition(".")[0]).as_posix()


def _labelled(content: bytes) -> bytes:
    """The label in a JSON file; empty for one that has none, which is about something else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return b""
    label = found.get("label") if isinstance(found, dict) else None
    return b"" if label is None else json.dumps(label).encode()


def _listed(where: str, content: bytes) -> dict[str, int] | None:
    """The label of each picture as a list has it, of none if it says so; None for another file of that name."""
    if len(content) > LARGEST_LIST:
        raise DataError(f"{where} has {len(content):,} bytes, more than {LARGEST_LIST:,}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged: {line(error)}") from error
    if isinstance(found, dict) and "labels" not in found:
        return None
    labels = found["labels"] if isinstance(found, dict) else ()
    if labels is None:
        return {}
    plain = isinstance(labels, list) and all(
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and type(entry[1]) is int
        and 0 <= entry[1] < MOST_CLASSES
        for entry in labels
    )
    if not plain or not labels:
        raise DataError(f'{where} is no list of labels: {{"labels": [["00000/img.png", 6], …]}}, or null for none')
    return dict(labels)


def _on_white(image: Image.Image, grey: bool) -> Image.Image:
    """The picture as a viewer shows it; what lies under transparent pixels is nobody's picture."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("L" if grey else "RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What sets a decoded picture upright by its EXIF; None for one that is, as a decoded TIFF always is."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF, which viewers pass over
        return None


def _is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits a channel, which Pillow cuts or scales without a word."""
    if image.mode[0] in "IF":
        return True
    for tile in getattr(image, "tile", ()):
        told = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(each, str) and ";16" in each for each in told):
            return True
        if image.format == "PPM" and any(isinstance(each, int) and each > 255 for each in told):
            return True
    return False


def _pixels(
    where: str, content: bytes, others: tuple[int, ...] | None, resizing: Resizing
) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of a picture, (height, width[, 3]), looked at before it is unpacked, and the size it came in.

    ``others`` have such a shape.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is refused, and the bound on the size is ours
        if content.startswith(b"\xff\xd8") and len(EXIF.findall(content)) > EXIFS:
            raise DataError(f"{where} has more than {EXIFS} segments of EXIF: write it anew")
        image = Image.open(_Picture(content), formats=DECODERS)
        grey = image.mode in ("1", "L", "LA")
        shape = (image.height, image.width) if grey else (image.height, image.width, 3)
        check_unpacked(where, len(content), math.prod(shape))
        if isinstance(image, TiffImageFile):  # a tile may be larger than the picture
            check_unpacked(where, len(content), image.tag_v2.get(322, 0) * image.tag_v2.get(323, 0) * 4)
        if _is_deep(image):
            raise DataError(f"{where} has more than 8 bits a channel (mode {image.mode}): convert it to 8")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # in which cameras keep previews beside the picture
            raise DataError(f"{where} has {frames} frames: give each as a picture of its own")
        # Before it is unpacked, and turned or not.
        if not resizing and others not in (shape, (shape[1], shape[0], *shape[2:])):
            _check_alike(where, shape, others, resizing.prefix)
        if image.format in ("JPEG", "MPO") and (scans := content.count(b"\xff\xda")) > SCANS:
            raise DataError(f"{where} has {scans} scans, more than {SCANS}: write it anew")
        made = _on_white(image, grey)
        if (turn := _turn(image)) is not None:
            made = made.transpose(turn)
        try:
            found = np.asarray(resizing(made))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        _check_alike(where, found.shape, others, resizing.prefix)
        return found, made.size


def _check_alike(where: str, shape: tuple[int, ...], others: tuple[int, ...] | None, prefix: str) -> None:
    if others in (None, shape):
        return
    size = f"{prefix}size= (and {prefix}crop=true for the square in the middle)"
    settings = [size] if shape[:2] != others[:2] else []
    settings += [f"{prefix}channels=1 or 3"] if len(shape) != len(others) else []
    raise DataError(
        f"{where} has shape {shape}, the images before it {others}: all images must have one size and one "
        f"number of channels: give {' and '.join(settings)}"
    )


class _Picture(io.BytesIO):
    """A picture's file, which is not read again and again."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self._left = READS * len(content) + 2**16

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self._left -= len(found)
        if self._left < 0:
            raise OSError(f"its parts lie over each other: it was to be read more than {READS} times")
        return found


class _Arrays:
    """Images and labels in an npz.

    Attributes:
        labels: of all images, or None.
    """

    def __init__(self, path: Path, split: str):
        self.name = name = repr(str(path))
        self._npz = Npz(unpack_xz(path) if path.suffix == ".xz" else path, name)
        arrays = self._npz
        layouts = [(f"{split}_images", f"{split}_labels"), ("images", "labels"), (f"x_{split}", f"y_{split}")]
        layouts += [("samples", "labels"), ("arr_0", "arr_1")]
        layout = next((each for each in layouts if each[0] in arrays), None)
        if layout is None:
            raise DataError(f"{name} holds {arrays.held}, but neither '{split}_images' nor 'images'")
        self._key, labels = layout[0], arrays.get(layout[1])
        shape, dtype = arrays.described(self._key)
        ours = self._key == "samples"  # states, and −1 for no label
        if ours and (dtype.kind != "f" or len(shape) != 4 or 0 in shape):
            raise DataError(f"samples in {name} must be finite numbers of shape (n, c, h, w), got {dtype} {shape}")
        if not ours and (dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape):
            raise DataError(f"images in {name} must be uint8 of shape (n, h, w[, c]), got {dtype} {shape}")
        if ours:
            labels = None if labels is None or (labels < 0).any() else labels
        if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels is not None and (labels.shape != shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0):
            least = f", the least {labels.min()}" if labels.size and labels.dtype.kind in "iu" else ""
            raise DataError(
                f"labels in {name} must be {shape[0]} integers ≥ 0, one per image, "
                f"got {labels.dtype} of shape {labels.shape}{least}"
            )
        if labels is not None and labels.max() >= MOST_CLASSES:
            raise DataError(f"labels in {name} go up to {labels.max()}: number the classes from 0, without gaps")
        self.labels = None if labels is None else torch.as_tensor(labels.astype(np.int64))

    def batches(self, size: int) -> Iterator[Tensor]:
        """uint8 of shape (n, channels, height, width)."""
        with self._npz as arrays:
            for pixels in arrays.rows(self._key, size):
                known = _of_states(pixels, self.name) if self._key == "samples" else pixels
                yield _channels_first(known, self.name)


def _alike(pixels: Tensor, resizing: Resizing, name: str) -> Tensor:
    """Pixels (n, channels, height, width), each image resized."""
    if not resizing:
        return pixels
    made = []
    for image in pixels.permute(0, 2, 3, 1).numpy():
        if image.shape[2] not in (1, 3):
            raise DataError(f"images in {name} have {image.shape[2]} channels: those of 1 or 3 can be resized")
        try:
            array = np.asarray(resizing(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)))
        except ValueError as error:
            raise DataError(f"images in {name}: {error}") from error
        made.append(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(made))


def _of_states(states: np.ndarray, name: str) -> np.ndarray:
    """Pixels, channels last, of states in [−1, 1]."""
    if states.dtype.kind != "f" or states.ndim != 4 or not np.isfinite(states).all():
        raise DataError(
            f"samples in {name} must be finite numbers of shape (n, c, h, w), got {states.dtype} {states.shape}"
        )
    return to_pixels(torch.from_numpy(np.ascontiguousarray(states))).permute(0, 2, 3, 1).numpy()


def _channels_first(pixels: np.ndarray, name: str) -> Tensor:
    """(n, h, w), (n, h, w, c) or (n, c, h, w) to (n, c, h, w).

    Raises:
        DataError: no axis is one of channels.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    if tensor.ndim == 4 and tensor.shape[1] in (1, 3) and tensor.shape[3] not in (1, 3):
        return tensor
    if tensor.ndim == 4 and tensor.shape[3] > MOST_CHANNELS:
        raise DataError(f"images in {name} have the shape {pixels.shape}, in which no axis is one of 1 or 3 channels")
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
