"""Self-play preference optimisation: a model's own answers to one prompt, ranked by their chance to beat each other.

Paper: https://arxiv.org/abs/2405.00675, algorithm 1. As in its reference implementation (uclaml/SPPO: generate.py,
rank.py, compute_prob.py) the best answer becomes chosen and the worst rejected, each with its mean chance to beat an
answer of the same prompt, itself included at one half. There a ranker scores answers, here any judge compares them in
both orders.
"""

import math
from collections.abc import Iterable
from itertools import combinations
from statistics import mean

from kyara_utils.llm import Client, load_prompt
from kyara_utils.preference.candidates import several_answers
from kyara_utils.preference.judge import Pair, Verdict
from kyara_utils.preference.judges import Panel
from kyara_utils.preference.preference_rows import STEP, preference
from kyara_utils.runs import content_id, reject
from kyara_utils.runs.tables import Row

WRITTEN = {"A": 1.0, "C": 0.5, "B": 0.0}


def sppo_preferences(
    client: Client, judge: Panel, parents: dict[str, list[str]], samples: int = 5, max_tokens: int = 160,
    temperature: float = 0.7, seed: int = 0,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Answer each prompt `samples` times and return (preference rows, rejects), one or the other for each prompt.

    `parents`: ids of the rows that a prompt comes from, by prompt. Calls: samples a prompt, and of the judge at most
    samples × (samples − 1). Rows carry `chosen_win` and `rejected_win`, from 0 to 1. Rejects: too_few_answers (fewer
    than two distinct ones arrived), unscored (a pair without a verdict), chosen_truncated (the token limit cut all that
    could be chosen), same_chance (none is worse than the chosen one), and judge_below_bar before anything is asked.
    Holds all answers of all prompts, some 2 kB each, and a verdict for each pair: good for 100,000 prompts.
    """
    prompts = sorted(parents)
    if not judge.members:
        rows = [{"id": content_id(prompt, prefix="sppo_", n=12), "prompt": prompt} for prompt in prompts]
        return [], [reject(STEP, "judge_below_bar", row) for row in rows]
    rounds = several_answers(client, prompts, samples, max_tokens, temperature, seed)
    groups = {prompt: _distinct(rows) for prompt, rows in zip(prompts, zip(*rounds, strict=True), strict=True)}
    pairs = [pair for prompt, group in groups.items() for pair in _pairs(prompt, group)]
    verdicts = {verdict.pair_id: verdict for verdict in judge.verdicts(pairs)}
    kept, rejects = [], []
    for prompt, group in groups.items():
        judged = [verdicts[pair.id] for pair in _pairs(prompt, group)]
        rule, row = _ranked(prompt, group, judged, judge.name, parents[prompt])
        (rejects if rule else kept).append(reject(STEP, rule, row) if rule else row)
    return kept, rejects


def _distinct(rows: Iterable[Row]) -> list[Row]:
    usable = {row["text"]: row for row in rows if row["text"] and not row["error"]}
    return list(usable.values())


def _pairs(prompt: str, group: list[Row]) -> list[Pair]:
    texts = [row["text"] for row in group]
    return [Pair(content_id(prompt, a, b, prefix="pair_", n=12), prompt, a, b) for a, b in combinations(texts, 2)]


def _ranked(prompt: str, group: list[Row], verdicts: list[Verdict], judge: str, parents: list[str]) -> tuple[str, Row]:
    """Return ("", preference) or (rule, what was seen). Chosen is the best answer that the token limit did not cut."""
    chances = [win_probability(verdict) for verdict in verdicts]
    rule = "too_few_answers" if len(group) < 2 else "unscored" if None in chances else ""
    wins = [] if rule else mean_wins(len(group), chances)
    whole = [n for n in range(len(wins)) if group[n]["finish_reason"] != "length"]
    best = max(whole, key=wins.__getitem__, default=0)
    worst = min(range(len(wins)), key=wins.__getitem__, default=0)
    rule = rule or ("chosen_truncated" if not whole else "same_chance" if wins[best] == wins[worst] else "")
    if rule:
        return rule, {"id": content_id(prompt, prefix="sppo_", n=12), "prompt": prompt, "answers": group, "wins": wins}
    note = {"judge": judge, "prompt": load_prompt("preference/judge").name, "answers": len(group), "wins": wins}
    calls = [group[n]["call_id"] for n in (best, worst)] + [call for v in verdicts for call in v.call_ids]
    texts, model = (group[best]["text"], group[worst]["text"]), group[best]["model"]
    cut = group[worst]["finish_reason"] == "length"
    return "", preference(prompt, *texts, "sppo", model, model, note, parents, calls, cut, (wins[best], wins[worst]))


def win_probability(verdict: Verdict) -> float | None:
    """Return P(first beats second), from 0 to 1; None where no order was read.

    Log-probability margins: the logistic function of their mean over both orders. Written verdicts: the mean of 1 for
    the first, ½ for a tie, 0 for the second.
    """
    margins = [value for value in (verdict.margin_forward, verdict.margin_reverse) if value is not None]
    if margins:
        return (1 + math.tanh(mean(margins) / 2)) / 2  # of a reward model's margins, too, which exp may not bear
    written = [WRITTEN[tag] for tag in (verdict.forward, verdict.reverse) if tag]
    return mean(written) if written else None


def mean_wins(count: int, chances: list[float]) -> list[float]:
    """Return each answer's mean chance over all `count` answers; `chances` in the order of `combinations`."""
    table = [[0.5] * count for _ in range(count)]
    for (one, two), chance in zip(combinations(range(count), 2), chances, strict=True):
        table[one][two], table[two][one] = chance, 1 - chance
    return [round(mean(row), 6) for row in table]
