"""Evaluation tables for readers: shares in per cent with the digits that n can bear, models beside each other, how each
figure was measured as a note below."""

import math
from collections.abc import Iterable
from typing import Any

from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

DIGIT = 1_000  # items from which on a tenth of a per cent says something: below, the interval spans more than ±3


def number(value: Any) -> float:
    """A cell of a CSV as a float; NaN where it is empty or holds text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def percent(share: Any, n: Any, sign: str = "") -> str:
    """A share of n items in per cent, e.g. `31 %`; `–` where it is unknown."""
    value = number(share)
    text = f"{100 * value:{sign}.{int(number(n) >= DIGIT)}f} %".replace("-", "−")
    return "–" if math.isnan(value) else text


def interval(row: Row, sign: str = "") -> str:
    """The ends of a row's 95 % interval, e.g. `20 to 45`; empty where they are unknown."""
    ends = [percent(row.get(end), row.get("n"), sign).removesuffix(" %") for end in ("low", "high")]
    return "" if "–" in ends else " to ".join(ends)


def with_note(text: str, notes: list[str]) -> int:
    """The number of a note, entered among `notes` if it is new; 0 for none."""
    if not text:
        return 0
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def score_table(rows: Iterable[Row]) -> Row:
    """Rows of scores.csv (or contamination.csv) → {models, lines, notes}: a line a metric, a cell a model."""
    table = [row for row in rows if row["benchmark"] != "pairwise"]
    models, notes = list(dict.fromkeys(row["model"] for row in table)), []
    lines: dict[tuple[str, ...], Row] = {}
    for row in table:
        names = (row["benchmark"], row["metric"], row.get("part") or "")
        line = lines.setdefault(names, {"names": [name for name in names if name], "n": row["n"], "cells": {}})
        line["note"] = with_note(row.get("protocol") or "", notes)
        unscored = f", {row['unscored']} unscored" if number(row.get("unscored")) > 0 else ""
        cell = {"value": percent(row["value"], row["n"]), "interval": f"{interval(row)}{unscored}"}
        line["cells"][row["model"]] = cell
    return {"models": models, "lines": list(lines.values()), "notes": notes}


def difference_table(rows: Iterable[Row]) -> list[Row]:
    """Rows of differences.csv → {set, of, to, points, interval, n, p, apart}; a point is one per cent of the items."""
    return [
        {
            "set": " ".join(filter(None, (row["benchmark"].replace("_", " "), row.get("metric")))),
            "of": row["model_a"], "to": row["model_b"], "n": row["n"],
            "points": percent(row["difference"], row["n"], "+").removesuffix(" %"), "interval": interval(row, "+"),
            "p": _p(row), "apart": number(row["low"]) > 0 or number(row["high"]) < 0,
        }
        for row in rows
    ]  # fmt: skip


def _p(row: Row) -> str:
    """McNemar's p, or the bootstrap's where an item is more than right or wrong; `–` where neither is known."""
    known = [value for name in ("p_mcnemar", "p") if not math.isnan(value := number(row.get(name)))]
    return f"{known[0]:.2f}" if known else "–"


def pair_table(rows: Iterable[Row]) -> list[Row]:
    """Rows of pairwise.csv → the same with `won`, the share of all pairs won with its Wilson interval."""
    found = []
    for row in rows:
        wins, n = number(row["wins"]), number(row["n"])
        low, high = wilson(wins, int(n))
        share = percent(wins / n if n else math.nan, n)
        found.append(row | {"won": share, "interval": interval({"low": low, "high": high, "n": n})})
    return found


def card_tables(rows: Iterable[Row]) -> list[Row]:
    """Rows of card.csv → {title, columns, rows, notes} of each table; a reason why nothing ran becomes a note."""
    table = list(rows)
    found = []
    for title in dict.fromkeys(row["table"] for row in table):
        mine, notes = [row for row in table if row["table"] == title], []
        columns = [name for name in mine[0] if name != "table" and any(row[name] for row in mine)]
        lines = [[_noted(row[name], notes) for name in columns] for row in mine]
        found.append({"title": title, "columns": columns, "rows": lines, "notes": notes})
    return found


def _noted(text: str, notes: list[str]) -> Row:
    """A cell, a long reason cut to its beginning with the number of a note."""
    head, colon, rest = text.partition(": ")
    return {"text": head, "note": with_note(rest, notes)} if colon and len(text) > 40 else {"text": text, "note": 0}


def plain_table(rows: Iterable[Row], left_out: Iterable[str] = ()) -> Row:
    """Rows of any CSV → {columns, rows} with numbers of at most three digits after the point."""
    table = list(rows)
    columns = [name for name in (table[0] if table else ()) if name not in set(left_out)]
    return {"columns": columns, "rows": [[short_number(row[name]) for name in columns] for row in table]}


def short_number(text: Any) -> str:
    """A number with at most three significant digits after the point, anything else as it is."""
    value = number(text)
    if math.isnan(value) or not math.isfinite(value) or str(text).lstrip("-").isdigit():
        return str(text)
    return f"{value:.3g}" if abs(value) < 1 else f"{value:,.2f}"
