"""WebDatasets and shards: classes come from files of one key, shards by a pattern or a split; nothing is guessed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.data import DataError, DataWarning, load
from scoresde.data.sources import numbered
from scoresde.files import CACHE
from scoresde.metrics import PixelSpace, real_images


def picture(value: int, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(stream, form)
    return stream.getvalue()


def shard(path: Path, members: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(path: Path, split: str = "train") -> tuple[list[int], list[int] | None]:
    """The value of each picture, and the labels."""
    images = load(path, split)
    return images.pixels[:, 0, 0, 0].tolist(), None if images.labels is None else images.labels.tolist()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("first", ["class", "picture"])
def test_classes_are_those_of_files_with_the_same_key(name: str, first: str, tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for index, label in enumerate([3, 0, 7]):
        sample = {f"./in/{index:06d}.png": picture(index), f"in/{index:06d}.cls": f"{label}\n"}
        members |= sample if first == "picture" else dict(reversed(sample.items()))
    assert read(shard(tmp_path / name, members)) == ([0, 1, 2], [3, 0, 7])


def test_classes_may_be_labels_in_json_that_agree_with_the_class_file(tmp_path: Path) -> None:
    members = {"0.jpg": picture(8, "JPEG"), "0.json": json.dumps({"label": 2, "caption": "a cat"}), "0.cls": "2"}
    assert read(shard(tmp_path / "a.tar", members)) == ([8], [2])
    with pytest.raises(DataError, match=r"'0.cls' in .* says another class of '0.jpg' than the file before it"):
        load(shard(tmp_path / "a.tar", members | {"0.cls": "3"}))


def test_folders_are_classes_where_no_file_is_one_and_what_says_nothing_is_left_out(tmp_path: Path) -> None:
    members = {"b/0.png": picture(1), "a/1.png": picture(2), "b/0.json": '{"caption": "a cat"}', "b/0.txt": "a cat"}
    members |= {"article.cls": r"\NeedsTeXFormat{LaTeX2e}", "a/1.json": '{"label'}
    with pytest.warns(DataWarning, match=r"4 files left out: .json \(2\), .cls \(1\), .txt \(1\), in"):
        assert read(shard(tmp_path / "a.tar", members)) == ([1, 2], [1, 0])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"1.png": picture(1)}, r"a.tar' has no class for '1.png' \(1 in all\)$"),
        ({"1.png": picture(1), "1.cls": "cat"}, "'1.cls' in .*a.tar' is no class: one is a whole number from 0"),
        ({"1.png": picture(1), "1.cls": "-1"}, "'1.cls' in .* is no class"),
        ({"1.png": picture(1), "1.cls": "1000000"}, "'1.cls' in .* is no class"),
        ({"1.png": picture(1), "1.json": '{"label": [1]}'}, "'1.json' in .* is no class"),
        ({"1.png": picture(1), "1.json": '{"label": true}'}, "'1.json' in .* is no class"),
        ({"0.mask.png": picture(1)}, "'0.png' and '0.mask.png' in .*a.tar' are one sample: leave one of them"),
        ({"1.png": picture(1)[:40], "1.cls": "1"}, "'1.png' in .*a.tar' is not a readable image"),
    ],
)
def test_samples_that_are_none_are_refused_by_their_names(
    members: dict[str, bytes | str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(shard(tmp_path / "a.tar", {"0.png": picture(0), "0.cls": "0", **members}))
    assert "\n" not in str(caught.value)


def test_a_picture_with_the_name_of_a_class_file_is_a_picture(tmp_path: Path) -> None:
    assert read(shard(tmp_path / "a.tar", {"0.cls": picture(1), "1.json": picture(2)})) == ([1, 2], None)


def test_a_class_file_that_leads_out_of_its_archive_is_read_from_it_alone(tmp_path: Path) -> None:
    (tmp_path / "0.cls").write_text("5")
    path = shard(tmp_path / "in" / "a.tar", {"../0.png": picture(1), "../0.cls": "4"})
    assert read(path) == ([1], [4])
    with tarfile.open(path, "a") as archive:
        second = tarfile.TarInfo("../1.png")
        second.size = len(picture(2))
        archive.addfile(second, io.BytesIO(picture(2)))
        link = tarfile.TarInfo("../1.cls")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "0.cls")
        archive.addfile(link)
    with pytest.raises(DataError, match=r"has no class for '../1.png'"):
        load(path)


def test_a_class_file_that_would_fill_the_memory_is_left_out_unread(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar.gz", {"0.png": picture(1), "0.cls": b" " * 2**21 + b"1"})
    with pytest.warns(DataWarning, match=r"1 file left out: .cls \(1\)"):
        assert read(path) == ([1], None)


def shards(folder: Path, split: str, count: int, begin: int = 0) -> None:
    """Of one picture each, with one key in all of them."""
    for index in range(count):
        members = {"0.png": picture(begin + index), "0.cls": str(begin + index)}
        shard(folder / f"{split}-{index:03d}.tar", members)


def test_a_pattern_names_shards_in_order(tmp_path: Path) -> None:
    shards(tmp_path, "train", 12)
    assert read(tmp_path / "train-{008..011}.tar") == ([8, 9, 10, 11], [8, 9, 10, 11])
    assert [path.name for path in numbered(tmp_path / "{9..10}-{0..1}")] == ["9-0", "9-1", "10-0", "10-1"]
    with pytest.raises(DataError, match=r"train-012.tar' in .*train-\{010..012\}.tar' leads to nothing"):
        load(tmp_path / "train-{010..012}.tar")
    with pytest.raises(DataError, match="names no files"):
        load(tmp_path / "train-{3..1}.tar")
    with pytest.raises(DataError, match="names over 100,000 files"):
        load(tmp_path / "{0..999}-{0..999}.tar")
    shard(tmp_path / "{0..1}.tar", {"0.png": picture(77)})
    assert read(tmp_path / "{0..1}.tar") == ([77], None)  # a file of that name is itself


def test_a_folder_of_shards_is_the_split_that_is_asked_for(tmp_path: Path) -> None:
    shards(tmp_path / "all", "imagenet-train", 3)
    shards(tmp_path / "all", "imagenet-validation", 1, begin=50)
    assert read(tmp_path / "all") == ([0, 1, 2], [0, 1, 2])
    assert read(tmp_path / "all", "validation") == ([50], [50])
    with pytest.raises(DataError, match="all' has the splits 'train', 'validation', not 'test'"):
        load(tmp_path / "all", "test")
    shards(tmp_path / "plain", "restrained", 2)  # in which no word is a split
    assert read(tmp_path / "plain", "test") == ([0, 1], [0, 1])


def test_what_lies_beside_shards_is_said_and_pictures_come_first(tmp_path: Path) -> None:
    shards(tmp_path / "a", "train", 1, begin=5)
    shards(tmp_path / "a", "more", 1)
    (tmp_path / "a" / "README.md").write_text("words")
    with pytest.warns(DataWarning, match=r"2 files left out: .md \(1\), .tar \(1\), in .*a'"):
        assert read(tmp_path / "a") == ([5], [5])
    (tmp_path / "a" / "0.png").write_bytes(picture(9))
    with pytest.warns(DataWarning, match=r"3 files left out: .tar \(2\), .md \(1\)"):
        assert read(tmp_path / "a") == ([9], None)


def test_shards_of_several_folders_are_not_mixed(tmp_path: Path) -> None:
    for name in ("cropped", "full"):
        shards(tmp_path / "all" / name, "train", 1)
    with pytest.raises(DataError, match="all' has images in the folders 'cropped', 'full': give one of them"):
        load(tmp_path / "all")
    assert read(tmp_path / "all" / "full") == ([0], [0])


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path / "a", "train", 3)
    whole = (tmp_path / "a" / "train-001.tar").read_bytes()
    (tmp_path / "a" / "train-001.tar").write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"train-001.tar' is damaged"):
        load(tmp_path / "a")
    (tmp_path / "a" / "train-001.tar").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(DataError, match=r"train-001.tar' is damaged"):
        load(tmp_path / "a")


def test_shards_are_a_reference_by_pattern_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    shards(tmp_path / "a", "train", 4)
    space = PixelSpace((3, 4, 4))
    for path in (tmp_path / "a", tmp_path / "a" / "train-{000..003}.tar"):
        found = real_images.reference(path, space)
        assert found.moments.count == 4 and found.features is not None
        assert found.features.labels.tolist() == [0, 1, 2, 3]
