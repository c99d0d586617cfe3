"""Standard errors of what is measured several times in each of a few settings."""

import math
from collections.abc import Sequence

import numpy as np


def clustered(
    amounts: Sequence[float], counts: Sequence[float], clusters: Sequence[str]
) -> tuple[float, float]:
    """Sum of the amounts over sum of the counts, where those of a cluster are not independent.

    With e_g the sum of amount - mean * count over a cluster, G clusters and N the sum of counts:
    se^2 = G / (G - 1) sum e_g^2 / N^2 (Cameron and Miller 2015, Journal of Human Resources 50; for
    a ratio Cochran 1977, Sampling Techniques, section 6.3).

    Returns:
        Mean and standard error; NaN where there is nothing to count, or one cluster.
    """
    total = sum(counts)
    if not total:
        return math.nan, math.nan
    mean = sum(amounts) / total
    names, place = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return mean, math.nan
    sums = np.bincount(place, np.asarray(amounts) - mean * np.asarray(counts))
    scale = len(names) / (len(names) - 1)
    return mean, math.sqrt(scale * float(np.sum(sums**2))) / total
