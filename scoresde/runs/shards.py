"""Samples in a folder, shard by shard: each is whole, checksummed and on disk, or it is made again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from torch import Tensor

from scoresde.files import digest, digest_of, regular, replacing
from scoresde.files.arrays import Npz
from scoresde.noise import SEED_LIMIT
from scoresde.runs import formats
from scoresde.runs.formats import SHARDS, save_npz

RECORD, TRAJECTORY = "scoresde-shard-1", "trajectory.npz"
MOST = 10**8  # seeds in a request
DIGITS = 6  # of a seed in a file's name, at least


def parse_seeds(value: Any) -> NDArray[np.int64]:
    """Seeds from ``"0-49999"``, ``7``, or a list of such in rising order, shape (n,).

    Raises:
        ValueError: something else, seeds that do not rise, one of 2⁶³ and more, or more than 10⁸ of them.
    """
    ranges = [_range(item) for item in ([value] if isinstance(value, (str, int)) else value)]
    for before, after in zip(ranges, ranges[1:], strict=False):
        if after.start < before.stop:
            raise ValueError(
                f"seeds must rise from range to range, got {span(before)} before {span(after)}: "
                "sort the ranges, and let each seed be in one"
            )
    if not ranges:
        raise ValueError("seeds must be ranges such as 0-49999 or [0-9,20-29], got none")
    if (total := sum(map(len, ranges))) > MOST:
        raise ValueError(f"a folder takes {MOST:,} seeds at most, got {total:,}")
    return np.concatenate([np.arange(item.start, item.stop) for item in ranges])


def seeds_of(config: Mapping[str, Any]) -> NDArray[np.int64]:
    """The seeds that a configuration asks for, by ``seeds``, or by ``n`` and ``seed``, shape (n,).

    Raises:
        ValueError: see :func:`parse_seeds`.
    """
    seeds = config["seeds"]
    return parse_seeds(f"{config['seed']}-{config['seed'] + config['n'] - 1}" if seeds is None else seeds)


def _range(item: Any) -> range:
    first, dash, last = str(item).partition("-")
    numbers = [first.strip(), last.strip() if dash else first.strip()]
    if isinstance(item, bool) or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"seeds must be ranges such as 0-49999 or [0-9,20-29], got {item!r}")
    start, end = map(int, numbers)
    if end < start or end >= SEED_LIMIT:
        raise ValueError(f"a range of seeds goes up, to 2**63 - 1 at most, got {item!r}")
    return range(start, end + 1)


def span(seeds: Sequence[int] | NDArray[np.int64] | range) -> str:
    """First and last of some seeds, as a file's name has them."""
    return f"{seeds[0]}-{seeds[-1]}"


@dataclass(frozen=True)
class Shard:
    """Some consecutive images of a request.

    Attributes:
        name: of its files, from the first seed and the last.
        place: of its first image among all.
        seeds: of its images, (n,).
    """

    name: str
    place: int
    seeds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Samples:
    """What is in a folder of samples, in the order of the seeds.

    Attributes:
        samples: (n, channels, height, width); float32 in [−1, 1] from npz, uint8 pixels from PNGs; None if not kept.
        seeds: of each image, uint64.
        labels: class of each image, −1 for none.
        nfe: model evaluations of an image, the most where they differ.
        features: (n, size), float32, in the feature space that config.yaml names; None if none were asked for.
    """

    samples: NDArray[Any] | None
    seeds: NDArray[np.uint64]
    labels: NDArray[np.int64]
    nfe: int
    features: NDArray[np.float32] | None


