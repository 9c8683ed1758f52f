"""Moments, the Fréchet distance, the feature space, FID and its floors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bundled.feature_statistics import fair_order, from_data, from_model
from benchmarks.bundled.features import accuracy, fit
from scoresde import VP, data, models, sample
from scoresde.data import to_pixels, to_state
from scoresde.metrics import (
    BUNDLED,
    FID,
    FeatureNetwork,
    FeatureSpace,
    Moments,
    SampleFeatures,
    class_labels,
    floors,
    frechet_distance,
    load_features,
    save_features,
)
from scoresde.networks.unet import UNet
from solvers import get

# Of each digit in the 60,000 training images: 9.0 % fives, 11.2 % ones.
MNIST_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


def gaussian(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + shift


def square_root(matrix: np.ndarray) -> np.ndarray:
    return np.real(np.asarray(scipy.linalg.sqrtm(matrix)))


def moments_of(features: np.ndarray, space: str = "") -> Moments:
    moments = Moments(features.shape[1], space)
    moments.update(features)
    return moments


def with_covariance(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    """Moments of 2d points m ± √((2d − 1)/2) c, c the columns of a root of C: their unbiased covariance is C."""
    columns = square_root(covariance).T * np.sqrt((2 * len(mean) - 1) / 2)
    return moments_of(np.concatenate([mean + columns, mean - columns]))


def untrained(shape: tuple[int, int, int] = (1, 8, 8)) -> FeatureSpace:
    torch.manual_seed(0)
    return FeatureSpace(FeatureNetwork(shape[0], (8, 12), classes=10), "untrained-12", shape, {})


class TestMoments:
    def test_are_those_of_numpy(self):
        features = gaussian(200, 7, shift=3)
        moments = moments_of(features)
        assert moments.count == 200
        np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-13)
        np.testing.assert_allclose(moments.covariance, np.cov(features.T), rtol=1e-12, atol=1e-12)

    @settings(deadline=None)  # the machine may be busy
    @given(
        cuts=st.lists(st.integers(0, 97), max_size=8),
        shift=st.sampled_from([0.0, 1.0, 1e4]),
        merged=st.booleans(),
    )
    def test_do_not_depend_on_the_split_into_batches(self, cuts: list[int], shift: float, merged: bool):
        features = gaussian(97, 5, shift=shift)
        whole, parts = moments_of(features), Moments(5)
        for batch in np.split(features, sorted(cuts)):
            if merged:
                parts.merge(moments_of(batch))
            else:
                parts.update(torch.from_numpy(batch))
        assert parts.count == whole.count
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-9, atol=1e-12)
        scale = np.abs(whole.covariance).max()
        np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=0, atol=1e-9 * scale)

    def test_keep_their_digits_far_from_zero(self):
        features = gaussian(50, 3)
        near, far = moments_of(features), moments_of(features + 2.0**30)  # Σ f² − n m² would lose all of them
        # Features are rounded there by up to 2⁻²³, which moves an entry by up to 2⁻²² standard deviations.
        spread = np.sqrt(near.covariance.diagonal().max())
        np.testing.assert_allclose(far.covariance, near.covariance, rtol=0, atol=4 * 2.0**-22 * spread)

    @settings(deadline=None)
    @given(cuts=st.lists(st.integers(0, 97), max_size=3), far=st.sampled_from([0.0, 0.5, 5.0]))
    def test_of_several_processes_are_one_sum_of_tensors(self, cuts: list[int], far: float):
        features, reference = gaussian(97, 5, shift=3), moments_of(gaussian(400, 5, seed=2, shift=3))
        shift = reference.mean + far
        parts = [moments_of(part) if len(part) else Moments(5) for part in np.split(features, sorted(cuts))]
        total = torch.stack([part.packed(shift) for part in parts]).sum(0)
        assert total.dtype == torch.float64 and total.shape == (1 + 5 + 25,)
        together, whole = Moments.unpacked(total, shift), moments_of(features)
        assert together.count == 97
        assert frechet_distance(together, reference) == pytest.approx(frechet_distance(whole, reference), rel=1e-9)

    def test_are_not_unpacked_from_something_else(self):
        packed = moments_of(gaussian(9, 3)).packed(np.zeros(3))
        with pytest.raises(ValueError, match="no packed moments of 4 features"):
            Moments.unpacked(packed, np.zeros(4))
        with pytest.raises(ValueError, match="no packed moments"):
            Moments.unpacked(packed / 2, np.zeros(3))
        with pytest.raises(ValueError, match=r"3 finite values, got shape \(2,\)"):
            moments_of(gaussian(9, 3)).packed(np.zeros(2))

    @settings(deadline=None)
    @given(cuts=st.lists(st.integers(0, 97), min_size=2, max_size=2))
    def test_merge_in_any_association(self, cuts: list[int]):
        a, b, c = ((moments_of(part) if len(part) else Moments(5)) for part in np.split(gaussian(97, 5), sorted(cuts)))
        left, right, inner = Moments(5), Moments(5), Moments(5)
        for part in (a, b, c):
            left.merge(part)
        inner.merge(b)
        inner.merge(c)
        right.merge(a)
        right.merge(inner)
        np.testing.assert_allclose(left.mean, right.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(left.covariance, right.covariance, rtol=1e-12, atol=1e-12)

    def test_come_back_from_a_file_bit_for_bit_and_go_on(self, tmp_path: Path):
        moments = moments_of(gaussian(40, 4), "space")
        moments.save(tmp_path / "m.npz")
        loaded = Moments.load(tmp_path / "m.npz")
        for both in (moments, loaded):
            both.update(gaussian(10, 4, seed=1))
        assert (loaded.count, loaded.space) == (50, "space")
        assert (loaded.covariance == moments.covariance).all() and (loaded.mean == moments.mean).all()
        assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]

    def test_refuse_what_is_not_features(self):
        moments = moments_of(gaussian(5, 3))
        with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(5, 4\)"):
            moments.update(gaussian(5, 4))
        bad = gaussian(5, 3)
        bad[1, 2] = np.nan
        with pytest.raises(ValueError, match="1 of 5 features are not finite"):
            moments.update(bad)
        assert moments.count == 5
        with pytest.raises(ValueError, match="at least 2 samples, got 1"):
            _ = moments_of(gaussian(1, 3)).covariance

    def test_of_different_spaces_are_not_merged(self):
        with pytest.raises(ValueError, match="'a'.*'b'.*measure both in one feature space"):
            moments_of(gaussian(5, 3), "a").merge(moments_of(gaussian(5, 3), "b"))

    def test_refuse_truncated_foreign_and_impossible_files(self, tmp_path: Path):
        path = tmp_path / "m.npz"
        with pytest.raises(ValueError, match="no file at"):
            Moments.load(path)
        moments_of(gaussian(40, 4)).save(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="damaged or foreign"):
            Moments.load(path)
        np.save(tmp_path / "array.npy", np.zeros(3))
        with pytest.raises(ValueError, match="damaged or foreign"):
            Moments.load(tmp_path / "array.npy")
        np.savez(path, mean=np.zeros(3))
        with pytest.raises(ValueError, match="its format is an unnamed one, not scoresde-moments-1"):
            Moments.load(path)
        arrays = {"format": "scoresde-moments-1", "space": "", "count": 9, "mean": np.zeros(2)}
        for scatter in (np.eye(3), -np.eye(2), np.full((2, 2), np.nan), np.array([[1.0, 0.5], [0.0, 1.0]])):
            np.savez(path, scatter=scatter, **arrays)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="positive semi-definite"):
                Moments.load(path)


class TestFrechetDistance:
    @pytest.mark.parametrize("d", [1, 3, 20])
    def test_equals_the_matrix_square_root_of_the_product(self, d: int):
        a, b = moments_of(gaussian(100, d, 1)), moments_of(gaussian(150, d, 2, shift=0.5))
        root = square_root(a.covariance @ b.covariance)
        expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)

    def test_of_commuting_covariances_is_the_distance_of_their_roots(self):
        basis = np.linalg.qr(gaussian(6, 6))[0]
        first, second = np.array([4.0, 1, 9, 0.5, 1e-6, 2]), np.array([1.0, 1, 4, 2.0, 1e-4, 0.1])
        mean = np.arange(6.0)
        a = with_covariance(mean, (basis * first) @ basis.T)
        b = with_covariance(mean + 0.5, (basis * second) @ basis.T)
        expected = 6 * 0.25 + np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)

    def test_keeps_its_digits_for_singular_covariances(self):
        """Few samples of many features: a set with itself is at 0, and a shifted one at the shift's square."""
        features = gaussian(10, 40)
        a = moments_of(features)
        scale = np.trace(a.covariance)
        assert frechet_distance(a, a) < 1e-12 * scale
        assert frechet_distance(a, moments_of(features + 2)) == pytest.approx(40 * 4, rel=1e-11)
        doubled = moments_of(2 * (features - features.mean(0)) + features.mean(0))
        assert frechet_distance(a, doubled) == pytest.approx(scale, rel=1e-11)

    def test_of_one_point_is_the_trace_of_the_other_and_the_square_between_them(self):
        point, others = moments_of(np.zeros((5, 4))), moments_of(gaussian(8, 4))
        expected = np.trace(others.covariance) + np.sum(others.mean**2)
        assert frechet_distance(point, others) == pytest.approx(expected, rel=1e-12)
        assert frechet_distance(point, point) == 0

    def test_of_orthogonal_singular_covariances_is_the_sum_of_traces(self):
        first, second = np.zeros((8, 4)), np.zeros((8, 4))
        first[:, :2], second[:, 2:] = gaussian(8, 2, 1), gaussian(8, 2, 2)
        a, b = moments_of(first - first.mean(0)), moments_of(second - second.mean(0))
        assert frechet_distance(a, b) == pytest.approx(np.trace(a.covariance) + np.trace(b.covariance), rel=1e-12)

    def test_refuses_moments_of_another_space(self):
        with pytest.raises(ValueError, match="measure both in one feature space"):
            frechet_distance(moments_of(gaussian(5, 3), "a"), moments_of(gaussian(5, 3), "b"))


