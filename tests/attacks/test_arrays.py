"""Zips, npz files and xz that lie: refused in a line, in the memory and the time of what they are."""

from __future__ import annotations

import lzma
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoresde import data
from scoresde.data import DataError
from scoresde.files import arrays
from scoresde.files.arrays import Npz
from scoresde.metrics import Collector, Moments, real_images, spaces
from scoresde.metrics.collector import FORMAT as FIGURES
from scoresde.metrics.collector import kid, precision_recall
from scoresde.metrics.floors import FORMAT as FEATURES
from scoresde.metrics.floors import SampleFeatures
from scoresde.runs import formats

PACKINGS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "LZMA": zipfile.ZIP_LZMA,
}
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
SPACE = spaces.get("pixels", shape=(3, 4, 4))


@contextmanager
def within(megabytes: float, seconds: float = 3.0) -> Iterator[None]:
    """What is in the block takes no more than that."""
    begin = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 2**20
    assert time.monotonic() - begin < seconds


# ---------------------------------------------------------------------------------------------------------------------
# zips


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_entry_is_read_whatever_it_is_packed_by(packing: str, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(100_000) + bytes(3 * arrays.BLOCK)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", PACKINGS[packing]) as archive:
        archive.writestr("a", content)
        archive.writestr("empty", b"")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for entry, expected in zip(archive.infolist(), (content, b""), strict=True):
            with arrays.opened(archive, entry) as file:
                assert arrays.rest(file) == expected


@pytest.mark.parametrize("packing", ["deflate", "bzip2", "LZMA"])
@pytest.mark.parametrize("name", ["a.png", "images.npy"])
def test_an_entry_larger_than_its_table_says_is_not_unpacked(packing: str, name: str, tmp_path: Path) -> None:
    large = 2**24
    with zipfile.ZipFile(tmp_path / "a.zip", "w", PACKINGS[packing]) as archive:
        archive.writestr(name, bytes(large))
    content = (tmp_path / "a.zip").read_bytes().replace(struct.pack("<I", large), struct.pack("<I", 1_000))
    path = tmp_path / ("b.npz" if name.endswith(".npy") else "b.zip")
    path.write_bytes(content)
    with within(8), pytest.raises(DataError, match=r"is damaged|not a readable npz"):
        data.load(path)


@pytest.mark.parametrize("packing", ["bzip2", "LZMA"])
@pytest.mark.parametrize("damage", ["checksum", "size", "content", "method"])
def test_a_damaged_entry_of_a_rare_packing_is_refused(packing: str, damage: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", PACKINGS[packing]) as archive:
        archive.writestr("a.png", b"0123456789" * 100)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (entry,) = archive.infolist()
        if damage == "checksum":
            entry.CRC ^= 1
        elif damage == "size":
            entry.file_size += 1
        elif damage == "content":
            entry.compress_size //= 2
        else:
            entry.compress_type = 93
        with pytest.raises((zipfile.BadZipFile, NotImplementedError, EOFError, OSError, lzma.LZMAError)):
            arrays.opened(archive, entry)


def test_a_zip_in_which_all_entries_are_one_is_refused_by_its_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2**20))
    content, start = (tmp_path / "a.zip").read_bytes(), archive.start_dir
    record, count = content[start : content.rindex(b"PK\5\6")], 20_000
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, count * len(record), start, 0)
    (tmp_path / "b.zip").write_bytes(content[:start] + record * count + end)
    with pytest.raises(DataError, match="would unpack .* over 200 times as many: refused"):
        data.load(tmp_path / "b.zip")


def test_a_shard_of_pictures_with_any_bit_changed_is_known(tmp_path: Path) -> None:
    shard = formats.Zip(tmp_path, 3, False)
    seeds = np.arange(2)
    names = shard.names("part", seeds)
    written = shard.write("part", torch.zeros(2, 1, 4, 4), seeds, seeds, 1)
    path = tmp_path / "shards" / "part.zip"
    whole = path.read_bytes()
    rng, found = np.random.default_rng(0), 0
    for bit in [(8, 3), *zip(rng.integers(0, len(whole), 300).tolist(), rng.integers(0, 8, 300).tolist(), strict=True)]:
        changed = bytearray(whole)
        changed[bit[0]] ^= 1 << bit[1]
        path.write_bytes(changed)
        try:
            found += shard.digests("part", names) != written
        except zipfile.BadZipFile as error:
            found += 1
            assert "\n" not in str(error)
    assert found > 150  # the others are of dates and permissions


# ---------------------------------------------------------------------------------------------------------------------
# npz and xz


