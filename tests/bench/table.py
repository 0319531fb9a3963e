"""The table of docs/benchmarks.md, from results/*.json: python tests/bench/table.py --write

Only lines with a target or a peer; a missed target is printed as one.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- tests/bench/table.py -->\n", "<!-- end -->"
HEAD = "| bench | what | median | target | beside, in the same run |\n|---|---|---|---|---|\n"


def table() -> str:
    """All lines as Markdown."""
    found = ""
    for path in sorted((ROOT / "tests" / "bench" / "results").glob("*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        found += "".join(line(path.stem, row) for row in rows if row["target"] is not None or row["peer"])
    return HEAD + found


def line(bench: str, row: dict[str, Any]) -> str:
    """One line: an unmet target says so."""
    target = peer = ""
    if row["target"] is not None:
        more = row["higher_is_better"]
        met = row["value"] >= row["target"] if more else row["value"] <= row["target"]
        target = f"{'≥' if more else '≤'} {row['target']:,g}{'' if met else ', **missed**'}"
    if row["peer"]:
        peer = f"{row['peer']}: {row['peer_value']:,g}, ratio {row['ratio']:g}"
    return f"| {bench} | {row['metric']} | {row['value']:,g} {row['unit']} | {target} | {peer} |\n"


def written(page: str) -> str:
    """The page with its table renewed."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + rest[rest.index(END) :]


if __name__ == "__main__":
    path = ROOT / "docs" / "benchmarks.md"
    if sys.argv[1:] == ["--write"]:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table(), end="")
