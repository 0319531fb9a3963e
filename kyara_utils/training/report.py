"""Small tables of steps 05 and 07, for CSV files, figures and cards, and the lines that the notebooks print."""

from collections import Counter
from typing import Any

from kyara_utils.runs.tables import Row

ROUND_COLUMNS = ("round", "model", "held_out", "final_accuracy", "final_margin", "pairs")


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
    """Return the curves of all rounds of DPO as one table, steps numbered through."""
    points = [{"round": one["round"], **point} for one in rounds for point in one["curve"]]
    return [{**point, "step": number} for number, point in enumerate(points, 1)]


def rounds_table(held_out_sft: float | None, rounds: list[Row]) -> list[Row]:
    """Return one row a round, `ROUND_COLUMNS`, the model before the first as round 0."""
    first = {"round": 0, "model": "sft", "held_out": held_out_sft}
    return [{name: _cell(one.get(name)) for name in ROUND_COLUMNS} for one in [first, *rounds]]


def _cell(value: Any) -> Any:
    return "" if value is None else value


def dpo_metrics(pairs: int, last: Row) -> Row:
    """Return the figures of step 07's manifest; the held-out loss only where rows were held out."""
    found = {"pairs": pairs, "reward_accuracy": last["final_accuracy"], "reward_margin": last["final_margin"]}
    found |= {} if last["held_out"] is None else {"held_out": last["held_out"]}
    return {name: round(value, 4) for name, value in found.items()}


def change(before: float | None, after: float | None) -> str:
    """Return two losses as text; a dash where nothing was held out."""
    return " → ".join("–" if value is None else f"{value:.3f}" for value in (before, after))


def stage_line(record: Row) -> str:
    """Return what a stage of SFT did, in one line."""
    return f"held-out loss {change(record['held_out_before'], record['held_out_after'])} in {record['seconds']:.0f} s"


def round_lines(rounds: list[Row], held_out_sft: float | None) -> list[str]:
    """Return what each round of DPO did, in three lines each."""
    lines, before = [], held_out_sft
    for one in rounds:
        lines += [f"round {one['round']}: {one['pairs']} pairs of {', '.join(one['sources'])}, {one['seconds']:.0f} s"]
        first, last = one["curve"][0]["loss"], one["curve"][-1]["loss"]
        lines += [f"  loss {first:.4f} → {last:.4f}, held-out loss {change(before, one['held_out'])}"]
        lines += [f"  on its pairs: reward accuracy {one['final_accuracy']:.2f}, margin {one['final_margin']:+.3f}"]
        before = one["held_out"]
    return lines
