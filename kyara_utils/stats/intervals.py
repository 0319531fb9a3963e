"""Intervals and paired tests for small samples: a score without its uncertainty invites wrong conclusions.

Practice after Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640): Wilson intervals for proportions,
clustered resampling where items share a source, and paired comparison of models on the same items. NaN marks
an unscored item and is left out, never averaged in.
"""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np

from kyara_utils.runs.errors import KyaraError

Z95 = NormalDist().inv_cdf(0.975)


def wilson(k: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of k successes among n trials (Wilson 1927).

    `k` may be fractional, for weighted proportions. Returns (NaN, NaN) for n = 0; raises KyaraError unless 0
    ≤ k ≤ n.
    """
    if n < 0 or not 0 <= k <= n:
        raise KyaraError(f"{k} successes among {n} trials is impossible; count the rows again")
    if n == 0:
        return math.nan, math.nan
    share, scale = k / n, 1 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / scale
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def _cluster_index(groups: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Number the clusters 0, 1, … in order of appearance; every value is its own cluster without `groups`."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise KyaraError(f"{n} values but {len(groups)} groups; give one group per value")
    order = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups])


def _resampled_means(values: np.ndarray, weights: np.ndarray, clusters: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Return n weighted means, each over as many clusters as there are, drawn with replacement."""
    names, index = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(index, values * weights), np.bincount(index, weights)
    generator = np.random.default_rng(seed)
    means = np.empty(n)
    for position in range(n):  # one draw at a time: n × clusters at once would take gigabytes on large sets
        drawn = generator.integers(0, len(names), len(names))
        means[position] = sums[drawn].sum() / sizes[drawn].sum()
    return means


def bootstrap_mean(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    n: int = 2000,
    weights: Sequence[float] | None = None,
) -> tuple[float, float, float]:
    """Mean of `values` with its 95 % percentile bootstrap interval (Efron 1979) from n resamples.

    With `groups` (one per value) whole groups are drawn: items of one subject or turns of one question are
    not independent. `weights` (positive) give a weighted mean. No value at all gives (NaN, NaN, NaN).
    """
    array = np.asarray(values, dtype=float)
    weight = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=float)
    clusters, known = _cluster_index(groups, len(array)), ~np.isnan(array)
    if not known.any():
        return math.nan, math.nan, math.nan
    array, weight, clusters = array[known], weight[known], clusters[known]
    low, high = np.percentile(_resampled_means(array, weight, clusters, seed, n), [2.5, 97.5])
    return float(np.average(array, weights=weight)), float(low), float(high)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    n: int = 2000,
) -> tuple[float, float, float, float]:
    """Mean of a − b over the same items, its 95 % interval, and the two-sided p of no difference.

    Position i of `a` and of `b` must be the same item. Pairs with a NaN are left out. p is twice the share of
    resamples on the far side of zero, with one added to both counts so that it is never 0 (Davison & Hinkley
    1997, §4.2).
    """
    if len(a) != len(b):
        raise KyaraError(f"{len(a)} scores against {len(b)}; pair the models by item id first")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    clusters, known = _cluster_index(groups, len(difference)), ~np.isnan(difference)
    if not known.any():
        return math.nan, math.nan, math.nan, math.nan
    difference, clusters = difference[known], clusters[known]
    means = _resampled_means(difference, np.ones(len(difference)), clusters, seed, n)
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return float(difference.mean()), float(low), float(high), min(1.0, 2 * (tail + 1) / (n + 1))


def paired_shares(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares on the same items (Newcombe 1998, Stat. Med. 17:2635, method 10).

    Items that both models got right, only the first, only the second, neither. It is made of the Wilson intervals of
    both shares, so it keeps a width where all items agree, as a bootstrap does not. (NaN, NaN) for no item.
    """
    n = both + first + second + neither
    if not n:
        return math.nan, math.nan
    one, two = (both + first) / n, (both + second) / n
    (low_1, high_1), (low_2, high_2) = wilson(both + first, n), wilson(both + second, n)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = both * neither - first * second
    corrected = max(0.0, excess - n / 2) if excess > 0 else excess
    phi = corrected / math.sqrt(margins) if margins else 0.0
    below = _joined(one - low_1, high_2 - two, phi)
    above = _joined(high_1 - one, two - low_2, phi)
    return one - two - below, one - two + above


def _joined(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p of McNemar's test (1947): b items only the first model got right, c only the
    second."""
    if b < 0 or c < 0:
        raise KyaraError("counts of discordant pairs cannot be negative; count the rows again")
    n, tail, term = b + c, 0, 1
    for i in range(min(b, c) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * tail / 2**n)


def minimum_detectable_difference(n: int, p: float = 0.5, power: float = 0.8) -> float:
    """Smallest true difference of two proportions near p that n items per model show at 5 % with this power.

    For unpaired models; pairing on the same items only improves it. Returns NaN for n = 0.
    """
    if n <= 0:
        return math.nan
    return (Z95 + NormalDist().inv_cdf(power)) * math.sqrt(2 * p * (1 - p) / n)


def minimum_detectable_mean(differences: Sequence[float], power: float = 0.8) -> float:
    """Smallest true mean of paired differences with this spread that their number shows at 5 % with this power.

    NaN for fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    return (Z95 + NormalDist().inv_cdf(power)) * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))


def percentile_interval(replicates: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval between the percentiles of bootstrap replicates (Efron 1979); (NaN, NaN) when there are none."""
    known = np.asarray(replicates, dtype=float)
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson correlation over the positions where both are known; NaN for fewer than two or a constant."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
