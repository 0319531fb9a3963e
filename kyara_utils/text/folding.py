"""Views of text and rows that every filter shares: folded text, n-grams, numbers, scores.

Whitespace does not separate Chinese words and one sentence may come in two scripts, so the filters compare
text after NFKC and OpenCC t2s, without white space and punctuation.
"""

import json
import re
import unicodedata
from typing import Any

from kyara_utils.text.normalise import converter

Row = dict[str, Any]
STEP = "04_filtering"
OPERATORS = "+-−×÷*/=<>≤≥^%√"
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.S)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|[零〇一二兩三四五六七八九十百千萬]+|[" + re.escape(OPERATORS) + "]")
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "兩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "萬": 10_000}


def simplified(text: str) -> str:
    """Return `text` after NFKC and OpenCC t2s: one spelling for both scripts and both character widths."""
    return converter("t2s").convert(unicodedata.normalize("NFKC", text)).casefold()


def fold(text: str, keep: str = "") -> str:
    """Return the comparison key of `text`: `simplified`, only letters, digits and what is in `keep`."""
    return "".join(c for c in simplified(text) if c.isalnum() or c in keep)


def ngrams(text: str, n: int) -> set[str]:
    """Return the set of character n-grams; a shorter text is its own only n-gram."""
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))} if text else set()


def jaccard(a: set[str], b: set[str]) -> float:
    """Return |a ∩ b| / |a ∪ b|, 0 for two empty sets."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def prose(text: str) -> str:
    """Return `text` without fenced code, whose words and repetitions say nothing about the prose."""
    return _FENCE.sub(" ", text)


def is_math(row: Row) -> bool:
    """Tell whether the row comes from a maths source, whose answers are short and whose numbers matter."""
    return "math" in (row.get("source") or "")


def score(row: Row) -> float:
    """Return the row's quality score, 0 where none was given."""
    return float(row.get("score") or 0.0)


def best_first(rows: list[Row]) -> list[int]:
    """Return row positions by score descending, then id, then content: an order that no shuffle changes."""
    return sorted(
        range(len(rows)),
        key=lambda i: (-score(rows[i]), rows[i]["id"], json.dumps(rows[i]["messages"], sort_keys=True)),
    )


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers and operators of `text`, sorted: problems that differ here are different problems.

    Chinese numerals up to 萬 count as Arabic ones; a lone 一 is left out, it is mostly an article (一個).
    """
    found = (m.group() for m in _NUMBER.finditer(unicodedata.normalize("NFKC", text)))
    return tuple(sorted(_plain_number(token) for token in found if token != "一"))


def _plain_number(token: str) -> str:
    if token[0] in OPERATORS:
        return token
    if token[0].isdigit():
        return token.replace(",", "")
    if not any(c in _UNITS for c in token):
        return "".join(str(_DIGITS[c]) for c in token)
    total = section = digit = 0
    for c in token:
        unit = _UNITS.get(c, 0)
        if unit == 10_000:
            total, section, digit = (total + section + digit or 1) * unit, 0, 0
        elif unit:
            section, digit = section + (digit or 1) * unit, 0
        else:
            digit = _DIGITS[c]
    return str(total + section + digit)
