"""Samples of a run as pictures for everybody: a folder of PNGs, a zip of them, or a trajectory as a GIF."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from scoresde.files import digest, digest_of, replacing
from scoresde.files.arrays import Npz
from scoresde.files.pictures import grid
from scoresde.runs import record
from scoresde.runs.formats import WRITERS, member
from scoresde.runs.shards import TRAJECTORY, Shards

ZIP, GIF = ".zip", ".gif"
FRAME, LAST = 120, 1500  # milliseconds that a frame of a GIF is shown


def check(out: Path) -> None:
    """See that pictures can be written to ``out``: a zip, a GIF, or a folder.

    Raises:
        ValueError: a file of another format, by its suffix.
    """
    suffix = out.suffix.lower()
    if suffix in (ZIP, GIF) and out.is_dir():
        raise ValueError(f"{str(out)!r} is a folder: choose another name for a {suffix} file")
    if suffix not in ("", ZIP, GIF) and not out.is_dir():
        raise ValueError(f"unknown format {suffix!r} of {str(out)!r}; known: a folder, {ZIP}, {GIF}")
    if suffix not in (ZIP, GIF) and out.is_file():
        raise ValueError(f"{str(out)!r} is a file: out is a folder, or ends in {ZIP} or {GIF}")


def pictures(shards: Shards) -> Iterator[tuple[str, bytes]]:
    """The samples of a run, whose shards are whole, as PNGs with their names, of which a few are in memory at a time.

    They are named by their seeds, and byte for byte those that ``scoresde sample format=png`` writes.

    Args:
        shards: of :func:`scoresde.runs.shards.complete`.

    Raises:
        ValueError: no samples were kept, or they are no images.
    """
    found = shards.pngs()
    return itertools.chain([next(found)], found)  # what is no image is refused now


def export(
    pictures: Iterable[tuple[str, bytes]], out: Path, tell: Callable[[float], object] = lambda images: None
) -> None:
    """Write pictures to a file ending in ``.zip``, or into a folder; what is there already and the same stays.

    Args:
        pictures: PNGs and their names.
        out: where they go.
        tell: called with the number of pictures done since it was called before.

    Raises:
        ValueError: another file is in the place of one.
    """
    if out.suffix.lower() == ZIP:
        with replacing(out) as path:
            with zipfile.ZipFile(path, "w") as archive:
                for name, image in pictures:
                    archive.writestr(member(name), image)
                    tell(1)
            _check_same(out, digest(path))
        return

    def put(picture: tuple[str, bytes]) -> None:
        name, image = picture
        if not _check_same(out / name, digest_of([image])):
            with replacing(out / name) as path:
                path.write_bytes(image)
        tell(1)

    with ThreadPoolExecutor(WRITERS) as pool:
        for some in _chunks(pictures, 8 * WRITERS):
            list(pool.map(put, some))


def animate(folder: Path, out: Path) -> int:
    """Write the trajectory of a run as a GIF, its samples side by side; returns how many times it shows.

    A time that changes nothing, as the end after the last denoise, is no frame of its own.

    Raises:
        ValueError: the run has none, it is damaged, or another file is in the place of the GIF.
    """
    if not (record.recorded(folder) or {}).get("trajectory"):
        raise ValueError(
            f"{str(folder)!r} holds no trajectory: scoresde sample with trajectory=8, in another folder or with "
            "--force, keeps that of the first 8 images"
        )
    with Npz(folder / TRAJECTORY) as arrays:
        if "points" in arrays:
            raise ValueError(f"{str(folder)!r} holds the ways of points, which trajectories.png shows: no GIF of them")
        frames = [_frame(images[0]) for images in arrays.rows("images", 1)]
    times = [FRAME] * (len(frames) - 1) + [LAST]
    with replacing(out) as path:
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
        _check_same(out, digest(path))
    return len(frames)


def _frame(images: NDArray[Any]) -> Image.Image:
    """The images (k, channels, height, width) of one time, as near to a square as they go."""
    return grid(torch.from_numpy(np.array(images)), max(1, round(len(images) ** 0.5)))


def _check_same(path: Path, sha256: str) -> bool:
    """Whether a file with that content is there.

    Raises:
        ValueError: another is.
    """
    if not path.is_file():
        return False
    if digest(path) != sha256:
        raise ValueError(f"{str(path)!r} is there and another file: remove it, or choose another out=…")
    return True


def _chunks(pictures: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    pictures = iter(pictures)
    while some := list(itertools.islice(pictures, size)):
        yield some
