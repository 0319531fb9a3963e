"""Reading verdicts out of judges' prose: the published patterns first, then both scripts, any quotes, decimals.

What cannot be read is None, never -1: a parse failure averaged in moves published scores by half a point. Judges'
text is untrusted; every pattern is bounded and nothing is evaluated.
"""

import math
import re

WIDE = str.maketrans("０１２３４５６７８９．：，［］【】｛｝ＡＢＣ＞＜＝／", "0123456789.:,[][]{}ABC><=/")
NUMBER = r"[0-9]{1,4}(?:\.[0-9]{0,8})?"
SCORES = (re.compile(rf"\[\[({NUMBER})\]\]"), re.compile(rf"\[({NUMBER})\]"))  # FastChat's two, in its order
GAP = r"\s{0,4}"
LABELLED = re.compile(rf"\[\[(?:[评評]分)?[\s:]{{0,4}}({NUMBER}){GAP}(?:/{GAP}10)?{GAP}分?{GAP}\]\]")  # [[評分:8分]]
CHINESE = re.compile(r"[评評]分|分\s{0,4}\]\]")
LOWEST, HIGHEST = 0.0, 10.0
WINNERS = ("[[A]]", "[[B]]", "[[C]]")
LABEL = re.compile(r"\[\[([AB<>=]{1,8})\]\]")
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
BRACES = re.compile(r"\{([^{}]{1,2000})\}")
QUOTE = "[\"'`*“”‘’「」『』＂＇]{0,4}"
PAIR = re.compile(
    rf"{QUOTE}([^\"'`*“”‘’「」『』＂＇{{}},:：，、\s]{{1,20}}){QUOTE}\s{{0,4}}[:：]\s{{0,4}}{QUOTE}({NUMBER})"
)
OVERALL = ("综合得分", "綜合得分")
LOOSE = re.compile(rf"[综綜]合得分{QUOTE}\s{{0,4}}(?:[:：]|为|為|是)?\s{{0,4}}{QUOTE}({NUMBER})")


def plain(text: str) -> str:
    """Return the text with full-width digits, brackets and signs as their ASCII twins; the length is kept."""
    return text.translate(WIDE)


def _within(number: str, lowest: float) -> float | None:
    score = float(number)
    return score if lowest <= score <= HIGHEST else None


def parse_score(text: str) -> float | None:
    """MT-Bench rating: [[8]] or [[8.5]], else [8], else ［［８］］, 【【8】】 or [[評分：8分]]; None without 0 to 10.

    Texts that FastChat reads give FastChat's score.
    """
    found = next((match for pattern in SCORES if (match := pattern.search(text))), None)
    if found is None:
        wide = plain(text)
        found = SCORES[0].search(wide) or (CHINESE.search(wide) and LABELLED.search(wide))
    return _within(found[1], LOWEST) if found else None


def parse_winner(text: str) -> str | None:
    """MT-Bench pair verdict "A", "B" or "C" (tie), looked for in this order as FastChat does; None without one."""
    text = plain(text)
    return next((tag[2] for tag in WINNERS if tag in text), None)


def arena_labels(text: str) -> list[str]:
    """All different Arena-Hard labels in the text, in order: none and more than one both leave a game unscored."""
    return list(dict.fromkeys(LABEL.findall(plain(text))))


def parse_label(text: str) -> str | None:
    """Arena-Hard verdict, one of A>>B, A>B, A=B, B>A, B>>A; None when there is none or two that differ."""
    found = arena_labels(text)
    return found[0] if len(found) == 1 and found[0] in LABELS else None


def parse_ratings(text: str) -> dict[str, float]:
    """AlignBench: the last {dimension: number, …} with an overall score, as floats; the overall is under 综合得分.

    Accepts 综合得分 and 綜合得分, all quotes or none, quoted numbers, decimals, full-width signs. Without such braces
    the last overall score in the text counts alone. {} when nothing is found.
    """
    text = plain(text)
    for body in reversed(BRACES.findall(text)):
        found = {name: float(number) for name, number in PAIR.findall(body)}
        overall = next((found.pop(name) for name in OVERALL if name in found), math.nan)
        if not math.isnan(overall):
            return found | {OVERALL[0]: overall}
    loose = LOOSE.findall(text)
    return {OVERALL[0]: float(loose[-1])} if loose else {}


def parse_overall(text: str) -> float | None:
    """AlignBench's overall score, 1 to 10 with decimals; None when there is none in the text."""
    score = parse_ratings(text).get(OVERALL[0])
    return None if score is None else _within(str(score), 1.0)
