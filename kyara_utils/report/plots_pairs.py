"""Figures of preference pairs, source by source: could DPO learn length from them?"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from kyara_utils.report.style import (
    INK,
    MODEL_COLOURS,
    canvas,
    count,
    figure_of,
    names,
    numbers,
    percent,
    sentence,
    title,
    wrapped,
)
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

SIDES = {"chosen": "#117733", "rejected": "#CC6677"}  # Paul Tol's muted scheme: no colour of a model
WARNING = MODEL_COLOURS["dpo"]


@figure_of
def preference_lengths(rows: list[Row]) -> Figure:
    """Rows {source, pairs, chosen, chosen_low, chosen_high, rejected, … (characters), chosen_longer, warning} → medians
    and middle halves of both sides, and the share of pairs with the longer side chosen; sources without a pair are
    left out."""
    rows = [row for row, pairs in zip(rows, numbers(rows, "pairs"), strict=True) if pairs > 0]
    if not rows:
        return sentence("No source gave a pair")
    labels, pairs = [wrapped(source) for source in names(rows, "source")], numbers(rows, "pairs")
    figure, (left, right) = canvas(1.5 + 0.45 * max(len(rows), 2), 1, 2, sharey=True)
    for offset, side in zip((-0.15, 0.15), SIDES, strict=True):
        _draw_side(left, rows, side, np.arange(len(rows)) + offset)
    left.set_yticks(range(len(rows)), [f"{label}\nn = {count(n)}" for label, n in zip(labels, pairs, strict=True)])
    left.set(ylim=(len(rows) - 0.4, -0.6), xscale="log", xlabel="characters, log scale: median, middle half")
    reach = np.nan_to_num([numbers(rows, f"{side}_{end}") for side in SIDES for end in ("low", "high")], nan=1)
    left.set_xlim(max(reach.min(), 1) / 1.3, max(reach.max(), 2) * 2.5)  # room for the number at the right end
    left.xaxis.set_major_locator(LogLocator(subs=(1,) if reach.max() > 100 * reach.min() else (1, 2, 5)))
    left.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    left.xaxis.set_minor_locator(NullLocator())
    _draw_shares(right, rows)
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    title(figure, _finding(rows))
    return figure


def _draw_side(axes: Axes, rows: list[Row], side: str, at: np.ndarray) -> None:
    middle, *ends = (np.clip(numbers(rows, column), 1, None) for column in (side, f"{side}_low", f"{side}_high"))
    axes.hlines(at, *ends, color=SIDES[side], linewidth=1.4)
    axes.plot(middle, at, "o", color=SIDES[side], markersize=4, label=side)
    for value, end, y in zip(middle, np.fmax(middle, ends[1]), at, strict=True):
        if not math.isnan(value):
            where = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"{value:,.0f}", (end, y), **where, size=7, color=SIDES[side])


def _draw_shares(axes: Axes, rows: list[Row]) -> None:
    shares, pairs = numbers(rows, "chosen_longer"), numbers(rows, "pairs")
    axes.axvline(0.5, color=INK, linestyle=":", linewidth=0.9)
    for at, (share, n, row) in enumerate(zip(shares, pairs, rows, strict=True)):
        if math.isnan(share):
            continue
        low, high = wilson(share * n, int(n))
        colour = WARNING if row["warning"] else INK
        whisker = [[max(share - low, 0)], [max(high - share, 0)]]
        axes.errorbar(share, at, xerr=whisker, fmt="o", color=colour, markersize=4, capsize=2, linewidth=1.1)
        text = f"{percent(share)}{': warning' if row['warning'] else ''}"
        where = {"xytext": (0, 6), "textcoords": "offset points", "size": 7, "color": colour}
        side = "left" if share < 0.15 else "right" if share > 0.85 else "center"
        axes.annotate(text, (share, at), ha=side, **where, bbox={"fc": "white", "ec": "none", "pad": 0.4})
    axes.set(xlim=(-0.16, 1.16), xlabel="pairs whose longer side is chosen, 95 % interval")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


def _finding(rows: list[Row]) -> str:
    shares, pairs = (numbers(rows, column) for column in ("chosen_longer", "pairs"))
    of = f"{count(len(rows), 'source')} ({count(pairs.sum(), 'pair')})"
    warned = [at for at, row in enumerate(rows) if row["warning"]]
    worst = max(warned or range(len(rows)), key=lambda at: np.nan_to_num(abs(shares[at] - 0.5)))
    side, share = ("longer", shares[worst]) if shares[worst] > 0.5 else ("shorter", 1 - shares[worst])
    most = (
        f"most in {rows[worst]['source']}, where the {side} side is chosen in {percent(share)} of {count(pairs[worst])}"
    )
    if warned:
        return f"Warning: in {len(warned)} of {of} DPO may learn length, {most}"
    return f"In none of {of} is one side the longer one often enough for a warning; {most}"
