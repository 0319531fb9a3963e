"""Figures of what can be scored by rule: benchmarks and retrieval.

A difference of two models is worth a title only with its interval, so titles say when intervals overlap.
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kyara_utils.report.style import (
    INK,
    WIDTH,
    canvas,
    cells_of,
    errors,
    figure_of,
    model_colours,
    names,
    part_colours,
    percent,
    title,
    wrapped,
)
from kyara_utils.runs.tables import Row

MINIATURE = "Miniature sets, no benchmark scores."
WHISKERS = "Whiskers: 95 %, unscored items included either way."
CHANCE = {"multiple_choice": 0.25}


def _grouped_bars(axes: Axes, rows: list[Row], outer: str, inner: str, colours: dict[str, str]) -> None:
    """One group of bars for each `outer` name, one bar for each `inner`, in %."""
    cells, groups = cells_of(rows, outer, inner), list(dict.fromkeys(names(rows, outer)))
    bars = [name for name in colours if name in names(rows, inner)]
    width = 0.8 / max(len(bars), 3)
    for index, bar in enumerate(bars):
        for position, group in enumerate(groups):
            if (group, bar) in cells:
                at = position + (index - (len(bars) - 1) / 2) * width
                _bar(axes, at, width, cells[(group, bar)], colours[bar])
    sizes = {row[outer]: row.get("n", "") for row in rows}
    labels = [f"{wrapped(group.replace('_', ' '), 14)}\nn = {sizes[group]}" for group in groups]
    axes.set_xticks(range(len(groups)), labels)
    axes.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, 112), yticks=range(0, 101, 25))
    axes.tick_params(axis="x", length=0)


def _bar(axes: Axes, at: float, width: float, cell: Row, colour: str) -> None:
    value, low, high = (100 * cell[column] for column in ("value", "low", "high"))
    if math.isnan(value):
        axes.annotate("n/a", (at, 0), (0, 2), textcoords="offset points", ha="center", size=6, color=colour)
        return
    axes.bar(at, value, width * 0.92, color=colour)
    whisker = errors(np.array([value]), np.array([low]), np.array([high]))
    axes.errorbar(at, value, yerr=whisker, color=INK, linewidth=0.9, capsize=1.5)
    # On the bar but beside its whisker, whose end is not the value.
    axes.annotate(f"{value:.0f}", (at + 0.24 * width, value), (0, 1), textcoords="offset points", ha="center", size=6)


def _overlap(a: Row, b: Row) -> str:
    ends = (a["low"], a["high"], b["low"], b["high"])
    if any(math.isnan(end) for end in ends):
        return "interval unknown"
    return "intervals overlap" if a["low"] <= b["high"] and b["low"] <= a["high"] else "intervals apart"


@figure_of
def benchmark_scores(rows: list[Row], miniature: bool = True) -> Figure:
    """Rows of scores.csv → one panel per benchmark (`pairwise` has its own figure), bars by model.

    `miniature` adds the warning that belongs under the bundled sets (rows without a `dataset`); a line marks chance
    level where it is known.
    """
    rows = [row for row, benchmark in zip(rows, names(rows, "benchmark"), strict=True) if benchmark != "pairwise"]
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(str(row["benchmark"]), []).append(row)
    colours, lines = model_colours(row["model"] for row in rows), _pack(by)
    figure = Figure(figsize=(WIDTH, 1.2 + 1.9 * max(len(lines), 1)))
    for line, cells in zip(lines, figure.add_gridspec(max(len(lines), 1), 1), strict=False):
        widths = [len({row["metric"] for row in by[benchmark]}) for benchmark in line]
        for benchmark, cell in zip(line, cells.subgridspec(1, len(line), width_ratios=widths), strict=True):
            axes = figure.add_subplot(cell)
            _grouped_bars(axes, by[benchmark], "metric", "model", colours)
            axes.set(title=benchmark.replace("_", " "), ylabel="% right")
            if benchmark in CHANCE:
                axes.axhline(100 * CHANCE[benchmark], color=INK, linestyle=":", linewidth=1)
                axes.annotate(
                    " chance",
                    (1, 100 * CHANCE[benchmark]),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    size=6.5,
                )
    figure.legend(
        handles=[Patch(color=colours[model], label=model) for model in colours],
        loc="outside lower center",
        ncols=max(len(colours), 1),
    )
    title(figure, _score_finding(rows), f"{warning(rows, miniature)} {WHISKERS}".strip())
    return figure


def warning(rows: list[Row], miniature: bool) -> str:
    """Which sets are miniatures, by name where not all are."""
    if not miniature:
        return ""
    small = dict.fromkeys(str(row["benchmark"]).replace("_", " ") for row in rows if not row.get("dataset"))
    if len(small) == len({str(row["benchmark"]) for row in rows}):
        return MINIATURE
    return f"{MINIATURE[:-1]}: {', '.join(small)}." if small else ""


def _pack(by: dict[str, list[Row]], most: int = 6) -> list[list[str]]:
    """Benchmarks in lines of at most `most` groups of bars, so that labels keep their room."""
    lines: list[list[str]] = []
    room = 0
    for benchmark, rows in by.items():
        groups = len({row["metric"] for row in rows})
        if groups > room:
            lines.append([])
            room = most
        lines[-1].append(benchmark)
        room -= groups
    return lines


def _score_finding(rows: list[Row]) -> str:
    if not rows:
        return "No benchmark was scored"
    benchmark, metric = str(rows[0]["benchmark"]), str(rows[0]["metric"])
    part = [row for row in rows if str(row["benchmark"]) == benchmark and str(row["metric"]) == metric]
    cells = list(cells_of(part, "metric", "model").items())
    (_, first), before = cells[0]
    (_, last), after = cells[-1]
    name, n = f"{benchmark.replace('_', ' ').capitalize()} ({metric})", after.get("n", "?")
    if first == last:
        return f"{name}: {last} {percent(after['value'], 1)} right (n = {n})"
    versus = f"{last} {percent(after['value'], 1)} against {first} {percent(before['value'], 1)}"
    return f"{name}: {versus} (n = {n}, {_overlap(before, after)})"


@figure_of
def retrieval(rows: list[Row]) -> Figure:
    """Rows {mode, metric, value, low, high, n} → bars of each retrieval mode under each metric, with
    intervals."""
    modes = list(dict.fromkeys(names(rows, "mode")))
    colours = part_colours(modes)
    figure, (axes,) = canvas(3.0)
    _grouped_bars(axes, rows, "metric", "mode", colours)
    axes.set_ylabel("% (ndcg × 100)")
    figure.legend(
        handles=[Patch(color=colours[mode], label=mode) for mode in modes],
        loc="outside lower center",
        ncols=len(modes),
    )
    metric = str(rows[0]["metric"])
    part = [row for row in rows if str(row["metric"]) == metric]
    ranked = sorted(cells_of(part, "metric", "mode").items(), key=lambda item: -np.nan_to_num(item[1]["value"]))
    (_, best), cell = ranked[0]
    others = "".join(f", {mode} {percent(other['value'])}" for (_, mode), other in ranked[1:])
    title(figure, f"{best} has the best {metric}: {percent(cell['value'])} of n = {cell.get('n', '?')}{others}")
    return figure
