"""Figures of training: loss and reward curves, held-out loss before and after, and the time each step
took."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kyara_utils.report.style import (
    INK,
    MODEL_COLOURS,
    canvas,
    count,
    errors,
    figure_of,
    horizontal_bars,
    model_colours,
    names,
    numbers,
    percent,
    title,
    wrapped,
)
from kyara_utils.runs.tables import Row

FEW = 40  # steps, below which single packs decide how a curve looks


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about a tenth of the curve, narrower at its ends; NaN is skipped."""
    half = len(values) // 20
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return np.array([np.nan if np.isnan(window).all() else np.nanmean(window) for window in windows])


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, label: str = "") -> None:
    """Raw values thin, their running mean thick; a curve of one step is a dot."""
    known = ~np.isnan(values)
    steps, values = steps[known], values[known]
    if len(values) > 20:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(steps, smooth(values), color=colour, marker="." if len(values) < FEW else "", label=label)
    if label and len(values):
        axes.annotate(f" {label}", (steps[-1], smooth(values)[-1]), color=colour, va="center", size=7.5)


def _looks(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str) -> None:
    """Values known at a few steps alone, as dots on a dashed line."""
    known = ~np.isnan(values)
    if known.any():
        axes.plot(steps[known], values[known], "o--", color=colour, markersize=3, linewidth=1)


def _ends(values: np.ndarray) -> tuple[float, float]:
    smoothed = smooth(values[~np.isnan(values)])
    return (float(smoothed[0]), float(smoothed[-1])) if len(smoothed) else (math.nan, math.nan)


@figure_of
def sft_curve(rows: list[Row]) -> Figure:
    """Rows {stage (base|refined), step, loss, learning_rate} → loss and learning rate, one column a stage."""
    stages = list(dict.fromkeys(names(rows, "stage")))
    figure, panels = canvas(3.6, 2, len(stages), height_ratios=(3, 1), sharex="col", sharey="row")
    colours, findings = {"base": MODEL_COLOURS["sft_base"], "refined": MODEL_COLOURS["sft"]}, []
    for column, stage in enumerate(stages):
        part = [row for row in rows if str(row["stage"]) == stage]
        steps, loss, colour = numbers(part, "step"), numbers(part, "loss"), colours.get(stage, INK)
        upper, lower = panels[column], panels[len(stages) + column]
        _curve(upper, steps, loss, colour)
        upper.set_title(f"{stage} stage, {count(len(part), 'logged step')}")
        lower.plot(
            steps,
            numbers(part, "learning_rate"),
            color=colour,
            linewidth=1,
            marker="." if len(part) < 3 else "",
        )
        lower.set_xlabel("step")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        findings.append("{:.2f} to {:.2f} in the {} stage".format(*_ends(loss), stage))
    panels[0].set_ylabel("training loss (nats per token)")
    panels[len(stages)].set(ylabel="learning rate")
    few = (
        "So few packs differ more by their rows than by what was learned; held_out tells that."
        if len(rows) < FEW
        else ""
    )
    title(figure, f"Training loss goes from {', '.join(findings)}", few)
    return figure


