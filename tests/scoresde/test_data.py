"""Reading images: five kinds of source give the same images, and what cannot be read whole is refused."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import shutil
import struct
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scoresde.data import DataError, DataWarning, Resizing, Stream, load, to_pixels, to_state

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
CLASSES = ["cat", "ape", "cat", "bee", "ape", "cat"]
NAMES = [f"{name}/{number}.png" for number, name in enumerate(CLASSES)]
ORDER = [1, 4, 3, 0, 2, 5]  # of the sorted names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six PNG files in three class folders, and a file that is no image."""
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    return tmp_path / "images"


def pack_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*reversed(NAMES), "notes.txt"]:
            archive.write(folder / name, name)


def pack_tar(folder: Path, path: Path) -> None:
    mode: Any = f"w:{path.suffix[1:].replace('tar', '')}"
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder, ".")


def expected(order: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor([["ape", "bee", "cat"].index(CLASSES[i]) for i in order])
    return torch.from_numpy(PIXELS[order]).permute(0, 3, 1, 2), labels


def test_a_folder_gives_its_images_in_order_and_its_subfolders_as_classes(folder: Path) -> None:
    images, (pixels, labels) = load(folder), expected(ORDER)
    assert images.labels is not None and len(images) == 6 and images.classes == 3
    assert torch.equal(images.pixels, pixels) and torch.equal(images.labels, labels)
    part = images.take(torch.tensor([5, 0]))
    assert part.labels is not None
    assert torch.equal(part.pixels, pixels[[5, 0]]) and part.labels.tolist() == [2, 0]


@pytest.mark.parametrize("name", ["data.zip", "data.tar", "data.tar.gz", "data.tar.xz", "data.tar.bz2"])
def test_an_archive_gives_what_the_folder_gives(folder: Path, name: str) -> None:
    path = folder.parent / name
    (pack_zip if name.endswith(".zip") else pack_tar)(folder, path)
    images, reference = load(path), load(folder)
    assert images.labels is not None and reference.labels is not None
    # A tar is read in its own order; sorting by content makes the two comparable.
    key = [pixels.numpy().tobytes() for pixels in images.pixels]
    order = sorted(range(6), key=key.__getitem__)
    wanted = sorted(range(6), key=[pixels.numpy().tobytes() for pixels in reference.pixels].__getitem__)
    assert torch.equal(images.pixels[order], reference.pixels[wanted])
    assert torch.equal(images.labels[order], reference.labels[wanted])


@pytest.mark.parametrize("prefix", ["train_", "test_", ""])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_gives_its_arrays(tmp_path: Path, prefix: str, compressed: bool) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"{prefix}images": PIXELS, f"{prefix}labels": np.arange(6, dtype=np.uint8)}
    np.savez(buffer, **arrays)
    path = tmp_path / ("data.npz.xz" if compressed else "data.npz")
    path.write_bytes(lzma.compress(buffer.getvalue()) if compressed else buffer.getvalue())
    images = load(path, split=prefix.rstrip("_") or "train")
    assert torch.equal(images.pixels, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_grey_images_have_one_channel_and_no_labels_without_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "grey.npz", images=PIXELS[..., 0])
    grey = load(tmp_path / "grey.npz")
    assert torch.equal(grey.pixels[:, 0], torch.from_numpy(PIXELS[..., 0])) and grey.labels is None
    (tmp_path / "flat").mkdir()
    Image.fromarray(PIXELS[0, ..., 0]).save(tmp_path / "flat" / "a.PNG")
    Image.fromarray(PIXELS[1, ..., 0]).convert("LA").save(tmp_path / "flat" / "b.png")
    flat = load(tmp_path / "flat")
    assert torch.equal(flat.pixels[:, 0], torch.from_numpy(PIXELS[:2, ..., 0]))
    assert flat.labels is None and flat.classes == 0


def test_digits_are_split_in_two_without_overlap_and_span_the_range_of_pixels() -> None:
    train, test = load("digits"), load("digits", split="test")
    assert (len(train), len(test), train.classes) == (1437, 360, 10)
    assert train.pixels.shape[1:] == (1, 8, 8) and (train.pixels.min(), train.pixels.max()) == (0, 255)


