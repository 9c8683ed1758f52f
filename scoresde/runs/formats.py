"""How the samples of a shard lie in a folder: npz files, a folder of PNGs, or one zip of PNGs."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scoresde.data import to_pixels
from scoresde.files import arrays as files_of_arrays
from scoresde.files import digest, digest_of, regular, replacing
from solvers.registry import Registry

SHARDS = "shards"  # the folder of what belongs to single shards
WRITERS = 8  # threads: files of one shard reach the disk together, which is many times quicker than one by one


class Format(Protocol):
    """Writes, checks and reads the samples of shards, each known by its name and its seeds.

    ``width`` digits number a picture; ``single`` says that there is one shard.
    """

    def __init__(self, folder: Path, width: int, single: bool) -> None: ...

    def names(self, name: str, seeds: NDArray[np.int64]) -> list[str]:
        """What :meth:`write` makes: paths in the folder, or members of the zip."""
        ...

    def write(self, name: str, samples: Tensor, seeds: NDArray[np.int64], labels: NDArray[Any], nfe: int) -> list[str]:
        """Write samples, float32 (n, channels, height, width) in [−1, 1]; returns the SHA-256 of each name."""
        ...

    def files(self, name: str, names: Sequence[str]) -> list[str]:
        """Paths in the folder of all files that :meth:`write` and :meth:`finish` make for these names."""
        ...

    def there(self, name: str, names: Sequence[str]) -> bool:
        """Whether files are there in which these names should be; a quick look."""
        ...

    def digests(self, name: str, names: Sequence[str]) -> list[str]:
        """SHA-256 of what is there under these names.

        Raises:
            FileNotFoundError, zipfile.BadZipFile: something is not there, or is damaged.
        """
        ...

    def read(self, name: str, names: Sequence[str]) -> NDArray[Any]:
        """The samples: float32 as written, or uint8 pixels, of the same shape."""
        ...

    def pngs(self, name: str, names: Sequence[str]) -> Iterator[bytes]:
        """The samples as PNG files, one after the other.

        Raises:
            ValueError: they are no images.
        """
        ...

    def finished(self) -> bool:
        """Whether :meth:`finish` has nothing to do."""
        ...

    def finish(self, shards: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Make one file of all shards, where the format has one."""
        ...


class Npz:
    """``samples.npz`` of the only shard, or ``shards/<name>.npz``: samples, seeds, labels (−1 for none) and nfe."""

    def __init__(self, folder: Path, width: int, single: bool):
        self.folder, self.single = folder, single

    def names(self, name: str, seeds: NDArray[np.int64]) -> list[str]:
        return ["samples.npz" if self.single else f"{SHARDS}/{name}.npz"]

    def write(self, name: str, samples: Tensor, seeds: NDArray[np.int64], labels: NDArray[Any], nfe: int) -> list[str]:
        (file,) = self.names(name, seeds)
        arrays = {"seeds": seeds.astype(np.uint64), "labels": labels, "nfe": np.asarray(nfe)}
        return [save_npz(self.folder / file, samples=samples.numpy(), **arrays)]

    def files(self, name: str, names: Sequence[str]) -> list[str]:
        return list(names)

    def there(self, name: str, names: Sequence[str]) -> bool:
        return all((self.folder / file).is_file() for file in names)

    def digests(self, name: str, names: Sequence[str]) -> list[str]:
        return [digest(self.folder / file) for file in names]

    def read(self, name: str, names: Sequence[str]) -> NDArray[Any]:
        with files_of_arrays.Npz(self.folder / names[0]) as arrays:
            return arrays["samples"]

    def pngs(self, name: str, names: Sequence[str]) -> Iterator[bytes]:
        path = self.folder / names[0]
        with files_of_arrays.Npz(path) as arrays:
            shape, _ = arrays.described("samples")
            if len(shape) != 4 or shape[1] not in (1, 3):
                raise ValueError(
                    f"{str(path)!r} holds samples of shape {shape[1:]}, which are no images: those have 1 or 3 "
                    "channels, a height and a width"
                )
            for some in arrays.rows("samples", WRITERS):
                yield from _pngs(torch.from_numpy(some))

    def finished(self) -> bool:
        return True

    def finish(self, shards: Iterable[tuple[str, Sequence[str]]]) -> None:
        pass


class Png:
    """``images/<seed>.png``, 8 bit, grey or RGB."""

    def __init__(self, folder: Path, width: int, single: bool):
        self.folder, self.width = folder, width

    def names(self, name: str, seeds: NDArray[np.int64]) -> list[str]:
        return [f"images/{seed:0{self.width}d}.png" for seed in seeds.tolist()]

    def write(self, name: str, samples: Tensor, seeds: NDArray[np.int64], labels: NDArray[Any], nfe: int) -> list[str]:
        def put(file: str, image: bytes) -> str:
            with replacing(self.folder / file) as path:
                path.write_bytes(image)
            return digest_of([image])

        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(put, self.names(name, seeds), _pngs(samples)))

    def files(self, name: str, names: Sequence[str]) -> list[str]:
        return list(names)

    def there(self, name: str, names: Sequence[str]) -> bool:
        return all((self.folder / file).is_file() for file in names)

    def digests(self, name: str, names: Sequence[str]) -> list[str]:
        return [digest(self.folder / file) for file in names]

    def read(self, name: str, names: Sequence[str]) -> NDArray[Any]:
        return _pixels((self.folder / file).read_bytes() for file in names)

    def pngs(self, name: str, names: Sequence[str]) -> Iterator[bytes]:
        return ((self.folder / file).read_bytes() for file in names)

    def finished(self) -> bool:
        return True

    def finish(self, shards: Iterable[tuple[str, Sequence[str]]]) -> None:
        pass


