"""How far a judge can be trusted: agreement with people, with itself when the answers change places, and over repeats.

Definitions of princeton-nlp/LLMBar (Zeng et al. 2024, arXiv 2310.07641): every pair is judged in both orders; the
average agreement counts each order, `both` needs both right, consistency needs the same winner twice.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import compare
from kyara_utils.evaluation.judged.judgment_files import Row, check_files, read_table
from kyara_utils.evaluation.statistics import bootstrap_mean, pearson, spearman, wilson

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
    flips = [row["forward"] for row in rows if {row["forward"], row["reverse"]} == {"1", "2"}]
    return {
        "forward": _percent(right[0]), "reverse": _percent(right[1]), "average": average, "low": low, "high": high,
        "both": _percent([a and b for a, b in zip(*right, strict=True)]), "consistent": _percent(same),
        "kappa": cohen_kappa([row["forward"] for row in rows], [row["reverse"] for row in rows]), "n": n,
        "unscored": sum(row["forward"] is None or row["reverse"] is None for row in rows), "flips": len(flips),
        "first": flips.count("1") / len(flips) if flips else math.nan,
    }  # fmt: skip


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / len(flags) if len(flags) else math.nan


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960), over the positions both rated; NaN when chance is certain."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        return math.nan
    one, two = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    chance = sum(one[label] * two[label] for label in one) / len(pairs) ** 2
    observed = sum(x == y for x, y in pairs) / len(pairs)
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def position_bias(rows: Sequence[Row]) -> Row:
    """Does the judge follow the place? Share of flipped pairs with its Wilson interval, and the first place's share."""
    scored = [row for row in rows if row["forward"] is not None and row["reverse"] is not None]
    found = agreement(scored)
    low, high = wilson(found["flips"], len(scored))
    rate = found["flips"] / len(scored) if scored else math.nan
    return {"n": len(scored), "flip_rate": rate, "low": low, "high": high, "first": found["first"]}


def length_preference(rows: Sequence[Row]) -> float:
    """Correlation of the verdict (1 for answer 1, in both orders) with log length ratio of answer 1 to answer 2.

    Rows also hold output_1 and output_2; near 0 is a judge who does not mind length (or a set that is balanced).
    """
    ratio = [math.log((len(row["output_1"]) + 1) / (len(row["output_2"]) + 1)) for row in rows]
    choice = [_share([row["forward"], row["reverse"]]) for row in rows]
    return pearson(choice, ratio)


def _share(winners: Sequence[str | None]) -> float:
    known = [winner == "1" for winner in winners if winner is not None]
    return sum(known) / len(known) if known else math.nan


def human_correlation(
    human: Mapping[Any, float], judged: Mapping[Any, float | None], seed: int = 0, n: int = 1000
) -> Row:
    """Correlation of judge and human scores over the items both scored: Pearson with its 95 % interval, and Spearman.

    For the CritiqueLLM sample of AlignBench answers (people gave 1–5, the judge 1–10; correlation ignores the scale).
    """
    items = [item for item in human if judged.get(item) is not None]
    x, y = (np.array([float(scores[item]) for item in items]) for scores in (human, judged))
    generator, found = np.random.default_rng(seed), []
    for _ in range(n if len(items) > 2 else 0):
        drawn = generator.integers(0, len(items), len(items))
        found.append(pearson(x[drawn], y[drawn]))
    low, high = np.nanpercentile(found, [2.5, 97.5]) if found else (math.nan, math.nan)
    tests = {"pearson": pearson(x, y), "low": float(low), "high": float(high), "spearman": spearman(x, y)}
    return tests | {"n": len(items), "unscored": len(human) - len(items)}


def best_and_worst(scores: Sequence[float | None]) -> tuple[int, int] | None:
    """Positions of the highest and lowest reward, earliest of equals; None unless two known scores differ."""
    known = [(float(score), i) for i, score in enumerate(scores) if score is not None and not math.isnan(float(score))]
    if not known or max(known)[0] == min(known)[0]:
        return None
    return max(known, key=lambda pair: (pair[0], -pair[1]))[1], min(known)[1]


def verdict_rows(records: Sequence[Row]) -> list[Row]:
    """Read published results ({label, results: [{"swap = False": {winner}, "swap = True": …}]}) as agreement rows."""
    return [
        record | {name: None if games[order].get("winner") is None else str(games[order]["winner"]) for name, order in
                  (("forward", ORDERS[0]), ("reverse", ORDERS[1]))}
        for record in records
        for games in record["results"]
    ]  # fmt: skip


EXPECTED = {
    "correct_False": "forward", "correct_True": "reverse", "correct_average": "average", "correct_both": "both",
    "equal": "consistent", "kappa_agreement": "kappa",
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
    measured = agreement(verdict_rows(rows))
    found = {column: measured[name] for column, name in EXPECTED.items()}
    shares = {column: text.rsplit("=", 1)[-1].rstrip(" %") for column, text in published.items() if text}
    yield from compare(f"judge_agreement/{judge}", shares, found, dict.fromkeys(EXPECTED, 1e-6))


def _check_rewards(name: str, rows: list[Row]) -> Iterator[Figure]:
    for position, row in enumerate(rows, 1):
        scores = [reward["score"] for reward in row["rewards_armorm"]]
        if len(set(scores)) < 2:  # equal rewards make no pair
            continue
        found = best_and_worst(scores) or (math.nan, math.nan)
        for end, place, score in zip(("best", "worst"), found, (max(scores), min(scores)), strict=True):
            yield Figure(f"armorm/{name} row {position} {end}", scores.index(score), place, 0, "position")
