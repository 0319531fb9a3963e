"""What makes a problem usable and a solution believable: computed where it can be, said to be unverified where not.

A solution is `wrong` only when recomputing says so. `unverified` is no fault: solving it again decides.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from kyara_utils.synthesis.maths.answers import Answer, final_answer
from kyara_utils.synthesis.maths.equations import RIGHT, WRONG, Equation, equations
from kyara_utils.synthesis.maths.notation import plain_notation
from kyara_utils.synthesis.maths.tokens import tokenize
from kyara_utils.synthesis.maths.units import DIMENSIONS, compounds
from kyara_utils.text import folding

VERIFIED, UNVERIFIED, REFUTED = "verified", "unverified", "wrong"
FREE, ONCE, STATED = "free", "once", "stated"
ASKS = re.compile(
    r"幾|多少|百分之幾|何時|什麼時候|多[長久遠高重寬大快]|是否|夠不夠|能不能|哪一?[個種家位天]|求|請計算|計算出|比例|如何"
)
SOLVED = re.compile(r"(?:^|\n)\s*[#*]*\s*(?:解答|解法|解|答案|答)\s*[*]*\s*[:：]|答案是|\\boxed|####")
SHARE = re.compile(r"([一二三四五六七八九\d]{1,2}(?:\.\d)?)\s*([折成])")
DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")}
CONSTANTS = (  # numbers that no problem states, where the text speaks of what they belong to
    ("", "1 2 100"),
    ("時|分鐘|秒|點", "60 24 3600 12"),
    ("週|周|星期|禮拜|月|年|天|日", "7 4 12 30 31 52 365 24"),
    ("公[里尺分斤克升噸頃]|毫|噸|千克", "10 1000 10000 1000000"),
    ("圓|半徑|直徑|角|度|三角|周長|面積|梯形", "2 3.14 180 360 90 0.5 3 4"),
    ("打", "12"),
    ("平均", "2 3 4 5 6 7 8 9 10"),
)


@dataclass(frozen=True)
class Check:
    """The verdict on a solution; rule and detail say why where it is not verified."""

    verdict: str
    rule: str = ""
    detail: str = ""
    answer: Answer | None = None


def problem_rule(text: str, longest: int = 600) -> str:
    """Name of the rule that a problem breaks, or "": at most `longest` characters, two quantities, a question, no
    solution."""
    if len(text) > longest:
        return "too_long"
    if SOLVED.search(text):
        return "holds_its_solution"
    if not ASKS.search(text):
        return "asks_no_quantity" if text.rstrip().endswith(("？", "?")) else "not_a_question"
    last = re.split(r"[。！!]", text.rstrip("。 \n"))[-1]
    if not text.rstrip().endswith(("？", "?", "。", "）", ")")) or not (ASKS.search(last) or "？" in text[-200:]):
        return "not_a_question"
    return "" if len(stated_numbers(text)) >= 2 else "too_few_numbers"


def stated_numbers(text: str) -> list[Fraction]:
    """Return the quantities that a text states, in digits or Chinese numerals (一 alone is mostly an article)."""
    plain = plain_notation(text)
    tokens = tokenize(plain)
    new = [token for token in compounds(tokens) if token not in tokens]
    found = [token.value for token in [*tokens, *new] if token.kind == "number"]
    for word in folding.numbers(re.sub(r"[\d.,]+", " ", plain)):
        if word.isdigit():
            found.append(Fraction(word))
    for share, kind in SHARE.findall(plain):
        digits = "".join(str(DIGITS.get(c, c)) for c in share)
        found.append(Fraction(digits) / (100 if len(digits) == 2 and kind == "折" else 10))
    return found + ([Fraction(1, 2)] if "半" in plain else [])


def check_solution(problem: str, solution: str, numbers: str = FREE) -> Check:
    """Recompute a solution.

    Wrong: `wrong_calculation` (an equation is wrong), `wrong_answer` (all is right, the answer is none of the
    results). Unverified: `no_equation`, `symbols` (letters or words take part), `foreign_numbers` (an operand is
    neither stated, nor a result, nor a constant), `word_answer`. Without an answer the rule is `no_answer`.

    numbers, what a sum may use: `free`; `once`, each stated number as often as it is stated, else `foreign_numbers` is
    wrong (small models put down numbers at random); `stated`, no constants either, and `no_equation` is wrong.
    """
    answer, found = final_answer(solution), equations(solution)
    if answer is None:
        return Check(REFUTED, "no_answer")
    if wrong := next((equation for equation in found if equation.verdict == WRONG), None):
        return Check(REFUTED, "wrong_calculation", wrong.text, answer)
    right = [equation for equation in found if equation.verdict == RIGHT]
    if not right:
        return Check(REFUTED if numbers == STATED else UNVERIFIED, "no_equation", answer=answer)
    if foreign := foreign_number(problem, right, numbers):
        return Check(UNVERIFIED if numbers == FREE else REFUTED, "foreign_numbers", foreign, answer)
    if answer.kind != "number":
        return Check(UNVERIFIED, "word_answer", answer.text, answer)
    symbols = len(right) < len(found)
    if not _derived(answer, right, _factors(answer.text, solution)):
        return Check(UNVERIFIED if symbols else REFUTED, "symbols" if symbols else "wrong_answer", answer.text, answer)
    return Check(UNVERIFIED if symbols else VERIFIED, "symbols" if symbols else "", answer=answer)


def _derived(answer: Answer, right: Iterable[Equation], factors: set[Fraction]) -> bool:
    """Whether each number of the answer is the result of an equation, or that rounded to a whole number."""
    results = [equation.result for equation in right if equation.result is not None]
    results += [equation.rest for equation in right if equation.rest is not None]
    results += [equation.operands[0] for equation in right if len(equation.operands) == 1]  # 7 = 3 + 4
    known = {value for result in results for value in (result, Fraction(ceil(result)), Fraction(floor(result)))}
    if "%" in answer.text:
        known |= {value / 100 for value in known}
    return all(
        _known(value, known) or any(_known(value / factor, known) for factor in factors) for value in answer.numbers
    )


def _known(value: Fraction, known: set[Fraction]) -> bool:
    return value in known or any(round(float(other), 2) == round(float(value), 2) for other in known)


def _factors(answer: str, solution: str) -> set[Fraction]:
    """By what a result turns into the answer's unit: 1.5 小時 as computed, 90 分鐘 as answered."""
    units = [token.text for token in tokenize(answer) if token.kind == "unit"]
    return {
        table[other] / table[unit]
        for table in DIMENSIONS
        for unit in units
        if unit in table
        for other in table
        if other in solution
    }


