"""Tables of pictures: what datasets of Hugging Face write is read as folders are, and damage never reaches memory."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from scoresde.data import Columns, DataError, DataWarning, Resizing, load
from scoresde.files import CACHE
from scoresde.metrics import PixelSpace, real_images

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
LABELS = [2, 0, 1, 2, 0]
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


PICTURES = [encoded(Image.fromarray(pixels)) for pixels in PIXELS]


def rows(pictures: Sequence[bytes | None], **columns: Any) -> pa.Table:
    found = pa.array([{"bytes": each, "path": None} for each in pictures], IMAGE)
    return pa.table({"image": found, **columns})


def described(table: pa.Table, **classes: list[str]) -> pa.Table:
    """With what ``datasets`` writes of its columns."""
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    """A parquet file, an Arrow stream, or where it is called so an Arrow file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3, **options)
        return path
    make = ipc.new_file if path.stem == "file" else ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, make(file, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def saved(folder: Path, table: pa.Table, split: str | None = None) -> Path:
    """As ``Dataset.save_to_disk`` leaves it."""
    write(folder / "data-00000-of-00002.arrow", table.slice(0, 2))
    write(folder / "data-00001-of-00002.arrow", table.slice(2))
    files = [{"filename": f"data-{index:05d}-of-00002.arrow"} for index in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_fingerprint": "0", "_split": split}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def same(path: Path, labels: list[int] | None = LABELS, names: tuple[str, ...] = (), **options: Any) -> None:
    images = load(path, **options)
    assert torch.equal(images.pixels, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert (None if images.labels is None else images.labels.tolist()) == labels and images.names == names


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
def test_a_file_gives_its_pictures_labels_and_names_of_classes(name: str, tmp_path: Path) -> None:
    table = rows(PICTURES, label=LABELS, text=["words"] * 5)
    same(write(tmp_path / name, table))
    same(write(tmp_path / name, described(table, label=["ape", "bee", "cat", "dog"])), names=("ape", "bee", "cat"))
    same(write(tmp_path / name, rows(PICTURES, label=[-1] * 5)), None)  # how data sets say that there are none
    same(write(tmp_path / name, rows(PICTURES)), None)
    same(write(tmp_path / name, pa.table({"jpg": pa.array(PICTURES, pa.binary()), "cls_label": LABELS})))


def test_splits_are_those_of_names_and_what_lies_beside_is_said(tmp_path: Path) -> None:
    table = rows(PICTURES, label=LABELS)
    for index, part in enumerate((table.slice(0, 2), table.slice(2))):
        write(tmp_path / "hub" / "data" / f"train-{index:05d}-of-00002-0a1b.parquet", part)
    write(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", rows(PICTURES[:1], label=[9]))
    (tmp_path / "hub" / "README.md").write_text("words")
    with pytest.warns(DataWarning, match=r"1 file left out: .md \(1\), in .*hub'"):
        same(tmp_path / "hub")
    with pytest.warns(DataWarning):
        assert len(load(tmp_path / "hub", "test")) == 1
    with pytest.raises(DataError, match="has the splits 'test', 'train', not 'val'"):
        load(tmp_path / "hub", "val")


def test_what_save_to_disk_wrote_is_read_by_its_description(tmp_path: Path) -> None:
    table = described(rows(PICTURES, label=LABELS), label=["a", "b", "c"])
    same(saved(tmp_path / "one", table), names=("a", "b", "c"))
    for split in ("train", "test"):
        saved(tmp_path / "both" / split, table if split == "test" else table.slice(3), split)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    same(tmp_path / "both", names=("a", "b", "c"), split="test")
    assert len(load(tmp_path / "both")) == 2
    with pytest.raises(DataError, match="both' has the splits 'train', 'test', not 'dev'"):
        load(tmp_path / "both", "dev")
    write(tmp_path / "one" / "cache-0a1b.arrow", table)  # of a map, and no part of it
    same(tmp_path / "one", names=("a", "b", "c"))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("{", "state.json' is damaged"),
        ('{"_data_files": []}', "'_data_files' names no files beside it"),
        ('{"_data_files": [{"filename": "../data.arrow"}]}', "'_data_files' names no files beside it"),
        ('{"_data_files": [{"filename": "/etc/passwd"}]}', "'_data_files' names no files beside it"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow' in .* leads to nothing"),
        ('{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{}]}', r"flatten_indices\(\)"),
    ],
)
def test_a_description_that_leads_elsewhere_is_refused(state: str, words: str, tmp_path: Path) -> None:
    (saved(tmp_path / "one", rows(PICTURES)) / "state.json").write_text(state)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "one")


def test_columns_are_chosen_where_several_may_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", rows(PICTURES, fine_label=LABELS, coarse_label=[0] * 5))
    with pytest.raises(DataError, match="more than one column of labels: data.label= is one of 'fine_label', 'coarse"):
        load(path)
    same(path, columns=Columns(label="fine_label"))
    same(path, None, columns=Columns(label="none"))
    with pytest.raises(DataError, match="no column 'fine': data.label= is one of 'image', 'fine_label'"):
        load(path, columns=Columns(label="fine"))
    table = rows(PICTURES, label=LABELS)
    path = write(tmp_path / "b.parquet", table.append_column("mask", table.column("image").slice(0)))
    with pytest.raises(DataError, match="more than one column of pictures: data.column= is one of 'image', 'mask'"):
        load(path)
    same(path, columns=Columns(image="mask"))
    with pytest.raises(DataError, match="no column 'label' of pictures: its columns are 'image', 'label', 'mask'"):
        load(path, columns=Columns(image="label"))
    with pytest.raises(TypeError, match="label must be the name of a column, got 3"):
        Columns(label=3)  # type: ignore[arg-type]
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    assert real_images.reference(tmp_path / "a.parquet", PixelSpace((3, 4, 4))).moments.count == 5


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"text": ["words"]}), "has no column of pictures: its columns are 'text'"),
        (rows([PICTURES[0], None]), "'row 1' in .* has no picture$"),
        (pa.table({"image": pa.array([{"bytes": None, "path": "a.png"}], IMAGE)}), "but the path 'a.png': save it"),
        (pa.table({"image": pa.array([None], IMAGE)}), "'row 0' in .* has no picture$"),
        (rows([PICTURES[0], PICTURES[1][:60]]), "'row 1' in .* is not a readable image"),
        (rows([b"words"]), "'row 0' in .* is not a readable image: it is none of PNG"),
        (rows(PICTURES[:2], label=[0, -1]), r"has no class for 'row 1' \(1 in all\)"),
        (rows(PICTURES[:2], label=[0, None]), r"has no class for 'row 1' \(1 in all\)"),
        (rows(PICTURES[:2], label=[0, -2]), "'row 1.cls' in .* is no class"),
        (rows(PICTURES[:2], label=["a", "b"]), "labels in the column 'label' of .* must be whole numbers, got string"),
        (described(rows(PICTURES, label=LABELS), label=["a"]), "names 1 classes, and has one of the number 2"),
        (rows([]), "no images in"),
        (rows([encoded(Image.fromarray(np.full((4, 4), 999, np.uint16)))]), "'row 0' in .* more than 8 bits a channel"),
        (rows([PICTURES[0], encoded(Image.new("RGB", (5, 4)))]), r"'row 1' in .* has shape \(4, 5, 3\)"),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_rows_that_are_no_pictures_are_refused_by_their_number(
    name: str, table: pa.Table, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(write(tmp_path / name, table))
    assert "\n" not in str(caught.value)


def test_pictures_of_every_kind_are_what_they_are_in_a_folder(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    colour, alpha = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [(colour.convert(mode), "PNG", {}) for mode in ("L", "P", "1", "RGB")] + [(alpha, "PNG", {})]
    made += [(colour.convert("CMYK"), "JPEG", {}), (colour, "JPEG", {"exif": exif}), (alpha.convert("LA"), "PNG", {})]
    pictures = [encoded(image, form, **options) for image, form, options in made]
    (tmp_path / "folder").mkdir()
    for index, content in enumerate(pictures):
        (tmp_path / "folder" / f"{index}.img").write_bytes(content)
    resizing = Resizing(size=4, crop=True, channels=3)
    expected = load(tmp_path / "folder", resizing=resizing).pixels
    for name in ("a.parquet", "a.arrow"):
        assert torch.equal(load(write(tmp_path / name, rows(pictures)), resizing=resizing).pixels, expected)


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
def test_a_file_that_breaks_off_or_is_damaged_is_refused_or_read_but_never_another_error(
    name: str, tmp_path: Path
) -> None:
    path, dice = write(tmp_path / name, rows(PICTURES, label=LABELS)), random.Random(0)
    whole, refused = path.read_bytes(), 0
    ends = len(whole) if name == "a.parquet" else whole.rindex(b"\xff\xff\xff\xff\0\0\0\0")
    for cut in [*dice.sample(range(ends), 40), ends - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            load(path)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(3):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(bytes(content))
        try:
            load(path)
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_what_would_fill_the_memory_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoresde.files.SMALL", 2**20)
    large = rows([bytes(2**20)] * 3)
    with pytest.raises(DataError, match="would unpack .* over 200 times as many: refused"):
        load(write(tmp_path / "a.parquet", large, compression="zstd", use_dictionary=False))
    with pytest.raises(DataError, match="has compressed batches of rows, of unknown size"):
        load(write(tmp_path / "a.arrow", rows(PICTURES), compression="zstd"))
    encoded = pa.table({"image": pa.array(PICTURES, pa.binary()), "kind": pa.array(["a"] * 5).dictionary_encode()})
    with pytest.raises(DataError, match="has a dictionary: only plain batches of rows are read"):
        load(write(tmp_path / "a.arrow", encoded))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", rows(PICTURES))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"a.parquet' is read by pyarrow: install scoresde\[arrow\]"):
        load(path)
