"""References: our own files, and those of other programs."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from scoresde.metrics import (
    BUNDLED,
    Moments,
    Reference,
    SampleFeatures,
    Statistics,
    frechet_distance,
    load_moments,
    spaces,
)


@dataclass(frozen=True)
class Named:
    """A feature space that is a name alone."""

    name: str = "inception"
    size: int = 3

    def features(self, images: Tensor) -> Tensor:
        raise NotImplementedError


def features(seed: int = 0, n: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * [1, 2, 3] + 5


def moments_of(values: np.ndarray, space: str = "inception") -> Moments:
    moments = Moments(values.shape[1], space)
    moments.update(values)
    return moments


def statistics(values: np.ndarray) -> dict[str, Any]:
    return {"mu": values.mean(0), "sigma": np.cov(values.T)}


def test_statistics_of_edm_are_moments_in_the_space_that_the_user_names(tmp_path: Path):
    np.savez(tmp_path / "edm.npz", **statistics(features()))
    found, samples = load_moments(tmp_path / "edm.npz", Named()), moments_of(features(1))
    assert (found.space, found.count) == ("inception", None)
    assert frechet_distance(samples, found) == pytest.approx(
        frechet_distance(samples, moments_of(features())), rel=1e-12
    )


@pytest.mark.parametrize(("protocol", "numpy_1"), [(3, False), (3, True), (4, False), (5, False)])
def test_statistics_of_edm2_know_their_count_and_their_metric(tmp_path: Path, protocol: int, numpy_1: bool):
    content = {"num_images": 50, "fid": statistics(features()), "fd_dinov2": statistics(features(1))}
    written = pickle.dumps(content, protocol)
    if numpy_1:
        assert b"numpy._core." in written
        written = written.replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "edm2.pkl").write_bytes(written)
    for entry, seed in (("fid", 0), ("fd_dinov2", 1)):
        found = load_moments(tmp_path / "edm2.pkl", Named(), entry)
        assert found.count == 50
        np.testing.assert_allclose(found.mean, features(seed).mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(features(seed).T), rtol=1e-12)


def test_a_pickle_that_names_anything_else_is_refused_unread(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "it ran",))

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"fid": statistics(features()), "num_images": Evil()}))
    with pytest.raises(ValueError, match="where only numbers and arrays are expected"):
        load_moments(tmp_path / "evil.pkl", Named())
    assert not (tmp_path / "it ran").exists()


def test_our_own_moments_know_their_space(tmp_path: Path):
    moments_of(features()).save(tmp_path / "m.npz")
    assert load_moments(tmp_path / "m.npz", Named()).count == 50
    with pytest.raises(ValueError, match="3 features in 'inception', not of 3 in 'other'"):
        load_moments(tmp_path / "m.npz", Named("other"))
    with pytest.raises(ValueError, match="3 features in 'inception', not of 4"):
        load_moments(tmp_path / "m.npz", Named(size=4))


def test_foreign_and_damaged_files_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no file at"):
        load_moments(tmp_path / "none.npz", Named())
    np.savez(tmp_path / "a.npz", mean=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds \['mean'\], neither 'format' nor 'mu' and 'sigma'"):
        load_moments(tmp_path / "a.npz", Named())
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:40])
    (tmp_path / "c.pkl").write_bytes(b"no pickle")
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"kid": 3}))
    for name in ("b.npz", "c.pkl", "d.pkl"):
        with pytest.raises(ValueError, match="damaged or foreign"):
            load_moments(tmp_path / name, Named())
    for sigma in (np.eye(2), -np.eye(3), np.full((3, 3), np.nan), np.triu(np.ones((3, 3)))):
        np.savez(tmp_path / "e.npz", mu=np.zeros(3), sigma=sigma)
        with pytest.raises(ValueError, match="positive semi-definite"):
            load_moments(tmp_path / "e.npz", Named())


def test_the_bundled_reference_has_moments_and_features():
    reference = Reference.load(BUNDLED, spaces.get("model"))
    assert reference.moments.count == 60_000 and reference.array.shape == (10_000, 64)
    assert reference.array.dtype == np.float64 and reference.array is reference.array


def test_moments_and_features_of_two_spaces_are_no_reference():
    stored = SampleFeatures("other", features(), np.zeros(50, dtype=int), {})
    with pytest.raises(ValueError, match="'inception'.*'other'"):
        Reference(moments_of(features()), stored)


def test_a_file_of_statistics_is_a_reference_for_fid(tmp_path: Path):
    np.savez(tmp_path / "edm.npz", **statistics(features()))
    reference = Reference.load(tmp_path / "edm.npz", Named())
    assert isinstance(reference.moments, Statistics) and reference.features is None
