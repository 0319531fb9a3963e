"""Agreement of two raters beyond chance: a raw share overstates a judge by what guessing would reach."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kyara_utils.stats.intervals import wilson


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960), over the positions both rated; NaN when chance is certain."""
    observed, chance, n = _agreement(a, b)
    return (observed - chance) / (1 - chance) if n and chance < 1 else math.nan


def kappa_interval(a: Sequence[Any], b: Sequence[Any]) -> tuple[float, float, float]:
    """Cohen's kappa with its 95 % interval; (NaN, NaN, NaN) where kappa is.

    The interval is that of the observed share (Wilson) with chance agreement held at its estimate, as in Cohen's own
    standard error (1960): unlike a bootstrap it keeps a width when every pair of a small sample agrees.
    """
    observed, chance, n = _agreement(a, b)
    if not n or chance >= 1:
        return math.nan, math.nan, math.nan
    value, low, high = ((share - chance) / (1 - chance) for share in (observed, *wilson(observed * n, n)))
    return value, low, high


def _agreement(a: Sequence[Any], b: Sequence[Any]) -> tuple[float, float, int]:
    """Observed share, share by chance, and number of the positions that both rated."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        return math.nan, math.nan, 0
    one, two = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    chance = sum(one[label] * two[label] for label in one) / len(pairs) ** 2
    return sum(x == y for x, y in pairs) / len(pairs), chance, len(pairs)
