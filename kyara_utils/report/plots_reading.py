"""The figure of the main result: what models do with documents that they have not seen in training."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kyara_utils.report.style import INK, WIDTH, figure_of, model_colours, names, numbers, percent, sentence, title
from kyara_utils.runs.tables import Row

PANELS = {  # (benchmark, metric) → words above a panel
    ("open_book", "f1"): "Short answer: its article alone\n(character F1)",
    ("open_book", "f1, distractors"): "Short answer: article among others\n(character F1)",
    ("cited", "correct"): "Answer and its source both right\n(share)",
    ("drcd", "f1"): "DRCD: its paragraph alone\n(character F1)",
    ("drcd", "f1, distractors"): "DRCD: paragraph among others\n(character F1)",
    ("unanswerable", "recall"): "Says that the documents do not answer\n(share of those that do not)",
}
COLUMNS = 3


@figure_of
def reading(rows: list[Row]) -> Figure:
    """Rows of scores.csv → a panel for each measure of `PANELS` that is there, a dot with its interval for each
    model."""
    by = {panel: [row for row in rows if (row["benchmark"], row["metric"]) == panel] for panel in PANELS}
    by = {panel: mine for panel, mine in by.items() if mine}
    if not by:
        return sentence("No questions on documents were asked", "Step 01 set no document aside (unseen_share).")
    models = list(dict.fromkeys(name for mine in by.values() for name in names(mine, "model")))
    lines = -(-len(by) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.9 + lines * (0.6 + 0.2 * len(models))))
    grid = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, (panel, mine) in zip(grid, by.items(), strict=False):
        _panel(axes, PANELS[panel], mine, models)
    for axes in grid[len(by) :]:
        axes.set_visible(False)
    title(figure, _finding(*next(iter(by.items()))), "Dots with 95 % intervals; base is shown worked examples.")
    return figure


def _panel(axes: Axes, words: str, rows: list[Row], models: list[str]) -> None:
    colours, of = model_colours(models), dict(zip(names(rows, "model"), rows, strict=True))
    for place, model in enumerate(models):
        if model not in of:
            continue
        value, low, high = (100 * numbers([of[model]], name)[0] for name in ("value", "low", "high"))
        if np.isnan(value):
            continue
        axes.plot([low, high], [place, place], color=colours[model], linewidth=2, solid_capstyle="butt")
        axes.plot(value, place, "o", color=colours[model], markersize=4.5)
        axes.annotate(
            f"{value:.0f}", (value, place), (0, 3.5), textcoords="offset points", ha="center", size=6, color=INK
        )
    axes.set_yticks(range(len(models)), models)
    axes.set(xlim=(-4, 104), ylim=(len(models) - 0.4, -0.7), xticks=range(0, 101, 25))
    axes.set_title(f"{words}, n = {rows[0]['n']}", size=6.5)
    axes.set_xlabel("%", size=6.5)


def _finding(panel: tuple[str, str], rows: list[Row]) -> str:
    """The first and the last trained model of the first panel."""
    values = dict(zip(names(rows, "model"), numbers(rows, "value"), strict=True))
    first = next(iter(values))
    last = next((name for name in ("dpo", "sft", "sft_base") if name in values), first)
    what = PANELS[panel].replace("\n", " ")
    return f"{what}: {last} {percent(values[last])}, {first} {percent(values[first])} (n = {rows[0]['n']})"
