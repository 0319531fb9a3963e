"""Clock times and ratios, whose colon is no sign of division in a line of text: 8:30 + 45 分鐘 = 9:15, 12:8 = 3:2."""

import re
from fractions import Fraction

SPOKEN = re.compile(r"(\d{1,2})\s*[點時时]\s*(\d{1,2})\s*分(?!鐘)")
TIME = r"(?<![\d:])(?:[01]?\d|2[0-4]):[0-5]\d(?![\d:])"
SPAN = r"(?:\d+(?:\.\d+)?\s*(?:個)?(?:小時|鐘頭|h)\s*)?(?:\d+\s*(?:分鐘|分|min)|(?<=[時頭h]))"
SUM = re.compile(rf"({TIME})\s*([+-])\s*({SPAN})\s*=\s*(\d{{1,2}}:\d\d)(?![\d:])")
COMPOUND = re.compile(r"(?<![\d.])(\d+)\s*個?(?:小時|鐘頭)\s*(\d+)\s*分鐘?")
GAP = re.compile(rf"({TIME})\s*-\s*({TIME})\s*=\s*({SPAN})")
NUMBER = r"\d+(?:\.\d+)?"
RATIO = re.compile(rf"(?<![\d:.])({NUMBER}(?:\s*:\s*{NUMBER})+)\s*=\s*({NUMBER}(?:\s*:\s*{NUMBER})+)(?![\d:.])")
LOOSE = re.compile(rf"(?<![\u4e00-\u9fff])({TIME})(?=\s*[-+=])|(?<=[-+=])\s*({TIME})")
DAY = 24 * 60


def clock_equations(plain: str) -> tuple[str, list[tuple[str, bool]]]:
    """Return (text without them, [(equation, whether it is right)]) for equations of clock times and of ratios.

    A clock time that is left in a sum becomes the word `clock`, so that the sum is unverified.
    """
    found: list[tuple[str, bool]] = []
    text = SPOKEN.sub(lambda m: f"{m[1]}:{int(m[2]):02d}", plain)
    for pattern, check in ((SUM, _sum), (GAP, _gap), (RATIO, _ratio)):
        found += [(match.group(), check(match)) for match in pattern.finditer(text)]
        text = pattern.sub("；", text)
    return LOOSE.sub("clock", whole_minutes(text)), found


def whole_minutes(text: str) -> str:
    """Return `text` with 2 小時 35 分 as 155 分鐘, one amount."""
    return COMPOUND.sub(lambda m: f"{int(m[1][:9]) * 60 + int(m[2][:9])}分鐘", text)


def minutes(time: str) -> int:
    """Minutes since midnight of `8:30`."""
    hours, _, rest = time.partition(":")
    return int(hours) * 60 + int(rest)


def ratio(text: str) -> tuple[Fraction, ...]:
    """`12:8` as parts of a sum of one; all zero stays so."""
    parts = [Fraction(part.strip()) for part in text.split(":")]
    return tuple(part / sum(parts) for part in parts) if sum(parts) else tuple(parts)


def _span(text: str) -> Fraction:
    hours = re.search(r"(\d+(?:\.\d+)?)\s*(?:個)?(?:小時|鐘頭|h)", text)
    rest = re.search(r"(\d+)\s*(?:分|min)", text)
    return (Fraction(hours[1]) * 60 if hours else Fraction(0)) + (int(rest[1]) if rest else 0)


def _sum(match: re.Match[str]) -> bool:
    step = _span(match[3]) if match[2] == "+" else -_span(match[3])
    return int(match[4][-2:]) < 60 and (minutes(match[1]) + step - minutes(match[4])) % DAY == 0


def _gap(match: re.Match[str]) -> bool:
    gap = minutes(match[1]) - minutes(match[2])  # or from the first to the second: 9:00-17:30
    return any((way * gap - _span(match[3])) % DAY == 0 for way in (1, -1))


def _ratio(match: re.Match[str]) -> bool:
    return ratio(match[1]) == ratio(match[2])
