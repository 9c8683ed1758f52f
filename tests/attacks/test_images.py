"""Images and arrays from anywhere: read by what is in them, no further than memory allows, or refused in a line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scoresde import data
from scoresde.data import DataError
from scoresde.data.images import _Picture
from scoresde.files.arrays import Npz
from scoresde.metrics import Moments, real_images, sliced_wasserstein, spaces
from scoresde.metrics.collector import kid, precision_recall
from scoresde.metrics.floors import SampleFeatures

PIXELS = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(/tmp/ran) (w) file closefile\nshowpage\n"


def picture(form: str = "PNG", index: int = 0, **more: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[index]).save(file, form, **more)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refused(source: Path, words: str, seconds: float = 2.0) -> None:
    begin = time.monotonic()
    with pytest.raises(DataError, match=words) as caught:
        data.load(source)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < seconds


# ---------------------------------------------------------------------------------------------------------------------
# pictures


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.tif"])
def test_a_picture_is_read_by_its_content_whatever_its_suffix(form: str, name: str, tmp_path: Path) -> None:
    write(tmp_path / name, picture(form))
    found = data.load(tmp_path).pixels
    assert found.shape == (1, 3, 4, 4)
    if form not in ("JPEG", "WEBP"):
        assert (found[0].permute(1, 2, 0).numpy() == PIXELS[0]).all()


def test_a_picture_without_a_suffix_is_found_and_a_text_is_not(tmp_path: Path) -> None:
    write(tmp_path / "0a1b2c", picture())
    write(tmp_path / "photo.jfif", picture("JPEG"))
    write(tmp_path / "BMW.txt", b"BM is how bitmaps begin, too")
    assert len(data.load(tmp_path)) == 2
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("0a1b2c", "photo.jfif", "BMW.txt"):
            archive.write(tmp_path / name, name)
    assert len(data.load(tmp_path / "all.zip")) == 2


@pytest.mark.parametrize("name", ["photo.png", "photo.eps.jpg"])
def test_no_decoder_that_runs_programs_is_tried(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", ran)
    write(tmp_path / name, POSTSCRIPT)
    refused(tmp_path, f"{name}' in .* is not a readable image")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"P6 9 9 255\n",
        b"II*\0\xff\xff\xff\xff",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"\0" * 100,
    ],
)
def test_what_only_begins_like_a_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "a.png", content)
    refused(tmp_path, "'a.png' in .* is not a readable image")


def png(width: int, height: int) -> bytes:
    """A PNG whose header says so, all black."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (300_000, 1_000)])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(size: tuple[int, int], tmp_path: Path) -> None:
    write(tmp_path / "a.png", png(*size))
    refused(tmp_path, "a.png' in .*(would unpack|is not a readable image)")


def test_a_picture_of_another_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture())
    write(tmp_path / "b.png", png(8_000, 8_000))
    refused(tmp_path, r"b.png' in .* has shape \(8000, 8000, 3\), the images before it \(4, 4, 3\)", 0.5)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_refused(form: str, tmp_path: Path) -> None:
    others = [Image.fromarray(PIXELS[index]) for index in (1, 2)]
    write(tmp_path / "a.png", picture(form, save_all=True, append_images=others))
    refused(tmp_path, "a.png' in .* has 3 frames")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_picture_that_breaks_off_is_refused(form: str, share: float, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, form)
    write(tmp_path / "a.png", file.getvalue()[: int(share * len(file.getvalue()))])
    refused(tmp_path, "'a.png' in .* is not a readable image")


def test_what_is_no_picture_is_refused_in_words_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"not a picture")
    refused(tmp_path, "'a.png' in .* is not a readable image: it is none of PNG, JPEG, WEBP, BMP, TIFF, GIF, PPM$")


def test_scans_without_end_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (4_000, 4_000), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = content[content.rindex(b"\xff\xda") : -2]
    write(tmp_path / "a.jpg", content)
    assert data.load(tmp_path).pixels.shape == (1, 1, 4_000, 4_000)
    write(tmp_path / "a.jpg", content[:-2] + 1_000 * scan + content[-2:])
    refused(tmp_path, r"'a.jpg' in .* has 1\d\d\d scans, more than 100")


