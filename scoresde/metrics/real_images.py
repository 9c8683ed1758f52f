"""Reference statistics of a user's own images, computed once for each content and feature space."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from scoresde.data import load, located
from scoresde.files import digest_of
from scoresde.files.arrays import Npz
from scoresde.metrics.floors import SampleFeatures
from scoresde.metrics.moments import Moments
from scoresde.metrics.reference import Reference
from scoresde.metrics.spaces.space import Space

CACHE = "SCORESDE_CACHE"
BATCH = 500


def reference(path: str | Path, space: Space) -> Reference:
    """What samples are compared with, from wherever it is.

    Args:
        path: a model's folder or a file of statistics, as :meth:`Reference.load` takes them; or images, as
            :func:`scoresde.data.load` takes them: a folder, an archive or an npz. Features of images are kept in
            ``$SCORESDE_CACHE``, or ``~/.cache/scoresde``, by the SHA-256 of their pixels and the space's name.
        space: the feature space.

    Raises:
        ValueError: there is nothing there, nothing that is understood, nothing that the space takes, or fewer than two
            images.
    """
    path = located(path)
    if not holds_images(path):
        found = Reference.load(path, space)
        _check_count(path, found.moments.count)
        _check_count(path, None if found.features is None else len(found.features.features))
        return found
    images = load(path)
    _check_count(path, len(images))
    content = [space.name, str(tuple(images.pixels.shape)), images.pixels.numpy().tobytes()]
    kept = cache() / "references" / digest_of(content)
    with suppress(ValueError):  # not there, or damaged: made (again)
        found = Reference.load(kept, space)
        if found.features is not None and len(found.features.features) == found.moments.count == len(images):
            return found
    try:
        features = np.concatenate([space.features(part).numpy() for part in images.pixels.split(BATCH)])
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no reference: {error}") from error
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels.numpy()
    SampleFeatures(space.name, features, labels, {"images": path.name}).save(kept / "test_features.npz")
    moments = Moments(space.size, space.name)
    moments.update(features)
    moments.save(kept / "reference.npz")  # last: it says that both are there
    return Reference.load(kept, space)


def _check_count(path: Path, count: int | None) -> None:
    if count is not None and count < 2:
        raise ValueError(f"a reference needs 2 images or more, {str(path)!r} has {count}")


def cache() -> Path:
    """The folder of what can be computed again."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "scoresde").expanduser()


def holds_images(path: str | Path) -> bool:
    """Whether there are images, and not statistics."""
    path = located(path)
    if path.is_dir():
        return not (path / "reference.npz").is_file()
    if path.suffix != ".npz":
        return path.is_file() and path.suffix != ".pkl"
    try:
        with Npz(path) as arrays:
            return not {"format", "mu"} & set(arrays.files)
    except (ValueError, OSError):
        return False
