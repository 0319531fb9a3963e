"""Benchmarks whose answers a judge rates, from the benchmark's own files to ratings with an interval.

Questions, references and judge prompts are the benchmarks' own files (`published`). Answers are greedy, and the judge
is not the card's, so these figures compare our models with each other; the card's column is only shown beside them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from kyara_utils.evaluation.benchmark import Benchmark, Judge, Questions, Source
from kyara_utils.evaluation.published import data_folders, locate
from kyara_utils.evaluation.summary import by
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import paired_bootstrap

Paths = Mapping[str, Path]


class Rated(Benchmark):
    """`files` are names of `published.REGISTRY`; `protocol` says how the answers were made and judged."""

    unit = "1-10"
    metric = "score"
    needs_judge = True
    files: tuple[str, ...] = ()
    protocol = "greedy answers, one rating each"

    def load(self, source: Source) -> Questions:
        """Questions of the benchmark's files. Raises KyaraError when one is missing; the Hub alone downloads."""
        folder = source.folder or cache_dir() / "benchmarks"
        paths = {file: locate(file, folder, source.hub) for file in self.files}
        rows = [row | {"id": str(row["question_id"])} for row in self.read_questions(paths, data_folders(folder))]
        return Questions(self.drawn(source.draw(rows, self.name)), "its own files", material=self.material(paths))

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, question or turns, …}; `roots` are the data folders."""
        raise NotImplementedError

    def drawn(self, rows: list[Row]) -> list[Row]:
        """What is done with the questions that were drawn, such as converting their script."""
        return rows

    def material(self, paths: Paths) -> Any:
        """The judge's prompts and references."""
        raise NotImplementedError

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """Greedy answers, turn by turn."""
        return backend.converse([{"id": item["id"], "turns": turns_of(item)} for item in items], max_tokens)

    def judge(self, judge: Judge, items: list[Row], answers: Mapping[Any, Any], material: Any, model: str) -> list[Row]:
        """Rows {model, question_id, category, metric, score (None unscored), judgment, error, …} of one model.

        `answers` = {question_id: text}, or the list of turns where an item has `turns`.
        """
        raise NotImplementedError

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """Judge all models' answers: rows {benchmark, model, question_id, category, metric, score, judge, …}."""
        rows = []
        for model, responses in answers.items():
            pairs = zip(questions.items, responses, strict=True)
            texts = {q["question_id"]: r["turns"] if "turns" in q else r["turns"][0] for q, r in pairs}
            rows += self.judge(judge, questions.items, texts, questions.material, model)
        return [row | {"benchmark": self.name, "judge": judge.name} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """{metric, value, low, high, n (scored), unscored} of one model's rows."""
        raise NotImplementedError

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Score rows, one a model and metric; `n` counts questions, the unscored among them."""
        return [
            {"benchmark": self.name, "model": model, "protocol": self.protocol, "judge": judge, **row,
             "n": row["n"] + row["unscored"]}
            for (model, judge), mine in by(rows, "model", "judge").items()
            for row in self.averages(mine)
        ]  # fmt: skip

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Over the questions both models have: {benchmark, metric, model_a, model_b, n, difference, low, high, p}, in
        the unit of the scores."""
        found = []
        for (metric,), mine in by(rows, "metric").items():
            for one, two in pairs:
                a, b = (_by_question(mine, model) for model in (one, two))
                if shared := [key for key in a if key in b]:
                    values = paired_bootstrap([a[key] for key in shared], [b[key] for key in shared])
                    fixed = {"benchmark": self.name, "metric": metric, "model_a": one, "model_b": two, "n": len(shared)}
                    found.append(fixed | dict(zip(("difference", "low", "high", "p"), values, strict=True)))
        return found


def turns_of(item: Row) -> list[str]:
    """The user's turns of an item."""
    return list(item.get("turns") or [item["question"]])


def _by_question(rows: list[Row], model: str) -> dict[Any, float]:
    """Mean score of each question whose every turn was scored."""
    scores: dict[Any, list[float]] = {}
    for row in rows:
        if row["model"] == model:
            scores.setdefault(row["question_id"], []).append(math.nan if row["score"] is None else row["score"])
    return {key: mean(values) for key, values in scores.items() if not any(math.isnan(value) for value in values)}


def shares(metric: str, found: Row, *names: str) -> Row:
    """{metric, value, low, high} in shares from three percentages of `found`."""
    return {"metric": metric} | dict(zip(("value", "low", "high"), (found[name] / 100 for name in names), strict=True))
