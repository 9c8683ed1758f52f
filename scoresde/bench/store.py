"""Rows on disk: a line each, added as soon as it is done; the first images of each row beside it.

What they are read against lies in ``outcome.json``, so that the report can be made again of the folder alone.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.cases import OWN_STEPS
from scoresde.bench.rows import Failure, Limits, Outcome, Row, Timing
from scoresde.files import regular, replacing
from scoresde.files.arrays import Npz
from scoresde.metrics import Floors, Score
from scoresde.runs import record

ROWS, IMAGES, OUTCOME, TIMINGS = "results.jsonl", "images", "outcome.json", "timings.jsonl"
FORMAT = "scoresde-outcome-1"
CONVERGED = "converged"  # the folder of converged solutions
SOLVED = "outcome.npz"  # pictures of them
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
        OUTCOME,
        SOLVED,
        TIMINGS,
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
        mend: take an unfinished line away; not for who only reads, beside a benchmark that may be adding it.

    Raises:
        ValueError: a results file is damaged.
    """

    def __init__(self, folder: Path, part: int = 0, mend: bool = True):
        self.folder, self.rows, self.failures = folder, dict[str, Row](), dict[str, Failure]()
        self._lines: dict[str, bytes] = {}
        self._before: list[str] = []
        self._path = folder / ROWS
        torn = self._read(self._path)
        if part:
            self._path, self._lines = folder / f"results-{part}.jsonl", {}
        elif mend and (torn or _parts(folder)):
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

    def add(self, key: str, row: Row, seen: Tensor) -> None:
        """Keep a row; its images, or points, are written first."""
        with replacing(self._picture(key)) as path:
            np.savez_compressed(path, pixels=seen.numpy())
        self._append(key, asdict(row))

    def fail(self, key: str, failure: Failure) -> None:
        """Keep that a case has failed."""
        self._append(key, asdict(failure))

    def images(self, key: str) -> Tensor:
        """uint8 pixels (shown, channels, height, width) of a row, or float32 points (shown, dim).

        Raises:
            ValueError: they are damaged or not there.
        """
        try:
            with Npz(self._picture(key)) as arrays:
                content = arrays["pixels"]
        except FileNotFoundError as error:
            raise ValueError(f"no pictures at {str(self._picture(key))!r}") from error
        if (content.dtype, content.ndim) not in ((np.uint8, 4), (np.float32, 2)):
            raise ValueError(f"{str(self._picture(key))!r} holds no pictures but {content.dtype} {content.shape}")
        return torch.from_numpy(content)

    def conclude(
        self,
        keys: Sequence[str],
        stale: Sequence[str],
        limits: Limits,
        labels: Sequence[int | str],
        own: bool,
        features: int,
        pixels: Tensor,
    ) -> None:
        """Keep what rows are read against, with pictures of the converged solution; again when there are more rows.

        Args:
            keys: of the rows in the order asked for.
            stale: of rows that others have replaced.
            limits: the converged solution and the floors.
            labels: classes of the pictures, or their names.
            own, features: as in :class:`Outcome`.
            pixels: as in :meth:`add`, of the converged solution.
        """
        with replacing(self._picture(CONVERGED)) as path:
            np.savez_compressed(path, pixels=pixels.numpy())
        content = {"format": FORMAT, "rows": list(keys), "stale": list(stale), **asdict(limits)}
        content |= {"labels": list(labels), "own": own, "features": features}
        content["converged"]["seconds"] = None  # of how many evaluations they are is no matter of the report
        with replacing(self.folder / OUTCOME) as path:
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def timings(self) -> dict[str, Timing]:
        """Timings by key, the last of each; what a killed process left unfinished is none.

        Raises:
            ValueError: the file is damaged.
        """
        path, found = self.folder / TIMINGS, dict[str, Timing]()
        if not path.exists():
            return found
        whole, _, _ = regular(path).read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                content = json.loads(line)
                key = str(content.pop("key"))
                found[key] = Timing.of(content)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise ValueError(f"{str(path)!r} is damaged in line {number}: {error}; remove it") from error
        return found

    def time(self, key: str, timing: Timing) -> None:
        """Keep a timing; one that was there of this key is replaced."""
        found = {**self.timings(), key: timing}
        lines = [json.dumps({"key": key, **asdict(each)}) + "\n" for key, each in found.items()]
        with replacing(self.folder / TIMINGS) as path:
            path.write_text("".join(lines), encoding="utf-8")

    def outcome(self) -> Outcome:
        """Everything in the folder: rows in the order asked for, others after them.

        Rows that an earlier version wrote say the model, seed and versions that the folder records.

        Raises:
            ValueError: nothing has been concluded yet, or a file is damaged.
        """
        path = self.folder / OUTCOME
        try:
            content = json.loads(regular(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"it is of format {content['format']!r:.40}")
            limits, stale = _limits(content), set(content["stale"])
            order, own = [str(key) for key in content["rows"]], bool(content["own"])
            labels, features = (
                [label if isinstance(label, str) else int(label) for label in content["labels"]],
                int(content["features"]),
            )
        except FileNotFoundError as error:
            raise ValueError(
                f"{str(self.folder)!r} holds no {OUTCOME}: the same scoresde bench command makes it, and keeps the rows"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{str(path)!r} is damaged: {reason}; the same scoresde bench command makes it") from error
        order += [key for key in self.rows if key not in order and key not in stale]
        order = [key for key in order if key in self and key not in self.failures]
        config, environment = record.recorded(self.folder) or {}, record.versions_of(self.folder)
        about = {"model": model(config), "seeds": (config.get("seed", 0),), "versions": record.said(environment)}
        rows = [_told(self.rows[key], about) for key in order]
        pictures = [self.images(key) for key in (*order, CONVERGED)]
        if others := [key for key, image in zip(order, pictures, strict=False) if image.shape != pictures[-1].shape]:
            raise ValueError(f"the pictures {others[:3]} in {str(self.folder)!r} are of another size: remove them")
        return Outcome(
            rows,
            _told(limits.converged, about),
            limits.reference_error,
            limits.floors,
            torch.stack(pictures),
            labels,
            config={**config, **_varied(rows)},
            environment=environment,
            failures=list(self.failures.values()),
            own=own,
            features=features,
            timings=list(self.timings().values()),
        )

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
        return self.folder / SOLVED if key == CONVERGED else self.folder / IMAGES / f"{key}.npz"


def read(folder: str | Path) -> Outcome:
    """What a benchmark's folder holds, of one that is under way too.

    Raises:
        ValueError: it is no such folder, nothing is there yet, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / ROWS).is_file():
        raise ValueError(f"{str(folder)!r} is no folder of scoresde bench: it has no {ROWS}")
    return Store(folder, mend=False).outcome()


def model(config: Mapping[str, Any]) -> str:
    """What a configuration calls its model; "" where it has none."""
    chosen = config.get("model")
    return str((chosen.get("path", chosen.get("name")) if isinstance(chosen, Mapping) else chosen) or "")


def _told(row: Row, about: Mapping[str, Any]) -> Row:
    """The row with what it does not say itself."""
    return replace(row, **{name: value for name, value in about.items() if not getattr(row, name)})


def _varied(rows: Sequence[Row]) -> dict[str, Any]:
    """What was varied, by the rows themselves."""
    on_grids, adaptive = ([row for row in rows if (row.grid == OWN_STEPS) is own] for own in (False, True))
    found = {
        "solvers": [row.solver for row in rows],
        "grids": [row.grid for row in on_grids],
        "nfe": sorted(row.budget for row in on_grids),
        "tolerances": sorted(row.budget for row in adaptive),
        "guidances": [row.guidance for row in rows],
        "dtype": [row.dtype for row in rows],
        "compile": [row.compile for row in rows],
    }
    return {key: list(dict.fromkeys(values)) for key, values in found.items()}


def _limits(content: Mapping[str, Any]) -> Limits:
    """What rows are read against, as it was kept."""
    converged = Row.of({**content["converged"], "seconds": 0.0})
    floors = content["floors"]
    if floors is not None:
        spread = None if floors["spread"] is None else float(floors["spread"])
        floors = Floors(Score(**floors["real"]), spread, Score(**floors["converged"]))
    return Limits(replace(converged, seconds=math.nan), float(content["reference_error"]), floors)
