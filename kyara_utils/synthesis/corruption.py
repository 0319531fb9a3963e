"""Statements that are false by construction: a true sentence with one number, year, name or relation exchanged.

They cost no annotation, so every run can measure on its own documents how well a judge of faithfulness tells true from
false, and set its threshold by that (the idea of FactCC, Kryściński et al. 2020, arXiv 1910.12840, §3).
"""

import random
import re
from collections.abc import Callable, Sequence

_NUMBER = re.compile(r"(?<![A-Za-z\d.])\d[\d,]*(?:\.\d+)?")
_NAME = re.compile(r"《[^》\n]{1,20}》|「[^」\n]{1,12}」|[A-Z][A-Za-z-]{2,20}(?: [A-Z][A-Za-z-]{1,20}){0,2}")
_OPPOSITES = [
    pair.split("/")
    for pair in (
        "增加/減少 上升/下降 高於/低於 大於/小於 最大/最小 最高/最低 最早/最晚 之前/之後 東部/西部 南部/北部 "
        "正極/負極 夏季/冬季 "
        "早上/晚上 可以/不可以 需要/不需要 變大/變小 快/慢 多數/少數 熱/冷 北/南 東/西 "
        "increase/decrease higher/lower before/after largest/smallest north/south"
    ).split()
]


def corrupted(sentence: str, others: Sequence[str], picker: random.Random) -> tuple[str, str]:
    """Return (false sentence, what was exchanged: number, name or relation), or ("", "") where nothing can be.

    others: sentences from which a name is borrowed.
    """
    ways: list[tuple[str, Callable[[], str]]] = [
        ("number", lambda: _number(sentence, picker)),
        ("name", lambda: _name(sentence, others, picker)),
        ("relation", lambda: _relation(sentence)),
    ]
    picker.shuffle(ways)
    found = ((way(), kind) for kind, way in ways)
    return next(((text, kind) for text, kind in found if text and text != sentence), ("", ""))


def _number(sentence: str, picker: random.Random) -> str:
    """Another number of the same size and form: a year moves by some years, a count by a third or more."""
    places = list(_NUMBER.finditer(sentence))
    if not places:
        return ""
    place = picker.choice(places)
    digits = place.group().replace(",", "")
    value = float(digits)
    if re.fullmatch(r"1[5-9]\d\d|20\d\d", digits):
        new = str(int(digits) + picker.choice([-27, -13, -6, 4, 9, 18]))
    elif "." in digits:
        new = f"{value * picker.choice([0.4, 0.6, 1.6, 2.3]):.{len(digits.partition('.')[2])}f}"
    else:
        new = str(max(1, round(value * picker.choice([0.3, 0.5, 1.7, 3]))) if value > 2 else int(value) + 3)
    return sentence[: place.start()] + new + sentence[place.end() :]


def _name(sentence: str, others: Sequence[str], picker: random.Random) -> str:
    own = _NAME.findall(sentence)
    if not own:
        return ""
    old = picker.choice(own)
    names = (name for other in others for name in _NAME.findall(other))
    strange = [name for name in names if name not in sentence and (name[0] in "《「") is (old[0] in "《「")]
    return sentence.replace(old, picker.choice(strange)) if strange else ""


def _relation(sentence: str) -> str:
    for first, second in _OPPOSITES:
        for old, new in ((second, first), (first, second)):
            if old in sentence:
                return sentence.replace(old, new, 1)
    return ""
