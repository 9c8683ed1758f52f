"""Rows on disk: a line each, added as soon as it is done; the first images of each row beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.rows import Failure, Row
from scoresde.files import regular, replacing
from scoresde.files.arrays import Npz

ROWS, IMAGES, CONVERGED = "results.jsonl", "images", "converged"
PART = re.compile(r"results-(\d+)\.jsonl")
NAME = re.compile(r"[0-9a-f]{16}\.npz")  # of pictures and of converged solutions


def _parts(folder: Path) -> list[Path]:
    """Files of rows that other processes have left, in the order of their numbers."""
    found = {int(match[1]): path for path in folder.glob("results-*.jsonl") if (match := PART.fullmatch(path.name))}
    return [path for _, path in sorted(found.items())]


def files(folder: Path) -> list[str]:
    """Paths in a folder of the rows, and of the pictures and converged solutions that are there."""
    places = [place for place in (IMAGES, CONVERGED) if (folder / place).is_dir()]
    found = [f"{place}/{path.name}" for place in places for path in sorted((folder / place).iterdir())]
    return [
        ROWS,
        *(path.name for path in _parts(folder)),
        *(name for name in found if NAME.fullmatch(name.rpartition("/")[2])),
    ]


class Store:
    """The rows of a folder, by the keys of their cases.

    A line that a killed process left unfinished is dropped; anything else that is not a row is refused. A case that
    failed has a line, too, which its row replaces when it is tried again.

    Several processes may add rows, each to a file of its own: the first, which is made before the others, to
    ``results.jsonl``, another to ``results-<part>.jsonl``. The first takes in what the others have left, when it is
    made and by :meth:`gather`.

    Args:
        folder: holds ``results.jsonl`` and ``images/``; made if missing.
        part: number of this process among those that share the rows.

    Raises:
        ValueError: a results file is damaged.
    """

    def __init__(self, folder: Path, part: int = 0):
        self.folder, self.rows, self.failures = folder, dict[str, Row](), dict[str, Failure]()
        self._lines: dict[str, bytes] = {}
        self._before: list[str] = []
        self._path = folder / ROWS
        torn = self._read(self._path)
        if part:
            self._path, self._lines = folder / f"results-{part}.jsonl", {}
        elif torn or _parts(folder):
            self.gather(())
        self._before = list(self._lines)

    def gather(self, order: Sequence[str]) -> None:
        """Take in the rows of the other processes, which are done.

        Args:
            order: of the keys of rows that were not there when this was made.
        """
        parts = _parts(self.folder)
        for path in parts:
            self._read(path)
        keys = dict.fromkeys([*self._before, *(key for key in order if key in self._lines), *self._lines])
        self._lines = {key: self._lines[key] for key in keys}
        self._write()
        for path in parts:
            path.unlink()

    def _read(self, path: Path) -> bool:
        """Keep the lines of a file that are whole; whether the last is not."""
        if not path.exists():
            return False
        whole, _, torn = regular(path).read_bytes().rpartition(b"\n")
        number = 0
        try:
            for line in whole.splitlines():
                number += 1
                self._keep(json.loads(line), line + b"\n")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{str(path)!r} is damaged in line {number}: {reason}; remove it and start again"
            ) from error
        return bool(torn)

    def _keep(self, content: dict[str, Any], line: bytes) -> None:
        key = content.pop("key")
        if "failed" in content:
            self.failures[key] = Failure(**content)
        else:
            self.rows[key] = Row.of(content)
            self.failures.pop(key, None)
        self._lines[key] = line

    def __contains__(self, key: str) -> bool:
        if key not in self.rows:
            return False
        try:
            self.images(key)
        except ValueError:
            return False
        return True

    def add(self, key: str, row: Row, pixels: Tensor) -> None:
        """Keep a row; its images are written first."""
        with replacing(self._picture(key)) as path:
            np.savez_compressed(path, pixels=pixels.numpy())
        self._append(key, asdict(row))

    def fail(self, key: str, failure: Failure) -> None:
        """Keep that a case has failed."""
        self._append(key, asdict(failure))

    def images(self, key: str) -> Tensor:
        """uint8 pixels (shown, channels, height, width) of a row.

        Raises:
            ValueError: they are damaged or not there.
        """
        try:
            with Npz(self._picture(key)) as arrays:
                content = arrays["pixels"]
        except FileNotFoundError as error:
            raise ValueError(f"no pictures at {str(self._picture(key))!r}") from error
        if content.dtype != np.uint8 or content.ndim != 4:
            raise ValueError(f"{str(self._picture(key))!r} holds no pictures but {content.dtype} {content.shape}")
        return torch.from_numpy(content)

    def _append(self, key: str, content: Mapping[str, Any]) -> None:
        again, line = key in self._lines, (json.dumps({"key": key, **content}) + "\n").encode()
        self._keep({"key": key, **content}, line)
        if again:
            self._write()
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _write(self) -> None:
        with replacing(self._path) as path:
            path.write_bytes(b"".join(self._lines.values()))

    def _picture(self, key: str) -> Path:
        return self.folder / IMAGES / f"{key}.npz"