def little(tmp_path: Path, words: str, megabytes: int = 32) -> None:
    """It is refused in little memory."""
    tracemalloc.start()
    try:
        refused(tmp_path, words, 3.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 2**20


def tags(size: int, count: int) -> bytes:
    """A TIFF of so many bytes, in which every tag is what comes after all tags."""
    begin = 8 + 2 + 12 * count + 4
    found = b"".join(struct.pack("<HHII", tag + 1, 7, size - begin, begin) for tag in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + found).ljust(size, b"\0")


def test_tags_that_lie_over_each_other_are_not_kept_each(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", tags(120_000, 5_000))
    little(tmp_path, "'a.tif' in .* is not a readable image")


def test_what_reads_a_picture_again_and_again_is_stopped() -> None:
    file = _Picture(bytes(100_000))
    for _ in range(8):
        file.seek(0)
        assert len(file.read()) == 100_000
    file.seek(0)
    with pytest.raises(OSError, match="its parts lie over each other"):
        file.read()


def test_segments_of_exif_are_not_joined_to_any_size(tmp_path: Path) -> None:
    plain, exif = picture("JPEG"), tags(16 * 60_000, 4_000)
    begin = plain.index(b"\xff\xdb")  # without JFIF's segment, so that the resolution is looked for in EXIF
    parts = [b"Exif\0\0" + exif[place : place + 60_000] for place in range(0, len(exif), 60_000)]
    for count in (1, 16):
        joined = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts[:count])
        write(tmp_path / "a.jpg", plain[:2] + joined + plain[begin:])
        if count == 1:
            assert len(data.load(tmp_path)) == 1
    little(tmp_path, "'a.jpg' in .* has more than 3 segments of EXIF")


def test_a_tile_larger_than_its_picture_is_refused(tmp_path: Path) -> None:
    found = [(256, 4), (257, 4), (258, 8), (259, 8), (262, 1), (322, 40_000), (323, 40_000), (324, 200), (325, 100)]
    written = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in found)
    content = (b"II*\0" + struct.pack("<IH", 8, len(found)) + written + bytes(4)).ljust(200, b"\0")
    write(tmp_path / "a.tif", content + zlib.compress(bytes(10_000)))
    refused(tmp_path, "^'a.tif' in .* would unpack .* to 6,400,000,000, over 200 times as many")


# ---------------------------------------------------------------------------------------------------------------------
# folders


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "no data at ''"),
        ("~nobody-of-this-name/photos", "'~nobody-of-this-name/photos' leads to nobody's home folder"),
        ("a\0b", r"'a\\x00b' cannot be read: embedded null byte"),
        ("a" * 5_000, "'a+' cannot be read: File name too long"),
    ],
)
def test_paths_that_cannot_be_are_refused(source: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        data.load(source)


@pytest.mark.parametrize("source", ["", "~nobody-of-this-name/photos"])
def test_references_at_paths_that_cannot_be_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"no data at ''|leads to nobody's home folder"):
        real_images.reference(source, spaces.get("pixels", shape=(3, 4, 4)))


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos" / "cats" / "a.png", picture())
    write(tmp_path / "photos" / "dogs" / "b.png", picture())
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("dogs"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path / "photos", "photos/dogs' cannot be read: Permission denied$")


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    refused(tmp_path, "a.png' cannot be read: Too many levels of symbolic links")


def test_a_folder_with_the_name_of_a_picture_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.png" / "b.png", picture())
    write(tmp_path / "c.png", picture())
    found = data.load(tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]


def test_links_in_a_folder_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "b.png", picture())
    write(tmp_path / "photos" / "cats" / "a.png", picture())
    (tmp_path / "photos" / "dogs").symlink_to("../elsewhere")
    (tmp_path / "photos" / "cats" / "linked.png").symlink_to("../../elsewhere/b.png")
    (tmp_path / "photos" / "cats" / "again").symlink_to("..")
    found = data.load(tmp_path / "photos")
    assert found.classes == 2
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1]


