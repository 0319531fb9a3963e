"""Comparison of texts: folded text, prose without code, the numbers that a text states, one text within another.

White space does not separate Chinese words and one sentence may come in two scripts, so texts are compared after
NFKC and OpenCC t2s (`normalise.search_text`), without white space and punctuation.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from kyara_utils.text.normalise import code_points, search_text

if TYPE_CHECKING:
    import numpy as np

OPERATORS = "+-−×÷*/=<>≤≥^%√"
BATCH = 256  # texts folded in one call of OpenCC, which costs more than its work on a short text
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.S)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|[零〇一二兩两三四五六七八九十百千萬万]+|[" + re.escape(OPERATORS) + "]")
_COMPATIBLE = re.compile(  # digits and operators in other forms: ², ½, ①, ３, ＋
    "[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209f\u2150-\u218f\u2460-\u249b\u3200-\u33ff％＊＋－．／０-９＜＝＞＾]"
)
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "兩": 2, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "萬": 10_000, "万": 10_000}
_DIGIT_RUNS = ("[0-9]", "[零〇一二兩两三四五六七八九十百千萬万億亿]")
# No border between two digits of one kind:
_BEFORE = "".join(f"(?<!{digit}(?={digit}))" for digit in _DIGIT_RUNS)
_BEHIND = "".join(f"(?!(?<={digit}){digit})" for digit in _DIGIT_RUNS)


def fold(text: str, keep: str = "") -> str:
    """Return the comparison key of `text`: its search form, only letters, digits and what is in `keep`."""
    return folded(search_text(text), keep)


def folded(search: str, keep: str = "") -> str:
    """Return `fold` of a text that is in its search form already."""
    return _unwanted(keep).sub("", search.replace("\n", ""))


def fold_all(texts: Sequence[str], keep: str = "") -> Iterator[str]:
    """Yield `fold` of each text, at half the cost."""
    for start in range(0, len(texts), BATCH):
        joined = search_text("\n".join(text.replace("\n", " ") for text in texts[start : start + BATCH]))
        points = code_points(joined)
        kept = points[_wanted(keep + "\n")[points]]
        yield from kept.tobytes().decode("utf-32-le").split("\n")


@lru_cache(maxsize=8)
def _wanted(keep: str) -> "np.ndarray":
    """Which code points stay, bool [0x110000]: a look-up in it is ten times as fast as `_unwanted` on long text."""
    import numpy as np

    table = np.zeros(0x110000, bool)
    table[:0x40000] = [chr(code).isalnum() for code in range(0x40000)]  # beyond are no letters
    table[[ord(character) for character in keep]] = True
    return table


@lru_cache(maxsize=8)
def _unwanted(keep: str) -> re.Pattern[str]:
    return re.compile(rf"[^\w\n{re.escape(keep)}]+|_+")


def prose(text: str) -> str:
    """Return `text` without fenced code, whose words and repetitions say nothing about the prose."""
    return _FENCE.sub(" ", text) if "```" in text else text


def holds(text: str, piece: str) -> bool:
    """Whether a text holds a piece, but no number within a longer one (4匹 in 24匹, 三年 in 十三年).

    Both are in one form, such as `fold` gives; an empty piece is held by nothing.
    """
    return bool(piece and re.search(f"{_BEFORE}{re.escape(piece)}{_BEHIND}", text))


def hardly_more(text: str, piece: str) -> bool:
    """Whether a text holds a piece and no more than as much again: 1783年 in 在1783年. Forms as for `holds`."""
    return len(text) <= 2 * len(piece) + 2 and holds(text, piece)


def character_f1(one: str, other: str) -> float:
    """Return the harmonic mean of precision and recall of two texts as bags of characters, 0 to 1."""
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers and operators of `text`, sorted: problems that differ here are different problems.

    Chinese numerals up to 萬 count as Arabic ones; a lone 一 is left out, it is mostly an article (一個).
    """
    text = text.replace("，", " ")  # between Chinese numbers this is a comma; NFKC would make it a thousands separator
    plain = unicodedata.normalize("NFKC", text) if _COMPATIBLE.search(text) else text
    return tuple(sorted(_plain_number(token) for token in _NUMBER.findall(plain) if token != "一"))


@lru_cache(maxsize=1 << 14)
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
