"""Images for training and reference statistics, from wherever the user has them.

Four sources: a folder of images, a zip or tar of images, an npz (also xz-compressed), and scikit-learn's digits. Images
in folders named after classes carry those classes, in sorted order, as labels 0, 1, ….
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
# What the readers of archives raise on damaged, encrypted or unsupported ones.
DAMAGE = (OSError, EOFError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


class DataError(ValueError):
    """A data set that cannot be read, with its path and the reason."""


@dataclass(frozen=True)
class Images:
    """Images as uint8 of shape (n, channels, height, width), and labels of shape (n,) as int64, or None."""

    pixels: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def classes(self) -> int:
        """Number of classes, the largest label + 1; 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    def take(self, index: Tensor) -> Images:
        return Images(self.pixels[index], None if self.labels is None else self.labels[index])


def to_state(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [−1, 1]."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(state: Tensor) -> Tensor:
    """[−1, 1] to uint8, rounded to the nearest and clipped."""
    return ((state.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load(source: str | Path, split: str = "train") -> Images:
    """Read all images of a source into memory.

    Args:
        source: ``"digits"`` (scikit-learn's 8×8 digits), a folder, a ``.zip``, a tar (compressed or not), or an
            ``.npz``/``.npz.xz`` with ``{split}_images`` (and ``{split}_labels``) or ``images`` (and ``labels``).
        split: prefix of the arrays in an npz, "train" or "test"; the last fifth of digits is "test".

    Raises:
        DataError: nothing there, no images in it, images of several sizes or of more than 8 bits, labels that are not
            one integer ≥ 0 per image, an unknown split, or a damaged file.
    """
    if str(source) == "digits":
        return _digits(split)
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"no data at {str(path)!r}: give a folder, zip, tar or npz of images, or 'digits'")
    try:
        if path.is_dir():
            return _decode(_from_folder(path), path)
        if path.name.endswith((".npz", ".npz.xz")):
            return _from_npz(path, split)
        if zipfile.is_zipfile(path):
            return _decode(_from_zip(path), path)
        if tarfile.is_tarfile(path):
            return _decode(_from_tar(path), path)
    except DAMAGE as error:
        raise DataError(f"{str(path)!r} is damaged: {error}") from error
    raise DataError(f"{str(path)!r} is neither a folder, a zip, a tar nor an npz")


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


def _from_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            yield file.relative_to(path).as_posix(), file.read_bytes()


def _from_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                yield name, archive.read(name)


def _from_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    # One pass in the archive's own order: seeking in a compressed tar would decompress it again and again.
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if PurePosixPath(member.name).suffix.lower() in SUFFIXES else None
            if file is not None:
                yield member.name, file.read()
        # A damaged header looks like the end of the archive to tarfile, and checksums are only seen at the very end.
        stream = archive.fileobj
        assert stream is not None
        stream.seek(archive.offset)
        if stream.read(512) != bytes(512):
            raise tarfile.ReadError(f"it breaks off at byte {archive.offset} of the unpacked archive")
        while stream.read(2**20):
            pass


def _decode(files: Iterator[tuple[str, bytes]], path: Path) -> Images:
    arrays: list[np.ndarray] = []
    folders: list[str] = []
    for name, content in files:
        try:
            image = Image.open(io.BytesIO(content))
            array = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        except Exception as error:  # damaged files make Pillow's many decoders raise almost anything
            raise DataError(f"{name!r} in {str(path)!r} is not a readable image: {error}") from error
        if image.mode[0] in "IF":
            raise DataError(f"{name!r} in {str(path)!r} has more than 8 bits a channel (mode {image.mode}): convert it")
        if arrays and array.shape != arrays[0].shape:
            raise DataError(
                f"{name!r} in {str(path)!r} has shape {array.shape}, the images before it {arrays[0].shape}: "
                "all images must have one size and one number of channels"
            )
        arrays.append(array)
        folders.append(PurePosixPath(name).parent.as_posix())
    if not arrays:
        raise DataError(f"no images in {str(path)!r} (looked for {', '.join(sorted(SUFFIXES))})")
    names = sorted(set(folders))
    labels = torch.tensor([names.index(folder) for folder in folders]) if len(names) > 1 else None
    return Images(_channels_first(np.stack(arrays)), labels)


def _from_npz(path: Path, split: str) -> Images:
    content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise DataError(f"{str(path)!r} is not a whole npz")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            prefix = next((p for p in (f"{split}_", "") if f"{p}images" in arrays), None)
            if prefix is None:
                raise DataError(f"{str(path)!r} holds {arrays.files}, but neither '{split}_images' nor 'images'")
            pixels = arrays[f"{prefix}images"]
            labels = arrays.get(f"{prefix}labels")
    except (ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is not a readable npz: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or not len(pixels):
        raise DataError(
            f"images in {str(path)!r} must be uint8 of shape (n, h, w[, c]), got {pixels.dtype} {pixels.shape}"
        )
    if labels is not None and (labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or labels.min() < 0):
        raise DataError(
            f"labels in {str(path)!r} must be {len(pixels)} integers ≥ 0, one per image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    return Images(_channels_first(pixels), None if labels is None else torch.as_tensor(labels.astype(np.int64)))


def _channels_first(pixels: np.ndarray) -> Tensor:
    """(n, h, w) or (n, h, w, c) to (n, c, h, w)."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