def test_xz_takes_time_in_proportion_to_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"begin") + lzma.compress(b"") * 60_000 + lzma.compress(b"end"))
    begin = time.monotonic()
    assert arrays.unpack_xz(tmp_path / "a.xz") == b"beginend"
    assert time.monotonic() - begin < 5


def test_xz_is_unpacked_no_further_than_its_size_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SMALL", 2**22)
    monkeypatch.setattr("scoresde.files.SMALL", 2**22)
    (tmp_path / "a.xz").write_bytes(lzma.compress(bytes(2**26), preset=0))
    with within(32), pytest.raises(ValueError, match="a.xz' would unpack .* over 200 times as many: refused"):
        arrays.unpack_xz(tmp_path / "a.xz")


@pytest.mark.parametrize(
    ("shape", "descr"),
    [("(1000000000000, 0, 4)", "|u1"), ("(0, 4, 4, 1000000000000)", "|u1"), ("(6, 4, 0)", "|u1")],
)
def test_images_without_pixels_are_none(shape: str, descr: str, tmp_path: Path) -> None:
    with within(8, 1.0), pytest.raises(DataError, match=r"must be uint8 of shape \(n, h, w\[, c\]\), got"):
        data.load(forged(tmp_path / "a.npz", shape, descr))


@pytest.mark.parametrize("descr", ["<U0", "|S0", "|V0"])
def test_entries_of_no_size_reserve_no_memory(descr: str, tmp_path: Path) -> None:
    found = Npz(forged(tmp_path / "a.npz", "(1000000000,)", descr))
    with within(8, 1.0), pytest.raises(ValueError, match="is not of numbers or text"):
        found["images"]


def forged(path: Path, shape: str, descr: str) -> Path:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    return path


def test_names_in_messages_are_cut_short(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for index in range(50):
            archive.writestr(f"{index}\x1b[2J" + "x" * 10_000, b"")
    with pytest.raises(DataError, match="but neither 'train_images' nor 'images'") as caught:
        data.load(tmp_path / "a.npz")
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isprintable()


def test_a_foreign_format_is_said_in_one_printable_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", format="x\n\x1b[31m" + "y" * 10_000)
    with pytest.raises(ValueError, match=r"its format is x\\n\\x1b\[31my+, not scoresde-moments-1") as caught:
        Moments.load(tmp_path / "a.npz")
    assert len(str(caught.value)) < 300


# ---------------------------------------------------------------------------------------------------------------------
# what the metrics keep


@pytest.mark.parametrize("about", ["[" * 100_000, "[]", "null", "{", "9" * 10_000])
def test_what_features_say_about_themselves_is_an_object_or_refused(about: str, tmp_path: Path) -> None:
    made = {"space": "s", "features": np.zeros((4, 2), np.float16), "labels": np.zeros(4, int), "about": about}
    np.savez(tmp_path / "a.npz", format=FEATURES, **made)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a.npz' is damaged: "):
        SampleFeatures.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": np.array(["a", "b"])},
        {"seeds": np.array([0.5, 1.5])},
        {"seeds": np.arange(2).reshape(1, 2)},
        {"features": np.full((2, 48), "x")},
        {"features": np.zeros((2, 48), complex)},
        {"images": np.zeros((2, 0), "M8[s]")},
    ],
)
def test_collected_features_of_another_kind_are_refused(other: dict[str, Any], tmp_path: Path) -> None:
    kept = {"space": SPACE.name, "pixels": "None", "seeds": np.arange(2)}
    kept |= {"features": np.zeros((2, 48), np.float32), "images": np.zeros((2, 0), np.float32)}
    np.savez(tmp_path / "whole.npz", format=FIGURES, **kept)
    collector = Collector(SPACE)
    collector.load(tmp_path / "whole.npz")
    assert len(collector) == 2
    np.savez(tmp_path / "a.npz", format=FIGURES, **(kept | other))
    with pytest.raises(ValueError, match="a.npz' is damaged: its seeds, features and images"):
        Collector(SPACE).load(tmp_path / "a.npz")


def test_labels_and_features_that_do_not_fit_are_kept_as_they_are(tmp_path: Path) -> None:
    features = np.array([[1e6, -1e6], [0, 1], [2, 3]])
    labels = np.array([0, 65_536, 10**6])
    SampleFeatures("s", features, labels, {}).save(tmp_path / "a.npz")
    found = SampleFeatures.load(tmp_path / "a.npz")
    assert found.labels.tolist() == labels.tolist()
    assert (found.features == features).all()


