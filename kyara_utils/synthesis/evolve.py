"""Evol-Instruct: make some questions harder, in Kyara's four directions and WizardLM's, and eliminate what failed.

WizardLM (arXiv 2304.12244): depth (constraints, deepening, concretizing, reasoning) and breadth, a direction drawn at
random; an evolution that gains nothing, refuses, is only punctuation and stop words, or leaks the prompt fails. Kyara's
README: related questions, step-by-step analysis, structured output, a background story. A failed evolution returns the
question unchanged to the pool, and `evolution` says what was tried and why it failed.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from kyara_utils.llm import Client, Response, score
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import examples_shown, problem_of, share_of, verdicts, write
from kyara_utils.synthesis.overlap import jaccard, overlap
from kyara_utils.synthesis.question_rules import question_problem
from kyara_utils.synthesis.styles import FULL, Style, limits, style_of
from kyara_utils.synthesis.written import bare

DIRECTIONS = {
    "zh-Hant": {
        "related": "一次問幾個相關的問題",
        "steps": "要求一步一步分析",
        "structured": "要求用 JSON 或表格回答",
        "story": "加上一段假設的情境",
        "constraints": "多加一個限制條件",
        "deepening": "問得更深更廣",
        "concretizing": "把籠統的說法換成具體的",
        "reasoning": "改成需要多步推理的問題",
        "breadth": "在同一個領域另外出一個更少見的問題",
    },
    "en": {
        "related": "ask several related questions at once",
        "steps": "ask for a step-by-step analysis",
        "structured": "ask for the answer as JSON or a table",
        "story": "add a short hypothetical situation",
        "constraints": "add one more constraint",
        "deepening": "ask in more depth and breadth",
        "concretizing": "replace general notions by specific ones",
        "reasoning": "turn it into a question that needs several steps of reasoning",
        "breadth": "ask a different, rarer question in the same field",
    },
}
EQUAL = {"zh-Hant": ("同", "異"), "en": ("Equal", "Not")}
NO_GAIN = 0.9  # Jaccard similarity from which old and new question are the same text
KEPT = 0.3  # share of the old question's terms that the new one must keep (not for breadth)
CONTROLS = 6


def evolve_questions(
    client: Client, drafts: list[Row], share: float, seed: int = 0, language: str = "zh-Hant"
) -> list[Row]:
    """Evolve a seeded share of the drafts in place and return those that were tried.

    Adds `evolution`: {direction, question (before), tried, rule}; rule is "" where the new question was taken over,
    else one of call_failed, empty, truncated, no_gain, refusal, only_stop_words, leaked_prompt, wrong_script, too_long,
    not_a_question, points_elsewhere, lost_subject, judged_equal.
    """
    tried = share_of(drafts, share, seed)
    picker = random.Random(seed)
    directions = [picker.choice(list(DIRECTIONS[language])) for _ in tried]
    inputs = [
        {"question": draft["question"], "direction": DIRECTIONS[language][direction]}
        for draft, direction in zip(tried, directions, strict=True)
    ]
    responses = write(client, "evolve", language, tried, inputs, seed=seed)
    style, examples = style_of(client), examples_shown(client, "evolve", language)
    for draft, direction, response in zip(tried, directions, responses, strict=True):
        response.text = response.text if style.one_line else bare(response.text)
        rule = elimination_rule(draft["question"], response, direction, language, style, examples)
        draft["evolution"] = {
            "direction": direction, "question": draft["question"], "tried": response.text, "rule": rule,
        }  # fmt: skip
    _judge_equality(client, [draft for draft in tried if not draft["evolution"]["rule"]], language)
    for draft in tried:
        if not draft["evolution"]["rule"]:
            draft["question"] = draft["evolution"]["tried"]
    return tried


def elimination_rule(
    question: str, response: Response, direction: str, language: str, style: Style = FULL, examples: Sequence[str] = ()
) -> str:
    """Rule by which an evolved question fails without asking a model, or ""."""
    text = response.text
    if rule := problem_of(response):
        return rule
    rule, _ = checks.request_rule(text, language, examples, [question], style)
    if rule:
        return rule
    if DIRECTIONS[language][direction] in text:
        return "leaked_prompt"
    if jaccard(question, text) >= NO_GAIN:
        return "no_gain"
    if len(text) > limits(style.evolved, language)[1]:
        return "too_long"
    if not style.one_line and (found := question_problem(text, language, replace(style, question=style.evolved))[0]):
        return found
    return "lost_subject" if direction != "breadth" and overlap(question, text) < KEPT else ""


def _judge_equality(client: Client, drafts: list[Row], language: str) -> None:
    """Fail the evolutions judged equal: log-odds at least the median of identical pairs, or by text without any."""
    inputs = [{"first": draft["evolution"]["question"], "second": draft["evolution"]["tried"]} for draft in drafts]
    same = [{"first": item["first"], "second": item["first"]} for item in inputs[:CONTROLS]]
    labels = EQUAL[language]
    found, known = verdicts(client, "equal", language, drafts, inputs, labels, same)
    identical = sorted(value for response in known if (value := score(response, labels)) is not None)
    threshold = identical[len(identical) // 2] if identical else 0.0
    for draft, response in zip(drafts, found, strict=True):
        value = score(response, labels)
        draft["evolution"]["equality"] = None if value is None else round(value, 4)
        equal = value >= threshold if value is not None else bool(response.text) and labels[0].startswith(response.text)
        draft["evolution"]["rule"] = "judged_equal" if equal else ""


def revert(draft: Row, rule: str) -> None:
    """Give the draft its first question back: WizardLM also fails an evolution by the answer it gets."""
    draft["evolution"]["rule"] = rule
    draft["question"] = draft["evolution"]["question"]


def evolved(draft: Row) -> bool:
    """Whether the draft now asks an evolved question."""
    return "evolution" in draft and not draft["evolution"]["rule"]
