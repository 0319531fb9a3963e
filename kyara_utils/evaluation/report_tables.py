"""The evaluation as one Markdown page: the card's tables, the claims check, the contamination split.

The notebook shows these tables and the run keeps them as a file, so that a number quoted elsewhere has one place to be
looked up.
"""

import math
from collections.abc import Sequence
from typing import Any

from kyara_utils.runs.tables import Row


def markdown(rows: Sequence[Row], columns: Sequence[str] = (), empty: str = "No rows.") -> str:
    """Rows as a Markdown table under `columns` (default: the keys of the first row); floats get two decimals.

    Cells are data: pipes, line breaks and HTML signs are escaped.
    """
    if not rows:
        return f"{empty}\n"
    names = list(columns) or list(rows[0])
    lines = [names, ["---:" if all(_is_number(row.get(name)) for row in rows) else "---" for name in names]]
    lines += [[_cell(row.get(name, "")) for name in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        value = "n/a" if math.isnan(value) else f"{value:.2f}"
    text = " ".join(str(value).split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(sign, safe)
    return text


def card_markdown(rows: Sequence[Row]) -> str:
    """Rows of `card.card_tables` as one Markdown table under a heading for each table.

    A table without a figure of ChatGPT has no column for it.
    """
    parts = []
    for title in dict.fromkeys(row["table"] for row in rows):
        table = [row for row in rows if row["table"] == title]
        absent = {"table"} | {name for name in table[0] if "ChatGPT" in name and not any(row[name] for row in table)}
        columns = [name for name in table[0] if name not in absent]
        parts.append(f"### {title}\n\n{markdown(table, columns)}")
    return "\n".join(parts)


def claims_markdown(differences: Sequence[Row], sums: Sequence[Row]) -> str:
    """Rows of `claims.check_differences` and `claims.check_sums` as two Markdown tables."""
    compared = ("label", "model_a", "unit", "n", "difference", "low", "high", "z", "verdict", "basis")
    baseline = differences[0]["model_b"] if differences else "the baseline"
    exact = [row | {name: f"{row[name]:g}" for name in ("recomputed", "difference")} for row in sums]
    return (
        f"### Published differences to {baseline}\n\n{markdown(differences, compared)}\n"
        f"### Published averages from their parts\n\n{markdown(exact)}"
    )


def contamination_markdown(rows: Sequence[Row]) -> str:
    """Rows of `contamination.split_scores` as a Markdown table, shares in percent."""
    shown = [
        {name: row[name] for name in ("benchmark", "metric", "model", "part", "n", "unscored")}
        | {"right %": 100 * float(row["value"]), "interval": f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"}
        for row in rows
    ]
    return markdown(shown, empty="No scored item.")


def scores_markdown(scores: Sequence[Row]) -> str:
    """Score rows in shares as a Markdown table in percent."""
    names = ("benchmark", "metric", "model")
    rows = [{name: row[name] for name in names} | _percent(row, "value") | _counts(row) for row in scores]
    return markdown(rows, empty="No scored item.")


def differences_markdown(differences: Sequence[Row]) -> str:
    """Rows of `evaluate.differences` in shares as a Markdown table in points of a percent."""
    rows = [
        {"benchmark": row["benchmark"], "metric": row.get("metric", ""), "difference of": row["model_a"]}
        | {"to": row["model_b"]}
        | _percent(row, "difference", "+")
        | {"p": _p(row), "detectable": 100 * row["minimum_detectable"], "n": row["n"]}
        for row in differences
    ]
    return markdown(rows, empty="No two models share a scored item.")


def _p(row: Row) -> float:
    """McNemar's, or the bootstrap's where an item is more than right or wrong."""
    return row["p"] if math.isnan(row["p_mcnemar"]) else row["p_mcnemar"]


def _percent(row: Row, name: str, sign: str = "") -> Row:
    ends = (f"{100 * float(row[end]):{sign}.1f}" for end in ("low", "high"))
    return {f"{name} %": 100 * float(row[name]), "95 % interval": " to ".join(ends)}


def _counts(row: Row) -> Row:
    return {"n": row["n"], "unscored": row["unscored"]}


def evaluation_page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """One Markdown page of (heading, body) sections."""
    return f"# {title}\n" + "".join(f"\n## {heading}\n\n{body.strip()}\n" for heading, body in sections)
