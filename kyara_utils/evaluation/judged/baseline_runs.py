"""AlpacaEval 2 and Arena-Hard on our models: each answer against the published baseline's, by a judge of one's own.

One row a question and model, whose `score` is the share of it that the model wins, 0 to 1, so that models compare in
pairs on the same questions. The win rates are the benchmarks' own (`alpaca`, `arena`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import alpaca, arena
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.judged.length import load_difficulty
from kyara_utils.llm import Client

Row = dict[str, Any]
ALPACA, ARENA = "alpaca_eval", "arena_hard"
FILES = {
    ALPACA: ("alpaca_prompt", "alpaca_baseline"),
    ARENA: ("arena_prompt", "arena_questions", "arena_baseline"),
}
DIFFICULTY = Path("tatsu-lab+alpaca_eval/instruction_difficulty.csv")  # on the Hub only; without it no length control
LENGTH_CONTROLLED = "length_controlled"


def load_prompt(name: str, paths: Mapping[str, Path]) -> Any:
    """The judge's prompt of a benchmark."""
    if name == ALPACA:
        return alpaca.load_alpaca_prompt(paths["alpaca_prompt"])
    return arena.load_arena_prompt(paths["arena_prompt"])


def load_questions(name: str, paths: Mapping[str, Path], roots: Sequence[Path] = ()) -> list[Row]:
    """Questions {question_id, question, baseline}; AlpacaEval's also `difficulty` where a root holds the file."""
    if name == ARENA:
        return _arena_questions(paths)
    with reading(paths["alpaca_baseline"]):
        rows = [
            {"question_id": number, "question": row["instruction"], "baseline": row["output"]}
            for number, row in enumerate(read_records(paths["alpaca_baseline"]))
        ]
    place = next((root / DIFFICULTY for root in roots if (root / DIFFICULTY).is_file()), None)
    values = load_difficulty(place) if place else []
    known = len(values) == len(rows)
    return [row | {"difficulty": float(values[i]) if known else None} for i, row in enumerate(rows)]


def _arena_questions(paths: Mapping[str, Path]) -> list[Row]:
    with reading(paths["arena_baseline"]):
        answers = read_records(paths["arena_baseline"])
        answered = {row["question_id"]: row["choices"][0]["turns"][0]["content"] for row in answers}
    with reading(paths["arena_questions"]):
        asked = [(row["question_id"], row["turns"][0]["content"]) for row in read_records(paths["arena_questions"])]
    return [{"question_id": key, "question": text, "baseline": answered[key]} for key, text in asked if key in answered]


def judge(client: Client, name: str, questions: Sequence[Row], answers: Mapping, prompt: Any, model: str) -> list[Row]:
    """Rows {question_id, model, metric, score (share won, None unscored), error, …} of one model's answers."""
    rows = _judge_alpaca if name == ALPACA else _judge_arena
    fixed = {"model": model, "category": name, "metric": "win_rate"}
    return [row | fixed for row in rows(client, questions, answers, prompt, model)]


def _judge_alpaca(client: Client, questions: Sequence[Row], answers: Mapping, prompt: Any, model: str) -> list[Row]:
    rows = [
        {"question_id": q["question_id"], "instruction": q["question"], "output_1": q["baseline"],
         "output_2": answers[q["question_id"]], "difficulty": q["difficulty"]}
        for q in questions
    ]  # fmt: skip
    found = alpaca.judge_outputs(client, rows, prompt)
    values = [row["preference"] for row in found]
    return [row | {"score": None if value is None else value - 1} for row, value in zip(found, values, strict=True)]


def _judge_arena(client: Client, questions: Sequence[Row], answers: Mapping, prompt: Any, model: str) -> list[Row]:
    baseline = {q["question_id"]: q["baseline"] for q in questions}
    asked = [{"question_id": q["question_id"], "turns": [{"content": q["question"]}]} for q in questions]
    rows = arena.judge_arena(client, asked, baseline, answers, prompt, model)
    return [row | _of_games(row) for row in rows]


def _of_games(row: Row) -> Row:
    """A question's share of its two games, `>>` counting three times as in the benchmark; None without a verdict."""
    points = {"model_a": 0.0, "tie": 0.5, "model_b": 1.0}
    shares = [points[battle["winner"]] for battle in arena.battles_from([row]) for _ in range(battle["weight"])]
    texts = {name: "\n\n".join(game[name] for game in row["games"]) for name in ("judgment", "error")}
    return {"score": fmean(shares) if shares else None} | texts


def summarise(name: str, rows: Sequence[Row]) -> list[Row]:
    """Score rows {metric, value, low, high, n, unscored} of one model, shares in [0, 1]; `n` counts scored questions.

    AlpacaEval also has a length-controlled rate when every instruction was asked and has its difficulty.
    """
    unscored = sum(row["score"] is None for row in rows)
    counts = {"n": len(rows) - unscored, "unscored": unscored}
    if name == ARENA:
        found = next(row for row in arena.summarise(rows) if row["model"] != arena.BASELINE)
        return [_shares("win_rate", found, "win_rate", "low", "high") | counts]
    difficulty = difficulties(rows)
    found = alpaca.summarise(rows, difficulty)
    lines = [_shares("win_rate", found, "win_rate", "low", "high") | counts]
    if difficulty is not None:
        lines.append(_shares(LENGTH_CONTROLLED, found, alpaca.CONTROLLED, "lc_low", "lc_high") | counts)
    return lines


def difficulties(rows: Sequence[Row]) -> np.ndarray | None:
    """Difficulty of each row's instruction, or None where length control has no meaning.

    That is where a difficulty is unknown, only some instructions were asked, or all lengths differ by as much.
    """
    values = [row.get("difficulty") for row in rows]
    whole = {row["question_id"] for row in rows} == set(range(len(rows)))
    lengths = {len(row["output_1"]) - len(row["output_2"]) for row in rows}
    return np.array(values, dtype=float) if whole and None not in values and len(lengths) > 1 else None


def controlled_difference(a: Sequence[Row], b: Sequence[Row]) -> Row | None:
    """Length-controlled rate of a minus b {difference, low, high, p, n} in shares, or None where it is unknown."""
    difficulty = difficulties(a)
    if difficulty is None or difficulties(b) is None:
        return None
    found = alpaca.compare_length_controlled(a, b, difficulty)
    return {key: found[key] / 100 for key in ("difference", "low", "high")} | {"p": math.nan, "n": found["n"]}


def _shares(metric: str, found: Row, *names: str) -> Row:
    return {"metric": metric} | dict(zip(("value", "low", "high"), (found[name] / 100 for name in names), strict=True))
