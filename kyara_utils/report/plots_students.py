"""Figures of what training made of the student: rounds of DPO, and the test whether it answers, stops, keeps form."""

import math

import numpy as np
from matplotlib.figure import Figure

from kyara_utils.report.style import (
    INK,
    MODEL_COLOURS,
    canvas,
    count,
    figure_of,
    model_colours,
    names,
    numbers,
    percent,
    title,
)
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson


@figure_of
def rounds(rows: list[Row]) -> Figure:
    """Rows {round, model, held_out, final_margin, pairs}, round 0 before DPO → held-out loss and margin by round."""
    at, loss, margin = (numbers(rows, column) for column in ("round", "held_out", "final_margin"))
    figure, (left, right) = canvas(2.8, 1, 2)
    for axes, values, name in ((left, loss, "held-out loss (nats per token)"), (right, margin, "reward margin")):
        axes.plot(at, values, color=MODEL_COLOURS["dpo"], marker="o", markersize=4)
        for x, y in zip(at, values, strict=True):
            if not math.isnan(y):
                label = {"textcoords": "offset points", "ha": "center", "size": 7.5, "color": INK}
                axes.annotate(f"{y:.3g}", (x, y), (0, 6), bbox={"fc": "white", "ec": "none", "pad": 0.5}, **label)
        axes.set(xlabel="round (0: before DPO)", ylabel=name, xlim=(-0.4, at.max() + 0.4))
        axes.set_xticks(np.unique(at))
        axes.margins(y=0.25)
    left.set_ylim(0, 1.25 * np.nanmax(loss, initial=0.1))
    right.set_title("over the round's own pairs, after it")
    right.axhline(0, color=INK, linestyle=":", linewidth=0.8)
    last = count(at.max(), "round")
    title(figure, f"Held-out loss goes from {loss[0]:.2f} to {loss[-1]:.2f} in {last} of DPO; the last margin is "
                  f"{margin[-1]:.2f}")  # fmt: skip
    return figure


@figure_of
def generation(rows: list[Row]) -> Figure:
    """Rows {model, check, passed, n} → share of answers that pass each check of the generation test, by model."""
    models, checks = (list(dict.fromkeys(names(rows, column))) for column in ("model", "check"))
    colours, passed, n = model_colours(models), numbers(rows, "passed"), numbers(rows, "n")
    figure, (axes,) = canvas(1.3 + 0.3 * len(rows))
    height = 0.8 / len(models)
    for row, good, of in zip(rows, passed, n, strict=True):
        model = str(row["model"])
        y = checks.index(str(row["check"])) + height * (models.index(model) - (len(models) - 1) / 2)
        axes.barh(y, good / of, height=0.9 * height, color=colours[model])
        low, high = wilson(good, int(of)) if of > 0 and not math.isnan(good) else (math.nan, math.nan)
        axes.plot([low, high], [y, y], color=INK, linewidth=0.9)
        at = (np.nanmax([good / of, high, 0]), y)
        axes.annotate(f"{good:.0f} of {of:.0f}", at, (4, 0), textcoords="offset points", va="center", size=7.5)
    axes.set_yticks(range(len(checks)), [check.replace("_", " ") for check in checks])
    axes.set(ylim=(len(checks) - 0.5, -0.5), xlim=(0, 1.2), xlabel="share of answers, with its 95 % interval")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    handles = [axes.barh(0, 0, color=colours[model], label=model) for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(models))
    title(figure, _generation_finding(rows, models[-1], passed / n))
    return figure


def _generation_finding(rows: list[Row], model: str, shares: np.ndarray) -> str:
    pairs = zip(rows, shares, strict=True)
    by_check = {str(row["check"]): percent(share) for row, share in pairs if row["model"] == model}
    parts = [f"{share} {check.replace('_', ' ')}" for check, share in by_check.items()]
    return f"Answers of {model}: {', '.join(parts)}"
