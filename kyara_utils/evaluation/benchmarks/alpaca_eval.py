"""AlpacaEval 2: each answer against the published baseline's, with a control for length."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.evaluation.benchmark import Judge, Row
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import alpaca
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.judged.length import load_difficulty
from kyara_utils.evaluation.judged.rated import Paths, Rated, shares
from kyara_utils.evaluation.registry import register

DIFFICULTY = Path("tatsu-lab+alpaca_eval/instruction_difficulty.csv")  # on the Hub only; without it no length control
CONTROLLED = "length_controlled"


@register
class AlpacaEval(Rated):
    """A row's `score` is the share of the question that the model wins, 0 to 1."""

    name = "alpaca_eval"
    title = "AlpacaEval"
    licence = "CC-BY-NC-4.0"
    unit = "%"
    metric = "win_rate"
    files = ("alpaca_prompt", "alpaca_baseline")
    protocol = "greedy answers, against the published baseline"

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, question, baseline, difficulty (None where no root holds the file)}."""
        with reading(paths["alpaca_baseline"]):
            rows = [
                {"question_id": number, "question": row["instruction"], "baseline": row["output"]}
                for number, row in enumerate(read_records(paths["alpaca_baseline"]))
            ]
        place = next((root / DIFFICULTY for root in roots if (root / DIFFICULTY).is_file()), None)
        values = load_difficulty(place) if place else []
        known = len(values) == len(rows)
        return [row | {"difficulty": float(values[i]) if known else None} for i, row in enumerate(rows)]

    def material(self, paths: Paths) -> Any:
        """The judge's prompt."""
        return alpaca.load_alpaca_prompt(paths["alpaca_prompt"])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """The judge must return log-probabilities."""
        rows = [
            {"question_id": q["question_id"], "instruction": q["question"], "output_1": q["baseline"],
             "output_2": answers[q["question_id"]], "difficulty": q["difficulty"]}
            for q in items
        ]  # fmt: skip
        fixed = {"model": model, "category": self.name, "metric": self.metric}
        found = alpaca.judge_outputs(judge.client, rows, material)
        return [row | {"score": _won(row["preference"])} | fixed for row in found]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The win rate; the length-controlled one where every instruction was asked and has its difficulty."""
        unscored = sum(row["score"] is None for row in rows)
        counts = {"n": len(rows) - unscored, "unscored": unscored}
        difficulty = difficulties(rows)
        found = alpaca.summarise(rows, difficulty)
        lines = [shares(self.metric, found, "win_rate", "low", "high") | counts]
        if difficulty is not None:
            lines.append(shares(CONTROLLED, found, alpaca.CONTROLLED, "lc_low", "lc_high") | counts)
        return lines

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Also of the length-controlled rates, where they are known."""
        found = []
        for one, two in pairs:
            a, b = ([row for row in rows if row["model"] == model] for model in (one, two))
            if a and b and (controlled := controlled_difference(a, b)):
                names = {"benchmark": self.name, "metric": CONTROLLED, "model_a": one, "model_b": two}
                found.append(names | controlled)
        return found + super().differences(rows, pairs)

    def check(self, folder: Path) -> Iterator[Figure]:
        """Published against recomputed win rates."""
        yield from alpaca.check(folder)


def _won(preference: float | None) -> float | None:
    return None if preference is None else preference - 1


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
