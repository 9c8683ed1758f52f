"""Images that stay on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.commands.main import main
from scoresde.data import Columns, DataError, Images, Resizing, images, load, load_mapped, mapped
from scoresde.files import CACHE


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty cache."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for index in range(5):
            pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


def same(one: Images, other: Images) -> bool:
    assert one.labels is not None and other.labels is not None
    pixels = torch.equal(one.take(torch.arange(len(one))).pixels, other.take(torch.arange(len(other))).pixels)
    return pixels and torch.equal(one.labels, other.labels) and one.names == other.names


def test_the_images_are_those_of_memory(photos: Path, kept: Path) -> None:
    assert same(load_mapped(photos), load(photos))
    resizing = Resizing(size=4, crop=True)
    assert same(load_mapped(photos, resizing=resizing), load(photos, resizing=resizing))
    assert len(list(kept.iterdir())) == 2
    assert load_mapped("digits", "test").classes == 10
    assert load_mapped(photos, columns=Columns(label="none")).names == ("cat", "dog")  # of tables alone


def test_they_are_decoded_once(photos: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_mapped(photos)
    monkeypatch.setattr(images.Stream, "batches", lambda *_: pytest.fail("decoded again"))
    assert same(load_mapped(photos), first)


def test_another_content_is_another_file(photos: Path, kept: Path) -> None:
    before = load_mapped(photos)
    Image.new("RGB", (8, 6), "red").save(photos / "cat" / "0.png")
    after = load_mapped(photos)
    assert after.pixels[0].flatten(1).float().mean(1).tolist() == [255, 0, 0]
    assert not torch.equal(before.pixels, after.pixels) and len(list(kept.iterdir())) == 2


@pytest.mark.parametrize("name", ["pixels.bin", "about.npz"])
def test_what_is_damaged_is_made_again(name: str, photos: Path, kept: Path) -> None:
    load_mapped(photos)
    (path,) = kept.glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-7])
    assert same(load_mapped(photos), load(photos))


def test_nothing_is_kept_of_what_cannot_be_read(photos: Path, kept: Path) -> None:
    (photos / "cat" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    with pytest.raises(DataError, match="5.png"):
        load_mapped(photos)
    assert not [path for path in kept.rglob("*") if path.is_file()]


def test_parts_are_no_copies(photos: Path, kept: Path) -> None:
    whole = load_mapped(photos)
    part = whole.part(torch.tensor([7, 1, 2])).part(torch.tensor([2, 0]))
    assert part.pixels.data_ptr() == whole.pixels.data_ptr()
    assert len(part) == 2 and part.shape == (3, 6, 8)
    assert torch.equal(torch.cat(list(part.chunks())), whole.pixels[[2, 7]])
    assert part.labels is not None and part.labels.tolist() == [0, 1]


def test_training_on_them_is_the_same_to_the_bit(photos: Path, kept: Path, tmp_path: Path) -> None:
    asked = ["train", "data=folder", f"data.path={photos}", "network.channels=[8,16]", "network.depth=1", "epochs=2"]
    asked += ["batch_size=4", "network.fold=1", "held_out=2", "data.flip=true", "objective=edm", "process=edm"]
    for mapping in (False, True):
        assert main([*asked, f"data.mapped={mapping}", f"out={tmp_path / str(mapping)}"]) == 0
    one, other = ((tmp_path / str(mapping) / "model" / "model.safetensors").read_bytes() for mapping in (False, True))
    assert one == other
    # It is no part of the run: the other way finds all done.
    assert main([*asked, "data.mapped=true", f"out={tmp_path / 'False'}"]) == 0


def test_images_are_decoded_in_batches(photos: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "BATCH", 3)
    assert same(load_mapped(photos), load(photos))
