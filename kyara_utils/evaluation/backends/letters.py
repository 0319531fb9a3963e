"""Exam questions answered by a letter: what a model reads, and the letter that its log-probabilities choose."""

import math
from collections.abc import Sequence

from kyara_utils.evaluation.scoring import LETTERS, UNSCORED, WRONG, score_choice
from kyara_utils.runs.tables import Row


def exam_prompt(item: Row) -> str:
    """The question as a base model reads it, up to the bracket before the letter.

    Options come from the fields A–D; an item without them carries its options in the question's own text.
    """
    if "A" not in item:
        return f"題目:{item['question']}\n答案:("
    options = "\n".join(f"({letter}) {item[letter]}" for letter in LETTERS)
    return f"題目:{item['question']}\n{options}\n答案:("


def choice_rows(items: Sequence[Row], tables: Sequence[dict[str, float]], reasons: Sequence[str] = ()) -> list[Row]:
    """Score each item by the letter with the largest log-probability; `tables[i]` = {letter: nats}.

    A key outside A–D (five of TMMLU's) cannot be chosen, so the item is wrong, as in any scoring by four letters.
    """
    reasons = list(reasons) or [""] * len(items)
    return [choice_row(*row, None) for row in zip(items, tables, reasons, strict=True)]


def calibrated(items: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Score the same rows again after subtracting each letter's mean over them (batch calibration, Zhou et al. 2023,
    arXiv 2309.17249): a small model otherwise says one letter whatever it is asked."""
    known = [row["logprobs"] for row in rows if _complete(row["logprobs"])]
    if not known:
        return list(rows)
    prior = {letter: sum(table[letter] for table in known) / len(known) for letter in LETTERS}
    return [
        choice_row(item, row["logprobs"], "", prior) if _complete(row["logprobs"]) else row
        for item, row in zip(items, rows, strict=True)
    ]


def choice_row(item: Row, table: dict[str, float], reason: str, prior: dict[str, float] | None) -> Row:
    """Score one item: {id, subject, group, answer, logprobs, chosen, outcome, margin (nats), reason}."""
    answer, possible = item["answer"], item["answer"] in LETTERS
    scored = score_choice(table, answer if possible else LETTERS[0], prior)
    if scored["outcome"] != UNSCORED and not possible:
        scored["outcome"], reason = WRONG, f"the key is {answer}, which no letter of A–D can meet"
    elif scored["outcome"] == UNSCORED and not reason:
        reason = "two letters tie" if _complete(table) else f"log-probabilities of {', '.join(table) or 'none'} only"
    subject = item.get("subject", "")
    fixed = {"id": item["id"], "subject": subject, "group": item.get("group", subject), "answer": answer}
    return fixed | {"logprobs": dict(table), **scored, "reason": reason}


def _complete(table: dict[str, float]) -> bool:
    return all(math.isfinite(table.get(letter, math.nan)) for letter in LETTERS)
