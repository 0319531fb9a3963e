"""The rows that the report shows: training rows, rejects and pairs of the finished steps, each with what became of it.

Of a large run an even sample of each table is shown, and its page says so; the tables themselves hold all rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyara_utils.runs import iter_rows
from kyara_utils.runs.manifest import rows_in
from kyara_utils.runs.schemas import stored_schema
from kyara_utils.runs.tables import Row

LIMIT = 100_000  # rows shown at most, of all tables together, but for FEW of each
FEW = 1_000
TRAINING, REJECT, PAIR = "training row", "reject", "pair"
SYNTHESIS, MATHS, FILTERING, SFT, PAIRS, DPO = (
    "02_rag_sft_synthesis", "03_math_personahub", "04_filtering", "05_sft", "06_dpo_pair_judging", "07_dpo",
)  # fmt: skip
PAIR_TABLES = ("preferences", "held_out")  # of 06: to train on, and kept out of training
Found = dict[str, dict[str, Any]]  # manifests of finished steps by name, each with its folder (`runs.finished`)


@dataclass(frozen=True)
class Table:
    """One table of a step, of which `kept` rows are shown, evenly spaced."""

    step: str
    name: str
    kind: str
    path: Path
    rows: int
    kept: int

    def shown(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows that are shown, in the table's order; only `columns`, if given."""
        for place, row in enumerate(iter_rows(self.path, columns)):
            if (place + 1) * self.kept // self.rows > place * self.kept // self.rows:
                yield row


def path_of(found: Found, step: str, name: str) -> Path | None:
    """Where a finished step's output lies; None where there is none."""
    done = found.get(step, {})
    outputs = done.get("outputs", {}) | done.get("derived", {})
    output = outputs.get(name) or outputs.get(f"{name}_parquet")  # so named where a CSV has the shorter name
    return done["folder"] / output["path"] if output and (done["folder"] / output["path"]).exists() else None


def shown_tables(found: Found, limit: int = LIMIT) -> list[Table]:
    """The tables whose rows are shown, and how many of each: the base set (or what 02 and 03 wrote), pairs, rejects."""
    training = [(FILTERING, "base")] if FILTERING in found else [(step, "conversations") for step in (SYNTHESIS, MATHS)]
    wanted = [(step, name, TRAINING) for step, name in training] + [(PAIRS, name, PAIR) for name in PAIR_TABLES]
    wanted += [(step, "rejects", REJECT) for step in found]
    known = [(step, name, kind, path) for step, name, kind in wanted if (path := path_of(found, step, name))]
    rows = [rows_in(path) or 0 for *_, path in known]
    total = max(1, sum(rows))
    kept = [min(count, max(FEW, limit * count // total)) for count in rows]
    return [Table(*one, count, some) for one, count, some in zip(known, rows, kept, strict=True)]


def fates(found: Found, ids: set[str]) -> dict[str, list[Row]]:
    """{id: its places {step, table, rule, detail} in the order of the steps} of these ids, in all tables of rows."""
    places: dict[str, list[Row]] = {}
    for step, done in found.items():
        for name in done["outputs"]:
            path = path_of(found, step, name)
            if path is None or path.suffix != ".parquet" or "id" not in (columns := stored_schema(path).names):
                continue
            wanted = [column for column in ("id", "rule", "detail") if column in columns]
            for row in iter_rows(path, wanted):
                if row["id"] in ids:
                    place = {"step": step, "table": path.stem, "rule": "", "detail": ""} | row
                    places.setdefault(row["id"], []).append(place)
    return places


def pairs_of(found: Found, ids: set[str]) -> dict[str, list[str]]:
    """{id: ids of the pairs that name it as a parent}."""
    children: dict[str, list[str]] = {}
    paths = [path for name in PAIR_TABLES if (path := path_of(found, PAIRS, name))]
    for row in (row for path in paths for row in iter_rows(path, ["id", "parents"])):
        for parent in ids.intersection(row["parents"] or ()):
            children.setdefault(parent, []).append(row["id"])
    return children


def fate_lines(places: list[Row], children: list[str], done: Found) -> list[Row]:
    """What became of a row, step by step: {step, what, detail, pair}; trained on where 05 or 07 had it and kept it."""
    lines = [
        {"step": place["step"], "what": _what(place), "detail": place["detail"] or "", "pair": ""} for place in places
    ]
    tables = {(place["step"], place["table"]) for place in places}
    steps = {place["step"] for place in places}
    for source, name, reader in ((FILTERING, "base", SFT), (PAIRS, "preferences", DPO)):
        if (source, name) in tables and reader in done and reader not in steps:
            stages = "both stages" if (FILTERING, "refined") in tables else "the base stage"
            what = f"trained on, in {stages}" if reader == SFT else "trained on"
            lines.append(
                {"step": reader, "what": what, "detail": "read there, neither held out nor rejected", "pair": ""}
            )
    lines += [{"step": PAIRS, "what": "made into the pair", "detail": "", "pair": child} for child in children]
    return sorted(lines, key=lambda line: line["step"])


def _what(place: Row) -> str:
    if place["rule"]:
        return f"rejected by the rule {place['rule']}"
    kept = {"conversations": "written", "preferences": "written", "base": "kept in the base set"}
    kept |= {"refined": "chosen for the refined set", "held_out": "held out, never trained on"}
    return kept.get(place["table"], f"in the table {place['table']}")
