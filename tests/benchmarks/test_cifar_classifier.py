"""The classifier of colour images: its training, and the whole command in small."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.bundled import cifar_classifier
from benchmarks.bundled.cifar_classifier import REACH, Recipe, Training, shifted, split
from scoresde.data import Images, to_state
from scoresde.metrics import FID, Moments, Reference, SampleFeatures, load_features, real_floor, spaces

CIFAR10 = Path(__file__).parents[2] / "benchmarks" / "models" / "cifar10"
SMALL = Recipe(epochs=4, batch_size=16, channels=(8, 16, 16), held_out=60)


def pictures(count: int, seed: int, side: int = 16) -> Images:
    """Three classes of smooth colour noise that differ in which channel is the brightest."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    coarse = 40 * torch.randn(count, 3, side // 4, side // 4, generator=generator)
    values = 100 + F.interpolate(coarse, size=side, mode="bilinear")
    values += 10 * torch.randn(values.shape, generator=generator) + 60 * F.one_hot(labels, 3)[:, :, None, None]
    return Images(values.clamp(0, 255).to(torch.uint8), labels)


def test_shifted_images_are_windows_of_mirrored_ones() -> None:
    x = to_state(pictures(3, 0).pixels)
    assert torch.equal(shifted(x, torch.full((3, 2), REACH)), x)
    moved = shifted(x, torch.tensor([[0, 2], [2, 4], [3, 1]]))
    assert torch.equal(moved[0, :, 2:], x[0, :, :-2]) and torch.equal(moved[0, :, 0], x[0, :, 2])
    assert torch.equal(moved[1, :, :, :-2], x[1, :, :, 2:]) and torch.equal(moved[1, :, :, -1], x[1, :, :, -3])
    assert torch.equal(moved[2, :, :-1, 1:], x[2, :, 1:, :-1])


def test_every_epoch_shows_every_image_once_and_mirrors_those_that_the_last_one_did_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cifar_classifier, "shifted", lambda x, shifts: x)
    data = pictures(64, 0)
    training = Training(data, SMALL, tmp_path / "c")
    mirrored = []
    for epoch in range(3):
        x = torch.cat([training.batch(4 * epoch + index)[0] for index in range(4)])
        upright = (x[:, None] == to_state(data.pixels)).flatten(2).all(2)
        turned = (x[:, None] == to_state(data.pixels.flip(-1))).flatten(2).all(2)
        assert torch.equal((upright | turned).sum(0), torch.ones(64))
        mirrored.append(turned.any(0))
    assert 16 < mirrored[0].sum() < 48
    assert torch.equal(mirrored[1], ~mirrored[0]) and torch.equal(mirrored[2], mirrored[0])


def test_a_training_that_was_left_goes_on_to_the_same_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cifar_classifier, "EVERY", 5)
    data = pictures(96, 1)
    whole = Training(data, SMALL, tmp_path / "whole")
    whole.run()
    left = Training(data, SMALL, tmp_path / "left")
    left.run(until=13)  # three steps after its last checkpoint, in the middle of an epoch
    again = Training(data, SMALL, tmp_path / "left")
    assert again.resume() and again.step == 10
    again.run()
    assert whole.steps == again.step == 24 and again.losses == whole.losses
    for name, value in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    assert not torch.equal(left.network.head.weight, whole.network.head.weight)


def test_a_checkpoint_is_taken_up_by_its_own_training_alone(tmp_path: Path) -> None:
    data = pictures(48, 1)
    training = Training(data, SMALL, tmp_path / "c")
    assert not training.resume()
    training.run(until=1)
    training.save()
    other = Training(data, dataclasses.replace(SMALL, seed=1), tmp_path / "c")
    with pytest.raises(ValueError, match=r"other values of recipe\.seed"):
        other.resume()
    data.pixels[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="other values of content"):
        Training(data, SMALL, tmp_path / "c").resume()
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged or foreign"):
        training.resume()


