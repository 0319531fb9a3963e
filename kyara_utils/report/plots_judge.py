"""Figures of the judge that made the preferences: does it agree with itself, and what does it favour besides
quality?"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kyara_utils.report.style import (
    FAINT,
    INK,
    MODEL_COLOURS,
    Row,
    canvas,
    count,
    figure_of,
    names,
    numbers,
    percent,
    title,
)

VERDICTS = ("A", "C", "B")
SWAPPED = {"A": "B", "B": "A", "C": "C"}


def _confusion(forward: list[str], reverse: list[str]) -> np.ndarray:
    """3 × 3 counts over VERDICTS, both as preferred answer; verdicts that could not be read are left out."""
    table = np.zeros((3, 3), int)
    for first, second in zip(forward, reverse, strict=True):
        if first in SWAPPED and second in SWAPPED:
            table[VERDICTS.index(first), VERDICTS.index(SWAPPED[second])] += 1
    return table


def kappa(table: np.ndarray) -> float:
    """Cohen's kappa (1960) of a square table of counts; NaN where chance agreement is already complete or n
    is 0."""
    n = table.sum()
    if n == 0:
        return math.nan
    observed, chance = np.trace(table) / n, (table.sum(0) * table.sum(1)).sum() / n**2
    return math.nan if chance == 1 else float((observed - chance) / (1 - chance))


@figure_of
def judge_agreement(rows: list[Row]) -> Figure:
    """Rows {verdict_forward, verdict_reverse, margin_forward, margin_reverse} → confusion after swapping, and
    margins.

    Verdicts (A|B|C) and margins (first minus second, nats) are as the judge saw them in each order, so a
    judge without position bias gives A then B, and margins of opposite sign.
    """
    forward, reverse = names(rows, "verdict_forward"), names(rows, "verdict_reverse")
    table = _confusion(forward, reverse)
    figure, (left, right) = canvas(3.2, 1, 2, width_ratios=(1, 1.15))
    _draw_confusion(left, table)
    _draw_margins(right, numbers(rows, "margin_forward"), numbers(rows, "margin_reverse"))
    decided = [verdict for verdict in forward + reverse if verdict in "AB" and verdict]
    first, n, same = decided.count("A") / (len(decided) or math.nan), table.sum(), np.trace(table)
    unread = len(rows) - n
    agreement = f"{percent(same / n if n else math.nan)} of {count(n, 'pair')} (κ = {kappa(table):.2f})"
    note = f"{count(unread, 'pair')} with an unreadable verdict left out" if unread else ""
    title(
        figure,
        f"After swapping, the judge agrees with itself on {agreement}; "
        f"{percent(first)} of its decisions favour the first position",
        note,
    )
    return figure


def _draw_confusion(axes: Axes, table: np.ndarray) -> None:
    shares = table / max(table.max(), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)
    for (row, column), value in np.ndenumerate(table):
        axes.text(column, row, count(value), ha="center", va="center", color=INK, size=9)
    labels = ["answer 1", "tie", "answer 2"]
    axes.set_xticks(range(3), labels)
    axes.set_yticks(range(3), labels, rotation=90, va="center")
    axes.set(xlabel="preferred with answer 2 first", ylabel="preferred with answer 1 first", title="verdicts")
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _draw_margins(axes: Axes, forward: np.ndarray, reverse: np.ndarray) -> None:
    known = np.isfinite(forward) & np.isfinite(reverse)
    forward, reverse = forward[known], reverse[known]
    reach = 1.1 * max(np.abs(np.concatenate([forward, reverse])).max(initial=0), 0.1)
    axes.plot([-reach, reach], [reach, -reach], color=FAINT, linewidth=1)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.plot(forward, reverse, ".", color=MODEL_COLOURS["sft"], alpha=0.5, markersize=5, markeredgewidth=0)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="margin, answer 1 first (nats)")
    axes.set(ylabel="margin, answer 2 first (nats)")
    bias = (forward + reverse).mean() / 2 if len(forward) else math.nan
    axes.set_title(f"first − second: bias {bias:+.2f} (line: no bias), n = {count(len(forward))}")


@figure_of
def length_difference(rows: list[Row]) -> Figure:
    """Rows {outcome, chosen_length, rejected_length (characters)} → histogram of chosen − rejected of the
    chosen pairs."""
    kept = [row for row, outcome in zip(rows, names(rows, "outcome"), strict=True) if outcome == "chosen"]
    values = numbers(kept, "chosen_length") - numbers(kept, "rejected_length") if kept else np.array([])
    values = values[~np.isnan(values)]
    figure, (axes,) = canvas(2.8)
    reach = max(np.abs(values).max(initial=0), 10)
    axes.hist(values, np.linspace(-reach, reach, 42), color="#44AA99")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="chosen − rejected (characters)", ylabel="pairs")
    if not len(values):
        axes.set_ylim(0, 1)
        title(figure, f"No pair of {count(len(rows), 'judged pair')} has a chosen answer")
        return figure
    middle = np.median(values)
    axes.axvline(middle, color=MODEL_COLOURS["dpo"], linestyle="--", linewidth=1.2)
    longer = f"{percent((values > 0).mean())} of {count(len(values), 'pair')}"
    title(
        figure, f"The chosen answer is the longer one in {longer} (median {middle:+,.0f} characters, dashed)"
    )
    return figure
