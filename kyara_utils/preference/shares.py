"""How many pairs of each source a mixture takes, and how long its chosen answers are beside the rejected ones."""

import logging
from collections.abc import Mapping

import numpy as np

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

LOPSIDED = 0.65  # share of pairs whose chosen answer is longer, from which length alone tells the sides apart
log = logging.getLogger(__name__)


def sizes(available: Mapping[str, int], mixture: Mapping[str, int | str]) -> dict[str, int]:
    """Return the rows to take of each source, for `mixture` {source: rows, or its share of the whole as "20%"}.

    Rows are the most that a source gives; a source without an entry gives all. Shares are of all rows taken: beside
    other sources these decide the total, alone the source that runs out first does, and then they need not add up to
    100. A source that is short of its share gives what it has, and a warning says so. Raises `KyaraError`.
    """
    if unknown := sorted(mixture.keys() - available.keys()):
        raise KyaraError(f"mixture: no source {unknown[0]!r}; this run has {', '.join(available)}")
    shares = {source: _share(source, value) for source, value in mixture.items() if isinstance(value, str)}
    rows = {source: min(n, _rows(source, mixture.get(source, n))) for source, n in available.items()}
    rest = sum(n for source, n in rows.items() if source not in shares)
    given = sum(shares.values())
    if rest and given >= 1:
        raise KyaraError(f"mixture: shares of {given:.0%} leave nothing for the other sources; lower them")
    if shares:
        total = rest / (1 - given) if rest else min(available[source] / share for source, share in shares.items())
        rows |= {source: _taken(source, available[source], share * total) for source, share in shares.items()}
    return rows


def _rows(source: str, value: int | str) -> int:
    if isinstance(value, str):
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise KyaraError(f'mixture: {source}: {value!r} is no number of rows; give one, or a share such as "20%"')
    return value


def _share(source: str, value: str) -> float:
    try:
        share = float(value.removesuffix("%")) / 100 if value.endswith("%") else 0.0
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise KyaraError(f'mixture: {source}: {value!r} is no share; give one such as "20%", or a number of rows')
    return share


def _taken(source: str, available: int, wanted: float) -> int:
    if round(wanted) > available:
        log.warning("mixture: %s has %d pairs of the %.0f that its share asks for", source, available, wanted)
    return min(available, round(wanted))


def side_lengths(lengths: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Row]:
    """Return a row for each source: pairs, characters of both sides, share with the longer one chosen, warning.

    lengths: int [pairs] of chosen and rejected. Of each side the median, and the quartiles as `_low` and `_high`; 0
    without a pair. Ties count half. DPO takes a constant difference of length for the
    preference and its answers grow (Park et al. 2024, arXiv 2403.19159), hence the warning from `LOPSIDED` on, either
    way, unless so few pairs may as well be even (95 %, Wilson); else "".
    """
    rows = []
    for source, (chosen, rejected) in lengths.items():
        longer = float((chosen > rejected).mean() + (chosen >= rejected).mean()) / 2 if len(chosen) else 0.5
        row = {"source": source, "pairs": len(chosen)} | _side("chosen", chosen) | _side("rejected", rejected)
        rows.append(row | {"chosen_longer": round(longer, 4), "warning": _warning(len(chosen), longer)})
    return rows


def _side(name: str, lengths: np.ndarray) -> Row:
    values = np.percentile(lengths, (50, 25, 75)).tolist() if len(lengths) else [0.0] * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _warning(pairs: int, longer: float) -> str:
    side, share = ("longer", longer) if longer > 0.5 else ("shorter", 1 - longer)
    if share < LOPSIDED or wilson(share * pairs, pairs)[0] <= 0.5:
        return ""
    return f"the chosen answer is the {side} one in {share:.0%} of pairs; DPO may learn length"
