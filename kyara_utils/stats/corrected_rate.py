"""A win rate put right for its judge's errors, with the error of the judge's own test in the interval.

The estimator is that of Lee et al. 2025, "How to Correctly Report LLM-as-a-Judge Evaluations" (arXiv 2511.21140;
Rogan & Gladen 1978): (p + q0 − 1) / (q0 + q1 − 1), with the judge's hit rates q1 on true wins and q0 on true losses. A
judge who is asked in both orders has no first and no second answer, so q0 = q1, true ties come out as ties on average,
and with ties counted as one half the estimator is ½ + net / (2 · trust): net is wins less losses among the judged
pairs, trust is right less wrong among pairs that people decided. The interval of this ratio of two independent means is
Fieller's (1954): where trust cannot be told from zero, it is all of [0, 1] instead of a number that means nothing.
"""

import math
from collections.abc import Sequence

from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.intervals import Z95

Counts = Sequence[int]


def corrected_win_rate(judged: Counts, tested: Counts) -> tuple[float, float, float]:
    """Win rate (ties one half) that people would give, with its 95 % interval, all in [0, 1].

    judged: (wins, ties, losses) by the judge; tested: of pairs that people decided, how many the judge told (right, as
    a tie, wrong). An unread verdict belongs to neither. (NaN, 0, 1) where the test shows no trust in the judge, or
    without pairs. Both are smoothed as in the paper, by Z²/2 and by one in either direction, for the interval alone.
    """
    if min(*judged, *tested) < 0:
        raise KyaraError("counts of verdicts cannot be negative; count the rows again")
    if not sum(judged) or not sum(tested):
        return math.nan, 0.0, 1.0
    net, net_variance = _net(judged, Z95**2 / 2)
    trust, trust_variance = _net(tested, 1.0)
    leading = trust**2 - Z95**2 * trust_variance
    if trust <= 0 or leading <= 0:
        return math.nan, 0.0, 1.0
    value = _within(0.5 + _net(judged, 0.0)[0] / (2 * _net(tested, 0.0)[0]))
    spread = math.sqrt(max(0.0, (net * trust) ** 2 - leading * (net**2 - Z95**2 * net_variance)))
    ends = [_within(0.5 + (net * trust + sign * spread) / (2 * leading)) for sign in (-1, 1)]
    return value, min(value, ends[0]), max(value, ends[1])


def _net(counts: Counts, added: float) -> tuple[float, float]:
    """Mean of +1, 0 and −1 so often, with `added` more at either end, and the variance of that mean."""
    up, _, down = counts
    n = sum(counts) + 2 * added
    mean = (up - down) / n
    return mean, ((up + down + 2 * added) / n - mean**2) / n


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
