"""Shares of something that an item may hold none or several of, such as citations: sums over items, with intervals.

Precision, F1 and shares of characters are ratios of two sums over items. Items are drawn with replacement, so what
stands in one answer stays together (ratio estimator, Davison & Hinkley 1997, section 2.4).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from kyara_utils.evaluation.summary import score_row
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import Z95, bootstrap_mean, wilson

Part = tuple[float, float]  # an item's share of the numerator and of the denominator
RULE = "bootstrap over items, at least Wilson; unscored items left out"
POWER80 = NormalDist().inv_cdf(0.8)


def ratio_row(
    benchmark: str, model: str, metric: str, parts: Sequence[Part], n: int, unscored: int, protocol: str
) -> Row:
    """Score row of a ratio of sums; `n` as shown. A ratio without a denominator has n 0 and no value."""
    held = [(top, bottom) for top, bottom in parts if bottom]
    if not held:
        return score_row(benchmark, model, metric, math.nan, 0, unscored, math.nan, math.nan, f"{protocol}; {RULE}")
    total = sum(bottom for _, bottom in held)
    value, low, high = bootstrap_mean([t / b for t, b in held], weights=[b for _, b in held])
    least, most = wilson(min(value * total, total), total)
    ends = max(0.0, min(low, least)), min(1.0, max(high, most))
    return score_row(benchmark, model, metric, value, n, unscored, *ends, f"{protocol}; {RULE}")


def ratio_difference(
    one: Mapping[Hashable, Part], two: Mapping[Hashable, Part], names: tuple[str, str], seed: int = 0, n: int = 2000
) -> Row:
    """Difference of two models' ratios over the items that both have scored: a row as of `summary.compare`.

    `p` as in `statistics.paired_bootstrap`; `minimum_detectable` for 80 % power, from the bootstrap's standard error.
    {} where nothing is shared, or a ratio has no denominator.
    """
    ids = sorted(one.keys() & two.keys())
    sides = [np.array([side[item] for item in ids], dtype=float).reshape(-1, 2) for side in (one, two)]
    if not ids or not all(side[:, 1].sum() for side in sides):
        return {}
    times = np.random.default_rng(seed).multinomial(len(ids), [1 / len(ids)] * len(ids), n)  # each item is drawn
    sums = [times @ side for side in sides]
    kept = np.all([side[:, 1] > 0 for side in sums], axis=0)
    ratios = [side[kept, 0] / side[kept, 1] for side in sums]
    spread = ratios[0] - ratios[1]
    low, high = np.percentile(spread, [2.5, 97.5])
    tail = min(np.count_nonzero(spread <= 0), np.count_nonzero(spread >= 0))
    a, b = (side[:, 0].sum() / side[:, 1].sum() for side in sides)
    return {
        "model_a": names[0], "model_b": names[1], "n": len(ids),
        "minimum_detectable": (Z95 + POWER80) * float(spread.std()), "difference": float(a - b),
        "low": float(low), "high": float(high), "p": min(1.0, 2 * (tail + 1) / (len(spread) + 1)),
        "p_mcnemar": math.nan,
    }  # fmt: skip
