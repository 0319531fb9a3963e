"""A prompt for a good document: the model writes the request, the document itself is the answer.

The card: "ask LLM to generate an user prompt for high quality documents, and pair the (generated prompt, original
document) as a SFT example". Rich in knowledge, weak in following instructions, says the card too.
"""

from kyara_utils.llm import Client, Response
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.drafts import (
    Row,
    conversation,
    end,
    examples_of,
    new_draft,
    parted,
    passage,
    path_of,
    problem_of,
    write,
)

REQUEST_WORDS = {
    "zh-Hant": ("請", "說明", "介紹", "解釋", "描述", "告訴", "什麼", "如何", "怎麼", "為什麼", "哪"),
    "en": ("please", "explain", "describe", "introduce", "tell", "what", "how", "why", "which", "give", "write"),
}
LENGTH = {"zh-Hant": (5, 60), "en": (10, 240)}  # characters of a request


def document_conversations(
    client: Client, chunks: list[Row], model: str, seed: int = 0, language: str = "zh-Hant"
) -> tuple[list[Row], list[Row]]:
    """Return conversations of source `document` and rejects.

    Rejects of stage `question`: call_failed, empty, truncated, not_a_request, only_stop_words, leaked_prompt, refusal,
    wrong_script, off_topic; of stage `checks`, by the document itself: truncated, wrong_script.
    """
    drafts = [new_draft(chunk, "document") for chunk in chunks]
    inputs = [{"document": passage(chunk)} for chunk in chunks]
    responses = write(
        client, "document_prompt", language, drafts, inputs,
        max_tokens=48, temperature=0.3, repeat_penalty=1.1, seed=seed,
    )  # fmt: skip
    for draft, response in zip(drafts, responses, strict=True):
        draft["question"] = response.text
        end(draft, "question", *_request_rule(draft["chunk"], response, language))
        if not draft["rule"]:
            end(draft, "checks", *_document_rule(draft, language))
    kept, rejects = parted(drafts)
    return [_conversation(draft, model, language) for draft in kept], rejects


def _request_rule(chunk: Row, response: Response, language: str) -> tuple[str, str]:
    text = response.text
    if rule := problem_of(response):
        return rule, response.error or text
    low, high = LENGTH[language]
    if not low <= len(text) <= high or not any(word in text.lower() for word in REQUEST_WORDS[language]):
        return "not_a_request", text
    rule, detail = checks.request_rule(text, language, examples_of("document_prompt", language), [passage(chunk)])
    if rule:
        return rule, detail
    found = checks.off_topic(text, passage(chunk))
    return ("off_topic", found) if found else ("", "")


def _document_rule(draft: Row, language: str) -> tuple[str, str]:
    """The document is the answer, so it must be whole and in the wanted script; copying is what is wanted here."""
    text = draft["chunk"]["text"].strip()
    found = {"truncated": checks.truncated(text), "wrong_script": checks.wrong_script(text, language)}
    draft["checks"] = list(found)
    return next(((rule, detail) for rule, detail in found.items() if detail), ("", ""))


def _conversation(draft: Row, model: str, language: str) -> Row:
    chunk = draft["chunk"]
    text = chunk["text"].strip()
    return conversation(
        draft["question"], text, "document", [chunk["id"]], draft["calls"], path_of(draft, model), language
    )
