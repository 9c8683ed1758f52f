"""Pictures in tables: parquet as on the Hugging Face hub, and Arrow as ``datasets.save_to_disk`` writes it.

pyarrow reads both, alone: ``datasets`` itself would bring pandas and others, decode pictures by whichever of Pillow's
decoders fits, and keep copies of its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoresde.data.errors import DataError
from scoresde.files import check_unpacked

ROWS = 16  # of a parquet file that are unpacked at once: by a dictionary they may all be one large value
NONE = "none"  # in place of a column of labels
ENDED = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of messages; without it some may be missing
FILE = b"ARROW1\0\0"  # before the stream, in Arrow's format of files
LARGEST_FEATURES = 2**24  # bytes of their description


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read; None is the only one that can be meant.

    Args:
        image: of pictures.
        label: of labels, whole numbers; "none" for no labels.

    Raises:
        TypeError: a value is no text.
    """

    image: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("column", self.image), ("label", self.label)):
            if not isinstance(value, str | None):
                raise TypeError(f"{name} must be the name of a column, got {value!r}")


class Table:
    """A parquet or Arrow file with a column of pictures.

    Args:
        path: a file.
        columns: which of its columns are read.

    Attributes:
        names: of the classes, where the file has them.

    Raises:
        DataError: pyarrow is not installed, or columns that are not there or of other kinds, or several that may be
            meant.
    """

    def __init__(self, path: Path, columns: Columns):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise DataError(f"{str(path)!r} is read by pyarrow: install scoresde[arrow]") from error
        self._arrow: Any = pyarrow
        self._path, self._name = path, repr(str(path))
        self._is_parquet = path.suffix.lower() == ".parquet"
        schema = self._parquet().schema_arrow if self._is_parquet else next(self._messages())
        features = _features(schema)
        self._image = self._image_of(schema, columns.image)
        self._label = self._label_of(schema, columns.label, features)
        self._wanted = [name for name in (self._image, self._label) if name is not None]
        names = features.get(self._label, {}).get("names") if self._label else None
        plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
        self.names: tuple[str, ...] = tuple(names) if names and plain else ()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Each row's picture, and before it its label, if it has one, as the class file of a WebDataset.

        Raises:
            DataError: a row without a picture, or something damaged.
        """
        row = 0
        for batch in self._batches():
            columns = [batch.column(name) for name in self._wanted]
            for column in columns:
                column.validate(full=True)  # what is said of places in memory is believed from here on
            for index in range(batch.num_rows):
                label = columns[1][index].as_py() if len(columns) > 1 else None
                if label is not None and label != -1:  # which is how data sets say that there is none
                    yield f"row {row}.cls", str(label).encode()
                picture = columns[0][index].as_py()
                content = picture.get("bytes") if isinstance(picture, dict) else picture
                if content is None:
                    path = picture.get("path") if isinstance(picture, dict) else None
                    only = f" but the path {path!r}: save it with its pictures" if path else ""
                    raise DataError(f"'row {row}' in {self._name} has no picture{only}")
                yield f"row {row}", content
                row += 1

    def _batches(self) -> Iterator[Any]:
        if not self._is_parquet:
            messages = self._messages()
            next(messages)
            yield from messages
            return
        with self._parquet() as file:
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                size = sum(group.column(place).total_uncompressed_size for place in range(group.num_columns))
                check_unpacked(self._name, self._path.stat().st_size, size)
            yield from file.iter_batches(ROWS, columns=self._wanted, use_threads=False)

    def _parquet(self) -> Any:
        return self._arrow.parquet.ParquetFile(self._path, pre_buffer=False, page_checksum_verification=True)

    def _messages(self) -> Iterator[Any]:
        """The schema, and the batches of rows."""
        with self._path.open("rb") as raw:
            if raw.read(len(FILE)) != FILE:
                raw.seek(0)
            stream, schema = self._arrow.PythonFile(raw, "r"), None
            for message in self._arrow.ipc.MessageReader.open_stream(stream):
                if schema is None:
                    schema = self._arrow.ipc.read_schema(message)
                    yield schema
                    continue
                if message.type != "record batch":
                    raise DataError(f"{self._name} has a {message.type}: only plain batches of rows are read")
                if _is_compressed(message.metadata.to_pybytes()):
                    raise DataError(f"{self._name} has compressed batches of rows, of unknown size: save it without")
                yield self._arrow.ipc.read_record_batch(message, schema)
            raw.seek(max(0, raw.tell() - len(ENDED)))
            if schema is None or raw.read(len(ENDED)) != ENDED:
                raise DataError(f"{self._name} is damaged: it breaks off")

    def _image_of(self, schema: Any, asked: str | None) -> str:
        types = self._arrow.types

        def is_binary(kind: Any) -> bool:
            return types.is_binary(kind) or types.is_large_binary(kind)

        def is_picture(kind: Any) -> bool:
            return types.is_struct(kind) and any(part.name == "bytes" and is_binary(part.type) for part in kind)

        found = [field.name for field in schema if is_picture(field.type)]
        found = found or [field.name for field in schema if is_binary(field.type)]
        if asked is not None and asked in found:
            return asked
        if asked is not None or not found:
            which = "column" if asked is None else f"column {asked!r}"
            raise DataError(f"{self._name} has no {which} of pictures: its columns are {_told(schema.names)}")
        if len(found) > 1:
            raise DataError(f"{self._name} has more than one column of pictures: data.column= is one of {_told(found)}")
        return found[0]

    def _label_of(self, schema: Any, asked: str | None, features: dict[str, Any]) -> str | None:
        if asked == NONE:
            return None
        found = [
            name for name in schema.names if "label" in name or features.get(name, {}).get("_type") == "ClassLabel"
        ]
        if asked is not None or "label" in found:
            found = [name for name in schema.names if name == (asked or "label")]
        if len(found) > 1 or (asked is not None and not found):
            said = "more than one column of labels" if found else f"no column {asked!r}"
            raise DataError(f"{self._name} has {said}: data.label= is one of {_told(found or schema.names)}, or {NONE}")
        if found and not self._arrow.types.is_integer(schema.field(found[0]).type):
            kind = schema.field(found[0]).type
            raise DataError(f"labels in the column {found[0]!r} of {self._name} must be whole numbers, got {kind}")
        return found[0] if found else None


def _told(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _features(schema: Any) -> dict[str, Any]:
    """What ``datasets`` has written of each column, such as the names of its classes; empty where it has not."""
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = json.loads(written) if len(written) <= LARGEST_FEATURES else {}
        columns = found["info"]["features"]
        return {name: column for name, column in columns.items() if isinstance(column, dict)}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def _is_compressed(metadata: bytes) -> bool:
    """Whether a record batch is packed, by its flatbuffer: to which size, only the packed bytes would say."""

    def field(table: int, number: int) -> int:
        """Where the field of a table is; 0 if it has none."""
        entries = table - struct.unpack_from("<i", metadata, table)[0]
        place = 4 + 2 * number
        length = struct.unpack_from("<H", metadata, entries)[0]
        offset = struct.unpack_from("<H", metadata, entries + place)[0] if place < length else 0
        return table + offset if offset else 0

    def below(place: int) -> int:
        return place + struct.unpack_from("<I", metadata, place)[0]

    return bool(field(below(field(below(0), 2)), 3))  # of Message: header; of RecordBatch: compression
