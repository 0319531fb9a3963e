"""Running the judged benchmarks of the card with a judge of one's own: MT-Bench, MT-Bench-TW, AlignBench in two scripts
by ratings, AlpacaEval and Arena-Hard against published answers (`baseline_runs`).

Questions, references and judge prompts are the benchmarks' own files (`published`). Answers are greedy, and the judge
is not the card's, so these figures compare our models with each other; the card's column is only shown beside them.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import alignbench, baseline_runs, mt_bench
from kyara_utils.evaluation.miniature.answering import generate
from kyara_utils.evaluation.published import DATA_VARIABLE, REGISTRY, fetch
from kyara_utils.evaluation.statistics import paired_bootstrap
from kyara_utils.llm import Client
from kyara_utils.runs import KyaraError, sample
from kyara_utils.runs.env import cache_dir

Row = dict[str, Any]
Answers = dict[str, dict[Any, Any]]  # benchmark → question id → turns (MT-Bench) or text (AlignBench)
HUB = "hub"
ALIGN = {"alignbench_cht": True, "alignbench_chs": False}  # whether questions are converted to Traditional Chinese
FILES = (
    {
        name: tuple(f"{name}_{part}" for part in ("prompts", "questions", "references"))
        for name in ("mt_bench", "mt_bench_tw")
    }
    | dict.fromkeys(ALIGN, tuple(name for name in REGISTRY if name.startswith("alignbench_")))
    | baseline_runs.FILES
)


@dataclass
class JudgedData:
    """Questions, judge prompts and references by benchmark; for every other one the reason why it is not run."""

    questions: dict[str, list[Row]] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    references: dict[str, Mapping[Any, list[str]]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def load_judged(data: str, root: Path, limit: int = 0, seed: int = 0) -> JudgedData:
    """Load what lies in the folder `data` (relative to `root`) or $KYARA_EVAL_DATA as owner+name/path; "hub" downloads.

    `limit` draws that many questions of each by `seed`, 0 takes all. A benchmark with a file missing is not run.
    """
    found = JudgedData()
    folder = cache_dir() / "benchmarks" if data in ("", HUB) else root / data
    for name, files in FILES.items():
        try:
            paths = {file: _path(file, folder, data == HUB) for file in files}
            rows = _questions(name, paths, _roots(folder))
            drawn = sample([row | {"id": str(row["question_id"])} for row in rows], limit, seed)
            _load(found, name, paths, drawn)
        except KyaraError as error:
            found.reasons[name] = f"not run: {str(error).replace(str(folder), data or 'the cache')}"
    return found


def _roots(folder: Path) -> list[Path]:
    return [Path(root) for root in (os.environ.get(DATA_VARIABLE), folder) if root]


def _path(file: str, folder: Path, online: bool) -> Path:
    place = REGISTRY[file].place
    if not online and not any((root / place).is_file() for root in _roots(folder)):
        raise KyaraError(f"no {place.as_posix()} in the data folder")
    return fetch(file, folder)


def _questions(name: str, paths: Mapping[str, Path], roots: list[Path]) -> list[Row]:
    if name in baseline_runs.FILES:
        return baseline_runs.load_questions(name, paths, roots)
    return read_records(paths["alignbench_questions" if name in ALIGN else f"{name}_questions"])


def _load(found: JudgedData, name: str, paths: Mapping[str, Path], drawn: list[Row]) -> None:
    if name in baseline_runs.FILES:
        found.prompts[name], found.questions[name] = baseline_runs.load_prompt(name, paths), drawn
        return
    if name in ALIGN:
        found.prompts[name] = alignbench.load_align_prompts(paths["alignbench_judge"].parent)
        found.questions[name] = alignbench.to_traditional(drawn) if ALIGN[name] else drawn
        return
    found.prompts[name] = mt_bench.load_judge_prompts(paths[f"{name}_prompts"])
    found.references[name] = mt_bench.load_references(paths[f"{name}_references"])
    found.questions[name] = drawn


def answer(client: Client, data: JudgedData, max_tokens: int) -> Answers:
    """Greedy answers of one model to every loaded question."""
    responses: Answers = {}
    for name, questions in data.questions.items():
        turns = [question.get("turns") or [question["question"]] for question in questions]
        found = generate(client, turns, max_tokens, label=f"{name} {client.model.name}")
        responses[name] = {
            question["question_id"]: texts if "turns" in question else texts[0]
            for question, texts in zip(questions, found, strict=True)
        }
    return responses


def grade(judge: Client, data: JudgedData, responses: Mapping[str, Answers]) -> list[Row]:
    """Judge all models' answers, `said` = {model: answers}.

    Rows {benchmark, model, question_id, category, metric, score (1 to 10, or the share won against a baseline; None
    unscored), judgment, …}. `metric` is AlignBench's fold, `score` or `win_rate`.
    """
    rows = []
    for name, questions in data.questions.items():
        for model, answers in responses.items():
            if name in baseline_runs.FILES:
                found = baseline_runs.judge(judge, name, questions, answers[name], data.prompts[name], model)
            elif name in ALIGN:
                found = alignbench.judge_align(judge, questions, answers[name], data.prompts[name], model)
                found = [row | {"metric": _fold(row["category"])} for row in found]
            else:
                by = "presence" if name == "mt_bench_tw" else "category"
                found = mt_bench.judge_single(
                    judge, questions, answers[name], data.prompts[name], data.references[name], model, by
                )
                found = [row | {"metric": "score"} for row in found]
            rows += [row | {"benchmark": name} for row in found]
    return rows


def _fold(category: str) -> str:
    return alignbench.FOLDS.get(alignbench.TRADITIONAL.get(category, category), category)


def summarise_ratings(rows: Sequence[Row], judge: str) -> list[Row]:
    """Score rows, 1 to 10 or a share won, one a (benchmark, model, metric); n counts questions."""
    scores = []
    for name, model in dict.fromkeys((row["benchmark"], row["model"]) for row in rows):
        mine = [row for row in rows if (row["benchmark"], row["model"]) == (name, model)]
        if won := name in baseline_runs.FILES:
            found = baseline_runs.summarise(name, mine)
        else:
            found = alignbench.summarise(mine) if name in ALIGN else [_turns(mine)]
        protocol = "greedy answers, " + ("against the published baseline" if won else "one rating each")
        fixed = {"benchmark": name, "model": model, "protocol": protocol, "judge": judge}
        scores += [fixed | row | {"n": row["n"] + row["unscored"]} for row in found]
    return scores


def _turns(rows: list[Row]) -> Row:
    (found,) = mt_bench.summarise_single(rows)
    unscored = len({row["question_id"] for row in rows if row["score"] is None})
    counts = {"n": len({row["question_id"] for row in rows}) - unscored, "unscored": unscored}
    return {"metric": "score", "value": found["mean"], "low": found["low"], "high": found["high"]} | counts


def rating_differences(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """Paired difference of two models over the questions both have: rows {benchmark, metric, model_a, model_b, n,
    difference, low, high, p}, in points of 1 to 10, or shares won where the scores are those."""
    found = _controlled_differences(rows, pairs)
    for name, metric in dict.fromkeys((row["benchmark"], row["metric"]) for row in rows):
        mine = [row for row in rows if (row["benchmark"], row["metric"]) == (name, metric)]
        for one, two in pairs:
            a, b = (_by_question(mine, model) for model in (one, two))
            if shared := [key for key in a if key in b]:
                values = paired_bootstrap([a[key] for key in shared], [b[key] for key in shared])
                fixed = {"benchmark": name, "metric": metric, "model_a": one, "model_b": two, "n": len(shared)}
                found.append(fixed | dict(zip(("difference", "low", "high", "p"), values, strict=True)))
    return found


def _controlled_differences(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    mine = [row for row in rows if row["benchmark"] == baseline_runs.ALPACA]
    found = []
    for one, two in pairs:
        a, b = ([row for row in mine if row["model"] == model] for model in (one, two))
        if a and b and (controlled := baseline_runs.controlled_difference(a, b)):
            names = {"benchmark": baseline_runs.ALPACA, "metric": baseline_runs.LENGTH_CONTROLLED}
            found.append(names | {"model_a": one, "model_b": two} | controlled)
    return found


def _by_question(rows: list[Row], model: str) -> dict[Any, float]:
    """Mean rating of each question whose every turn was rated."""
    scores: dict[Any, list[float]] = {}
    for row in rows:
        if row["model"] == model:
            scores.setdefault(row["question_id"], []).append(math.nan if row["score"] is None else row["score"])
    return {key: mean(values) for key, values in scores.items() if not any(math.isnan(value) for value in values)}
