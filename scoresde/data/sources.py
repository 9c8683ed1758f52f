"""Where images lie: which files of a folder or a pattern hold them, and which of them are a split's."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from scoresde.data.errors import DataError
from scoresde.files import regular

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
TABLES = {".parquet", ".arrow"}
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHARD = re.compile(r"[0-9]+-[0-9]+\.(npz|zip)")  # of a run's samples: its first seed and its last
# What operating systems and disks on networks leave, besides hidden files.
DROPPINGS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
NUMBERS = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")  # {000..127}, of names of shards
MOST_SHARDS = 10**5
SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval")
STATE, DICTIONARY = "state.json", "dataset_dict.json"  # of datasets.save_to_disk: of a data set, of one with splits
LARGEST_STATE = 2**24  # bytes


def located(source: str | Path) -> Path:
    """The path, its ``~`` resolved.

    Raises:
        DataError: it is empty, or there is no such home folder.
    """
    if not str(source):
        raise DataError("no data at '': give a folder, zip, tar or npz of images, or 'digits'")
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise DataError(f"{str(source)!r} leads to nobody's home folder: write the path out") from error


def is_dropping(name: str) -> bool:
    """Whether it is hidden, or what an operating system leaves."""
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    return any(part.startswith(".") or part.lower() in DROPPINGS for part in parts)


def is_table(path: PurePath) -> bool:
    """Whether its name is one of a parquet or Arrow file."""
    return path.suffix.lower() in TABLES


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, relative to it, but for droppings.

    Links to folders are followed, since the user made them; a link to where one comes from is not.
    """
    seen = set[tuple[int, int]]()
    for place, inner, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not is_dropping(name))
        yield from (Path(place, name).relative_to(folder) for name in files if not is_dropping(name))


def _raise(error: OSError) -> None:
    raise error


def numbered(path: Path) -> list[Path]:
    """The files that a pattern such as ``train-{000..127}.tar`` names; none where it is no pattern, or itself a file.

    Raises:
        DataError: it counts downwards, or names more than 100,000 files.
    """
    texts = NUMBERS.split(str(path))
    if len(texts) == 1 or path.exists():
        return []
    choices: list[Sequence[str]] = []
    for first, last in zip(texts[1::3], texts[2::3], strict=True):
        numbers = range(int(first), int(last) + 1)
        if not numbers or math.prod(map(len, choices)) * len(numbers) > MOST_SHARDS:
            raise DataError(f"{str(path)!r} names {'no' if not numbers else f'over {MOST_SHARDS:,}'} files")
        choices.append([str(number).zfill(len(first)) for number in numbers])
    fixed = texts[::3]
    return [
        Path(fixed[0] + "".join(number + text for number, text in zip(chosen, fixed[1:], strict=True)))
        for chosen in itertools.product(*choices)
    ]


def parts(path: Path, split: str) -> tuple[list[Path], list[str]]:
    """What of a source holds its images: itself, or files in it; and names of files beside those, which are left out.

    Args:
        path: a file, a folder or a pattern of :func:`numbered`.
        split: of a folder of shards or tables; one by whose names no split is known is read as a whole.

    Raises:
        DataError: a run that kept no samples, a split that is not there, shards in several folders, a pattern that
            names nothing, or a data set of ``save_to_disk`` that is damaged.
    """
    if not path.is_dir():
        return numbered(path) or [path], []
    if (path / "config.yaml").is_file() and (path / "versions.json").is_file():
        return _of_run(path), []
    if found := _shards(path):
        return found, []
    if (path / DICTIONARY).is_file():
        splits = _described(path / DICTIONARY).get("splits")
        if not isinstance(splits, list) or split not in splits:
            raise _no_split(path, splits if isinstance(splits, list) else [], split)
        path = path / PurePath(split).name
    if (path / STATE).is_file() and "_data_files" in (state := _described(path / STATE)):
        return _saved(path, state), []
    return _sharded(path, split)


def _of_run(folder: Path) -> list[Path]:
    """The samples of a run of ``scoresde sample``."""
    for name in ("samples.npz", "samples.zip", "images"):
        if (folder / name).exists():
            return [folder / name]
    found = _shards(folder / "shards")
    if not found and (folder / "shards").is_dir():
        raise DataError(f"{str(folder)!r} is a run that kept no samples (keep=false)")
    return found or [folder]


def _shards(folder: Path) -> list[Path]:
    """Files of a run's shards, npz or zip, in the order of their seeds."""
    found = [path for path in folder.glob("*") if SHARD.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.split("-")[0]))


def _described(path: Path) -> dict[str, Any]:
    if (size := regular(path).stat().st_size) > LARGEST_STATE:
        raise DataError(f"{str(path)!r} has {size:,} bytes, more than {LARGEST_STATE:,}")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} is damaged: {str(error).partition(chr(10))[0]}") from error
    return found if isinstance(found, dict) else {}


def _saved(folder: Path, state: dict[str, Any]) -> list[Path]:
    """Arrow files of a data set that ``datasets.save_to_disk`` wrote, which lie beside its description."""
    listed = state["_data_files"]
    entries = listed if isinstance(listed, list) else []
    names = [str(entry.get("filename")) for entry in entries if isinstance(entry, dict)]
    if not names or len(names) < len(entries) or not all(name and name == PurePath(name).name for name in names):
        raise DataError(f"{str(folder / STATE)!r} is damaged: '_data_files' names no files beside it")
    if state.get("_indices_data_files"):  # of versions before 1.9: rows in another order, or some of them
        raise DataError(f"{str(folder)!r} has its rows chosen by indices: save it anew after flatten_indices()")
    return [folder / name for name in names]


def _sharded(folder: Path, split: str) -> tuple[list[Path], list[str]]:
    """Tables or tars of a folder that holds no pictures itself; otherwise the folder."""
    tables, tars, others = list[Path](), list[Path](), list[str]()
    for name in walk(folder):
        if name.suffix.lower() in SUFFIXES:
            return [folder], []
        if is_table(name):
            tables.append(name)
        elif name.name.lower().endswith(TARS):
            tars.append(name)
        else:
            others.append(name.as_posix())
    if bool(tables) == bool(tars):
        return [folder], []
    named = {name: _split_of(name, split) for name in sorted(tables or tars)}
    chosen, known = list(named), {found for found in named.values() if found is not None}
    if known:
        chosen = [name for name, found in named.items() if found == split]
        others += [name.as_posix() for name, found in named.items() if found is None]
    if not chosen:
        raise _no_split(folder, sorted(known), split)
    if len(folders := sorted({name.parent.as_posix() for name in chosen})) > 1:
        raise DataError(f"{str(folder)!r} has images in the folders {', '.join(map(repr, folders))}: give one of them")
    return [folder / name for name in chosen], others


def _split_of(name: Path, split: str) -> str | None:
    """The split that a file's name, or else that of a folder around it, has in it between other signs than letters."""
    words = "|".join(re.escape(word) for word in sorted({*SPLITS, split}, key=len, reverse=True))
    for part in reversed(name.parts):
        if found := re.findall(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", part):
            return found[-1]
    return None


def _no_split(path: Path, splits: list[str], split: str) -> DataError:
    return DataError(f"{str(path)!r} has the splits {', '.join(map(repr, splits)) or 'none'}, not {split!r}")
