"""Figures of differences, one dot with its interval a line: of this run's models, and of the published tables."""

import numpy as np
from matplotlib.figure import Figure

from kyara_utils.report.plots_eval import warning
from kyara_utils.report.style import (
    INK,
    canvas,
    count,
    errors,
    figure_of,
    model_colours,
    names,
    numbers,
    title,
    wrapped,
)
from kyara_utils.runs.tables import Row

MOST = 30  # rows of a forest that can still be read


@figure_of
def paired_differences(rows: list[Row], miniature: bool = True) -> Figure:
    """Rows of differences.csv {benchmark, metric (optional), model_a, model_b, n, difference, low, high} → dot and 95 %
    interval each, in points of 100, with a line at no difference; `miniature` as in `benchmark_scores`.

    Of more than `MOST` rows one metric of each benchmark is drawn."""
    rows, left = _main_metrics(rows) if len(rows) > MOST else (rows, 0)
    values = {column: 100 * numbers(rows, column) for column in ("difference", "low", "high")}
    labels = [
        wrapped(f"{benchmark.replace('_', ' ')} {row.get('metric') or ''}".strip() + f": {a} − {b}, n = {n}", 48)
        for row, benchmark, a, b, n in zip(
            rows, *(names(rows, column) for column in ("benchmark", "model_a", "model_b", "n")), strict=True
        )
    ]
    colours = model_colours(names(rows, "model_a"))
    figure = _forest(labels, values, [colours[name] for name in names(rows, "model_a")])
    figure.axes[0].set_xlabel("difference of the shares right, in points")
    more = f"{left} differences of other metrics are in the table alone." if left else ""
    title(figure, _apart(values, "paired differences"), f"{more} {warning(rows, miniature)}".strip())
    return figure


def _main_metrics(rows: list[Row]) -> tuple[list[Row], int]:
    """Rows of one metric for each benchmark, F1 or the first, and how many are left out."""
    metrics: dict[str, list[str]] = {}
    for row in rows:
        metrics.setdefault(str(row["benchmark"]), []).append(str(row.get("metric") or ""))
    chosen = {benchmark: "f1" if "f1" in mine else mine[0] for benchmark, mine in metrics.items()}
    kept = [row for row in rows if str(row.get("metric") or "") == chosen[str(row["benchmark"])]]
    return kept, len(rows) - len(kept)


@figure_of
def published_differences(rows: list[Row]) -> Figure:
    """Rows of claims.csv {label, model_a, model_b, difference, low, high, se} → dot and 95 % interval each, in standard
    errors, since points of an exam and of a judge share no scale. Scores without a known error are left out, and so are
        the parts of a benchmark (label `name: part`) but for its overall score: the table has them all."""
    whole = [row for row in rows if ":" not in str(row["label"]) or str(row["label"]).endswith(": Overall")] or rows
    parts, rows = len(rows) - len(whole), whole
    error = numbers(rows, "se")
    known = [row for row, one in zip(rows, error, strict=True) if one > 0]
    values = {column: numbers(known, column) / error[error > 0] for column in ("difference", "low", "high")}
    labels = [wrapped(f"{row['label']} {_script(row['model_a'])}".strip() + _size(row), 48) for row in known]
    figure = _forest(labels, values, [INK] * len(known))
    figure.axes[0].set_xlabel("published difference in standard errors (some assumed, see the table)")
    what = f"published differences to {rows[0]['model_b']}"
    left_out = f" {count(parts, 'part')} of benchmarks left out." if parts else ""
    title(figure, _apart(values, what), f"Kyara's model card; errors as in the claims check.{left_out}")
    return figure


def _size(row: Row) -> str:
    return f", n = {row['n']}" if row.get("n") not in ("", None) else ""


def _script(model: str) -> str:
    return f"({model[-3:]})" if model.endswith(("-CHT", "-CHS")) else ""


def _forest(labels: list[str], values: dict[str, np.ndarray], colours: list[str]) -> Figure:
    height = 0.24 if not any("\n" in label for label in labels) else 0.34
    figure, (axes,) = canvas(1.1 + height * max(len(labels), 3))
    middle = values["difference"]
    ends = errors(middle, values["low"], values["high"])
    for position, (at, colour) in enumerate(zip(middle, colours, strict=True)):
        apart = values["low"][position] > 0 or values["high"][position] < 0
        shape = {"marker": "o", "markersize": 4, "markerfacecolor": colour if apart else "white", "color": colour}
        axes.errorbar(at, position, xerr=ends[:, position : position + 1], linewidth=1.1, capsize=2, **shape)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.tick_params(axis="y", length=0)
    return figure


def _apart(values: dict[str, np.ndarray], what: str) -> str:
    known = ~np.isnan(values["low"]) & ~np.isnan(values["high"])
    apart = int(((values["low"] > 0) | (values["high"] < 0)).sum())
    return f"{apart} of {int(known.sum())} {what} exclude zero (filled dots)"