@figure_of
def dpo_curve(rows: list[Row]) -> Figure:
    """Rows {step, loss, accuracy, margin, chosen_reward, rejected_reward} and the last four with `held_out_` before
    them, of pairs that were not trained on → four panels over the steps."""
    steps, colour = numbers(rows, "step"), MODEL_COLOURS["dpo"]
    figure, (loss, accuracy, margin, rewards) = canvas(4.2, 2, 2, sharex=True)
    for axes, column in ((loss, "loss"), (accuracy, "accuracy"), (margin, "margin")):
        _curve(axes, steps, numbers(rows, column), colour)
    for axes, column in ((accuracy, "accuracy"), (margin, "margin")):
        _looks(axes, steps, numbers(rows, f"held_out_{column}"), INK)
    for side, tint in (("chosen", "#009E73"), ("rejected", "#882255")):
        _looks(rewards, steps, numbers(rows, f"held_out_{side}_reward"), tint)
    loss.axhline(math.log(2), color=INK, linestyle=":", linewidth=0.8)
    loss.set_title("loss (dotted: ln 2, no preference learned)")
    accuracy.axhline(0.5, color=INK, linestyle=":", linewidth=0.8)
    accuracy.set(ylim=(0, 1.03), title="reward accuracy (dotted: chance)")
    margin.axhline(0, color=INK, linestyle=":", linewidth=0.8)
    margin.set(title="reward margin (dashed: held-out pairs)", xlabel="step")
    _curve(rewards, steps, numbers(rows, "chosen_reward"), "#009E73", "chosen")
    _curve(rewards, steps, numbers(rows, "rejected_reward"), "#882255", "rejected")
    rewards.axhline(0, color=INK, linestyle=":", linewidth=0.8)
    rewards.set(title="implicit rewards", xlabel="step")
    rewards.margins(x=0.16)
    late, unseen = max(1, len(rows) // 3), numbers(rows, "held_out_accuracy")
    share, wide = (_mean(numbers(rows, column)[-late:]) for column in ("accuracy", "margin"))
    unseen = unseen[~np.isnan(unseen)]
    held = f"{percent(unseen[-1])} of held-out pairs" if len(unseen) else "no pair was held out"
    title(
        figure,
        f"In the last {late} of {count(np.nanmax(steps), 'step')} DPO puts chosen above rejected in {percent(share)} "
        f"of the training pairs ({held}), with a mean margin of {wide:.2f}",
        "Each step is one batch of training pairs: what the model was just shown, not a test." if late < FEW else "",
    )
    return figure


def _mean(values: np.ndarray) -> float:
    return math.nan if np.isnan(values).all() else float(np.nanmean(values))


@figure_of
def held_out(rows: list[Row]) -> Figure:
    """Rows {model, split, loss, low, high, n} → loss on text kept out of training, before and after."""
    models, splits = list(dict.fromkeys(names(rows, "model"))), list(dict.fromkeys(names(rows, "split")))
    colours = model_colours(models)
    figure, (axes,) = canvas(1.5 + 0.34 * len(splits) * max(1, len(models) / 2))
    loss = numbers(rows, "loss")
    whiskers = errors(loss, numbers(rows, "low"), numbers(rows, "high"))
    for row, value, whisker in zip(rows, loss, whiskers.T, strict=True):
        model, split = str(row["model"]), splits.index(str(row["split"]))
        at = split + 0.22 * (models.index(model) - (len(models) - 1) / 2)
        axes.errorbar(value, at, xerr=whisker[:, None], fmt="o", color=colours[model], markersize=5, capsize=2)
        axes.annotate(
            f"{value:.2f}",
            (value + whisker[1], at),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=colours[model],
            size=7.5,
        )
    sizes = {str(row["split"]): row.get("n", "") for row in rows}
    axes.set_yticks(range(len(splits)), [f"{wrapped(split)}\nn = {sizes[split]}" for split in splits])
    axes.set(
        ylim=(len(splits) - 0.5, -0.5),
        xlabel=f"loss (nats per token){', 95 % interval' if whiskers.any() else ''}; lower is better",
    )
    axes.grid(axis="x", visible=True)
    axes.margins(x=0.15)
    handles = [axes.plot([], [], "o", color=colours[model], label=model)[0] for model in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(models))
    title(figure, _held_out_finding(rows, models, splits))
    return figure


def _held_out_finding(rows: list[Row], models: list[str], splits: list[str]) -> str:
    loss = {
        (str(row["split"]), str(row["model"])): value for row, value in zip(rows, numbers(rows, "loss"), strict=True)
    }
    first, last = models[0], models[-1]
    both = [split for split in splits if (split, first) in loss and (split, last) in loss]
    if first == last:
        return f"Held-out loss of {first}: {loss[(splits[0], first)]:.2f} on {splits[0]}"
    if not both:
        return f"Held-out loss: no split was measured for both {first} and {last}"
    down = sum(loss[(split, last)] < loss[(split, first)] for split in both)
    of, change = count(len(both), "split"), [f"{loss[(both[0], model)]:.2f}" for model in (first, last)]
    example = f"{both[0]}: {' to '.join(change)}"
    return f"Held-out loss is lower in {last} than in {first} on {down} of {of} ({example})"


@figure_of
def step_times(rows: list[Row]) -> Figure:
    """Rows {step, seconds, peak_gb} → what each step took."""
    labels, seconds, memory = names(rows, "step"), numbers(rows, "seconds"), numbers(rows, "peak_gb")
    figure, (axes,) = canvas(1.1 + 0.26 * len(rows))
    texts = [
        f"{duration(s)}" + ("" if math.isnan(gb) else f", {gb:.1f} GB") for s, gb in zip(seconds, memory, strict=True)
    ]
    horizontal_bars(axes, labels, seconds / 60, texts, "#44AA99")
    axes.set_xlabel("minutes; peak memory of the step's process")
    total, longest = np.nansum(seconds), int(np.nan_to_num(seconds).argmax())
    share = percent(seconds[longest] / total) if total else "0 %"
    title(figure, f"The run took {duration(total)}; {labels[longest]} took {share} of it")
    return figure


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `3.5 min` or `2.1 h`."""
    if math.isnan(seconds):
        return "n/a"
    return (
        f"{seconds:.0f} s"
        if seconds < 60
        else f"{seconds / 60:.1f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