def test_hidden_files_and_droppings_are_no_data(tmp_path: Path) -> None:
    for name in ("a.png", ".cache/b.png", "._a.png", "__MACOSX/._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        write(tmp_path / "photos" / name, picture() if name == "a.png" else b"not a picture")
    assert len(data.load(tmp_path / "photos")) == 1
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in (tmp_path / "photos").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "photos"))
    assert len(data.load(tmp_path / "all.zip")) == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o20666, os.makedev(1, 5))])
@pytest.mark.parametrize("place", ["photos/a.png", "photos.zip", "photos.npz", "photos.tar.xz", "photos"])
def test_what_is_no_file_is_refused_and_not_waited_for(make: Callable[..., None], place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    make(tmp_path / place)
    refused(tmp_path / place.partition("/")[0], "is a (FIFO|device), not a file")


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png", picture())
    (tmp_path / "photos" / "b.png").symlink_to("gone.png")
    refused(tmp_path / "photos", "b.png' in .*photos' leads to nothing")


def test_names_that_are_not_utf_8_are_read_and_said(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    Path(path).write_bytes(picture())
    assert len(data.load(tmp_path)) == 1
    Path(path).write_bytes(b"no")
    refused(tmp_path, "is not a readable image")


# ---------------------------------------------------------------------------------------------------------------------
# archives


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content) or member.size
            archive.addfile(member, io.BytesIO(content))
    return path


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    made = tar(tmp_path / "a.tar.gz", (info("a.png"), picture()), (info("b.png", kind, "/etc/passwd"), b""))
    refused(made, "b.png' in .*a.tar.gz' is (a link|no file)")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("b.png")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    refused(tmp_path / "a.zip", "b.png' in .*a.zip' is a link")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_name_twice_in_an_archive_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        tar(path, (info("a.png"), picture()), (info("a.png"), picture(index=1)))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.png", picture())
            archive.writestr("b.png", picture(index=1))
        path.write_bytes(path.read_bytes().replace(b"b.png", b"a.png"))
    refused(path, "'a.png' in .* comes twice: leave one")


def signed(header: bytearray) -> bytes:
    """A tar's header with its checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("name", ["b.png", "b.txt", "b/"])
@pytest.mark.parametrize("size", [-512, -1024, -(2**40)])
def test_a_member_of_less_than_no_bytes_ends(name: str, size: int, tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo(name).tobuf())
    header[124:136] = b"\xff" * 4 + struct.pack(">q", size)
    first = info("a.png")
    content = picture()
    first.size = len(content)
    whole = first.tobuf() + content + bytes(-len(content) % 512) + signed(header) + bytes(1024)
    refused(write(tmp_path / "a.tar", whole), "a.tar' is damaged")


def test_headers_that_never_end_are_refused(tmp_path: Path) -> None:
    def pax(content: bytes) -> bytes:
        header = info("pax", tarfile.XHDTYPE)
        header.size = len(content)
        return header.tobuf() + content + bytes(-len(content) % 512)

    sparse = bytearray(tarfile.TarInfo("a.png").tobuf(format=tarfile.GNU_FORMAT))
    sparse[156:157], sparse[482] = b"S", 1  # a map of what is in the file goes on in the next block
    block = bytearray(b"00000000001\0" * 42).ljust(512, b"\0")
    block[504] = 1
    long = info("long", tarfile.GNUTYPE_LONGNAME)
    long.size = 4
    for index, whole in enumerate(
        [
            pax(b"1" * 200_000),  # an expression of Python's takes quadratic time over it, until 3.12.6
            pax(b"".join(b"%d k=v%s\n" % (size + 6, b"x" * (size - 1)) for size in (90,) * 20_000)),
            signed(sparse) + bytes(block) * 5_000,
            (long.tobuf(format=tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 2_000,
        ]
    ):
        path = write(tmp_path / f"{index}.tar", whole + info("a.txt").tobuf() + bytes(1024))
        refused(path, "is damaged: (headers of over 1,048,576 bytes|maximum recursion depth)")


def test_text_that_is_no_tar_may_hold_long_numbers(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.txt", b"1" * 5_000), "neither a folder, a zip, a tar nor an npz")


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../outside.png", picture())
        archive.writestr("/root/absolute.png", picture())
    before = sorted(tmp_path.parent.iterdir())
    assert len(data.load(tmp_path / "a.zip")) == 2
    assert sorted(tmp_path.parent.iterdir()) == before


def bombs(tmp_path: Path) -> dict[str, Path]:
    zeros = bytes(2**26)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(6):
            archive.writestr(f"{index}.png", zeros)
    made = {"zip": tmp_path / "a.zip"}
    sparse = info("a.png", tarfile.REGTYPE)
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        sparse.size = 2**29
        archive.addfile(sparse, io.BytesIO(bytes(2**29)))
    for name, packer in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        whole = (tmp_path / "plain.tar").read_bytes() if name != "gz" else pax()
        made[name] = write(tmp_path / f"a.tar.{name}", packer(whole))
    (tmp_path / "plain.tar").unlink()
    return made


def pax() -> bytes:
    """A tar with a header of 512 MB."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2**29
    return header.tobuf() + bytes(2**29)


@pytest.mark.slow
def test_archives_that_unpack_without_end_are_refused_in_little_memory(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))

    for made in bombs(tmp_path).values():
        script = (
            f"from scoresde import data\ntry: data.load({str(made)!r})\nexcept data.DataError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=limited,
        )
        assert "over 200 times as many: refused" in done.stdout, (made, done)


