"""References from a user's own images: measured once for each content and feature space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scoresde.commands.main import main
from scoresde.files import CACHE
from scoresde.metrics import BUNDLED, FeatureSpace, Moments, PixelSpace, Reference, real_images, spaces


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def images(path: Path, seed: int = 0, count: int = 40) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    np.savez(path, images=pixels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_images_become_moments_and_features_of_themselves(tmp_path: Path) -> None:
    pixels, space = images(tmp_path / "mine.npz"), spaces.get("model")
    found = real_images.reference(tmp_path / "mine.npz", space)
    expected = Moments(space.size, space.name)
    expected.update(space.features(pixels))
    np.testing.assert_allclose(found.moments.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.moments.covariance, expected.covariance, rtol=1e-9, atol=1e-12)
    assert found.features is not None
    np.testing.assert_allclose(found.features.features, space.features(pixels).numpy(), rtol=1e-3, atol=1e-3)


def test_features_are_computed_once_for_each_content_and_space(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, asked = spaces.get("model"), []
    compute = FeatureSpace.features
    monkeypatch.setattr(FeatureSpace, "features", lambda self, x: (asked.append(len(x)), compute(self, x))[1])
    images(tmp_path / "mine.npz")
    images(tmp_path / "copy.npz")
    images(tmp_path / "other.npz", seed=1)
    first = real_images.reference(tmp_path / "mine.npz", space)
    second = real_images.reference(tmp_path / "copy.npz", space)  # the same content under another name
    assert asked == [40]
    assert (first.moments.mean == second.moments.mean).all()
    real_images.reference(tmp_path / "other.npz", space)
    assert asked == [40, 40]
    assert real_images.reference(tmp_path / "mine.npz", PixelSpace((1, 28, 28))).space != space.name
    assert len(list((cache / "references").iterdir())) == 3


def test_statistics_are_taken_as_they_are(tmp_path: Path, cache: Path) -> None:
    space = spaces.get("model")
    bundled = Reference.load(BUNDLED, space)
    for path in (BUNDLED, BUNDLED / "reference.npz"):
        found = real_images.reference(path, space)
        assert (found.moments.mean == bundled.moments.mean).all()
    np.savez(tmp_path / "edm.npz", mu=bundled.moments.mean, sigma=bundled.moments.covariance)
    assert (real_images.reference(tmp_path / "edm.npz", space).moments.mean == bundled.moments.mean).all()
    assert not cache.exists()


def test_a_benchmark_against_one_s_own_images_has_a_pixel_distance_and_no_floors(tmp_path: Path) -> None:
    images(tmp_path / "mine.npz")
    small = ["n=10", "batch_size=10", "reference_nfe=10", "solvers=[ddim]", "nfe=[4]", "dtype=float32"]
    assert main(["bench", *small, f"reference={tmp_path / 'mine.npz'}", f"out={tmp_path / 'out'}"]) == 0
    row = json.loads((tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8"))
    assert {"fid", "kid", "pixel_fd", "sliced_wasserstein", "error"} < row["metrics"].keys()
    assert row["metrics"]["fid"]["value"] > 50  # noise is no digit
    assert "Floors are not known" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    small += ["features=pixels", f"reference={tmp_path / 'mine.npz'}"]
    assert main(["bench", *small, f"out={tmp_path / 'pixels'}"]) == 0
    within = json.loads((tmp_path / "pixels" / "results.jsonl").read_text(encoding="utf-8"))["metrics"]
    assert "pixel_fd" not in within and within["fid"] == row["metrics"]["pixel_fd"]
