"""AlpacaEval 2: a judge prefers the model's or the baseline's answer; raw, discrete and length-controlled win rate.

Protocol of tatsu-lab/alpaca_eval (annotator `weighted_alpaca_eval_gpt4_turbo`, baseline gpt4_1106_preview): one
token, its log-probabilities give the preference, the order of the two answers is a fixed coin per instruction.
Preference is 1 (baseline) … 2 (model); 1.5 is a draw.
"""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.golden.figures import Figure, not_run
from kyara_utils.evaluation.golden.golden_files import compare, read_records
from kyara_utils.evaluation.judged.judgment_files import check_files, read_table, reading
from kyara_utils.evaluation.judged.length import LengthControl, difficulties, find_difficulty, load_difficulty
from kyara_utils.evaluation.judged.loop import Message, Verdict, fill, judge_answers
from kyara_utils.evaluation.judged.rated import Paths, Rated, shares
from kyara_utils.evaluation.registry import register
from kyara_utils.llm import Client, Request
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import bootstrap_mean, percentile_interval

TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)\n?<\|im_end\|>", re.DOTALL)
FIRST, SECOND = "m", "M"  # the names under which the judge sees the two answers
DIFFICULTY_FILE = "instruction_difficulty_recovered.csv"
CONTROLLED_RATE = "length_controlled_winrate"  # as published; ours is a share
CONTROLLED = "length_controlled"
LC_TOLERANCE = 0.35  # the reference's gamed rows are modelled, and its 5-fold choice of C is fixed
EXACT = ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate")


def load_alpaca_prompt(path: Path) -> list[Message]:
    """Read the published ChatML template (alpaca_eval_clf.txt) as messages whose {fields} are still to be filled."""
    with reading(path):
        text = Path(path).read_text(encoding="utf-8")
        turns = [{"role": role, "content": content.strip()} for role, content in TURN.findall(text)]
        if not turns or not all(f"{{{name}}}" in text for name in ("instruction", "output_1", "output_2")):
            raise ValueError("no ChatML turns with {instruction}, {output_1} and {output_2}")
    return turns


def is_switched(instruction: str, seed: str = "0") -> bool:
    """Whether the judge sees the model's answer first: the reference's coin, the same in every run."""
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True], k=1)[0]


def messages_for(instruction: str, baseline: str, output: str, template: Sequence[Message]) -> list[Message]:
    """Fill the template, with the two answers in the order that `is_switched` decides."""
    first, second = (output, baseline) if is_switched(instruction) else (baseline, output)
    fields = {"instruction": instruction, "output_1": first, "output_2": second}
    return [{"role": turn["role"], "content": fill(turn["content"], fields)} for turn in template]


def parse_preference(logprobs: Mapping[str, float], switched: bool) -> float | None:
    """Preference from {token: log-probability} of the judge's one token; None when it names neither answer."""
    values = [logprobs.get(name, -math.inf) for name in (FIRST, SECOND)]
    if all(value == -math.inf for value in values) or any(math.isnan(value) for value in values):
        return None
    first, second = (math.exp(value - max(values)) for value in values)
    preference = 2 - first / (first + second)
    return 3 - preference if switched else preference


def judge_outputs(client: Client, rows: Sequence[Row], template: Sequence[Message]) -> list[Row]:
    """Annotate rows {instruction, output_1 (baseline), output_2 (model), …}: each gains preference and call_ids.

    Equal answers are a draw and are not judged; a verdict that stays unread leaves the preference None.
    """
    asked = [row for row in rows if row["output_1"] != row["output_2"]]
    requests = [
        Request(messages_for(row["instruction"], row["output_1"], row["output_2"], template), 1, 1.0, top_logprobs=5)
        for row in asked
    ]
    verdicts = iter(judge_answers(client, requests, _first_token, label="AlpacaEval"))
    return [row | _annotation(row, next(verdicts) if row["output_1"] != row["output_2"] else None) for row in rows]


