"""From per-item outcomes to score rows with n, unscored and a 95 % interval: the one place where scores are
averaged.

An unscored item is neither right nor wrong. `value` is the share shown to be right among all n items; `low`
is the interval's end if every unscored item were wrong, `high` if every one were right, so a poor parser
widens the interval instead of quietly moving the score.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable

from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import (
    bootstrap_mean,
    mcnemar,
    minimum_detectable_difference,
    minimum_detectable_mean,
    paired_bootstrap,
    paired_shares,
    wilson,
)

BAND = "unscored items wrong at the low end, right at the high end"
UNDER = {CORRECT: 1.0, WRONG: 0.0, UNSCORED: 0.0}
OVER = {CORRECT: 1.0, WRONG: 0.0, UNSCORED: 1.0}
PAIR_OUTCOMES = ("win", "tie", "loss")


def score_row(
    benchmark: str,
    model: str,
    metric: str,
    value: float,
    n: int,
    unscored: int,
    low: float,
    high: float,
    protocol: str,
) -> Row:
    """One line of scores.csv; value, low and high are shares in [0, 1]."""
    names = ("benchmark", "model", "metric", "value", "n", "unscored", "low", "high", "protocol")
    return dict(zip(names, (benchmark, model, metric, value, n, unscored, low, high, protocol), strict=True))


def by(rows: Iterable[Row], *fields: str) -> dict[tuple, list[Row]]:
    """Rows grouped by these fields, in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return groups


def proportion(benchmark: str, model: str, metric: str, outcomes: list[str], protocol: str) -> Row:
    """Score row of the share that is right, with Wilson's interval."""
    n, right, unscored = len(outcomes), outcomes.count(CORRECT), outcomes.count(UNSCORED)
    low, high = wilson(right, n)[0], wilson(right + unscored, n)[1]
    value = right / n if n else math.nan
    return score_row(benchmark, model, metric, value, n, unscored, low, high, f"{protocol}; Wilson; {BAND}")


def _clustered(outcomes: list[str], clusters: list[Hashable], weights: list[float]) -> tuple[float, float, float]:
    """Weighted share right and its cluster-bootstrap interval, never narrower than Wilson's.

    With few clusters, or all of them alike, the bootstrap alone would give an interval of almost no width.
    """
    n = len(outcomes)
    value, low, _ = bootstrap_mean([UNDER[outcome] for outcome in outcomes], clusters, weights=weights)
    most, _, high = bootstrap_mean([OVER[outcome] for outcome in outcomes], clusters, weights=weights)
    return value, min(low, wilson(min(value * n, n), n)[0]), max(high, wilson(min(most * n, n), n)[1])


def summarise_share(rows: list[Row], metric: str, protocol: str) -> list[Row]:
    """Rows {benchmark, model, outcome} → per model the share that is right, as `metric`."""
    return [
        proportion(benchmark, model, metric, [item["outcome"] for item in items], protocol)
        for (benchmark, model), items in by(rows, "benchmark", "model").items()
    ]


def mean_row(benchmark: str, model: str, metric: str, values: list[float | str], protocol: str) -> Row:
    """Score row of the mean of values in [0, 1]; an unscored one counts as in `proportion`: 0 below, 1 above."""
    if not values:
        return score_row(benchmark, model, metric, math.nan, 0, 0, math.nan, math.nan, protocol)
    value, low, _ = bootstrap_mean([UNDER.get(one, one) for one in values])
    _, _, high = bootstrap_mean([OVER.get(one, one) for one in values])
    unscored, rule = values.count(UNSCORED), f"{protocol}; bootstrap; {BAND}"
    return score_row(benchmark, model, metric, value, len(values), unscored, low, high, rule)


def mover(parts: list[Row]) -> tuple[float, int, int, float, float]:
    """Mean of independent scores as (value, n, unscored, low, high); the interval from theirs (MOVER, Zou & Donner
    2008, Stat. Med. 27:1693)."""
    value = sum(part["value"] for part in parts) / len(parts)
    below, above = (math.hypot(*(part["value"] - part[end] for part in parts)) / len(parts) for end in ("low", "high"))
    n, unscored = (sum(part[name] for part in parts) for name in ("n", "unscored"))
    return value, n, unscored, max(0.0, value - below), min(1.0, value + above)


def summarise_choice(rows: list[Row], protocol: str = "letter log-probability") -> list[Row]:
    """Rows {benchmark, model, group, subject, outcome} → per model `macro` (mean of the groups' means) and
    one row a group.

    The macro interval is a cluster bootstrap by subject; a group has too few subjects for that, so Wilson
    over its items.
    """
    scores = []
    for (benchmark, model), items in by(rows, "benchmark", "model").items():
        groups = by(items, "group")
        weights = [1 / len(groups[(item["group"],)]) for item in items]
        outcomes = [item["outcome"] for item in items]
        value, low, high = _clustered(outcomes, [item["subject"] for item in items], weights)
        rule = f"{protocol}; macro mean of {len(groups)} groups; cluster bootstrap by subject, at least Wilson"
        scores.append(
            score_row(
                benchmark,
                model,
                "macro",
                value,
                len(items),
                outcomes.count(UNSCORED),
                low,
                high,
                f"{rule}; {BAND}",
            )
        )
        for (group,), members in groups.items():
            scores.append(proportion(benchmark, model, group, [row["outcome"] for row in members], protocol))
    return scores


