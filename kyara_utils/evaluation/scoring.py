"""Scorers of single answers. Each outcome is correct, wrong or unscored, because a missing or unreadable
answer is not a wrong one: averaging parse failures in as a low score moves published benchmarks by several
points.

Model output is untrusted: it is never evaluated, and every pattern is linear in the length of the answer.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from kyara_utils.runs.errors import KyaraError

CORRECT, WRONG, UNSCORED = "correct", "wrong", "unscored"
LETTERS = ("A", "B", "C", "D")


def outcome(passed: bool) -> str:
    """Correct or wrong."""
    return CORRECT if passed else WRONG


def score_choice(
    logprobs: Mapping[str, float], answer: str, prior: Mapping[str, float] | None = None
) -> dict[str, str | float]:
    """Score a multiple-choice item from the log-probabilities (nats) of the letters A to D.

    `prior` holds the letters' log-probabilities after a content-free question; subtracting it removes the
    model's liking for a letter (contextual calibration, Zhao et al. 2021, arXiv 2102.09690). Returns
    `outcome`, `chosen` and `margin` (nats between the best two). A letter without a finite value, or a tie
    for the best, leaves the item unscored.
    """
    if answer not in LETTERS:
        raise KyaraError(f"the answer key {answer!r} is none of A, B, C, D; correct the item")
    known = [logprobs, prior] if prior is not None else [logprobs]
    if not all(math.isfinite(table.get(letter, math.nan)) for table in known for letter in LETTERS):
        return {"outcome": UNSCORED, "chosen": "", "margin": math.nan}
    scores = {letter: logprobs[letter] - (prior[letter] if prior is not None else 0.0) for letter in LETTERS}
    best, second = sorted(LETTERS, key=scores.__getitem__, reverse=True)[:2]
    margin = scores[best] - scores[second]
    if margin == 0:
        return {"outcome": UNSCORED, "chosen": "", "margin": 0.0}
    return {"outcome": outcome(best == answer), "chosen": best, "margin": margin}


WIDE = str.maketrans("０１２３４５６７８９．－−", "0123456789.--")
WIDE_COMMA = re.compile(r"(?<=[０-９])，(?=[０-９]{3})")  # between ordinary digits ， separates clauses
DIGITS = r"(?>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?>(?:\.[0-9]+)?)"
NUMBER = re.compile(rf"(?<![0-9A-Za-z)）])-{DIGITS}|{DIGITS}")
# A number that goes on as a formula (3/4, 18 ÷ 6 = 3) is not the answer in the form that was asked for.
STATED = re.compile(rf"答案是[\s：:*$]{{0,8}}(-?{DIGITS})(?![ \t]{{0,4}}(?:[+\-×÷/／=^]|\*(?!\*)))")
LONGEST = 40  # digits; no answer key comes near, and a longer number is wrong without being converted


def score_maths(text: str | None, answer: str) -> dict[str, str]:
    """Score a word problem by two rules, since the parser alone can move a score by many points.

    `strict` wants the last `答案是N`; `lenient` takes the last number anywhere. Returns `strict`, `lenient`
    (outcomes) and `strict_answer`, `lenient_answer` (the numbers read, "" where none). Full-width digits and
    thousands commas are read; Chinese numerals are not. `text` None (a failed call) is unscored in both.
    """
    plain = WIDE_COMMA.sub(",", text or "").translate(WIDE)
    stated, number = "", ""
    for match in STATED.finditer(plain):
        stated = match[1]
    for match in NUMBER.finditer(plain):
        number = match[0]
    key = _value(answer.translate(WIDE))
    return {
        "strict": _compare(stated, key),
        "lenient": _compare(number, key),
        "strict_answer": stated[:LONGEST],
        "lenient_answer": number[:LONGEST],
    }


def _value(number: str) -> Decimal | None:
    return Decimal(number.replace(",", "")) if len(number) <= LONGEST else None


def _compare(number: str, key: Decimal | None) -> str:
    return outcome(_value(number) == key) if number else UNSCORED


ENDS = re.compile(r"[。！？]")
WORD = re.compile(r"\w")
NUMBERED = re.compile(r"^([0-9]{1,4})\.(?![0-9])", re.MULTILINE)
DIGIT = re.compile(r"[0-9０-９]")


def _sentences(answer: str) -> int:
    """Parts between 。！？ that hold a word; a last part without its full stop counts too."""
    return sum(1 for part in ENDS.split(answer) if WORD.search(part))


def _bullets(answer: str) -> int:
    return sum(line.startswith("- ") for line in answer.splitlines())


def _numbers(answer: str) -> list[int]:
    return [int(number) for number in NUMBERED.findall(answer)]


def _is_object(answer: str, keys: list[str]) -> bool:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):  # also a number of millions of digits, or a tower of brackets
        return False
    return isinstance(value, dict) and set(value) == set(keys)


RULES: dict[str, Callable[..., bool]] = {
    "max_chars": lambda answer, n: len(answer) <= n,
    "min_chars": lambda answer, n: len(answer) >= n,
    "keyword": lambda answer, word: word in answer,
    "forbidden": lambda answer, word: word not in answer,
    "starts_with": lambda answer, text: answer.startswith(text),
    "ends_with": lambda answer, text: answer.endswith(text),
    "sentences_max": lambda answer, n: _sentences(answer) <= n,
    "sentences_exact": lambda answer, n: _sentences(answer) == n,
    "bullet_count": lambda answer, n: _bullets(answer) == n,
    "numbered_count": lambda answer, n: _numbers(answer) == list(range(1, n + 1)),
    "json": lambda answer, keys: _is_object(answer, keys),
    "no_comma": lambda answer: "，" not in answer and "," not in answer,
    "no_digits": lambda answer: not DIGIT.search(answer),
    "contains_digit": lambda answer: bool(DIGIT.search(answer)),
    "question_mark_end": lambda answer: answer.endswith(("？", "?")),
}


def score_instruction(text: str | None, checks: list[dict[str, Any]]) -> dict[str, Any]:
    """Score an answer against its verifiable instructions (after IFEval, Zhou et al. 2023, arXiv 2311.07911).

    `checks` is [{"rule", "args"}] with the rules of the benchmarks' README. Returns `outcome` (correct when
    all hold) and `checks`, one outcome per instruction. An empty answer fails every rule; `text` None is
    unscored. Raises KyaraError for an unknown rule or wrong arguments.
    """
    if text is None:
        return {"outcome": UNSCORED, "checks": [UNSCORED] * len(checks)}
    stripped = text.strip()
    results = [outcome(_holds(stripped, check)) for check in checks]
    return {"outcome": outcome(all(result == CORRECT for result in results)), "checks": results}


def _holds(answer: str, check: dict[str, Any]) -> bool:
    name, args = check.get("rule"), check.get("args") or {}
    if name not in RULES:
        raise KyaraError(f"unknown instruction rule {name!r}; known: {', '.join(RULES)}")
    try:
        return RULES[name](answer, **args) and bool(answer)
    except TypeError as error:
        raise KyaraError(f"instruction rule {name} got {args}; see the benchmarks' README for its args") from error