@pytest.mark.parametrize("missing", ["test_features.npz", "reference.npz"])
def test_a_cache_of_which_a_part_is_missing_is_made_again(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", images=PIXELS)
    real_images.reference(tmp_path / "a.npz", SPACE)
    (path,) = (tmp_path / "cache").rglob(missing)
    path.unlink()
    found = real_images.reference(tmp_path / "a.npz", SPACE)
    assert found.features is not None
    assert len(found.features.features) == len(PIXELS)
    assert path.is_file()


@pytest.mark.parametrize("count", [0, 1])
def test_moments_of_fewer_than_two_images_are_no_reference(count: int, tmp_path: Path) -> None:
    moments = Moments(SPACE.size, SPACE.name)
    moments.update(np.zeros((count, SPACE.size)))
    moments.save(tmp_path / "reference.npz")
    for path in (tmp_path, tmp_path / "reference.npz"):
        with pytest.raises(ValueError, match=rf"a reference needs 2 images or more, .* has {count}"):
            real_images.reference(path, SPACE)


def test_images_that_the_space_does_not_take_are_named_as_the_reference(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[..., :2])
    with pytest.raises(ValueError, match=r"a.npz' is no reference: pixels .* takes images of shape .*, got \(12, 2, "):
        real_images.reference(tmp_path / "a.npz", SPACE)


@pytest.mark.parametrize("count", [2, 3])
def test_few_real_images_give_the_figures_that_they_can(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", images=PIXELS[:count])
    collector = Collector(SPACE)
    collector.update(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), range(len(PIXELS)))
    found = collector.figures(real_images.reference(tmp_path / "a.npz", SPACE))
    assert list(found.metrics) == ["fid", "kid", "sliced_wasserstein"]
    real = SPACE.features(torch.from_numpy(PIXELS[:count]).permute(0, 3, 1, 2)).numpy()
    assert found.metrics["kid"].value == pytest.approx(kid(collector.features, real).value, rel=1e-2)
    with pytest.raises(ValueError, match="need at least 4 samples on either side"):
        precision_recall(collector.features, real)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_have_no_figures(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", images=PIXELS)
    reference = real_images.reference(tmp_path / "a.npz", SPACE)
    collector = Collector(SPACE)
    collector.update(torch.zeros(count, 3, 4, 4), range(count))
    with pytest.raises(ValueError, match=f"figures need 2 samples or more, got {count}"):
        collector.figures(reference)


def loaders(folder: Path) -> dict[Path, tuple[Callable[[Path], Any], Callable[[Any], bytes]]]:
    """Files of ours, how each is read, and what is in it."""
    rng = np.random.default_rng(0)
    moments = Moments(3, "s")
    moments.update(rng.normal(size=(9, 3)))
    moments.save(folder / "moments.npz")
    SampleFeatures("s", rng.normal(size=(9, 3)).astype(np.float16), np.arange(9), {"a": 1}).save(folder / "f.npz")
    collector = Collector(SPACE)
    collector.update(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), range(len(PIXELS)))
    collector.save(folder / "collected.npz")

    def collected(path: Path) -> Collector:
        found = Collector(SPACE)
        found.load(path)
        return found

    return {
        folder / "moments.npz": (Moments.load, lambda found: found.mean.tobytes() + found.covariance.tobytes()),
        folder / "f.npz": (SampleFeatures.load, lambda found: found.features.tobytes() + found.labels.tobytes()),
        folder / "collected.npz": (collected, lambda found: found.seeds.tobytes() + found.features.tobytes()),
    }


def tried(count: int, folder: Path) -> None:
    rng = np.random.default_rng(1)
    for path, (load, content) in loaders(folder).items():
        whole, expected = path.read_bytes(), content(load(path))
        for _ in range(count):
            changed = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                place = int(rng.integers(0, len(changed)))
                if rng.random() < 0.2:
                    del changed[place : place + int(rng.integers(1, 9))]
                else:
                    changed[place] = int(rng.integers(0, 256))
            path.write_bytes(changed)
            begin = time.monotonic()
            try:
                found = content(load(path))
            except ValueError as error:
                assert "\n" not in str(error)
            else:
                assert found == expected, path.name  # checksums see what changed
            assert time.monotonic() - begin < 5


def test_damaged_files_of_metrics_are_refused_or_as_they_were(tmp_path: Path) -> None:
    tried(100, tmp_path)


@pytest.mark.slow
def test_many_damaged_files_of_metrics_are_refused_or_as_they_were(tmp_path: Path) -> None:
    tried(4_000, tmp_path)
