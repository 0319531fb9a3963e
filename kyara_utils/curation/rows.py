"""What every filter of step 04 reads from a conversation row: its kind, score, place in the order, and numbers.

Rows are judged best first, so that no filter depends on the order in which they come in.
"""

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING

from kyara_utils.runs.stored_rows import only
from kyara_utils.runs.tables import BATCH, Row, answer, meta, question
from kyara_utils.text.folding import OPERATORS, fold_all, numbers

if TYPE_CHECKING:
    import numpy as np

STEP = "04_filtering"
_LIST_MARK = re.compile(r"^\s*(?:\d{1,2}|[一二三四五六七八九十]{1,3})[.、)．）]\s*", re.M)
_BESIDE_DIGIT = re.compile(rf"\d ?[{re.escape(OPERATORS)}]|[{re.escape(OPERATORS)}] ?\d")


def is_math(row: Row) -> bool:
    """Tell whether the row comes from a maths source, whose answers are short and whose operators matter."""
    return "math" in (row.get("source") or "").lower()


def asked(row: Row) -> str:
    """What the row asks: its first user turn, or the question alone where documents stand around it in that turn."""
    found = meta(row).get("question") if '"question"' in (row.get("meta") or "") else None
    return found if isinstance(found, str) and found else question(row)


def is_short(row: Row) -> bool:
    """Tell whether the right answer of a row is a word or two, read from its documents (`rag_short` of step 02)."""
    return (row.get("source") or "") == "rag_short"


def score(row: Row) -> float:
    """Return the row's quality score; a row without one stands behind all others."""
    value = row.get("score")
    return -inf if value is None else float(value)


def best_first(rows: Sequence[Row]) -> list[int]:
    """Return row positions by score descending, then id, then content: an order that no shuffle changes."""
    keys = [(-score(row), row["id"]) for row in only(rows, "id", "score")]
    ordered = sorted(range(len(rows)), key=keys.__getitem__)
    if len(set(keys)) == len(keys):
        return ordered
    runs = (list(run) for _, run in groupby(ordered, key=keys.__getitem__))
    return [at for run in runs for at in (sorted(run, key=lambda i: _content(rows[i])) if len(run) > 1 else run)]


def _content(row: Row) -> str:
    return json.dumps(row["messages"], sort_keys=True)


def stated_numbers(text: str, math: bool) -> tuple[str, ...]:
    """Return the numbers of `text`, sorted; operators count in maths, and beside a digit everywhere (5+3, 5-3)."""
    found = numbers(text)
    if math or _BESIDE_DIGIT.search(text):
        return found
    return tuple(number for number in found if number not in OPERATORS)


def number_keys(rows: Sequence[Row]) -> tuple["np.ndarray", "np.ndarray"]:
    """Return (groups int64 [n], views int64 [n, 2]): what two rows must agree in before they can be duplicates.

    Rows of different groups state different numbers in their questions (第三屆, 第四屆; 5+3, 6+4), or one of them wants
    a word or two (`is_short`) and the other sentences, so that only the question repeats. Rows that agree in no view
    ask different questions and state different numbers in their answers, list marks aside: one template, two facts.
    Two answers to one question may differ in numbers, since the better one is enough.
    """
    import numpy as np

    groups, views = np.empty(len(rows), np.int64), np.empty((len(rows), 2), np.int64)
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        groups[part], views[part] = _number_keys(rows[part])
    return groups, views


def _number_keys(rows: Sequence[Row]) -> tuple[list[int], list[list[int]]]:
    questions = [asked(row) for row in rows]
    groups = [(is_short(row), stated_numbers(text, is_math(row))) for text, row in zip(questions, rows, strict=True)]
    answers = [numbers(_LIST_MARK.sub("", answer(row))) for row in rows]
    facts = [tuple(number for number in found if number not in OPERATORS) for found in answers]
    views = [[key64(one), key64(other)] for one, other in zip(fold_all(questions), facts, strict=True)]
    keys = {group: key64(group) for group in set(groups)}  # most questions state none
    return [keys[group] for group in groups], views


def key64(value: object) -> int:
    """Return a hash of `value`, 64 bits with a sign: equal values have equal keys in every process."""
    return int.from_bytes(
        blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )
