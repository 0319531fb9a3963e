"""Best against worst: one preference a prompt from all the pairs of its answers, by Bradley–Terry.

A fit over a prompt's pairs uses every verdict on it: an answer that lost to the best one only is no worse than the
others, and a pair without a verdict costs nothing. Ties and verdicts that followed the position are one half.
"""

import math
from collections import defaultdict

from kyara_utils.llm import load_prompt
from kyara_utils.preference.judge import Pair, Verdict
from kyara_utils.preference.preference_rows import STEP, preference
from kyara_utils.runs import content_id, reject
from kyara_utils.runs.tables import Row
from kyara_utils.stats.bradley_terry import SCALE, bradley_terry

Judged = tuple[Pair, Row, Row]
POINTS = {"first": 1.0, "second": 0.0, "tie": 0.5, "inconsistent": 0.5}


def ranked_preferences(
    pairs: list[Judged], verdicts: list[Verdict], judge: str, parents: dict[str, list[str]]
) -> tuple[list[Row], list[Row]]:
    """Keep each prompt's best answer against its worst; (preferences, rejects), one or the other for each prompt.

    Rejects: the panel's own rule where it judged no pair of the prompt (unscored, own_answer, judge_below_bar),
    same_chance (no answer is better than another), chosen_truncated (the token limit cut all that could be chosen).
    """
    groups: dict[str, list[tuple[Judged, Verdict]]] = defaultdict(list)
    for judged, verdict in zip(pairs, verdicts, strict=True):
        groups[judged[0].prompt].append((judged, verdict))
    kept, rejects = [], []
    for prompt, group in groups.items():
        rule, row = _ranked(prompt, group, judge, parents.get(prompt, []))
        (rejects if rule else kept).append(reject(STEP, rule, row) if rule else row)
    return kept, rejects


def strengths(battles: list[tuple[str, str, float]]) -> dict[str, float]:
    """Bradley–Terry strength (log odds, the first name at 0) from (one, two, points of one: 1, ½ or 0)."""
    winners = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}
    rows = [{"model_a": one, "model_b": two, "winner": winners[points]} for one, two, points in battles]
    scores = bradley_terry(rows, battles[0][0], 0.0)
    return {name: score * math.log(10) / SCALE for name, score in scores.items()}


def _ranked(prompt: str, group: list[tuple[Judged, Verdict]], judge: str, parents: list[str]) -> tuple[str, Row]:
    answers = {row["text"]: row for (_, one, two), _ in group for row in (one, two)}
    battles = [(pair.first, pair.second, POINTS[v.outcome]) for (pair, _, _), v in group if v.outcome in POINTS]
    found = strengths(battles) if battles else {}
    whole = [text for text in found if answers[text]["finish_reason"] != "length"]
    best = max(whole, key=found.__getitem__, default="")
    worst = min(found, key=found.__getitem__, default="")
    rule = "" if battles else group[0][1].outcome
    rule = rule or ("chosen_truncated" if not whole else "same_chance" if found[best] - found[worst] < 1e-6 else "")
    if rule:
        row = {"id": content_id(prompt, prefix="rank_", n=12), "prompt": prompt, "answers": list(answers.values())}
        return rule, row | {"verdicts": [verdict.as_dict() for _, verdict in group]}
    chosen, rejected = answers[best], answers[worst]
    note = {"judge": judge, "prompt": load_prompt("preference/judge").name, "pairs": len(battles)}
    note |= {"strengths": {answers[text]["model"]: round(value, 4) for text, value in found.items()}}
    calls = [chosen["call_id"], rejected["call_id"], *(call for _, verdict in group for call in verdict.call_ids)]
    return "", preference(
        prompt, best, worst, "rlaif", chosen["model"], rejected["model"], note, parents, calls,
        rejected["finish_reason"] == "length",
    )  # fmt: skip
