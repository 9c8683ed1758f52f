"""Reference statistics of a user's own images, computed once for each content and feature space."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.data import SKLEARN, Columns, DataError, Images, Resizing, Stream, located, numbered
from scoresde.files import cache, digest_of
from scoresde.files.arrays import Npz
from scoresde.metrics.floors import SampleFeatures
from scoresde.metrics.moments import Moments
from scoresde.metrics.reference import Reference
from scoresde.metrics.spaces.named import load_named, save_named
from scoresde.metrics.spaces.space import Space

BATCH = 500
KEPT = 10_000  # images of which features are kept beside a model


def reference(
    path: str | Path,
    space: Space,
    resizing: Resizing | None = None,
    split: str = "train",
    column: str | None = None,
) -> Reference:
    """What samples are compared with, from wherever it is.

    Args:
        path: a model's folder or a file of statistics, as :meth:`Reference.load` takes them; or images, as
            :func:`scoresde.data.load` takes them: a folder, an archive, shards, tables, an npz or a run. They are read
            in batches, and their features are kept in ``$SCORESDE_CACHE``, or ``~/.cache/scoresde``, by the SHA-256 of
            their files and the space's name.
        space: the feature space.
        resizing: what becomes of images first; None leaves them as they are.
        split, column: which of the images, as for :func:`scoresde.data.load`.

    Raises:
        ValueError: there is nothing there, nothing that is understood, nothing that the space takes, fewer than two
            images, or a resizing of statistics.
    """
    path = located(path)
    resizing = Resizing() if resizing is None else resizing
    if not holds_images(path):
        if resizing:
            raise ValueError(f"{str(path)!r} holds statistics, of which nothing can be {resizing}: give images")
        found = Reference.load(path, space)
        _check_count(path, found.moments.count)
        _check_count(path, None if found.features is None else len(found.features.features))
        return found
    stream = Stream(path, split, resizing, Columns(column, "none"))  # of several labels, none need be chosen
    kept = cache() / "references" / digest_of([space.name, stream.digest()])
    with suppress(ValueError):  # not there, or damaged: made (again)
        found = Reference.load(kept, space)
        if found.features is not None and len(found.features.features) == found.moments.count:
            return replace(found, resized=str(resizing))
    try:
        features = np.concatenate([space.features(part).numpy() for part in stream.batches(BATCH)])
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no reference: {error}") from error
    _check_count(path, len(features))
    labels = np.zeros(len(features), np.int64) if stream.labels is None else stream.labels.numpy()
    SampleFeatures(space.name, features, labels, {"images": path.name}).save(kept / "test_features.npz")
    moments = Moments(space.size, space.name)
    moments.update(features)
    moments.save(kept / "reference.npz")  # last: it says that both are there
    return replace(Reference.load(kept, space), resized=str(resizing))


def keep(folder: str | Path, space: Space, images: Images, named: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write what images are in a feature space into a model's folder, as its own features and reference.

    ``reference.npz`` has the moments of all of them, ``test_features.npz`` the features of up to ``KEPT`` drawn from
    them, ``features/config.json`` the space and the card.

    Args:
        folder: the model's.
        space: the feature space.
        images: what samples of the model are to be compared with.
        named: the space, as :func:`scoresde.metrics.spaces.named.described` has it.
        card: of which images these are.

    Raises:
        ValueError: fewer than two images, or what the space does not take.
    """
    folder = Path(folder)
    _check_count(folder, len(images))
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:KEPT]
    kept = torch.full((len(images),), -1)
    kept[chosen] = torch.arange(len(chosen))
    moments, features = Moments(space.size, space.name), np.zeros((len(chosen), space.size), np.float32)
    for index in torch.arange(len(images)).split(BATCH):
        found = space.features(images.take(index).pixels)
        moments.update(found)
        places = kept[index]
        features[places[places >= 0].numpy()] = found[places >= 0].numpy()
    labels = np.zeros(len(chosen), np.int64) if images.labels is None else images.labels[chosen].numpy()
    SampleFeatures(space.name, features, labels, dict(card)).save(folder / "test_features.npz")
    moments.save(folder / "reference.npz")
    save_named(folder / "features", named, card)  # last: it says that all is there


def kept(folder: str | Path, space: Space, named: Mapping[str, Any]) -> bool:
    """Whether :func:`keep` has written all of it for this space, and it can be read."""
    folder = Path(folder)
    try:
        return load_named(folder / "features") == named and Reference.load(folder, space).features is not None
    except ValueError:
        return False


def _check_count(path: Path, count: int | None) -> None:
    if count is not None and count < 2:
        raise ValueError(f"a reference needs 2 images or more, {str(path)!r} has {count}")


def holds_images(path: str | Path) -> bool:
    """Whether there are images, and not statistics."""
    path = located(path)
    if str(path) == SKLEARN:
        return True
    if path.is_dir():
        return not (path / "reference.npz").is_file()
    if path.suffix != ".npz":
        return (path.is_file() and path.suffix != ".pkl") or bool(numbered(path))
    try:
        with Npz(path) as arrays:
            return not {"format", "mu"} & set(arrays.files)
    except (ValueError, OSError):
        return False
