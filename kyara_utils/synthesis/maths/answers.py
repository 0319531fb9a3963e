r"""The final answer of a solution, read from any of the usual forms, and compared by value: 0.5 is 1/2 is 50 %.

Forms: \boxed{…}, 「答案是…」, 「答案：…」, 「答：…」, `#### …`. The last one counts, as in a text that corrects itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile

from kyara_utils.synthesis.maths.clock import SPOKEN, TIME, minutes, ratio, whole_minutes
from kyara_utils.synthesis.maths.notation import BOXED, braced, plain_notation
from kyara_utils.synthesis.maths.rationals import Token, Unreadable, value_of
from kyara_utils.synthesis.maths.tokens import tokenize
from kyara_utils.synthesis.maths.units import dimension_of, scaled

LINES = r"[^\n]+(?:\n[ \t]*(?:[-•*]|\d{1,2}[.)、])[ \t]+[^\n]+)*"  # a line, and a list below it
STATED = re.compile(
    rf"(?:答案|答|\b[Aa]nswer)[*_」)）]*\s*(?:應該|就|便)?\s*(?:是|為|is\b|[:：=＝→]|[】\]])[*_\s:：]*(?P<text>{LINES})"
    rf"|^\W*(?:最終|最後)?答案\W*\n+(?P<line>{LINES})|^\s*#{{4}}\s*(?P<hash>[^\n]+)",
    re.M,
)
LISTED = re.compile(r"^[ \t]*(?:[-•*]|\d{1,2}[.)、])[ \t]+", re.M)
STOP = re.compile(r"[。；;\n]")
MORE = re.compile(r"(?:[A-Za-z]|[\u4e00-\u9fff]{1,4})?\s*[=是為有:]?\s*-?\d[\d./%]*\s*\S{0,4}")  # and 小華 18 顆
RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+")
ASIDE = re.compile(r"(?<=[\u4e00-\u9fff%A-Za-z])\s*[(（][^()（）]*[)）]\s*$")  # 90 分鐘（1.5 小時）
ASKED = ("？", "?", "嗎")
LONGEST_TEXT = 20_000  # characters, from the end
LONGEST = 120  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What was answered, as text and as numbers; none of these where it is a word such as 足夠.

    numbers: as written (clock times in minutes, a ratio as parts of one); values: in the smallest unit of their kind,
    where the unit is known; steps: the last decimal written of each, 0 for an exact one.
    """

    text: str
    kind: str  # number, ratio, clock, word
    numbers: tuple[Fraction, ...] = ()
    values: tuple[Fraction, ...] = ()
    steps: tuple[Fraction, ...] = ()

    def same(self, other: "Answer") -> bool:
        """Whether both say the same, up to the rounding of the one that is rounded more."""
        if self.kind != other.kind or len(self.values) != len(other.values):
            return False
        if self.kind == "word":
            return self.text == other.text
        steps = [max(pair) for pair in zip(self.steps, other.steps, strict=True)]
        return all(abs(a - b) <= step / 2 for a, b, step in zip(self.values, other.values, steps, strict=True))


def final_answer(solution: str) -> Answer | None:
    """Return the answer that a solution states last, or None where it states none or asks instead."""
    plain = SPOKEN.sub(lambda m: f"{m[1]}:{int(m[2]):02d}", _stated(solution))
    if not plain or any(mark in plain for mark in ASKED):
        return None
    if time := re.search(TIME, plain):
        return _exact(plain, "clock", (Fraction(minutes(time.group())),))
    if parts := RATIO.search(plain):
        return _exact(plain, "ratio", ratio(parts.group()))
    plain = whole_minutes(ASIDE.sub("", plain))
    found = [line for piece in re.split("[，或]", plain) for line in _numbers(tokenize(piece.rpartition("=")[2]))]
    if found and not set(plain) & set("√π"):
        return Answer(plain, "number", *zip(*found, strict=True))
    word = re.sub(r"[^\w\u4e00-\u9fff√]", "", plain)
    return Answer(word[:20], "word") if word else None


def _exact(text: str, kind: str, values: tuple[Fraction, ...]) -> Answer:
    return Answer(text, kind, values, values, (Fraction(0),) * len(values))


def _stated(solution: str) -> str:
    """The text of the last statement of an answer, to the end of its clause."""
    solution = solution[-LONGEST_TEXT:]
    forms = [(match.start(), match["text"] or match["line"] or match["hash"]) for match in STATED.finditer(solution)]
    forms += [(match.start(), braced(solution, match.end())) for match in list(BOXED.finditer(solution))[-1:]]
    if not forms:
        return ""
    text = plain_notation(_items(max(forms)[1])[:LONGEST]).strip(" *\n")
    first, *more = re.split(r"\s*[，,]\s*", STOP.split(text)[0].strip(" .*"))
    return "，".join([first, *takewhile(MORE.fullmatch, more)])


def _items(text: str) -> str:
    """The first line of an answer, or all items where it is a list."""
    lines = text.split("\n")
    return "，".join(LISTED.sub("", line).rstrip("。 ") for line in lines) if LISTED.match(lines[0]) else lines[0]


def _numbers(tokens: Sequence[Token]) -> list[tuple[Fraction, Fraction, Fraction]]:
    """Each maximal expression of a piece of an answer: (as written, in the smallest unit, last decimal)."""
    found, at = [], 0
    while at < len(tokens):
        size = next((n for n in range(min(30, len(tokens) - at), 0, -1) if _starts(tokens[at : at + n])), 0)
        if size:
            found.append(_amount(list(tokens[at : at + size])))
        at += size or 1
    return found


def _amount(part: list[Token]) -> tuple[Fraction, Fraction, Fraction]:
    table, number = dimension_of(part), value_of(part)
    value = value_of(scaled(part, table)) if table else number
    written = [token.text for token in part if token.kind == "number"]
    decimals = len(written[0].partition(".")[2]) if len(written) == 1 else 0
    step = Fraction(1, 10**decimals) if decimals else Fraction(0)
    return number, value, step * (value / number if number else 1) / (100 if part[-1].kind == "percent" else 1)


def _starts(tokens: Sequence[Token]) -> bool:
    if tokens[0].kind not in ("number", "open", "root") and tokens[0].text != "-":
        return False
    try:
        value_of(tokens)
    except Unreadable:
        return False
    return True
