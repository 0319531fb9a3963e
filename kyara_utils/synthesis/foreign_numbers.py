"""Numbers of an answer that its sources do not hold and that do not follow from them either.

A cheap check before a model is asked. The number of a list item, an ordinal, the figure in a name (GPT-4, CO2) and a
small count (三種) say nothing; 3,952, ３９５２ and 三千九百五十二 are one number; 3.952 公里, 約 4000 公尺, 民國 88 年
and 20 世紀 follow from what stands in the source; so do the differences, sums, products, ratios and per cents that
a sentence announces (相差 8 年, 合計, 倍). A right number in a wrong statement passes: `faithfulness` is for that.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from kyara_utils.synthesis.drafts import sentences

SCALES = (1e3, 1e-3, 1e4, 1e-4, 1e6, 1e-6, 1e8, 1e-8)  # 公里 for 公尺, a table whose heading says 萬
MOST = 60  # numbers of the sources from which sums and differences are formed, largest texts aside
_UNITS = {"百": 1e2, "千": 1e3, "萬": 1e4, "万": 1e4, "百萬": 1e6, "千萬": 1e7, "億": 1e8, "亿": 1e8, "兆": 1e12}
_ENGLISH = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "兩": 2}
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])(?<![A-Za-z]-)\d{1,3}(?:,\d{3}){1,6}(?:\.\d{1,10})?"
    r"|(?<![A-Za-z0-9_])(?<![A-Za-z]-)\d{1,20}(?:\.\d{1,10})?"
)
_CHINESE = re.compile(r"[零〇一二兩三四五六七八九十百千萬億]{2,20}")
_MULTIPLE = re.compile(r"\s*(百萬|千萬|百|千|萬|億|兆|(?:hundred|thousand|[mbtr]+illion)\b)")
_MARKER = re.compile(r"^[\s>#*_-]*[（(]?\d{1,3}[.、)）:：](?!\d)|^[\s>#*_-]*\d{1,2}\s*[️⃣]+|^\s*\[\^?\d{1,3}\]", re.M)
_CIRCLED = re.compile("[①-⒛⓪❶-➓]")
_ORDINAL = re.compile(
    r"(?:步驟|階段|第|方法|方案|要點|重點|層次|例|情境|問題|Step|Part|Phase|Level|Example|Q|Option|Stage)\s*\d{1,3}(?!\d)(?!\s*世紀)",
    re.I,
)
_NAME = re.compile(r"【[^】\n]*】|https?://\S+|[A-Za-z]+[-_ ]?\d[\w.-]*(?=[^\w]|[\u4e00-\u9fff]|\Z)")
_WORDY = re.compile(
    r"\b(?:in|of|is|was|were|are|to|by|from|at|and|the|about|than|over|only|had|has|nearly|around|some|for|or"
    r"|with|between|after|before|until|since|total|reached|reaches|measures?)\s+\d",
    re.I,
)
_PROGRAM = re.compile(r"```(?!json).*?(?:```|\Z)|`[^`\n]*`", re.S)
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|O\([^)\n]{1,20}\)", re.S)
_EQUATION = re.compile(
    r"\d[^=≈\n]{0,40}(?:[×*+÷/^−-]|\\times|\\frac|\\div)[^\n]{0,60}(?:=|≈|\\approx)\s*$|\\frac[^\n]*(?:=|≈"
    r"|\\approx)\s*$"
)
_TIME = re.compile(r"小時|分鐘|分|秒|鐘頭|hour|minute|second", re.I)
_SHARES = re.compile(r"共|合計|總|倍|[×xX*]|each|total|altogether|times")
_COUNT = re.compile(
    r"\s*(?:個|種|點|項|類|大|方面|步|階段|部分|層|面向|要素|因素|句|段|條|位|次|組|欄|列|(?:main |key "
    r"|major )?(?:\w+ )?(?:ways|reasons|steps|points|kinds|types|parts|factors|stages|things|aspects))"
)
_ABOUT = re.compile(
    r"(?:約|近|將近|接近|超過|逾|不到|不足|大概|上下|左右|多|餘|以上|以下|about|around|nearly|roughly|almost"
    r"|over|under|more than|less than|approximately|~|≈)",
    re.I,
)
# What a sentence says of a number that it computes: by which words differences, sums, products and shares are allowed.
_DIFFERENCE = re.compile(
    r"差|多|少|增|減|升|降|漲|跌|歷時|後|前|隔|經過|期間|年間|年來|持續|享年|歲|距|剩|已|[−-]"
    r"|differ|later|earlier|between|more|less|increase|decrease|age|after|gap|lasted|span|last|left",
    re.I,
)
_SUM = re.compile(r"共|合計|總|加|[+＋]|total|sum|altogether", re.I)
_PRODUCT = re.compile(r"共|合計|總|倍|乘|[×*]|等於|換算|折合|半|翻|就是|each|times|twice|double|half|total", re.I)
_SHARE = re.compile(
    r"倍|比|占|佔|平均|每|\d\s*成|除|分之|[%％÷/]|換算|折合|約|average|percent|per\b|ratio|times|half", re.I
)


class Number(NamedTuple):
    """A number of a text: its value, its place, and how many digits it claims."""

    value: float
    start: int
    end: int
    digits: int


def numbers_of(text: str) -> list[Number]:
    """Return the numbers that a text states, Arabic or Chinese, with their multiples (12 萬); list numbers left out."""
    text = plain(text)
    found = []
    for match in _NUMBER.finditer(text):
        found.append(_scaled(text, match, float(match.group().replace(",", ""))))
    for match in _CHINESE.finditer(text):
        if (value := chinese(match.group())) is not None:
            found.append(Number(value, match.start(), match.end(), 2))
    return sorted(found, key=lambda number: number.start)


def plain(text: str) -> str:
    """Return the text in half width, with list numbers, ordinals, names with figures and links blanked out."""
    text = unicodedata.normalize("NFKC", _CIRCLED.sub(" ", text))
    text = _FORMULA.sub(_without_small, _PROGRAM.sub(" ", text))
    for pattern in (_MARKER, _ORDINAL):
        text = pattern.sub(lambda found: " " * len(found.group()), text)
    return _NAME.sub(lambda found: found.group() if _WORDY.match(found.group()) else " " * len(found.group()), text)


def _without_small(found: re.Match) -> str:
    """A formula without its exponents, coefficients and indices."""
    return re.sub(r"(?<![\d.])\d(?![\d.])", " ", found.group())


def _scaled(text: str, match: re.Match, value: float) -> Number:
    unit = _MULTIPLE.match(text, match.end())
    digits = len(match.group().replace(",", "").replace(".", "").rstrip("0")) or 1
    if not unit:
        return Number(value, match.start(), match.end(), digits)
    factor = _UNITS.get(unit.group(1)) or _ENGLISH.get(unit.group(1).lower(), 1.0)
    return Number(value * factor, match.start(), unit.end(), digits)


def chinese(numeral: str) -> float | None:
    """Value of 三千九百五十二 or 一九七一; None for what is no number (一一, 千萬)."""
    if not any(c in "十百千萬億" for c in numeral):
        return float("".join(str(_DIGITS[c]) for c in numeral)) if len(numeral) >= 3 else None
    if not any(c in _DIGITS for c in numeral) and numeral[0] != "十":
        return None
    total = section = digit = 0.0
    for c in numeral:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in "萬億":
            total, section, digit = (total + section + digit or 1) * _UNITS[c], 0.0, 0.0
        else:
            section, digit = section + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[c], 0.0
    return total + section + digit


def foreign_number(text: str, sources: Iterable[str]) -> str:
    """The first number that neither stands in the sources (the question among them) nor follows from them."""
    known = {number.value for source in sources for number in numbers_of(source)}
    for sentence in sentences(plain(text)) or [text]:
        for number in numbers_of(sentence):
            if not (_said(number, sentence, known) or _result(sentence, number) or _announced(number, sentence, known)):
                return sentence[number.start : number.end]
            known.add(number.value)
    return ""


def _announced(number: Number, sentence: str, known: set[float]) -> bool:
    """Whether a number follows from known ones in a way that its sentence names."""
    derived = _derived(known, sentence)
    if _SHARES.search(sentence):
        derived |= {value * times for value in known for times in range(3, 13)}
    if _TIME.search(sentence):
        derived |= {
            part
            for value in known
            for part in (value / 60, value * 60, value // 60, value % 60, value * 60 % 60, value / 24)
        }
    if "折" in sentence:
        derived |= {value * tenths / 10 for value in known for tenths in range(1, 10)}
    return _near(number.value, derived)


def _result(sentence: str, number: Number) -> bool:
    """What an equation yields; whether it is right is for the rules of sums."""
    return bool(_EQUATION.search(sentence[: number.start]))


def _near(value: float, known: set[float]) -> bool:
    return value in known or any(abs(value - other) <= 0.006 * abs(other) for other in known if other % 1 and other)


def _said(number: Number, sentence: str, known: set[float]) -> bool:
    """Whether a number stands in the sources, in another unit or calendar, rounded, or is a small count."""
    value = number.value
    if value in known or not value or (value <= 12 and value % 1 == 0 and _COUNT.match(sentence, number.end)):
        return True
    if any(_same(value * factor, known) for factor in SCALES):
        return True
    if re.match(r"\s*%|\s*percent", sentence[number.end :]) and _same(value / 100, known):
        return True
    around = sentence[max(0, number.start - 6) : number.end + 6]
    if "民國" in around or "西元" in around:
        return value + 1911 in known or value - 1911 in known
    if re.match(r"\s*世紀|(?:st|nd|rd|th)[ -]century", sentence[number.end :]):
        return any((value - 1) * 100 <= year <= value * 100 for year in known)
    if re.match(r"\s*年代|s\b", sentence[number.end :]):
        return any(value <= year % 100 < value + 10 or value <= year < value + 10 for year in known)
    return bool(_ABOUT.search(around)) and any(
        _rounded(other * scale, number.digits) == value for other in known for scale in (1.0, *SCALES)
    )


def _same(value: float, known: set[float]) -> bool:
    return any(abs(value - other) <= 1e-9 * abs(other) for other in known)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{max(0, digits - 1)}e}")


def _derived(known: set[float], sentence: str) -> set[float]:
    """What a sentence may compute of two known numbers, or of one: only what its words announce."""
    some, percent = sorted(known)[:MOST], re.search(r"[%％]|百分|percent|每\s*100", sentence)
    less, added, times, share = (bool(word.search(sentence)) for word in (_DIFFERENCE, _SUM, _PRODUCT, _SHARE))
    found = {value * factor for value in some for factor in (2, 0.5)} if times or share else set()
    if less or share:
        found |= {100 - value for value in some if value < 100}
    for a, b in combinations(some, 2):
        found |= ({b - a, b - a + 1} if less else set()) | ({a + b} if added else set()) | ({a * b} if times else set())
        if a and share:
            found |= {b / a, round(b / a, 1), round(b / a)}
        if a and percent:
            found |= {*_percents(100 * a / b), *_percents(100 * (b - a) / a), *_percents(100 * (b - a) / b)}
    if added and len(some) <= 12:
        found |= {sum(three) for three in combinations(some, 3)} | {sum(some)}
    return found


def _percents(value: float) -> tuple[float, float, float]:
    return value, round(value, 1), float(round(value))