def foreign_number(problem: str, right: Iterable[Equation], numbers: str = FREE) -> str:
    """Return the first operand that neither the problem states nor an earlier equation gave, nor is a constant."""
    stated = stated_numbers(problem)
    there = Counter(stated)
    constants = set() if numbers == STATED else _constants(problem)
    known = set(there) if numbers == STATED else _variants(stated, problem) | constants
    for equation in right:
        for operand, count in Counter(equation.operands).items():
            often = numbers != FREE and operand in there and operand not in constants and count > there[operand]
            if operand not in known or often:
                return f"{float(operand):.12g}"
        if equation.result is not None:
            results = [value for value in (equation.result, equation.rest) if value is not None]
            there.update(results)
            known |= set(results) if numbers == STATED else _variants(results, problem)
    return ""


def _constants(problem: str) -> set[Fraction]:
    return {Fraction(number) for words, line in CONSTANTS if re.search(words, problem) for number in line.split()}


def _variants(values: Iterable[Fraction], problem: str) -> set[Fraction]:
    """The forms in which a stated number enters a sum: its negative, rounded, and 20 % as 0.2, 0.8, 1.2, 80, 120."""
    found: set[Fraction] = set()
    for value in values:
        found |= {value, -value, Fraction(ceil(value)), Fraction(floor(value))}
        if re.search("[%％折成]|百分", problem):
            share = value / 100
            found |= {
                share,
                1 - share,
                1 + share,
                100 - value,
                100 + value,
                value * 100,
                value / 10,
                1 - value,
                1 + value,
            }
        if re.search("[天日棵層樓段節根]", problem):
            found |= {value - 1, value + 1}  # posts and gaps
    return found