class Shards:
    """The shards of a request in a folder.

    A shard is there when ``shards/<name>.json`` is, which is written last and holds the SHA-256 of all that belongs to
    it, and of itself. Which images a shard has, and so in which batches they are computed, depends on the request
    alone: so do its bytes, whoever writes it.

    Args:
        folder: where they lie.
        seeds: of all images.
        size: images in a shard; the last may have fewer.
        form: ``npz``, ``png`` or ``zip``; None keeps no samples.
        features: whether features are kept.

    Raises:
        ValueError: unknown format, or neither samples nor features to keep.
    """

    def __init__(self, folder: Path, seeds: NDArray[np.int64], size: int, form: str | None, features: bool):
        if form is None and not features:
            raise ValueError("neither samples nor metrics would be kept: give keep=true or metrics=true")
        self.folder, self.total = folder, len(seeds)
        width = max(DIGITS, len(str(seeds[-1])))
        pieces = [(place, seeds[place : place + size]) for place in range(0, len(seeds), size)]
        self.parts = [Shard(f"{piece[0]:0{width}d}-{piece[-1]:0{width}d}", place, piece) for place, piece in pieces]
        self._format = None if form is None else formats.FORMATS.find(form)(folder, width, len(self.parts) == 1)
        self._png = formats.Png(folder, width, single=True)
        self.has_features = features

    @classmethod
    def of(cls, folder: str | Path, config: Mapping[str, Any]) -> Shards:
        """The shards that a configuration of ``scoresde sample`` asks for.

        Raises:
            KeyError, TypeError, ValueError: it is no such configuration.
        """
        form = config["format"] if config["keep"] else None
        return cls(Path(folder), seeds_of(config), config["shard"], form, config["metrics"] is not False)

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """What was recorded of a shard, or None; what it says of its files is not checked."""
        try:
            written = regular(self._path(shard)).read_text(encoding="utf-8")
            content = json.loads(written)
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or content.pop("sha256", None) != seal(content):
            return None
        if written != _sealed(content):
            return None
        meant = {"format": RECORD, "seeds": span(shard.seeds)}
        return content if {key: content.get(key) for key in meant} == meant else None

    def whole(self, shard: Shard) -> bool:
        """Whether a shard is there, and all that belongs to it is byte for byte as it was written."""
        content = self.record(shard)
        if content is None:
            return False
        names = self._format.names(shard.name, shard.seeds) if self._format else []
        if list(content["samples"]) != names or self.has_features != (self._feature_file(shard) in content["files"]):
            return False
        try:
            if any(digest(self.folder / file) != value for file, value in content["files"].items()):
                return False
            found = self._format.digests(shard.name, names) if self._format else []
        except (FileNotFoundError, ValueError, zipfile.BadZipFile):
            return False
        return found == list(content["samples"].values())

    def write(
        self,
        shard: Shard,
        samples: Tensor,
        labels: NDArray[np.int64],
        evaluations: Sequence[int],
        features: NDArray[np.float32] | None = None,
        pictures: Iterable[Path] = (),
    ) -> None:
        """Write all of a shard, and then its record.

        Args:
            shard: one of ``parts``.
            samples: float32 (n, channels, height, width) in [−1, 1], on the CPU.
            labels: (n,), −1 for none.
            evaluations: model evaluations of each image.
            features: (n, size), if they are kept.
            pictures: further files in the folder that belong to this shard, and have been written.
        """
        nfe = max(evaluations)
        files = {path.relative_to(self.folder).as_posix(): digest(path) for path in pictures}
        if features is not None:
            name = self._feature_file(shard)
            files[name] = save_npz(self.folder / name, features=features, seeds=shard.seeds.astype(np.uint64))
        kept: dict[str, str] = {}
        if self._format is not None:
            names = self._format.names(shard.name, shard.seeds)
            digests = self._format.write(shard.name, samples, shard.seeds, labels, nfe)
            kept = dict(zip(names, digests, strict=True))
        content = {"format": RECORD, "seeds": span(shard.seeds), "nfe": nfe, "evaluations": sum(evaluations)}
        content |= {"labels": labels.tolist(), "files": files, "samples": kept}
        with replacing(self._path(shard)) as path:
            path.write_text(_sealed(content), encoding="utf-8")

    def single_pictures(self, shard: Shard, samples: Tensor) -> list[Path]:
        """Write each sample as a PNG beside the arrays of a shard, where no other format makes them."""
        if not isinstance(self._format, formats.Npz):
            return []
        self._png.write(shard.name, samples, shard.seeds, np.empty(0), 0)
        return [self.folder / name for name in self._png.names(shard.name, shard.seeds)]

    def files(self) -> Iterator[str]:
        """Paths in the folder of all that may have been written for these shards, pictures of single ones too."""
        for part in self.parts:
            yield f"{SHARDS}/{part.name}.json"
            if self.has_features:
                yield self._feature_file(part)
            if self._format is not None:
                yield from self._format.files(part.name, self._format.names(part.name, part.seeds))
        if len(self.parts) == 1 and isinstance(self._format, formats.Npz):
            yield from self._png.names(self.parts[0].name, self.parts[0].seeds)

    def features(self, shard: Shard) -> NDArray[np.float32]:
        """The features of a shard that is whole, (n, size)."""
        with Npz(self.folder / self._feature_file(shard)) as arrays:
            return arrays["features"]

    def samples(self, shard: Shard) -> NDArray[Any] | None:
        """The samples of a shard that is whole, as :class:`Samples` has them."""
        return self._format.read(shard.name, self._format.names(shard.name, shard.seeds)) if self._format else None

    def pngs(self) -> Iterator[tuple[str, bytes]]:
        """The samples of all shards, which are whole, as PNG files with names by their seeds, one after the other.

        Raises:
            ValueError: none were kept, or they are no images.
        """
        if self._format is None:
            raise ValueError(f"{str(self.folder)!r} keeps no samples, but their features alone (keep=false)")
        for part in self.parts:
            names = [Path(name).name for name in self._png.names(part.name, part.seeds)]
            yield from zip(names, self._format.pngs(part.name, self._format.names(part.name, part.seeds)), strict=True)

    def count(self, parts: Iterable[Shard]) -> int:
        """Images of those of the shards that have a record; a quick look, which checks nothing."""
        there = {path.stem for path in (self.folder / SHARDS).glob("*.json")}
        return sum(len(shard) for shard in parts if shard.name in there)

    def there(self) -> int:
        """Images of those shards whose record and files are there; the files' content is not checked."""
        return sum(len(shard) for shard in self.parts if self._there(shard))

    def _there(self, shard: Shard) -> bool:
        content = self.record(shard)
        if content is None:
            return False
        kept = self._format is None or self._format.there(shard.name, list(content["samples"]))
        return kept and all((self.folder / file).is_file() for file in content["files"])

    def forget(self, shard: Shard) -> None:
        """Remove the record of a shard that is not whole, so that nobody counts it."""
        self._path(shard).unlink(missing_ok=True)

    def finished(self) -> bool:
        """Whether, with all shards there, :meth:`finish` has nothing to do."""
        return self._format is None or self._format.finished()

    def finish(self) -> None:
        """Make the one file of all shards where the format has one."""
        if self._format is not None:
            self._format.finish((part.name, self._format.names(part.name, part.seeds)) for part in self.parts)

    def _path(self, shard: Shard) -> Path:
        return self.folder / SHARDS / f"{shard.name}.json"

    def _feature_file(self, shard: Shard) -> str:
        return f"{SHARDS}/{shard.name}.features.npz"