def _annotation(row: Row, verdict: Verdict | None) -> Row:
    if verdict is None:
        return {"preference": 1.5, "call_ids": [], "error": ""}
    value = verdict.value and parse_preference(verdict.value, is_switched(row["instruction"]))
    return {"preference": value, "call_ids": list(verdict.call_ids), "error": verdict.error}


def _first_token(response: Any) -> dict[str, float] | None:
    found = response.logprobs[0] if response.logprobs else {}
    return found if FIRST in found or SECOND in found else None


def preferences(rows: Sequence[Row]) -> np.ndarray:
    """Preferences of the rows as floats, NaN where unscored; the reference reads 0 as a draw.

    Rows without `preference` are read from the judge's stored answer, see `stored_preference`.
    """
    found = [row["preference"] if "preference" in row else stored_preference(row) for row in rows]
    found = np.array([math.nan if value is None else float(value) for value in found])
    return np.where(found == 0, 1.5, found)


def stored_preference(row: Row) -> float | None:
    """Preference from a published row's `raw_completion`; equal answers, which are never judged, are a draw."""
    if row["output_1"] == row["output_2"]:
        return 1.5
    raw = row.get("raw_completion")
    content = ((raw.get("logprobs") or {}).get("content") or []) if isinstance(raw, dict) else []
    tops = {top["token"]: top["logprob"] for top in content[0]["top_logprobs"]} if content else {}
    return parse_preference(tops, is_switched(row["instruction"]))


