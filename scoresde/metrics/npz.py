"""npz files that carry a format key and are checked when read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoresde.files import replacing
from scoresde.files.arrays import Npz


def write(path: str | Path, form: str, arrays: dict[str, Any]) -> None:
    """Write ``arrays`` and the format's name, compressed; equal arrays give equal bytes."""
    # Through an open file: given a name, numpy would append ".npz" to any other suffix.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, format=np.array(form), **arrays)


def read(path: str | Path, form: str, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of ``keys`` from a file of :func:`write`.

    Raises:
        ValueError: the file is missing, damaged, of another format, or lacks a key.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file at {str(path)!r}")
    try:
        with Npz(path) as arrays:
            if "format" not in arrays:
                raise ValueError(f"its format is an unnamed one, not {form}")
            if (found := str(arrays["format"])) != form:
                raise ValueError(f"its format is {repr(found[:40])[1:-1]}, not {form}")
            return {key: arrays[key] for key in keys}
    except (ValueError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged or foreign: {error}") from error
