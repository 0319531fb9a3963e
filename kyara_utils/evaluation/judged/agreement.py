"""How far a judge can be trusted: agreement with people, and with itself when the answers change places.

Definitions of princeton-nlp/LLMBar (Zeng et al. 2024, arXiv 2310.07641): every pair is judged in both orders; the
average agreement counts each order, `both` needs both right, consistency needs the same winner twice.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import compare
from kyara_utils.evaluation.judged.judgment_files import check_files, read_table
from kyara_utils.evaluation.registry import register_check
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import bootstrap_mean, pearson, wilson
from kyara_utils.stats.kappa import cohen_kappa

ORDERS = ("swap = False", "swap = True")


def agreement(rows: Sequence[Row]) -> Row:
    """Agreement of one judge with people over rows {label, forward, reverse}: winners "1" or "2", None unscored.

    Winners of the reversed order are already named by answer, not by place. Percentages over all rows, an unscored
    game agreeing with nobody: forward, reverse, average with its 95 % interval, both, consistent; also n,
    unscored (rows with an unread game), kappa (Cohen, order against order), flips and first: of the verdicts that
    followed the place, the share that preferred the first answer.
    """
    n = len(rows)
    right = [[row[order] is not None and row[order] == str(row["label"]) for row in rows] for order in
             ("forward", "reverse")]  # fmt: skip
    average, low, high = (100 * x for x in bootstrap_mean([(a + b) / 2 for a, b in zip(*right, strict=True)]))
    same = [row["forward"] is not None and row["forward"] == row["reverse"] for row in rows]
    flips = _flips(rows)
    return {
        "forward": _percent(right[0]), "reverse": _percent(right[1]), "average": average, "low": low, "high": high,
        "both": _percent([a and b for a, b in zip(*right, strict=True)]), "consistent": _percent(same),
        "kappa": cohen_kappa([row["forward"] for row in rows], [row["reverse"] for row in rows]), "n": n,
        "unscored": sum(row["forward"] is None or row["reverse"] is None for row in rows), "flips": len(flips),
        "first": _first_share(flips),
    }  # fmt: skip


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / len(flags) if len(flags) else math.nan


def position_bias(rows: Sequence[Row]) -> Row:
    """Does the judge follow the place? Share of flipped pairs with its Wilson interval, and the first place's share."""
    scored = [row for row in rows if row["forward"] is not None and row["reverse"] is not None]
    flips = _flips(scored)
    low, high = wilson(len(flips), len(scored))
    rate = len(flips) / len(scored) if scored else math.nan
    return {"n": len(scored), "flip_rate": rate, "low": low, "high": high, "first": _first_share(flips)}


def _flips(rows: Sequence[Row]) -> list[str]:
    """Of the pairs whose winner changed with the places: the winner when answer 1 was shown first."""
    return [row["forward"] for row in rows if {row["forward"], row["reverse"]} == {"1", "2"}]


def _first_share(flips: list[str]) -> float:
    return flips.count("1") / len(flips) if flips else math.nan


def length_preference(rows: Sequence[Row]) -> float:
    """Correlation of the verdict (1 for answer 1, ½ for a tie, over both orders) with the log ratio of the lengths.

    Rows also hold output_1 and output_2; near 0 is a judge who does not mind length (or a set that is balanced).
    """
    ratio = [math.log((len(row["output_1"]) + 1) / (len(row["output_2"]) + 1)) for row in rows]
    points = {"1": 1.0, "2": 0.0, "tie": 0.5}
    known = [[points[row[order]] for order in ("forward", "reverse") if row[order] is not None] for row in rows]
    return pearson([mean(values) if values else math.nan for values in known], ratio)


def best_and_worst(scores: Sequence[float | None]) -> tuple[int, int] | None:
    """Positions of the highest and lowest reward, earliest of equals; None unless two known scores differ."""
    known = [(float(score), i) for i, score in enumerate(scores) if score is not None and not math.isnan(float(score))]
    if not known or max(known)[0] == min(known)[0]:
        return None
    return max(known, key=lambda pair: (pair[0], -pair[1]))[1], min(known)[1]


def verdict_rows(records: Sequence[Row]) -> list[Row]:
    """Read published results ({label, results: […, {"swap = False": {winner}, "swap = True": …}]}) as agreement rows.

    The last of `results` holds the two games that count: judges that first write metrics or a reference answer store
    those before it, and judges that weigh two contradicting verdicts again store the first two games before it.
    """
    return [
        record | {name: None if games[order].get("winner") is None else str(games[order]["winner"]) for name, order in
                  (("forward", ORDERS[0]), ("reverse", ORDERS[1]))}
        for record in records
        for games in record["results"][-1:]
    ]  # fmt: skip


def published_statistics(rows: Sequence[Row]) -> Row:
    """LLMBar's own statistics of agreement rows, in its names (`LLMEvaluator/evaluate.py`).

    Two of them differ from `agreement` where a judge said nothing readable: a pair unread in both orders is `equal`,
    and `kappa_agreement` is that of "answer 1 or not", an unread game being "not".
    """
    found = agreement(rows)
    same = _percent([row["forward"] == row["reverse"] for row in rows])
    first = ([row[order] == "1" for row in rows] for order in ("forward", "reverse"))
    return {
        "correct_False": found["forward"], "correct_True": found["reverse"], "correct_average": found["average"],
        "correct_both": found["both"], "equal": same, "kappa_agreement": cohen_kappa(*first),
    }  # fmt: skip


def check(folder: Path) -> Iterator[Figure]:
    """Agreement, both-correct and consistency of every judge under folder/judge_agreement; best and worst reward."""
    table = Path(folder) / "judge_agreement" / "expected.csv"
    expected = {row.get("judge"): row for row in read_table(table)}
    yield from check_files(
        (table.parent, lambda name, rows: _check_judge(name, rows, expected.get(name, {}))),
        (Path(folder) / "armorm", _check_rewards),
    )


def _check_judge(judge: str, rows: list[Row], published: Row) -> Iterator[Figure]:
    if "results" not in rows[0]:  # the human scores of AlignBench answers hold no verdicts
        return
    found = published_statistics(verdict_rows(rows))
    shares = {column: text.rsplit("=", 1)[-1].rstrip(" %") for column, text in published.items() if text}
    yield from compare(f"judge_agreement/{judge}", shares, found, dict.fromkeys(found, 1e-6))


def _check_rewards(name: str, rows: list[Row]) -> Iterator[Figure]:
    for position, row in enumerate(rows, 1):
        scores = [reward["score"] for reward in row["rewards_armorm"]]
        if len(set(scores)) < 2:  # equal rewards make no pair
            continue
        found = best_and_worst(scores) or (math.nan, math.nan)
        for end, place, score in zip(("best", "worst"), found, (max(scores), min(scores)), strict=True):
            yield Figure(f"armorm/{name} row {position} {end}", scores.index(score), place, 0, "position")


register_check("judge_agreement", check)
