"""What is measured of a row: names, units, which way is better, and how a value is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scoresde.bench.cases import OWN_STEPS
from scoresde.bench.rows import Estimate, Row


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: short name, for headings.
        meaning: what it is, with its unit.
        log: whether its axis is logarithmic.
        percent: whether it is a share.
        whole: whether its axis has whole numbers alone.
    """

    label: str
    meaning: str
    log: bool = True
    percent: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Axis:
    """What values are drawn against, on a logarithmic axis.

    Attributes:
        label: short name, for headings.
        title: the axis's own, with its unit.
        whole: whether it has whole numbers alone.
        measured: whether its ticks are where measurements are.
    """

    label: str
    title: str
    whole: bool = False
    measured: bool = False

    def of(self, points: bool) -> Axis:
        """The axis as it is of points, where it names images."""
        label, title = (text.replace("images", "points") if points else text for text in (self.label, self.title))
        return replace(self, label=label, title=title)


FAILED = 10.0  # times the best at its cost, from where on a row is no use
METRICS = {
    "fid": Metric("FID", "Fréchet distance between Gaussians fitted to features; smaller is better"),
    "error": Metric(
        "error", "root mean square per pixel, images in [−1, 1], from the converged solution of the same seeds"
    ),
    "kid": Metric(
        "KID", "squared kernel distance of features, unbiased, so that it may fall below zero; smaller is better"
    ),
    "precision": Metric("precision", "share of samples near a real image in feature space", log=False, percent=True),
    "recall": Metric("recall", "share of real images near a sample in feature space", log=False, percent=True),
    "sliced_wasserstein": Metric(
        "sliced Wasserstein", "Wasserstein distance over random projections; smaller is better"
    ),
    "pixel_fd": Metric("pixel FD", "Fréchet distance between Gaussians fitted to pixels; smaller is better"),
    "own_fd": Metric(
        "FD to own samples", "Fréchet distance of features to as many of the converged samples of other seeds"
    ),
    "clip_score": Metric(
        "CLIP score", "100 times the cosine of an image and its prompt in CLIP, at least 0; larger is better", log=False
    ),
    "own_class": Metric("own class", "share of samples classified as the class asked for", log=False, percent=True),
}


def described(name: str, points: bool = False) -> Metric:
    """How a metric is shown, of images or of points: as ``METRICS`` has it, or by its name, on a linear axis."""
    if name == "error" and points:
        meaning = "root mean square per coordinate, from the converged solution of the same seeds"
        return replace(METRICS[name], meaning=meaning)
    return METRICS.get(name) or Metric(name.replace("_", " "), "as its measure has it", log=False)


def measured(rows: Sequence[Row]) -> list[str]:
    """Names of the metrics that any row has: in the order of ``METRICS``, then whatever else was measured."""
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    return [*(name for name in METRICS if name in names), *(name for name in names if name not in METRICS)]


def useful(rows: Sequence[Row], name: str) -> float | None:
    """Where a logarithmic axis ends that rows which failed shall not flatten; None where none has.

    A row has failed whose value is more than ten times the upper end of the best row's interval with no more
    evaluations, those asked for.
    """
    known = [(_spent(row), row.metrics[name]) for row in rows if (value(row, name) or 0.0) > 0]
    if not described(name).log or not known:
        return None
    kept = []
    for spent, estimate in known:
        best = min((other for cost, other in known if cost <= spent), key=lambda other: other.value)
        _, high = interval(best) or (best.value, best.value)
        limit = FAILED * max(best.value, high)
        kept += [estimate.value] if estimate.value <= limit else []
    return None if len(kept) == len(known) else 1.1 * max(kept)


def _spent(row: Row) -> float:
    """What may be spent on a row: the evaluations asked for, which need not all have been made."""
    return row.nfe if row.grid == OWN_STEPS else max(row.budget, row.nfe)


def distance(rows: Sequence[Row]) -> str:
    """The distance that rows are judged by first: ``own_fd``, which has not the network's own error, or FID.

    Points have neither, but the sliced Wasserstein distance.
    """
    known = measured(rows)
    return next((name for name in ("own_fd", "fid", "sliced_wasserstein") if name in known), "fid")


def value(row: Row, name: str) -> float | None:
    """A metric of a row, None where it is missing or not finite."""
    found = row.metrics.get(name)
    return found.value if found is not None and math.isfinite(found.value) else None


def interval(estimate: Estimate) -> tuple[float, float] | None:
    """The ends of a 95 % interval, None where there is none or it is not finite."""
    low, high = estimate.low, estimate.high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    return low, high


def parts(estimate: Estimate, percent: bool = False) -> tuple[str, str]:
    """A value and the longer side of its interval as texts, to the interval's first two digits; "" for no interval."""
    number, ends = estimate.value, interval(estimate)
    if not math.isfinite(number):
        return "not finite", ""
    margin = 0.0 if ends is None else max(ends[1] - number, number - ends[0])
    if margin <= 0:
        return (f"{number:.1%}" if percent else f"{number:.4g}"), ""
    decimals = _decimals(margin, percent)
    return _fixed(number, decimals, percent), _fixed(margin, decimals, percent)


def brackets(estimate: Estimate, percent: bool = False) -> str:
    """``[2.90, 3.07]``, to the first two digits of the longer side; "" for no interval."""
    ends = interval(estimate)
    margin = 0.0 if ends is None else max(ends[1] - estimate.value, estimate.value - ends[0])
    if ends is None or not margin > 0:
        return ""
    decimals = _decimals(margin, percent)
    return f"[{', '.join(_fixed(end, decimals, percent) for end in ends)}]"


def _decimals(margin: float, percent: bool) -> int:
    return min(9, max(0, 1 - math.floor(math.log10(margin)) - (2 if percent else 0)))


def _fixed(number: float, decimals: int, percent: bool) -> str:
    return f"{number:.{decimals}{'%' if percent else 'f'}}"


def text(estimate: Estimate | None, percent: bool = False) -> str:
    """``2.98 ± 0.08``; "" for nothing measured."""
    if estimate is None:
        return ""
    number, margin = parts(estimate, percent)
    return f"{number} ± {margin}" if margin else number


def count(nfe: float) -> str:
    """Evaluations, which are a mean over samples and need not be whole."""
    return f"{nfe:.4g}" if nfe < 1000 else f"{nfe:.0f}"


def per_thousand(row: Row) -> float:
    """Seconds per 1000 images."""
    return 1000 * row.seconds / row.samples