def seal(content: dict[str, Any]) -> str:
    """SHA-256 of what JSON can hold."""
    return digest_of([json.dumps(content, sort_keys=True)])


def _sealed(content: dict[str, Any]) -> str:
    return json.dumps({**content, "sha256": seal(content)}) + "\n"


def complete(folder: str | Path) -> Shards:
    """The shards that ``scoresde sample`` has left in a folder, all of them whole; checksums are checked.

    Raises:
        ValueError: no such folder, or shards are missing or damaged.
    """
    folder = Path(folder)
    try:
        shards = Shards.of(folder, yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(folder)!r} is no folder of samples: {' '.join(str(error).split())}") from error
    missing = [part for part in shards.parts if not shards.whole(part)]
    if missing or not shards.finished():
        raise ValueError(
            f"{str(folder)!r} is not complete: {len(missing)} of {len(shards.parts)} shards are missing or damaged; "
            "the command that made it makes them (again)"
        )
    return shards


def load(folder: str | Path) -> Samples:
    """All that ``scoresde sample`` has left in a folder, whatever its format; checksums are checked.

    Raises:
        ValueError: no such folder, or shards are missing or damaged.
    """
    shards = complete(folder)
    records = [shards.record(part) or {} for part in shards.parts]
    samples = [kept for part in shards.parts if (kept := shards.samples(part)) is not None]
    features = [shards.features(part) for part in shards.parts] if shards.has_features else []
    return Samples(
        samples=np.concatenate(samples) if samples else None,
        seeds=np.concatenate([part.seeds for part in shards.parts]).astype(np.uint64),
        labels=np.concatenate([np.asarray(record["labels"], dtype=np.int64) for record in records]),
        nfe=max(record["nfe"] for record in records),
        features=np.concatenate(features) if features else None,
    )
