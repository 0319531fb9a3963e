"""Small tables of steps 05 and 07, for CSV files, figures and cards, and the lines that the notebooks print."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kyara_utils.runs.tables import Row

ROUND_COLUMNS = ("round", "model", "held_out", "final_accuracy", "final_margin", "pairs")
PAIR_COLUMNS = {"held_out_accuracy": "accuracy", "held_out_low": "low", "held_out_high": "high", "held_out_pairs": "n"}
LOOKS = ("accuracy", "margin", "chosen_reward", "rejected_reward")  # columns of the curve, of held-out pairs as well


def tokens_to_train(training: list[Row], refined: list[Row], epochs: float, refined_epochs: float) -> float:
    """Return the tokens of both stages of SFT, passes included; rows come from `prepare_conversations`."""
    return sum(row["tokens"] for row in training) * epochs + sum(row["tokens"] for row in refined) * refined_epochs


def held_out_table(first: Row, second: Row, held_out: list[Row]) -> list[Row]:
    """Return held-out losses (nats per supervised token) of the base model and both stages, over all and by source.

    Rows: model, split, loss, low, high (empty), n. Empty without held-out rows.
    """
    counts, table = Counter(row["source"] for row in held_out), []
    for split in ("all", *sorted(counts)) if held_out else ():
        whole = split == "all"
        before, middle = _losses(first, split, whole)
        for model, loss in (("base", before), ("sft_base", middle), ("sft", _losses(second, split, whole)[1])):
            n = len(held_out) if whole else counts[split]
            table.append({"model": model, "split": split, "loss": loss, "low": "", "high": "", "n": n})
    return table


def _losses(record: Row, split: str, whole: bool) -> tuple[float, float]:
    return (record["held_out_before"], record["held_out_after"]) if whole else record["held_out_by_source"][split]


def rounds_held_out(rounds: list[Row], held_out: list[Row]) -> list[Row]:
    """Return the held-out loss of each round's model by source, as `held_out_table` has it of the stages of SFT."""
    counts = Counter(row["source"] for row in held_out)
    return [
        {"model": one["model"], "split": split, "loss": loss, "low": "", "high": "", "n": counts[split]}
        for one in rounds
        for split, loss in one["held_out_by_source"].items()
    ]


def stage_curve(**records: Row) -> list[Row]:
    """Return the loss curves of several stages as one table, by the names of the arguments."""
    return [{"stage": stage, **point} for stage, record in records.items() for point in record["curve"]]


def rounds_curve(rounds: list[Row]) -> list[Row]:
    """Return the curves of all rounds of DPO as one table, steps numbered through.

    Columns `held_out_` and one of `LOOKS` are filled at the steps where training looked at held-out pairs.
    """
    points = []
    for one in rounds:
        looks = {look["step"]: look for look in one["watched"]}
        for point in one["curve"]:
            look = looks.get(point["step"], {})
            seen = {f"held_out_{name}": _cell(look.get(name)) for name in LOOKS}
            points.append({"round": one["round"], **point, **seen})
    return [{**point, "step": number} for number, point in enumerate(points, 1)]


def rounds_table(held_out_sft: float | None, rounds: list[Row], compared: Sequence[Row] = ()) -> list[Row]:
    """Return one row a round, `ROUND_COLUMNS` and `PAIR_COLUMNS`, the model before the first as round 0.

    compared: rows of `preference.pair_report`, whose held-out pairs stand beside the round's training pairs.
    """
    table = []
    for one in [{"round": 0, "model": "sft", "held_out": held_out_sft}, *rounds]:
        unseen = _unseen(one["model"], compared)
        row = {name: _cell(one.get(name)) for name in ROUND_COLUMNS}
        table.append(row | {ours: _cell(unseen.get(theirs)) for ours, theirs in PAIR_COLUMNS.items()})
    return table


def _unseen(model: str, compared: Sequence[Row]) -> Row:
    """What a model does on all held-out pairs; empty where none was held out."""
    wanted = (model, "held_out", "all")
    return next((row for row in compared if (row["model"], row["split"], row["source"]) == wanted), {})


def _cell(value: Any) -> Any:
    return "" if value is None else value


def dpo_metrics(pairs: int, last: Row, compared: Sequence[Row] = ()) -> Row:
    """Return the figures of step 07's manifest; those of held-out rows and pairs only where some were held out."""
    found = {"pairs": pairs, "reward_accuracy": last["final_accuracy"], "reward_margin": last["final_margin"]}
    found |= {} if last["held_out"] is None else {"held_out": last["held_out"]}
    unseen = _unseen(last["model"], compared)
    found |= {ours: unseen[theirs] for ours, theirs in PAIR_COLUMNS.items() if unseen}
    found |= {"held_out_chosen": unseen["chosen"]} if unseen else {}
    return {name: round(value, 4) for name, value in found.items()}


def change(before: float | None, after: float | None) -> str:
    """Return two losses as text; a dash where nothing was held out."""
    return " → ".join("–" if value is None else f"{value:.3f}" for value in (before, after))


def stage_line(record: Row) -> str:
    """Return what a stage of SFT did, in one line."""
    return f"held-out loss {change(record['held_out_before'], record['held_out_after'])} in {record['seconds']:.0f} s"


def round_lines(rounds: list[Row], held_out_sft: float | None, compared: Sequence[Row] = ()) -> list[str]:
    """Return what each round of DPO did, in four lines each."""
    lines, before = [], held_out_sft
    for one in rounds:
        lines += [f"round {one['round']}: {one['pairs']} pairs of {', '.join(one['sources'])}, {one['seconds']:.0f} s"]
        first, last = one["curve"][0]["loss"], one["curve"][-1]["loss"]
        lines += [f"  loss {first:.4f} → {last:.4f}, held-out loss {change(before, one['held_out'])}"]
        lines += [f"  on its pairs: reward accuracy {one['final_accuracy']:.2f}, margin {one['final_margin']:+.3f}"]
        lines += [f"  on held-out pairs: {_unseen_words(_unseen(one['model'], compared))}"]
        before = one["held_out"]
    return lines


def _unseen_words(row: Row) -> str:
    if not row:
        return "none was held out, so the line above shows memory and no skill"
    interval = f"[{row['low']:.2f}, {row['high']:.2f}], n {row['n']}"
    return f"reward accuracy {row['accuracy']:.2f} {interval}, margin {row['margin']:+.3f}"
