"""ZebraLogic: score a filled-in grid against the puzzle's solution, by cell and by puzzle.

Protocol and reference: WildEval/ZeroEval, `src/evaluation/zebra_grid_eval.py` at 8c1485e; size classes as in its
summary. The solutions are masked in the public set; a row here carries its own, and tests make their own puzzles.
"""

import re
from typing import Any

from kyara_utils.evaluation.golden.answer_checks import GRID
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
from kyara_utils.evaluation.scored.zeroeval import json_spans, last_object, load_object
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.tables import Row

SIZES = {
    "small": "2*2 2*3 2*4 2*5 2*6 3*2 3*3 4*2".split(),
    "medium": "3*4 3*5 3*6 4*3 4*4 5*2 6*2".split(),
    "large": "4*5 5*3 4*6 5*4 6*3".split(),
}
HOUSE = re.compile(r"[0-9]{1,2}")
MOST_SPANS = 50  # objects that the lenient rule tries, from the last back


def solution_cells(solution: Row) -> dict[tuple[str, str], str]:
    """Return {(house, column): value} of {"header": ["House", …], "rows": [[…], …]}; houses count from 1."""
    names = solution["header"][1:]
    return {
        (f"House {number}", name): str(value)
        for number, row in enumerate(solution["rows"], 1)
        for name, value in zip(names, row[1:], strict=True)
    }


def score_grid(text: str, solution: Row) -> Row:
    """Score one answer; returns {strict, lenient, cells, cells_correct, …}, cells counted by the strict rule.

    `strict` wants the last complete JSON object with a `solution`; without one the puzzle is unscored, though the
    protocol keeps it in both denominators. `lenient` also takes an earlier object, a bare table, houses named `1` or
    `house 1`, numbers, and other spacing.
    """
    truth = solution_cells(solution)
    found = last_object(text)
    table = found.get("solution") if found else None
    right = 0 if table is None else sum(_cell(table, *place) == _fold(value) for place, value in truth.items())
    strict = UNSCORED if table is None else CORRECT if right == len(truth) else WRONG
    late = _late_table(text)
    lenient = UNSCORED if late is None else CORRECT if _plain(truth, late) else WRONG
    counts = {"cells": len(truth), "cells_correct": right}
    return {"strict": strict, "lenient": lenient, "strict_answer": "", "lenient_answer": "", **counts}


def _fold(value: str) -> str:
    return value.lower().strip()


def _cell(table: Any, house: str, column: str) -> str | None:
    """The strict rule's reading of one cell: text, or the first text of a list; None for anything else."""
    row = table.get(house) if isinstance(table, dict) else None
    value = row.get(column) if isinstance(row, dict) else None
    value = value[0] if isinstance(value, list) and value else value
    return _fold(value) if isinstance(value, str) else None


def _late_table(text: str) -> dict[str, dict[str, str]] | None:
    """The last object that holds houses, as {number: {column: value}} with spacing and case folded."""
    for span in reversed(list(json_spans(text))[-MOST_SPANS:]):
        found = load_object(span) or {}
        table = found.get("solution", found)
        rows = table.items() if isinstance(table, dict) else ()
        houses = {match[0]: row for key, row in rows if isinstance(row, dict) and (match := HOUSE.search(key))}
        if houses:
            return {
                number: {_squeeze(name): _squeeze(_first(value)) for name, value in row.items()}
                for number, row in houses.items()
            }
    return None


def _first(value: Any) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)


def _squeeze(text: str) -> str:
    return "".join(text.lower().replace("_", "").split())


def _plain(truth: dict[tuple[str, str], str], table: dict[str, dict[str, str]]) -> bool:
    return all(
        table.get(house.removeprefix("House "), {}).get(_squeeze(column)) == _squeeze(value)
        for (house, column), value in truth.items()
    )


def size_class(size: str) -> str:
    """small, medium, large or xl of a size such as `3*4`."""
    return next((name for name, sizes in SIZES.items() if size in sizes), "xl")


def summarise_grids(scored: list[Row]) -> dict[str, float]:
    """Percentages: `accuracy` (puzzles), `cell_accuracy`, `no_answer`, one per size class, `lenient`, `band`, `total`.

    Unparsed puzzles stay in both denominators, as in the protocol.
    """
    n = len(scored)
    cells = sum(row["cells_correct"] for row in scored) / sum(row["cells"] for row in scored) * 100
    solved, loose = _share(scored, "strict"), _share(scored, "lenient")
    groups: dict[str, list[Row]] = {}
    for row in scored:
        groups.setdefault(size_class(row["size"]), []).append(row)
    no_answer = sum(row["strict"] == UNSCORED for row in scored) / n * 100
    return {
        "accuracy": solved, "cell_accuracy": cells, "no_answer": no_answer, "lenient": loose,
        "band": abs(loose - solved), "total": n, **{name: _share(rows, "strict") for name, rows in groups.items()},
    }  # fmt: skip


def _share(scored: list[Row], rule: str) -> float:
    return sum(row[rule] == CORRECT for row in scored) / len(scored) * 100


@register
class ZebraLogic(JsonAnswer):
    """The solutions are masked in the public set; the gated one holds them."""

    name = "zebra_logic"
    title = "ZebraLogic"
    dataset = "allenai/ZebraLogicBench-private"
    config = "grid_mode"
    licence = "gated"
    n = 1000
    golden = "zebra-grid"
    tolerances = GRID

    def item(self, row: Row, subject: str) -> Row:
        """The puzzle, its size and the solved grid."""
        return {"puzzle": row["puzzle"], "size": row["size"], "answer": row["solution"]}

    def question(self, item: Row) -> str:
        """The puzzle as it is."""
        return item["puzzle"]

    def shape(self, item: Row) -> Row:
        """A table with the puzzle's own houses and columns."""
        _, *columns = item["answer"]["header"]
        houses = {f"House {i}": dict.fromkeys(columns, "...") for i in range(1, len(item["answer"]["rows"]) + 1)}
        return {"reasoning": "...", "solution": houses}

    def read(self, text: str, row: Row, model: str = "") -> Row:
        """Cells against the solution; `size` goes with the row."""
        grid = row["solution"] if "solution" in row else row["answer"]
        return score_grid(text, grid) | {"size": str(row.get("size", ""))}

    def totals(self, scored: list[Row]) -> dict[str, float]:
        """By puzzle, by cell and by size."""
        return summarise_grids(scored)