def summarise(rows: Sequence[Row], difficulty: np.ndarray | None = None, bootstrap: int = 200, seed: int = 0) -> Row:
    """Win rates in percent of one model's rows {preference, output_1, output_2}, with n, unscored and intervals.

    `low`/`high` resample instructions. With the per-instruction `difficulty` also the length-controlled rate and its
    bootstrap interval; `lc_standard_error` is the reference's, which is too small (it omits the fit's error).
    """
    values = preferences(rows)
    known = values[~np.isnan(values)]
    n, share, low, high = len(known), *(100 * x for x in bootstrap_mean(known - 1, seed=seed))
    wins, losses, draws = (int((known > 1.5).sum()), int((known < 1.5).sum()), int((known == 1.5).sum()))
    row = {
        "n_total": n, "unscored": len(values) - n, "win_rate": share, "low": low, "high": high,
        "standard_error": float(100 * np.std(known, ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        "n_wins": wins, "n_wins_base": losses, "n_draws": draws,
        "discrete_win_rate": 100 * (wins + draws / 2) / n if n else math.nan,
        "avg_length": math.floor(np.mean([len(row["output_2"]) for row in rows])) if len(rows) else 0,
    }  # fmt: skip
    return row if difficulty is None else row | _length_controlled(rows, difficulty, bootstrap, seed)


def length_control(rows: Sequence[Row], difficulty: np.ndarray) -> LengthControl:
    """Fit the length control; rows are matched by `index`, or by position when there is one row per difficulty."""
    if all("index" in row for row in rows):
        matched = np.array([difficulty[int(row["index"])] for row in rows])
    elif len(rows) == len(difficulty):
        matched = difficulty
    else:
        raise KyaraError(f"{len(rows)} rows for {len(difficulty)} difficulties; give each row its instruction's index")
    lengths = ([len(row[name]) for row in rows] for name in ("output_1", "output_2"))
    return LengthControl(preferences(rows) - 1, *lengths, matched)


def _length_controlled(rows: Sequence[Row], difficulty: np.ndarray, bootstrap: int, seed: int) -> Row:
    if np.isnan(preferences(rows)).all():
        return dict.fromkeys((CONTROLLED_RATE, "lc_low", "lc_high", "lc_standard_error"), math.nan)
    model = length_control(rows, difficulty)
    rates = model.rates()
    low, high = percentile_interval(model.bootstrap(bootstrap, seed))
    error = float(np.std(rates, ddof=1) / math.sqrt(len(rates)))
    return {CONTROLLED_RATE: float(rates.mean()), "lc_low": low, "lc_high": high, "lc_standard_error": error}


def compare_length_controlled(a: Sequence[Row], b: Sequence[Row], difficulty: np.ndarray, n: int = 200) -> Row:
    """Length-controlled share of model a minus b over the same instructions, {difference, low, high, p (NaN), n}."""
    if [row["instruction"] for row in a] != [row["instruction"] for row in b]:
        raise KyaraError("the two models answered different instructions; give the same rows in the same order")
    one, two = length_control(a, difficulty), length_control(b, difficulty)
    low, high = percentile_interval(one.bootstrap(n) - two.bootstrap(n))
    found = {"difference": float(one.rates().mean() - two.rates().mean()), "low": low, "high": high}
    return {name: value / 100 for name, value in found.items()} | {"p": math.nan, "n": len(a)}


def check(folder: Path) -> Iterator[Figure]:
    """Published against recomputed win rates for every annotation file under folder/alpaca_eval."""
    place = Path(folder) / "alpaca_eval"
    expected = {row.get("model"): row for row in read_table(place / "expected.csv")}
    difficulty = load_difficulty(place / DIFFICULTY_FILE) if (place / DIFFICULTY_FILE).is_file() else None
    yield from check_files((place, lambda name, rows: _check_model(name, rows, expected.get(name, {}), difficulty)))


def _check_model(model: str, rows: list[Row], published: Row, difficulty: np.ndarray | None) -> Iterator[Figure]:
    found, tolerances = summarise(rows), dict.fromkeys(EXACT, 1e-9)
    try:
        if difficulty is not None:
            found[CONTROLLED_RATE] = float(length_control(rows, difficulty).rates().mean())
            tolerances[CONTROLLED_RATE] = LC_TOLERANCE
    except KyaraError as error:
        yield not_run(f"alpaca_eval/{model} {CONTROLLED_RATE}", error)
    yield from compare(f"alpaca_eval/{model}", published, found, tolerances)


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
        values = find_difficulty(roots, len(rows))
        return [row | {"difficulty": value} for row, value in zip(rows, values, strict=True)]

    def material(self, paths: Paths) -> Any:
        """The judge's prompt."""
        return load_alpaca_prompt(paths["alpaca_prompt"])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """The judge must return log-probabilities."""
        rows = [
            {"question_id": q["question_id"], "instruction": q["question"], "output_1": q["baseline"],
             "output_2": answers[q["question_id"]], "difficulty": q["difficulty"]}
            for q in items
        ]  # fmt: skip
        fixed = {"model": model, "category": self.name, "metric": self.metric}
        found = judge_outputs(judge.client, rows, material)
        return [row | {"score": _won(row["preference"])} | fixed for row in found]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The win rate; the length-controlled one where every instruction was asked and has its difficulty."""
        unscored = sum(row["score"] is None for row in rows)
        counts = {"n": len(rows) - unscored, "unscored": unscored}
        difficulty = difficulties(rows)
        found = summarise(rows, difficulty)
        lines = [shares(self.metric, found, "win_rate", "low", "high") | counts]
        if difficulty is not None:
            lines.append(shares(CONTROLLED, found, CONTROLLED_RATE, "lc_low", "lc_high") | counts)
        return lines

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Also of the length-controlled rates, where they are known."""
        found = []
        for one, two in pairs:
            a, b = ([row for row in rows if row["model"] == model] for model in (one, two))
            if all(difficulties(mine) is not None for mine in (a, b)):
                names = {"benchmark": self.name, "metric": CONTROLLED, "model_a": one, "model_b": two}
                found.append(names | compare_length_controlled(a, b, difficulties(a)))
        return found + super().differences(rows, pairs)

    check = staticmethod(check)


def _won(preference: float | None) -> float | None:
    return None if preference is None else preference - 1
