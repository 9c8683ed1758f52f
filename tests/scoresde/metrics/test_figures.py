"""KID, precision, recall, sliced Wasserstein, intervals, and the collector that gives them all."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoresde.metrics import (
    Collector,
    Estimate,
    Moments,
    PixelSpace,
    Reference,
    SampleFeatures,
    frechet_distance,
    frechet_error,
    kid,
    precision_recall,
    rms_error,
    share,
    sliced_wasserstein,
)
from scoresde.metrics.figures import blocks as blocks_module
from scoresde.metrics.figures import precision_recall as manifolds
from scoresde.metrics.figures.frechet import frechet
from scoresde.metrics.figures.kid import kernel_mean
from scoresde.metrics.figures.sliced import directions

DRAWS = 40


def normal(seed: int, n: int, d: int = 4, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + shift


def moments_of(features: np.ndarray, space: str = "") -> Moments:
    moments = Moments(features.shape[1], space)
    moments.update(features)
    return moments


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "ENTRIES", 50)


class TestKID:
    def by_loops(self, x: np.ndarray, y: np.ndarray) -> float:
        def k(a: np.ndarray, b: np.ndarray) -> float:
            return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

        def within(z: np.ndarray) -> float:
            return sum(k(z[i], z[j]) for i, j in itertools.permutations(range(len(z)), 2)) / (len(z) * (len(z) - 1))

        return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))

    @pytest.mark.parametrize(("n", "m"), [(2, 2), (13, 13), (9, 17), (17, 9)])
    def test_is_the_double_loop(self, n: int, m: int, tiny_blocks: None):
        x, y = normal(0, n, shift=0.5), normal(1, m)
        assert kid(x, y).value == pytest.approx(self.by_loops(x, y), rel=1e-10)
        assert kid(x, y, kernel_mean(y)).value == kid(x, y).value

    def test_is_unbiased_at_any_count(self):
        """Its mean over draws is the exact one for x ~ N(μ, I), for few samples as for many."""
        y, d, shift = normal(0, 50), 4, 0.4
        mu = np.full(d, shift)

        def cubed(mean: np.ndarray | float, variance: np.ndarray | float) -> np.ndarray | float:
            """E (1 + s)³ for normal s."""
            return (1 + mean) ** 3 + 3 * (1 + mean) * variance

        across = np.mean(cubed(y @ mu / d, (y**2).sum(1) / d**2))
        length = mu @ mu
        of_products = (length * (length + d) + 2 * length) / d**3  # E (μ·x)|x|²/d³
        within = cubed(length / d, length / d**2) + 3 * ((d + length) / d**2 + of_products)
        exact = within + kernel_mean(y) - 2 * across
        found = np.array([kid(normal(seed, 5, shift=shift), y).value for seed in range(1, 3001)])
        assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found))

    @pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
    def test_has_the_standard_error_of_its_spread_over_fresh_draws(self, shift: float):
        y = normal(99, 300)
        within = kernel_mean(y)
        found = [kid(normal(seed, 200, shift=shift), y, within) for seed in range(150)]
        spread = np.std([figure.value for figure in found], ddof=1)
        errors = [(figure.high - figure.low) / 2 / 1.96 for figure in found if figure.low and figure.high]
        assert np.median(errors) == pytest.approx(spread, rel=0.25)
        mean = np.mean([figure.value for figure in found])
        covered = np.mean([figure.low <= mean <= figure.high for figure in found if figure.low and figure.high])
        assert covered > 0.88

    def test_needs_two_of_each_and_has_no_interval_for_three(self):
        assert kid(normal(0, 3), normal(1, 9)).low is None
        with pytest.raises(ValueError, match="at least 2 samples on either side, got 1"):
            kid(normal(0, 1), normal(1, 9))


class TestPrecisionRecall:
    def by_loops(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        def inside(points: np.ndarray, manifold: np.ndarray) -> float:
            hits = 0
            for point in points:
                for i, centre in enumerate(manifold):
                    others = sorted(math.dist(centre, other) for j, other in enumerate(manifold) if j != i)
                    if math.dist(point, centre) <= others[2]:
                        hits += 1
                        break
            return hits / len(points)

        return inside(x, y), inside(y, x)

    @pytest.mark.parametrize(("n", "m"), [(30, 30), (12, 45), (45, 12), (4, 20)])
    def test_are_the_loops_of_the_definition(self, n: int, m: int, tiny_blocks: None):
        x, y = normal(0, n, d=2, scale=0.7, shift=0.3), normal(1, m, d=2)
        precision, recall = precision_recall(x, y)
        assert (precision.value, recall.value) == self.by_loops(x, y)
        assert 0 < precision.value < 1 or 0 < recall.value < 1

    def test_see_copies_on_the_border(self):
        """Sets of copies have balls of radius zero, which hold their own points."""
        real = np.repeat(normal(0, 5, d=7) * 100 + 0.1, 4, axis=0)
        precision, recall = precision_recall(real[:16].copy(), real)
        assert precision.value == 1 and recall.value == pytest.approx(16 / 20)

    def test_tell_missing_modes_from_bad_samples(self):
        real = np.concatenate([normal(0, 200), normal(1, 200, shift=20)])
        dropped, noisy = normal(2, 300), np.concatenate([real[::2] + 0.01, normal(3, 200, shift=-50)])
        precision, recall = precision_recall(dropped, real)
        assert precision.value > 0.8 and recall.value < 0.55
        precision, recall = precision_recall(noisy, real)
        assert precision.value == pytest.approx(0.5, abs=0.02) and recall.value > 0.9

    def test_recall_s_interval_is_that_of_its_spread(self):
        real = normal(0, 300, d=3)
        found = [precision_recall(normal(seed, 100, d=3, scale=0.6), real)[1] for seed in range(1, DRAWS)]
        spread = np.std([recall.value for recall in found], ddof=1)
        errors = [(recall.high - recall.low) / 2 / 1.96 for recall in found if recall.low and recall.high]
        assert 0.8 * spread < np.median(errors) < 1.8 * spread

    def test_radii_of_halves_are_those_of_their_own_points(self, monkeypatch: pytest.MonkeyPatch):
        """Looked up among the nearest of all, or anew where these are too few: the interval is of the same halves."""
        x, y = normal(0, 90, d=3), normal(1, 80, d=3)
        looked_up = precision_recall(x, y)
        monkeypatch.setattr(manifolds, "LOOKED_AT", 4)
        assert precision_recall(x, y) == looked_up
        rows = np.arange(0, 90, 2)
        near = manifolds._nearest(x, 4)
        radii = manifolds._radii_among(x, rows, *near)
        assert radii == pytest.approx(manifolds.squared_radii(x[rows]), rel=1e-12)

    def test_need_four_of_each(self):
        with pytest.raises(ValueError, match="at least 4 samples on either side, got 3"):
            precision_recall(normal(0, 3), normal(1, 9))


class TestSlicedWasserstein:
    @settings(deadline=None, max_examples=20)
    @given(n=st.integers(1, 40), m=st.integers(1, 40))
    def test_is_scipy_s_distance_along_every_direction(self, n: int, m: int):
        x, y = normal(0, n, d=3, shift=0.2), normal(1, m, d=3)
        axes = directions(3)
        expected = np.mean([scipy.stats.wasserstein_distance(x @ u, y @ u) for u in axes.T])
        assert sliced_wasserstein(x, y).value == pytest.approx(expected, rel=1e-10)

    def test_of_a_shift_is_its_mean_length_along_the_directions(self):
        x, shift = normal(0, 50, d=3), np.array([1.0, -2.0, 0.5])
        expected = np.abs(shift @ directions(3)).mean()
        assert sliced_wasserstein(x + shift, x).value == pytest.approx(expected, rel=1e-12)
        assert sliced_wasserstein(x, x).value == 0

    @pytest.mark.parametrize(("shift", "most"), [(0.5, 1.3), (0.0, 2.2)])
    def test_has_an_interval_of_its_spread_or_somewhat_wider(self, shift: float, most: float):
        real = normal(99, 300)
        found = [sliced_wasserstein(normal(seed, 200, shift=shift), real, splits=25) for seed in range(DRAWS)]
        spread = np.std([figure.value for figure in found], ddof=1)
        errors = [(figure.high - figure.value) / 1.96 for figure in found if figure.high]
        assert 0.75 * spread < np.median(errors) < most * spread


class TestFrechetIntervals:
    @pytest.mark.parametrize(
        ("d", "n", "shift", "scale", "most"),
        [
            (8, 500, 0.3, 1.0, 1.3),  # away from the reference
            (8, 500, 0.0, 1.3, 1.3),
            (8, 500, 0.0, 1.0, 1.8),  # at the floor, where curvature is all there is
            (32, 24, 0.2, 1.0, 1.8),  # fewer samples than features
        ],
    )
    def test_are_those_of_the_spread_over_fresh_draws_or_somewhat_wider(
        self, d: int, n: int, shift: float, scale: float, most: float
    ):
        reference = moments_of(normal(12345, 20_000, d))
        draws = [normal(seed, n, d, shift, scale) for seed in range(100)]
        values = np.array([frechet_distance(moments_of(draw), reference) for draw in draws])
        errors = np.array([frechet_error(draw, reference) for draw in draws])
        assert 0.8 * values.std(ddof=1) < np.median(errors) < most * values.std(ddof=1)
        covered = np.abs(values - values.mean()) <= 1.96 * errors
        assert covered.mean() >= 0.9

    def test_do_not_depend_on_which_gram_matrix_is_smaller(self):
        reference = moments_of(normal(0, 500, 20))
        wide, padded = normal(1, 30, 20), normal(2, 200, 20)
        for features in (wide, padded):
            by_moments = []
            generator = np.random.default_rng(0)
            for _ in range(50):
                order, n = generator.permutation(len(features)), len(features) // 2
                halves = (features[order[:n]], features[order[n : 2 * n]])
                a, b = (frechet_distance(moments_of(half), reference) for half in halves)
                by_moments.append((a - b) ** 2)
            expected = math.sqrt(np.mean(by_moments)) / 2
            assert frechet_error(features, reference) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(("n", "m", "d"), [(12, 500, 40), (60, 500, 40), (12, 9, 40), (2, 2, 40), (500, 12, 40)])
    def test_stand_beside_the_distance_of_the_moments(self, n: int, m: int, d: int):
        features, reference = normal(1, n, d, 0.3), moments_of(normal(0, m, d))
        found, value = frechet(features, reference), frechet_distance(moments_of(features), reference)
        assert found.value == pytest.approx(value, rel=1e-12)
        error = frechet_error(features, reference)
        assert found.high == (None if error is None else pytest.approx(value + 1.959964 * error, rel=1e-9))

    def test_of_few_images_among_many_pixels_take_a_moment(self):
        features, reference = normal(1, 30, 3072), moments_of(normal(0, 200, 3072))
        began = time.process_time()
        frechet(features, reference, 10)
        assert time.process_time() - began < 8  # with eigenvectors of both covariances it is 15 s and more

    def test_there_is_none_for_three_samples(self):
        assert frechet_error(normal(0, 3), moments_of(normal(1, 50))) is None


class TestShares:
    def test_cover_the_truth_and_never_shrink_to_a_point(self):
        generator = np.random.default_rng(0)
        for p in (0.02, 0.5, 0.97):
            found = [share(int(hits), 100) for hits in generator.binomial(100, p, size=2000)]
            covered = [bool(e.low is not None and e.high is not None and e.low <= p <= e.high) for e in found]
            assert 0.92 < np.mean(covered) <= 0.99
        z = 1.96**2 / 10
        assert share(0, 10).high == pytest.approx(z / (1 + z), rel=1e-4)
        assert share(10, 10).low == pytest.approx(1 / (1 + z), rel=1e-4)

    @pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (0, 0)])
    def test_are_of_something(self, hits: int, n: int):
        with pytest.raises(ValueError, match=f"got {hits} of {n}"):
            share(hits, n)


class TestErrors:
    def test_are_root_mean_squares_with_an_interval_over_seeds(self):
        generator = torch.Generator().manual_seed(0)
        converged = torch.rand(60, 1, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
        sizes = torch.rand(60, 1, 1, 1, generator=generator, dtype=torch.float64)
        found = rms_error(converged + sizes, converged)
        squares = sizes.flatten().square().numpy()
        reach = 1.96 * squares.std(ddof=1) / math.sqrt(60)
        assert found.value == pytest.approx(math.sqrt(squares.mean()), rel=1e-12)
        assert found.low == pytest.approx(math.sqrt(squares.mean() - reach), rel=1e-4)
        assert found.high == pytest.approx(math.sqrt(squares.mean() + reach), rel=1e-4)
        assert rms_error(converged, converged) == Estimate(0.0, 0.0, 0.0)
        assert rms_error(converged[:1] + 1, converged[:1]) == Estimate(1.0)

    def test_are_of_the_same_seeds(self):
        with pytest.raises(ValueError, match="of the same seeds"):
            rms_error(torch.zeros(3, 2), torch.zeros(2, 2))


class Means:
    """A feature space that is quick and known: the means of the four quarters of an image."""

    name, size = "quarters (0), not resized", 4

    def features(self, images: torch.Tensor) -> torch.Tensor:
        values = images.float() if images.dtype == torch.uint8 else (images.float() + 1) * 127.5
        return torch.nn.functional.avg_pool2d(values, 2).flatten(1)


def images(n: int, seed: int = 0, low: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)


def reference_of(pixels: torch.Tensor) -> Reference:
    features = Means().features(pixels).numpy()
    stored = SampleFeatures(Means.name, features, np.zeros(len(features), dtype=int), {})
    return Reference(moments_of(features, Means.name), stored)


class TestCollector:
    def test_gives_every_figure_the_same_for_any_split_order_and_merge(self):
        pixels, space = images(101, low=30), PixelSpace((1, 4, 4))
        reference, real = (
            reference_of(images(150, seed=1)),
            moments_of(space.features(images(150, 1)).numpy(), space.name),
        )
        whole = Collector(Means(), space)
        whole.update(pixels, range(101))
        expected = whole.figures(reference, real, splits=5)
        names = {"fid", "kid", "precision", "recall", "sliced_wasserstein", "pixel_fd"}
        assert expected.metrics.keys() == names and all(figure.low is not None for figure in expected.metrics.values())

        parts = [Collector(Means(), space) for _ in range(3)]
        for seed in reversed(range(101)):
            parts[seed % 3].update(pixels[seed : seed + 1], [seed])
        for other in (parts[1], parts[2]):
            parts[0].merge(other)
        assert parts[0].figures(reference, real, splits=5) == expected
        assert (len(parts[0]), parts[0].seeds.tolist()) == (101, list(range(101)))

    def test_agrees_with_the_figures_on_their_own(self):
        pixels, reference = images(60), reference_of(images(80, seed=1))
        collector = Collector(Means())
        collector.update(pixels, range(60))
        found = collector.figures(reference)
        features = Means().features(pixels).numpy().astype(np.float64)
        assert found.metrics["fid"].value == frechet_distance(moments_of(features, Means.name), reference.moments)
        assert found.metrics["kid"] == kid(features, reference.array)
        assert (found.metrics["precision"], found.metrics["recall"]) == precision_recall(features, reference.array)
        assert found.metrics["sliced_wasserstein"] == sliced_wasserstein(features, reference.array)
        assert (found.feature_space, found.samples, found.reference, found.reference_features) == (
            Means.name,
            60,
            80,
            80,
        )
        assert str(found).startswith("quarters (0), not resized, 60 samples, reference of 80 (features of 80)\n  fid ")

    def test_of_moments_only_there_is_fid_only(self):
        collector = Collector(Means())
        collector.update(images(9), range(9))
        reference = Reference(moments_of(Means().features(images(50, 1)).numpy(), Means.name))
        assert collector.figures(reference).metrics.keys() == {"fid"}
        with pytest.raises(ValueError, match="moments only: FID is all it can give"):
            _ = reference.array

    def test_comes_back_from_its_file_and_goes_on(self, tmp_path: Path):
        space = PixelSpace((1, 4, 4))
        pixels, first, second = images(20), Collector(Means(), space), Collector(Means(), space)
        first.update(pixels[10:], range(10, 20))
        first.save(tmp_path / "features.npz")
        second.update(pixels[:10], range(10))
        second.load(tmp_path / "features.npz")
        assert second.seeds.tolist() == list(range(20))
        assert torch.equal(torch.from_numpy(second.features), Means().features(pixels))
        assert torch.equal(torch.from_numpy(second.images), space.features(pixels))
        with pytest.raises(ValueError, match="has features in"):
            Collector(Means()).load(tmp_path / "features.npz")

    def test_refuses_seeds_that_come_twice_and_other_spaces(self):
        collector, other = Collector(Means()), Collector(Means(), PixelSpace((1, 4, 4)))
        collector.update(images(5), range(5))
        with pytest.raises(ValueError, match=r"seeds come twice: \[4\]"):
            collector.update(images(2), [4, 5])
        with pytest.raises(ValueError, match="within one batch"):
            collector.update(images(2), [7, 7])
        with pytest.raises(ValueError, match=r"3 seeds need vectors of shape \(3, 4\), got \(2, 4\)"):
            collector.update(images(2), [7, 8, 9])
        with pytest.raises(ValueError, match="nothing to do with each other"):
            collector.merge(other)
        assert len(collector) == 5
        with pytest.raises(ValueError, match="no pixels were collected"):
            collector.figures(reference_of(images(9)), moments_of(normal(0, 9, 16)))

    def test_refuses_a_reference_of_another_space(self):
        collector = Collector(Means())
        collector.update(images(9), range(9))
        with pytest.raises(ValueError, match="'quarters.*'other'"):
            collector.figures(Reference(moments_of(normal(0, 9), "other")))
