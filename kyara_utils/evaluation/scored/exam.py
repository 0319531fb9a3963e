"""Exam questions answered in words: TMMLU and TMMLU+, from raw responses to a score under every way of averaging.

The way of averaging moves TMMLU+ by points: lm-evaluation-harness weights every question alike (micro), TMMLU takes
the mean over subjects, and Kyara's card the mean of the four groups, as iKala/ievals does
(`ievals/cli/tmmluplus.py`). All four are computed; the card's is marked by `CARD`.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from statistics import mean
from typing import Any
from unicodedata import normalize

from kyara_utils.evaluation.scored.exam_subjects import CATEGORY_GROUP, GROUPS, SUBJECT_CATEGORY
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.tables import Row

CARD = "mean_of_groups"
LONGEST = 100_000  # characters; a longer response is unscored (TC-Eval's own stop at a few hundred tokens)

# The phrases of TC-Eval's extractor (mtkresearch/MR-Models, TC-Eval/evaluate.py, MultipleChoiceTask), composed instead
# of listed. A bar inside […] is the original's and part of its behaviour. Possessive repeats keep each one linear.
LETTER = r"\(*+([A-Ea-e])"
PICK, ITEM, OPTION, BE, SHOULD = "[選|选]", "[項|项]", "[項|项|擇|择]", "[為|为]", "[應|应]"
THAT, COLONS = "[該|该]", "[：|:]*+"
TAIL = rf"\s?{PICK}?{OPTION}?\s?{LETTER}"
RIGHT = "正[確|确]"
PHRASES = [
    re.compile(pattern)
    for pattern in (
        r"^\s*+([A-Ea-e])",
        r"^\s*+\(([A-Ea-e])\)",
        rf"^{PICK}{LETTER}",
        rf"^{PICK}{OPTION}{LETTER}",
        rf"[選|选][擇|择]\s*+{LETTER}",
        rf"答案{PICK}{OPTION}{BE}\s*+{LETTER}",
        rf"答案{TAIL}",
        rf"答案(?:是|{BE}|{SHOULD}{BE}|{SHOULD}{THAT}是|可能是|{PICK}[擇|择]){COLONS}{TAIL}",
        rf"答案[：|:]{TAIL}",
        rf"{SHOULD}{THAT}*{PICK}[擇|择]{COLONS}\s*+{LETTER}",
        rf"[應該|应该]是{COLONS}\s*+{LETTER}",
        rf"{RIGHT}的[選|选|一]{ITEM}[應|应|該|该]*是\s?{LETTER}",
        rf"{RIGHT}的{ITEM}是\s?{LETTER}",
        rf"{RIGHT}的*[陳|陈]述{SHOULD}{THAT}*是\s*+{LETTER}",
        rf"正確的敘述是{COLONS}\s*+{LETTER}",
        rf"正確.{{0,8}}是[選項|选项擇择]*{COLONS}\s*+{LETTER}",
        rf"最恰當的選項為{COLONS}\s*+{LETTER}",
        rf"{PICK}{OPTION}\s*+{COLONS}\s*+{LETTER}\)*+\s*+是*{RIGHT}",
        rf"([A-Ea-e])\)*+\s*+[應該|应该]*[是|為|为]{RIGHT}",
    )
]
NO_MORE = r"(?![A-Za-z])"
CHOSEN = re.compile(
    rf"(?:答案?(?:[應应]?[該该]?[是為为選选])?|(?<![不可單单複复多])[選选][擇择]?(?![項项擇择]))\W{{0,6}}([A-E]){NO_MORE}"
)
LATIN = re.compile(r"[A-Za-z]")
LONE = re.compile(r"(?<![A-Za-z])[A-E](?![A-Za-z])")


def parse_choice(response: str) -> str | None:
    """Return the letter A–E that a response states by TC-Eval's rule, or None.

    The phrases must agree on one letter; failing that, a response with a single Latin letter is taken at it.
    """
    found = {letter.upper() for phrase in PHRASES for letter in phrase.findall(response)}
    if len(found) == 1:
        return found.pop()
    latin = [match[0].upper() for match in islice(LATIN.finditer(response), 2)]
    return latin[0] if len(latin) == 1 and latin[0] in "ABCDE" else None


def score_response(response: str | None, answer: str) -> Row:
    """Score one response: {strict, lenient, strict_answer, lenient_answer}; None or too long is unscored.

    `lenient` reads full width as half and takes the letter that is chosen last ((A)不對，選(B); 答：Ｂ), then the
    strict one, then the last lone capital A–E.
    """
    text = response if response is not None and len(response) <= LONGEST else ""
    strict = parse_choice(text) if text.strip() else None
    plain = normalize("NFKC", text)
    lenient = (CHOSEN.findall(plain) or [strict or (LONE.findall(plain) or [None])[-1]])[-1]
    outcomes = {"strict": _outcome(strict, answer), "lenient": _outcome(lenient, answer)}
    return outcomes | {"strict_answer": strict or "", "lenient_answer": lenient or ""}


def _outcome(letter: str | None, answer: str) -> str:
    return UNSCORED if letter is None else CORRECT if letter == answer else WRONG


def score_exam(questions: Iterable[Row], responses: Iterable[Row]) -> list[Row]:
    """Score responses {subject, id, response} against questions {subject, id, answer}, one row per question.

    A question without a response is unscored and stays in the denominator; a response without a question is ignored.
    """
    by_item = {(row["subject"], str(row["id"])): row["response"] for row in responses}
    return [
        {"subject": row["subject"], "id": str(row["id"])}
        | score_response(by_item.get((row["subject"], str(row["id"]))), row["answer"])
        for row in questions
    ]


def aggregate(scored: Iterable[Row], rule: str = "strict") -> dict[str, Any]:
    """Average scored rows in every way in use; values are shares in [0, 1], unscored counted as not correct.

    Returns `micro` (all questions alike), `macro_average` (mean over subjects) and, when every subject is one of
    TMMLU+'s 66, `macro_category` (mean over categories), `mean_of_groups` (mean of the four groups, each the mean of
    its subjects: the card's) and each group by name. `no_answer` is the share unscored, `total` the questions.
    """
    subjects: dict[str, list[str]] = {}
    for row in scored:
        subjects.setdefault(row["subject"].removeprefix("tmmluplus_"), []).append(row[rule])
    outcomes = [outcome for group in subjects.values() for outcome in group]
    means = {subject: group.count(CORRECT) / len(group) for subject, group in subjects.items()}
    found = {"micro": outcomes.count(CORRECT) / len(outcomes), "macro_average": mean(means.values())}
    if means.keys() <= SUBJECT_CATEGORY.keys():
        found |= _grouped(means)
    return found | {"no_answer": outcomes.count(UNSCORED) / len(outcomes), "total": len(outcomes)}


def _grouped(subjects: Mapping[str, float]) -> dict[str, float]:
    """Category and group averages of {subject: share}; a group without subjects is left out."""
    categories: dict[str, list[float]] = {}
    groups: dict[str, list[float]] = {}
    for subject, value in subjects.items():
        category = SUBJECT_CATEGORY[subject]
        categories.setdefault(category, []).append(value)
        groups.setdefault(CATEGORY_GROUP[category], []).append(value)
    by_group = {group: mean(groups[group]) for group in GROUPS if group in groups}
    by_category = mean(mean(values) for values in categories.values())
    return {"macro_category": by_category, CARD: mean(by_group.values())} | by_group
