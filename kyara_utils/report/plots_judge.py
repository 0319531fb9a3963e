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
    canvas,
    count,
    figure_of,
    names,
    numbers,
    title,
    with_interval,
)
from kyara_utils.runs.tables import Row
from kyara_utils.stats.kappa import cohen_kappa

VERDICTS = ("A", "C", "B")


def _confusion(forward: list[str], reverse: list[str]) -> np.ndarray:
    """3 × 3 counts over VERDICTS; pairs with a verdict that could not be read are left out."""
    table = np.zeros((3, 3), int)
    for first, second in zip(forward, reverse, strict=True):
        if first in VERDICTS and second in VERDICTS:
            table[VERDICTS.index(first), VERDICTS.index(second)] += 1
    return table


@figure_of
def judge_agreement(rows: list[Row]) -> Figure:
    """Rows {verdict_forward, verdict_reverse, margin_forward, margin_reverse} → confusion of both orders,
    margins.

    Verdicts (A|B|C) and margins (nats in favour of answer A) name the answers, not the positions they were
    shown in: A was shown first in the forward order, B in the reverse one. A consistent judge repeats verdict
    and sign.
    """
    forward, reverse = names(rows, "verdict_forward"), names(rows, "verdict_reverse")
    table = _confusion(forward, reverse)
    figure, (left, right) = canvas(3.2, 1, 2, width_ratios=(1, 1.15))
    _draw_confusion(left, table)
    _draw_margins(right, numbers(rows, "margin_forward"), numbers(rows, "margin_reverse"))
    favoured = [v == "A" for v in forward if v in ("A", "B")] + [v == "B" for v in reverse if v in ("A", "B")]
    n, same = table.sum(), np.trace(table)
    unread = len(rows) - n
    kappa = cohen_kappa(*([one if one in VERDICTS else None for one in side] for side in (forward, reverse)))
    agreement = f"{with_interval(same, n)} of {count(n, 'pair')} (κ = {kappa:.2f})"
    note = f"{count(unread, 'pair')} with an unreadable verdict left out" if unread else ""
    title(
        figure,
        f"After swapping, the judge agrees with itself on {agreement}; {with_interval(sum(favoured), len(favoured))} "
        f"of its {count(len(favoured), 'decision')} favour the first position",
        note,
    )
    return figure


def _draw_confusion(axes: Axes, table: np.ndarray) -> None:
    shares = table / max(table.max(), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)
    for (row, column), value in np.ndenumerate(table):
        axes.text(
            column,
            row,
            count(value),
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.6 else INK,
            size=9,
        )
    labels = ["answer A", "tie", "answer B"]
    axes.set_xticks(range(3), labels)
    axes.set_yticks(range(3), labels, rotation=90, va="center")
    axes.set(xlabel="preferred with B shown first", ylabel="preferred with A shown first", title="verdicts")
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _draw_margins(axes: Axes, forward: np.ndarray, reverse: np.ndarray) -> None:
    known = np.isfinite(forward) & np.isfinite(reverse)
    forward, reverse = forward[known], reverse[known]
    reach = 1.1 * max(np.abs(np.concatenate([forward, reverse])).max(initial=0), 0.1)
    axes.plot([-reach, reach], [-reach, reach], color=FAINT, linewidth=1)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.plot(forward, reverse, ".", color=MODEL_COLOURS["sft"], alpha=0.5, markersize=5, markeredgewidth=0)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="margin for A, A shown first (nats)")
    axes.set(ylabel="margin for A, B shown first (nats)")
    varied = len(forward) > 1 and forward.std() > 0 and reverse.std() > 0
    alike = f"r = {np.corrcoef(forward, reverse)[0, 1]:.2f}" if varied else "r unknown"
    axes.set_title(f"margins of both orders: {alike}, n = {count(len(forward))} (line: equal)")


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
    longer = f"{with_interval((values > 0).sum(), len(values))} of {count(len(values), 'pair')}"
    title(figure, f"The chosen answer is the longer one in {longer} (median {middle:+,.0f} characters, dashed)")
    return figure


@figure_of
def scorer_agreement(rows: list[Row]) -> Figure:
    """Rows {left, right, rho, rows}: Spearman's rank correlation of each pair → the table of them all.

    The first scorer is the one that chooses. A pair that could not be computed stays empty.
    """
    labels = list(dict.fromkeys([*names(rows, "left"), *names(rows, "right")]))
    table = np.full((len(labels), len(labels)), np.nan)
    pairs = zip(names(rows, "left"), names(rows, "right"), numbers(rows, "rho"), strict=True)
    for left, right, rho in pairs:
        at = labels.index(left), labels.index(right)
        table[at] = table[at[::-1]] = rho
    figure, (axes,) = canvas(1.2 + 0.55 * len(labels))
    axes.imshow(table, cmap="RdBu", vmin=-1.4, vmax=1.4)
    for (row, column), rho in np.ndenumerate(table):
        if not math.isnan(rho):
            axes.text(column, row, f"{rho:+.2f}", ha="center", va="center", color=INK)
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(visible=False)
    strongest = int(np.nan_to_num(np.abs(table[0]), nan=-1).argmax())
    finding = f"{labels[0]} goes most with {labels[strongest]} (ρ = {table[0, strongest]:+.2f})"
    nothing = bool(np.isnan(table[0]).all())
    title(figure, f"{labels[0]} can be compared with nothing here" if nothing else finding)
    return figure
