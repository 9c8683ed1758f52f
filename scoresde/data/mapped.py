"""Images in a file that is mapped into memory, for more of them than fit, and so that they are decoded once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.data.images import Images, Stream
from scoresde.data.resizing import Resizing
from scoresde.data.tables import Columns
from scoresde.files import cache, digest_of, regular, replacing
from scoresde.files.arrays import Npz

BATCH = 256  # images that are decoded at once
FORMAT = "scoresde-images-1"


def load_mapped(
    source: str | Path, split: str = "train", resizing: Resizing | None = None, columns: Columns | None = None
) -> Images:
    """As :func:`scoresde.data.load`, with pixels that stay on disk and are read where they are asked for.

    They are decoded once, into ``images`` in ``$SCORESDE_CACHE``, or ``~/.cache/scoresde``, by the SHA-256 of the files
    and of what becomes of them; later calls, and other processes, map the same file.

    Raises:
        DataError: as for :func:`scoresde.data.load`.
        OSError: the disk is full.
    """
    columns = columns or Columns()
    stream = Stream(source, split, resizing, columns)
    folder = cache() / "images" / digest_of([stream.digest(), str(columns.label)])
    pixels, about = folder / "pixels.bin", folder / "about.npz"
    if (found := _kept(pixels, about)) is not None:
        return found
    count, shape = 0, None
    with replacing(pixels) as path, path.open("wb") as file:
        for batch in stream.batches(BATCH):
            shape, count = batch.shape[1:], count + len(batch)
            file.write(batch.contiguous().numpy().tobytes())
    assert shape is not None
    described = {"format": FORMAT, "shape": [count, *shape], "names": list(stream.names)}
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(described).encode(), np.uint8)}
    if stream.labels is not None:
        arrays["labels"] = stream.labels.numpy()
    with replacing(about) as path, path.open("wb") as file:  # last: it says that both are there
        np.savez(file, **arrays)
    found = _kept(pixels, about)
    assert found is not None
    return found


def _kept(pixels: Path, about: Path) -> Images | None:
    """What lies in the cache; None for nothing, or what is damaged, which is made again."""
    try:
        with Npz(about) as arrays:
            described: dict[str, Any] = json.loads(arrays["about"].tobytes())
            labels = torch.from_numpy(arrays["labels"].astype(np.int64)) if "labels" in arrays else None
        shape = tuple(map(int, described["shape"]))
        whole = described["format"] == FORMAT and regular(pixels).stat().st_size == math.prod(shape)
        if not whole or len(shape) != 4 or (labels is not None and labels.shape != shape[:1]):
            return None
        names = tuple(map(str, described["names"]))
    except (ValueError, OSError, KeyError, TypeError):
        return None
    found = torch.from_file(str(pixels), shared=False, size=math.prod(shape), dtype=torch.uint8)
    return Images(found.view(shape), labels, names)
