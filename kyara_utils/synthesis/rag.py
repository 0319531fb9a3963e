"""Step 4 of Kyara's base set: an answer from the original document and at most K digests, and what it must pass."""

import json
import re

from kyara_utils.llm import Client
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import (
    end,
    examples_shown,
    parted,
    passage,
    path_of,
    problem_of,
    rounds_row,
    shown,
    write,
)
from kyara_utils.synthesis.evolve import evolved, revert
from kyara_utils.synthesis.styles import Style, style_of

TRIED = 50  # brackets of an answer at which JSON is looked for


def answer_questions(
    client: Client, drafts: list[Row], seed: int = 0, language: str = "zh-Hant", attempts: int = 2
) -> tuple[list[Row], list[Row]]:
    """Add `answer` from the original document and the digests; return accepted drafts and rejects.

    How long an answer is asked for depends on the style of the teacher.
    A faulty answer is sampled again, up to `attempts` times in all. A refusal, or an answer of punctuation and stop
    words alone, also fails an evolution (WizardLM): the draft gets its first question back.
    Rejects (for the last attempt) of stage `answer`: call_failed, empty, truncated; of stage `checks`: the rules of
    `checks.ANSWER_RULES`, and not_structured.
    """
    for attempt in range(attempts):
        asked = [draft for draft in drafts if not attempt or draft["rule"]]
        _answer(client, asked, attempt, seed, language)
        for draft in asked:
            if draft["rule"] in ("refusal", "only_stop_words") and evolved(draft):
                revert(draft, draft["rule"])
    return parted(drafts)


def _answer(client: Client, drafts: list[Row], attempt: int, seed: int, language: str) -> None:
    inputs = [
        {
            "document": shown(client, draft["chunk"]),
            "digests": [digest["text"] for digest in draft["digests"]],
            "question": draft["question"],
        }
        for draft in drafts
    ]
    responses = write(client, "answer", language, drafts, inputs, attempt, seed)
    examples = examples_shown(client, "answer", language)
    for draft, response in zip(drafts, responses, strict=True):
        draft["answer"] = response.text
        end(draft, "answer", problem_of(response), response.text[:80])
        if not draft["rule"]:
            end(draft, "checks", *_check(draft, language, examples, style_of(client)))


def _check(draft: Row, language: str, examples: list[str], style: Style) -> tuple[str, str]:
    rule, detail = checks.answer_rule(
        draft["answer"], draft["question"], draft["chunk"]["text"], sources_of(draft), language, examples, style
    )  # fmt: skip
    if not rule and evolved(draft) and draft["evolution"]["direction"] == "structured":
        rule, detail = ("", "") if structured(draft["answer"]) else ("not_structured", draft["answer"][:80])
    draft["checks"] = [] if rule else list(checks.ANSWER_RULES)
    return rule, detail


def structured(text: str) -> bool:
    """Whether a text contains a JSON object, a JSON list of several items, or a Markdown table of two rows.

    A footnote mark like [1] or an interval [3, 5] is JSON by its letters, and no structure.
    """
    if len(re.findall(r"^\s*\|.{1,2000}\|\s*$", text, re.M)) >= 2:
        return True
    for found in list(re.finditer(r"[{\[]", text))[:TRIED]:
        try:
            value, _ = json.JSONDecoder().raw_decode(text[found.start() :])
        except (json.JSONDecodeError, RecursionError):
            continue
        several = isinstance(value, list) and len(value) > 1 and not all(isinstance(one, int | float) for one in value)
        if several or (isinstance(value, dict) and value):
            return True
    return False


def sources_of(draft: Row) -> list[str]:
    """All that the model was shown to answer from: the document with its title, and the digests."""
    return [passage(draft["chunk"]), *(digest["text"] for digest in draft.get("digests", []))]


def rag_conversations(drafts: list[Row], model: str, language: str = "zh-Hant") -> list[Row]:
    """Turn accepted drafts into conversations of source `rag`, or `followup` where they have several rounds.

    The whole path is in `meta`.
    """
    return [_conversation(draft, model, language) for draft in drafts]


def _conversation(draft: Row, model: str, language: str) -> Row:
    rounds = [(draft["question"], draft["answer"]), *draft.get("rounds", [])]
    source = "followup" if len(rounds) > 1 else "rag"
    parents = [draft["chunk"]["id"], *(digest["id"] for digest in draft["digests"])]
    meta = path_of(draft, model) | {"kind": source, "rounds": len(rounds)}
    return rounds_row(rounds, source, parents, draft["calls"], meta, language)
