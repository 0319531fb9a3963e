"""What every benchmark shares: quiet-machine facts, medians over runs, and the one form in which results are kept.

A benchmark is a script `tests/bench/NAME.py`, run by `make bench NAME=x`. It prints its table and writes
`results/NAME.json`: a list of {metric, value, unit, target, higher_is_better, peer, ratio, runs, machine, versions}.
Nothing here passes or fails: wall time on a shared machine proves nothing by itself, the ratio to a peer does.
"""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Result:
    """One line of a benchmark. `value` is the median of `samples`; ratio = value / peer_value, both as measured."""

    metric: str
    unit: str
    samples: list[float]
    target: float | None = None
    higher_is_better: bool = True
    peer: str = ""
    peer_samples: list[float] = field(default_factory=list)
    note: str = ""

    def row(self, packages: Sequence[str]) -> dict[str, Any]:
        """The kept form, with quartiles, machine and versions."""
        value = statistics.median(self.samples)
        peer_value = statistics.median(self.peer_samples) if self.peer_samples else None
        return {
            "metric": self.metric, "value": rounded(value), "unit": self.unit, "target": self.target,
            "higher_is_better": self.higher_is_better, "peer": self.peer,
            "peer_value": rounded(peer_value), "ratio": rounded(value / peer_value) if peer_value else None,
            "runs": len(self.samples), "quartiles": [rounded(q) for q in quartiles(self.samples)], "note": self.note,
            "machine": machine(), "versions": {name: version(name) for name in packages},
        }  # fmt: skip


def rounded(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of fewer than two samples, the sample twice."""
    if len(samples) < 2:
        return samples[0], samples[0]
    cuts = statistics.quantiles(samples, n=4, method="inclusive")
    return cuts[0], cuts[2]


def machine() -> dict[str, Any]:
    """Cores, memory, Python, and the load when asked: a busy machine shows."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)), "memory_gb": round(pages / 2**30),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def publish(name: str, results: Sequence[Result], packages: Sequence[str] = ()) -> None:
    """Print the table and write results/NAME.json; `packages` are the distributions whose versions are kept."""
    rows = [result.row(packages) for result in results]
    for row in rows:
        print(line(row))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def line(row: dict[str, Any]) -> str:
    """One row for people: value, target and whether it is met, peer and ratio."""
    text = f"{row['metric']:<52} {row['value']:>10g} {row['unit']:<10}"
    if row["target"] is not None:
        met = row["value"] >= row["target"] if row["higher_is_better"] else row["value"] <= row["target"]
        text += f" target {'≥' if row['higher_is_better'] else '≤'} {row['target']:g} {'met' if met else 'MISSED'}"
    if row["peer"]:
        text += f" · {row['peer']} {row['peer_value']:g}, ratio {row['ratio']:g}"
    return text + (f" · {row['note']}" if row["note"] else "")
