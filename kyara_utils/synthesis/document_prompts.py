"""A prompt for a good document: the model writes the request, the document itself is the answer.

The card: "ask LLM to generate an user prompt for high quality documents, and pair the (generated prompt, original
document) as a SFT example". Rich in knowledge, weak in following instructions, says the card too.
"""

from kyara_utils.llm import Client, Response
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import (
    conversation,
    end,
    examples_shown,
    excerpt,
    new_draft,
    parted,
    passage,
    path_of,
    problem_of,
    shown,
    write,
)
from kyara_utils.synthesis.question_rules import off_topic, points_elsewhere
from kyara_utils.synthesis.styles import limits, style_of
from kyara_utils.synthesis.written import bare
from kyara_utils.text.answer_faults import unfinished

REQUEST_WORDS = {
    "zh-Hant": ("請", "說明", "介紹", "解釋", "描述", "告訴", "什麼", "如何", "怎麼", "為什麼", "哪"),
    "en": ("please", "explain", "describe", "introduce", "tell", "what", "how", "why", "which", "give", "write"),
}


def document_conversations(
    client: Client, chunks: list[Row], model: str, seed: int = 0, language: str = "zh-Hant", characters: int = 0
) -> tuple[list[Row], list[Row]]:
    """Return conversations of source `document` and rejects; the teacher is shown `characters` of a chunk (0: all).

    Rejects of stage `question`: call_failed, empty, truncated, not_a_request, only_stop_words, leaked_prompt, refusal,
    wrong_script, mainland_term, points_elsewhere, off_topic; of stage `checks`, by the document itself: truncated,
    wrong_script. Holds all drafts: good for some 100,000 chunks at once.
    """
    drafts = [new_draft(chunk, "document") for chunk in chunks]
    inputs = [{"document": shown(client, excerpt(chunk, characters))} for chunk in chunks]
    responses = write(client, "document", language, drafts, inputs, seed=seed)
    for draft, response in zip(drafts, responses, strict=True):
        response.text = response.text if style_of(client).one_line else bare(response.text)
        draft["question"] = response.text
        end(draft, "question", *_request_rule(client, draft["chunk"], response, language))
        if not draft["rule"]:
            end(draft, "checks", *_document_rule(draft, language))
    kept, rejects = parted(drafts)
    return [_conversation(draft, model, language) for draft in kept], rejects


def _request_rule(client: Client, chunk: Row, response: Response, language: str) -> tuple[str, str]:
    text = response.text
    if rule := problem_of(response):
        return rule, response.error or text
    low, high = limits(style_of(client).request, language)
    if not low <= len(text) <= high or not any(word in text.lower() for word in REQUEST_WORDS[language]):
        return "not_a_request", text
    if found := points_elsewhere(text):
        return "points_elsewhere", found
    examples = examples_shown(client, "document", language)
    rule, detail = checks.request_rule(text, language, examples, [passage(chunk)], style_of(client))
    if rule:
        return rule, detail
    found = off_topic(text, passage(chunk), style_of(client))
    return ("off_topic", found) if found else ("", "")


def _document_rule(draft: Row, language: str) -> tuple[str, str]:
    """The document is the answer, so it must be whole and in the wanted script; copying is what is wanted here."""
    text = draft["chunk"]["text"].strip()
    found = {"truncated": unfinished(text), "wrong_script": checks.wrong_script(text, language)}
    draft["checks"] = list(found)
    return next(((rule, detail) for rule, detail in found.items() if detail), ("", ""))


def _conversation(draft: Row, model: str, language: str) -> Row:
    chunk = draft["chunk"]
    text = chunk["text"].strip()
    return conversation(
        draft["question"], text, "document", [chunk["id"]], draft["calls"], path_of(draft, model), language
    )
