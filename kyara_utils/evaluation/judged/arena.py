"""Arena-Hard v0.1: answers against a baseline in two swapped games, scored by Bradley–Terry with a bootstrap.

Protocol of lm-sys/arena-hard-auto of September 2024 (Li et al. 2024, arXiv 2406.11939): 500 prompts, baseline
gpt-4-0314, both games count, `>>` counts three times. A later version of that repository replaced this mathematics.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged.judgment_files import check_files, read_table, reading
from kyara_utils.evaluation.judged.loop import Message, fill, judge_answers
from kyara_utils.evaluation.judged.parsers import LABELS, arena_labels, parse_label
from kyara_utils.evaluation.judged.rated import Paths, Rated, shares
from kyara_utils.evaluation.registry import register
from kyara_utils.llm import Client, Request, Response
from kyara_utils.runs.tables import Row
from kyara_utils.stats.bradley_terry import (
    START,
    bootstrap_scores,
    bradley_terry,
    win_rate,
)
from kyara_utils.stats.intervals import percentile_interval

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


@register
class ArenaHard(Rated):
    """A row's `score` is the share of its two games that the model wins, 0 to 1."""

    name = "arena_hard"
    title = "Chatbot-Arena-Hard"
    licence = "Apache-2.0"
    unit = "%"
    metric = "win_rate"
    files = ("arena_prompt", "arena_questions", "arena_baseline")
    protocol = "greedy answers, against the published baseline"

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, question, baseline} of the questions that the baseline answered."""
        with reading(paths["arena_baseline"]):
            answers = read_records(paths["arena_baseline"])
            given = {row["question_id"]: row["choices"][0]["turns"][0]["content"] for row in answers}
        with reading(paths["arena_questions"]):
            rows = read_records(paths["arena_questions"])
            asked = [(row["question_id"], row["turns"][0]["content"]) for row in rows]
        return [{"question_id": key, "question": text, "baseline": given[key]} for key, text in asked if key in given]

    def material(self, paths: Paths) -> Any:
        """The judge's prompt."""
        return load_arena_prompt(paths["arena_prompt"])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """Two games a question."""
        baseline = {q["question_id"]: q["baseline"] for q in items}
        asked = [{"question_id": q["question_id"], "turns": [{"content": q["question"]}]} for q in items]
        rows = judge_arena(judge.client, asked, baseline, answers, material, model)
        return [row | _of_games(row) | {"category": self.name, "metric": self.metric} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The win rate against the baseline."""
        unscored = sum(row["score"] is None for row in rows)
        found = next(row for row in summarise(rows) if row["model"] != BASELINE)
        counts = {"n": len(rows) - unscored, "unscored": unscored}
        return [shares(self.metric, found, "win_rate", "low", "high") | counts]

    check = staticmethod(check)


def _of_games(row: Row) -> Row:
    """A question's share of its two games, `>>` counting three times as in the benchmark; None without a verdict."""
    points = {"model_a": 0.0, "tie": 0.5, "model_b": 1.0}
    won = [points[battle["winner"]] for battle in battles_from([row]) for _ in range(battle["weight"])]
    texts = {name: "\n\n".join(game[name] for game in row["games"]) for name in ("judgment", "error")}
    return {"score": fmean(won) if won else None} | texts
