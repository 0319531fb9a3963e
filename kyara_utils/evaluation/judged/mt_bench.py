"""MT-Bench and MT-Bench-TW: two-turn answers rated 1–10 by a judge.

Protocol of lm-sys/FastChat `llm_judge` (Zheng et al. 2023, arXiv 2306.05685) and its fork in mtkresearch/TCEval:
the same 80 question ids, other prompts, and a reference answer wherever one exists rather than by category.
A verdict that cannot be read is None and is left out; it is never -1.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged.judgment_files import check_files, reading
from kyara_utils.evaluation.judged.loop import Message, Verdict, fill, judge_answers
from kyara_utils.evaluation.judged.parsers import parse_score, parse_winner
from kyara_utils.evaluation.judged.rated import Paths, Rated
from kyara_utils.evaluation.registry import register
from kyara_utils.llm import Client, Request
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import bootstrap_mean

REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
JUDGE_TOKENS = 2048


def load_judge_prompts(path: Path) -> dict[str, Row]:
    """Read the published judge prompts (JSON Lines of name, system_prompt, prompt_template) as {name: row}."""
    rows = read_records(Path(path))
    with reading(path):
        prompts = {row["name"]: {"system": row["system_prompt"], "template": row["prompt_template"]} for row in rows}
        if not prompts:
            raise ValueError("no prompt in it")
    return prompts


def load_references(path: Path) -> dict[Any, list[str]]:
    """Read a published reference_answer file as {question_id: [answer to turn 1, to turn 2]}."""
    rows = read_records(Path(path))
    with reading(path):
        return {row["question_id"]: list(row["choices"][0]["turns"]) for row in rows}


def needs_reference(question: Mapping[str, Any], references: Mapping[Any, list[str]], by: str = "category") -> bool:
    """Whether this question is judged against a reference: `by` category (MT-Bench) or presence (MT-Bench-TW)."""
    if by not in ("category", "presence"):
        raise KyaraError(f"references are chosen by category or presence, not by {by!r}")
    if by == "presence":
        return question["question_id"] in references
    needed = question["category"] in REFERENCE_CATEGORIES
    if needed and question["question_id"] not in references:
        raise KyaraError(f"question {question['question_id']} needs a reference answer; load the benchmark's file")
    return needed


def _prompt(prompts: Mapping[str, Row], reference: Sequence[str] | None, turn: int) -> Row:
    name = ("single-math-v1" if reference else "single-v1") + ("-multi-turn" if turn == 2 else "")
    if name not in prompts:
        raise KyaraError(f"the judge prompts have no {name}; give the benchmark's own file")
    return prompts[name]


def messages_for(
    prompts: Mapping[str, Row],
    turns: Sequence[str],
    answers: Sequence[str],
    turn: int,
    reference: Sequence[str] | None = None,
) -> list[Message]:
    """Judge messages for the answers to both `turns`, of which the judge rates that to `turn`."""
    prompt = _prompt(prompts, reference, turn)
    fields = {"question": turns[0]} | {f"question_{i}": text for i, text in enumerate(turns, 1)}
    fields |= {f"ref_answer_{i}": text for i, text in enumerate(reference or (), 1)}
    fields |= {"answer": answers[0]} | {f"answer_{i}": text for i, text in enumerate(answers, 1)}
    content = fill(prompt["template"], fields)
    return [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": content}]


def _plan(
    questions: Sequence[Row],
    answers: Mapping[Any, Sequence[str]],
    references: Mapping[Any, list[str]],
    by: str,
) -> list[tuple[Row, int, list[str] | None]]:
    """(question, turn, reference) for both turns of every question that was answered."""
    plan = []
    for question in questions:
        key = question["question_id"]
        if key in answers:
            reference = references[key] if needs_reference(question, references, by) else None
            plan += [(question, turn, reference) for turn in (1, 2)]
    return plan


def judge_single(
    client: Client,
    questions: Sequence[Row],
    answers: Mapping[Any, Sequence[str]],
    prompts: Mapping[str, Row],
    references: Mapping[Any, list[str]] | None = None,
    model: str = "",
    by: str = "category",
) -> list[Row]:
    """Rate both turns of every answered question; `answers` is {question_id: [turn 1, turn 2]}.

    Rows {model, question_id, category, turn, score (None = unscored), judgment, error, call_ids}.
    """
    plan = _plan(questions, answers, references or {}, by)
    requests = [
        Request(messages_for(prompts, q["turns"], answers[q["question_id"]], turn, reference), JUDGE_TOKENS)
        for q, turn, reference in plan
    ]
    verdicts = judge_answers(client, requests, lambda response: parse_score(response.text), label=f"MT-Bench {model}")
    return [
        {"model": model} | _about(q, turn) | {"score": verdict.value} | _said(verdict)
        for (q, turn, _), verdict in zip(plan, verdicts, strict=True)
    ]


def _about(question: Row, turn: int) -> Row:
    return {"question_id": question["question_id"], "category": question.get("category", ""), "turn": turn}


def _said(verdict: Verdict) -> Row:
    return {"judgment": verdict.text, "error": verdict.error, "call_ids": list(verdict.call_ids)}


def game_winner(verdict: str | None, game: int) -> str | None:
    """Name the winner of game 1 (model_1 shown as A) or game 2 (swapped): model_1, model_2, tie; None unscored."""
    winners = {"A": "model_1", "B": "model_2"} if game == 1 else {"A": "model_2", "B": "model_1"}
    return None if verdict is None else winners.get(verdict, "tie")


def summarise_single(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """Per model of rows {model, question_id, turn, score}: mean over all scored turns, 1–10, with its 95 % interval.

    {model, mean, low, high, turn_1, turn_2, n, unscored, duplicates}: the interval resamples questions, whose turns
    belong together. As in FastChat every row counts; `duplicates` says how many judge a turn again.
    """
    found = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        scores = [math.nan if row["score"] is None else float(row["score"]) for row in mine]
        mean, low, high = bootstrap_mean(scores, [row["question_id"] for row in mine], seed=seed)
        unscored = sum(math.isnan(score) for score in scores)
        turns = {
            f"turn_{turn}": bootstrap_mean(
                [s for s, row in zip(scores, mine, strict=True) if row["turn"] == turn], n=1
            )[0]
            for turn in (1, 2)
        }
        counts = {"n": len(mine) - unscored, "unscored": unscored}
        counts["duplicates"] = len(mine) - len({(row["question_id"], row["turn"]) for row in mine})
        found.append({"model": model, "mean": mean, "low": low, "high": high} | turns | counts)
    return found


def check(folder: Path) -> Iterator[Figure]:
    """Stored scores and winners of every judgment file under folder/mt_bench against those read from the texts."""
    yield from check_files((Path(folder) / "mt_bench", _check_file))


def _check_file(name: str, rows: list[Row]) -> list[Figure]:
    if "g1_judgment" in rows[0]:
        return _check_pairs(name, rows)
    return _check_single(name, rows) if {"judgment", "score"} <= rows[0].keys() else []


def _check_single(name: str, rows: list[Row]) -> list[Figure]:
    stored = [None if row["score"] in (None, -1) else float(row["score"]) for row in rows]
    parsed = [row | {"score": parse_score(row["judgment"])} for row in rows]
    wrong = sum(score != row["score"] for score, row in zip(stored, parsed, strict=True))
    figures = [Figure(f"mt_bench/{name} scores read differently", 0, wrong, 0, f"of {len(rows)}")]
    for found in summarise_single(parsed):
        scores = [s for s, row in zip(stored, rows, strict=True) if row["model"] == found["model"] and s is not None]
        mean = sum(scores) / len(scores) if scores else math.nan
        note = f"{found['unscored']} unscored left out, {found['duplicates']} judged again"
        figures.append(Figure(f"mt_bench/{found['model']} mean", mean, found["mean"], 1e-9, "1-10", note))
    return figures


def _check_pairs(name: str, rows: list[Row]) -> list[Figure]:
    figures = []
    for game in (1, 2):
        read = [game_winner(parse_winner(row[f"g{game}_judgment"]), game) or "error" for row in rows]
        wrong = sum(winner != row[f"g{game}_winner"] for winner, row in zip(read, rows, strict=True))
        figures.append(Figure(f"mt_bench/{name} g{game}_winner read differently", 0, wrong, 0, f"of {len(rows)}"))
    return figures


@register
class MtBench(Rated):
    """`references` says which questions are judged against a reference answer (see `needs_reference`)."""

    name = "mt_bench"
    title = "MT-Bench"
    licence = "Apache-2.0"
    files = ("mt_bench_prompts", "mt_bench_questions", "mt_bench_references")
    references = "category"

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, category, turns}."""
        return read_records(paths[self.files[1]])

    def material(self, paths: Paths) -> Any:
        """(judge prompts, references)."""
        return load_judge_prompts(paths[self.files[0]]), load_references(paths[self.files[2]])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """Both turns of every question."""
        rows = judge_single(judge.client, items, answers, *material, model, self.references)
        return [row | {"metric": self.metric} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The mean over all scored turns; questions are counted."""
        (found,) = summarise_single(rows)
        unscored = len({row["question_id"] for row in rows if row["score"] is None})
        counts = {"n": len({row["question_id"] for row in rows}) - unscored, "unscored": unscored}
        ends = {"value": found["mean"], "low": found["low"], "high": found["high"]}
        return [{"metric": self.metric} | ends | counts]

    check = staticmethod(check)