def test_what_is_held_out_has_the_class_shares_of_the_whole_and_is_not_trained_on() -> None:
    data = pictures(300, 2)
    reference, train = split(data, 60)
    assert reference.labels is not None and torch.bincount(reference.labels).tolist() == [20, 20, 20]
    seen = {each.numpy().tobytes() for each in train.pixels}
    assert len(train) == 240 and not any(each.numpy().tobytes() in seen for each in reference.pixels)
    with pytest.raises(ValueError, match="held_out = 300 of 300 images leaves none"):
        split(data, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of pictures of three classes."""
    where = tmp_path_factory.mktemp("classifier")
    train, test = pictures(300, 3), pictures(1200, 4)
    assert train.labels is not None and test.labels is not None
    arrays = {"train_images": train.pixels, "train_labels": train.labels}
    arrays = {**arrays, "test_images": test.pixels, "test_labels": test.labels}
    np.savez(where / "data.npz", allow_pickle=False, **{name: value.numpy() for name, value in arrays.items()})
    command = f"--data {where / 'data.npz'} --out {where / 'model'} --name dots --epochs 20 --batch-size 48"
    cifar_classifier.main([*command.split(), "--channels", "8", "16", "16", "--held-out", "60"])
    return where / "model"


def test_the_command_makes_a_space_of_a_classifier_and_its_floors(folder: Path) -> None:
    space = spaces.get("model", path=folder)
    assert space.name.startswith("dots-16 (") and space.size == 16
    fid, test = FID.load(folder), pictures(1200, 4)
    right = fid.features.classify(test.pixels).argmax(1) == test.labels
    assert float(right.double().mean()) == fid.features.card["test_accuracy"] > 0.9
    assert fid.reference.count == 60 and fid.features.card["training_images"] == 240

    reference = Reference.load(folder, space)
    assert reference.features is not None and len(reference.features.features) == 1200
    np.testing.assert_allclose(reference.moments.mean, 0, atol=1e-3)
    values = np.linalg.eigvalsh(reference.moments.covariance)
    assert (values < 1.001).all() and values[-3] > 0.99  # those above the ridge

    fid.update(test.pixels)
    score, spread = real_floor(500, folder)
    assert spread is not None and score.value > fid.compute().value > 0
    fid.update(255 - test.pixels)
    assert fid.compute().value > score.value + 10 * spread


def test_the_card_in_words_says_how_the_space_was_made(folder: Path) -> None:
    page = (folder / "features" / "README.md").read_text(encoding="utf-8")
    card = load_features(folder / "features").card
    assert card["command"].startswith("python -m benchmarks.bundled.cifar_classifier --data data.npz --out model")
    assert f"`{card['command']}`" in page and f"{card['test_accuracy']:.2%}" in page and "| 20 epochs" in page
    score, spread = real_floor(500, folder)
    assert f"| 500 | {score.value:.3f} ± {spread:.3f} |" in page
    assert re.findall(r"^\| ([\d,]+) \|", page, re.MULTILINE) == ["500", "1,000"]
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        *("README.md", "config.json", "model.safetensors", "reference.npz", "test_features.npz"),
    ]


# What the command has left for CIFAR-10


def test_the_classifier_of_cifar10_is_right_on_nine_test_images_of_ten_and_its_features_are_whitened() -> None:
    space, reference = load_features(CIFAR10 / "features"), Moments.load(CIFAR10 / "reference.npz")
    assert space.shape == (3, 32, 32) and space.card["test_accuracy_mirrored"] >= 0.9  # 0.897 by one view
    assert (space.card["training_images"], reference.count) == (44_000, 6000) and reference.space == space.name
    np.testing.assert_allclose(reference.mean, 0, atol=2e-3)
    values = np.linalg.eigvalsh(reference.covariance)
    assert values[0] > 0 and values[-1] == pytest.approx(1, abs=0.02)  # with a ridge, small directions stay small


def test_its_page_says_the_floors_that_its_files_give() -> None:
    page = (CIFAR10 / "features" / "README.md").read_text(encoding="utf-8")
    for n in (1000, 10_000):
        score, _ = real_floor(n, CIFAR10)
        assert f"| {n:,} | {score.value:.3f}" in page


def test_its_test_features_have_every_class_in_proportion_all_along() -> None:
    stored = SampleFeatures.load(CIFAR10 / "test_features.npz")
    assert stored.features.shape == (10_000, load_features(CIFAR10 / "features").size)
    counts = np.stack([np.bincount(part, minlength=10) for part in np.split(stored.labels, 20)])
    assert counts.sum() == 10_000 and np.ptp(counts, axis=0).max() <= 2
