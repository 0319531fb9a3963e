"""The tables of Kyara's model card, in the card's order, with what we measured beside what it prints.

A cell of ours is filled only by a score of that very benchmark: where nothing ran it says so, and a miniature set never
stands in a benchmark's row.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from kyara_utils.evaluation.registry import benchmarks
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

PUBLISHED = Path(__file__).resolve().parents[1] / "data" / "published_scores.csv"
COLUMNS = ("table", "benchmark", "metric", "label", "model", "value", "unit", "n", "se", "basis", "source")
TITLES = {
    "general": "General benchmarks, zero-shot",
    "open_llm": "Open LLM Leaderboard",
    "alignment": "Alignment benchmarks",
    "alignbench_cht": "AlignBench, questions in Traditional Chinese",
    "alignbench_chs": "AlignBench, questions in Simplified Chinese",
    "beside": "Beside the card",
}
OURS = "ours [95 %]"
LEFT_OUT = {"chinese_reason_bench": "left out: never defined"}
GEMMA, CHATGPT = "Gemma-2-2b-it", ("ChatGPT-3.5-1106", "ChatGPT-3.5-0613")


def load_published(path: Path = PUBLISHED) -> list[Row]:
    """Figures of the card, one row a (benchmark, metric, model), in the card's order; all values are text as printed.

    Columns: table, benchmark, metric, label, model, value, unit (% or 1-10), n, se, basis (of the error), source. An
    empty `n` or `se` is unknown. Raises KyaraError for a file without these columns or with a value that is no number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise KyaraError(f"cannot read {path}: {error.strerror}; reinstall kyara_utils") from error
    for number, row in enumerate(rows, 2):
        if tuple(row) != COLUMNS or not _number(row["value"]):
            raise KyaraError(f"{path}:{number} is no row of {', '.join(COLUMNS)}; correct it")
    return rows


def _number(text: str | None) -> bool:
    try:
        return math.isfinite(float(text or ""))
    except ValueError:
        return False


def card_tables(
    scores: Sequence[Row],
    differences: Sequence[Row] = (),
    model: str = "dpo",
    baseline: str = "base",
    reasons: Mapping[str, str] | None = None,
    published: Sequence[Row] = (),
) -> list[Row]:
    """One row for each line of the card: {table, score, published Kyara, published Gemma, published ChatGPT-3.5,
    ours [95 %], paired difference, n, unscored %, judge}, cells as text.

    `scores` are rows of scores.csv (`score_row`, shares in [0, 1]; ratings 1 to 10 as they are; an optional `judge`),
    found by benchmark and metric; AlignBench's are `alignbench_cht` and `alignbench_chs`. `differences` are rows of
    `compare` with a `benchmark` (and a `metric` where a benchmark has several). `reasons` says per benchmark why it was
    not run. Registered benchmarks that the card does not print have a line of their own where they ran.
    """
    ours = {(row["benchmark"], row["metric"]): row for row in scores if row["model"] == model}
    paired = {
        (row["benchmark"], row.get("metric") or ""): row
        for row in differences
        if (row["model_a"], row["model_b"]) == (model, baseline)
    }
    rows = []
    for line in _lines(list(published) or load_published()):
        key = (line["benchmark"], line["metric"])
        score = ours.get(key)
        if score is None and line["table"] == "beside":
            continue
        shown = _measured(score, line) if score else _missing(line["benchmark"], reasons or {})
        found = paired.get(key, paired.get((line["benchmark"], "")))
        shown["paired difference"] = _difference(found, line["unit"], baseline) if score and found else ""
        rows.append({"table": TITLES[line["table"]], "score": line["label"]} | line["published"] | shown)
    return rows


def _lines(published: list[Row]) -> list[Row]:
    """Lines of the card: {table, benchmark, metric, label, unit, n, published: {column: value}}; AlignBench once a
    script."""
    lines: dict[tuple[str, str, str], Row] = {}
    for row in published:
        suffix = row["model"][-4:].lower().replace("-", "_")
        every = ("_cht", "_chs") if row["table"] == "alignbench" else ("",)
        for script in (suffix,) if suffix in every else every:
            names = (row["table"] + script, row["benchmark"] + script, row["metric"])
            line = lines.setdefault(names, _line(*names, row["label"], row["unit"], row["n"]))
            line["published"][_column(row["model"])] = row["value"]
    ordered = sorted(lines.values(), key=lambda line: list(TITLES).index(line["table"]))
    return ordered + _beside({line["benchmark"] for line in ordered})


def _beside(printed: set[str]) -> list[Row]:
    """Lines of the registered benchmarks that the card does not print: their headline."""
    others = [one for one in benchmarks().values() if one.name not in printed and not one.miniature]
    return [_line("beside", one.name, one.metric, one.title or one.name, one.unit, "") for one in others]


def _line(table: str, benchmark: str, metric: str, label: str, unit: str, n: str) -> Row:
    empty = dict.fromkeys(("published Kyara", "published Gemma", "published ChatGPT-3.5"), "")
    names = {"table": table, "benchmark": benchmark, "metric": metric, "label": label}
    return names | {"unit": unit, "n": n, "published": empty}


def _column(model: str) -> str:
    if model in CHATGPT:
        return "published ChatGPT-3.5"
    return "published Gemma" if model == GEMMA else "published Kyara"


def _measured(score: Row, line: Row) -> Row:
    n, total = int(score["n"]), int(line["n"] or score["n"])
    scale = 100 if line["unit"] == "%" else 1
    value, low, high = (scale * float(score[name]) for name in ("value", "low", "high"))
    return {
        OURS: f"{value:.2f} [{low:.2f}, {high:.2f}]",
        "paired difference": "",
        "n": f"{n:,}" if n == total else f"{n:,} of {total:,}",
        "unscored %": f"{100 * int(score['unscored']) / n:.1f}" if n else "n/a",
        "judge": f"{score['judge']}; not the card's" if score.get("judge") else "",
    }


def _missing(benchmark: str, reasons: Mapping[str, str]) -> Row:
    whole = benchmark.removesuffix("_cht").removesuffix("_chs")
    reason = LEFT_OUT.get(benchmark) or reasons.get(benchmark) or reasons.get(whole) or "not run"
    text = reason if reason.startswith(("not run", "left out")) else f"not run: {reason}"
    return {OURS: text, "paired difference": "", "n": "", "unscored %": "", "judge": ""}


def _difference(row: Row, unit: str, baseline: str) -> str:
    scale = 100 if unit == "%" else 1
    value, low, high = (scale * float(row[name]) for name in ("difference", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}] to {baseline}, n {row['n']}"
