"""Figures of judged answers: won and lost pairs, and open questions by category."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kyara_utils.report.style import (
    MODEL_COLOURS,
    WIDTH,
    canvas,
    cells_of,
    count,
    figure_of,
    model_colours,
    names,
    numbers,
    percent,
    sentence,
    short,
    text_colour,
    title,
    with_interval,
)
from kyara_utils.runs.tables import Row

TIE = "#ececec"
FEW = 4  # answers of a category, below which its score is that of single answers


@figure_of
def pairwise(rows: list[Row]) -> Figure:
    """Rows {model_a, model_b, wins, ties, losses, n} → 100 % bars, seen from model_a."""
    wins, ties, losses = (numbers(rows, column) for column in ("wins", "ties", "losses"))
    first, second, n = names(rows, "model_a"), names(rows, "model_b"), wins + ties + losses
    figure, (axes,) = canvas(1.3 + 0.42 * len(rows))
    colours, edge = model_colours([*first, *second]), np.zeros(len(rows))
    wins_in, losses_in = [colours[name] for name in first], [colours[name] for name in second]
    for values, shades in ((wins, wins_in), (ties, [TIE] * len(rows)), (losses, losses_in)):
        shares = 100 * np.divide(values, n, out=np.zeros(len(rows)), where=n > 0)
        axes.barh(np.arange(len(rows)), shares, left=edge, color=shades, height=0.62)
        _write_shares(axes, edge + shares / 2, shares, values, shades)
        edge = edge + shares
    labels = [
        f"{short(a, 18)} against {short(b, 18)}, n = {count(k)}\nwins {with_interval(won, k)}"
        for a, b, k, won in zip(first, second, n, wins, strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xticks(range(0, 101, 25), [f"{tick} %" for tick in range(0, 101, 25)])
    axes.invert_yaxis()
    axes.set(
        xlim=(0, 100),
        xlabel="judged pairs: first wins / tie, or verdict changed with the order / second wins",
    )
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    title(figure, _pairwise_finding(first, second, wins, losses, n))
    return figure


def _write_shares(axes: Axes, middle: np.ndarray, shares: np.ndarray, values: np.ndarray, shades: list[str]) -> None:
    for position, (at, share, value) in enumerate(zip(middle, shares, values, strict=True)):
        text = f"{share:.0f} % ({value:.0f})" if share >= 14 else f"{share:.0f} %"
        if share >= 6:  # narrower parts have no room for their number
            axes.text(at, position, text, ha="center", va="center", color=text_colour(shades[position]), size=7.5)


def _pairwise_finding(first: list[str], second: list[str], wins: np.ndarray, losses: np.ndarray, n: np.ndarray) -> str:
    lost = losses[0] / n[0] if n[0] else math.nan
    pairs = f"{count(n[0], 'pair')} against {second[0]}"
    finding = f"{first[0]} wins {with_interval(wins[0], n[0])} and loses {percent(lost)} of {pairs}"
    more = int((wins > losses).sum())
    return finding if len(n) == 1 else f"{finding}; {more} of {len(n)} pairings are won more often than lost"


@figure_of
def open_categories(rows: list[Row], low: float = 1, high: float = 10) -> Figure:
    """Rows {category, model, value, low, high, n} → radar and table of judged scores on a fixed range.

    Where most categories have fewer than `FEW` answers there is no radar: its shape would be that of single answers.
    """
    cells, categories = cells_of(rows, "category", "model"), list(dict.fromkeys(names(rows, "category")))
    order = {model: place for place, model in enumerate(MODEL_COLOURS)}
    models = sorted(dict.fromkeys(names(rows, "model")), key=lambda model: order.get(model, len(order)))
    colours = model_colours(models)
    if np.nanmedian(np.nan_to_num(numbers(rows, "n"))) < FEW:
        few = f"Fewer than {FEW} answers in most categories: no picture by category; open_categories.csv has them."
        return sentence(_category_finding(cells, categories, models), few)
    figure = Figure(figsize=(WIDTH, max(3.9, 1.5 + 0.25 * len(categories))))
    figure.get_layout_engine().set(h_pad=0.09)  # the layout does not count the labels around a polar axis
    left, right = figure.add_gridspec(1, 2, width_ratios=(1.1, 1))
    _radar(figure.add_subplot(left, projection="polar"), cells, categories, colours, (low, high))
    _score_table(figure.add_subplot(right), cells, categories, colours)
    figure.legend(
        handles=[Patch(color=colours[model], label=model) for model in models],
        loc="outside lower center",
        ncols=len(models),
    )
    title(figure, _category_finding(cells, categories, models), f"Judged on a scale of {low:g} to {high:g}.")
    return figure


def _radar(axes: Axes, cells: dict, categories: list[str], colours: dict[str, str], span: tuple[float, float]) -> None:
    angles = np.linspace(0, 2 * math.pi, len(categories), endpoint=False)
    for model, colour in colours.items():
        values = np.array([cells.get((category, model), {}).get("value", math.nan) for category in categories])
        axes.plot([*angles, angles[0]], [*values, values[0]], color=colour, linewidth=1.3, marker=".", markersize=4)
    axes.set(theta_offset=math.pi / 2, theta_direction=-1, ylim=span)
    axes.set_xticks(angles, [short(category, 8) for category in categories])
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = round(math.sin(angle), 6)  # labels beside the circle grow away from it
        label.set_horizontalalignment("center" if side == 0 else "left" if side > 0 else "right")
    axes.set_yticks(
        np.linspace(*span, 4)[1:],
        [f"{tick:g}" for tick in np.linspace(*span, 4)[1:]],
        size=6,
        color="#777777",
    )
    axes.grid(axis="x", visible=True)
    axes.tick_params(axis="x", pad=1)


def _score_table(axes: Axes, cells: dict, categories: list[str], colours: dict[str, str]) -> None:
    axes.axis("off")
    texts = [[_cell_text(cells.get((category, model))) for model in colours] for category in categories]
    sizes = [next((cells[(c, m)].get("n", "") for m in colours if (c, m) in cells), "") for c in categories]
    body = [[short(category, 10), str(n), *text] for category, n, text in zip(categories, sizes, texts, strict=True)]
    table = axes.table(
        body,
        colLabels=["category", "n", *colours],
        bbox=(0, 0.02, 1, 0.96),
        cellLoc="center",
        edges="horizontal",
        colWidths=[0.3, 0.1, *[0.6 / len(colours)] * len(colours)],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for cell in table.get_celld().values():
        cell.set(linewidth=0.4, edgecolor="#bbbbbb")
    for index, colour in enumerate(colours.values()):
        table[0, index + 2].get_text().set_color(colour)


def _cell_text(cell: Row | None) -> str:
    if cell is None or math.isnan(cell["value"]):
        return "–"
    half = (cell["high"] - cell["low"]) / 2
    return f"{cell['value']:.1f}" if math.isnan(half) else f"{cell['value']:.1f} ± {half:.1f}"


def _category_finding(cells: dict, categories: list[str], models: list[str]) -> str:
    first, last = models[0], models[-1]
    values = np.array([[cells.get((c, m), {}).get("value", math.nan) for m in (first, last)] for c in categories])
    both = values[~np.isnan(values).any(axis=1)]
    of = count(len(both), "category", "categories")
    before, after = both.mean(axis=0) if len(both) else (math.nan, math.nan)
    if first == last:
        return f"{last} scores {after:.1f} on average over {of}"
    ahead = int((both[:, 1] > both[:, 0]).sum())
    return f"{last} scores above {first} in {ahead} of {of} (mean {after:.1f} against {before:.1f})"
