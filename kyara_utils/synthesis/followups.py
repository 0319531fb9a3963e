"""Second and later rounds: a follow-up question on what was just said, answered from the same documents.

Kyara's card plots conversation rounds; a model trained on single rounds alone never learns to refer back. A round that
fails a check is left out and the conversation keeps the rounds it has, so nothing is lost; `followup` says why.
"""

from kyara_utils.llm import Client, Response
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import examples_shown, problem_of, shown, write
from kyara_utils.synthesis.overlap import near_duplicate
from kyara_utils.synthesis.question_rules import question_problem
from kyara_utils.synthesis.rag import sources_of
from kyara_utils.synthesis.styles import style_of
from kyara_utils.synthesis.written import bare


def add_rounds(client: Client, drafts: list[Row], rounds: int, seed: int = 0, language: str = "zh-Hant") -> int:
    """Lengthen accepted drafts in place to at most `rounds` rounds; return how many got at least a second one.

    Adds `rounds`: [(question, answer)] after the first, and `followup`: {tried: [{question, answer, rule, detail}]}.
    """
    for draft in drafts:
        draft["rounds"], draft["followup"] = [], {"tried": []}
    going = drafts
    for number in range(2, rounds + 1):
        if not going:
            break
        going = _one_round(client, going, seed + number, language)
    return sum(bool(draft["rounds"]) for draft in drafts)


def _one_round(client: Client, drafts: list[Row], seed: int, language: str) -> list[Row]:
    """Ask and answer one more question per draft; return the drafts that got it."""
    inputs = [{"document": shown(client, draft["chunk"]), "rounds": _said(draft)} for draft in drafts]
    questions = write(client, "followup", language, drafts, inputs, seed=seed)
    asked = []
    for draft, response in zip(drafts, questions, strict=True):
        response.text = response.text if style_of(client).one_line else bare(response.text)
        rule, detail = _question_rule(client, draft, response, language)
        draft["followup"]["tried"].append({"question": response.text, "answer": "", "rule": rule, "detail": detail})
        if not rule:
            asked.append(draft)
    return _answered(client, asked, seed, language)


def _answered(client: Client, drafts: list[Row], seed: int, language: str) -> list[Row]:
    inputs = [
        {"document": shown(client, draft["chunk"]), "rounds": _said(draft), "question": _tried(draft)["question"]}
        for draft in drafts
    ]
    answers = write(client, "followup_answer", language, drafts, inputs, seed=seed)
    for draft, response in zip(drafts, answers, strict=True):
        tried = _tried(draft)
        rule, detail = _answer_rule(client, draft, tried["question"], response, language)
        tried |= {"answer": response.text, "rule": rule, "detail": detail}
        if not rule:
            draft["rounds"].append((tried["question"], response.text))
    return [draft for draft in drafts if not _tried(draft)["rule"]]


def _tried(draft: Row) -> Row:
    return draft["followup"]["tried"][-1]


def _said(draft: Row) -> list[tuple[str, str]]:
    return [(draft["question"], draft["answer"]), *draft["rounds"]]


def _question_rule(client: Client, draft: Row, response: Response, language: str) -> tuple[str, str]:
    if rule := problem_of(response):
        return rule, response.error
    rule, detail = question_problem(response.text, language, style_of(client))
    if rule == "points_elsewhere":  # a follow-up may point at what was just said
        rule, detail = "", ""
    if not rule:
        rule, detail = checks.request_rule(
            response.text, language, examples_shown(client, "followup", language), sources_of(draft), style_of(client)
        )
    if rule:
        return rule, detail
    other = near_duplicate(response.text, [question for question, _ in _said(draft)])
    return ("near_duplicate_question", other) if other else ("", "")


def _answer_rule(client: Client, draft: Row, question: str, response: Response, language: str) -> tuple[str, str]:
    if rule := problem_of(response):
        return rule, response.error
    rule, detail = checks.answer_rule(
        response.text, question, draft["chunk"]["text"], sources_of(draft), language,
        examples_shown(client, "followup_answer", language), style_of(client),
    )  # fmt: skip
    if rule:
        return rule, detail
    other = near_duplicate(response.text, [answer for _, answer in _said(draft)])
    return ("repeats_answer", other) if other else ("", "")