def test_a_zip_that_would_fill_the_memory_is_refused_by_its_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2**26))
    content = (tmp_path / "a.zip").read_bytes()
    changed = content.replace(struct.pack("<I", 2**26), struct.pack("<I", 2**31))
    refused(write(tmp_path / "b.zip", changed), "would unpack .* over 200 times as many")


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress])
def test_tars_of_every_kind_are_read(packer: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        for index in range(6):
            content = picture(index=index)
            member = info(f"{index}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packed = write(tmp_path / "packed", packer((tmp_path / "plain.tar").read_bytes()))
    for path in (tmp_path / "plain.tar", packed):
        assert (data.load(path).pixels.permute(0, 2, 3, 1).numpy() == PIXELS).all()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/0.png", picture())
        archive.writestr("y/1.png", picture(index=1))
    tar(folder / "a.tar.gz", (info("x/0.png"), picture()), (info("y/1.png"), picture(index=1)))
    np.savez_compressed(folder / "a.npz", images=PIXELS, labels=np.arange(6))
    write(folder / "a.npz.xz", lzma.compress((folder / "a.npz").read_bytes()))
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        write(folder / f"{form}.png", picture(form))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled, or the end cut off."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(0, max(len(changed), 1)))
        kind = rng.integers(0, 5)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + int(rng.integers(1, 20))]
        elif kind == 2:
            changed[place:place] = changed[place : place + int(rng.integers(1, 20))]
        elif kind == 3:
            changed[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif changed:
            changed[place % len(changed)] ^= int(rng.integers(1, 256))
    return bytes(changed)


def tried(good: dict[str, bytes], count: int, folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = sorted(good)
    for index in range(count):
        name = names[index % len(names)]
        place = folder / "a.png" if name.endswith(".png") else folder / name
        write(place, mutated(good[name], rng))
        begin = time.monotonic()
        try:
            found = data.load(folder if name.endswith(".png") else place)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert found.pixels.dtype == torch.uint8
        place.unlink()
        assert time.monotonic() - begin < 5, (name, index)


def test_damaged_pictures_and_archives_are_read_or_refused(good: dict[str, bytes], tmp_path: Path) -> None:
    tried(good, 600, tmp_path)


@pytest.mark.slow
def test_many_damaged_pictures_and_archives_are_read_or_refused(good: dict[str, bytes], tmp_path: Path) -> None:
    tried(good, 20_000, tmp_path)


@pytest.mark.parametrize("name", ["photos/a.png", "a.tar", "a.tar.xz", "a.npz.xz", "a.npz", "a.zip"])
def test_a_file_of_holes_without_end_is_refused(name: str, tmp_path: Path) -> None:
    content = picture() if name.endswith("png") else lzma.compress(b"") if name.endswith("xz") else b""
    os.truncate(write(tmp_path / name, content), 2**40)
    words = (
        "has 1,099,511,627,776 bytes, more than|to 1,099,511,627,776 bytes, and this|no images in|is not a whole npz"
    )
    refused(tmp_path / name.partition("/")[0], words)


# ---------------------------------------------------------------------------------------------------------------------
# arrays


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(header: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode("latin1") + body


def header(descr: str = "'|u1'", shape: str = "(6, 4, 4, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(header(shape="(1000000000000,)")), "has 1,000,000,000,000 bytes, and 0 follow"),
        (npy(header(shape="(-1,)")), "not a readable npz"),
        (npy(header(shape="(4, -4, -1)"), bytes(16)), "not a readable npz"),
        (npy(header(shape="(10**9,)")), "not a readable npz"),
        (npy(header(descr="'|O'")), "allow_pickle=False"),
        (npy(header(descr="[('a', '|O')]", shape="(1,)")), "allow_pickle=False"),
        (npy(header(descr="'V8'", shape="(0,)")), "must be uint8"),
        (npy(header() + " " * 20_000), "not a readable npz"),
        (npy("(" * 5_000), "not a readable npz"),
        (npy(header(), version=b"\x03\0"), "version .* is not known"),
        (npy("__import__('os').system('true')"), "not a readable npz"),
        (b"", "not a readable npz"),
        (npy(header(shape="(2, 2, 2)"), bytes(7)), "has 8 bytes, and 7 follow"),
        (npy(header(shape="(2, 2, 2)"), bytes(9)), "has 8 bytes, and 9 follow"),
    ],
)
def test_an_array_is_what_its_header_says_or_refused(content: bytes, words: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.npz", npz(images=content)), words, 1.0)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 2, 3, 4, 10**9]),
        np.full(6, 2**63, np.uint64),
        np.full(6, -1),
        np.full(6, 0.5),
        np.zeros((6, 2), int),
    ],
)
def test_labels_that_would_wrap_or_are_none_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=labels)
    refused(tmp_path / "a.npz", "labels in ")


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from(["u1", "<f4", ">i8", "<U3", "?"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_whole_npz_is_read_as_numpy_reads_it(tmp_path: Path, shape: list[int], order: str, dtype: str) -> None:
    array = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype), order=order)  # type: ignore[call-overload]
    np.savez(tmp_path / "a.npz", array=array)
    with Npz(tmp_path / "a.npz") as ours, np.load(tmp_path / "a.npz") as theirs:
        found, expected = ours["array"], theirs["array"]
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


# ---------------------------------------------------------------------------------------------------------------------
# references and features


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", images=PIXELS)
    space = spaces.get("pixels", shape=(3, 4, 4))
    whole = real_images.reference(tmp_path / "a.npz", space).moments.mean
    for path in (tmp_path / "cache").rglob("*.npz"):
        for damage in (b"", path.read_bytes()[:50], b"PK\5\6" + bytes(18)):
            path.write_bytes(damage)
            assert (real_images.reference(tmp_path / "a.npz", space).moments.mean == whole).all()


def test_a_reference_of_one_image_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[:1])
    with pytest.raises(ValueError, match=r"a reference needs 2 images or more, .*a.npz' has 1"):
        real_images.reference(tmp_path / "a.npz", spaces.get("pixels", shape=(3, 4, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_give_no_figure(value: float) -> None:
    good = np.random.default_rng(0).normal(size=(12, 3))
    bad = good.copy()
    bad[[2, 5]] = value
    for figure in (precision_recall, kid, sliced_wasserstein):
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(ValueError, match="2 of 12 features are not finite"):
                figure(*pair)
    with pytest.raises(ValueError, match="2 of 12 features in a space are not finite"):
        Moments(3, "a space").update(bad)
    with pytest.raises(ValueError, match="2 of 12 features in a space are not finite"):
        SampleFeatures("a space", bad, np.zeros(12, int), {})