def test_every_pixel_value_survives_the_way_to_a_state_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    state = to_state(pixels)
    assert (float(state[0]), float(state[255])) == (-1, 1) and torch.equal(to_pixels(state), pixels)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9))
def test_states_round_to_the_nearest_pixel_and_clip(values: list[float]) -> None:
    state = torch.tensor(values)
    pixels = to_pixels(state).to(torch.float32)
    assert ((pixels / 127.5 - 1 - state.clamp(-1, 1)).abs() <= 0.5 / 127.5 + 1e-6).all()


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def save_image(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path.parent


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def sizes(root: Path) -> Path:
    save_image(root / "mixed" / "a.png", Image.new("RGB", (4, 4)))
    return save_image(root / "mixed" / "b.png", Image.new("RGB", (4, 5)))


def encrypted(root: Path) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", b"content")
    content = bytearray(buffer.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # the flag that says "encrypted"
    return write(root / "locked.zip", bytes(content))


def test_pictures_that_cannot_be_read_are_named_all_at_once(tmp_path: Path) -> None:
    for index in range(12):
        save_image(tmp_path / "d" / f"{index:02}.jpg", Image.new("RGB", (40, 40), (index, 0, 0)))
    content = (tmp_path / "d" / "00.jpg").read_bytes()
    write(tmp_path / "d" / "02.jpg", content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=r"^'02.jpg' in .* is not a readable image: [^;]*$"):
        load(tmp_path / "d")
    write(tmp_path / "d" / "07.jpg", b"<html>")
    with pytest.raises(DataError, match=r"^'02.jpg' in .* is not a readable image: .*; nor is '07.jpg' \(2 in all\)$"):
        load(tmp_path / "d")
    read = list[int]()
    for index in range(1, 12):
        write(tmp_path / "d" / f"{index:02}.jpg", b"")
    with pytest.raises(DataError, match=r": it is empty; nor are '02.jpg', .*'08.jpg', … \(11 in all\)$"):
        read.extend(len(batch) for batch in Stream(tmp_path / "d").batches(1))
    assert read == [1]  # what comes after the first is looked at, and not given


def test_what_cameras_and_network_disks_leave_beside_photos_is_no_picture_and_no_class(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png"):
        save_image(tmp_path / name, Image.new("RGB", (4, 4)))
    for name in ("a/@eaDir/thumb.jpg", "$RECYCLE.BIN/1.jpg", "lost+found/2.jpg", "a/._0.png", ".DS_Store"):
        write(tmp_path / name, b"\xff\xd8\xff of no picture")
    for name in ("a/1.NEF", "a/2.dng", "b/3.cr2"):  # TIFFs by how they begin, of a preview or none
        Image.new("RGB", (2, 2)).save(write(tmp_path / name, b""), format="TIFF")
    write(tmp_path / "b" / "4.heic", b"\0\0\0\x18ftypheic")
    told = r"^4 files left out: .*; \.cr2, \.dng, \.heic, \.nef: convert to JPEG or PNG what is to be read$"
    with pytest.warns(DataWarning, match=told):
        found = load(tmp_path)
    assert (len(found), found.names, found.shape) == (2, ("a", "b"), (3, 4, 4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "nowhere", "no data at .*nowhere': give a folder, zip, tar or npz of images, or 'digits'"),
        (lambda root: root, r"no images in .*looked for \.bmp"),
        (lambda root: write(root / "a.txt", b"words"), "neither a folder, a zip, a tar nor an npz"),
        (lambda root: write(root / "d" / "a.png", b"words").parent, "'a.png' in .* is not a readable image"),
        (
            sizes,
            r"'b.png' in .* has shape \(5, 4, 3\), the images before it \(4, 4, 3\): all images must have one size",
        ),
        (
            lambda root: save_image(root / "d" / "a.png", Image.fromarray(np.full((4, 4), 1000, np.uint16))),
            "'a.png' in .* has more than 8 bits a channel",
        ),
        (encrypted, "locked.zip' is damaged: .*encrypted"),
        (lambda root: write(root / "a.npz", b"words"), "a.npz' is not a whole npz"),
        (lambda root: write(root / "a.npz.xz", b"words"), "a.npz.xz' is damaged"),
        (lambda root: write(root / "a.npz.xz", lzma.compress(b"words")), "a.npz.xz' is not a whole npz"),
        (
            lambda root: save_npz(root / "a.npz", pictures=PIXELS),
            "holds .*pictures.* neither 'train_images' nor 'images'",
        ),
        (lambda root: save_npz(root / "a.npz", images=PIXELS / 255.0), r"must be uint8 of shape .* got float64 \(6, 5"),
        (lambda root: save_npz(root / "a.npz", images=PIXELS[:0]), r"must be uint8 of shape .* got uint8 \(0, 5"),
        (lambda root: save_npz(root / "a.npz", images=PIXELS[0, 0]), r"must be uint8 of shape .* got uint8 \(4, 3\)"),
        (
            lambda root: save_npz(root / "a.npz", images=PIXELS, labels=np.arange(5)),
            r"labels in .* must be 6 integers ≥ 0, one per image, got int64 of shape \(5,\)",
        ),
        (lambda root: save_npz(root / "a.npz", images=PIXELS, labels=np.ones(6)), "must be 6 integers .* got float64"),
        (lambda root: save_npz(root / "a.npz", images=PIXELS, labels=np.full(6, -1)), "must be 6 integers ≥ 0"),
        (
            lambda root: save_npz(root / "a.npz", images=np.array([{"code": 1}], dtype=object)),
            "not a readable npz: .*allow_pickle=False",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(make(tmp_path))


def test_an_unknown_split_of_digits_is_refused() -> None:
    with pytest.raises(DataError, match="splits 'train' and 'test', not 'tets'"):
        load("digits", split="tets")


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"install scoresde\[data\]"):
        load("digits")


@pytest.mark.parametrize("name", ["data.zip", "data.tar", "data.tar.gz", "data.tar.xz", "data.npz", "data.npz.xz"])
def test_a_truncated_archive_is_refused_wherever_it_breaks_off(folder: Path, name: str) -> None:
    path = folder.parent / name
    if ".npz" in name:
        np.savez(folder.parent / "data.npz", images=PIXELS)
        if name.endswith(".xz"):
            path.write_bytes(lzma.compress((folder.parent / "data.npz").read_bytes()))
    else:
        (pack_zip if name.endswith(".zip") else pack_tar)(folder, path)
    whole = path.read_bytes()
    # A tar ends in padding whose loss is none.
    end = len(whole.rstrip(b"\0")) if name.endswith(".tar") else len(whole)
    for cut in [*random.Random(0).sample(range(end), 40), end - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            load(path)


def test_damage_inside_an_archive_never_loses_images_silently(folder: Path) -> None:
    pack_tar(folder, folder.parent / "data.tar")
    whole = (folder.parent / "data.tar").read_bytes()
    path = folder.parent / "damaged.tar.gz"
    third = whole.index(b"./bee/3.png")
    for damaged in (whole[:third] + b"x" + whole[third + 1 :], whole[: third - third % 512]):
        path.write_bytes(gzip.compress(damaged))
        with pytest.raises(DataError, match=r"breaks off at byte \d+"):
            load(path)
    content = bytearray(gzip.compress(whole))
    content[-6] ^= 1  # the checksum
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="CRC"):
        load(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_a_damaged_image_is_refused_or_still_an_image_but_never_another_error(tmp_path: Path, kind: str) -> None:
    buffer, dice = io.BytesIO(), random.Random(0)
    Image.fromarray(PIXELS[0]).save(buffer, kind)
    folder, refused = tmp_path / "images", 0
    for _ in range(60):
        content = bytearray(buffer.getvalue())
        for _ in range(3):
            content[dice.randrange(len(content))] = dice.randrange(256)
        shutil.rmtree(folder, ignore_errors=True)
        write(folder / f"a.{kind}", bytes(content))
        try:
            load(folder)
        except DataError:
            refused += 1
    assert refused > 0


# Other people's layouts


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, "PNG")
    return stream.getvalue()


def dataset(folder: Path, listing: object, packed: str) -> Path:
    """Six pictures in two folders that are no classes, with a list, as a folder, zip or tar."""
    folder.mkdir()
    for index in range(6):
        place = folder / f"{index // 4:05d}" / f"img{index:08d}.png"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(png(np.full((4, 4, 3), index, np.uint8)))
    (folder / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    if packed == "folder":
        return folder
    return Path(shutil.make_archive(str(folder.parent / "packed"), packed, folder))


LISTED = [f"{index // 4:05d}/img{index:08d}.png" for index in range(6)]


@pytest.mark.parametrize("packed", ["folder", "zip", "tar"])
def test_labels_are_those_of_a_dataset_json(packed: str, tmp_path: Path) -> None:
    right = [6, 9, 9, 4, 1, 1]
    listing = {"labels": [[name, label] for name, label in zip(LISTED, right, strict=True)]}
    images = load(dataset(tmp_path / "listed", listing, packed))
    assert images.labels is not None and images.labels.tolist() == right
    assert images.pixels[:, 0, 0, 0].tolist() == list(range(6))
    assert load(dataset(tmp_path / "none", {"labels": None}, packed)).labels is None


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ({"labels": [[LISTED[0], 1]]}, "no label for '00000/img00000001.png' .5 in all"),
        ({"labels": [[name, -1] for name in LISTED]}, "no list of labels"),
        ({"labels": [[name, [1.0, 0.0]] for name in LISTED]}, "no list of labels"),
        ({"labels": {}}, "no list of labels"),
        ([1, 2], "no list of labels"),
    ],
)
def test_a_list_that_is_none_is_refused(listing: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(dataset(tmp_path / "listed", listing, "folder"))


def test_another_file_of_that_name_says_nothing(tmp_path: Path) -> None:
    labels = load(dataset(tmp_path / "other", {"title": "photos", "items": []}, "folder")).labels
    assert labels is not None and labels.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_seen_on_white(mode: str, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[...] = (255, 0, 0, 0)  # red that nobody sees
    pixels[2:6, 2:6] = (0, 0, 0, 255)
    pixels[2, 2, 3] = 128
    Image.fromarray(pixels).convert(mode).save(tmp_path / "sticker.png")
    found = load(tmp_path).pixels[0]
    assert found.shape[0] == (1 if mode == "LA" else 3)
    assert (found[:, 0, 0] == 255).all() and (found[:, 3, 3] == 0).all()
    assert mode == "P" or (found[:, 2, 2] - 127).abs().max() <= 1


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
def test_pictures_are_turned_upright_by_their_exif(form: str, tmp_path: Path) -> None:
    """As cameras write it: the first row and column of what is stored are these sides of what is seen."""
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:12, :8], upright[:12, 8:], upright[12:, :8] = 80, 160, 240
    sides = ["top left", "top right", "bottom right", "bottom left", "left top", "right top", "right bottom"]
    for orientation, told in enumerate([*sides, "left bottom"], 1):
        stored = upright[:: -1 if "bottom" in told else 1, :: -1 if "right" in told else 1]
        if told.startswith(("left", "right")):  # the first row is a side
            stored = stored.swapaxes(0, 1)
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 100, "lossless": True} if form in ("jpeg", "webp") else {}
        Image.fromarray(stored).save(tmp_path / f"{orientation}.{form}", exif=exif, **options)
    found = load(tmp_path).pixels
    assert found.shape == (8, 3, 24, 16)
    assert (found - torch.from_numpy(upright).permute(2, 0, 1).int()).abs().max() <= 3


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    for index, exif in enumerate((b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", b"Exif\0\0what")):
        Image.fromarray(pixels).save(tmp_path / f"{index}.jpg", exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.fromarray(pixels).save(tmp_path / "2.jpg", exif=exif)
    assert load(tmp_path).pixels.shape == (3, 3, 8, 12)


@pytest.mark.parametrize("form", ["png", "tiff", "ppm"])
def test_more_than_8_bits_of_colour_are_refused(form: str, tmp_path: Path) -> None:
    values = np.full((4, 4, 3), 200, np.uint16)
    if form == "ppm":
        content = b"P6 4 4 65535\n" + values.astype(">u2").tobytes()
    elif form == "png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
        content = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        )
    else:
        entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140)]
        entries += [(277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, 96), (284, 3, 1, 1)]
        table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        content = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
        content += bytes(134 - len(content)) + struct.pack("<HHH", 16, 16, 16) + values.tobytes()
    (tmp_path / f"scan.{form}").write_bytes(content)
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        load(tmp_path)


def test_common_layouts_of_arrays_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey, colour, labels = (
        rng.integers(0, 256, (5, 9, 9), np.uint8),
        rng.integers(0, 256, (5, 9, 9, 3), np.uint8),
        [1, 0, 1, 1, 0],
    )
    first = colour.transpose(0, 3, 1, 2)
    layouts: list[dict[str, object]] = [
        {"train_images": colour, "train_labels": np.array(labels)[:, None].astype(np.uint8)},
        {"arr_0": colour, "arr_1": np.array(labels)},
        {"x_train": colour, "y_train": np.array(labels)},
        {"images": first, "labels": np.array(labels)},
    ]
    for index, layout in enumerate(layouts):
        np.savez(tmp_path / f"{index}.npz", **layout)  # type: ignore[arg-type]
        images = load(tmp_path / f"{index}.npz")
        assert images.labels is not None and images.labels.tolist() == labels
        assert (images.pixels.numpy() == first).all()
    np.savez(tmp_path / "grey.npz", arr_0=grey)
    assert load(tmp_path / "grey.npz").pixels.shape == (5, 1, 9, 9)
    np.savez(tmp_path / "none.npz", images=np.zeros((5, 40, 40, 40), np.uint8))
    with pytest.raises(DataError, match="no axis is one of 1 or 3 channels"):
        load(tmp_path / "none.npz")


def test_samples_of_ours_are_images_like_any_other(tmp_path: Path) -> None:
    states = torch.linspace(-1.2, 1.2, 3 * 16).view(3, 1, 4, 4)
    np.savez(tmp_path / "samples.npz", samples=states.numpy(), labels=np.array([-1, -1, -1]), seeds=np.arange(3))
    images = load(tmp_path / "samples.npz")
    assert images.labels is None and torch.equal(images.pixels, to_pixels(states))
    four = torch.rand(2, 4, 8, 8)  # of a latent model
    np.savez(tmp_path / "latent.npz", samples=four.numpy())
    assert torch.equal(load(tmp_path / "latent.npz").pixels, to_pixels(four))
    np.savez(tmp_path / "labelled.npz", samples=states.numpy(), labels=np.array([2, 0, 1]))
    found = load(tmp_path / "labelled.npz").labels
    assert found is not None and found.tolist() == [2, 0, 1]


# Classes, what is left out, sizes, runs, and streams


def pictures(folder: Path, *names: str, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return folder


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    found = load(pictures(tmp_path, *(f"{month}/a.png" for month in range(1, 13))))
    assert found.names == tuple(str(month) for month in range(1, 13))
    assert found.labels is not None and sorted(found.labels.tolist()) == list(range(12))
    (first,) = load(tmp_path / "10").pixels
    assert found.labels[(found.pixels == first).flatten(1).all(1)].tolist() == [9]
    words = load(pictures(tmp_path / "words", "b/0.png", "a/0.png", "10/0.png"))
    assert words.names == ("10", "a", "b")
    assert load(tmp_path / "10").names == ()


def test_what_is_left_out_is_said_once_by_kind(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    for name in ("x.heic", "y.HEIC", "z.txt", "README"):
        (tmp_path / name).write_bytes(b"nothing that we read")
    for name in (".hidden", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(DataWarning, match=r"4 files left out: \.heic \(2\), \.txt \(1\), no suffix \(1\), in ") as told:
        assert len(load(tmp_path)) == 2
    assert len(told) == 1
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.png", "x.heic"):
            archive.write(tmp_path / name, name)
    with pytest.warns(DataWarning, match=r"1 file left out: \.heic \(1\)"):
        load(tmp_path / "all.zip")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"no images in .*; 1 file left out: \.heic \(1\)"):
        load(tmp_path / "only")


def test_pictures_that_are_enlarged_are_said_once(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    pictures(tmp_path, "c.png", size=(30, 12))
    with pytest.warns(
        DataWarning, match=r"2 pictures are smaller than 10 pixels and enlarged: 'a.png' of 8 × 8, …"
    ) as told:
        load(tmp_path, resizing=Resizing(size=10, crop=True))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path, resizing=Resizing(size=8, crop=True))


def test_pictures_that_differ_are_refused_with_what_would_do(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    pictures(tmp_path, "b.png", size=(12, 10))
    with pytest.raises(DataError, match=r"one size and one number of channels: give size= \(and crop=true"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"'b.png' in .*: 12 × 10 pixels are no square: crop=true"):
        load(tmp_path, resizing=Resizing(size=4))
    found = load(tmp_path, resizing=Resizing(size=4, crop=True))
    assert found.pixels.shape == (2, 3, 4, 4)
    pictures(tmp_path / "grey", "a.png", mode="L")
    pictures(tmp_path / "grey", "b.png")
    with pytest.raises(DataError, match="give channels=1 or 3"):
        load(tmp_path / "grey")
    assert load(tmp_path / "grey", resizing=Resizing(channels=3)).pixels.shape == (2, 3, 8, 8)
    assert load(tmp_path / "grey", resizing=Resizing(channels=1)).pixels.shape == (2, 1, 8, 8)


def test_resizing_is_pillow_s_lanczos_of_the_square_in_the_middle(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", size=(13, 10))
    image = Image.open(tmp_path / "a.png").crop((1, 0, 11, 10)).resize((4, 4), Image.Resampling.LANCZOS)
    resizing = Resizing(size=4, crop=True)
    assert np.array_equal(load(tmp_path, resizing=resizing).pixels[0].permute(1, 2, 0), np.asarray(image))
    assert str(resizing) == "cut to the square in the middle, resized to 4 × 4 by Lanczos" and not Resizing()
    np.savez(tmp_path / "a.npz", images=np.asarray(Image.open(tmp_path / "a.png"))[None])
    assert np.array_equal(load(tmp_path / "a.npz", resizing=resizing).pixels, load(tmp_path, resizing=resizing).pixels)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "data.size must be from 1 to 16384 pixels, got 0"),
        ({"size": "big"}, "data.size must be a whole number, got 'big'"),
        ({"crop": 1}, "data.crop must be true or false, got 1"),
        ({"channels": 4}, "data.channels must be 1 or 3, got 4"),
    ],
)
def test_a_resizing_that_is_none_is_refused_by_its_setting(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Resizing.of({f"data.{key}": value for key, value in settings.items()}, "data.")


def test_a_stream_gives_what_loading_gives_in_batches(tmp_path: Path) -> None:
    pictures(tmp_path / "folder", *(f"{label}/{index}.png" for label in "ab" for index in range(5)))
    images = load(tmp_path / "folder")
    assert images.labels is not None
    np.savez(tmp_path / "c.npz", images=images.pixels.permute(0, 2, 3, 1).numpy(), labels=images.labels)
    fortran = np.asfortranarray(images.pixels.permute(0, 2, 3, 1).numpy())
    np.savez(tmp_path / "fortran.npz", images=fortran, labels=images.labels)
    for source in (tmp_path / "folder", tmp_path / "c.npz", tmp_path / "fortran.npz"):
        stream = Stream(source)
        parts = list(stream.batches(4))
        assert [len(part) for part in parts] == [4, 4, 2]
        assert torch.equal(torch.cat(parts), images.pixels)
        assert stream.labels is not None and torch.equal(stream.labels, images.labels)
    assert sum(map(len, Stream("digits").batches(100))) == len(load("digits"))


def test_the_digest_of_a_source_is_of_its_files_and_what_becomes_of_them(tmp_path: Path) -> None:
    pictures(tmp_path / "a", "x/0.png", "y/0.png")
    first = Stream(tmp_path / "a").digest()
    assert Stream(tmp_path / "a").digest() == first
    assert Stream(tmp_path / "a", resizing=Resizing(size=4)).digest() != first
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "z")
    assert Stream(tmp_path / "a").digest() != first


def test_a_stream_holds_a_batch_at_a_time(tmp_path: Path) -> None:
    """Of 300 images of 100 × 100 in colour, 9 MB, no more than some batches of 10 are in memory."""
    np.savez(tmp_path / "many.npz", images=np.zeros((300, 100, 100, 3), np.uint8))
    tracemalloc.start()
    try:
        for _ in Stream(tmp_path / "many.npz").batches(10):
            pass
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
