"""Models' answers to the same questions, compared in both orders by a judge, and what that judge is worth."""

from collections.abc import Mapping, Sequence
from statistics import mean

from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.judged.agreement import length_preference, position_bias
from kyara_utils.evaluation.judged.rated import turns_of
from kyara_utils.evaluation.summary import by
from kyara_utils.preference.judge import Pair, judge_pairs
from kyara_utils.preference.judge_report import corrected, trust_of
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

OUTCOMES = {"first": "win", "second": "loss", "tie": "tie", "inconsistent": "tie", "unscored": "unscored"}
WINNERS = {"A": "1", "B": "2", "C": "tie"}


def judge_models(
    judge: Judge, items: Sequence[Row], answers: Mapping[str, Sequence[Row]], pairs: Sequence[tuple[str, str]]
) -> list[Row]:
    """Compare models' answers {model: responses}, each pair in both orders; a tie is a tie or a verdict that flipped.

    Pairs with a model that was not asked are left out. The judge sees the whole conversation. Rows {id, set, category,
    model_a, model_b, outcome (win|tie|loss|unscored for model_a), verdict, margins, forward, reverse ("1", "2", "tie"
    or None), output_1, output_2, judge}.
    """
    rows, asked = [], {item["id"]: item for item in items}
    for one, two in (pair for pair in pairs if set(pair) <= answers.keys()):
        texts = [{r["id"]: "\n".join(r["turns"]) for r in answers[model]} for model in (one, two)]
        compared = [Pair(key, "\n".join(turns_of(asked[key])), *(side[key] for side in texts)) for key in sorted(asked)]
        verdicts = judge_pairs(judge.client, compared, judge.mode, judge.tie_margin)
        for pair, verdict in zip(compared, verdicts, strict=True):
            names = {name: asked[pair.id].get(name, "") for name in ("set", "category")}
            rows.append(
                {"id": pair.id, **names, "model_a": one, "model_b": two, "outcome": OUTCOMES[verdict.outcome],
                 "verdict": verdict.outcome, "margin_forward": verdict.margin_forward,
                 "margin_reverse": verdict.margin_reverse, "forward": WINNERS.get(verdict.forward),
                 "reverse": WINNERS.get(verdict.reverse), "output_1": pair.first, "output_2": pair.second,
                 "judge": f"{judge.name}, {judge.mode}"}
            )  # fmt: skip
    return rows


def corrected_wins(counts: Sequence[Row], tested: Sequence[Row], judge: str, mode: str) -> list[Row]:
    """Rows of `count_pairs` with model_a's win rate: raw, and corrected with low and high, in [0, 1].

    tested: step 06's rows of judge tests; the one of this judge in this mode corrects (see `corrected_win_rate`).
    """
    trust = trust_of(tested, judge, mode)
    return [row | corrected(row, trust) for row in counts]


def category_wins(judged: Sequence[Row]) -> list[Row]:
    """Win rate (ties half) of each model against its opponents by category: {category, model, value, low, high, n}."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in judged:
        if row["outcome"] != "unscored":
            share = {"win": 1.0, "tie": 0.5, "loss": 0.0}[row["outcome"]]
            found.setdefault((row["category"], row["model_a"]), []).append(share)
    rows = []
    for (category, model), values in sorted(found.items()):
        ends = dict(zip(("low", "high"), wilson(sum(values), len(values)), strict=True))
        rows.append({"category": category, "model": model, "value": mean(values)} | ends | {"n": len(values)})
    return rows


def judge_report(judged: Sequence[Row]) -> list[Row]:
    """What the judge did on judged pairs: {judge, n, flip_rate, low, high, first, length_correlation}.

    `flip_rate` is the share of pairs whose winner changed with the places, `first` the share of those that went to the
    answer shown first, `length_correlation` that of the verdict with the answers' log length ratio.
    """
    return [
        {"judge": judge} | position_bias(rows) | {"length_correlation": length_preference(rows)}
        for (judge,), rows in by(judged, "judge").items()
    ]
