"""How long a step takes, told in its notebook's first table from the published run, so that no one has to guess it."""

import json
from pathlib import Path
from typing import Any

from kyara_utils.runs import KyaraError, read_csv
from kyara_utils.runs.files import replace_text

TABLE = Path("figures/data/steps.csv")


def time_row(row: dict[str, Any]) -> str:
    """Return the line of a notebook's first table for a row {step, seconds, peak_gb[, cores]} of the published run."""
    seconds = float(row["seconds"])
    time = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
    cores = f" on {row['cores']} CPU cores" if row.get("cores") else ""
    return f"| Time (smoke) | {time}{cores}, peak memory {float(row['peak_gb']):.1f} GB |\n"


def with_time(notebook: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook (as JSON, `source` a list of lines) whose first cell's line on time says what `row` says."""
    first, *others = notebook["cells"]
    if not any(line.startswith("| Time") for line in first["source"]):
        raise KyaraError(f"the first cell of {row['step']} has no line `| Time`; add one to its table")
    lines = [time_row(row) if line.startswith("| Time") else line for line in first["source"]]
    return notebook | {"cells": [first | {"source": lines}, *others]}


def write_times(root: Path) -> list[str]:
    """Bring the notebooks' first tables in step with the published run; return the steps that changed."""
    changed = []
    for row in read_csv(root / TABLE):
        path = root / "notebooks" / f"{row['step']}.ipynb"
        before = path.read_text(encoding="utf-8")
        after = json.dumps(with_time(json.loads(before), row), ensure_ascii=False, indent=1) + "\n"
        if after != before:
            replace_text(path, after)
            changed.append(row["step"])
    return changed