class Zip:
    """``samples.zip`` of ``<seed>.png``, not compressed again; until all shards are there, ``shards/<name>.zip``.

    ``samples.zip.sha256`` is what ``sha256sum --check`` reads.
    """

    def __init__(self, folder: Path, width: int, single: bool):
        self.folder, self.width = folder, width
        self.whole, self.sum = folder / "samples.zip", folder / "samples.zip.sha256"
        self._opened: zipfile.ZipFile | None = None

    def names(self, name: str, seeds: NDArray[np.int64]) -> list[str]:
        return [f"{seed:0{self.width}d}.png" for seed in seeds.tolist()]

    def write(self, name: str, samples: Tensor, seeds: NDArray[np.int64], labels: NDArray[Any], nfe: int) -> list[str]:
        images = _pngs(samples)
        with replacing(self._part(name)) as path, zipfile.ZipFile(path, "w") as archive:
            for file, image in zip(self.names(name, seeds), images, strict=True):
                archive.writestr(member(file), image)
        return [digest_of([image]) for image in images]

    def there(self, name: str, names: Sequence[str]) -> bool:
        return self._part(name).is_file() or self.whole.is_file()

    def files(self, name: str, names: Sequence[str]) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in (self._part(name), self.whole, self.sum)]

    def digests(self, name: str, names: Sequence[str]) -> list[str]:
        return [digest_of([image]) for image in self._images(name, names)]

    def read(self, name: str, names: Sequence[str]) -> NDArray[Any]:
        return _pixels(self._images(name, names))

    def pngs(self, name: str, names: Sequence[str]) -> Iterator[bytes]:
        return (image for file in names for image in self._images(name, [file]))

    def finished(self) -> bool:
        if not self.whole.is_file() or not self.sum.is_file() or any((self.folder / SHARDS).glob("*.zip")):
            return False
        return self.sum.read_bytes() == self._sum()

    def finish(self, shards: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Join the parts (a shard without one is taken from the zip that is there), and then remove them."""
        with replacing(self.whole) as path, zipfile.ZipFile(path, "w") as archive:
            for name, names in shards:
                for file, image in zip(names, self._images(name, names), strict=True):
                    archive.writestr(member(file), image)
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        with replacing(self.sum) as path:
            path.write_bytes(self._sum())
        for part in (self.folder / SHARDS).glob("*.zip"):
            part.unlink()

    def _sum(self) -> bytes:
        return f"{digest(self.whole)}  {self.whole.name}\n".encode()

    def _part(self, name: str) -> Path:
        return self.folder / SHARDS / f"{name}.zip"

    def _images(self, name: str, names: Sequence[str]) -> list[bytes]:
        try:
            if self._part(name).is_file():
                with _opened(self._part(name)) as archive:
                    return [_read(archive, file) for file in names]
            if self._opened is None:
                self._opened = _opened(self.whole)
            return [_read(self._opened, file) for file in names]
        except Exception as error:  # of an altered zip anything may come, a seek to nowhere too
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # it is not there, or cannot be opened now
            raise zipfile.BadZipFile(f"{name} is not whole: {error or type(error).__name__}") from error


FORMATS: Registry[Format] = Registry("format")
for name, kind in (("npz", Npz), ("png", Png), ("zip", Zip)):
    FORMATS.add(name, kind)


def save_npz(path: Path, **arrays: NDArray[Any]) -> str:
    """Write arrays, equal bytes for equal arrays; returns the SHA-256."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return digest(path)


def _opened(path: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(regular(path))
    files_of_arrays.entries(archive, repr(str(path)), path.stat().st_size)
    return archive


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    with files_of_arrays.opened(archive, archive.getinfo(name)) as file:
        return files_of_arrays.rest(file)


def member(name: str) -> zipfile.ZipInfo:
    """A zip member that has no date (1980 is the format's zero) and can be read by all."""
    found = zipfile.ZipInfo(name)
    found.external_attr = 0o644 << 16
    return found


def _pngs(samples: Tensor) -> list[bytes]:
    pixels = to_pixels(samples).permute(0, 2, 3, 1).numpy()
    files = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "png")
        files.append(file.getvalue())
    return files


def _pixels(files: Iterable[bytes]) -> NDArray[np.uint8]:
    images = [np.asarray(Image.open(io.BytesIO(file), formats=("PNG",))) for file in files]
    stacked = np.stack(images)
    return stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
