"""Class labels for samples that are compared with a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def class_labels(n: int, counts: Sequence[int]) -> Tensor:
    """Labels of the first n samples, in the proportions of a data set, shape (n,), int64.

    Labels 0, 1, …, 9, 0, … would ask for equal shares, which the data do not have, and FID would measure the
    difference. Here the j-th sample of class c stands at (j − ½)/p_c, p_c the share of the class, and samples are taken
    in that order (the apportionment of Webster and Sainte-Laguë). Of m classes, each prefix of k labels holds k p_c of
    class c to within ½ + m p_c/2, and a longer sequence begins with the shorter.

    Args:
        n: number of labels.
        counts: images of each class in the data set.

    Raises:
        ValueError: n is negative, a count is negative, or all are zero.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if n < 0 or weights.ndim != 1 or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"class_labels needs n >= 0 and class counts of which one is positive, got {n} and {counts}")
    shares = weights / weights.sum()
    most = np.where(shares > 0, np.ceil(shares * n + 0.5 + len(shares) * shares / 2), 0).astype(np.int64)
    labels = np.repeat(np.arange(len(shares)), most)
    ordinals = np.concatenate([np.arange(count) for count in most])
    order = np.argsort((ordinals + 0.5) / shares[labels], kind="stable")
    return torch.from_numpy(labels[order][:n].copy())
