"""From answered items of the card's benchmarks to score rows and paired differences, averaged as each benchmark's
authors average: an exam over subjects or groups of subjects, the leaderboard over normalised subtasks."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.registry import BENCHMARKS
from kyara_utils.evaluation.scored.exam_subjects import CATEGORY_GROUP, GROUPS, SUBJECT_CATEGORY
from kyara_utils.evaluation.scored.harness import leaderboard_scores, normalise
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED
from kyara_utils.evaluation.statistics import paired_bootstrap

Row = dict[str, Any]
EXAM_RULE = "letter log-probability, zero-shot"
JSON_RULE = "JSON answer, own prompt, greedy"
READ = {"strict": "read by ZeroEval's rules", "lenient": "read wherever it stands"}


def is_exam(benchmark: str) -> bool:
    """Whether a benchmark is answered by letters."""
    return benchmark in BENCHMARKS and BENCHMARKS[benchmark].score_with == "backends.choose"


def summarise_benchmark(rows: Sequence[Row], dataset: str = "") -> list[Row]:
    """Score rows of one benchmark's rows, per model, each with `dataset`: an exam's `macro`, its groups and `macro,
    calibrated`; else `strict` and `lenient`."""
    scores = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        scores += _summarise_exam(mine) if is_exam(mine[0]["benchmark"]) else _summarise_json(mine)
    return [score | {"dataset": dataset} for score in scores]


def _summarise_json(rows: list[Row]) -> list[Row]:
    scores = summary.summarise_maths(rows)
    return [row | {"protocol": f"{JSON_RULE}; {READ[row['metric']]}; Wilson; {summary.BAND}"} for row in scores]


def _summarise_exam(rows: list[Row]) -> list[Row]:
    """`macro` as the exam's authors average: over subjects, in TMMLU+ over four groups of subjects."""
    late = [row | {"outcome": row["lenient"]} for row in rows]
    return [*_macro(rows, EXAM_RULE), _macro(late, f"{EXAM_RULE}, calibrated")[0] | {"metric": "macro, calibrated"}]


def _macro(rows: list[Row], rule: str) -> list[Row]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_group(row["subject"]), []).append(row)
    if not set(groups) <= set(GROUPS):
        return [_over_subjects(rows, "macro", rule)]
    parts = [_over_subjects(groups[group], group, rule) for group in GROUPS if group in groups]
    return [_mean(parts, rule), *parts]


def _group(subject: str) -> str:
    return CATEGORY_GROUP.get(SUBJECT_CATEGORY.get(subject.removeprefix("tmmluplus_"), ""), "")


def _over_subjects(rows: list[Row], metric: str, rule: str) -> Row:
    row = summary.summarise_choice([row | {"group": row["subject"]} for row in rows])[0]
    how = f"{rule}; mean over subjects; cluster bootstrap by subject, at least Wilson; {summary.BAND}"
    return row | {"metric": metric, "protocol": how}


def _mean(parts: list[Row], rule: str) -> Row:
    first, how = parts[0], f"{rule}; mean of {len(parts)} groups, each the mean of its subjects; MOVER"
    return summary.score_row(first["benchmark"], first["model"], "macro", *_mover(parts), how)


def _mover(parts: list[Row]) -> tuple[float, int, int, float, float]:
    """Mean of independent scores as (value, n, unscored, low, high); the interval from theirs (MOVER, Zou & Donner
    2008, Stat. Med. 27:1693)."""
    value = sum(part["value"] for part in parts) / len(parts)
    below, above = (math.hypot(*(part["value"] - part[end] for part in parts)) / len(parts) for end in ("low", "high"))
    n, unscored = (sum(part[name] for part in parts) for name in ("n", "unscored"))
    return value, n, unscored, max(0.0, value - below), min(1.0, value + above)


def paired_differences(rows: Sequence[Row], pairs: Sequence[tuple[str, str]], outcome: str = "outcome") -> list[Row]:
    """`summary.compare` for every benchmark in `rows` and every pair of models, each row with its `benchmark`.

    An exam has a row for each of its averages, named by `metric` and weighted as that average is. A pair without an
    item that both scored has no row: nothing can be said of it.
    """
    found = []
    for name in dict.fromkeys(row["benchmark"] for row in rows):
        mine = [row for row in rows if row["benchmark"] == name]
        exam = is_exam(name)
        for metric, part in (_averages(mine) if exam else {"": mine}).items():
            for pair in pairs:
                if row := _compared(part, *pair, outcome, weighted=exam):
                    found.append({"benchmark": name} | ({"metric": metric} if metric else {}) | row)
    return found


def _averages(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows under each average of an exam: `macro`, and TMMLU+'s groups."""
    groups = {group: [row for row in rows if _group(row["subject"]) == group] for group in GROUPS}
    return {"macro": rows} | {group: part for group, part in groups.items() if part}


def _compared(rows: list[Row], one: str, two: str, outcome: str, weighted: bool) -> Row:
    """`summary.compare`, or {} without a shared item; `weighted` weighs groups and, inside them, subjects alike."""
    scored = [{r["id"]: r for r in rows if r["model"] == model and r[outcome] != UNSCORED} for model in (one, two)]
    shared = [key for key in scored[0] if key in scored[1]]
    if not shared:
        return {}
    found = summary.compare(rows, one, two, outcome)
    if weighted:
        subjects = [scored[0][key]["subject"] for key in shared]
        weights = _weights(subjects)
        a, b = (
            [w * (side[key][outcome] == CORRECT) for w, key in zip(weights, shared, strict=True)] for side in scored
        )
        values = paired_bootstrap(a, b, subjects)
        found |= dict(zip(("difference", "low", "high", "p"), values, strict=True))
    return found


def _weights(subjects: list[str]) -> list[float]:
    """Weights of mean 1 under which a plain mean is the mean of groups, each the mean of its subjects."""
    items, groups = Counter(subjects), Counter(_group(subject) for subject in set(subjects))
    return [len(subjects) / (items[s] * groups[_group(s)] * len(groups)) for s in subjects]


def leaderboard_rows(rows: Sequence[Row], model: str) -> list[Row]:
    """Rows of `run_harness` → one score row a column, normalised as the leaderboard does (shares in [0, 1])."""
    columns: dict[str, list[Row]] = {}
    for row in rows:
        for name, value in leaderboard_scores([row]).items():
            ends = {end: normalise(row[end], row["choices"]) / 100 for end in ("low", "high")}
            known = {"value": value / 100, "n": row["n"], "unscored": row["unscored"]}
            # IFEval's value is the mean of two levels; its interval is the prompts', moved to that mean.
            shift = value / 100 - row["normalised"] / 100
            columns.setdefault(name, []).append(known | {end: share + shift for end, share in ends.items()})
    return [
        summary.score_row(name, model, "leaderboard", *_mover(parts), "lm-evaluation-harness; normalised; MOVER")
        | {"dataset": f"open-llm-leaderboard/{name}"}
        for name, parts in columns.items()
    ]
