"""The files that an evaluation leaves: one row an item, an answer, a verdict; and the score tables beside them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kyara_utils.evaluation.evaluate import Answers, Suite
from kyara_utils.evaluation.judged.rated import turns_of
from kyara_utils.evaluation.registry import get
from kyara_utils.runs import Run, write_csv, write_rows
from kyara_utils.runs.schemas import schema
from kyara_utils.runs.tables import Row

ITEM = ("benchmark", "model", "id", "outcome", "chosen", "strict", "lenient", "f1", "finish_reason", "text", "scored")
ANSWER = ("benchmark", "model", "id", "category", "prompt", "text")
VERDICT = ("benchmark", "model", "question_id", "turn", "category", "score", "judgment", "error")
FILES = {"items": ITEM, "answers": ANSWER, "verdicts": VERDICT}  # columns by name, all text


def as_text(rows: Iterable[Row], columns: Sequence[str]) -> list[Row]:
    """Rows with these columns only, all values text: benchmarks differ in what they keep."""
    return [{name: str(row.get(name, "")) for name in columns} for row in rows]


def item_rows(items: Iterable[Row]) -> list[Row]:
    """Scored items for `items.parquet`; `scored` is the whole row as JSON, but for the answer's text."""
    items = list(items)
    whole = (json.dumps(row | {"text": ""}, ensure_ascii=False, default=str) for row in items)
    return [row | {"scored": text} for row, text in zip(as_text(items, ITEM), whole, strict=True)]


def answer_rows(suite: Suite, answers: Mapping[str, Answers]) -> list[Row]:
    """What a judge reads: {benchmark, model, id, category, prompt, text} of the bundled open questions.

    `benchmark` is the item's set where one benchmark joins several. Both turns of a conversation stand in one row.
    """
    return [
        {"benchmark": item.get("set", one.name), "model": model, "id": item["id"],
         "category": item.get("category", ""), "prompt": "\n".join(turns_of(item)),
         "text": "\n".join(response["turns"])}
        for model, given in answers.items()
        for one in suite.chosen(judged=True)
        if one.miniature
        for item, response in zip(suite.questions[one.name].items, given[one.name], strict=True)
    ]  # fmt: skip


def headlines(scores: Iterable[Row]) -> dict[str, float]:
    """{model_benchmark: value} of every benchmark's headline metric, for the manifest."""
    return {
        f"{row['model']}_{row['benchmark']}": round(row["value"], 4)
        for row in scores
        if row["metric"] == _headline(row["benchmark"])
    }


def _headline(benchmark: str) -> str:
    return get(benchmark).metric


def write(run: Run, tables: Mapping[str, list[Row]], files: Mapping[str, list[Row]], page: str) -> dict[str, Path]:
    """Write CSV `tables`, Parquet `files` (of `FILES`) and the Markdown page; return the step's outputs by name."""
    paths = {name: run.path(f"{name}.csv") for name in tables} | {name: run.path(f"{name}.parquet") for name in files}
    for name, rows in tables.items():
        write_csv(paths[name], rows)
    for name, rows in files.items():
        write_rows(paths[name], rows, schema(**dict.fromkeys(FILES[name], str)))
    paths["evaluation"] = run.path("evaluation.md")
    paths["evaluation"].write_text(page, encoding="utf-8")
    return paths
