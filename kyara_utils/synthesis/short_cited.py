"""Short answers told in one sentence with its citation: the card's format with a label that is known beforehand.

The teacher only joins question and answer into a sentence; which document it rests on is known from where the question
came from, so no citation has to be believed. The sentence may say nothing else.
"""

import re

from kyara_utils.llm import Client, Response
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.citations import citation_rule, cite
from kyara_utils.synthesis.drafts import examples_shown, problem_of, sentences, share_of, write
from kyara_utils.synthesis.foreign_numbers import foreign_number
from kyara_utils.synthesis.overlap import overlap
from kyara_utils.synthesis.styles import style_of
from kyara_utils.text.folding import fold

KIND = "rag_cited"
SAID = 0.6  # least share of the sentence's terms that question and answer must hold


def cite_short_answers(
    client: Client, drafts: list[Row], share: float, seed: int = 0, language: str = "zh-Hant", attempts: int = 2
) -> int:
    """Make a seeded share of drafts with `gold`, `context` and `answer` answers with citations; return how many.

    Those get kind `rag_cited` and an `answer` of one sentence with 【id】 of the source; of the unanswerable ones only
    the kind changes. A draft whose sentence breaks a rule in all `attempts` stays a short answer: nothing is lost.
    """
    chosen = share_of(drafts, share, seed + 1)  # with `seed` it would be those that `add_readings` made unanswerable
    for draft in chosen:
        if not draft["answerable"]:
            draft |= {"kind": KIND, "cited": "none, unanswerable by construction"}
    for attempt in range(attempts):
        asked = [draft for draft in chosen if draft["kind"] != KIND]
        inputs = [{"question": draft["question"], "answer": draft["gold"]} for draft in asked]
        responses = write(client, "short_sentence", language, asked, inputs, attempt, seed)
        for draft, response in zip(asked, responses, strict=True):
            _take(client, draft, response, language)
    return sum(draft["kind"] == KIND for draft in chosen)


def _take(client: Client, draft: Row, response: Response, language: str) -> None:
    answer = cite(response.text, draft["chunk"]["id"])
    if _sound(client, draft, response, language) and not citation_rule(answer, draft["context"])[0]:
        found = ["answer_in_sentence", "citations_exist", "citations_supported"]
        draft |= {"kind": KIND, "answer": answer, "cited": "the question's own document"}
        draft["checks"] = [*draft["checks"], *found]


def _sound(client: Client, draft: Row, response: Response, language: str) -> bool:
    """One statement that holds the answer, and beside question and answer no number and few words."""
    text, known = response.text, [draft["question"], draft["gold"]]
    if problem_of(response) or len(sentences(text)) != 1 or re.search(r"[？?【】\n]", text):
        return False
    if fold(draft["gold"]) not in fold(text) or foreign_number(text, known) or overlap(text, " ".join(known)) < SAID:
        return False
    examples = examples_shown(client, "short_sentence", language)
    return not checks.request_rule(text, language, examples, known, style_of(client))[0]
