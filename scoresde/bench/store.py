"""Rows on disk: a line each, added as soon as it is done; the first images of each row beside it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.rows import Row
from scoresde.files import replacing

ROWS, IMAGES = "results.jsonl", "images"


class Store:
    """The rows of a folder, by the keys of their cases.

    A line that a killed process left unfinished is dropped; anything else that is not a row is refused.

    Args:
        folder: holds ``results.jsonl`` and ``images/``; made if missing.

    Raises:
        ValueError: the results file is damaged.
    """

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, dict[str, Row]()
        path = folder / ROWS
        if not path.exists():
            return
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        try:
            for line in whole.decode().splitlines():
                content = json.loads(line)
                key = content.pop("key")
                self.rows[key] = Row.of(content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}; remove it and start again") from error
        if torn:
            with replacing(path) as temporary:
                temporary.write_bytes(whole + b"\n" if whole else b"")

    def __contains__(self, key: str) -> bool:
        return key in self.rows and self._picture(key).exists()

    def add(self, key: str, row: Row, pixels: Tensor) -> None:
        """Keep a row; its images are written first."""
        with replacing(self._picture(key)) as path:
            np.savez_compressed(path, pixels=pixels.numpy())
        with open(self.folder / ROWS, "ab") as file:
            file.write((json.dumps({"key": key, **asdict(row)}) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self.rows[key] = row

    def images(self, key: str) -> Tensor:
        """uint8 pixels (shown, channels, height, width) of a row."""
        path = self._picture(key)
        try:
            with np.load(path, allow_pickle=False) as content:
                return torch.from_numpy(content["pixels"])
        except (ValueError, KeyError, EOFError, OSError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}; remove it and start again") from error

    def _picture(self, key: str) -> Path:
        return self.folder / IMAGES / f"{key}.npz"
