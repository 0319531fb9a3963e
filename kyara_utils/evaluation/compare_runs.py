"""Runs beside each other: a recipe and its variants, paired question by question; what an ablation is read from.

Items are taken from `items.parquet` of step 08, so nothing is asked again. Two runs are compared on the items that
both have scored; questions are drawn by the seed of step 08, which should be the same in both.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.registry import benchmarks, get
from kyara_utils.evaluation.report_tables import differences_markdown, markdown
from kyara_utils.evaluation.summary import by
from kyara_utils.runs import KyaraError, finished, iter_rows, write_csv
from kyara_utils.runs.tables import Row

TRAINED, EVALUATED = "05_sft", "08_eval"


def compare_runs(recipes: Sequence[str], model: str) -> tuple[list[Row], list[Row]]:
    """What training cost each run, and the differences of each later recipe from the first, for one model's answers.

    Returns (costs {recipe, rows, tokens, hours, held_out_loss}, differences of `Benchmark.differences` with recipes for
    models: `model_a` the later one, `model_b` the first). Raises KyaraError for a run that is not evaluated.
    """
    runs = {recipe: finished(recipe) for recipe in recipes}
    rows = [row for recipe, found in runs.items() for row in scored_rows(recipe, found, model)]
    pairs = [(later, recipes[0]) for later in recipes[1:]]
    known = [(name, mine) for (name,), mine in by(rows, "benchmark").items() if name in benchmarks()]
    found = [row for name, mine in known for row in get(name).differences(mine, pairs)]
    return [_cost(recipe, steps.get(TRAINED, {}), model) for recipe, steps in runs.items()], found


def scored_rows(recipe: str, found: dict[str, dict[str, Any]], model: str) -> Iterator[Row]:
    """The items that a run's step 08 scored for `model`, under the recipe's name."""
    done = found.get(EVALUATED)
    if done is None:
        raise KyaraError(f"{recipe} is not evaluated; run: python -m kyara_utils run {recipe}")
    path = Path(done["folder"]) / done["outputs"]["items"]["path"]
    rows = [json.loads(row["scored"]) for row in iter_rows(path, columns=["model", "scored"]) if row["model"] == model]
    if not rows:
        raise KyaraError(f"{recipe} has no answers of {model}; add it to `compared` of step 08")
    return (row | {"model": recipe} for row in rows)


def _cost(recipe: str, trained: dict[str, Any], model: str) -> Row:
    metrics = trained.get("metrics", {})
    return {
        "recipe": recipe, "rows": metrics.get("trained_rows"), "tokens": metrics.get("trained_tokens"),
        "hours": round(trained.get("seconds", 0) / 3600, 2), "held_out_loss": metrics.get(f"held_out_{model}"),
    }  # fmt: skip


def comparison_lines(recipes: Sequence[str], model: str, target: str) -> Iterator[str]:
    """The command `compare`: both tables as Markdown; with `target` also a folder of costs.csv and differences.csv."""
    costs, found = compare_runs(recipes, model)
    if target:
        write_csv(Path(target) / "costs.csv", costs)
        write_csv(Path(target) / "differences.csv", found)
    yield f"Answers of {model}, each run beside {recipes[0]}\n"
    yield markdown(costs)
    yield ""
    yield differences_markdown(found)
