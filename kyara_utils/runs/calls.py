"""The ledger of LLM calls, seen from a row: read-only, and at hand or not."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from kyara_utils.runs.tables import Row


def parsed(value: Any) -> Any:
    """JSON text as what it says; anything else, and text that is no JSON, as it stands."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):  # damaged, or nested beyond sense: shown as it stands
        return value


def read_calls(store: Path, ids: list[str]) -> tuple[dict[str, Row], str]:
    """Return ({call id: columns of its row, JSON parsed}, "" or why the calls are not at hand); read-only.

    A call that only failed has the columns of the table `failures`, where the store keeps one.
    """
    if not store.is_file():
        return {}, f"there is no {store}"
    note = ""
    for mode in ("mode=ro", "immutable=1"):  # a store on a read-only disk cannot take the lock that mode=ro wants
        try:
            with closing(sqlite3.connect(f"{store.resolve().as_uri()}?{mode}", uri=True, timeout=10)) as db:
                db.text_factory = lambda text: text.decode("utf-8", "replace")
                return _select(db, "failures", ids) | _select(db, "calls", ids), ""
        except sqlite3.Error as error:
            note = f"{store} cannot be read ({error})"
    return {}, note


def _select(db: sqlite3.Connection, table: str, ids: list[str]) -> dict[str, Row]:
    names = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
    found = {}
    for start in range(0, len(ids) if "key" in names else 0, 500):
        part = ids[start : start + 500]
        marks = ",".join("?" * len(part))
        for values in db.execute(f"SELECT * FROM {table} WHERE key IN ({marks})", part):
            row = dict(zip(names, values, strict=True))
            found[row["key"]] = row | {name: parsed(row[name]) for name in ("request", "response") if name in row}
    return found