class TestFeatureSpace:
    def test_sees_states_as_the_pixels_they_are_shown_as(self):
        space = untrained()
        pixels = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
        states = to_state(pixels)
        wiggle = 0.9 * (torch.rand(states.shape) - 0.5) / 127.5  # less than half a grey level
        assert (to_pixels(states + wiggle) == pixels).all()
        expected = space.features(pixels)
        assert torch.equal(space.features(states + wiggle), expected)
        assert torch.equal(space.features(3 * (states + 1) - 1), space.features((3 * (states + 1) - 1).clamp(-1, 1)))
        assert torch.equal(space.classify(states.double()), space.classify(pixels))

    def test_of_an_image_does_not_depend_on_its_neighbours(self):
        space = untrained()
        pixels = torch.randint(0, 256, (1001, 1, 8, 8), dtype=torch.uint8)
        assert torch.equal(space.features(pixels)[-3:], space.features(pixels[-3:]))
        assert space.features(pixels[:0]).shape == (0, 12)

    def test_whitened_has_mean_zero_and_covariance_one(self):
        space = untrained()
        pixels = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8)
        logits = space.classify(pixels)
        space.network.whiten(space.features(pixels))
        moments = moments_of(space.features(pixels).numpy())
        np.testing.assert_allclose(moments.mean, 0, atol=1e-3)
        np.testing.assert_allclose(moments.covariance, np.eye(12), atol=1e-2)
        assert torch.equal(space.classify(pixels), logits)

    def test_with_a_dead_feature_is_not_whitened(self):
        features = torch.randn(50, 12)
        features[:, 3] = 0
        with pytest.raises(ValueError, match="cannot be whitened.*dead or a copy"):
            untrained().network.whiten(features)

    def test_comes_back_from_its_folder_under_a_name_of_its_weights(self, tmp_path: Path):
        space = untrained()
        pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
        save_features(tmp_path / "a", space.network, "small-12", space.shape, {"seconds": 1})
        loaded = load_features(tmp_path / "a")
        assert torch.equal(loaded.features(pixels), space.features(pixels))
        assert loaded.name.startswith("small-12 (") and str(loaded) == loaded.name
        assert (loaded.size, loaded.shape, loaded.card) == (12, (1, 8, 8), {"seconds": 1})
        with torch.no_grad():
            space.network.head.bias[0] += 1
        save_features(tmp_path / "b", space.network, "small-12", space.shape, {})
        assert load_features(tmp_path / "b").name != loaded.name

    def test_refuses_images_of_another_kind(self):
        space = untrained()
        with pytest.raises(ValueError, match=r"shape \(n, 1, 8, 8\), got \(2, 3, 8, 8\)"):
            space.features(torch.zeros(2, 3, 8, 8))
        with pytest.raises(ValueError, match="uint8 pixels or floating-point states.*int64"):
            space.features(torch.zeros(2, 1, 8, 8, dtype=torch.long))
        states = torch.zeros(3, 1, 8, 8)
        states[1, 0, 4, 4] = torch.inf
        with pytest.raises(ValueError, match="1 of 3 images hold values that are not finite"):
            space.features(states)

    def test_refuses_a_folder_that_is_damaged_or_not_its_own(self, tmp_path: Path):
        with pytest.raises(ValueError, match=r"'config.json' is missing"):
            load_features(tmp_path)
        save_features(tmp_path, untrained().network, "small-12", (1, 8, 8), {})
        config = json.loads((tmp_path / "config.json").read_text())
        weights = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(weights[:-8])
        with pytest.raises(ValueError, match="damaged or foreign: its weights have SHA-256"):
            load_features(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(weights)
        for change in ({"format": "other"}, {"network": {"depth": 3}}, {"network": {"width": 3}}, {"shape": None}):
            (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
            with pytest.raises(ValueError, match="damaged or foreign"):
                load_features(tmp_path)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ValueError, match="damaged or foreign"):
            load_features(tmp_path)


class TestFID:
    def test_of_a_set_with_itself_is_zero_however_it_comes(self):
        space = untrained()
        pixels = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
        fid = FID(space, moments_of(space.features(pixels).numpy(), space.name))
        fid.update(pixels[:7])
        fid.update(to_state(pixels[7:]))
        score = fid.compute()
        assert score.value < 1e-9
        assert str(score) == f"FID {score.value:.3f} in untrained-12, 60 samples, reference of 60"

    def test_of_10_000_samples_is_the_same_in_1_2_and_3_parts(self):
        space, generator = untrained(), torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (10_000, 1, 8, 8), dtype=torch.uint8, generator=generator)
        reference = moments_of(space.features(pixels[:3000] // 2).numpy(), space.name)
        values = []
        for parts in (1, 2, 3):
            pieces = [FID(space, reference) for _ in range(parts)]
            for piece, share in zip(pieces, pixels.tensor_split(parts), strict=True):
                for batch in share.split(1700 // parts):
                    piece.update(batch)
            total = torch.stack([piece.moments.packed(reference.mean) for piece in pieces]).sum(0)
            pieces[0].moments = Moments.unpacked(total, reference.mean, space.name)
            score = pieces[0].compute()
            assert (score.samples, score.reference, score.feature_space) == (10_000, 3000, space.name)
            values.append(score.value)
        assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-9)

    def test_refuses_a_reference_of_another_network(self):
        with pytest.raises(ValueError, match="'untrained-12'.*'other'"):
            FID(untrained(), moments_of(gaussian(20, 12), "other"))

    def test_needs_two_samples(self):
        space = untrained()
        with pytest.raises(ValueError, match="at least 2 samples, got 0"):
            FID(space, moments_of(gaussian(20, 12), space.name)).compute()


class TestClassLabels:
    @settings(deadline=None)  # the machine may be busy
    @given(
        counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any),
        n=st.integers(0, 300),
    )
    def test_of_every_prefix_are_in_proportion(self, counts: list[int], n: int):
        labels = class_labels(n, counts).numpy()
        shares = np.array(counts) / sum(counts)
        assert len(labels) == n and (np.array(counts)[labels] > 0).all()
        had = np.cumsum(labels[:, None] == np.arange(len(counts)), axis=0)
        expected = np.arange(1, n + 1)[:, None] * shares
        assert (np.abs(had - expected) <= 0.5 + len(counts) * shares / 2 + 1e-6).all()

    @settings(deadline=None)
    @given(n=st.integers(0, 2000), more=st.integers(0, 2000))
    def test_of_more_samples_begin_with_those_of_fewer(self, n: int, more: int):
        assert torch.equal(class_labels(n + more, MNIST_COUNTS)[:n], class_labels(n, MNIST_COUNTS))

    def test_of_mnist_stay_within_one_of_their_share(self):
        had = np.cumsum(class_labels(10_000, MNIST_COUNTS).numpy()[:, None] == np.arange(10), axis=0)
        expected = np.arange(1, 10_001)[:, None] * np.array(MNIST_COUNTS) / sum(MNIST_COUNTS)
        assert sum(MNIST_COUNTS) == 60_000 and np.abs(had - expected).max() < 1

    @pytest.mark.parametrize(("n", "counts"), [(-1, [1]), (3, []), (3, [0, 0]), (3, [2, -1])])
    def test_refuse_impossible_counts(self, n: int, counts: list[int]):
        with pytest.raises(ValueError, match="class_labels needs"):
            class_labels(n, counts)


def test_fair_order_is_a_permutation_in_proportion_and_random_within_classes():
    counts = torch.tensor([25, 50, 75, 100])
    labels = torch.arange(4).repeat_interleave(counts)
    order = fair_order(labels)
    assert torch.equal(order.sort().values, torch.arange(250))
    had = (labels[order][:, None] == torch.arange(4)).cumsum(0)
    assert (had - torch.arange(1, 251)[:, None] * counts / 250).abs().max() < 1.5
    ones = order[labels[order] == 1]
    assert not torch.equal(ones, ones.sort().values)


def test_training_makes_a_classifier_and_the_statistics_know_its_floors(tmp_path: Path):
    """The whole road on scikit-learn's digits: features, reference, floors, and the samples of a model."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    network = fit(train, epochs=12, batch_size=50, learning_rate=3e-3, seed=0)
    space = FeatureSpace(network, "digits", (1, 8, 8), {})
    assert accuracy(space, test) > 0.9
    network.whiten(space.features(train.pixels))
    save_features(tmp_path / "features", network, "digits-64", (1, 8, 8), {})
    from_data(train, test, load_features(tmp_path / "features"), tmp_path)

    fid = FID.load(tmp_path)
    fid.update(test.pixels)
    assert fid.reference.count == len(train)
    assert train.labels is not None
    torch.manual_seed(0)
    net = UNet(1, (16, 16), depth=1, num_classes=10)
    models.save(tmp_path, net, network="unet", process=VP(), prediction="epsilon", shape=(1, 8, 8), classes=10)
    options = {"steps": 3, "grid": None, "batch_size": 8, "dtype": torch.float32}
    about = from_model(tmp_path, fid.features, 20, get("ddim"), **options)
    assert (about["solver"], about["nfe"], about["options"]) == ("ddim", 3, {"eta": 0.0})

    stored = SampleFeatures.load(tmp_path / "converged_features.npz")
    labels = class_labels(20, torch.bincount(train.labels).tolist())
    alone = sample(
        models.load(tmp_path).model, "ddim", steps=3, shape=(2, 1, 8, 8), seeds=[18, 19], cond={"label": labels[18:]}
    )
    expected = fid.features.features(alone.samples).numpy()
    np.testing.assert_allclose(stored.features[18:].astype(np.float64), expected, rtol=1e-2, atol=1e-2)
    assert stored.labels.tolist() == labels.tolist() and stored.about == about

    all_images = FID(fid.features, fid.reference)
    all_images.moments.merge(SampleFeatures.load(tmp_path / "test_features.npz").moments(len(test)))
    assert all_images.compute().value == pytest.approx(fid.compute().value, rel=1e-3)  # stored in float16
    found = floors(20, tmp_path)
    assert found.real.samples == found.converged.samples == 20
    assert found.real.feature_space == found.converged.feature_space == fid.features.name
    assert found.spread is not None and found.converged.value > found.real.value + 3 * found.spread
    with pytest.raises(ValueError, match="known for 2 to 20 samples, not for 21"):
        floors(21, tmp_path)
    with pytest.raises(ValueError, match="not for 1"):
        floors(1, tmp_path)


def test_sample_features_refuse_labels_that_do_not_number_them(tmp_path: Path):
    with pytest.raises(ValueError, match=r"integer labels \(n,\)"):
        SampleFeatures("", np.zeros((3, 2)), np.zeros(2, dtype=int), {})
    moments_of(gaussian(40, 4)).save(tmp_path / "m.npz")
    with pytest.raises(ValueError, match="its format is scoresde-moments-1, not scoresde-sample-features-1"):
        SampleFeatures.load(tmp_path / "m.npz")


class TestBundled:
    def test_features_classify_mnist_and_have_unit_covariance(self):
        space, reference = load_features(BUNDLED / "features"), Moments.load(BUNDLED / "reference.npz")
        assert space.size <= 64 and space.card["test_accuracy"] >= 0.992
        assert reference.count == 60_000 and reference.space == space.name
        np.testing.assert_allclose(reference.mean, 0, atol=1e-4)
        np.testing.assert_allclose(reference.covariance, np.eye(space.size), atol=1e-4)

    def test_test_features_have_every_class_in_proportion_all_along(self):
        stored = SampleFeatures.load(BUNDLED / "test_features.npz")
        assert tuple(stored.about["training_class_counts"]) == MNIST_COUNTS
        counts = np.stack([np.bincount(part, minlength=10) for part in np.split(stored.labels, 20)])
        assert counts.sum() == 10_000 and np.ptp(counts, axis=0).max() <= 2

    def test_fid_of_real_images_falls_with_their_number(self):
        """The bias of FID, and the reason why floors are measured at the samples' own count."""
        reference = Moments.load(BUNDLED / "reference.npz")
        stored = SampleFeatures.load(BUNDLED / "test_features.npz")
        values = [frechet_distance(stored.moments(n), reference) for n in (100, 500, 2000, 10_000)]
        assert values == sorted(values, reverse=True) and values[0] > 20 * values[-1]
