"""Arena-Hard v0.1: answers against a baseline in two swapped games, scored by Bradley–Terry with a bootstrap.

Protocol of lm-sys/arena-hard-auto of September 2024 (Li et al. 2024, arXiv 2406.11939): 500 prompts, baseline
gpt-4-0314, both games count, `>>` counts three times. A later version of that repository replaced this mathematics.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.judged.bradley_terry import (
    START,
    bootstrap_scores,
    bradley_terry,
    win_rate,
)
from kyara_utils.evaluation.judged.judgment_files import Row, check_files, read_table, reading
from kyara_utils.evaluation.judged.loop import Message, fill, judge_answers
from kyara_utils.evaluation.judged.parsers import LABELS, arena_labels, parse_label
from kyara_utils.evaluation.statistics import percentile_interval
from kyara_utils.llm import Client, Request, Response

BASELINE = "gpt-4-0314"
STRONG = 3  # how often a `>>` verdict counts
JUDGE_TOKENS = 4096
GO_ON = "continue your judgment and finish by outputting a final verdict label"
LEADERBOARD = "leaderboard*.csv"


@dataclass(frozen=True)
class ArenaPrompt:
    """The judge's system prompt and its user template with {question_1}, {answer_1} and {answer_2}."""

    system: str
    template: str


def load_arena_prompt(path: Path) -> ArenaPrompt:
    """Read the published judge_config.yaml."""
    import yaml

    with reading(path):
        try:
            config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError("no YAML") from error
        template = "\n".join(config["prompt_template"])
        if not all(f"{{{name}}}" in template for name in ("question_1", "answer_1", "answer_2")):
            raise ValueError("a template without {question_1}, {answer_1} or {answer_2}")
        return ArenaPrompt(config["system_prompt"], template)


def messages_for(question: str, answer_a: str, answer_b: str, prompt: ArenaPrompt) -> list[Message]:
    """Judge messages of one game: A is shown first."""
    fields = {"question_1": question, "answer_1": answer_a, "answer_2": answer_b}
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": fill(prompt.template, fields)}]


def _go_on(request: Request, response: Response) -> Request:
    """Second attempt: the same conversation, asked to finish with a label, unless the first named two labels."""
    if arena_labels(response.text):
        return replace(request, sample=request.sample + 1)
    turns = [{"role": "assistant", "content": response.text}, {"role": "user", "content": GO_ON}]
    return replace(request, messages=[*request.messages, *turns])


def judge_arena(
    client: Client,
    questions: Sequence[Row],
    baseline: Mapping[str, str],
    answers: Mapping[str, str],
    prompt: ArenaPrompt,
    model: str,
) -> list[Row]:
    """Judge every question that both answered ({question_id: text}); game 1 shows the baseline as A, game 2 as B.

    Rows {question_id, model, games: [{score (a label or None), judgment, error, call_ids}, …]}, as published.
    """
    asked = [q for q in questions if q["question_id"] in baseline and q["question_id"] in answers]
    requests = []
    for question in asked:
        key, text = question["question_id"], question["turns"][0]["content"]
        for a, b in ((baseline[key], answers[key]), (answers[key], baseline[key])):
            requests.append(Request(messages_for(text, a, b, prompt), JUDGE_TOKENS))
    verdicts = judge_answers(client, requests, lambda r: parse_label(r.text), _go_on, f"Arena-Hard {model}")
    games = [
        {"score": v.value, "judgment": v.text, "error": v.error, "call_ids": list(v.call_ids)} for v in verdicts
    ]  # fmt: skip
    return [
        {"question_id": q["question_id"], "model": model, "games": games[2 * i : 2 * i + 2]}
        for i, q in enumerate(asked)
    ]


def battles_from(rows: Sequence[Row], baseline: str = BASELINE) -> list[Row]:
    """Turn judged rows into battles {question_id, model_a (baseline), model_b, winner, weight}; unscored games drop."""
    battles = []
    for row in rows:
        for position, game in enumerate(row["games"][:2]):
            if game["score"] in LABELS:
                battle = _battle(game["score"], swapped=position == 1)
                names = {"question_id": row["question_id"], "model_a": baseline, "model_b": row["model"]}
                battles.append(names | battle)
    return battles


def _battle(label: str, swapped: bool) -> Row:
    weight = STRONG if ">>" in label else 1
    if "=" in label:
        return {"winner": "tie", "weight": weight}
    first = label.startswith("A") != swapped  # game 1 shows the baseline as A, game 2 as B
    return {"winner": "model_a" if first else "model_b", "weight": weight}


def summarise(rows: Sequence[Row], baseline: str = BASELINE, bootstrap: int = 100, seed: int = 42) -> list[Row]:
    """Per model: win rate against the baseline in percent with its 95 % bootstrap interval, best first.

    {model, score (Bradley–Terry, baseline 1000), win_rate, low, high, n (scored games), unscored}. A model without a
    scored game has NaN.
    """
    battles = battles_from(rows, baseline)
    scores = bradley_terry(battles, baseline) if battles else {}
    replicates = bootstrap_scores(battles, baseline, bootstrap, seed) if battles else {}
    found = []
    for model in dict.fromkeys([*scores, *(row["model"] for row in rows)]):
        games = [game for row in rows if row["model"] == model for game in row["games"][:2]]
        ends = (scores.get(model, math.nan), *percentile_interval(replicates.get(model, ())))
        rates = dict(zip(("win_rate", "low", "high"), (win_rate(end, START) for end in ends), strict=True))
        scored = sum(game["score"] in LABELS for game in games)
        found.append({"model": model, "score": ends[0]} | rates | {"n": scored, "unscored": len(games) - scored})
    return sorted(found, key=lambda row: (math.isnan(row["score"]), -row["score"]))


def check(folder: Path) -> Iterator[Figure]:
    """Intervals of stored replicates, and published win rates from stored scores, under folder/arena_hard."""
    place = Path(folder) / "arena_hard"
    published: dict[str, Any] = {}
    for path in sorted(place.glob(LEADERBOARD)):
        table = read_table(path)
        with reading(path):
            published |= {row["model"]: float(row["score"]) for row in table}
    yield from check_files((place, lambda name, rows: _check_file(name, rows, published)))


def _check_file(name: str, rows: list[Row], published: Mapping[str, float]) -> list[Figure]:
    if not {"model", "score", "results"} <= rows[0].keys():
        return []
    return [*_check_intervals(name, rows), *_check_rates(rows, published)]


def _check_intervals(name: str, rows: list[Row]) -> Iterator[Figure]:
    for row in rows:
        found = percentile_interval(row["results"])
        for end, value in zip(("lower", "upper"), found, strict=True):
            yield Figure(f"arena_hard/{name} {row['model']} {end}", float(row[end]), value, 1e-6)


def _check_rates(rows: list[Row], published: Mapping[str, float]) -> Iterator[Figure]:
    scores = {row["model"]: float(row["score"]) for row in rows}
    if scores.get(BASELINE, 0) < 100:  # not on the Bradley–Terry scale
        return
    for model, score in scores.items():
        if model in published:
            name = f"arena_hard/{model} win rate against {BASELINE}"
            yield Figure(name, published[model], win_rate(score, scores[BASELINE]), 0.00501, "%")
