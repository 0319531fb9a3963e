"""What the notebooks say that is not written by hand: how long a step takes, from the published run, and where the
repository is published, with badges that open the notebook on Colab and Kaggle. While it is not, there are no badges.
"""

import json
import re
from pathlib import Path
from typing import Any

import kyara_utils
from kyara_utils.runs import KyaraError, read_csv
from kyara_utils.runs.files import replace_text
from kyara_utils.runs.params import has_tag

TABLE = Path("figures/data/steps.csv")
PUBLISHED = re.compile(r'^PUBLISHED = "[^"]*"')


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


def badges(address: str, notebook: str) -> str:
    """The line of badges of a notebook (file name without ending) at a GitHub address; empty without one."""
    if not address:
        return ""
    place = f"{address.removeprefix('https://github.com/')}/blob/main/notebooks/{notebook}.ipynb"
    colab = "[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    kaggle = "[![Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
    at_kaggle = f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}"
    return f"{colab}(https://colab.research.google.com/github/{place}) {kaggle}({at_kaggle})\n"


def with_address(notebook: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """Return a notebook (as JSON) whose badges, behind the title, and whose set-up cell name the published address."""
    first, *others = notebook["cells"]
    lines = first["source"]
    if lines[2:3] and lines[2].startswith("[!["):
        lines = [*lines[:2], *lines[4:]]
    if line := badges(address, name):
        lines = [*lines[:2], line, "\n", *lines[2:]]
    return notebook | {"cells": [first | {"source": lines}, *(_addressed(cell, address) for cell in others)]}


def _addressed(cell: dict[str, Any], address: str) -> dict[str, Any]:
    if not has_tag(cell, "setup"):
        return cell
    return cell | {"source": [PUBLISHED.sub(f'PUBLISHED = "{address}"', line) for line in cell["source"]]}


def write_times(root: Path, address: str = kyara_utils.PUBLISHED) -> list[str]:
    """Bring the notebooks in step with the published run and address; return the names of those that changed."""
    times, changed = {row["step"]: row for row in read_csv(root / TABLE)}, []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        notebook = with_address(json.loads(before), path.stem, address)
        notebook = with_time(notebook, times[path.stem]) if path.stem in times else notebook
        after = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
        if after != before:
            replace_text(path, after)
            changed.append(path.stem)
    return changed