def summarise_maths(rows: list[Row], protocol: str = "greedy") -> list[Row]:
    """Rows {benchmark, model, strict, lenient} → per model one row for each of the two parsing rules."""
    scores = []
    for (benchmark, model), items in by(rows, "benchmark", "model").items():
        for metric, rule in (("strict", "答案是N"), ("lenient", "last number")):
            outcomes = [item[metric] for item in items]
            scores.append(proportion(benchmark, model, metric, outcomes, f"{protocol}; {rule}"))
    return scores


def summarise_instruction(rows: list[Row], protocol: str = "greedy") -> list[Row]:
    """Rows {benchmark, model, id, outcome, checks} → per model `prompt` (all instructions hold) and
    `instruction` level.

    The instructions of one prompt share an answer, so their interval is a cluster bootstrap by prompt.
    """
    scores = []
    for (benchmark, model), items in by(rows, "benchmark", "model").items():
        scores.append(proportion(benchmark, model, "prompt", [item["outcome"] for item in items], protocol))
        outcomes = [outcome for item in items for outcome in item["checks"]]
        clusters = [item["id"] for item in items for _ in item["checks"]]
        value, low, high = _clustered(outcomes, clusters, [1.0] * len(outcomes))
        n, unscored = len(outcomes), outcomes.count(UNSCORED)
        rule = f"{protocol}; cluster bootstrap by prompt, at least Wilson; {BAND}"
        scores.append(score_row(benchmark, model, "instruction", value, n, unscored, low, high, rule))
    return scores


def count_pairs(rows: list[Row]) -> list[Row]:
    """Judged pairs {model_a, model_b, outcome} → {model_a, model_b, wins, ties, losses, n}, seen from
    model_a.

    `outcome` is win, tie, loss or unscored; n counts the pairs that were judged, so wins + ties + losses = n.
    """
    counts = []
    for (model_a, model_b), pairs in by(rows, "model_a", "model_b").items():
        outcomes = [pair["outcome"] for pair in pairs]
        wins, ties, losses = (outcomes.count(outcome) for outcome in PAIR_OUTCOMES)
        row = {"model_a": model_a, "model_b": model_b, "wins": wins, "ties": ties, "losses": losses}
        counts.append(row | {"n": wins + ties + losses})
    return counts


def summarise_pairs(rows: list[Row], protocol: str = "judged in both orders") -> list[Row]:
    """Judged pairs {benchmark, model_a, model_b, outcome} → win, tie and loss rate of model_a as score rows."""
    scores = []
    for (benchmark, model_a, model_b), pairs in by(rows, "benchmark", "model_a", "model_b").items():
        for wanted in PAIR_OUTCOMES:
            marks = {wanted: CORRECT, "unscored": UNSCORED}
            outcomes = [marks.get(pair["outcome"], WRONG) for pair in pairs]
            rule = f"{protocol}; against {model_b}"
            scores.append(proportion(benchmark, model_a, f"{wanted}_rate", outcomes, rule))
    return scores


def scored_by(rows: list[Row], model: str, field: str = "outcome") -> dict[Hashable, Row]:
    """A model's scored rows by item id."""
    return {row["id"]: row for row in rows if row["model"] == model and row[field] != UNSCORED}


def compare_shared(rows: list[Row], model_a: str, model_b: str, field: str = "outcome") -> Row:
    """`compare`, or {} for two models that share no scored item: nothing can be said of them."""
    shared = scored_by(rows, model_a, field).keys() & scored_by(rows, model_b, field).keys()
    return compare(rows, model_a, model_b, field) if shared else {}


def compare(rows: list[Row], model_a: str, model_b: str, field: str = "outcome") -> Row:
    """Compare two models on the items (by `id`) that both have scored: difference a − b, interval, p and what
    n can show.

    `field` holds outcomes, or values in [0, 1]: then `p_mcnemar` is NaN, and `minimum_detectable` goes by the spread of
    the paired differences. Returns {model_a, model_b, n, difference, low, high, p, p_mcnemar, minimum_detectable}. Use
    one benchmark's rows.
    """
    one, two = (scored_by(rows, model, field) for model in (model_a, model_b))
    ids = sorted(one.keys() & two.keys())
    if not ids:
        raise KyaraError(f"{model_a} and {model_b} share no scored item; evaluate both on the same items")
    a, b = ([UNDER.get(side[item][field], side[item][field]) for item in ids] for side in (one, two))
    difference, low, high, p = paired_bootstrap(a, b)
    if {*a, *b} <= {0.0, 1.0}:  # of few items that agree, resampling knows no spread: at least Newcombe's interval
        cells = Counter(zip(a, b, strict=True))
        ends = paired_shares(*(cells[key] for key in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))))
        low, high = min(low, ends[0]), max(high, ends[1])
    signs = [x - y for x, y in zip(a, b, strict=True)]
    graded = any(isinstance(side[ids[0]][field], float) for side in (one, two))
    exact = math.nan if graded else mcnemar(signs.count(1.0), signs.count(-1.0))
    tests = {"difference": difference, "low": low, "high": high, "p": p, "p_mcnemar": exact}
    least = minimum_detectable_mean(signs) if graded else minimum_detectable_difference(len(ids))
    size = {"n": len(ids), "minimum_detectable": least}
    return {"model_a": model_a, "model_b": model_b} | size | tests
