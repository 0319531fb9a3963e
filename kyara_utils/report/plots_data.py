"""Figures of the data: languages, rounds, lengths, filter funnel, near-duplicates and tags.

Each takes the rows of one CSV in figures/data and returns a figure whose title states what the rows show.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kyara_utils.report.style import (
    FAINT,
    INK,
    MODEL_COLOURS,
    canvas,
    count,
    figure_of,
    horizontal_bars,
    names,
    numbers,
    part_colours,
    percent,
    sentence,
    title,
)
from kyara_utils.runs.tables import Row

LANGUAGES = {
    "zh-Hant": "Traditional Chinese",
    "zh-Hans": "Simplified Chinese",
    "en": "English",
    "mixed": "mixed",
}
BAR = "#44AA99"
LAST_ROUND = 10


def _shares(values: np.ndarray) -> np.ndarray:
    return values / (values.sum() or math.nan)


@figure_of
def language_distribution(rows: list[Row]) -> Figure:
    """Rows {lang, rows} → sorted bars with count and share."""
    rows = sorted(rows, key=lambda row: -float(row["rows"]))
    values, langs = numbers(rows, "rows"), names(rows, "lang")
    labels = [f"{LANGUAGES[lang]} ({lang})" if LANGUAGES.get(lang, lang) != lang else lang for lang in langs]
    shares, total = _shares(values), count(values.sum(), "conversation")
    most = LANGUAGES.get(langs[0], langs[0])
    finding = f"{most[:1].upper()}{most[1:]} makes up {percent(shares[0])} of {total}"
    if len(rows) == 1:
        return sentence(finding)
    figure, (axes,) = canvas(1.1 + 0.32 * len(rows))
    texts = [f"{count(value)} ({percent(share, 1)})" for value, share in zip(values, shares, strict=True)]
    horizontal_bars(axes, labels, values, texts, BAR)
    axes.set_xlabel("conversations")
    title(figure, finding)
    return figure


@figure_of
def conversation_rounds(rows: list[Row]) -> Figure:
    """Rows {rounds, rows} → one bar per number of rounds (user turn and answer), the last one for 10 and
    more."""
    bins = np.zeros(LAST_ROUND + 1)
    for rounds, value in zip(*(np.nan_to_num(numbers(rows, column)) for column in ("rounds", "rows")), strict=True):
        bins[min(int(rounds), LAST_ROUND)] += value
    share, total = bins[1] / (bins.sum() or math.nan), count(bins.sum(), "conversation")
    if np.count_nonzero(bins) == 1 and bins[1]:
        return sentence(f"{percent(share)} of {total} have one round")
    last = max(int(np.flatnonzero(bins).max(initial=1)), 3)
    values, positions = bins[1 : last + 1], np.arange(1, last + 1)
    figure, (axes,) = canvas(2.8)
    bars = axes.bar(positions, values, color=BAR, width=0.7)
    axes.bar_label(bars, [count(value) if value else "" for value in values], padding=2, size=7.5, color=INK)
    axes.set_xticks(positions, [f"{p}+" if p == LAST_ROUND else str(p) for p in positions])
    axes.set(xlabel="rounds", ylabel="conversations")
    axes.margins(y=0.12)
    title(figure, f"{percent(share)} of {total} have one round")
    return figure


@figure_of
def token_lengths(rows: list[Row], max_length: int, tokenizer: str = "") -> Figure:
    """Rows {source, part (prompt|response), tokens}, one a message → log-scale histograms by source.

    `max_length` is the training limit in tokens, drawn as a line; `tokenizer` names what counted them.
    """
    tokens, parts, sources = (
        numbers(rows, "tokens"),
        np.array(names(rows, "part")),
        np.array(names(rows, "source")),
    )
    known = ~np.isnan(tokens)
    tokens, parts, sources = tokens[known], parts[known], sources[known]
    order = sorted(set(sources), key=lambda source: (-(sources == source).sum(), source))
    colours = part_colours(order)
    edges = np.geomspace(1, max(tokens.max(initial=0), max_length, 2) * 1.3, 42)
    figure, panels = canvas(3.9, 2, 1, sharex=True)
    for axes, part in zip(panels, ("prompt", "response"), strict=True):
        values = [np.clip(tokens[(parts == part) & (sources == source)], 1, None) for source in order]
        several, middle = tokens[parts == part], "no rows"
        axes.axvline(max_length, color=MODEL_COLOURS["dpo"], linestyle="--", linewidth=1.2)
        if len(several):
            axes.hist(values, edges, stacked=True, color=list(colours.values()), label=order)
            middle = f"median {np.median(several):,.0f}"
            axes.axvline(np.median(several), color=INK, linestyle=":", linewidth=1.2)
        axes.set(title=f"{part}s: {middle}, n = {count(len(several))}", ylabel="messages", xscale="log")
    ticks = [tick for tick in (1, 10, 100, 1000, 10_000, 100_000) if tick < edges[-1]]
    panels[1].set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panels[1].set_xlabel(f"tokens{f' ({tokenizer})' if tokenizer else ''}, log scale; dotted: median, dashed: limit")
    patches = [Patch(color=colours[source], label=source) for source in order]
    figure.legend(handles=patches, loc="outside right upper", title="source")
    over = (tokens > max_length).mean() if len(tokens) else math.nan
    title(
        figure,
        f"{percent(over, 1)} of {count(len(tokens), 'message')} are longer than {count(max_length, 'token')}",
    )
    return figure


@figure_of
def funnel(rows: list[Row], rules: Sequence[Row] = ()) -> Figure:
    """Rows {stage, source, rows_in, rows_out} in pipeline order → per stage the rows kept by source, and those removed.

    Stages in the middle that removed nothing are named in a note. `rules`: {stage, rule, rows}, what removed them, of
    which the first three are written beside their stage.
    """
    stages, sources = list(dict.fromkeys(names(rows, "stage"))), list(dict.fromkeys(names(rows, "source")))
    before, after = _counts(rows, stages, sources, "rows_in"), _counts(rows, stages, sources, "rows_out")
    came, left = before.sum(1), after.sum(1)
    shown = [place for place in range(len(stages)) if came[place] != left[place] or place in (0, len(stages) - 1)]
    texts = [count(left[place]) + _lost(came[place] - left[place]) for place in shown]
    figure, (axes,) = canvas(1.5 + 0.5 * len(shown))
    horizontal_bars(axes, [stages[place] for place in shown], came[shown], texts, FAINT)
    for position, place in enumerate(shown):
        at = {"xy": (0, position + 0.43), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(_most(stages[place], rules), **at, va="center", size=6, color="#666666")
    _stacked(axes, after[shown], sources)
    axes.set_xlabel("rows kept (and removed) by each stage")
    figure.legend(loc="outside lower center", ncols=min(len(sources) + 1, 5))
    worst = int((came - left).argmax())
    finding = f"{percent(left[-1] / (came[0] or math.nan), 1)} of {count(came[0], 'row')} survive the filters"
    lost = came[worst] - left[worst]
    idle = [stage for place, stage in enumerate(stages) if place not in shown]
    detail = f"; {stages[worst]} removes the most ({count(lost)})" if lost > 0 else ""
    title(figure, finding + detail, f"Removed nothing: {', '.join(idle)}." if idle else "")
    return figure


def _counts(rows: list[Row], stages: list[str], sources: list[str], column: str) -> np.ndarray:
    """(stages, sources) sums of a column."""
    found = np.zeros((len(stages), len(sources)))
    for row, value in zip(rows, np.nan_to_num(numbers(rows, column)), strict=True):
        found[stages.index(str(row["stage"])), sources.index(str(row["source"]))] += value
    return found


def _lost(rows: float) -> str:
    return f" (−{count(rows)})" if rows else ""


def _most(stage: str, rules: Sequence[Row]) -> str:
    """The three rules that removed most at a stage, and how many more there are."""
    mine = sorted((row for row in rules if row["stage"] == stage), key=lambda row: -float(row["rows"]))
    most = [f"{str(row['rule']).replace('_', ' ')} {count(float(row['rows']))}" for row in mine[:3]]
    return ", ".join(most + [count(len(mine) - 3, "more rule")] * (len(mine) > 3))


def _stacked(axes: Axes, values: np.ndarray, sources: list[str]) -> None:
    """Bars of (stages, sources) over those of all rows, source by source."""
    edge, colours = np.zeros(len(values)), part_colours(sources)
    for index, source in enumerate(sources):
        part = values[:, index]
        label = source if part.any() else ""
        axes.barh(np.arange(len(values)), part, left=edge, color=colours[source], height=0.68, label=label)
        edge = edge + part
    axes.barh(0, 0, color=FAINT, label="removed here")


@figure_of
def similarity(rows: list[Row], threshold: float) -> Figure:
    """Rows {similarity} (cosine to the nearest other row) → histogram with the threshold; rows without one
    are left out."""
    values = numbers(rows, "similarity")
    values = values[~np.isnan(values)]
    figure, (axes,) = canvas(2.8)
    low = min(float(np.floor(values.min(initial=threshold) * 10) / 10), threshold - 0.1)
    edges = np.linspace(low, 1.0, 51)
    axes.hist(np.clip(values, low, 1.0), edges, color=BAR)
    axes.axvline(threshold, color=MODEL_COLOURS["dpo"], linestyle="--", linewidth=1.2)
    axes.set_yscale("symlog", linthresh=1)  # starts at zero, as bars must, and still shows a bin of one row
    highest = 10 ** max(1, math.ceil(math.log10(max(np.histogram(values, edges)[0].max(), 1) * 1.2)))
    ticks = [0, *(10**power for power in range(int(math.log10(highest)) + 1))]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.set(ylim=(0, highest), xlabel="similarity to the nearest other row", ylabel="rows, log scale")
    axes.annotate(
        f"threshold {threshold:g} ",
        (threshold, highest),
        (-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=MODEL_COLOURS["dpo"],
        size=7.5,
    )
    share = percent((values >= threshold).mean(), 1) if len(values) else "None"
    title(figure, f"{share} of {count(len(values), 'row')} reach a similarity of {threshold:g} or more")
    return figure


@figure_of
def tag_coverage(rows: list[Row], top: int = 20) -> Figure:
    """Rows {tag, rows, refined_rows} → the most frequent tags: all rows in grey, those refined on top."""
    rows = sorted(rows, key=lambda row: (-float(row["rows"]), str(row["tag"])))
    every, refined = numbers(rows, "rows"), numbers(rows, "refined_rows")
    kept, whole = int((refined > 0).sum()), int((every > 0).sum())
    share = np.nansum(refined) / (np.nansum(every) or math.nan)
    labels, every, refined = names(rows, "tag")[:top], every[:top], refined[:top]
    figure, (axes,) = canvas(1.3 + 0.22 * len(labels))
    texts = [f"{count(r)} of {count(e)}" for e, r in zip(every, np.nan_to_num(refined), strict=True)]
    horizontal_bars(axes, labels, every, texts, FAINT)
    axes.barh(np.arange(len(labels)), np.nan_to_num(refined), color=BAR, height=0.68)
    shown = f"the {len(labels)} most frequent of {count(whole, 'tag')}" if whole > len(labels) else count(whole, "tag")
    axes.set_xlabel(f"rows with the tag: green refined, grey all ({shown})")
    title(
        figure,
        f"The refined set keeps {kept} of {count(whole, 'tag')} with {percent(share)} of the tagged rows",
    )
    return figure
